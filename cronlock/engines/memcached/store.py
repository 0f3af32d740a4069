"""memcached as a store: the cell of a key is one item, and a swap is one compare-and-swap of it.

A paused server may answer before it updates its clock, and then writes ends that are too early. So a read, on which a
key may be granted, uses a new connection (see `servers`), and a swap on an old one checks that the server's clock
advanced as far as ours since the cell was shown.

A blind `add` would save the read of a run. But a node would notice state loss by the server's uptime only after others
had seen the key held by a run that may not start.
"""

from __future__ import annotations

import time

from ...errors import BackendError, BackendUnavailable, ForeignValue
from ...keys import bounded
from ...lease.vocabulary import RETENTION, Traits
from ..wire.stream import take_tls
from .item import KEPT, ItemCell, cell_of, shown, text, times
from .meta import LONGEST_NAME, Connection
from .servers import Servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.store import Cell, Hold
    from ..url import URL

PORT = 11211
#: The uptime that memcached reports as soon as it runs.
_FIRST_UPTIME = 2
#: How long a server that goes on after a pause may take to set its clock, in seconds.
_SETTLING = 0.05


def open_store(url: URL, timeout: float) -> MemcachedStore:
    """Return the store of a ``memcached://`` or ``memcacheds://`` URL; raise ConfigError for a bad one."""
    tls = take_tls(url, "prefix")
    url.forbid_credentials("protect memcached by TLS certificates or the network")
    url.forbid_path("keys are kept apart by ?prefix=NAME")
    addresses = url.need_hosts(PORT)
    return MemcachedStore(Servers(url.scheme, addresses, tls), url.prefix(), timeout)


class MemcachedStore:
    """The `Store` protocol (see `cronlock.lease.store`) on one memcached, or spread by key over several."""

    def __init__(self, servers: Servers, prefix: str, timeout: float) -> None:
        longest = RETENTION - 86400.0
        self.traits = Traits(shortest_ttl=2.0, longest_ttl=longest, longest_hold=longest, lists_keys=False, evicts=True)
        self.timeout = timeout
        self.notices: list[str] = []
        self.servers = servers
        self._prefix = prefix

    def read(self, key: str, deadline: float, *, exact: bool = False) -> ItemCell:  # noqa: ARG002 - each answer tells all
        """Return the item as it is now."""
        return self.servers.ask(
            self.servers.of(self.name(key)), deadline, lambda connection: self._read(connection, key), anew=True
        )

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, ItemCell]:
        """Put `data` in the place of what was `seen`, by one round trip on the connection that showed it."""
        address = self.servers.of(self.name(key))
        shower = seen.connection if isinstance(seen, ItemCell) else None

        def work(connection: Connection) -> tuple[bool, ItemCell]:
            before = seen
            if not isinstance(before, ItemCell) or shower is not connection:
                before = self._read(connection, key)
                if before.version != seen.version:
                    return False, before
            sent = self.servers.clock.now()
            lasting = times(before, lease, hold, sent)
            value = text(data, *lasting)
            cas, left = connection.swap(self.name(key), value, before.cas, KEPT)
            if cas is None:
                there = self._read(connection, key)
                # It is this very text if the request came twice.
                return there.version == value, there
            if left is not None and any(lasting):
                age, elapsed = max(0, KEPT - left - before.age), sent - before.at
                cas = self._settled(connection, key, value, cas, age, elapsed, leased=lasting[0] > 0)
            return True, shown(value, connection, cas, self.servers.clock.now(), 0, *lasting)

        return self.servers.ask(address, deadline, work, anew=not self.servers.stands(address, shower))

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the item, if it is as it was seen."""
        name = self.name(key)

        def work(connection: Connection) -> bool:
            item = self._read(connection, key)
            return item.version == seen.version and (item.version is None or connection.delete(name, item.cas))

        return self.servers.ask(self.servers.of(name), deadline, work, anew=True)

    def name(self, key: str) -> bytes:
        """Return the name of a key's item."""
        return f"{self._prefix}:{bounded(key, LONGEST_NAME - len(self._prefix) - 1)}".encode()

    def location(self, key: str) -> str:
        """Return what messages call the item: its server and its name."""
        name = self.name(key)
        return f"{self.servers.url(self.servers.of(name))}: item {name.decode()}"

    def keys(self) -> Iterator[str]:
        """Raise BackendError: memcached has no way to list its items."""
        raise BackendError(f"{self.servers.scheme}://: memcached cannot list its keys; name the key")

    def watch(self, key: str) -> None:
        """Return None: memcached tells nothing by itself."""

    def uptime(self, key: str, deadline: float) -> float:
        """Return for how long the key's server has been up at least, by its statistics."""
        uptime = self.servers.ask(self.servers.of(self.name(key)), deadline, Connection.uptime)
        return float(max(0, uptime - _FIRST_UPTIME))

    def close(self) -> None:
        """Close all connections."""
        self.servers.close()

    def _read(self, connection: Connection, key: str) -> ItemCell:
        clock = self.servers.clock
        try:
            item = connection.get(self.name(key))
            return cell_of(item, connection, clock.now(), int(clock.wall() * 1e6))
        except ForeignValue as error:
            raise ForeignValue.at(self.location(key), error) from None

    def _settled(
        self, connection: Connection, key: str, value: bytes, cas: int, age: int, elapsed: float, *, leased: bool
    ) -> int:
        """Return the CAS of what was written once its times count from now on the server's clock too.

        If the server says that an item aged by `age` while `elapsed` seconds passed, it did not set its clock, so the
        item is written again. A second less may be rounding, which the slack makes up for.
        """
        if age >= elapsed - 1.0:
            return cas
        time.sleep(_SETTLING)
        again, left = connection.swap(self.name(key), value, cas, KEPT)
        if again is not None and left is not None and age + KEPT - left >= elapsed - 1.0:
            return again
        if leased:
            name = self.servers.url(self.servers.of(self.name(key)))
            raise BackendUnavailable(f"{name}: the server's clock stood still, so the lease is uncertain")
        return again or cas
