"""One machine of ten dies in the middle of the job: when another takes over, and what happened until then."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cronlock.lease.vocabulary import HELD
from labs.machines import SHARED
from labs.scene import JOB, NODES, SKIP, TTL, Scene
from labs.servers.process import eventually

from .traced import FAILED, GRANTED

#: The steps from a death to the takeover, in their order, and what each is.
STEPS = {
    "lease": "until the dead run's lease was over by its ttl",
    "asking": "until the first request after that",
    "kept": "until the request that was granted: earlier ones found the lease still in force",
    "failed": "the same where an earlier one got no answer",
    "grant": "until its answer",
    "start": "until the command started",
}


class Request(NamedTuple):
    """A request of one run for its lease."""

    host: str
    what: str
    sent: float
    #: None: the run died before the answer came.
    answered: float | None
    answer: str
    #: Seconds for which the key was refused.
    left: float


class Death(NamedTuple):
    """One power cut, and the fate of the job."""

    #: From the death to the start of the takeover, in seconds; None if the job had ended and was not taken over.
    delay: float | None
    #: How often the job was done.
    done: int
    #: True if the power went between the job's last act and the record of its end, which no node can know.
    unrecorded: bool
    #: Seconds of each of `STEPS`.
    steps: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it for a summary, in milliseconds' precision."""
        steps = {name: round(seconds, 3) for name, seconds in self.steps.items()}
        return {**self._asdict(), "delay": None if self.delay is None else round(self.delay, 3), "steps": steps}


def random_moment(chance: random.Random, number: int) -> float:
    """Return when in the job the power goes: a death in four within its last 200 ms."""
    return chance.uniform(JOB - 0.2 if number % 4 == 0 else 0, JOB)


def trace_of(shared: Path) -> Path:
    """Return the file of traced runs in a scene's shared directory."""
    return shared / "trace"


#: What runs cronlock traced, as arguments of the interpreter.
TRACED = ("-m", "chaos.takeovers.traced", f"{SHARED}/trace")


def die(scene: Scene, key: str, moment: float) -> Death:
    """Let the machines race for `key`, cut the winner's power at `moment` of the job, and wait until all others left.

    Fails if not exactly one other takes over, or if one of the others does not leave as a skip.
    """
    trace = trace_of(scene.shared)
    trace.unlink(missing_ok=True)
    scene.race(key)
    eventually(lambda: scene.lines(key, "start"), "the job starts", 60, pause=0.005)
    (first,) = scene.lines(key, "start")
    time.sleep(max(0.0, first.at + moment - now()))
    died_at = now()
    scene.kill(first.host)

    def others() -> list[int]:
        return sorted(line.number for line in scene.lines(key, "exit") if line.host != first.host)

    eventually(lambda: len(others()) == NODES - 1, "all others leave", 120, pause=0.1)
    starts, done = (scene.lines(key, what) for what in ("start", "done"))
    if len(starts) == 1:
        # The power failed after the end was recorded: no takeover was needed.
        assert others() == [SKIP] * (NODES - 1)
        return Death(None, len(done), unrecorded=False, steps={})
    assert [line.number for line in starts] == [0, 1], "exactly one takes over"
    assert others() == [0] + [SKIP] * (NODES - 2)
    took = steps(list(requests(trace)), first.host, starts[1].host, died_at, starts[1].at) if trace.exists() else {}
    return Death(starts[1].at - died_at, len(done), unrecorded=done[0].host == first.host, steps=took)


def requests(trace: Path) -> Iterator[Request]:
    """Give the requests that runs noted, in the order in which they were sent."""
    sent: dict[tuple[str, int, int], dict[str, Any]] = {}
    answers: dict[tuple[str, int, int], dict[str, Any]] = {}
    for text in trace.read_text().splitlines():
        line = json.loads(text)
        (sent if "what" in line else answers)[line["host"], line["pid"], line["number"]] = line
    for name, line in sorted(sent.items(), key=lambda item: float(item[1]["at"])):
        answer = answers.get(name, {})
        told = str(answer.get("answer", FAILED)), float(answer.get("left", 0.0))
        yield Request(line["host"], line["what"], line["at"], answer.get("at"), *told)


def steps(told: Sequence[Request], dead: str, heir: str, died_at: float, started: float) -> dict[str, float]:
    """Return how long each step took from the death of the host `dead` to the start on `heir`.

    A step that was over before the one before it takes no time.
    """
    # A renewal whose answer the dead run did not live to see may have taken effect.
    kept = [one.sent for one in told if one.host == dead and one.what != "release" and _may_be_granted(one)]
    lapse = max(kept) + TTL
    asked = [one for one in told if one.what == "acquire" and one.host != dead]
    (grant,) = [one for one in asked if one.host == heir and one.answer == GRANTED]
    assert grant.answered is not None
    first = min((one.sent for one in asked if one.sent >= lapse), default=grant.sent)
    between = [one for one in asked if first <= one.sent < grant.sent]
    ends = {
        "lease": lapse,
        "asking": first,
        "kept": grant.sent if any(one.answer == HELD for one in between) or not between else first,
        "failed": grant.sent,
        "grant": grant.answered,
        "start": started,
    }
    took, before = {}, died_at
    for name, end in ends.items():
        took[name] = max(0.0, end - before)
        before = max(before, end)
    return took


def _may_be_granted(request: Request) -> bool:
    return request.answered is None or request.answer == GRANTED


def now() -> float:
    """Return the time of the boot clock, which all machines share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
