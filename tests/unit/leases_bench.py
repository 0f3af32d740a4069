"""Nodes of a simulated server, by a clock in hand, on ways where single swaps go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cronlock.errors import BackendUnavailable, Unacknowledged
from cronlock.lease.leases import Leases
from cronlock.lease.store import Cell
from cronlock.testing.simulated import SimulatedClock, SimulatedServer, SimulatedStore

if TYPE_CHECKING:
    from cronlock.lease.store import Hold

#: What becomes of a swap: it never arrives; its answer does not; it arrives when `deliver` is called; it arrives
#: twice, and the second one is answered; too few replicas have it.
LOST, UNHEARD, LATE, TWICE, UNACKNOWLEDGED = "lost", "unheard", "late", "twice", "unacknowledged"


class Way(SimulatedStore):
    """A node's way to the server, on which the next requests meet their `fates`."""

    def __init__(self, server: SimulatedServer) -> None:
        super().__init__(server)
        self.fates: list[str] = []
        self.reads_fail = 0
        #: How many reads and swaps were asked for.
        self.reads = self.swaps = 0
        self.up: float | None = None
        self._late: list[Callable[[], bool]] = []

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Read, unless that fails."""
        self.reads += 1
        if self.reads_fail:
            self.reads_fail -= 1
            raise BackendUnavailable("no answer in time")
        return super().read(key, deadline, exact=exact)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Swap, as the next fate has it."""
        self.swaps += 1
        fate = self.fates.pop(0) if self.fates else ""

        def arrive() -> bool:
            return self.server.put(key, seen, data, lease, hold)

        if fate == LATE:
            self._late.append(arrive)
        elif fate != LOST:
            done = arrive()
            if fate == TWICE:
                done = arrive()
                assert not done
            if fate in ("", TWICE):
                return done, self.server.show(key)
        if fate == UNACKNOWLEDGED:
            raise Unacknowledged("too few replicas")
        raise BackendUnavailable("no answer in time")

    def uptime(self, key: str, deadline: float) -> float | None:
        """Return what the test says."""
        return self.up

    def deliver(self) -> list[bool]:
        """Let what is late arrive; return what was carried out."""
        late, self._late = self._late, []
        return [arrive() for arrive in late]


class Bench:
    """A server, and two nodes `a` and `b`."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.server = SimulatedServer(self.clock)
        self.way_a, self.a = self.open()
        self.way_b, self.b = self.open()

    def open(self) -> tuple[Way, Leases]:
        """Return one more node, and its way."""
        way = Way(self.server)
        return way, Leases(way, self.clock)

    def wait(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.clock.time += seconds
