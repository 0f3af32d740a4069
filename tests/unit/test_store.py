"""The contract of stores on the simulated store, and stores with one fault each, which it must find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cronlock.lease.store import Cell
from cronlock.testing import StoreContract, StoreHooks
from cronlock.testing.simulated import SimulatedCell, SimulatedClock, SimulatedServer, SimulatedStore


class SimulatedHooks(StoreHooks):
    """Time passes when told."""

    def __init__(self, make: Callable[[SimulatedServer], SimulatedStore] = SimulatedStore) -> None:
        self.clock = SimulatedClock()
        self.server = SimulatedServer(self.clock)
        self.make = make

    def open_store(self) -> SimulatedStore:
        """Return another node's store."""
        return self.make(self.server)

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.time += seconds

    def lapse(self, key: str) -> None:
        """Move the clock until a short lease is over."""
        self.clock.time += self.short_ttl

    def end_hold(self, key: str) -> None:
        """Move the clock until a short hold is over."""
        self.clock.time += self.short_hold


class TestSimulated(StoreContract):
    """All of the contract."""

    @pytest.fixture
    def hooks(self) -> SimulatedHooks:
        """A server of its own for each test."""
        return SimulatedHooks()
