"""Ten machines with --standby, one of which dies in the middle of the job: exactly one other does it.

`CRONLOCK_TAKEOVERS` says how often for each backend, with the death at a random moment of the job: 1
unless set, in the middle. What was measured is printed (``make takeover-test``).
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labs.machines import SHARED, Fleet, Machine
from labs.servers.kinds import MAKERS
from labs.servers.process import Site, eventually

_TIMES = int(os.environ.get("CRONLOCK_TAKEOVERS", "1"))
_NODES = 10
_TTL = 6
#: How long the job takes, in seconds.
_JOB = 3.0
#: Takeovers that come later than so many seconds after the ttl are counted.
_ALLOWED = 2.0

#: Those on which a run can stand by.
_SERVERS = {kind: make for kind, make in MAKERS.items() if kind != "sqs"}

# A line is written at once. The last thing that the job does is to say that it is done.
WORK = f"""
import os, socket, sys, time
def note(what):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = f"{{sys.argv[1]}} {{what}} {{now}} {{socket.gethostname()}} {{os.environ.get('CRONLOCK_TAKEOVER', 0)}}\\n"
    os.write(log, line.encode())
log = os.open("{SHARED}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
note("start")
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.005)
note("done")
"""


class Line(NamedTuple):
    """A line that a job, or a node after its run, noted."""

    key: str
    what: str
    #: On the one machine's boot clock.
    at: float
    host: str
    #: Of a job: 1 for a takeover; of a node: the exit status.
    number: int


class Scene:
    """A server of one kind, and machines that share a key."""

    def __init__(self, kind: str, fleet: Fleet) -> None:
        self._fleet = fleet
        self._log = fleet.shared / "log"
        self._log.touch()
        self._count = 0
        home = fleet.machine("server")
        self.server: Any = None
        self._environ: dict[str, str] = {}
        self.url = f"file://{SHARED}/leases"
        if kind in _SERVERS:
            self.server = _SERVERS[kind](site=Site(home.address, home.way_in))
            self.server.launch()
            self.url, self._environ = self.server.url(), getattr(self.server, "environ", {})
        self.nodes = [self._new_node() for _ in range(_NODES)]
        # Less than 2: all that it needs is there.
        script = '"$@" >/dev/null 2>&1; [ $? -ge 2 ] || echo yes'
        look = ["sh", "-c", script, "sh", *self._cronlock("doctor", "--create")]
        eventually(lambda: "yes" in self.nodes[0].run(*look), f"{kind} answers", 90)

    def race(self, key: str, *options: str, work: str = WORK) -> None:
        """Let each node run the job of `key`, standing by if another does it."""
        words = ["--key", key, "--ttl", str(_TTL), "--min-hold", "600", "--standby", "60s", "--skip-status", "99"]
        job = [*options, "--", sys.executable, "-I", "-S", "-c", work, key, str(_JOB)]
        note = f'echo "{key} exit $now $(hostname) $status" >>{SHARED}/log'
        script = f'"$@"; status=$?; read -r now rest </proc/uptime; {note}'
        for node in self.nodes:
            state = f"CRONLOCK_STATE_DIR=/run/state-{node.name}"
            node.start("env", state, "sh", "-c", script, "sh", *self._cronlock("run", *words, *job))

    @property
    def log_name(self) -> str:
        """The log as the jobs name it."""
        return f"{SHARED}/log"

    def lines(self, key: str, what: str) -> list[Line]:
        """Return what was noted of `key`."""
        found = []
        for text in self._log.read_text().splitlines():
            name, kind, at, host, number = text.split()
            if (name, kind) == (key, what):
                found.append(Line(name, kind, float(at), host, int(number)))
        return found

    def ask(self, command: str, *words: str) -> str:
        """Return what a command prints on the first node, whatever its status."""
        return self.nodes[0].run("sh", "-c", '"$@" || :', "sh", *self._cronlock(command, *words))

    def kill(self, host: str) -> None:
        """Cut the power of the machine `host`, and put a new one in its place."""
        (machine,) = [node for node in self.nodes if node.name == host]
        machine.kill()
        self.nodes.remove(machine)

    def replace(self) -> None:
        """Have as many machines as in the beginning."""
        while len(self.nodes) < _NODES:
            self.nodes.append(self._new_node())

    def story(self) -> str:
        """Return what all said, for a failed test."""
        return self._log.read_text() + "\n".join(f"--- {node.name}\n{node.output()}" for node in self.nodes)

    def _new_node(self) -> Machine:
        self._count += 1
        return self._fleet.machine(f"node{self._count}")

    def _cronlock(self, command: str, *words: str) -> list[str]:
        environ = (f"{name}={value}" for name, value in self._environ.items())
        return ["env", *environ, sys.executable, "-m", "cronlock", command, "--backend", self.url, *words]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Give the machines and the server of the kind that the test names."""
    with Fleet(tmp_path / "fleet") as fleet:
        scene = Scene(request.param, fleet)
        try:
            yield scene
        finally:
            # Shown by pytest when the test failed.
            print(scene.story())
            if scene.server is not None:
                scene.server.close()


