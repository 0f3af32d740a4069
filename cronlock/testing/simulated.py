"""A store in memory that keeps exactly what `cronlock.lease.store` promises, on a clock that tests move.

It is what the rules are explored on, and what the answers of real engines are compared with.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import Traits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cronlock.lease.clock import Clock
    from cronlock.lease.store import Hold


class SimulatedClock:
    """This machine's boot and wall clock, moved by hand. One that is shared stands for clocks that agree."""

    def __init__(self, now: float = 1000.0, wall: float = 1.7e9) -> None:
        self.time = now
        self._ahead = wall - now

    def now(self) -> float:
        """Return boot time, in seconds."""
        return self.time

    def wall(self) -> float:
        """Return epoch time, in seconds."""
        return self._ahead + self.time

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.time += seconds


class _Kept:
    """One cell of the server's; ends of lease and hold by its clock."""

    __slots__ = ("data", "hold_until", "lapses_at", "version")

    def __init__(self, data: bytes | None, version: int, lapses_at: float, hold_until: float) -> None:
        self.data = data
        self.version = version
        self.lapses_at = lapses_at
        self.hold_until = hold_until


class SimulatedServer:
    """The cells, and the clock that leases are judged by."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        #: By how much the server's clock is ahead of `clock`.
        self.ahead = 0.0
        #: How many swaps were carried out.
        self.writes = 0
        self._cells: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the epoch time by the server's clock."""
        return self.clock.wall() + self.ahead

    def show(self, key: str) -> SimulatedCell:
        """Return a cell as it is now."""
        kept, now = self._cells.get(key) or _Kept(None, 0, 0.0, 0.0), self.now()
        return SimulatedCell(
            data=kept.data,
            version=kept.version,
            lease=max(0.0, kept.lapses_at - now),
            hold=max(0.0, kept.hold_until - now),
            floor=int(now * 1e6),
            time=now,
            hold_until=kept.hold_until,
        )

    def put(self, key: str, seen: Cell, data: bytes, lease: float | None, hold: Hold) -> bool:
        """Carry out a swap if the cell is still as `seen`; return True if it was."""
        with self._lock:
            return self._put(key, seen, data, lease, hold)

    def _put(self, key: str, seen: Cell, data: bytes, lease: float | None, hold: Hold) -> bool:
        kept, now = self._cells.get(key) or _Kept(None, 0, 0.0, 0.0), self.now()
        if kept.version != seen.version:
            return False
        if isinstance(hold, SimulatedCell):
            hold_until = hold.hold_until
        elif isinstance(hold, Cell):
            hold_until = 0.0
        else:
            hold_until = max(kept.hold_until, now + hold if hold else 0.0)
        self.writes += 1
        lapses_at = kept.lapses_at if lease is None else now + lease if lease else 0.0
        self._cells[key] = _Kept(data, self.writes, lapses_at, hold_until)
        return True

    def remove(self, key: str, seen: Cell) -> bool:
        """Remove a cell if it is still as `seen`; return True if it was."""
        with self._lock:
            if self.show(key).version != seen.version:
                return False
            self._cells.pop(key, None)
            # No server is asked twice at one moment, so that its floor has grown by what comes next.
            self.ahead += 0.001
            return True

    def forget(self, key: str) -> None:
        """Lose a cell, as a server does that comes back without its data."""
        self._cells.pop(key, None)

    def keys(self) -> list[str]:
        """Return the keys that have a cell."""
        return list(self._cells)


class SimulatedCell(Cell):
    """A cell of the simulated server."""

    hold_until: float = 0.0


class SimulatedStore:
    """One node's way to the simulated server."""

    def __init__(self, server: SimulatedServer, timeout: float = 5.0) -> None:
        self.traits = Traits(shortest_ttl=0.001, longest_ttl=365 * 86400.0)
        self.timeout = timeout
        self.notices: list[str] = []
        self.server = server

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Return the cell as it is now."""
        return self.server.show(key)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Replace the cell by `data` if it is still as `seen`."""
        done = self.server.put(key, seen, data, lease, hold)
        return done, self.server.show(key)

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the cell if it is still as `seen`."""
        return self.server.remove(key, seen)

    def location(self, key: str) -> str:
        """Return what messages call the cell."""
        return f"simulated: {key}"

    def keys(self) -> Iterator[str]:
        """List the keys."""
        return iter(self.server.keys())

    def watch(self, key: str) -> int | None:
        """Return None: nothing tells."""
        return None

    def uptime(self, key: str, deadline: float) -> float | None:
        """Return None: it tells nothing."""
        return None

    def close(self) -> None:
        """Do nothing."""
