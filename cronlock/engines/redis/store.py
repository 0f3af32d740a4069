"""Redis and Valkey as a store: a hash for each key.

    redis://[user:password@]HOST[:6379][/DATABASE]      rediss:// the same with TLS
    redis+unix://[user:password@]/PATH                  ?db=DATABASE

Parameters: ``prefix`` (of the names of keys), ``ca``, ``cert``, ``key`` (TLS files), ``min_replicas`` (a lease, begun
or renewed, counts only when so many replicas acknowledged it). Sentinel and Cluster are in
`cronlock.engines.redis.ensemble`.

Tested with Redis 6.2 and 7.0 and Valkey 9.1; uses nothing that Redis 6.0 lacks. The server's clock alone judges
leases and holds. A read is plain commands, a swap one EVAL: EVALSHA would cost another round trip where the server
does not know the script. The password goes along in the first request's packet.
"""

from __future__ import annotations

import time

from ...errors import ForeignValue, Unacknowledged
from ...lease.clock import SystemClock
from ...lease.server_clock import ServerClock
from ...lease.store import STAYS, Cell
from ...lease.vocabulary import RETENTION, Traits
from ...system import os
from ...value import digits
from ..wire.stream import protocol_error
from . import address
from .cell import FIELDS, REMOVE, SWAP, decode, has_no_fields
from .resp import PRODUCT, ReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.clock import Clock
    from ...lease.store import Hold
    from ..url import URL
    from .cell import RedisCell
    from .channel import Channel
    from .resp import Command, Reply, Transport

#: Seconds. Not PERSIST, a command that the ACL rule would have to allow.
_FOR_EVER = 100 * 365 * 86400.0


def open_store(url: URL, timeout: float) -> RedisStore:
    """Return the store of a URL of one server; raise ConfigError for a bad one."""
    return RedisStore(address.open_server(url), url, timeout)


