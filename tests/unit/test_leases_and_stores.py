"""What leases ask of a store, and what they make of the answers that not every store gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cronlock.lease.leases import Leases
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import ENDED, HOLD, PAUSED, STATE_LOST, Grant, Pause, Stop, Traits
from cronlock.testing import LONG, granted, make_claim, make_ending, refused

from .leases_bench import LATE, TWICE, UNACKNOWLEDGED, UNHEARD, Bench, K, Way
from .leases_bench import LOST as LOST_ON_ITS_WAY

PAUSE = Pause("ann", "desk")


def test_a_cell_is_free_unless_it_says_otherwise() -> None:
    """A store names only what its server knows of."""
    cell = Cell()
    assert (cell.data, cell.lease, cell.hold, cell.floor, cell.time) == (None, 0.0, 0.0, 0, None)


@pytest.mark.parametrize(
    ("ask", "exact"),
    [
        (lambda node, _: node.acquire(make_claim(K)), False),
        (lambda node, grant: node.stop_requested(grant), False),
        (lambda node, grant: node.acquire(make_claim(K, standby_for=grant.claim.owner)), True),
        (lambda node, grant: node.abandon(grant.claim), True),
        (lambda node, grant: node.renew(Grant(grant.claim, fence=1, ttl=LONG)), True),
        (lambda node, _: node.read(K), True),
        (lambda node, grant: node.force_release(K, grant.claim.owner), True),
        (lambda node, _: node.pause(K, PAUSE, None), True),
        (lambda node, _: node.resume(K), True),
        (lambda node, grant: node.stop(K, Stop(grant.claim.owner, "ann", "desk")), True),
        (lambda node, _: node.forget(K, 0.0), True),
    ],
)
def test_what_must_not_be_read_from_a_replica(
    bench: Bench, ask: Callable[[Leases, Grant], object], exact: bool
) -> None:
    """A claim may be refused by old news; what changes or shows a record asks for the newest."""
    grant = granted(bench.a.acquire(make_claim(K)))
    asked: list[bool] = []
    inner = bench.way_a.read

    def read(key: str, deadline: float, *, exact: bool = False) -> Cell:
        asked.append(exact)
        return inner(key, deadline, exact=exact)

    bench.way_a.read = read  # type: ignore[method-assign]
    ask(bench.a, grant)
    assert asked == [exact]


class _Bounded(Way):
    """A way to a server that sets the length of a lease itself."""

    lease = 0.0

    def swap(self, *args: object, **options: object) -> tuple[bool, Cell]:
        done, cell = super().swap(*args, **options)  # type: ignore[arg-type]
        return done, cell.but(lease=self.lease)


@pytest.mark.parametrize(("lease", "expected"), [(0.0, 60.0), (40.0, 40.0), (90.0, 60.0)])
def test_a_server_may_shorten_a_lease(bench: Bench, lease: float, expected: float) -> None:
    """What it shows counts, unless that is more than was asked for or nothing."""
    way = _Bounded(bench.server)
    node = Leases(way, bench.clock)
    way.lease = lease
    grant = granted(node.acquire(make_claim(K, ttl=60.0)))
    assert grant.ttl == expected
    grant.ttl = 60.0
    assert node.renew(grant)
    assert grant.ttl == expected


@pytest.mark.parametrize(("failures", "attempt", "status"), [(1, 2, 3), (2, 3, 3)])
def test_attempts_at_a_tick_are_counted(bench: Bench, failures: int, attempt: int, status: int) -> None:
    """The command learns which attempt it is, and how the one before ended."""
    first = granted(bench.a.acquire(make_claim(K)))
    assert (first.attempt, first.previous_status) == (1, None)
    bench.a.release(first, make_ending(status), keep_hold=True)
    for _ in range(failures - 1):
        again = granted(bench.b.acquire(make_claim(K, standby_for=first.claim.owner).but(on_failure=True)))
        bench.b.release(again, make_ending(status), keep_hold=True)
    grant = granted(bench.a.acquire(make_claim(K, standby_for=first.claim.owner).but(on_failure=True)))
    assert (grant.attempt, grant.previous_status) == (attempt, status)


def test_the_status_before_is_one_of_the_same_tick(bench: Bench) -> None:
    """The run of another tick says nothing of this one."""
    before = granted(bench.a.acquire(make_claim(K)))
    bench.a.release(before, make_ending(3), keep_hold=False)
    awaited = granted(bench.a.acquire(make_claim(K)))
    bench.a.abandon(awaited.claim)
    claim = make_claim(K, standby_for=awaited.claim.owner, awaited_fence=awaited.fence)
    grant = granted(bench.b.acquire(claim))
    assert (grant.attempt, grant.previous_status) == (1, None)


def test_forgetting_by_age(bench: Bench) -> None:
    """A record that was used a moment ago stays; an old one goes; a key without a record is forgotten already."""
    grant = granted(bench.a.acquire(make_claim(K)))
    bench.a.release(grant, make_ending(), keep_hold=False)
    bench.wait(99.0)
    assert not bench.b.forget(K, 100.0)
    assert bench.b.read(K) is not None
    bench.wait(2.0)
    assert bench.b.forget(K, 100.0)
    assert bench.b.read(K) is None
    assert bench.b.forget(K, 100.0)


class _Clockless(Way):
    """A way to a server that does not tell its time."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        return super().read(key, deadline, exact=exact).but(time=None)


