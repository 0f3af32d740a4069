"""Ten machines with --standby-on: a job that fails on one of them is tried on another, as often as asked."""

from __future__ import annotations

import json

import pytest

from labs.scene import NODES, SKIP, WORK, Scene
from labs.servers.process import eventually

from .test_takeover import scene as scene

#: Fails on the hosts that ran it first, on as many as a third argument says.
_FAILS = (
    WORK
    + """
names = [line.split()[2] for line in open(log_name) if line.startswith("start ")]
sys.exit(3 if socket.gethostname() in names[: int(os.environ["FAILURES"])] else 0)
"""
)


@pytest.mark.parametrize("scene", ["redis", "zookeeper", "postgresql"], indirect=True)
@pytest.mark.parametrize("failures", [2, 10])
def test_a_job_that_fails_is_tried_on_others(scene: Scene, failures: int) -> None:
    """Each time on another host, and three times at most; the tick counts once, and all others skip."""
    work = _FAILS.replace('os.environ["FAILURES"]', repr(str(failures)))
    scene.race("job", "--standby-on", "any", "--attempts", "3", work=work)
    eventually(lambda: len(scene.lines("job", "exit")) == NODES, "all leave", 120, pause=0.2)
    last = 3 if failures > 2 else 0
    assert sorted(line.number for line in scene.lines("job", "exit")) == sorted([3, 3, last] + [SKIP] * (NODES - 3))
    hosts = [line.host for line in scene.lines("job", "start")]
    assert len(set(hosts)) == 3
    runs = json.loads(scene.ask("history", "job", "--json"))["runs"]
    assert [(run["host"], run["status"]) for run in reversed(runs)] == list(zip(hosts, (3, 3, last)))
    assert len({run["tick"] for run in runs}) == 1
    assert "(attempt 3 of 3)" in scene.ask("history", "job")
    assert scene.ask("check", "job", "--max-age", "1h").startswith(f"CRONLOCK {'CRITICAL' if last else 'OK'}")
