"""Stores that break one promise each, which the contract of stores must find."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cronlock.lease.store import NO_HOLD, Cell
from cronlock.testing.simulated import SimulatedCell, SimulatedStore

if TYPE_CHECKING:
    from cronlock.lease.store import Hold


class Broken(SimulatedStore):
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


class Blind(Broken):
    """Overwrites whatever there is."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Take what is there for what was seen."""
        return self.server.show(key), data, lease, hold


class Racing(Broken):
    """Compares, and then writes."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Let others write in between."""
        now = self.server.show(key)
        time.sleep(0.01)
        return (self.server.show(key) if now.version == seen.version else seen), data, lease, hold


class Bytes(Broken):
    """Takes equal bytes for an equal version."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Compare the bytes."""
        now = self.server.show(key)
        return (now if now.data == seen.data else seen), data, lease, hold


class FirstComes(Broken):
    """Overwrites what was made since there was nothing."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Forget to ask for nothing."""
        return (self.server.show(key) if seen.data is None else seen), data, lease, hold


class OldNews(Broken):
    """Says of a refused swap what was seen before, not what is there."""

    def swap(self, key, seen, data, *, lease, hold, deadline):  # type: ignore[no-untyped-def]
        """Answer with what was seen."""
        done, cell = super().swap(key, seen, data, lease=lease, hold=hold, deadline=deadline)
        return done, cell if done else seen


class LeaseEnds(Broken):
    """Takes None for no lease."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """End it."""
        return seen, data, lease or 0.0, hold


class LeaseStays(Broken):
    """Takes 0.0 for None."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease or None, hold


class HoldShrinks(Broken):
    """Writes the hold that was asked for, also if the one that is there is longer."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Forget what is there."""
        if isinstance(hold, float) and hold:
            hold = SimulatedCell(hold_until=self.server.now() + hold)
        return seen, data, lease, hold


class HoldEnds(Broken):
    """Takes 0.0 for NO_HOLD."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """End it."""
        return seen, data, lease, hold or NO_HOLD


class HoldStays(Broken):
    """Never ends a hold."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease, 0.0 if isinstance(hold, Cell) else hold


class HoldNow(Broken):
    """Counts the hold of an earlier cell from now on."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Add to it the time that passed."""
        if isinstance(hold, SimulatedCell):
            hold = SimulatedCell(hold_until=self.server.now() + hold.hold)
        return seen, data, lease, hold


class HoldOfNow(Broken):
    """Leaves the hold that is there, if there was one before."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Leave it."""
        return seen, data, lease, 0.0 if isinstance(hold, SimulatedCell) and hold.hold else hold


class RecordLapses(Broken):
    """Loses the record with the lease."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show nothing."""
        return cell if cell.lease else cell.but(data=None)


class HoldLapses(Broken):
    """Loses the hold with the lease."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show none."""
        return cell if cell.lease else cell.but(hold=0.0)


class LeaseHolds(Broken):
    """Lets the lease last as long as the hold."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show the longer one."""
        return cell.but(lease=max(cell.lease, cell.hold))


class NeverLapses(Broken):
    """Shows a lease that lapsed as one that lasts a moment longer, for ever."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show a second."""
        return cell if cell.data is None else cell.but(lease=max(cell.lease, 1.0))


class FloorFalls(Broken):
    """Counts backwards."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show less with each write."""
        return cell.but(floor=10**6 - self.server.writes)


class HugeFloor(Broken):
    """Counts in nanoseconds since the big bang."""

    def shown(self, key: str, cell: SimulatedCell) -> SimulatedCell:
        """Show too much."""
        return cell.but(floor=1 << 63)


class Strips(Broken):
    """Loses white space at the end."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Take the line end off."""
        return seen, data.rstrip(), lease, hold


class Cuts(Broken):
    """Keeps so much and no more."""

    def asked(self, key, seen, data, lease, hold):  # type: ignore[no-untyped-def]
        """Keep four thousand bytes."""
        return seen, data[:4000], lease, hold


class Folds(Broken):
    """Takes upper case for lower case."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Look up in lower case."""
        return super().read(key.lower(), deadline)

    def swap(self, key, seen, data, *, lease, hold, deadline):  # type: ignore[no-untyped-def]
        """Write in lower case."""
        return super().swap(key.lower(), seen, data, lease=lease, hold=hold, deadline=deadline)


class ListsTwice(Broken):
    """Lists keys twice."""

    def keys(self) -> Iterator[str]:
        """Say it again."""
        return itertools.chain(super().keys(), super().keys())


class RemovesAll(Broken):
    """Removes whatever there is."""

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Take what is there for what was seen."""
        return super().remove(key, self.server.show(key), deadline)


class RemovesNothing(Broken):
    """Says that it was done."""

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Do nothing."""
        return self.server.show(key).version == seen.version


class LosesCells(Broken):
    """Ends all leases when it is closed."""

    def close(self) -> None:
        """Do what only a release may do."""
        for key in [*self.keys()]:
            cell = self.server.show(key)
            self.server.put(key, cell, cell.data or b"", 0.0, 0.0)
