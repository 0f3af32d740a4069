"""The record that leases leave, and forced releases: on the simulated store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cronlock.lease.vocabulary import DIED, EXITED, HISTORY, HOLD, RELEASED
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, refused, run_of

from .leases_bench import SHORT, Bench, K, died, held_back, past, record, run

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class TestRecord:
    """The record of a key, as anyone reads it."""

    def test_record_of_a_live_run(self, a: Backend, b: Backend) -> None:
        """The record shows the holder, what is left of lease and hold, and how the last run ended."""
        first = run(a, status=9)
        grant = granted(a.acquire(make_claim(K, hold=LONG / 2, program="report")))
        for _ in range(3):
            found = record(b)
            current = run_of(found)
            assert (current.owner, current.program) == (grant.claim.owner, "report")
            assert (current.fence, found.remaining, found.hold_remaining) == (grant.fence, LONG, LONG / 2)
            assert found.last is not None
            assert (found.last.owner, found.last.status) == (first.claim.owner, 9)
            assert not found.opaque
        assert a.renew(grant)

    def test_record_of_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Is that of a run that did not end, until the next one starts; then it is shown as dead."""
        dead = died(bench, a)
        found = record(b)
        assert (run_of(found).owner, found.remaining, found.history) == (dead.claim.owner, 0.0, [])
        heir = granted(b.acquire(make_claim(K)))
        for outcomes in ([DIED], [EXITED, DIED]):
            one = record(a).history[-1]
            assert (one.owner, one.outcome, one.ended_at) == (dead.claim.owner, DIED, None)
            assert [other.outcome for other in record(a).history] == outcomes
            b.release(heir, make_ending(), keep_hold=False)

    def test_history_has_the_last_runs(self, a: Backend, b: Backend) -> None:
        """The newest first, and the last success however long ago it was."""
        grants = [run(a if number % 2 else b, number) for number in range(HISTORY + 6)]
        found = record(b)
        assert [one.status for one in found.history] == list(range(HISTORY + 5, 5, -1))
        assert [one.fence for one in found.history] == [grant.fence for grant in reversed(grants[6:])]
        assert found.success is not None
        assert (found.success.owner, found.success.fence) == (grants[0].claim.owner, grants[0].fence)
        assert found.success.succeeded
        assert found.success.ended_at is not None
        run(a)
        found = record(a)
        assert found.success is not None
        assert found.success.owner == found.history[0].owner != grants[0].claim.owner

    def test_grant_names_the_previous_run(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Whether that ended or died, and also to who asks again."""
        first = run(a, ttl=7.0)
        claim = make_claim(K, ttl=SHORT)
        for second in (granted(b.acquire(claim)), granted(b.acquire(claim))):
            assert second.previous is not None
            assert (second.previous.fence, second.previous.ttl) == (first.fence, 7.0)
        bench.wait(SHORT)
        third = granted(a.acquire(make_claim(K)))
        assert third.previous is not None
        assert third.previous.fence == second.fence

    def test_fences_rise(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Whichever way the run before ended."""
        grants = [run(a), granted(b.acquire(make_claim(K)))]
        b.abandon(grants[-1].claim)
        grants += [died(bench, a), held_back(b, hold=LONG)]
        assert a.force_release(K, grants[-1].claim.owner)
        bench.server.ahead = -1000.0
        grants.append(granted(a.acquire(make_claim(K))))
        fences = [grant.fence or 0 for grant in grants]
        assert fences == sorted(set(fences))


class TestForcedRelease:
    """Forced releases."""

    def test_forced_release_ends_a_lease(self, a: Backend, b: Backend) -> None:
        """The holder finds its lease gone, whatever it does, and the key goes to another."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert b.force_release(K, grant.claim.owner)
        assert not b.force_release(K, grant.claim.owner)
        found = record(b)
        assert (found.run, found.remaining, found.hold_remaining) == (None, 0.0, 0.0)
        assert not a.renew(grant)
        assert past(b) == [(grant.claim.owner, RELEASED)]
        heir = granted(b.acquire(make_claim(K)))
        assert not a.release(grant, make_ending(), keep_hold=True)
        a.abandon(grant.claim)
        assert b.renew(heir)
        assert past(b) == [(grant.claim.owner, RELEASED)]

    def test_forced_release_ends_a_hold(self, a: Backend, b: Backend) -> None:
        """And the record stays."""
        grant = held_back(a, hold=LONG)
        assert b.force_release(K, grant.claim.owner)
        assert not b.force_release(K, grant.claim.owner)
        assert record(b).hold_remaining == 0
        assert past(b) == [(grant.claim.owner, EXITED)]
        granted(b.acquire(make_claim(K)))

    def test_forced_release_spares_others(self, a: Backend, b: Backend) -> None:
        """Any other owner keeps its lease or hold."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert not b.force_release(K, "somebody-else")
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        assert not b.force_release(K, "somebody-else")
        refused(b.acquire(make_claim(K)), HOLD)
        assert not b.force_release(fresh_key(), grant.claim.owner)

    def test_forced_release_of_a_run_that_spoke_too_late(self, bench: Bench, a: Backend, b: Backend) -> None:
        """The hold of a run that said its end while another had the key ends by force like any other."""
        dead = died(bench, a, hold=LONG)
        by_hand = make_claim(K, ignore_hold=True)
        granted(b.acquire(by_hand))
        assert not a.release(dead, make_ending(), keep_hold=True)
        b.abandon(by_hand)
        refused(b.acquire(make_claim(K)), HOLD)
        assert b.force_release(K, dead.claim.owner)
        assert not b.force_release(K, dead.claim.owner)
        granted(b.acquire(make_claim(K)))

    def test_forced_release_ends_an_ignored_hold(self, a: Backend, b: Backend) -> None:
        """A forced release of a run by hand leaves no hold, whatever that run does then."""
        held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, hold=LONG, ignore_hold=True)))
        assert a.force_release(K, by_hand.claim.owner)
        b.abandon(by_hand.claim)
        assert not b.release(by_hand, make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(K)))
