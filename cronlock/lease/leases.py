"""Leases on any store: read a cell, let the rules decide, swap; decide again on what is there if that was refused.

A grant keeps the cell that it left, so that a renewal and a release are one swap each, without reading first. It
also keeps what it replaced, to give the key back as it was.
"""

from __future__ import annotations

import time

from ..errors import BackendUnavailable, ConfigError, ForeignValue, GivenBack, Unacknowledged
from . import rules
from .clock import SystemClock
from .state import State, decode, encode
from .store import NO_HOLD, Cell
from .vocabulary import RELEASED, Conflict, Grant, Watermark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .clock import Clock
    from .listener import Listener
    from .store import Hold, Store
    from .vocabulary import Claim, Ending, Pause, Record, Stop, Traits

#: Seconds that machines' clocks may differ by where a pause is judged by them, since the server has no clock to ask:
#: as much as the default --min-hold bears.
CLOCKS_APART = 45.0


class _Attempt:
    """A swap that was to grant the key, and may have been carried out."""

    __slots__ = ("fence", "seen", "state")

    def __init__(self, fence: int, seen: Cell, state: State) -> None:
        self.fence = fence
        #: The cell that it was decided on, and its state.
        self.seen = seen
        self.state = state


class _Asked:
    """What this process asked for in the name of one owner."""

    __slots__ = ("attempts", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.attempts: list[_Attempt] = []

    def before(self, state: State) -> tuple[Cell, State]:
        """Return what the grant replaced that `state` shows."""
        for one in reversed(self.attempts):
            if state.run is not None and one.fence == state.run.fence:
                return one.seen, one.state
        return NO_HOLD, state.but(run=None)


class _Held:
    """What a grant keeps: the key's cell as it left it, and the cell that it replaced, each with its state."""

    __slots__ = ("at", "before", "cell", "key", "owner", "replaced", "state")

    def __init__(self, claim: Claim, cell: Cell, state: State, at: float, before: Cell, replaced: State) -> None:
        self.key = claim.key
        self.owner = claim.owner
        self.cell = cell
        self.state = state
        #: The boot time at which the server's time was read that is in `cell`.
        self.at = at
        self.before = before
        self.replaced = replaced


class Leases:
    """The `Backend` protocol (see `cronlock.lease.vocabulary`) over a store."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.store = store
        self.traits: Traits = store.traits
        self.limit = store.timeout
        self.notices = store.notices
        self._clock: Clock = clock or SystemClock()
        self._asked: dict[str, _Asked] = {}

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free, by a read and a swap.

        Raises ConfigError for a hold that the store cannot keep, GivenBack when it is not sure to have kept the grant.
        """
        longest = self.traits.longest_hold
        if claim.hold > longest:
            raise ConfigError(
                f"--min-hold {claim.hold:.0f} is longer than this backend can keep: at most {longest:.0f} s"
                f" ({longest / 86400:.0f}d); shorten it (or --every, whose half it is), or use another backend"
            )
        deadline = self._deadline()
        asked = self._asked.get(claim.owner) or _Asked(claim.key)
        # A standby asks again when the lease can have lapsed.
        cell, at = self.store.read(claim.key, deadline, exact=claim.standby_for is not None), self._clock.now()
        judged = claim
        while True:
            state = self._state(claim.key, cell)
            conflict = rules.refuse(state, judged, cell, self._earliest(cell, at))
            conflict = conflict or self._forgotten(judged, state, deadline)
            if conflict is not None:
                return conflict
            granted = rules.grant(state, judged, cell, self._server_time(cell, at))
            before, replaced = asked.before(state) if rules.is_run_of(state, claim.owner) else (cell, state)
            assert granted.run is not None
            self._asked[claim.owner] = asked
            asked.attempts.append(_Attempt(granted.run.fence or 0, before, replaced))
            try:
                done, cell = self._swap(claim.key, cell, granted, claim.ttl, claim.hold, deadline)
            except Unacknowledged as error:
                self.abandon(claim)
                raise GivenBack(f"{error}; the lease was given back") from error
            at = self._clock.now()
            if done:
                held = _Held(claim, cell, granted, at, before, replaced)
                former = replaced.latest if claim.standby_for else None
                return Grant(
                    claim,
                    fence=granted.run.fence,
                    ttl=min(claim.ttl, cell.lease or claim.ttl),
                    token=held,
                    descriptor=cell.descriptor,
                    previous=replaced.latest,
                    took_over=granted.run.took_over,
                    attempt=1 + rules.attempts(replaced, claim.standby_for) if claim.standby_for else 1,
                    previous_status=former.status if former and former.tick == claim.standby_for else None,
                )
            self._check(deadline, claim.key)
            if state.fence > (judged.watermark.fence if judged.watermark is not None else 0):
                # Should the server have lost what it showed just now.
                judged = judged.but(watermark=Watermark(fence=state.fence, age=0.0, loss_noticed_ago=0.0))

    def renew(self, grant: Grant) -> bool:
        """Let the lease last as long as the claim asks for from now on, by one swap; False if it is not ours.

        Lowers `grant.ttl` where the server keeps it for a shorter time.
        """
        deadline = self._deadline()
        held = self._held(grant, deadline)
        while held is not None and rules.is_run_of(held.state, held.owner):
            at = self._clock.now()
            done, cell = self._swap(held.key, held.cell, held.state, grant.claim.ttl, 0.0, deadline)
            state = held.state if done else self._state(held.key, cell)
            held.cell, held.state, held.at = cell, state, at
            if done:
                grant.ttl = min(grant.ttl, cell.lease or grant.ttl)
                grant.stop = rules.stop_of(state, held.owner)
                return True
            self._check(deadline, held.key)
        return False

    def stop_requested(self, grant: Grant) -> bool:
        """Whether somebody wrote since our last word, by one read."""
        held, deadline = grant.token, self._deadline()
        return isinstance(held, _Held) and self.store.read(held.key, deadline).data != held.cell.data

    def listener(self, key: str) -> Listener | None:
        """Return what hears of others' writes to the key, None where nothing does."""
        from .listener import listener

        return listener(self.store, key)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended, by one swap; False if it was not ours."""
        deadline = self._deadline()
        held = self._held(grant, deadline)
        while held is not None:
            ours = rules.is_run_of(held.state, held.owner)
            ended = rules.end(held.state, held.owner, ending, self._server_time(held.cell, held.at, ending.ended_at))
            if ended is None:
                break  # Forced out; or released already, and only the answer was lost.
            lease = 0.0 if ours else None
            hold: Hold = held.before if ours and not keep_hold else 0.0
            done, cell = self._swap(held.key, held.cell, ended, lease, hold, deadline)
            held.cell, held.state = cell, ended if done else self._state(held.key, cell)
            if done:
                self._asked.pop(held.owner, None)
                return ours
            self._check(deadline, held.key)
        return False

    def abandon(self, claim: Claim) -> None:
        """Give up: undo what an `acquire` may have done whose answer never came.

        Writes also where that is still on its way, so that it finds another version than it was decided on.
        """
        asked = self._asked.get(claim.owner)
        if asked is None or not asked.attempts:
            return
        deadline = self._deadline()
        # A node that is behind would show nothing to undo.
        cell = self.store.read(claim.key, deadline, exact=True)
        while True:
            state = self._state(claim.key, cell)
            lease: float | None = None
            hold: Hold = 0.0
            if rules.is_run_of(state, claim.owner):
                before, replaced = asked.before(state)
                lease, hold, state = 0.0, before, rules.give_back(state, replaced)
            elif not any(one.seen.data == cell.data for one in asked.attempts):
                break
            state = rules.dated(state, self._server_time(cell, self._clock.now()))
            try:
                done, cell = self._swap(claim.key, cell, state, lease, hold, deadline)
            except Unacknowledged:
                done = True  # A replica that is promoted without it shows a lease that lapses by itself.
            if done:
                break
            self._check(deadline, claim.key)
        del self._asked[claim.owner]

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, changing nothing; None if there is no record."""
        cell, at = self.store.read(key, self._deadline(), exact=True), self._clock.now()
        state = self._state(key, cell)
        unused = state.latest is None and not state.success and state.paused is None
        return None if unused else rules.shown(state, cell, self._earliest(cell, at))

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`, whoever asks; False if it was not theirs."""
        deadline = self._deadline()
        cell = self.store.read(key, deadline, exact=True)
        while True:
            state = self._state(key, cell)
            released = rules.force_release(state, owner, cell)
            if released is None:
                return False
            # What of a run that was made to end before: its lease is there as long as it takes to notice.
            taken = bool(cell.hold) or (bool(cell.lease) and state.run is not None and state.run.outcome != RELEASED)
            done, cell = self._swap(key, cell, released, 0.0, NO_HOLD, deadline)
            if done:
                return taken
            self._check(deadline, key)

    def pause(self, key: str, pause: Pause, lasts: float | None) -> None:
        """Let no run of the key start from now on, for so many seconds or until `resume`."""

        def paused(state: State, cell: Cell) -> State:
            now = self._server_time(cell, self._clock.now())
            return rules.pause(state, pause.but(at=now, until=None if lasts is None else now + lasts), cell)

        self._tell(key, paused)

    def stop(self, key: str, stop: Stop) -> bool:
        """Ask the run of `stop.owner` to end; False if it has no lease."""

        def stopped(state: State, cell: Cell) -> State | None:
            return rules.stop(state, stop.but(at=self._server_time(cell, self._clock.now())), cell)

        state, told = self._tell(key, stopped)
        return told or (rules.is_run_of(state, stop.owner) and rules.stop_of(state, stop.owner) is not None)

    def resume(self, key: str) -> Pause | None:
        """Let runs start again; return the pause that there was, None without one."""
        return self._tell(key, rules.resume)[0].paused

    def forget(self, key: str, age: float) -> bool:
        """Remove the cell if `rules.stays` lets it go, by a read and another request; see `Backend.forget`."""
        deadline = self._deadline()
        while True:
            cell, at = self.store.read(key, deadline, exact=True), self._clock.now()
            record = rules.shown(self._state(key, cell), cell, self._earliest(cell, at))
            if rules.stays(record, self._server_time(cell, at), age) is not None:
                return False
            if cell.data is None or self.store.remove(key, cell, deadline):
                return True
            self._check(deadline, key)

    def watch(self, key: str) -> int | None:
        """Return a descriptor that can be read once the key may have changed; None where nothing tells."""
        return self.store.watch(key)

    def keys(self) -> Iterator[str]:
        """List the keys that have a record."""
        return self.store.keys()

    def close(self) -> None:
        """Let go of connections; never of a lease."""
        self.store.close()

    def _tell(self, key: str, decide: Callable[[State, Cell], State | None]) -> tuple[State, bool]:
        """Put what is decided into the record, whoever has the key; return what that replaced, and whether it did."""
        deadline = self._deadline()
        while True:
            # Exactly: some servers tell the time only then.
            cell = self.store.read(key, deadline, exact=True)
            state = self._state(key, cell)
            told = decide(state, cell)
            if told is None or self._swap(key, cell, told, None, 0.0, deadline)[0]:
                return state, told is not None
            self._check(deadline, key)

    # One step

    def _deadline(self) -> float:
        return time.monotonic() + self.limit

    def _check(self, deadline: float, key: str) -> None:
        if time.monotonic() >= deadline:
            raise BackendUnavailable(f"{self.store.location(key)}: changes faster than it can be looked at")

    def _swap(
        self, key: str, seen: Cell, state: State, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        data = encode(state)
        done, cell = self.store.swap(key, seen, data, lease=lease, hold=hold, deadline=deadline)
        # No two texts are the same: if ours is there, the request came in twice, and the first time it was done.
        return done or cell.data == data, cell

    def _state(self, key: str, cell: Cell) -> State:
        try:
            return decode(cell.data)
        except ForeignValue as error:
            raise ForeignValue.at(self.store.location(key), error, "name another one in the URL") from None

    def _forgotten(self, claim: Claim, state: State, deadline: float) -> Conflict | None:
        if not rules.has_lost_state(state, claim) or rules.is_run_of(state, claim.owner):
            return None
        return rules.quarantine(state, claim, self.store.uptime(claim.key, deadline), evicts=self.traits.evicts)

    def _held(self, grant: Grant, deadline: float) -> _Held | None:
        """Return what the grant keeps; what is there now if that is another's."""
        claim, held = grant.claim, grant.token
        if isinstance(held, _Held) and (held.key, held.owner) == (claim.key, claim.owner):
            return held
        cell = self.store.read(claim.key, deadline, exact=True)
        state = self._state(claim.key, cell)
        if not rules.is_run_of(state, claim.owner):
            return None
        grant.token = held = _Held(claim, cell, state, self._clock.now(), NO_HOLD, State())
        return held

    def _earliest(self, cell: Cell, at: float) -> float:
        """Return the earliest that epoch time can be now; see `_server_time`."""
        return self._server_time(cell, at) - (0.0 if cell.time is not None or self.traits.local else CLOCKS_APART)

    def _server_time(self, cell: Cell, at: float, otherwise: float | None = None) -> float:
        """Return the epoch time now, by the clock of the server if it has one: `cell` shows it as it was at `at`."""
        if cell.time is None:
            return self._clock.wall() if otherwise is None else otherwise
        return cell.time + self._clock.now() - at