@pytest.mark.parametrize(
    ("local", "waited", "paused"), [(False, 54.0, True), (False, 56.0, False), (True, 9.0, True), (True, 11.0, False)]
)
def test_a_pause_outlasts_what_clocks_may_differ_by(bench: Bench, local: bool, waited: float, paused: bool) -> None:
    """A pause of 10 s, judged by several clocks, ends 45 s late: one may be ahead."""
    way = _Clockless(bench.server)
    way.traits = Traits(shortest_ttl=1.0, longest_ttl=100.0, local=local)
    node = Leases(way, bench.clock)
    node.pause(K, PAUSE, 10.0)
    bench.wait(waited)
    answer = node.acquire(make_claim(K))
    if paused:
        refused(answer, PAUSED)
    else:
        granted(answer)


def test_state_that_is_lost_between_read_and_swap(bench: Bench) -> None:
    """The refusal shows an empty cell, so the key is in quarantine from now on, for the whole ttl."""
    first = granted(bench.a.acquire(make_claim(K, ttl=10.0)))
    bench.a.release(first, make_ending(), keep_hold=False)
    inner = bench.way_b.read

    def read_before_the_loss(key: str, deadline: float, *, exact: bool = False) -> Cell:
        cell = inner(key, deadline, exact=exact)
        bench.server.forget(K)
        return cell

    bench.way_b.read = read_before_the_loss  # type: ignore[method-assign]
    bench.way_b.up = 0.5
    assert refused(bench.b.acquire(make_claim(K, ttl=60.0)), STATE_LOST).remaining == 60.0


def test_giving_back_restores_what_the_grant_replaced(bench: Bench) -> None:
    """Of two requests that may both have arrived, the one that shows in the record counts."""
    held = granted(bench.b.acquire(make_claim(K, hold=100.0)))
    bench.b.release(held, make_ending(), keep_hold=True)
    claim = make_claim(K, ignore_hold=True)
    bench.way_a.fates = [LATE, LOST_ON_ITS_WAY]
    for _ in range(2):
        with pytest.raises(Exception, match="no answer in time"):
            bench.a.acquire(claim)
    assert bench.way_a.deliver() == [True]
    bench.wait(10.0)
    bench.a.abandon(claim)
    assert refused(bench.b.acquire(make_claim(K)), HOLD).remaining == 90.0


@pytest.mark.parametrize("fate", [LATE, UNHEARD])
def test_giving_up_writes_if_any_request_may_still_arrive(bench: Bench, fate: str) -> None:
    """The second of two requests was decided on what is there; a write refuses it whenever it arrives."""
    claim = make_claim(K)
    bench.way_a.fates = [LOST_ON_ITS_WAY]
    with pytest.raises(Exception, match="no answer in time"):
        bench.a.acquire(claim)
    other = granted(bench.b.acquire(make_claim(K)))
    bench.b.release(other, make_ending(), keep_hold=False)
    bench.way_a.fates = [fate]
    with pytest.raises(Exception, match="no answer in time"):
        bench.a.acquire(claim)
    bench.a.abandon(claim)
    assert True not in bench.way_a.deliver()
    granted(bench.b.acquire(make_claim(K)))


def test_giving_back_need_not_be_acknowledged(bench: Bench) -> None:
    """Too few replicas have it, and asking again would not change that; the lease lapses by itself there."""
    claim = make_claim(K)
    granted(bench.a.acquire(claim))
    bench.way_a.fates = [UNACKNOWLEDGED]
    bench.a.abandon(claim)
    assert bench.way_a.swaps == 2
    refused(bench.b.acquire(make_claim(K, standby_for="x")), ENDED)


def test_a_request_that_arrives_twice_is_done_once(bench: Bench) -> None:
    """The answer to the second one refuses it, and shows what the first one wrote."""
    bench.way_a.fates = [TWICE] * 3
    grant = granted(bench.a.acquire(make_claim(K)))
    assert bench.a.renew(grant)
    assert bench.a.release(grant, make_ending(), keep_hold=False)
    assert bench.way_a.swaps == 3
    granted(bench.b.acquire(make_claim(K)))


def test_a_pause_that_others_overtake_is_written_nevertheless(bench: Bench) -> None:
    """A run that was granted the key between the read and the swap goes on, and the next one is refused."""
    inner, grants = bench.way_a.read, list[Grant]()

    def read_and_be_overtaken(key: str, deadline: float, *, exact: bool = False) -> Cell:
        cell = inner(key, deadline, exact=exact)
        if not grants:
            grants.append(granted(bench.b.acquire(make_claim(K))))
        return cell

    bench.way_a.read = read_and_be_overtaken  # type: ignore[method-assign]
    bench.a.pause(K, PAUSE, None)
    assert bench.b.renew(grants[0])
    assert bench.b.release(grants[0], make_ending(), keep_hold=False)
    refused(bench.b.acquire(make_claim(K)), PAUSED)
