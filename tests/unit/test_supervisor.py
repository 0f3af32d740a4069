"""The wrapper beside a running command: what its renewals leave in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cronlock.run.supervisor import Supervisor
from cronlock.testing.simulated import SimulatedClock


@pytest.fixture
def without_collection() -> Iterator[None]:
    """Let a test begin as a run does, whose start disables the garbage collector."""
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


class Renewals:
    """A holding whose renewals are due at once and fail, each with a cycle of references, as errors form them."""

    deadline, next_renewal, lost, grant = 1e9, 0.0, False, None

    def __init__(self) -> None:
        self.errors: list[weakref.ref[Any]] = []

    def renew(self) -> bool:
        """Leave garbage."""
        error = type("Garbage", (), {})()
        error.cause = error
        self.errors.append(weakref.ref(error))
        return False

    def reason(self) -> str:
        """Say why."""
        return "no answer in time"


@pytest.mark.usefixtures("without_collection")
def test_errors_of_renewals_are_collected() -> None:
    """What the start made is set aside once; errors since then are not, however many renewals follow."""
    supervisor = Supervisor.__new__(Supervisor)
    vars(supervisor).update(
        _clock=SimulatedClock(),
        _settings=SimpleNamespace(on_lost="stop"),
        _guard=SimpleNamespace(wake=lambda: None),
        _log=SimpleNamespace(warning=print),
        _listens=False,
        _loss_reported=False,
        _next_poll=None,
        _listen_at=None,
    )
    holding: Any = Renewals()
    for _ in range(3):
        supervisor._act(holding)
    assert gc.isenabled()
    gc.collect()
    assert [error() for error in holding.errors] == [None] * 3
