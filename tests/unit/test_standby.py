"""Standing by: taking over from a run that died, leaving when it ended, and asking seldom meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cronlock.engines import registry
from cronlock.errors import BackendError
from cronlock.lease.timing import STANDBY_POLL, STANDBY_SPREAD, StandbyPlan
from cronlock.lease.vocabulary import ENDED, EXITED, HELD, HOLD, LOST, NOT_STARTED, STATE_LOST, Conflict, Grant
from cronlock.lease.watermarks import Watermarks
from cronlock.run.holding import Holding
from cronlock.run.standby import Standby, may_take_over
from cronlock.testing import make_ending, record_of

from .holders import FINE, LOST_REPLY, LOST_REQUEST, TTL, Bench, Interrupted

LIMIT = 600.0


class Scene(Bench):
    """Another run has the key, and this one stands by for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch, standby=f"{LIMIT}")
        self.folder = folder
        self.other = self.way.another()
        self.grant = self.other_holds(hold=1000.0)
        conflict = self.acquire()
        assert isinstance(conflict, Conflict)
        self.conflict = conflict
        self.way.owners.clear()
        self.standby = Standby(self.acquisition, LIMIT, self.pause)

    def wait(self) -> Holding | Conflict:
        """Stand by."""
        return self.standby.wait(self.conflict)

    def other_ends_after(self, seconds: float, outcome: str = EXITED) -> None:
        """Let the other run live for so long, renewing, and then end with `outcome`."""
        end = self.clock.now() + seconds

        def live() -> None:
            if self.clock.now() < end:
                assert self.other.renew(self.grant)
            else:
                self.other.release(self.grant, make_ending(1, outcome), keep_hold=outcome != NOT_STARTED)

        self.meanwhile = live


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Give a run in standby."""
    return Scene(tmp_path, monkeypatch)


def test_the_dead_are_taken_over_as_soon_as_their_lease_lapsed(scene: Scene) -> None:
    """Nobody renews: the key is ours within the spread after the lapse, for the dead run's tick."""
    lapse = scene.clock.now() + scene.conflict.remaining
    holding = scene.wait()
    assert isinstance(holding, Holding)
    assert holding.grant.took_over == scene.grant.fence
    # Each request of the bench takes a second.
    assert lapse <= scene.clock.now() <= lapse + STANDBY_SPREAD + 2.5
    assert holding.variables()["CRONLOCK_TAKEOVER"] == "1"
    assert holding.variables()["CRONLOCK_TAKEOVER_FENCE"] == str(scene.grant.fence)


def test_a_later_tick_is_not_run_once_more_after_a_takeover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead run's hold is over by then: our own tick has the rest of ours, counted from when we asked."""
    bench = Bench(tmp_path, monkeypatch, standby=f"{LIMIT}", min_hold=f"{10 * TTL}")
    other = bench.way.another()
    bench.other_holds(hold=0.0)
    began = bench.clock.now()
    conflict = bench.acquire()
    assert isinstance(conflict, Conflict)
    answer = Standby(bench.acquisition, LIMIT, bench.pause).wait(conflict)
    assert isinstance(answer, Holding)
    assert answer.grant.took_over is not None
    record = record_of(other, "k")
    left = record.hold_remaining + bench.clock.now() - began
    # Each request of the bench takes a second.
    assert left == pytest.approx(10 * TTL, abs=2.5)


def test_a_run_that_ended_is_left_alone(scene: Scene) -> None:
    """It lives for a while and fails: the standby leaves at its next look and runs nothing."""
    scene.other_ends_after(100.0)
    answer = scene.wait()
    assert isinstance(answer, Conflict)
    assert answer.why == ENDED
    assert answer.run is not None
    assert (answer.run.outcome, answer.run.status) == (EXITED, 1)
    assert scene.clock.now() < 1000.0 + 100.0 + 2 * STANDBY_POLL + 3


@pytest.mark.parametrize("outcome", [LOST, NOT_STARTED])
def test_what_was_not_done_is_taken_over(scene: Scene, outcome: str) -> None:
    """A run that was stopped for its lease, or could not be started, leaves its tick to be done."""
    scene.other_ends_after(50.0, outcome)
    assert isinstance(scene.wait(), Holding)


def test_a_takeover_that_dies_is_taken_over(scene: Scene) -> None:
    """If the run that took over dies, the standby goes on for the same tick."""
    second: list[Grant] = []

    def die_again() -> None:
        record = record_of(scene.other, "k")
        # Not within one second, in which nothing could happen.
        if record.remaining < 3.0 and not second:
            scene.clock.advance(record.remaining)
            claim = scene.grant.claim
            heir = type(claim)(
                key="k", owner="second", host="o", pid=2, program="p", ttl=TTL, hold=0.0, standby_for="other"
            )
            answer = scene.other.acquire(heir)
            assert isinstance(answer, Grant)
            second.append(answer)

    scene.meanwhile = die_again
    holding = scene.wait()
    assert isinstance(holding, Holding)
    assert holding.grant.took_over == second[0].fence
    assert holding.grant.claim.standby_for == "other"