class Death(NamedTuple):
    """One power cut, and the fate of the job."""

    #: From the death to the start of the takeover, in seconds; None if the job had ended and was not taken over.
    delay: float | None
    #: How often the job was done.
    done: int
    #: Whether it had just been done, and the record did not say so yet.
    unrecorded: bool = False


@pytest.mark.parametrize("scene", ["file", *_SERVERS], indirect=True)
def test_another_machine_finishes_the_job(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """Whenever the holder dies, one other node does the job and all others leave as skips; nothing is done twice."""
    random.seed(_TIMES)
    deaths = [_die(scene, f"job-{number}", _moment(number)) for number in range(_TIMES)]
    if _TIMES > 1:
        with capfd.disabled():
            print(_show(scene, deaths))
    # Twice if the power failed between the job's last act and the record of its end, which no node can know.
    assert {death.done for death in deaths if not death.unrecorded} == {1}


def _moment(number: int) -> float:
    """Return when in the job the power goes: in the middle, or at random, a death in four within the last 200 ms."""
    if _TIMES == 1:
        return _JOB / 2
    return random.uniform(_JOB - 0.2 if number % 4 == 0 else 0, _JOB)


def _die(scene: Scene, key: str, moment: float) -> Death:
    scene.race(key)
    eventually(lambda: scene.lines(key, "start"), "the job starts", 60, pause=0.005)
    (first,) = scene.lines(key, "start")
    eventually(lambda: _now() >= first.at + moment, "the moment comes", 60, pause=0.001)
    died_at = _now()
    scene.kill(first.host)

    def others() -> list[int]:
        return sorted(line.number for line in scene.lines(key, "exit") if line.host != first.host)

    eventually(lambda: len(others()) == _NODES - 1, "all others leave", 120)
    starts, done = (scene.lines(key, what) for what in ("start", "done"))
    scene.replace()
    if len(starts) == 1:
        # The power failed after the end was recorded: no takeover was needed.
        assert others() == [99] * (_NODES - 1)
        return Death(None, len(done))
    assert [line.number for line in starts] == [0, 1], "exactly one takes over"
    assert others() == [0] + [99] * (_NODES - 2)
    return Death(starts[1].at - died_at, len(done), done[0].host == first.host)


def _show(scene: Scene, deaths: list[Death]) -> str:
    delays = [death.delay for death in deaths if death.delay is not None]
    late = sum(delay > _TTL + _ALLOWED for delay in delays)
    twice, never = (sum(death.done == times and not death.unrecorded for death in deaths) for times in (2, 0))
    unrecorded = sum(death.unrecorded for death in deaths)
    return (
        f"\n{scene.url.split(':')[0]}: {len(deaths)} deaths, {len(delays)} takeovers; "
        f"done twice {twice}, never {never}, again since the power went between its end and the record {unrecorded}; "
        f"from death to takeover {min(delays):.2f} to {max(delays):.2f} s (median {statistics.median(delays):.2f}) "
        f"with a ttl of {_TTL} s: {late} later than that and {_ALLOWED:g} s"
    )


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
