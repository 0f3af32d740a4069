"""A thousand inputs for each target, always the same ones; `python -m fuzz` feeds as many as one likes."""

from __future__ import annotations

import select
import time

import pytest

from chaos.words import READ
from fuzz import engine
from fuzz.data import Data
from fuzz.targets import TARGETS

_INPUTS = 1000


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_documented_errors(name: str) -> None:
    """Whatever others wrote: what is documented comes out, in time and with little memory."""
    assert engine.feed(name, TARGETS[name], _INPUTS).inputs >= _INPUTS


def test_every_target_is_named() -> None:
    """Where people read of it."""
    assert sorted(READ) == sorted(TARGETS)


def test_a_traceback_is_found() -> None:
    """A target that raises what is not documented fails."""

    def target(data: Data) -> None:
        if data.below(16) == 3:
            raise IndexError("not documented")

    with pytest.raises(IndexError):
        engine.feed("broken", target, 500)


@pytest.mark.parametrize("limit", ["_PATIENCE", "_LONG_PATIENCE"])
def test_hanging_is_found(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that does not come back fails, whether it computes or waits."""
    monkeypatch.setattr(engine, limit, 0.2)

    def target(_data: Data) -> None:
        while limit == "_PATIENCE":
            time.monotonic()
        select.select([], [], [])

    with pytest.raises(engine.Hang):
        engine.feed("hanging", target, 1)


def test_swelling_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that keeps what it is fed fails."""
    monkeypatch.setattr(engine, "_GROWTH", 50 << 20)
    kept: list[bytes] = []

    def target(_data: Data) -> None:
        if len(kept) < 300:
            kept.append(b"x" * (1 << 20))

    with pytest.raises(AssertionError, match="grew"):
        engine.feed("swelling", target, 400)


def test_the_same_inputs_again() -> None:
    """Without a seed the inputs are the same each time; with one they depend on it."""

    def fed(start: int | None) -> list[int]:
        seen: list[int] = []
        engine.feed("listening", lambda data: seen.append(data.below(1 << 24)), 200, start)
        return seen

    assert fed(None) == fed(None)
    assert fed(1) == fed(1) != fed(2)
