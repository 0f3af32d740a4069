"""The rules by themselves: what becomes of the record as runs end, and as people release, pause, stop and forget."""

from __future__ import annotations

import pytest

from cronlock.lease import rules
from cronlock.lease.rules import USED
from cronlock.lease.state import State
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import (
    DIED,
    ENDED,
    EXITED,
    HELD,
    HISTORY,
    HOLD,
    LOST,
    NOT_STARTED,
    PAUSED,
    RELEASED,
    STOPPED,
    TIMED_OUT,
    Ending,
    Pause,
    Record,
    Stop,
)
from cronlock.testing import make_claim

from .runs import NOW, a_run, why


@pytest.mark.parametrize(("outcome", "shown"), [(None, DIED), (RELEASED, RELEASED)])
def test_a_run_that_never_said_its_end(outcome: str | None, shown: str) -> None:
    """Is history once the next one is granted the key."""
    state = rules.grant(State(fence=7, run=a_run("x", 7, outcome=outcome)), make_claim("k"), Cell(), NOW)
    assert [(run.owner, run.outcome, run.ended_at) for run in state.history()] == [("x", shown, None)]


def test_end_of_a_run() -> None:
    """An end is recorded of the current run and, late, of dead ones; of no other."""
    ending = Ending(EXITED, 0, NOW)
    state = State(fence=7, run=a_run("x", 7))
    ended = rules.end(state, "x", ending, NOW - 1000)
    assert ended is not None
    (run,) = ended.history()
    assert (run.outcome, run.status, run.ended_at) == (EXITED, 0, run.started_at), "never before it began"
    assert ended.last_success() == run
    assert rules.end(state, "y", ending, NOW) is None
    assert rules.end(ended, "x", ending, NOW) is None
    assert rules.end(State(run=a_run("x", 7, outcome=RELEASED)), "x", ending, NOW) is None
    heir = rules.grant(state, make_claim("k", owner="y"), Cell(), NOW)
    late = rules.end(heir, "x", ending, NOW)
    assert late is not None
    assert late.run == heir.run
    assert [(one.owner, one.outcome) for one in late.history()] == [("x", EXITED)]


@pytest.mark.parametrize(("newer", "last"), [(0, "y"), (3, "x")])
def test_late_success(newer: int, last: str) -> None:
    """A late report is the last success unless a newer run succeeded."""
    state = State(fence=7, run=a_run("x", 7))
    state = rules.grant(state, make_claim("k", owner="y"), Cell(), NOW)
    for owner, status in (("y", newer), ("x", 0)):
        after = rules.end(state, owner, Ending(EXITED, status, NOW), NOW)
        assert after is not None
        state = after
    success = state.last_success()
    assert success is not None
    assert success.owner == last


def test_force_release() -> None:
    """A lease or a hold is released; there is nothing else to release."""
    state = State(fence=7, run=a_run("x", 7))
    released = rules.force_release(state, "x", Cell())
    assert released is not None
    assert released.run is not None
    assert released.run.outcome == RELEASED
    assert rules.force_release(state, "y", Cell(lease=1.0, hold=1.0)) is None
    assert rules.force_release(released, "x", Cell(lease=1.0)) is None
    assert rules.force_release(released, "x", Cell(hold=1.0)) is not None
    ended = State(fence=7).with_past(a_run("x", 7, outcome=EXITED, status=1))
    freed = rules.force_release(ended, "x", Cell(hold=1.0))
    assert freed is not None
    assert freed.but(stop=None) == ended
    standby = make_claim("k", standby_for="x").but(on_failure=True)
    assert why(rules.refuse(ended, standby, Cell(hold=1.0), NOW)) is None
    assert why(rules.refuse(freed, standby, Cell(), NOW)) == ENDED
    assert rules.force_release(ended, "x", Cell()) is None
    assert rules.force_release(ended, "y", Cell(hold=1.0)) is None
    assert rules.force_release(State(), "x", Cell()) is None


def test_a_long_reason_is_cut() -> None:
    """Of a user and a host less is kept than of the reason."""
    paused = rules.pause(State(), Pause("u" * 500, "h" * 500, reason="r" * 500, at=NOW), Cell()).paused
    assert paused is not None
    assert (paused.user, paused.host, paused.reason) == ("u" * 100, "h" * 100, "r" * 400)


def test_pause_stays_until_it_is_resumed() -> None:
    """Whatever runs do meanwhile; a fence is passed over each time, by which its loss is noticed."""
    state = rules.pause(State(fence=7, run=a_run("x", 7)), Pause("alice", "h"), Cell(floor=3))
    assert (state.fence, state.run) == (8, a_run("x", 7))
    claim = make_claim("k", owner="y").but(ignore_pause=True)
    for after in (
        rules.end(state, "x", Ending(EXITED, 0, NOW), NOW),
        rules.grant(state, claim, Cell(), NOW),
        rules.give_back(rules.grant(state, claim, Cell(), NOW), state),
        rules.force_release(state, "x", Cell(lease=1.0)),
    ):
        assert after is not None
        assert after.paused == state.paused
    resumed = rules.resume(state, Cell(floor=20))
    assert resumed == state.but(fence=20, paused=None)
    assert rules.resume(state, Cell()) == state.but(fence=9, paused=None)
    assert rules.resume(resumed, Cell()) is None