def test_the_time_to_stand_by_ends(scene: Scene) -> None:
    """A run that outlives --standby is left to itself: a skip that names it."""
    scene.other_ends_after(10 * LIMIT)
    began = scene.clock.now()
    answer = scene.wait()
    assert isinstance(answer, Conflict)
    assert answer.why == HELD
    assert LIMIT <= scene.clock.now() - began < LIMIT + 3
    assert scene.standby.failure is None


def test_a_server_that_is_away_meanwhile_is_asked_again(scene: Scene) -> None:
    """Requests and replies that are lost do not end the standby, and leave nothing behind."""
    scene.way.acquires = [LOST_REQUEST] * 7 + [LOST_REPLY] * 4 + [FINE] * 2
    holding = scene.wait()
    assert isinstance(holding, Holding)
    assert scene.owner_of_the_key() == holding.grant.claim.owner
    assert scene.standby.failure is None


def test_an_unanswered_read_does_not_delay_a_takeover(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the lease can lapse is known from before."""
    monkeypatch.setattr("cronlock.lease.timing.jitter", lambda: 0.99)
    lapse = scene.clock.now() + scene.conflict.remaining
    standby = Standby(scene.acquisition, LIMIT, scene.pause)
    # A first look halfway, and the next one behind the lapse.
    scene.way.acquires = [LOST_REQUEST] * 3
    assert isinstance(standby.wait(scene.conflict), Holding)
    assert scene.way.acquires == []
    assert lapse <= scene.clock.now() <= lapse + STANDBY_SPREAD + 1.5


def test_a_server_that_stays_away_is_reported(scene: Scene) -> None:
    """Without an answer until the end nothing runs, and the reason is kept for a warning."""
    scene.way.acquires = [LOST_REQUEST] * 10_000
    answer = scene.wait()
    assert isinstance(answer, Conflict)
    assert isinstance(scene.standby.failure, BackendError)


def test_a_signal_ends_the_standby(scene: Scene) -> None:
    """An exception of the pause is passed on, and no lease is held."""

    def interrupt() -> None:
        raise Interrupted

    scene.meanwhile = interrupt
    with pytest.raises(Interrupted):
        scene.wait()
    assert scene.owner_of_the_key() == "other"


def test_a_server_that_lost_the_run_is_no_end_of_it(scene: Scene) -> None:
    """If the run's end is unknown, the standby says so, and keeps its watermark."""
    scene.meanwhile = lambda: scene.way.server.forget("k")
    began = scene.clock.now()
    answer = scene.wait()
    assert isinstance(answer, Conflict)
    assert answer.why == STATE_LOST
    scene.clock.advance(1.0)
    watermark = Watermarks(str(scene.folder), registry.location("memory://here"), "k", scene.clock).recall()
    assert watermark is not None
    assert watermark.fence == scene.conflict.fence
    assert watermark.age >= scene.clock.now() - began - 0.001


def test_few_requests_while_the_other_lives(scene: Scene) -> None:
    """An hour of standing by costs a request each fifteen seconds, whatever the ttl is renewed to."""
    standby = Standby(scene.acquisition, 3600.0, scene.pause)
    scene.other_ends_after(7200.0)
    standby.wait(scene.conflict)
    assert len(scene.way.owners) <= 3600 / STANDBY_POLL * 1.15 + 2
    assert len(set(scene.way.owners)) == len(scene.way.owners)


@pytest.mark.parametrize(
    ("why", "outcome", "may"),
    [
        (HELD, None, True),
        (HOLD, None, True),  # It died within its hold.
        (HOLD, EXITED, False),
        (HOLD, LOST, True),
        (STATE_LOST, None, False),
        (ENDED, None, False),
    ],
)
def test_what_is_stood_by_for(scene: Scene, why: str, outcome: str | None, may: bool) -> None:
    """Only a run that has the key, or left its hold without being done, may have to be taken over."""
    run = scene.conflict.run
    assert run is not None
    run.outcome = outcome
    claim = scene.acquisition.claim
    assert may_take_over(Conflict(why, remaining=1.0, run=run), claim) is may
    # Whoever stands by for failures waits for the end of a run that has the key.
    failures_only = claim.but(on_death=False, on_failure=True)
    assert may_take_over(Conflict(why, remaining=1.0, run=run), failures_only) is (why == HELD or outcome == EXITED)
    assert may_take_over(Conflict(why, remaining=1.0, run=None), claim) is False


def test_a_thousand_that_began_at_once_ask_evenly() -> None:
    """In no second do more than a hundred of a thousand ask, from the first one on."""
    asked = [0] * 300
    for number in range(1000):
        jitter = _jitters(number)
        plan = StandbyPlan(0.0, jitter(), local=False)
        now = 0.0
        while True:
            # Renewed every 100 s: the lease could lapse 200 s to 300 s from any look.
            now = plan.next_ask(now, now + 300 - now % 100, jitter())
            if now >= len(asked):
                break
            asked[int(now)] += 1
    # An even spread of 67 a second, and chance.
    assert max(asked) < 67 + 5 * 67**0.5
    assert sum(asked) / len(asked) < 100


def _jitters(seed: int) -> Callable[[], float]:
    import random

    return random.Random(seed).random
