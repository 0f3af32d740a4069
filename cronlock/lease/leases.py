"""Leases over any store: read the cell, let the rules decide, swap; if the swap is refused, decide on the new cell.

A grant remembers the cell that it wrote, so that renewal and release take one swap each and no read. It also
remembers what it replaced, to give the key back as it was.
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

#: Seconds that machines' clocks may differ by if they judge a pause because the server has no clock to ask: as much as
#: the default --min-hold tolerates.
CLOCKS_APART = 45.0


class _Attempt:
    """A swap for a grant, which may have taken effect."""

    __slots__ = ("fence", "seen", "state")

    def __init__(self, fence: int, seen: Cell, state: State) -> None:
        self.fence = fence
        #: The cell that it was decided on, and its state.
        self.seen = seen
        self.state = state


class _Requests:
    """The swaps for grants that this process sent for one owner."""

    __slots__ = ("attempts", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.attempts: list[_Attempt] = []

    def before(self, state: State) -> tuple[Cell, State]:
        """Return cell and state before the grant that `state` shows."""
        for one in reversed(self.attempts):
            if state.run is not None and one.fence == state.run.fence:
                return one.seen, one.state
        return NO_HOLD, state.but(run=None)


class _Held:
    """A grant's memory: the key's cell as last written, and the cell before the grant, each with its state."""

    __slots__ = ("at", "before", "cell", "key", "owner", "replaced", "state")

    def __init__(self, claim: Claim, cell: Cell, state: State, at: float, before: Cell, replaced: State) -> None:
        self.key = claim.key
        self.owner = claim.owner
        self.cell = cell
        self.state = state
        #: Boot time at which `cell.time` was read.
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
        self._requests: dict[str, _Requests] = {}

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free, by a read and a swap.

        Raises ConfigError for a hold longer than the store can keep, GivenBack if the server may lose the grant.
        """
        if claim.hold > (longest := self.traits.longest_hold):
            raise ConfigError(
                f"--min-hold {claim.hold:.0f} is longer than this backend can keep: at most {longest:.0f} s"
                f" ({longest / 86400:.0f}d); shorten it (or --every, whose half it is), or use another backend"
            )
        deadline = self._deadline()
        requests = self._requests.get(claim.owner) or _Requests(claim.key)
        asked_at = self._clock.now()
        # A standby needs to know when to ask again.
        cell, at = self.store.read(claim.key, deadline, exact=claim.standby_for is not None), self._clock.now()
        judged, swapped = claim, False
        while True:
            state = self._state(claim.key, cell)
            conflict = rules.refuse(state, judged, cell, self._earliest(cell, at))
            conflict = conflict or self._quarantine(judged, state, deadline)
            if conflict is not None:
                return conflict
            if swapped:
                self._check(deadline, claim.key)
            granted = rules.grant(state, judged, cell, self._server_time(cell, at))
            before, replaced = requests.before(state) if rules.is_run_of(state, claim.owner) else (cell, state)
            assert granted.run is not None
            self._requests[claim.owner] = requests
            requests.attempts.append(_Attempt(granted.run.fence or 0, before, replaced))
            shown_at, asked_at = asked_at, self._clock.now()
            try:
                done, cell, swapped = *self._swap(claim.key, cell, granted, claim.ttl, claim.hold, deadline), True
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
            if state.fence > (judged.watermark.fence if judged.watermark is not None else 0):
                # The server may lose state between two reads, too.
                judged = judged.but(watermark=Watermark(state.fence, at - shown_at, 0.0))

    def renew(self, grant: Grant) -> bool:
        """Extend the lease by one swap; False if this run no longer holds it.

        Lowers `grant.ttl` if the server keeps the lease for a shorter time.
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
        """Return True if somebody wrote since our last swap, by one read."""
        held, deadline = grant.token, self._deadline()
        return isinstance(held, _Held) and self.store.read(held.key, deadline).data != held.cell.data

    def listener(self, key: str) -> Listener | None:
        """Return a listener for others' writes to the key, None without `traits.notifies`."""
        from .listener import listener

        return listener(self.store, key)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End the lease and record how the run ended, by one swap; False if this run did not hold it."""
        deadline = self._deadline()
        held = self._held(grant, deadline)
        while held is not None:
            ours = rules.is_run_of(held.state, held.owner)
            ended = rules.end(held.state, held.owner, ending, self._server_time(held.cell, held.at, ending.ended_at))
            if ended is None:
                break  # Released by force, or by us with the reply lost.
            lease = 0.0 if ours else None
            hold: Hold = held.before if ours and not keep_hold else 0.0
            done, cell = self._swap(held.key, held.cell, ended, lease, hold, deadline)
            held.cell, held.state = cell, ended if done else self._state(held.key, cell)
            if done:
                self._requests.pop(held.owner, None)
                return ours
            self._check(deadline, held.key)
        return False

    def abandon(self, claim: Claim) -> None:
        """Give up: undo an `acquire` whose reply was lost.

        Write even if it has had no effect so far: a delayed request then finds another version and is refused.
        """
        requests = self._requests.get(claim.owner)
        if requests is None or not requests.attempts:
            return
        deadline = self._deadline()
        # A lagging node may not show the grant yet.
        cell = self.store.read(claim.key, deadline, exact=True)
        while True:
            state = self._state(claim.key, cell)
            lease: float | None = None
            hold: Hold = 0.0
            if rules.is_run_of(state, claim.owner):
                before, replaced = requests.before(state)
                lease, hold, state = 0.0, before, rules.give_back(state, replaced)
            elif not any(one.seen.data == cell.data for one in requests.attempts):
                break
            state = rules.dated(state, self._server_time(cell, self._clock.now()))
            try:
                done, cell = self._swap(claim.key, cell, state, lease, hold, deadline)
            except Unacknowledged:
                done = True  # If a promoted replica lacks this write, the lease lapses by itself.
            if done:
                break
            self._check(deadline, claim.key)
        del self._requests[claim.owner]

    def read(self, key: str) -> Record | None:
        """Return the key's record, None if it has none. Changes nothing."""
        cell, at = self.store.read(key, self._deadline(), exact=True), self._clock.now()
        state = self._state(key, cell)
        unused = state.latest is None and not state.success and state.paused is None
        return None if unused else rules.shown(state, cell, self._earliest(cell, at))

    def force_release(self, key: str, owner: str) -> bool:
        """End the lease and the hold of `owner`; False if it has neither."""
        deadline = self._deadline()
        cell = self.store.read(key, deadline, exact=True)
        while True:
            state = self._state(key, cell)
            released = rules.force_release(state, owner, cell)
            if released is None:
                return False
            # A run that was released before keeps its lease until it notices; that lease does not count.
            taken = bool(cell.hold) or (bool(cell.lease) and state.run is not None and state.run.outcome != RELEASED)
            done, cell = self._swap(key, cell, released, 0.0, NO_HOLD, deadline)
            if done:
                return taken
            self._check(deadline, key)

    def pause(self, key: str, pause: Pause, lasts: float | None) -> None:
        """Refuse new runs of the key for `lasts` seconds, or until `resume`."""

        def paused(state: State, cell: Cell) -> State:
            now = self._server_time(cell, self._clock.now())
            return rules.pause(state, pause.but(at=now, until=None if lasts is None else now + lasts), cell)

        self._update(key, paused)

    def stop(self, key: str, stop: Stop) -> bool:
        """Ask the run of `stop.owner` to end; False if it has no lease."""

        def stopped(state: State, cell: Cell) -> State | None:
            return rules.stop(state, stop.but(at=self._server_time(cell, self._clock.now())), cell)

        state, updated = self._update(key, stopped)
        return updated or (rules.is_run_of(state, stop.owner) and rules.stop_of(state, stop.owner) is not None)

    def resume(self, key: str) -> Pause | None:
        """Allow runs again; return the pause that ended, or None."""
        return self._update(key, rules.resume)[0].paused

    def forget(self, key: str, age: float) -> bool:
        """Remove the cell if `rules.stays` permits, by a read and another request; see `Backend.forget`."""
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
        """Return a descriptor that becomes readable when the key may have changed; None: poll instead."""
        return self.store.watch(key)

    def keys(self) -> Iterator[str]:
        """List the keys that have a record."""
        return self.store.keys()

    def close(self) -> None:
        """Close connections, but release nothing."""
        self.store.close()

    def _update(self, key: str, decide: Callable[[State, Cell], State | None]) -> tuple[State, bool]:
        """Swap in what `decide` returns, whoever holds the key; return the state before, and whether it changed."""
        deadline = self._deadline()
        while True:
            # Exact: some servers report the time only then.
            cell = self.store.read(key, deadline, exact=True)
            state = self._state(key, cell)
            updated = decide(state, cell)
            if updated is None or self._swap(key, cell, updated, None, 0.0, deadline)[0]:
                return state, updated is not None
            self._check(deadline, key)

    # One step

    def _deadline(self) -> float:
        return time.monotonic() + self.limit

    def _check(self, deadline: float, key: str) -> None:
        if time.monotonic() >= deadline:
            raise BackendUnavailable(f"{self.store.location(key)}: changes faster than it can be read")

    def _swap(
        self, key: str, seen: Cell, state: State, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        data = encode(state)
        done, cell = self.store.swap(key, seen, data, lease=lease, hold=hold, deadline=deadline)
        # Each text is unique: if a refusal shows ours, the request arrived twice, and the first copy took effect.
        return done or cell.data == data, cell

    def _state(self, key: str, cell: Cell) -> State:
        try:
            return decode(cell.data)
        except ForeignValue as error:
            raise ForeignValue.at(self.store.location(key), error, "name another one in the URL") from None

    def _quarantine(self, claim: Claim, state: State, deadline: float) -> Conflict | None:
        if not rules.has_lost_state(state, claim) or rules.is_run_of(state, claim.owner):
            return None
        return rules.quarantine(state, claim, self.store.uptime(claim.key, deadline), evicts=self.traits.evicts)

    def _held(self, grant: Grant, deadline: float) -> _Held | None:
        """Return the grant's memory, or build it from the present cell; None if another run has the key."""
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
        """Return the earliest possible epoch time; see `_server_time`."""
        return self._server_time(cell, at) - (0.0 if cell.time is not None or self.traits.local else CLOCKS_APART)

    def _server_time(self, cell: Cell, at: float, otherwise: float | None = None) -> float:
        """Return the epoch time by the server's clock, which `cell` shows as of `at`, or else by this machine's."""
        if cell.time is None:
            return self._clock.wall() if otherwise is None else otherwise
        return cell.time + self._clock.now() - at
