"""Ten machines with --standby, one of which dies in the middle of the job: exactly one other does it.

`python -m chaos.takeovers` does it at random moments, often, and measures how late the takeovers come.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.takeovers.deaths import TRACED, die
from labs.scene import JOB, SERVERS, TTL, Scene


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Give the machines and the server of the kind that the test names."""
    with Scene(request.param, tmp_path / "fleet") as scene:
        try:
            yield scene
        finally:
            # Shown by pytest when the test failed.
            print(scene.story())


@pytest.mark.parametrize("scene", ["file", *SERVERS], indirect=True)
def test_another_machine_finishes_the_job(scene: Scene) -> None:
    """When the holder dies, one other node does the job and all others leave as skips; nothing is done twice."""
    death = die(scene, "job", JOB / 6)
    assert death.delay is not None
    assert (death.done, death.unrecorded) == (1, False)


def test_each_step_of_a_takeover_is_known(tmp_path: Path) -> None:
    """Traced runs do the same, and their steps add up to the delay; the lease is over after a ttl at most."""
    with Scene("redis", tmp_path / "fleet", TRACED) as scene:
        death = die(scene, "job", JOB / 6)
    assert death.delay is not None
    assert death.done == 1
    assert sum(death.steps.values()) == pytest.approx(death.delay, abs=0.01)
    # It may have been renewed before the last renewal was sent.
    assert TTL / 3 < death.steps["lease"] <= TTL
    assert death.steps["kept"] < TTL / 2