class RedisStore:
    """Cells over any `Transport`."""

    def __init__(self, transport: Transport, url: URL, timeout: float, *, clock: Clock | None = None) -> None:
        self.traits = Traits(shortest_ttl=1.0, longest_ttl=365 * 86400.0, granularity=0.001, notifies=True)
        self.timeout = timeout
        self.notices: list[str] = []
        #: The connections, for checks of servers rather than of keys.
        self.transport = transport
        self._prefix = url.prefix() + ":"
        self._database = b"%d" % address.database(url)
        # The minimal ACL rule has no SELECT.
        self._select: list[Command] = [] if self._database == b"0" else [[b"SELECT", self._database]]
        self._min_replicas = address.number(url, "min_replicas", url.params.get("min_replicas", "0"))
        self._clock: Clock = clock or SystemClock()
        self._server_clock = ServerClock(transport.name, self._clock, self.notices)
        #: The key whose server `_server_clock` is about: another key may be on another server.
        self._timed: str | None = None

    def read(self, key: str, deadline: float, *, exact: bool = False) -> RedisCell:  # noqa: ARG002 (it always is)
        """Return the cell as it is now; see `Store.read`. TIME goes first, so that nothing is shown as over early."""
        name = self._name(key)
        commands = [*self._select, [b"TIME"], [b"EXISTS", name], [b"HMGET", name, *FIELDS]]
        for _ in range(2):
            sent = self._clock.now()
            clock, exists, fields = self._ask(key, commands, deadline)[-3:]
            if exists == 0 or not has_no_fields(fields):
                break
            # A foreign hash, or a key that expired between the two commands.
        return self._cell(key, sent, clock, exists, fields)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, RedisCell]:
        """Replace the cell with `data` if it is still as `seen` shows it; see `Store.swap`."""
        before = seen.version if isinstance(seen.version, bytes) else b""
        version = os.urandom(8).hex().encode()
        # A swap takes effect only if nobody wrote since, so the ends to keep are those seen; what was over stays over.
        hold_of, length = (hold, 0.0) if isinstance(hold, Cell) else (seen, hold)
        lease_seen = getattr(seen, "lease_until", 0)
        lease_until = lease_seen if lease is None else 0
        hold_until = getattr(hold_of, "hold_until", 0)
        retention = _FOR_EVER if STAYS in data else RETENTION
        times = (lease_until, (lease or 0.0) * 1e6, hold_until, length * 1e6, retention * 1000)
        words = [self._database, before, version, data, *[b"%.0f" % number for number in times]]
        commands: list[Command] = [[b"EVAL", SWAP, b"1", self._name(key), *words]]
        if lease and lease_seen:
            self.transport.confirm(deadline)  # A renewal.
        if lease and self._min_replicas:
            # Half of the time: the rest is for giving the lease back.
            milliseconds = max(1, int((deadline - time.monotonic()) * 500))
            commands.append([b"WAIT", b"%d" % self._min_replicas, b"%d" % milliseconds])
        sent = self._clock.now()
        answer, *waited = self._ask(key, commands, deadline)
        if not isinstance(answer, list) or len(answer) != 4:
            raise protocol_error(self.transport.name, PRODUCT)
        done, clock, *there = answer
        if done != 1:
            return False, self._cell(key, sent, clock, *there)
        cell = self._cell(key, sent, clock, 1, [None, version, data, *there])
        for replicas in waited:
            if not isinstance(replicas, int) or replicas < self._min_replicas:
                raise Unacknowledged(
                    f"{self.transport.name}: fewer than min_replicas={self._min_replicas} replicas acknowledged in time"
                )
        return True, cell

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the hash if it is still as `seen` shows it."""
        before = seen.version if isinstance(seen.version, bytes) else b""
        return self._ask(key, [[b"EVAL", REMOVE, b"1", self._name(key), self._database, before]], deadline) == [1]

    def location(self, key: str) -> str:
        """Return the server and the name of the hash."""
        return f"{self.transport.name}: {self._prefix}{key}"

    def keys(self) -> Iterator[str]:
        """List the keys, in requests of about a hundred; `timeout` limits each of these."""
        from .listing import names

        prefix = self._prefix.encode()
        for name in names(self.transport.masters(self._deadline()), self._select, prefix, self._deadline):
            yield name[len(prefix) :].decode("utf-8", "surrogateescape")

    def watch(self, key: str) -> None:
        """Return None: keyspace notifications are off by default."""

    def notifier(self, key: str) -> Channel:
        """Return the key's channel, which has the name of its hash."""
        from .channel import Channel

        return Channel(self.transport, self._name(key), lambda deadline: self.read(key, deadline))

    def uptime(self, key: str, deadline: float) -> float | None:
        """Return a lower bound of the server's uptime; None if it refuses INFO to this user."""
        answer = self.transport.ask([[b"INFO", b"server"]], deadline, self._name(key))[0]
        text = answer.partition(b"uptime_in_seconds:")[2] if isinstance(answer, bytes) else b""
        seconds = digits(text.partition(b"\r")[0], 16)
        # The server subtracts two times, both cut to whole seconds.
        return None if seconds is None else max(0.0, seconds - 1.0)

    def close(self) -> None:
        """Close the connections; raises nothing."""
        self.transport.close()

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _name(self, key: str) -> bytes:
        # A command line may hold bytes that are not UTF-8.
        return (self._prefix + key).encode("utf-8", "surrogateescape")

    def _ask(self, key: str, commands: list[Command], deadline: float) -> list[Reply]:
        """Return the server's answers, none of which is an error."""
        answers = self.transport.ask(commands, deadline, self._name(key))
        for answer in answers:
            if isinstance(answer, ReplyError):
                if "WRONGTYPE" in answer.text:
                    raise ForeignValue.at(self.location(key), "a value of another type")
                # Such as a read-only replica: next time another server may be the right one.
                self.transport.close()
                raise answer.refusal(self.transport.name)
        return answers

    def _cell(self, key: str, sent: float, clock: Reply, exists: Reply, fields: Reply) -> RedisCell:
        """Return the cell of a reply to a request sent at `sent`, and update the bounds of the server's clock."""
        try:
            cell = decode(clock, exists, fields)
        except ForeignValue as error:
            raise ForeignValue.at(self.location(key), error) from None
        except ValueError:
            raise protocol_error(self.transport.name, PRODUCT) from None
        if key != self._timed:
            self._server_clock.forget()
            self._timed = key
        self._server_clock.observe(sent, self._clock.now(), cell.floor / 1e6)
        return cell
