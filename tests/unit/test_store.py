"""The contract of stores on the simulated store, and on stores with one fault each, which it must find."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from cronlock.lease.store import NO_HOLD, Cell
from cronlock.testing import StoreContract, StoreHooks, fresh_key
from cronlock.testing.simulated import SimulatedCell, SimulatedClock, SimulatedServer, SimulatedStore

if TYPE_CHECKING:
    from cronlock.lease.store import Hold


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


class _Broken(SimulatedStore):
    """A store whose swaps and looks a fault bends."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Return the cell as the fault shows it."""
        return self.shown(key, self.server.show(key))

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Swap as the fault has it."""
        seen, data, lease, hold = self.asked(key, seen, data, lease, hold)
        done = self.server.put(key, seen, data, lease, hold)
        return done, self.shown(key, self.server.show(key))

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Bend what is shown."""
        return cell

    def asked(
        self, key: str, seen: Cell, data: bytes, lease: float | None, hold: Hold
    ) -> tuple[Cell, bytes, float | None, Hold]:
        """Bend what is asked for."""
        return seen, data, lease, hold


class _Blind(_Broken):
    """Overwrites whatever there is."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Take what is there for what was seen."""
        return self.server.show(key), data, lease, hold


class _Racing(_Broken):
    """Compares, and then writes."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Let others write in between."""
        now = self.server.show(key)
        time.sleep(0.01)
        return (self.server.show(key) if now.version == seen.version else seen), data, lease, hold


class _Bytes(_Broken):
    """Takes equal bytes for an equal version."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Compare the bytes."""
        now = self.server.show(key)
        return (now if now.data == seen.data else seen), data, lease, hold


class _FirstComes(_Broken):
    """Overwrites what was made since there was nothing."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Forget to ask for nothing."""
        return (self.server.show(key) if seen.data is None else seen), data, lease, hold


class _OldNews(_Broken):
    """Says of a refused swap what was seen before, not what is there."""

    def swap(self, key, seen, data, *, lease, hold, deadline):  # type: ignore[no-untyped-def]
        """Answer with what was seen."""
        done, cell = super().swap(key, seen, data, lease=lease, hold=hold, deadline=deadline)
        return done, cell if done else seen


class _LeaseEnds(_Broken):
    """Takes None for no lease."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """End it."""
        return seen, data, lease or 0.0, hold


class _LeaseStays(_Broken):
    """Takes 0.0 for None."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease or None, hold


class _HoldShrinks(_Broken):
    """Writes the hold that was asked for, also if the one that is there is longer."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Forget what is there."""
        if isinstance(hold, float) and hold:
            hold = SimulatedCell(hold_until=self.server.now() + hold)
        return seen, data, lease, hold


class _HoldEnds(_Broken):
    """Takes 0.0 for NO_HOLD."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """End it."""
        return seen, data, lease, hold or NO_HOLD


class _HoldStays(_Broken):
    """Never ends a hold."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease, 0.0 if isinstance(hold, Cell) else hold


class _HoldNow(_Broken):
    """Counts the hold of an earlier cell from now on."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Add to it the time that passed."""
        if isinstance(hold, SimulatedCell):
            hold = SimulatedCell(hold_until=self.server.now() + hold.hold)
        return seen, data, lease, hold


class _HoldOfNow(_Broken):
    """Leaves the hold that is there, if there was one before."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease, 0.0 if isinstance(hold, SimulatedCell) and hold.hold else hold


class _RecordLapses(_Broken):
    """Loses the record with the lease."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show nothing."""
        return cell if cell.lease else cell.but(data=None)


class _HoldLapses(_Broken):
    """Loses the hold with the lease."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show none."""
        return cell if cell.lease else cell.but(hold=0.0)


class _LeaseHolds(_Broken):
    """Lets the lease last as long as the hold."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show the longer one."""
        return cell.but(lease=max(cell.lease, cell.hold))


