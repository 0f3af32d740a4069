"""The rules by themselves: who gets the key, by a cell and a record. How runs meet them: test_leases.py."""

from __future__ import annotations

import pytest

from cronlock.lease import rules
from cronlock.lease.state import State
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import (
    DEFERRED,
    DIED,
    ENDED,
    EXITED,
    HELD,
    HOLD,
    LOST,
    NOT_STARTED,
    PAUSED,
    RELEASED,
    RETENTION,
    STOPPED,
    TIMED_OUT,
    Claim,
    Grant,
    Pause,
    Stop,
    Traits,
    Watermark,
)
from cronlock.testing import make_claim

from .runs import NOW, a_run, why


@pytest.mark.parametrize(
    ("lease", "hold", "mine", "ignore", "stands", "expected"),
    [
        (0.0, 0.0, False, False, False, None),
        (5.0, 0.0, False, False, False, HELD),
        (5.0, 9.0, False, True, False, HELD),
        (5.0, 9.0, False, False, True, HELD),
        (0.0, 9.0, False, False, False, HOLD),
        (0.0, 9.0, False, True, False, None),
        (0.0, 9.0, False, False, True, None),
        (5.0, 9.0, True, False, False, None),
        (0.0, 9.0, True, False, False, None),
    ],
)
def test_in_what_order_a_claim_is_refused(
    lease: float, hold: float, mine: bool, ignore: bool, stands: bool, expected: str | None
) -> None:
    """A lease counts before a hold; an owner's own lease does not refuse it."""
    state = State(fence=7, run=a_run("x", 7))
    claim = make_claim("k", owner="x" if mine else "y", ignore_hold=ignore, standby_for="x" if stands else None)
    conflict = rules.refuse(state, claim, Cell(lease=lease, hold=hold), NOW)
    assert why(conflict) == expected
    if conflict is not None:
        assert (conflict.remaining, conflict.fence) == (lease or hold, 7)
        assert conflict.run is not None
        assert conflict.run.owner == "x"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(EXITED, ENDED), (TIMED_OUT, ENDED), (RELEASED, ENDED), (LOST, None), (NOT_STARTED, None), (DIED, None)],
)
def test_what_a_standby_takes_over(outcome: str, expected: str | None) -> None:
    """A tick is done once its run or an operator reports it as done."""
    state = State(fence=7).with_past(a_run("x", 7, outcome=outcome))
    assert why(rules.refuse(state, make_claim("k", standby_for="x"), Cell(), NOW)) == expected
    assert why(rules.refuse(state, make_claim("k", standby_for="z"), Cell(), NOW)) == ENDED


@pytest.mark.parametrize(
    ("outcome", "lease", "expected"),
    [
        (DIED, 5.0, HELD),  # It may give the key back.
        (DIED, 0.0, ENDED),  # It died as well.
        (EXITED, 5.0, ENDED),
    ],
)
def test_standby_while_another_has_the_key(outcome: str, lease: float, expected: str) -> None:
    """The awaited tick stays undecided while a later tick's run may give the key back."""
    state = State(fence=8, run=a_run("y", 8)).with_past(a_run("x", 7, outcome=outcome))
    claim = make_claim("k", standby_for="x", awaited_fence=7)
    assert why(rules.refuse(state, claim, Cell(lease=lease), NOW)) == expected


@pytest.mark.parametrize(
    ("fence", "latest", "awaited", "expected"),
    [
        (7, None, 7, None),  # Its run gave the key back, and no run was there before.
        (7, 5, 7, None),
        (9, 5, 7, None),  # So did the run after it.
        (7, 7, 7, ENDED),  # It is the latest, of another tick.
        (9, 9, 7, ENDED),  # A later run left a trace.
        (5, 5, 7, ENDED),  # The server lost it.
        (7, 5, None, ENDED),
    ],
)
def test_awaited_run_that_left_no_trace(
    fence: int, latest: int | None, awaited: int | None, expected: str | None
) -> None:
    """A run that gave the key back leaves the tick to standbys, unless a later run began."""
    state = State(fence=fence, run=None if latest is None else a_run("w", latest))
    claim = make_claim("k", standby_for="x", awaited_fence=awaited)
    assert why(rules.refuse(state, claim, Cell(), NOW)) == expected
    if expected is None:
        run = rules.grant(state, claim, Cell(), NOW).run
        assert run is not None
        assert (run.tick, run.took_over) == ("x", awaited)


