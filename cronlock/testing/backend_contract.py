"""What every backend keeps, as tests that a backend earns by subclassing.

A backend's test file writes its `Hooks` (how to open it, and how to let time pass on its server) and a
class::

    class TestMine(BackendContract):
        @pytest.fixture
        def hooks(self, server): return MyHooks(server)

Servers may be shared by tests: each takes keys of its own. Where a backend truly differs, its
hooks say so, with the reason as the value.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock.lease.vocabulary import (
    DIED,
    ENDED,
    EXITED,
    FORGOTTEN,
    HELD,
    HISTORY,
    HOLD,
    LOST,
    NOT_STARTED,
    RELEASED,
    TIMED_OUT,
    Conflict,
    Grant,
    Sight,
)

from .hooks import LONG, Hooks, fresh_key, granted, make_claim, make_ending, refused
from .leases import LeaseContract, assert_rising, race
from .waiting import eventually

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class BackendContract(LeaseContract):
    """The rules of a lease and of its record."""

    # Taking a key

    def test_held_key_is_refused_and_names_its_holder(self, a: Backend, b: Backend, key: str) -> None:
        """A key of another's is refused with all that a person wants to know of the holder."""
        claim = make_claim(key, host="alpha", program="report")
        grant = granted(a.acquire(claim))
        conflict = refused(b.acquire(make_claim(key, host="beta")), HELD)
        assert 0 < conflict.remaining <= grant.ttl + a.traits.granularity
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.host, conflict.run.pid) == (claim.owner, "alpha", 4711)
        assert conflict.run.program == "report"
        assert conflict.run.started_at > 1e9
        assert conflict.run.ended_at is None
        assert conflict.fence == conflict.run.fence == grant.fence

    def test_nasty_words_come_back(self, a: Backend, b: Backend, key: str) -> None:
        """Host and program may be any text and are told as they are."""
        program = "naïve \"job\"\n%0A=\\ '{}' \U0001f512"
        granted(a.acquire(make_claim(key, host="a=b\nc", program=program)))
        run = refused(b.acquire(make_claim(key)), HELD).run
        assert run is not None
        assert (run.host, run.program) == ("a=b\nc", program)

    # The hold

    def test_hold_can_be_ignored(self, a: Backend, b: Backend, key: str) -> None:
        """Who asks to ignore the hold gets a held-back key, with a higher fence."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(), keep_hold=True)
        assert_rising(grant, granted(b.acquire(make_claim(key, ignore_hold=True))))

    def test_lease_cannot_be_ignored(self, a: Backend, b: Backend, key: str) -> None:
        """Ignoring the hold does not ignore a lease."""
        granted(a.acquire(make_claim(key, hold=LONG)))
        refused(b.acquire(make_claim(key, ignore_hold=True)), HELD)

    @pytest.mark.parametrize("end", ["hold kept", "no hold kept", "abandoned"])
    def test_ignored_hold_goes_on(self, a: Backend, b: Backend, key: str, end: str) -> None:
        """A run by hand within a hold leaves that hold as it was, however it ends."""
        first = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(first, make_ending(), keep_hold=True)
        by_hand = granted(b.acquire(make_claim(key, hold=2.0, ignore_hold=True)))
        record = a.read(key)
        assert record is not None
        assert record.hold_remaining > LONG / 2
        self._end(b, by_hand, end)
        record = a.read(key)
        assert record is not None
        assert LONG / 2 < record.hold_remaining <= LONG + 2
        conflict = refused(a.acquire(make_claim(key)), HOLD)
        assert LONG / 2 < conflict.remaining <= LONG + 2
        holder = first if end == "abandoned" else by_hand
        assert conflict.run is not None
        assert conflict.run.owner == holder.claim.owner
        assert a.force_release(key, holder.claim.owner)
        granted(a.acquire(make_claim(key)))

    @pytest.mark.parametrize("end", ["hold kept", "no hold kept", "abandoned"])
    def test_ignored_hold_of_the_dead_goes_on(self, hooks: Hooks, a: Backend, b: Backend, key: str, end: str) -> None:
        """So does the hold of a run that died, which is shown again when the run by hand gave up."""
        first = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, first)
        by_hand = granted(b.acquire(make_claim(key, ignore_hold=True)))
        self._end(b, by_hand, end)
        conflict = refused(a.acquire(make_claim(key)), HOLD)
        holder = first if end == "abandoned" else by_hand
        assert conflict.run is not None
        assert conflict.run.owner == holder.claim.owner
        record = b.read(key)
        assert record is not None
        assert (record.run is None) == (record.last is not None) == (end != "abandoned")
        assert b.force_release(key, holder.claim.owner)
        granted(b.acquire(make_claim(key)))

    def test_longer_hold_of_a_run_by_hand(self, a: Backend, b: Backend, key: str) -> None:
        """A run by hand may hold the key for longer than before; without that hold the old one is left."""
        first = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(first, make_ending(), keep_hold=True)
        second = granted(b.acquire(make_claim(key, hold=3 * LONG, ignore_hold=True)))
        assert b.release(second, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(key)), HOLD).remaining > 2 * LONG
        third = granted(b.acquire(make_claim(key, hold=6 * LONG, ignore_hold=True)))
        assert b.release(third, make_ending(), keep_hold=False)
        assert 2 * LONG < refused(a.acquire(make_claim(key)), HOLD).remaining <= 3 * LONG + 2

    def test_ignored_hold_ends_in_its_time(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """An ignored hold that ends during the run by hand does not come back."""
        first = granted(a.acquire(make_claim(key, hold=hooks.short_hold)))
        assert a.release(first, make_ending(), keep_hold=True)
        by_hand = granted(b.acquire(make_claim(key, ignore_hold=True)))
        hooks.end_hold(b, key)
        assert b.release(by_hand, make_ending(), keep_hold=False)
        granted(a.acquire(make_claim(key)))

    def test_forced_release_of_a_run_that_spoke_too_late(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """The hold of a run that said its end while another had the key ends by force like any other."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, dead)
        by_hand = make_claim(key, ignore_hold=True)
        granted(b.acquire(by_hand))
        assert not a.release(dead, make_ending(), keep_hold=True)
        b.abandon(by_hand)
        refused(b.acquire(make_claim(key)), HOLD)
        assert b.force_release(key, dead.claim.owner)
        assert not b.force_release(key, dead.claim.owner)
        granted(b.acquire(make_claim(key)))

    def test_forced_release_ends_an_ignored_hold(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A forced release of a run by hand leaves no hold, whatever that run does then."""
        first = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(first, make_ending(), keep_hold=True)
        by_hand = granted(b.acquire(make_claim(key, hold=LONG, ignore_hold=True)))
        assert a.force_release(key, by_hand.claim.owner)
        b.abandon(by_hand.claim)
        granted(a.acquire(make_claim(key)))

    def test_ignored_hold_outlasts_asking_again(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A run by hand that is granted anew after its lease lapsed still leaves the hold that it ignored."""
        first = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(first, make_ending(), keep_hold=True)
        claim = make_claim(key, ttl=hooks.short_ttl, hold=3 * LONG, ignore_hold=True)
        hooks.lapse(b, granted(b.acquire(claim)))
        granted(b.acquire(claim))
        b.abandon(claim)
        assert LONG / 2 < refused(a.acquire(make_claim(key)), HOLD).remaining <= LONG + 2

    # The record

    def test_record_of_a_live_run(self, a: Backend, b: Backend, key: str) -> None:
        """The record shows who holds the key, for how long, and the hold."""
        grant = granted(a.acquire(make_claim(key, hold=LONG, program="report")))
        record = b.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.owner, record.run.program) == (grant.claim.owner, "report")
        assert record.run.fence == grant.fence
        assert 0 < record.remaining <= grant.ttl + a.traits.granularity
        assert 0 < record.hold_remaining <= LONG + a.traits.granularity
        assert record.last is None

    def test_record_outlives_the_lease(self, a: Backend, b: Backend, key: str) -> None:
        """After the end the record says whose run it was and how it ended."""
        claim = make_claim(key, host="alpha")
        grant = granted(a.acquire(claim))
        assert a.release(grant, make_ending(124, TIMED_OUT), keep_hold=False)
        record = b.read(key)
        assert record is not None
        assert record.run is None
        assert record.remaining == record.hold_remaining == 0
        last = record.last
        assert last is not None
        assert (last.owner, last.host, last.pid, last.program) == (claim.owner, "alpha", 4711, "backup.sh")
        assert (last.outcome, last.status, last.fence) == (TIMED_OUT, 124, grant.fence)
        assert last.ended_at is not None
        assert last.ended_at > 1e9

    def test_record_keeps_the_last_end_during_the_next_run(self, a: Backend, b: Backend, key: str) -> None:
        """While a run goes on, the record still says how the one before it ended."""
        first = granted(a.acquire(make_claim(key)))
        assert a.release(first, make_ending(9), keep_hold=False)
        second = granted(b.acquire(make_claim(key)))
        record = a.read(key)
        assert record is not None
        assert record.run is not None
        assert record.last is not None
        assert (record.run.owner, record.last.owner) == (second.claim.owner, first.claim.owner)
        assert record.last.status == 9

    def test_record_of_the_dead(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A run that died is shown as one that did not end, with nothing remaining."""
        grant = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, grant)
        record = b.read(key)
        if not hooks.dead_run_vanishes:
            assert record is not None
            assert record.run is not None
            assert record.run.owner == grant.claim.owner
        assert record is None or record.remaining == 0

    def test_reading_changes_nothing(self, a: Backend, b: Backend, key: str) -> None:
        """However often one looks, the owner keeps its lease and others stay out."""
        grant = granted(a.acquire(make_claim(key)))
        for _ in range(5):
            assert b.read(key) is not None
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=False)

    # Standing by

    def test_standby_waits_for_the_living(self, a: Backend, b: Backend, key: str) -> None:
        """While the run that it stands by for has its lease, a standby is refused like anybody."""
        grant = granted(a.acquire(make_claim(key)))
        conflict = refused(b.acquire(make_claim(key, standby_for=grant.claim.owner)), HELD)
        assert conflict.remaining > 0
        assert conflict.run is not None
        assert conflict.run.tick == grant.claim.owner

    def test_standby_takes_over_from_the_dead(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Within the hold of a run that died only a standby gets the key; a longer hold than its own goes on."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, dead)
        refused(b.acquire(make_claim(key)), HOLD)
        grant = granted(b.acquire(make_claim(key, hold=LONG / 3, standby_for=dead.claim.owner)))
        assert_rising(dead, grant)
        assert grant.took_over == dead.fence
        record = a.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.stands_for, record.run.took_over) == (dead.claim.owner, dead.fence)
        assert record.run.tick == dead.claim.owner
        assert LONG / 3 + 2 < record.hold_remaining <= LONG + 2
        assert b.renew(grant)
        assert b.release(grant, make_ending(), keep_hold=True)
        assert LONG / 3 + 2 < refused(a.acquire(make_claim(key)), HOLD).remaining <= LONG + 2

    def test_hold_of_a_takeover(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A takeover that asks for a longer hold than the dead run left has it, as any run would."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=hooks.short_ttl)))
        hooks.lapse(a, dead)
        grant = granted(b.acquire(make_claim(key, hold=LONG, standby_for=dead.claim.owner)))
        record = a.read(key)
        assert record is not None
        assert LONG / 2 < record.hold_remaining <= LONG + 2
        assert b.release(grant, make_ending(), keep_hold=True)
        conflict = refused(a.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert conflict.run.owner == grant.claim.owner

    def test_takeover_after_the_hold(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A takeover without a hold of a run whose hold is over holds the key no longer than its lease."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, dead)
        grant = granted(b.acquire(make_claim(key, standby_for=dead.claim.owner)))
        assert b.release(grant, make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(key)))

    @pytest.mark.parametrize("outcome", [EXITED, TIMED_OUT])
    @pytest.mark.parametrize("keep_hold", [True, False])
    def test_standby_leaves_at_the_end(self, a: Backend, b: Backend, key: str, outcome: str, keep_hold: bool) -> None:
        """Once the run ended, whatever its status, nobody runs it again for that tick."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(3, outcome), keep_hold=keep_hold)
        conflict = refused(b.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.outcome, conflict.run.status) == (grant.claim.owner, outcome, 3)

    @pytest.mark.parametrize("outcome", [LOST, NOT_STARTED])
    def test_standby_takes_over_what_was_not_done(self, a: Backend, b: Backend, key: str, outcome: str) -> None:
        """A run that lost its lease, or could not be started, may still be taken over."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(75, outcome), keep_hold=outcome == LOST)
        heir = granted(b.acquire(make_claim(key, standby_for=grant.claim.owner)))
        assert heir.took_over == grant.fence
        assert b.release(heir, make_ending(), keep_hold=True)
        refused(a.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)

    def test_takeover_of_what_was_not_started_holds(self, a: Backend, b: Backend, key: str) -> None:
        """A run that could not be started leaves no hold: that of the tick begins with the takeover."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(70, NOT_STARTED), keep_hold=False)
        claim = make_claim(key, hold=LONG, standby_for=grant.claim.owner)
        heir = granted(b.acquire(claim))
        granted(b.acquire(claim))
        assert b.release(heir, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(key)), HOLD).remaining > LONG / 2

    def test_standby_leaves_a_later_run_alone(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A later tick is not the one that it stood by for, be its run alive or dead."""
        first = granted(a.acquire(make_claim(key)))
        assert a.release(first, make_ending(), keep_hold=False)
        second = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        refused(b.acquire(make_claim(key, standby_for=first.claim.owner)), ENDED)
        hooks.lapse(a, second)
        refused(b.acquire(make_claim(key, standby_for=first.claim.owner)), ENDED)

    def test_standby_for_nobody(self, a: Backend, key: str) -> None:
        """Where no record says that a run died, none is taken over."""
        refused(a.acquire(make_claim(key, standby_for="nobody")), ENDED)
        assert a.read(key) is None

    def test_takeover_of_a_takeover(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Who takes over and dies is taken over as well, for the same tick."""
        first = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, first)
        second = granted(b.acquire(make_claim(key, ttl=hooks.short_ttl, standby_for=first.claim.owner)))
        conflict = refused(a.acquire(make_claim(key, standby_for=first.claim.owner)), HELD)
        assert conflict.run is not None
        assert conflict.run.tick == first.claim.owner
        hooks.lapse(b, second)
        third = granted(a.acquire(make_claim(key, standby_for=first.claim.owner)))
        assert third.took_over == second.fence
        record = b.read(key)
        assert record is not None
        assert record.run is not None
        assert record.run.tick == first.claim.owner
        assert [run.outcome for run in record.history] == [DIED, DIED]
        assert a.release(third, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(key, standby_for=first.claim.owner)), ENDED)

    def test_takeover_asked_for_again(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A takeover whose answer was lost is the same one when it is asked for again."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, dead)
        claim = make_claim(key, standby_for=dead.claim.owner)
        first, second = granted(b.acquire(claim)), granted(b.acquire(claim))
        assert (first.fence, first.took_over) == (second.fence, second.took_over)
        assert second.took_over == dead.fence

    def test_one_of_many_takes_over(self, hooks: Hooks, open_node: Callable[[], Backend], key: str) -> None:
        """Of many in standby exactly one takes over, and the others go on standing by."""
        nodes = [open_node() for _ in range(hooks.racers)]
        dead = granted(nodes[0].acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(nodes[0], dead)
        answers = race(nodes, [make_claim(key, standby_for=dead.claim.owner) for _ in nodes])
        assert len([answer for answer in answers if isinstance(answer, Grant)]) == 1
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}

    @pytest.mark.parametrize("hold", [0.0, LONG])
    def test_abandoned_takeover_leaves_the_dead(
        self, hooks: Hooks, a: Backend, b: Backend, key: str, hold: float
    ) -> None:
        """Who gives a takeover up leaves the dead run to the next in standby, and its hold."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=hold)))
        hooks.lapse(a, dead)
        claim = make_claim(key, standby_for=dead.claim.owner)
        granted(b.acquire(claim))
        b.abandon(claim)
        if hold:
            refused(a.acquire(make_claim(key)), HOLD)
        heir = granted(a.acquire(make_claim(key, standby_for=dead.claim.owner)))
        assert heir.took_over == dead.fence

    def test_nobody_takes_over_what_was_released(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A run that an operator released by force is not done again by a standby."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert b.force_release(key, grant.claim.owner)
        assert not a.renew(grant)
        assert not a.release(grant, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)
        granted(b.acquire(make_claim(key)))

    def test_a_change_is_told(self, a: Backend, b: Backend, key: str) -> None:
        """A backend that can tell of changes does, when the run ends."""
        grant = granted(a.acquire(make_claim(key)))
        refused(b.acquire(make_claim(key)), HELD)
        descriptor = b.watch(key)
        assert a.release(grant, make_ending(), keep_hold=False)
        if descriptor is not None:
            assert select.select([descriptor], [], [], 60.0)[0]
        refused(b.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)

    # The history

    def test_history_has_the_last_runs(self, a: Backend, b: Backend, key: str) -> None:
        """The last runs are kept, the newest first, and the last success however long ago it was."""
        grants = [self._run(a, key, 0)] + [self._run(a if n % 2 else b, key, n) for n in range(1, HISTORY + 6)]
        record = b.read(key)
        assert record is not None
        assert [run.status for run in record.history] == list(range(HISTORY + 5, 5, -1))
        assert [run.fence for run in record.history] == [grant.fence for grant in reversed(grants[6:])]
        assert record.success is not None
        assert (record.success.owner, record.success.fence) == (grants[0].claim.owner, grants[0].fence)
        assert record.success.succeeded
        assert record.success.ended_at is not None
        self._run(a, key, 0)
        record = a.read(key)
        assert record is not None
        assert record.success is not None
        assert record.success.owner == record.history[0].owner != grants[0].claim.owner

    def test_history_tells_a_run_whole(self, a: Backend, b: Backend, key: str) -> None:
        """Each run of the history has host, pid, program, start, end and how it ended, nasty words included."""
        program = "naïve \"job\"\n%0A%09=\t\\ '{}' \U0001f512"
        grant = granted(a.acquire(make_claim(key, host="a=b\tc", program=program)))
        assert a.release(grant, make_ending(124, TIMED_OUT), keep_hold=False)
        record = b.read(key)
        assert record is not None
        (run,) = record.history
        assert (run.owner, run.host, run.pid, run.program) == (grant.claim.owner, "a=b\tc", 4711, program)
        assert (run.outcome, run.status, run.ttl, run.fence) == (TIMED_OUT, 124, grant.ttl, grant.fence)
        assert run.ended_at is not None
        assert 1e9 < run.started_at <= run.ended_at
        assert (run.stands_for, run.took_over, record.success) == (None, None, None)

    def test_history_is_of_the_past(self, a: Backend, b: Backend, key: str) -> None:
        """The run that goes on is not history yet, nor is one that gave up."""
        claim = make_claim(key)
        granted(a.acquire(claim))
        a.abandon(claim)
        record = b.read(key)
        assert record is None or record.history == []
        grant = granted(a.acquire(make_claim(key)))
        record = b.read(key)
        assert record is not None
        assert record.history == []
        assert a.release(grant, make_ending(), keep_hold=False)
        record = b.read(key)
        assert record is not None
        assert [run.owner for run in record.history] == [grant.claim.owner]

    def test_dead_run_in_the_history(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A run that died is shown as such once the next one starts, also by those after that."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, dead)
        heir = granted(b.acquire(make_claim(key)))
        for _ in range(2):
            record = a.read(key)
            assert record is not None
            run = record.history[-1]
            assert (run.owner, run.outcome, run.ended_at) == (dead.claim.owner, DIED, None)
            assert (run.host, run.fence) == (dead.claim.host, dead.fence)
            b.release(heir, make_ending(), keep_hold=False)
        record = a.read(key)
        assert record is not None
        assert [run.outcome for run in record.history] == [EXITED, DIED]

    def test_released_run_in_the_history(self, a: Backend, b: Backend, key: str) -> None:
        """A run that lost its lease to `cronlock release` is shown as released once the next one starts."""
        grant = granted(a.acquire(make_claim(key)))
        assert b.force_release(key, grant.claim.owner)
        assert not a.renew(grant)
        assert not a.release(grant, make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(key)))
        record = a.read(key)
        assert record is not None
        assert [(run.owner, run.outcome) for run in record.history] == [(grant.claim.owner, RELEASED)]

    def test_forced_release_is_remembered(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """However many others give up behind it: nobody takes over from a run that was released by force."""
        grant = granted(a.acquire(make_claim(key)))
        assert b.force_release(key, grant.claim.owner)
        if hooks.force_waits:
            assert not a.release(grant, make_ending(), keep_hold=True)
        for _ in range(20):
            b.abandon(make_claim(key))
        refused(b.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)
        record = b.read(key)
        assert record is not None
        assert record.run is None
        assert record.history[0].outcome == RELEASED

    def test_takeover_in_the_history(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A takeover is known as one, and from which run, after its end."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, dead)
        heir = granted(b.acquire(make_claim(key, standby_for=dead.claim.owner)))
        assert b.release(heir, make_ending(), keep_hold=False)
        record = a.read(key)
        assert record is not None
        assert [(run.outcome, run.stands_for, run.took_over) for run in record.history] == [
            (EXITED, dead.claim.owner, dead.fence),
            (DIED, None, None),
        ]

    def test_grant_tells_the_run_before(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A grant says how the run before it was started, whether that ended or died."""
        first = granted(a.acquire(make_claim(key, program="old", ttl=hooks.short_ttl)))
        assert first.previous is None
        assert a.release(first, make_ending(), keep_hold=False)
        second = granted(b.acquire(make_claim(key, program="new", ttl=hooks.short_ttl)))
        assert second.previous is not None
        assert (second.previous.program, second.previous.ttl) == ("old", first.ttl)
        hooks.lapse(b, second)
        third = granted(a.acquire(make_claim(key)))
        assert third.previous is not None
        assert (third.previous.program, third.previous.fence) == ("new", second.fence)

    # Fences

    def test_fences_rise(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Every later run has a higher fence, whichever way the one before it ended."""
        grants = [granted(a.acquire(make_claim(key)))]
        a.release(grants[-1], make_ending(), keep_hold=False)
        grants.append(granted(b.acquire(make_claim(key))))
        b.abandon(grants[-1].claim)
        grants.append(granted(a.acquire(make_claim(key, ttl=hooks.short_ttl))))
        hooks.lapse(a, grants[-1])
        grants.append(granted(b.acquire(make_claim(key, hold=LONG))))
        b.release(grants[-1], make_ending(), keep_hold=True)
        assert a.force_release(key, grants[-1].claim.owner)
        grants.append(granted(a.acquire(make_claim(key))))
        assert_rising(*grants)

    # Forced release

    def test_forced_release_ends_a_lease(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """After a forced release the holder finds its lease gone, and the key goes to another."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert b.force_release(key, grant.claim.owner)
        assert not a.renew(grant)
        if hooks.force_waits:
            refused(b.acquire(make_claim(key)), HELD)
            assert not a.release(grant, make_ending(), keep_hold=True)
        record = b.read(key)
        assert record is not None
        assert (record.run, record.remaining) == (None, 0.0)
        assert (record.history[0].owner, record.history[0].outcome) == (grant.claim.owner, RELEASED)
        heir = granted(b.acquire(make_claim(key)))
        assert not a.release(grant, make_ending(), keep_hold=True)
        assert b.renew(heir)
        assert_rising(grant, heir)

    def test_forced_release_ends_a_hold(self, a: Backend, b: Backend, key: str) -> None:
        """A forced release ends what is left of a hold, and the record stays."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(), keep_hold=True)
        assert b.force_release(key, grant.claim.owner)
        record = b.read(key)
        assert record is not None
        assert record.hold_remaining == 0
        assert record.last is not None
        granted(b.acquire(make_claim(key)))

    def test_forced_release_spares_others(self, a: Backend, b: Backend, key: str) -> None:
        """A forced release names its owner: any other one keeps its lease or hold."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert not b.force_release(key, "somebody-else")
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        assert not b.force_release(key, "somebody-else")
        refused(b.acquire(make_claim(key)), HOLD)
        assert not b.force_release(fresh_key(), grant.claim.owner)

    # A server that forgot

    def test_vanished_record_is_noticed(self, hooks: Hooks, a: Backend, key: str) -> None:
        """Where a record was seen and none is now, the key counts as held for one ttl."""
        sight = Sight(1000, age=0.0, noticed_age=None)
        if hooks.never_forgets or hooks.forgets_by_uptime_only:
            granted(a.acquire(make_claim(key, sight=sight)))
            return
        conflict = refused(a.acquire(make_claim(key, ttl=60.0, sight=sight)), FORGOTTEN)
        assert conflict.remaining == pytest.approx(60.0, abs=1)
        sight = Sight(1000, age=0.0, noticed_age=25.0)
        conflict = refused(a.acquire(make_claim(key, ttl=60.0, sight=sight)), FORGOTTEN)
        assert conflict.remaining == pytest.approx(35.0, abs=1)
        assert a.read(key) is None
        granted(a.acquire(make_claim(key, ttl=60.0, sight=Sight(1000, age=0.0, noticed_age=60.0))))

    def test_lower_fence_is_noticed(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A server that shows a lower fence than was seen may have lost a lease."""
        if hooks.never_forgets or hooks.forgets_by_uptime_only:
            return
        first = granted(a.acquire(make_claim(key)))
        assert first.fence is not None
        floor = first.fence + 10**9
        sight = Sight(floor, age=0.0, noticed_age=None)
        refused(b.acquire(make_claim(key, sight=sight)), HELD)
        a.release(first, make_ending(), keep_hold=False)
        conflict = refused(b.acquire(make_claim(key, ttl=60.0, sight=sight)), FORGOTTEN)
        assert conflict.fence == first.fence
        assert conflict.remaining == pytest.approx(60.0, abs=1)
        late = Sight(floor, age=0.0, noticed_age=61.0)
        grant = granted(b.acquire(make_claim(key, ttl=60.0, sight=late)))
        assert grant.fence is not None
        assert grant.fence > floor

    def test_restarted_server_waits_a_ttl_of_uptime(self, hooks: Hooks, a: Backend, key: str) -> None:
        """A server that started after this node's last sight is trusted once it is up for the ttl."""
        if hooks.never_forgets or not hooks.tells_uptime:
            return
        day = 86400.0
        sight = Sight(1000, age=1e6, noticed_age=None)
        conflict = refused(a.acquire(make_claim(key, ttl=day, sight=sight)), FORGOTTEN)
        assert 0 < conflict.remaining <= day
        answers: list[Grant | Conflict] = []

        def take() -> bool:
            answers.append(a.acquire(make_claim(key, ttl=hooks.short_ttl, sight=sight)))
            return isinstance(answers[-1], Grant)

        eventually(take, "the server is up for the ttl", pause=0.2)
        assert all(isinstance(answer, Grant) or answer.why == FORGOTTEN for answer in answers)

    # The rest

    @staticmethod
    def _end(node: Backend, grant: Grant, how: str) -> None:
        if how == "abandoned":
            node.abandon(grant.claim)
        else:
            assert node.release(grant, make_ending(), keep_hold=how == "hold kept")

    @staticmethod
    def _run(node: Backend, key: str, status: int) -> Grant:
        grant = granted(node.acquire(make_claim(key)))
        assert node.release(grant, make_ending(status), keep_hold=False)
        return grant
