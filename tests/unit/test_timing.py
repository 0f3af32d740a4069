"""The rules of time: every deadline from before the request, everybody dead before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.lease import timing
from cronlock.process import protocol
from cronlock.process.protocol import BY_DEADLINE, BY_LOSS, BY_SIGNAL, BY_TIMEOUT, BY_WRAPPER

TTLS = st.floats(min_value=1.0, max_value=86400.0)
TIMES = st.floats(min_value=0.0, max_value=1e6)


def plan(ttl: float = 300.0, kill_after: float = 10.0, sent: float = 0.0, limit: float | None = None) -> protocol.Plan:
    """Return the plan of a command under a lease granted for a request sent at `sent`."""
    return protocol.Plan(
        deadline=timing.deadline(sent, ttl, 0.0),
        grace=timing.grace(kill_after, ttl),
        kill_after=kill_after,
        kill_lead=timing.kill_lead(ttl),
        limit=limit,
    )


def test_deadline_is_before_the_lapse_by_rate_fixed_and_granularity() -> None:
    """D = sent + ttl less 0.1 %, 100 ms and what the backend rounds."""
    assert timing.deadline(1000.0, 300.0, 2.0) == pytest.approx(1000.0 + 300.0 - 0.3 - 0.1 - 2.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # KILL has 0.1 s to reach everybody, of a short ttl a twentieth.
        (timing.kill_lead(300.0), 0.1),
        (timing.kill_lead(1.0), 0.05),
        # The latest renewal is the one that the guard's deadline has to bear.
        (timing.renew_after(300.0, 0.0), 90.0),
        (timing.renew_after(300.0, 1.0), 300.0 * timing.LATEST_RENEWAL),
        # The pauses double from 0.1 s to a twentieth of the ttl, and to 5 s.
        (timing.retry_pause(1, 300.0, 0.5), 0.1),
        (timing.retry_pause(2, 300.0, 0.5), 0.2),
        (timing.retry_pause(6, 300.0, 0.5), 3.2),
        (timing.retry_pause(7, 300.0, 0.5), 5.0),
        (timing.retry_pause(6, 40.0, 0.5), 2.0),
        (timing.retry_pause(6, 1.0, 0.5), 0.1),
        (timing.retry_pause(1, 300.0, 0.0), 0.05),
        (timing.retry_pause(1, 300.0, 1.0), 0.15),
        # A takeover's own hold has run since it asked first.
        (timing.takeover_hold(45.0, 10.0), 35.0),
        (timing.takeover_hold(45.0, 60.0), 0.0),
        # As cronlock(1) documents --poll and --standby.
        (timing.LOCAL_POLL, 5.0),
        (timing.LISTEN_AFTER, 1.0),
        (timing.STANDBY_POLL, 15.0),
        (timing.STANDBY_POLL_LOCAL, 1.0),
    ],
)
def test_moments(found: float, expected: float) -> None:
    """The rules of time, by examples."""
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("local", "now", "lapse", "jitter", "expected"),
    [
        # The first look is at a random moment of the first period.
        (False, 100.0, None, 0.0, 107.5),
        (True, 100.0, None, 0.0, 100.5),
        # The next is a period later, give or take a tenth.
        (False, 107.5, None, 0.0, 121.0),
        (False, 107.5, None, 1.0, 124.0),
        # A lease that lapses before that is asked for then, spread over half a second.
        (False, 100.0, 103.0, 0.0, 103.0),
        (False, 100.0, 103.0, 1.0, 103.5),
        # A lease that should be over already is asked for soon, not in a tight loop.
        (False, 100.0, 99.0, 0.0, 100.1),
        (False, 100.0, 300.0, 0.0, 107.5),
    ],
)
def test_when_a_standby_asks(local: bool, now: float, lapse: float | None, jitter: float, expected: float) -> None:
    """A standby that began at 100 in the middle of its beat."""
    assert timing.StandbyPlan(100.0, 0.5, local=local).next_ask(now, lapse, jitter) == pytest.approx(expected)


def test_jitter_is_spread_over_the_whole_of_0_to_1() -> None:
    """Each tenth comes up."""
    assert {int(timing.jitter() * 10) for _ in range(1000)} == set(range(10))


@given(ttl=TTLS, kill_after=st.floats(min_value=0.0, max_value=3600.0))
def test_grace_is_at_most_a_third_of_the_ttl(ttl: float, kill_after: float) -> None:
    """A ttl too short for --kill-after shrinks the grace, not the lease."""
    assert timing.grace(kill_after, ttl) == pytest.approx(min(kill_after, ttl / 3))


def test_with_the_defaults_term_goes_out_ten_seconds_before_kill() -> None:
    """ttl 300 and kill-after 10: quiet until 289.5, then TERM, KILL before D."""
    kept = plan()
    assert protocol.decide(289.4, kept) == (protocol.WAIT, None, 289.5)
    assert protocol.decide(289.5, kept) == (protocol.TERMINATE, BY_DEADLINE, None)
    kept.begin_stop(BY_DEADLINE, 289.5)
    action, why, wake = protocol.decide(290.0, kept)
    assert (action, why) == (protocol.WAIT, BY_DEADLINE)
    assert wake == pytest.approx(299.5)
    assert protocol.decide(299.5, kept)[0] == protocol.KILL
    assert kept.deadline is not None
    assert kept.deadline > 299.5


@given(ttl=TTLS, kill_after=st.floats(min_value=0.0, max_value=600.0), late=st.floats(min_value=0.0, max_value=1e5))
def test_kill_is_due_before_the_deadline_however_the_stop_began(ttl: float, kill_after: float, late: float) -> None:
    """Whatever the reason and moment of a stop, KILL is sent before D."""
    for why in (
        BY_DEADLINE,
        BY_LOSS,
        BY_TIMEOUT,
        BY_WRAPPER,
        BY_SIGNAL,
    ):
        kept = plan(ttl, kill_after)
        assert kept.deadline is not None
        kept.begin_stop(why, min(late, kept.deadline))
        assert protocol.decide(kept.deadline - kept.kill_lead, kept)[0] == protocol.KILL


@given(ttl=TTLS, kill_after=st.floats(min_value=0.0, max_value=600.0), now=TIMES)
def test_a_late_wake_up_never_waits_past_the_deadline(ttl: float, kill_after: float, now: float) -> None:
    """After a pause of any length, the first decision past TERM's time is to stop."""
    kept = plan(ttl, kill_after)
    action, _, wake = protocol.decide(now, kept)
    assert kept.deadline is not None
    if now >= kept.deadline - kept.kill_lead - kept.grace:
        assert action == protocol.TERMINATE
    else:
        assert action == protocol.WAIT
        assert wake is not None
        assert now < wake < kept.deadline


