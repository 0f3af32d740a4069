"""Stores whose server shows its time only in the `Date` of replies, not in conditions.

So the client writes and judges the ends, by its bounds of the server's clock: it writes its own end by the latest time
that the bounds allow, and takes another's as over once the earliest time is `SLACK` past it, since AWS's front ends
differ a little.
"""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError
from ...lease.store import Cell
from ...lease.vocabulary import Traits
from ...system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.server_clock import ServerClock
    from ...lease.store import Hold
    from .aws import Service

#: Seconds for which a lease or a hold counts as on behind its end.
SLACK = 2.0
#: The longest ttl, in seconds.
LONGEST = 365 * 86400.0
#: How many seconds an end may be too early by, as the server's answer shows: less than others' slack.
_SHORT = SLACK / 2
#: From so many seconds on a person should hear that this machine's clock is wrong.
_WRONG = 5.0


class Missing(ConfigError):
    """There is no such table or bucket."""

    def __init__(self, shown: str, name: str, service: Service) -> None:
        """`shown` begins the message; `name` is what is missing, as "table NAME"."""
        super().__init__(
            f"{shown}: there is no {name} in {service.region}: make it by `cronlock doctor --create`,"
            f" or see cronlock-backends(7)"
        )


class DatedCell(Cell):
    """A cell with the ends that are written in it. Its version is None where there is nothing, else a text."""

    #: Epoch seconds by AWS's clock; 0 for no lease or hold.
    lapses_at: float = 0.0
    hold_until: float = 0.0
    #: For how long the lease was granted, in seconds.
    ttl: float = 0.0

    def followed_by(self, data: bytes, lease: float | None, hold: Hold, start: float) -> DatedCell:
        """Return the cell that a swap replaces this one by; its times count from epoch time `start`."""
        if isinstance(hold, Cell):
            hold_until = hold.hold_until if isinstance(hold, DatedCell) else 0.0
        else:
            hold_until = max(self.hold_until, start + hold if hold > 0 else 0.0)
        return self.but(
            data=data,
            version=os.urandom(8).hex(),
            lapses_at=self.lapses_at if lease is None else start + lease if lease > 0 else 0.0,
            hold_until=hold_until,
            ttl=self.ttl if lease is None else lease,
        )

    def judge(self, clock: ServerClock) -> None:
        """Set what depends on the time.

        The floor is the least that the time can be. So a fence after a lost record is above the lost ones, unless
        the last of them is no older than the clock is known exactly: a second, and the length of a request.
        """
        earliest, now = clock.earliest(), clock.now()
        self.time, self.floor = now, int(earliest * 1e6)
        self.lease = min(_left(self.lapses_at, earliest, now), max(self.ttl, 1.0))
        self.hold = _left(self.hold_until, earliest, now)


class DatedStore:
    """A store over the requests that a service adds: `fetch`, `put` and `make`."""

    def __init__(self, service: Service, shown: str, *, create: bool) -> None:
        """`shown` begins every error. With `create` the first run makes the table or the bucket, if it is missing."""
        self.traits = Traits(shortest_ttl=SLACK, longest_ttl=LONGEST)
        self.service = service
        self.notices = service.notices
        self._shown = shown
        self._said = False
        self._create = create

    @property
    def timeout(self) -> float:
        """The time limit of a call, in seconds: the service's."""
        return self.service.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.service.timeout = seconds

    def fetch(self, key: str, deadline: float) -> DatedCell:
        """Return the cell, of which nothing is judged yet; raise Missing where there is no table or bucket."""
        raise NotImplementedError

    def make(self, deadline: float) -> bool:
        """Make the table or the bucket; return False if it is there already."""
        raise NotImplementedError

    def put(self, key: str, seen: DatedCell, cell: DatedCell, deadline: float) -> tuple[bool, DatedCell]:
        """Put `cell` in the place of what `seen` shows, if that is still there.

        Return whether that was done, and the cell with its version, or what is there instead, not judged.
        """
        raise NotImplementedError

    def read(self, key: str, deadline: float, *, exact: bool = False) -> DatedCell:  # noqa: ARG002 - it tells all
        """Return the cell as it is now. Raises Missing, and as `Service.ask` does."""
        try:
            cell = self.fetch(key, deadline)
        except Missing:
            if not self._create:
                raise
            self.make(deadline)
            cell = self.fetch(key, deadline)
        return self.judged(key, cell, deadline)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, DatedCell]:
        """Put `data` in the place of what `seen` shows, if that is still there: by one request.

        By a second one where the answer to the first shows that the ends in it are too early, since this
        machine's clock had fallen behind.
        """
        assert isinstance(seen, DatedCell)
        times, clock = self.service.times, self.service.clock
        if not times.known:
            self.read(key, deadline)
        for _ in range(2):
            sent, start = clock.now(), times.latest()
            cell = seen.followed_by(data, lease, hold, start)
            done, cell = self.put(key, seen, cell, deadline)
            if not done:
                return False, self.judged(key, cell, deadline)
            counted = bool(lease) or (not isinstance(hold, Cell) and hold > 0)
            if not counted or times.latest() - (clock.now() - sent) <= start + _SHORT:
                cell = self.judged(key, cell, deadline)
                if lease:
                    cell.lease = lease
                    self._say_clock()
                return True, cell
            seen = cell
        raise BackendUnavailable(f"{self._shown}: AWS's clock and this machine's drift apart")

    def judged(self, key: str, cell: DatedCell, deadline: float) -> DatedCell:  # noqa: ARG002 - for strict looks
        """Return `cell` with what depends on the time."""
        if not self.service.times.known:
            raise BackendUnavailable(f"{self._shown}: replies without a Date header, so the clock is unknown")
        cell.judge(self.service.times)
        return cell

    def location(self, key: str) -> str:
        """Return what messages call the cell."""
        raise NotImplementedError

    def keys(self) -> Iterator[str]:
        """List the keys that have a cell."""
        raise NotImplementedError

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the cell if it is still as `seen`."""
        raise NotImplementedError

    def watch(self, key: str) -> None:
        """Return None: such services tell nothing by themselves."""

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: what was lost, nothing tells."""

    def close(self) -> None:
        """Close the connection."""
        self.service.close()

    def _say_clock(self) -> None:
        ahead = self.service.clock.wall() - self.service.times.now()
        if abs(ahead) > _WRONG and not self._said:
            self._said = True
            way = "ahead of" if ahead > 0 else "behind"
            self.notices.append(
                f"this machine's clock is about {abs(ahead):.0f} s {way} AWS's: set it, as by NTP; AWS's is gone by"
            )


def time_of(text: str) -> float:
    """Return the epoch time or the seconds in a record's `text`; raise ValueError for a bad one."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise ValueError(f"no time: {text[:20]!r}")
    return value


def _left(end: float, earliest: float, now: float) -> float:
    """Return the seconds until an end; from a second before it on, until it is surely over, for those who wait."""
    return end - now if end - now > 1.0 else max(0.0, end + SLACK - earliest)