@pytest.mark.parametrize(("spoken", "expected"), [(EXITED, ENDED), (LOST, None)])
def test_takeover_that_began_nothing(spoken: str, expected: str | None) -> None:
    """It leaves the tick to what the run before it said in the meantime."""
    state = State(fence=8).with_past(a_run("x", 7, outcome=spoken, status=0))
    state = state.with_past(a_run("y", 8, outcome=NOT_STARTED, stands_for="x", took_over=7))
    assert why(rules.refuse(state, make_claim("k", standby_for="x"), Cell(), NOW)) == expected


def test_fences() -> None:
    """A fence is above all that the record, the server and this node know of."""
    claim = make_claim("k", watermark=Watermark(50, age=0.0, loss_noticed_ago=None))
    for state, floor, watermark, expected in [
        (State(), 0, None, 1),
        (State(fence=7), 0, None, 8),
        (State(fence=7), 20, None, 20),
        (State(fence=7), 20, claim.watermark, 51),
        (State(fence=70), 20, claim.watermark, 71),
    ]:
        granted = rules.grant(state, claim.but(watermark=watermark), Cell(floor=floor), NOW)
        assert granted.run is not None
        assert granted.fence == granted.run.fence == expected


def test_asking_again() -> None:
    """Nothing changes while the lease is on; after it the run restarts, with the takeover that it had."""
    run = a_run("y", 8, stands_for="x", took_over=7)
    state, claim = State(fence=8, run=run), make_claim("k", owner="y", standby_for="x")
    assert rules.grant(state, claim, Cell(lease=1.0), NOW) is state
    again = rules.grant(state, claim, Cell(), NOW)
    assert again.run is not None
    assert (again.run.fence, again.run.took_over, again.run.started_at, again.past) == (9, 7, NOW, ())


@pytest.mark.parametrize(
    ("until", "lease", "hold", "asks", "expected"),
    [
        (None, 0.0, 0.0, {}, PAUSED),
        (NOW + 1, 0.0, 0.0, {}, PAUSED),
        (NOW, 0.0, 0.0, {}, None),
        (NOW, 0.0, 9.0, {}, HOLD),
        (None, 0.0, 9.0, {}, PAUSED),
        (None, 5.0, 0.0, {}, HELD),
        (None, 0.0, 0.0, {"ignore_pause": True}, None),
        (None, 0.0, 9.0, {"ignore_pause": True}, HOLD),
        (None, 0.0, 9.0, {"ignore_hold": True}, PAUSED),
        (None, 0.0, 0.0, {"standby_for": "x"}, PAUSED),
        (None, 0.0, 0.0, {"standby_for": "z"}, ENDED),
        (None, 5.0, 0.0, {"owner": "x"}, None),
        (None, 0.0, 0.0, {"owner": "x"}, PAUSED),
    ],
)
def test_paused_key(
    until: float | None, lease: float, hold: float, asks: dict[str, object], expected: str | None
) -> None:
    """A paused key is refused unless the claim ignores pauses: also to standbys, and to earlier holders."""
    state = State(fence=7, run=a_run("x", 7), paused=Pause("alice", "h", until=until))
    conflict = rules.refuse(state, make_claim("k").but(**asks), Cell(lease=lease, hold=hold), NOW)
    assert why(conflict) == expected
    if conflict is not None and expected == PAUSED:
        assert conflict.pause == state.paused
        assert conflict.remaining == (float("inf") if until is None else 1.0)


_FAILED = {"outcome": EXITED, "status": 3}


@pytest.mark.parametrize(
    ("last", "asks", "expected"),
    [
        (_FAILED, {}, ENDED),
        (_FAILED, {"on_failure": True}, None),
        (_FAILED, {"on_failure": True, "success": (0, 3)}, ENDED),
        (_FAILED, {"on_failure": True, "attempts": 1}, ENDED),
        (_FAILED, {"on_failure": True, "attempts": 2}, None),
        (_FAILED, {"on_failure": True, "defers": True}, None),
        (_FAILED, {"on_failure": True, "defers": True, "host": "h"}, DEFERRED),
        ({"outcome": TIMED_OUT, "status": 124}, {"on_failure": True}, None),
        ({"outcome": EXITED, "status": 0}, {"on_failure": True}, ENDED),
        ({"outcome": STOPPED, "status": 75}, {"on_failure": True}, ENDED),
        ({"outcome": DIED}, {"on_failure": True}, None),
        ({"outcome": DIED}, {"on_failure": True, "defers": True, "host": "h"}, None),
        ({"outcome": DIED}, {"on_failure": True, "on_death": False}, ENDED),
        ({"outcome": DIED}, {"attempts": 1}, ENDED),
        ({"outcome": NOT_STARTED}, {"attempts": 1}, None),
    ],
)
def test_attempts(last: dict[str, object], asks: dict[str, object], expected: str | None) -> None:
    """A dead or failed tick is retried as often as requested, by other nodes first; its hold does not refuse them."""
    state = State(fence=7).with_past(a_run("x", 7, **last))
    claim = make_claim("k", standby_for="x").but(**asks)
    hold = 0.0 if last["outcome"] == NOT_STARTED else 9.0
    conflict = rules.refuse(state, claim, Cell(hold=hold), NOW)
    assert why(conflict) == expected
    assert conflict is None or conflict.remaining == {DEFERRED: 0.1, HOLD: hold}.get(conflict.why, 0.0), (
        "asks again soon"
    )
    assert rules.attempts(state, "x") == int(last["outcome"] != NOT_STARTED)


