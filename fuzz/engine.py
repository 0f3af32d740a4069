"""Feeds a target, counts what it was fed, and turns hanging and swelling into failures."""

from __future__ import annotations

import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from cronlock.errors import CronlockError

from .data import Data

#: What a target is: it makes one input of the data, feeds it, and fails if what comes out is not right.
Target = Callable[[Data], None]

#: Seconds of the processor that one input may take; none needs a hundredth of it. And of the clock, for one
#: that waits: however busy the machine is.
_PATIENCE, _LONG_PATIENCE = 30.0, 900.0
#: Bytes by which feeding one target may make the process grow: Hypothesis's own notes included.
_GROWTH = 400 << 20
_LONGEST = 96
#: Examples of Hypothesis, which remembers all of a round; and inputs made of each.
_ROUND = 5_000
_VARIANTS = 4

#: In every URL, so that it shows when it is told to a person.
SECRET = "s3cret"


class Hang(BaseException):
    """An input took too long. No handler of errors takes it for one of its own."""


@dataclass
class Fed:
    """What a target was fed."""

    name: str
    inputs: int
    seconds: float


def said(error: Exception) -> None:
    """Fail unless the error's text is one line that a person may read."""
    text = str(error)
    assert text, type(error)
    assert "\n" not in text, text
    assert "\r" not in text, text
    assert SECRET not in text, text
    assert len(text) < 5000, len(text)


@contextmanager
def expecting(*kinds: type[CronlockError]) -> Iterator[None]:
    """Let the documented errors pass, once they were looked at."""
    try:
        yield
    except kinds as error:
        said(error)


def feed(name: str, target: Target, inputs: int, start: int | None = None) -> Fed:
    """Feed `target` with so many inputs; raise what it raises. Without `start` they are always the same."""
    before = _size()
    began = time.monotonic()
    fed = 0
    while fed < inputs:
        number = min(_ROUND, -(-(inputs - fed) // _VARIANTS))
        fed += _round(name, target, number, None if start is None else start + fed)
    grown = _size() - before
    assert grown < _GROWTH, f"{name}: grew by {grown >> 20} MiB"
    return Fed(name, fed, time.monotonic() - began)


def _round(name: str, target: Target, examples: int, start: int | None) -> int:
    fed = 0

    def one(data: bytes) -> None:
        nonlocal fed
        for variant in range(_VARIANTS):
            fed += 1
            signal.setitimer(signal.ITIMER_PROF, _PATIENCE)
            signal.setitimer(signal.ITIMER_REAL, _LONG_PATIENCE)
            target(Data(data, variant))

    # One parameter is all that Hypothesis is to see.
    one.__name__ = one.__qualname__ = f"fuzz_{name}"
    test: Any = given(st.binary(max_size=_LONGEST))(one)
    test = settings(
        max_examples=examples,
        derandomize=start is None,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )(test)
    if start is not None:
        test = seed(start)(test)
    before = [(number, signal.signal(number, _hang)) for number in (signal.SIGPROF, signal.SIGALRM)]
    try:
        # Pauses before another attempt are no part of what is tried here.
        with patch("time.sleep"):
            test()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)
    return fed


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hang(f"one input took more than {_PATIENCE:g} s of the processor, or {_LONG_PATIENCE:g} s")


def _size() -> int:
    """Return the largest size that this process had, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
