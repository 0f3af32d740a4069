"""The contract of stores on the simulated store, and on stores with one bug each, which it must find."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cronlock.testing import StoreContract, StoreHooks, fresh_key
from cronlock.testing.simulated import SimulatedClock, SimulatedServer, SimulatedStore

from . import broken_stores


class SimulatedHooks(StoreHooks):
    """Time passes when told."""

    def __init__(self, store: type[SimulatedStore] = SimulatedStore) -> None:
        self.clock = SimulatedClock()
        self.server = SimulatedServer(self.clock)
        self._store = store

    def open_store(self) -> SimulatedStore:
        """Return another node's store."""
        return self._store(self.server)

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


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (broken_stores.Blind, "swap_of_anything_else_is_refused"),
        (broken_stores.Blind, "same_answers_as_the_simulated_store"),
        (broken_stores.Racing, "races_have_one_winner"),
        (broken_stores.Bytes, "same_bytes_move_the_version_on"),
        (broken_stores.FirstComes, "nothing_was_there"),
        (broken_stores.OldNews, "swap_of_anything_else_is_refused"),
        (broken_stores.LeaseEnds, "lease_is_on_until_it_is_ended"),
        (broken_stores.LeaseEnds, "same_answers_as_the_simulated_store"),
        (broken_stores.LeaseStays, "lease_that_another_ends"),
        (broken_stores.LeaseStays, "same_answers_as_the_simulated_store"),
        (broken_stores.HoldShrinks, "hold_is_the_longest_asked_for"),
        (broken_stores.HoldShrinks, "same_answers_as_the_simulated_store"),
        (broken_stores.HoldEnds, "hold_is_the_longest_asked_for"),
        (broken_stores.HoldEnds, "same_answers_as_the_simulated_store"),
        (broken_stores.HoldStays, "hold_as_it_was"),
        (broken_stores.HoldStays, "same_answers_as_the_simulated_store"),
        (broken_stores.HoldNow, "hold_that_is_over_does_not_come_back"),
        (broken_stores.HoldOfNow, "hold_as_it_was"),
        (broken_stores.RecordLapses, "lease_lapses_and_stays_over"),
        (broken_stores.HoldLapses, "lease_lapses_and_stays_over"),
        (broken_stores.LeaseHolds, "lease_lapses_and_stays_over"),
        (broken_stores.NeverLapses, "lease_lapses_and_stays_over"),
        (broken_stores.FloorFalls, "floors_never_go_back"),
        (broken_stores.HugeFloor, "floors_never_go_back"),
        (broken_stores.Strips, "data_comes_back_byte_for_byte"),
        (broken_stores.Cuts, "data_comes_back_byte_for_byte"),
        (broken_stores.Folds, "nasty_keys_stay_distinct"),
        (broken_stores.ListsTwice, "keys_are_listed"),
        (broken_stores.RemovesAll, "removed_as_if_it_had_never_been"),
        (broken_stores.RemovesNothing, "removed_as_if_it_had_never_been"),
        (broken_stores.RemovesNothing, "same_answers_as_the_simulated_store"),
        (broken_stores.LosesCells, "closed_and_used_again"),
    ],
)
def test_contract_finds_a_broken_store(broken: type[SimulatedStore], test: str) -> None:
    """The test that is there for it fails on a store that breaks a promise."""
    assert _fails(f"test_{test}", broken)
    assert not _fails(f"test_{test}", SimulatedStore)


def _fails(name: str, store: type[SimulatedStore]) -> bool:
    """Whether the contract's test fails on such a store, with one of its parameters at least."""
    test: Callable[..., None] = getattr(StoreContract, name)
    (names, values) = next((mark.args for mark in getattr(test, "pytestmark", ())), ("", [None]))
    for value in values:
        hooks = SimulatedHooks(store)
        given: dict[str, Any] = {"hooks": hooks, "open_node": hooks.open_store, "key": fresh_key(), names: value}
        given.update(a=hooks.open_store(), b=hooks.open_store())
        arguments = {one: given[one] for one in inspect.signature(test).parameters if one != "self"}
        try:
            test(TestSimulated(), **arguments)
        except (AssertionError, pytest.fail.Exception):
            return True
    return False