def test_attempt_under_way() -> None:
    """A standby goes on waiting, even during the last attempt, which may give the key back."""
    state = State(fence=7, run=a_run("x", 7))
    for asks in ({"attempts": 1}, {"on_failure": True, "on_death": False}):
        claim = make_claim("k", standby_for="x").but(**asks)
        assert why(rules.refuse(state, claim, Cell(lease=1.0), NOW)) == HELD
        assert why(rules.refuse(state, claim, Cell(), NOW)) == ENDED


@pytest.mark.parametrize(
    ("uptime", "noticed", "evicts", "remaining"),
    [
        # Nobody knows when it was lost: from when this node noticed.
        (None, None, False, 60.0),
        (None, 20.0, False, 40.0),
        (None, 60.0, False, None),
        # A server that was up all the time lost it at an unknown moment, or evicted it.
        (200.0, 20.0, False, 40.0),
        (200.0, 20.0, True, None),
        (None, None, True, None),
        # A server that started later granted nothing before.
        (10.0, None, False, 50.0),
        (10.0, 30.0, False, 50.0),
        (30.0, 10.0, False, 30.0),
        (60.0, None, False, None),
        (10.0, 30.0, True, 50.0),
        # Too close to tell which was first, the watermark or the start.
        (98.0, 5.0, False, 55.0),
        (96.9, 5.0, False, None),
        (98.0, 5.0, True, None),
    ],
)
def test_quarantine(uptime: float | None, noticed: float | None, evicts: bool, remaining: float | None) -> None:
    """After state loss the key counts as held for a ttl, here 60 s, of a watermark that is 100 s old."""
    claim = make_claim("k", ttl=60.0, watermark=Watermark(7, age=100.0, loss_noticed_ago=noticed))
    conflict = rules.quarantine(State(), claim, uptime, evicts=evicts)
    assert (None if conflict is None else conflict.remaining) == (
        None if remaining is None else pytest.approx(remaining)
    )


@pytest.mark.parametrize(
    ("fence", "watermark", "expected"),
    [(0, None, False), (0, 0, True), (0, 1, True), (1, 0, False), (1, 1, False), (7, 8, True), (8, 8, False)],
)
def test_state_loss(fence: int, watermark: int | None, expected: bool) -> None:
    """A lower fence than this node saw; of a key that it saw taken there is a fence at least."""
    seen = None if watermark is None else Watermark(watermark, age=0.0, loss_noticed_ago=None)
    assert rules.has_lost_state(State(fence=fence), make_claim("k", watermark=seen)) is expected


def test_what_the_manual_and_other_engines_rely_on() -> None:
    """An hour and a month, and what a store is unless it says otherwise."""
    assert (rules.FRESH, RETENTION) == (3600.0, 30 * 86400.0)
    traits = Traits(shortest_ttl=1.0, longest_ttl=2.0)
    assert (traits.longest_hold, traits.granularity) == (3650 * 86400.0, 0.0)
    assert (traits.lists_keys, traits.records) == (True, True)
    assert (traits.local, traits.evicts, traits.notifies) == (False, False, False)
    claim = Claim(key="k", owner="x", host="h", pid=1, program="p", ttl=1.0, hold=0.0)
    assert (claim.ignore_hold, claim.ignore_pause, claim.on_death, claim.on_failure) == (False, False, True, False)
    assert (claim.defers, claim.success, claim.attempts) == (False, (0,), None)
    assert Grant(claim=claim, fence=1, ttl=1.0).attempt == 1
    assert (Watermark(1, 0.0, None).ttl, Pause("u", "h").at, Stop("x", "u", "h").at) == (0.0, 0.0, 0.0)
    assert rules.pause_left(State(), NOW) == 0.0