class _NeverLapses(_Broken):
    """Shows a lease that lapsed as one that lasts a moment longer, for ever."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show a second."""
        return cell if cell.data is None else cell.but(lease=max(cell.lease, 1.0))


class _FloorFalls(_Broken):
    """Counts backwards."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show less with each write."""
        return cell.but(floor=10**6 - self.server.writes)


class _HugeFloor(_Broken):
    """Counts in nanoseconds since the big bang."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show too much."""
        return cell.but(floor=1 << 63)


class _Strips(_Broken):
    """Loses white space at the end."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Take the line end off."""
        return seen, data.rstrip(), lease, hold


class _Cuts(_Broken):
    """Keeps so much and no more."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Keep four thousand bytes."""
        return seen, data[:4000], lease, hold


class _Folds(_Broken):
    """Takes upper case for lower case."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Look up in lower case."""
        return super().read(key.lower(), deadline)

    def swap(self, key, seen, data, *, lease, hold, deadline):  # type: ignore[no-untyped-def]
        """Write in lower case."""
        return super().swap(key.lower(), seen, data, lease=lease, hold=hold, deadline=deadline)


class _ListsTwice(_Broken):
    """Lists keys twice."""

    def keys(self) -> Iterator[str]:
        """Say it again."""
        return itertools.chain(super().keys(), super().keys())


class _RemovesAll(_Broken):
    """Removes whatever there is."""

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Take what is there for what was seen."""
        return super().remove(key, self.server.show(key), deadline)


class _RemovesNothing(_Broken):
    """Says that it was done."""

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Do nothing."""
        return self.server.show(key).version == seen.version


class _LosesCells(_Broken):
    """Ends all leases when it is closed."""

    def close(self) -> None:
        """Do what only a release may do."""
        for key in [*self.keys()]:
            cell = self.server.show(key)
            self.server.put(key, cell, cell.data or b"", 0.0, 0.0)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (_Blind, "swap_of_anything_else_is_refused"),
        (_Blind, "same_answers_as_the_simulated_store"),
        (_Racing, "races_have_one_winner"),
        (_Bytes, "same_bytes_move_the_version_on"),
        (_FirstComes, "nothing_was_there"),
        (_OldNews, "swap_of_anything_else_is_refused"),
        (_LeaseEnds, "lease_is_on_until_it_is_ended"),
        (_LeaseEnds, "same_answers_as_the_simulated_store"),
        (_LeaseStays, "lease_that_another_ends"),
        (_LeaseStays, "same_answers_as_the_simulated_store"),
        (_HoldShrinks, "hold_is_the_longest_asked_for"),
        (_HoldShrinks, "same_answers_as_the_simulated_store"),
        (_HoldEnds, "hold_is_the_longest_asked_for"),
        (_HoldEnds, "same_answers_as_the_simulated_store"),
        (_HoldStays, "hold_as_it_was"),
        (_HoldStays, "same_answers_as_the_simulated_store"),
        (_HoldNow, "hold_that_is_over_does_not_come_back"),
        (_HoldOfNow, "hold_as_it_was"),
        (_RecordLapses, "lease_lapses_and_stays_over"),
        (_HoldLapses, "lease_lapses_and_stays_over"),
        (_LeaseHolds, "lease_lapses_and_stays_over"),
        (_NeverLapses, "lease_lapses_and_stays_over"),
        (_FloorFalls, "floors_never_go_back"),
        (_HugeFloor, "floors_never_go_back"),
        (_Strips, "data_comes_back_byte_for_byte"),
        (_Cuts, "data_comes_back_byte_for_byte"),
        (_Folds, "nasty_keys_stay_distinct"),
        (_ListsTwice, "keys_are_listed"),
        (_RemovesAll, "removed_as_if_it_had_never_been"),
        (_RemovesNothing, "removed_as_if_it_had_never_been"),
        (_RemovesNothing, "same_answers_as_the_simulated_store"),
        (_LosesCells, "closed_and_used_again"),
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
