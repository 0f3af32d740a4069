"""Holds, which keep a key from others after a run: on the simulated store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cronlock.lease.vocabulary import HELD, HOLD
from cronlock.testing import LONG, granted, make_claim, make_ending, refused, run_of

from .leases_bench import ENDS, SHORT, Bench, K, died, end, held_back, record

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class TestHold:
    """Holds, which keep a key from others after a run."""

    def test_hold_outlasts_the_run(self, bench: Bench, a: Backend, b: Backend) -> None:
        """From the grant on, and the refusal names that run and its end."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        bench.wait(100)
        assert a.release(grant, make_ending(3), keep_hold=True)
        conflict = refused(b.acquire(make_claim(K)), HOLD)
        assert (conflict.remaining, conflict.fence) == (LONG - 100, grant.fence)
        holder = run_of(conflict)
        assert (holder.owner, holder.status) == (grant.claim.owner, 3)
        bench.wait(LONG - 100)
        assert (granted(b.acquire(make_claim(K))).fence or 0) > (grant.fence or 0)

    def test_no_hold(self, a: Backend, b: Backend) -> None:
        """With a hold of 0 there is none."""
        held_back(a, hold=0.0)
        granted(b.acquire(make_claim(K)))

    def test_hold_outlives_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """When a holder dies its lease lapses and its hold stays."""
        dead = died(bench, a, hold=LONG)
        conflict = refused(b.acquire(make_claim(K)), HOLD)
        holder = run_of(conflict)
        assert (holder.owner, holder.ended_at) == (dead.claim.owner, None)
        granted(b.acquire(make_claim(K, ignore_hold=True)))

    def test_lease_outlives_its_hold(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A hold shorter than the run ends unnoticed."""
        grant = granted(a.acquire(make_claim(K, hold=SHORT)))
        bench.wait(SHORT)
        refused(b.acquire(make_claim(K)), HELD)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(K)))

    @ENDS
    def test_ignored_hold_goes_on(self, bench: Bench, a: Backend, b: Backend, how: str) -> None:
        """A run by hand within a hold leaves that hold as it was, however it ends."""
        first = held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, hold=2.0, ignore_hold=True)))
        assert (by_hand.fence or 0) > (first.fence or 0)
        assert record(a).hold_remaining == LONG
        bench.wait(100)
        end(b, by_hand, how)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        holder = first if how == "abandoned" else by_hand
        assert conflict.remaining == record(a).hold_remaining == LONG - 100
        assert run_of(conflict).owner == holder.claim.owner
        assert a.force_release(K, holder.claim.owner)
        granted(a.acquire(make_claim(K)))

    @ENDS
    def test_ignored_hold_of_the_dead_goes_on(self, bench: Bench, a: Backend, b: Backend, how: str) -> None:
        """So does the hold of a run that died, which is shown again when the run by hand gave up."""
        first = died(bench, a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, ignore_hold=True)))
        end(b, by_hand, how)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        holder = first if how == "abandoned" else by_hand
        assert run_of(conflict).owner == holder.claim.owner
        found = record(b)
        assert (found.run is None) == (found.last is not None) == (how != "abandoned")
        assert b.force_release(K, holder.claim.owner)
        granted(b.acquire(make_claim(K)))

    def test_longer_hold_of_a_run_by_hand(self, a: Backend, b: Backend) -> None:
        """A run by hand may hold the key for longer than before; without that hold the old one is left."""
        held_back(a, hold=LONG)
        second = granted(b.acquire(make_claim(K, hold=3 * LONG, ignore_hold=True)))
        assert b.release(second, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == 3 * LONG
        third = granted(b.acquire(make_claim(K, hold=6 * LONG, ignore_hold=True)))
        assert b.release(third, make_ending(), keep_hold=False)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == 3 * LONG

    def test_ignored_hold_ends_in_its_time(self, bench: Bench, a: Backend, b: Backend) -> None:
        """An ignored hold that ends during the run by hand does not come back."""
        held_back(a, hold=SHORT)
        by_hand = granted(b.acquire(make_claim(K, hold=LONG, ignore_hold=True)))
        bench.wait(SHORT)
        assert b.release(by_hand, make_ending(), keep_hold=False)
        granted(a.acquire(make_claim(K)))

    def test_ignored_hold_outlasts_asking_again(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A manual run that is granted again after its lease lapsed still leaves the hold that it ignored."""
        held_back(a, hold=LONG)
        claim = make_claim(K, ttl=SHORT, hold=3 * LONG, ignore_hold=True)
        granted(b.acquire(claim))
        granted(b.acquire(claim))
        bench.wait(SHORT)
        granted(b.acquire(claim))
        b.abandon(claim)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG - SHORT
