"""Standbys: which of them may take over a tick, on the simulated store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cronlock.lease.vocabulary import DIED, ENDED, EXITED, HELD, HOLD, LOST, NOT_STARTED, TIMED_OUT, Grant
from cronlock.testing import LONG, granted, make_claim, make_ending, refused, run_of

from .leases_bench import SHORT, Bench, K, died, held_back, past, record

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class TestStandby:
    """Standbys: which of them may take over a tick."""

    def test_standby_waits_for_the_living(self, a: Backend, b: Backend) -> None:
        """While the run that it stands by for has its lease, it is refused like anybody."""
        grant = granted(a.acquire(make_claim(K)))
        conflict = refused(b.acquire(make_claim(K, standby_for=grant.claim.owner)), HELD)
        assert (run_of(conflict).tick, conflict.remaining) == (grant.claim.owner, LONG)

    def test_standby_takes_over_from_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Within the hold of a run that died only a standby gets the key; a longer hold than its own goes on."""
        dead = died(bench, a, hold=LONG)
        refused(b.acquire(make_claim(K)), HOLD)
        grant = granted(b.acquire(make_claim(K, hold=LONG / 3, standby_for=dead.claim.owner)))
        assert grant.took_over == dead.fence
        found = record(a)
        current = run_of(found)
        assert (current.stands_for, current.took_over) == (dead.claim.owner, dead.fence)
        assert (current.tick, found.hold_remaining) == (dead.claim.owner, LONG - SHORT)
        assert b.renew(grant)
        assert b.release(grant, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG - SHORT
        assert [(one.outcome, one.stands_for, one.took_over) for one in record(a).history] == [
            (EXITED, dead.claim.owner, dead.fence),
            (DIED, None, None),
        ]

    def test_hold_of_a_takeover(self, bench: Bench, a: Backend, b: Backend) -> None:
        """One that asks for a longer hold than the dead run left has it, as any run would; or none."""
        dead = died(bench, a, hold=SHORT)
        grant = granted(b.acquire(make_claim(K, hold=LONG, standby_for=dead.claim.owner)))
        assert b.release(grant, make_ending(), keep_hold=True)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        assert (run_of(conflict).owner, conflict.remaining) == (grant.claim.owner, LONG)
        bench.wait(LONG)
        dead = died(bench, a)
        grant = granted(b.acquire(make_claim(K, standby_for=dead.claim.owner)))
        assert b.release(grant, make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(K)))

    @pytest.mark.parametrize("outcome", [EXITED, TIMED_OUT])
    @pytest.mark.parametrize("keep_hold", [True, False])
    def test_standby_leaves_at_the_end(self, a: Backend, b: Backend, outcome: str, keep_hold: bool) -> None:
        """Once a run ended, whatever its status, no standby repeats its tick."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert a.release(grant, make_ending(3, outcome), keep_hold=keep_hold)
        for awaited in (None, grant.fence):
            claim = make_claim(K, standby_for=grant.claim.owner, awaited_fence=awaited)
            conflict = refused(b.acquire(claim), ENDED)
            assert conflict.remaining == 0
            holder = run_of(conflict)
            assert (holder.owner, holder.outcome, holder.status) == (grant.claim.owner, outcome, 3)

    @pytest.mark.parametrize("outcome", [LOST, NOT_STARTED])
    def test_standby_takes_over_what_was_not_done(self, a: Backend, b: Backend, outcome: str) -> None:
        """A run that lost its lease, or could not be started, may still be taken over; its hold is the heir's."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert a.release(grant, make_ending(75, outcome), keep_hold=outcome == LOST)
        claim = make_claim(K, hold=LONG, standby_for=grant.claim.owner)
        heir = granted(b.acquire(claim))
        granted(b.acquire(claim))
        assert heir.took_over == grant.fence
        assert b.release(heir, make_ending(), keep_hold=True)
        refused(a.acquire(make_claim(K, standby_for=grant.claim.owner)), ENDED)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG

    def test_standby_leaves_a_later_run_alone(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A later tick is not the one that it stood by for, be its run alive, dead, or given back."""
        first = granted(a.acquire(make_claim(K)))
        assert a.release(first, make_ending(), keep_hold=False)
        claim = make_claim(K, standby_for=first.claim.owner, awaited_fence=first.fence)
        second = granted(a.acquire(make_claim(K, ttl=SHORT)))
        refused(b.acquire(claim), ENDED)
        a.abandon(second.claim)
        refused(b.acquire(claim), ENDED)
        died(bench, a)
        refused(b.acquire(claim), ENDED)

    @pytest.mark.parametrize(("gives_back", "begins"), [(True, True), (False, False)])
    def test_standby_waits_for_a_later_run(
        self, bench: Bench, a: Backend, b: Backend, gives_back: bool, begins: bool
    ) -> None:
        """While a later tick's run has the key behind one that died, it may give the key back."""
        dead = died(bench, a, hold=LONG)
        later = granted(a.acquire(make_claim(K, ignore_hold=True)))
        claim = make_claim(K, standby_for=dead.claim.owner, awaited_fence=dead.fence)
        assert refused(b.acquire(claim), HELD).run is not None
        if gives_back:
            a.abandon(later.claim)
        else:
            assert a.release(later, make_ending(), keep_hold=False)
        answer = b.acquire(claim)
        assert isinstance(answer, Grant) is begins
        if begins:
            assert granted(answer).took_over == dead.fence

    def test_takeover_of_a_takeover(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A standby takes over from a takeover that died, for the same tick."""
        first = died(bench, a, hold=LONG)
        second = granted(b.acquire(make_claim(K, ttl=SHORT, standby_for=first.claim.owner)))
        conflict = refused(a.acquire(make_claim(K, standby_for=first.claim.owner)), HELD)
        assert run_of(conflict).tick == first.claim.owner
        bench.wait(SHORT)
        third = granted(a.acquire(make_claim(K, standby_for=first.claim.owner)))
        assert third.took_over == second.fence
        found = record(b)
        assert run_of(found).tick == first.claim.owner
        assert [one.outcome for one in found.history] == [DIED, DIED]
        assert a.release(third, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=first.claim.owner)), ENDED)

    def test_takeover_asked_for_again(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A takeover whose reply was lost is granted again as the same one, whether its lease lapsed or not."""
        dead = died(bench, a, hold=LONG)
        claim = make_claim(K, ttl=SHORT, standby_for=dead.claim.owner)
        first, second = granted(b.acquire(claim)), granted(b.acquire(claim))
        assert (first.fence, first.took_over) == (second.fence, second.took_over)
        bench.wait(SHORT)
        assert granted(b.acquire(claim)).took_over == dead.fence

    @pytest.mark.parametrize("hold", [0.0, LONG])
    def test_abandoned_takeover_leaves_the_dead(self, bench: Bench, a: Backend, b: Backend, hold: float) -> None:
        """A takeover that is given up leaves the dead run and its hold to the next standby."""
        dead = died(bench, a, hold=hold)
        claim = make_claim(K, standby_for=dead.claim.owner)
        granted(b.acquire(claim))
        b.abandon(claim)
        if hold:
            refused(a.acquire(make_claim(K)), HOLD)
        heir = granted(a.acquire(make_claim(K, standby_for=dead.claim.owner)))
        assert heir.took_over == dead.fence

    def test_no_takeover_of_a_released_key(self, a: Backend, b: Backend) -> None:
        """A run that an operator released by force is not done again by a standby."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert b.force_release(K, grant.claim.owner)
        refused(b.acquire(make_claim(K, standby_for=grant.claim.owner, awaited_fence=grant.fence)), ENDED)
        granted(b.acquire(make_claim(K)))


class TestStandbyWithinAHold:
    """A standby respects a hold that no run of its tick left."""

    @pytest.mark.parametrize("how", ["could not start", "given back"])
    def test_a_run_by_hand_that_began_nothing(self, a: Backend, b: Backend, how: str) -> None:
        """If the earlier hold belongs to a run whose tick is done, its standby is refused."""
        held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, ignore_hold=True)))
        if how == "given back":
            b.abandon(by_hand.claim)
        else:
            assert b.release(by_hand, make_ending(127, NOT_STARTED), keep_hold=False)
        tick = by_hand.claim.owner
        refused(a.acquire(make_claim(K, standby_for=tick, awaited_fence=by_hand.fence)), HOLD)

    def test_a_word_that_came_before_the_answer(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A takeover that did not hear of its grant leaves the tick to the run that said its end meanwhile."""
        dead = died(bench, a, hold=LONG)
        claim = make_claim(K, standby_for=dead.claim.owner, awaited_fence=dead.fence)
        granted(b.acquire(claim))
        assert not a.release(dead, make_ending(), keep_hold=True)
        conflict = refused(b.acquire(claim), ENDED)
        holder = run_of(conflict)
        assert (holder.owner, holder.outcome) == (dead.claim.owner, EXITED)
        b.abandon(claim)
        assert past(a) == [(dead.claim.owner, EXITED)]

    def test_a_run_by_hand_that_died(self, bench: Bench, a: Backend, b: Backend) -> None:
        """One that began is taken over within that hold: it was told to run there."""
        held_back(a, hold=LONG)
        by_hand = died(bench, b, ignore_hold=True)
        granted(a.acquire(make_claim(K, standby_for=by_hand.claim.owner, awaited_fence=by_hand.fence)))