def test_timeout_gives_the_whole_of_kill_after_while_the_lease_allows() -> None:
    """--timeout: TERM at the limit, KILL after --kill-after, renewals going on meanwhile."""
    kept = plan(ttl=30.0, kill_after=20.0, limit=5.0)
    assert protocol.decide(4.9, kept) == (protocol.WAIT, None, 5.0)
    assert protocol.decide(5.0, kept) == (protocol.TERMINATE, BY_TIMEOUT, None)
    kept.begin_stop(BY_TIMEOUT, 5.0)
    assert protocol.decide(24.9, kept)[0] == protocol.WAIT
    assert protocol.decide(25.0, kept)[0] == protocol.KILL


def test_a_renewal_moves_the_deadline_of_a_plan() -> None:
    """A new deadline cancels what was due at the old one."""
    kept = plan()
    kept.deadline = timing.deadline(200.0, 300.0, 0.0)
    assert protocol.decide(299.0, kept)[0] == protocol.WAIT


def test_without_a_lead_kill_is_due_at_the_deadline() -> None:
    """Of a plan that names none."""
    assert protocol.Plan(deadline=100.0, grace=10.0, kill_after=10.0).last_kill() == 100.0


def test_without_a_lease_only_the_limit_counts() -> None:
    """--on-error run and --on-lost continue: no deadline ends the command."""
    kept = protocol.Plan(deadline=None, grace=10.0, kill_after=10.0)
    assert protocol.decide(1e9, kept) == (protocol.WAIT, None, None)
    kept.limit = 7.0
    assert protocol.decide(8.0, kept)[1] == BY_TIMEOUT


def test_the_first_reason_of_a_stop_stays() -> None:
    """A lease lost during --timeout's grace is still a timeout."""
    kept = plan()
    kept.begin_stop(BY_TIMEOUT, 10.0)
    kept.begin_stop(BY_LOSS, 20.0)
    assert (kept.stop, kept.stopped_at) == (BY_TIMEOUT, 10.0)


@given(ttl=TTLS, jitter=st.floats(min_value=0.0, max_value=1.0))
def test_renewals_come_every_third_of_the_ttl_give_or_take_a_tenth(ttl: float, jitter: float) -> None:
    """Early enough for two more tries, and spread."""
    assert ttl * 0.299 <= timing.renew_after(ttl, jitter) <= ttl * 0.367


@given(failures=st.integers(min_value=1, max_value=10_000), ttl=TTLS, jitter=st.floats(min_value=0.0, max_value=1.0))
def test_pauses_between_tries_grow_but_stay_small_against_the_ttl(failures: int, ttl: float, jitter: float) -> None:
    """A renewal that fails is tried many times before TERM is due."""
    pause = timing.retry_pause(failures, ttl, jitter)
    assert 0.05 <= pause <= max(0.1, min(ttl / 20, 5.0)) * 1.5
