"""Nodes of a simulated server, by a clock in hand, on ways where single swaps go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable, Unacknowledged
from cronlock.lease.leases import Leases
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import EXITED, Grant, Record
from cronlock.testing import granted, make_claim, make_ending, record_of
from cronlock.testing.simulated import SimulatedClock, SimulatedServer, SimulatedStore

if TYPE_CHECKING:
    from cronlock.lease.store import Hold
    from cronlock.lease.vocabulary import Backend

K = "job"
#: A ttl that tests let lapse.
SHORT = 10.0
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


def run(node: Backend, status: int = 0, outcome: str = EXITED, **asked: float) -> Grant:
    """Have a run granted and ended, without a hold."""
    grant = granted(node.acquire(make_claim(K, **asked)))  # type: ignore[arg-type]
    assert node.release(grant, make_ending(status, outcome), keep_hold=False)
    return grant


def died(bench: Bench, node: Backend, *, hold: float = 0.0, **asked: object) -> Grant:
    """Have a run granted whose lease lapses."""
    grant = granted(node.acquire(make_claim(K, ttl=SHORT, hold=hold, **asked)))  # type: ignore[arg-type]
    bench.wait(SHORT)
    return grant


def held_back(node: Backend, *, hold: float, status: int = 0) -> Grant:
    """Have a run end that leaves a hold."""
    grant = granted(node.acquire(make_claim(K, hold=hold)))
    assert node.release(grant, make_ending(status), keep_hold=True)
    return grant


def record(node: Backend) -> Record:
    """Return the record, which must be there."""
    return record_of(node, K)


def past(node: Backend) -> list[tuple[str, str | None]]:
    """Return owners and outcomes of the history, the newest first."""
    return [(one.owner, one.outcome) for one in record(node).history]


def end(node: Backend, grant: Grant, how: str) -> None:
    """End a run in one of the ways of `ENDS`."""
    if how == "abandoned":
        node.abandon(grant.claim)
    else:
        assert node.release(grant, make_ending(), keep_hold=how == "hold kept")


ENDS = pytest.mark.parametrize("how", ["hold kept", "no hold kept", "abandoned"])


def all_of(found: Record) -> list[object]:
    """Return all of a record, to compare it."""
    return [found.run, found.remaining, found.hold_remaining, found.last, found.history, found.success]
