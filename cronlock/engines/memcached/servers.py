"""The servers of a URL: which of them has a key, and one connection to each.

After a pause, a server may answer old connections before it updates its clock. It accepts new ones in the thread that
keeps the clock.
"""

from __future__ import annotations

from ...lease.clock import SystemClock
from ..wire.stream import Stream, endpoint, retry_while_busy
from .meta import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ...lease.clock import Clock
    from ..wire.tls import Context

    _T = TypeVar("_T")
    Address = tuple[str, int]

#: Seconds since an answer within which the server cannot have been paused for longer than is made up for.
_MOMENT = 0.5


class Servers:
    """One memcached, or several that the keys are spread over."""

    def __init__(self, scheme: str, addresses: list[Address], tls: Context | None) -> None:
        self.scheme = scheme
        # Sorted: nodes that list the same servers in another order must agree on a key's server.
        self.addresses = sorted(set(addresses))
        self.clock: Clock = SystemClock()
        self._tls = tls
        #: Each with the boot time of its last answer.
        self._connections: dict[Address, tuple[Connection, float]] = {}

    def of(self, name: bytes) -> Address:
        """Return the server that has the item `name`, always the same."""
        if len(self.addresses) == 1:
            return self.addresses[0]
        import binascii

        return self.addresses[binascii.crc32(name) % len(self.addresses)]

    def url(self, address: Address) -> str:
        """Return what messages call a server."""
        return f"{self.scheme}://{endpoint(*address)}"

    def stands(self, address: Address, connection: Connection | None) -> bool:
        """Whether `connection` is still that to `address`."""
        return connection is not None and self._connections.get(address, (None, 0.0))[0] is connection

    def ask(self, address: Address, deadline: float, work: Callable[[Connection], _T], *, anew: bool = False) -> _T:
        """Do `work` on the connection to `address` by `deadline`; drop it after any failure.

        `anew` takes a new connection, unless the server replied just now.
        """
        if anew and address in self._connections and self.clock.now() - self._connections[address][1] > _MOMENT:
            self._drop(address)
        return retry_while_busy(deadline, lambda: self._ask(address, deadline, work))

    def close(self) -> None:
        """Close all connections."""
        for address in list(self._connections):
            self._drop(address)

    def _ask(self, address: Address, deadline: float, work: Callable[[Connection], _T]) -> _T:
        try:
            if address not in self._connections:
                url = self.url(address)
                stream = Stream.connect_tcp(url, address[0], address[1], deadline, self._tls)
                self._connections[address] = Connection(url, stream), 0.0
            connection = self._connections[address][0]
            connection.limit(deadline)
            answer = work(connection)
        except BaseException:
            # Answers may still be on their way, which the next request must not take for its own.
            self._drop(address)
            raise
        self._connections[address] = connection, self.clock.now()
        return answer

    def _drop(self, address: Address) -> None:
        connection, _ = self._connections.pop(address, (None, 0.0))
        if connection is not None:
            connection.close()
