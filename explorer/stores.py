"""The stores of actors, on which each call is a request that the explorer decides about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from cronlock.lease.store import Cell
from cronlock.testing.simulated import SimulatedCell, SimulatedServer, SimulatedStore

if TYPE_CHECKING:
    from cronlock.lease.store import Hold

    from .world import Actor


class Call:
    """A request that an actor is about to send."""

    def __init__(self, what: str, carry_out: Callable[[], Any], *, writes: bool, decided_at: float) -> None:
        self.what = what
        self.carry_out = carry_out
        self.writes = writes
        #: When that was read which it was decided on.
        self.decided_at = decided_at


class ActorsStore(SimulatedStore):
    """An actor's store."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor.world.server)
        self._actor = actor
        self._read_at = 0.0

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Ask for the cell."""
        self._read_at = self._actor.world.clock.now()
        answer: Cell = self._ask("reads", lambda: self.server.show(key))
        self._actor.shown.append(answer.data)
        return answer

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Ask for a swap."""
        actor = self._actor

        def carry_out() -> tuple[bool, Cell]:
            done = self.server.put(key, seen, data, lease, hold)
            if done:
                actor.world.wrote(actor, data)
            return done, self.server.show(key)

        answer: tuple[bool, Cell] = self._ask("writes", carry_out, writes=True)
        if not answer[0]:
            self._read_at = actor.world.clock.now()
            actor.shown.append(answer[1].data)
        return answer

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Ask for the cell to be removed."""
        actor = self._actor

        def carry_out() -> bool:
            done = self.server.remove(key, seen)
            if done:
                actor.world.wrote(actor, None)
            return done

        return bool(self._ask("removes", carry_out, writes=True))

    def _ask(self, what: str, carry_out: Callable[[], Any], *, writes: bool = False) -> Any:
        if self._actor.gone:
            raise GreenletExit
        return self._actor.ask(Call(what, carry_out, writes=writes, decided_at=self._read_at))


class WithoutFloor(SimulatedServer):
    """A server whose clock does not make up for a rule about fences that is missing, until it is all that is left."""

    _removed = False

    def show(self, key: str) -> SimulatedCell:
        """Return the present cell."""
        cell = super().show(key)
        return cell if self._removed else cell.but(floor=1)

    def remove(self, key: str, seen: Cell) -> bool:
        """Remove a cell, if nobody wrote since."""
        done = super().remove(key, seen)
        self._removed = self._removed or done
        return done