def test_tick_of_a_run_that_was_to_end_is_done() -> None:
    """The same holds if it died, and the run after it gave the key back."""
    before = State(fence=7, run=a_run("x", 7))
    assert rules.stop(before, Stop("x", "alice", "h"), Cell()) is None
    state = rules.stop(before, Stop("x", "alice", "h"), Cell(lease=1.0))
    assert state is not None
    assert rules.stop_of(state, "x")
    assert not rules.stop_of(state, "y")
    claim = make_claim("k", standby_for="x")
    assert why(rules.refuse(before, claim, Cell(), NOW)) is None
    assert why(rules.refuse(state, claim, Cell(), NOW)) == ENDED
    after = rules.grant(state, make_claim("k", owner="y"), Cell(), NOW)
    assert why(rules.refuse(rules.give_back(after, state), claim, Cell(), NOW)) == ENDED
    assert rules.grant(after, make_claim("k", owner="z"), Cell(), NOW).stop is None


@pytest.mark.parametrize(
    ("said", "recorded"),
    [(EXITED, EXITED), (TIMED_OUT, TIMED_OUT), (STOPPED, STOPPED), (LOST, STOPPED), (NOT_STARTED, STOPPED)],
)
def test_end_of_a_run_that_was_to_end(said: str, recorded: str) -> None:
    """A reported end of the command counts; else the run was stopped, even if it reports late. Its tick is done."""
    state = State(fence=7, run=a_run("x", 7), stop=Stop("x", "alice", "h", tick="x"))
    standby = make_claim("k", standby_for="x").but(on_failure=True)
    for now in (state, rules.grant(state, make_claim("k", owner="y"), Cell(), NOW)):
        ended = rules.end(now, "x", Ending(said, 3, NOW), NOW)
        assert ended is not None
        assert why(rules.refuse(ended, standby, Cell(), NOW)) == ENDED
        assert [run.outcome for run in ended.history()] == [recorded]
        later = rules.grant(ended, make_claim("k", owner="z"), Cell(), NOW)
        gone = rules.end(later, "z", Ending(EXITED, 0, NOW), NOW)
        assert gone is not None
        assert gone.stop is None


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Record(), None),
        (Record(run=a_run("x", 7), remaining=1.0), HELD),
        (Record(run=a_run("x", 7), hold_remaining=1.0), HOLD),
        (Record(pause=Pause("alice", "h")), PAUSED),
        (Record(run=a_run("x", 7)), USED),
        (Record(success=a_run("x", 7).but(ended_at=NOW + 50)), USED),
        (Record(history=[a_run("x", 7).but(started_at=NOW - 200)]), None),
        (Record(made_at=NOW - 100), USED),
        (Record(made_at=NOW - 102), None),
        (Record(history=[a_run("x", 7).but(started_at=NOW - 200, ended_at=NOW - 50)]), USED),
    ],
)
def test_forgetting(record: Record, why: str | None) -> None:
    """Nothing that anybody has, or that was used within the time; also not what ended in the future."""
    assert rules.stays(record, NOW, 101.0) == why


def test_age_of_a_record_without_a_run() -> None:
    """It is known from when it was made: what had been decided on nothing may still be under way."""
    made = rules.dated(State(), NOW)
    assert rules.dated(made, NOW + 9).made_at == NOW
    paused = rules.pause(State(), Pause("alice", "h", at=NOW), Cell())
    resumed = rules.resume(paused, Cell())
    assert resumed is not None
    assert resumed.made_at == NOW
    ran = rules.grant(resumed, make_claim("k"), Cell(), NOW + 1)
    assert (ran.made_at, rules.dated(ran, NOW).made_at) == (None, None)


def test_a_late_end_changes_its_own_run_only() -> None:
    """The runs before and after it stay, and a success among them stays the last one."""
    past = [a_run(owner, fence, outcome=EXITED, status=0) for owner, fence in (("a", 1), ("b", 2))]
    newer = [a_run("y", 4, outcome=EXITED, status=0), a_run("z", 5, outcome=EXITED, status=3)]
    state = State(fence=5)
    for run in (*past, a_run("x", 3, outcome=DIED), *newer):
        state = state.with_past(run)
    after = rules.end(state, "x", Ending(EXITED, 0, NOW), NOW)
    assert after is not None
    assert [run.owner for run in after.history()] == ["z", "y", "x", "b", "a"]
    assert [run.outcome for run in after.history()] == [EXITED] * 5
    success = after.last_success()
    assert success is not None
    assert success.owner == "y"


def test_giving_back_what_others_removed() -> None:
    """A record that has nothing of the run before any more gets nothing of it back."""
    replaced = State(fence=7, run=a_run("x", 7))
    granted = rules.grant(replaced, make_claim("k", owner="y"), Cell(), NOW)
    assert rules.give_back(granted, replaced).run == replaced.run
    assert rules.give_back(granted.but(past=()), replaced).run is None


def test_a_released_run_is_the_newest_of_a_full_history() -> None:
    """The oldest one goes for it; the last use is the newest run's."""
    state = State(fence=HISTORY + 1)
    for fence in range(HISTORY + 1):
        state = state.with_past(a_run(f"x{fence}", fence + 1, outcome=EXITED, status=0, started_at=NOW + fence))
    released = state.but(run=a_run("y", HISTORY + 2, outcome=RELEASED, started_at=NOW + HISTORY + 1))
    record = rules.shown(released, Cell(), NOW)
    assert [run.owner for run in record.history] == ["y", *(f"x{fence}" for fence in range(HISTORY, 1, -1))]
    assert rules.last_used(record) == NOW + HISTORY + 1
