"""When a standby asks: for how long it pauses, what wakes it, and how often it leaves a failed tick to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease import timing
from cronlock.lease.vocabulary import DEFERRED, ENDED, HELD, HOLD, Claim, Conflict, Grant
from cronlock.run.holding import Holding
from cronlock.run.standby import Standby

from .holders import LOST_REQUEST, TTL
from .test_standby import LIMIT, Scene


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Give a run in standby whose pauses are exact."""
    monkeypatch.setattr(timing, "jitter", lambda: 0.25)
    scene = Scene(tmp_path, monkeypatch)
    scene.pauses.clear()
    return scene


def ends(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next answer be that the tick is done."""
    monkeypatch.setattr(scene.way, "acquire", lambda _: Conflict(ENDED, remaining=0.0, fence=scene.conflict.fence))


@pytest.mark.parametrize(
    ("why", "remaining", "pause"),
    [
        # A run that has the key is asked about at the first look of the period, or once its lease can have lapsed.
        (HELD, TTL, 0.25 * timing.STANDBY_POLL),
        (HELD, 2.0, 2.0 + 0.25 * timing.STANDBY_SPREAD),
        # One that died within its hold, at once, but not by all standbys in one moment.
        (HOLD, TTL, 0.1 + 0.25 * timing.STANDBY_SPREAD),
    ],
)
def test_the_first_pause(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, why: str, remaining: float, pause: float
) -> None:
    """It depends on what the run is known to have."""
    ends(scene, monkeypatch)
    answer = scene.standby.wait(Conflict(why, remaining=remaining, run=scene.conflict.run, fence=scene.conflict.fence))
    assert isinstance(answer, Conflict)
    assert answer.why == ENDED
    assert [seconds for seconds in scene.pauses if seconds] == pytest.approx([pause])


@pytest.mark.parametrize(
    ("limit", "pauses"),
    [
        (LIMIT, [0.25 * timing.STANDBY_POLL, 0.25 * timing.STANDBY_SPREAD]),
        # The time to stand by is over before the spread is.
        (0.1 + 1.0, [1.1, 0.1]),
    ],
)
def test_standbys_that_wake_at_once_do_not_ask_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, limit: float, pauses: list[float]
) -> None:
    """A change of the key wakes all of them: each waits for a part of half a second, and then asks."""
    ends(scene, monkeypatch)
    heard: list[float] = []

    def pause(seconds: float, wake: int | None = None) -> None:
        assert wake is None, "the simulated store has nothing to watch"
        if seconds:
            heard.append(seconds)
            # Woken after a second, if it is so long.
            scene.clock.advance(min(seconds, 1.0))

    assert isinstance(Standby(scene.acquisition, limit, pause).wait(scene.conflict), Conflict)
    assert heard == pytest.approx(pauses)


def test_a_standby_that_is_woken_at_its_end_asks_no_more(scene: Scene) -> None:
    """Its time is over, and there is nothing to spread."""
    answer = Standby(scene.acquisition, 3.0, scene.pause).wait(scene.conflict)
    assert answer is scene.conflict
    assert [seconds for seconds in scene.pauses if seconds] == pytest.approx([3.0])
    assert scene.way.owners == []


def test_a_server_that_is_down_is_asked_once_in_a_period(scene: Scene) -> None:
    """Also once the lease can have lapsed: a thousand standbys would ask it at once again and again."""
    scene.way.acquires = [LOST_REQUEST] * 10_000
    scene.wait()
    # Each time three requests.
    assert 10_000 - len(scene.way.acquires) < 3 * (LIMIT / timing.STANDBY_POLL * 1.2 + 3)


def test_a_connection_that_is_down_is_tried_once_in_a_period(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no way to watch the key, either."""
    tried: list[float] = []

    def watch(_: str) -> int | None:
        tried.append(scene.clock.now())
        raise BackendUnavailable("connection refused")

    monkeypatch.setattr(scene.way, "watch", watch)
    scene.way.acquires = [LOST_REQUEST] * 10_000
    scene.wait()
    assert len(tried) < LIMIT / timing.STANDBY_POLL * 1.2 + 3


def test_a_tick_that_failed_here_is_left_to_others_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a period each; then this host tries it again."""
    acquire = scene.way.acquire
    deferred: list[bool] = []

    def defer(claim: Claim) -> Grant | Conflict:
        deferred.append(claim.defers)
        if claim.defers:
            return Conflict(DEFERRED, remaining=0.1, run=scene.conflict.run, fence=scene.conflict.fence)
        return acquire(claim)

    monkeypatch.setattr(scene.way, "acquire", defer)
    assert isinstance(scene.wait(), Holding)
    assert deferred == [True, True, False]
    assert [seconds for seconds in scene.pauses if seconds] == pytest.approx(
        [0.25 * timing.STANDBY_POLL, 0.95 * timing.STANDBY_POLL, 0.95 * timing.STANDBY_POLL]
    )
