"""What gets lost: requests and answers, or what the server knew; on the simulated store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable, GivenBack
from cronlock.lease.vocabulary import ENDED, EXITED, HELD, HOLD, RELEASED, STATE_LOST, Watermark
from cronlock.testing import LONG, granted, make_claim, make_ending, refused, run_of

from .leases_bench import LATE, UNACKNOWLEDGED, UNHEARD, Bench, K, all_of, died, held_back, past, record, run
from .leases_bench import LOST as LOST_ON_ITS_WAY

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class TestFaultsOfBefore:
    """Each of these was answered wrongly by an engine while every engine had rules of its own."""

    def test_forced_release_is_remembered(self, a: Backend, b: Backend) -> None:
        """However many runs give the key back afterwards."""
        grant = granted(a.acquire(make_claim(K)))
        assert b.force_release(K, grant.claim.owner)
        for number in range(20):
            claim = make_claim(K)
            granted(b.acquire(claim))
            if number % 2:
                b.abandon(claim)
            else:
                assert b.force_release(K, claim.owner)
        assert not a.renew(grant)
        assert not a.release(grant, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=grant.claim.owner, awaited_fence=grant.fence)), ENDED)
        found = record(b)
        assert (found.run, found.remaining) == (None, 0.0)
        granted(b.acquire(make_claim(K)))

    @pytest.mark.parametrize("others", ["gave up", "ended", "nobody"])
    def test_late_request_takes_nothing(self, bench: Bench, a: Backend, b: Backend, others: str) -> None:
        """A late request of a run that gave up does not take the key, however many others had it since."""
        claim = make_claim(K)
        bench.way_a.fates = [LATE]
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        a.abandon(claim)
        for _ in range(0 if others == "nobody" else 20):
            other = make_claim(K)
            grant = granted(b.acquire(other))
            if others == "gave up":
                b.abandon(other)
            else:
                b.release(grant, make_ending(), keep_hold=False)
        assert bench.way_a.deliver() == [False]
        granted(b.acquire(make_claim(K)))

    @pytest.mark.parametrize("before", ["nothing", "a run", "a dead run"])
    def test_unrun_tick_is_left_to_a_standby(self, bench: Bench, a: Backend, b: Backend, before: str) -> None:
        """A run that gave up after a lost reply leaves its tick to the standbys."""
        if before == "a run":
            run(b)
        elif before == "a dead run":
            died(bench, b)
        bench.way_a.fates = [UNHEARD]
        claim = make_claim(K, hold=LONG)
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        conflict = refused(b.acquire(make_claim(K, standby_for=claim.owner)), HELD)
        a.abandon(claim)
        heir = granted(b.acquire(make_claim(K, standby_for=claim.owner, awaited_fence=conflict.fence)))
        assert heir.took_over == conflict.fence
        other = make_claim(K, standby_for=claim.owner, awaited_fence=conflict.fence)
        refused(a.acquire(other), HELD)
        assert b.release(heir, make_ending(), keep_hold=False)
        refused(a.acquire(other), ENDED)

    @pytest.mark.parametrize("spoke", ["while it was taken over", "after it was given up"])
    def test_late_report_does_the_tick(self, bench: Bench, a: Backend, b: Backend, spoke: str) -> None:
        """A run that reported its end before anyone else began its tick has done that tick."""
        x = died(bench, a, hold=LONG)
        y = make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)
        granted(b.acquire(y))
        if spoke == "while it was taken over":
            assert not a.release(x, make_ending(), keep_hold=True)
        b.abandon(y)
        if spoke == "after it was given up":
            assert a.release(x, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)), ENDED)
        assert past(b) == [(x.claim.owner, EXITED)]

    def test_dead_owner_leaves_its_heirs_hold(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A late give-up leaves the next run's hold."""
        x = died(bench, a)
        held_back(b, hold=LONG)
        a.abandon(x.claim)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG

    def test_forced_release_of_the_dead_with_nothing_left(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A standby does not take over a key that was released by force, even if its lease was over."""
        x = died(bench, a)
        assert not b.force_release(K, x.claim.owner)
        refused(b.acquire(make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)), ENDED)
        assert past(b) == [(x.claim.owner, RELEASED)]

    def test_record_behind_a_run_that_was_given_up(self, bench: Bench, a: Backend, b: Backend) -> None:
        """The one that died before it is shown."""
        x, claim = died(bench, a), make_claim(K)
        granted(b.acquire(claim))
        b.abandon(claim)
        found = record(b)
        assert (run_of(found).owner, found.remaining) == (x.claim.owner, 0.0)

    def test_forced_out_run_that_gives_up_is_shown(self, a: Backend, b: Backend) -> None:
        """It does not vanish."""
        grant = granted(a.acquire(make_claim(K)))
        assert b.force_release(K, grant.claim.owner)
        a.abandon(grant.claim)
        assert past(b) == [(grant.claim.owner, RELEASED)]


class TestForgotten:
    """A server that shows less than this node has seen."""

    SEEN = Watermark(10**17, age=100.0, loss_noticed_ago=None)

    def test_vanished_record_is_noticed(self, a: Backend) -> None:
        """The key counts as held for one ttl from when that was noticed."""
        conflict = refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)
        assert (conflict.remaining, conflict.run, conflict.fence) == (60.0, None, None)
        watermark = self.SEEN.but(loss_noticed_ago=25.0)
        assert refused(a.acquire(make_claim(K, ttl=60.0, watermark=watermark)), STATE_LOST).remaining == 35.0
        assert (
            refused(a.acquire(make_claim(K, ttl=60.0, watermark=watermark.but(ttl=90.0))), STATE_LOST).remaining == 65.0
        )
        assert a.read(K) is None
        grant = granted(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN.but(loss_noticed_ago=60.0))))
        assert (grant.fence or 0) > self.SEEN.fence

    def test_lower_fence_is_noticed(self, a: Backend, b: Backend) -> None:
        """Also where there is a record; what that says comes first."""
        first = granted(a.acquire(make_claim(K)))
        refused(b.acquire(make_claim(K, watermark=self.SEEN)), HELD)
        a.release(first, make_ending(), keep_hold=False)
        conflict = refused(b.acquire(make_claim(K, watermark=self.SEEN)), STATE_LOST)
        assert (conflict.fence, conflict.remaining) == (first.fence, LONG)

    def test_loss_between_two_requests_is_noticed(
        self, bench: Bench, a: Backend, b: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even of the first fence, on a server whose clock does not raise fences."""
        show, swap = bench.server.show, bench.way_a.swap
        monkeypatch.setattr(bench.server, "show", lambda key: show(key).but(floor=0))
        grant = run(b)
        assert grant.fence == 1

        def lose(*_: object, **__: object) -> tuple[bool, object]:
            bench.server.forget(K)
            monkeypatch.setattr(bench.way_a, "swap", swap)
            return False, bench.server.show(K)

        monkeypatch.setattr(bench.way_a, "swap", lose)
        refused(a.acquire(make_claim(K)), STATE_LOST)

    def test_server_that_started_since(self, bench: Bench, a: Backend) -> None:
        """Is trusted once it is up for the ttl; one that was up before is not."""
        bench.way_a.up = 40.0
        assert refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST).remaining == 20.0
        bench.way_a.up = 60.0
        granted(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)))
        bench.server.forget(K)
        bench.way_a.up = 1000.0
        refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)

    def test_server_that_evicts(self, bench: Bench, a: Backend) -> None:
        """Only its start raises doubts."""
        bench.way_a.traits = bench.way_a.traits.but(evicts=True)
        bench.way_b.traits = bench.way_a.traits
        node = type(bench.a)(bench.way_a, bench.clock)
        bench.way_a.up = 40.0
        refused(node.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)
        bench.way_a.up = 1000.0
        granted(node.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)))

    @pytest.mark.parametrize("up", [5.0, 1000.0])
    def test_server_that_evicts_starts_between_read_and_swap(
        self, bench: Bench, b: Backend, monkeypatch: pytest.MonkeyPatch, up: float
    ) -> None:
        """The run that it forgot may go on, if it is up for less than this process stood still; else it evicted."""
        bench.way_a.traits = bench.way_a.traits.but(evicts=True)
        node, swap = type(bench.a)(bench.way_a, bench.clock), bench.way_a.swap
        run(b)

        def stand_still(*_: object, **__: object) -> tuple[bool, object]:
            bench.clock.advance(30.0)
            bench.server.forget(K)
            bench.way_a.up = up
            monkeypatch.setattr(bench.way_a, "swap", swap)
            return False, bench.server.show(K)

        monkeypatch.setattr(bench.way_a, "swap", stand_still)
        if up < 30.0:
            assert refused(node.acquire(make_claim(K, ttl=60.0)), STATE_LOST).remaining == 55.0
        else:
            granted(node.acquire(make_claim(K, ttl=60.0)))

    def test_watermark_in_step_costs_nothing(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A server that shows what this node last saw is believed, and not asked for its uptime."""
        bench.way_b.up = 0.0
        first = run(a)
        granted(b.acquire(make_claim(K, watermark=Watermark(first.fence or 0, age=1e6, loss_noticed_ago=None))))

    def test_own_lease_is_not_doubted(self, a: Backend) -> None:
        """An owner that asks again keeps its lease."""
        claim = make_claim(K)
        granted(a.acquire(claim))
        granted(a.acquire(claim.but(watermark=self.SEEN)))


class TestLosses:
    """Requests and answers that are lost, late or doubled."""

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    @pytest.mark.parametrize("used", [False, True])
    def test_giving_up(self, bench: Bench, a: Backend, b: Backend, fate: str, used: bool) -> None:
        """After a lost answer and giving up, the key is as before, whatever arrives then."""
        if used:
            held_back(b, hold=LONG)
        shown = None if not used else all_of(record(b))
        claim = make_claim(K, hold=3 * LONG, ignore_hold=True)
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        bench.way_a.reads_fail = 1
        with pytest.raises(BackendUnavailable):
            a.abandon(claim)
        a.abandon(claim)
        assert bench.way_a.deliver() in ([], [False])
        found = b.read(K)
        assert (found and all_of(found)) == shown
        granted(b.acquire(make_claim(K, ignore_hold=True)))

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    def test_giving_up_is_lost(self, bench: Bench, a: Backend, b: Backend, fate: str) -> None:
        """It can be asked again, also once another has the key."""
        claim = make_claim(K, hold=LONG)
        granted(a.acquire(claim))
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.abandon(claim)
        if fate != UNHEARD:
            refused(b.acquire(make_claim(K)), HELD)
            a.abandon(claim)
        heir = granted(b.acquire(make_claim(K, hold=LONG)))
        a.abandon(claim)
        assert bench.way_a.deliver() in ([], [False])
        assert b.renew(heir)
        assert record(b).hold_remaining == LONG

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    def test_forced_release(self, bench: Bench, a: Backend, b: Backend, fate: str) -> None:
        """A forced release whose reply was lost was done or can be repeated, and has no effect later."""
        grant = granted(b.acquire(make_claim(K, hold=LONG)))
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.force_release(K, grant.claim.owner)
        assert a.force_release(K, grant.claim.owner) == (fate != UNHEARD)
        assert not b.renew(grant)
        heir = granted(b.acquire(make_claim(K)))
        assert bench.way_a.deliver() in ([], [False])
        assert b.renew(heir)

    def test_grant_that_may_be_lost_is_given_back(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Where too few replicas have a grant nothing is run, and the key is as before."""
        held_back(b, hold=LONG)
        shown = all_of(record(b))
        bench.way_a.fates = [UNACKNOWLEDGED]
        with pytest.raises(GivenBack, match=r"too few replicas; the lease was given back"):
            a.acquire(make_claim(K, ignore_hold=True))
        assert all_of(record(b)) == shown
        bench.way_a.fates = [UNACKNOWLEDGED, UNACKNOWLEDGED]
        with pytest.raises(GivenBack):
            a.acquire(make_claim(K, ignore_hold=True))
        assert all_of(record(b)) == shown
