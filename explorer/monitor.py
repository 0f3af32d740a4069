"""The promises, checked by when commands start and end, not by what the record says."""

from __future__ import annotations

from typing import Any

from cronlock.errors import BackendError
from cronlock.lease.leases import Leases
from cronlock.lease.rules import FRESH
from cronlock.lease.state import State, decode
from cronlock.lease.vocabulary import EXITED, NOT_STARTED, Claim, Conflict, Grant, Run
from cronlock.run.holding import Holding
from cronlock.testing.hooks import make_claim
from cronlock.testing.simulated import SimulatedStore

from .world import KEY, LATE, MOMENT, STEP, Actor, World

#: Seconds by which steps of clocks may shorten a hold.
_TOLERATED = 2 * STEP


class Violation(AssertionError):
    """A promise is broken."""


class Started:
    """One command that was started."""

    def __init__(self, monitor: Monitor, actor: Actor, held: Holding) -> None:
        claim = held.grant.claim
        self.actor = actor
        self.owner = claim.owner
        self.tick = claim.standby_for or claim.owner
        self.takes_over = claim.standby_for is not None
        self.ignores_hold = claim.ignore_hold
        self.fence = held.grant.fence or 0
        self.at = monitor.world.clock.now()
        # The hold counts from the grant; a run asks again if the grant arrives too late.
        granted_at = max(monitor.world.written_at[monitor.last_write(actor)], self.at - LATE)
        self.held_until = granted_at + claim.hold
        self.deadline = held.deadline
        #: The end that it reports, or is about to; and whether the report was answered.
        self.ending: str | None = None
        self.status = 0
        self.heard = False
        self._over: str | None = None
        self.over_at = self.at
        self._monitor = monitor

    def ended(self, outcome: str) -> None:
        """Record that the command is dead."""
        self.over_at = self._monitor.world.clock.now()
        self._over = outcome
        self._monitor.world.tell(f"{self.actor.name}'s command is over: {outcome}")

    @property
    def alive(self) -> bool:
        """True if the command may still run: by the deadline its guard has killed it."""
        return self._over is None and self._monitor.world.clock.now() < self.deadline


class Monitor:
    """The history of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.starts: list[Started] = []
        #: Fences of runs that were, or may have been, released by force; and of those that certainly were, with the
        #: index of that write.
        self._forced: set[int | None] = set()
        self._surely_forced: dict[int | None, int] = {}
        #: True once anybody began to pause the key; the number of writes after a pause that certainly exists, and its
        #: end; true if there certainly is none.
        self.pausing = self._resuming = False
        self._paused: tuple[int, float] | None = None
        self._resumed = False
        #: Owners of runs that somebody began to stop; fences of those that certainly have a stop request, with the
        #: index of that write; and their ticks.
        self.stopping: set[str] = set()
        self._stopped: dict[int | None, int] = {}
        self._stopped_ticks: set[str] = set()
        #: Commands that had been started when somebody last forgot the key: no record need have them.
        self._forgotten: set[str] = set()
        #: Owners that gave up and got an answer.
        self._gave_up: set[str] = set()
        #: True if the server may lose state, which nodes without a watermark cannot notice.
        self.state_lost = False
        world.deadlines = lambda: [one.deadline + MOMENT for one in self.starts if one.alive]  # type: ignore[method-assign]
        world.removed = self._removed  # type: ignore[method-assign]

    def started(self, actor: Actor, held: Holding) -> Started:
        """Record the start of a command, and check that it may start."""
        new, now = Started(self, actor, held), self.world.clock.now()
        self.world.tell(f"{actor.name} starts its command, fence {new.fence}")
        # A takeover continues a tick, so its hold does not apply; a tick that nobody began heeds the hold.
        continues = new.takes_over and any(other.tick == new.tick for other in self.starts)
        # A run that was released by force may not know yet.
        for other in self.starts if new.fence not in self._forced else []:
            forced = other.fence in self._forced
            # After state loss nobody can protect a node that never saw the key.
            watermark = held.grant.claim.watermark
            known = watermark is not None and watermark.fence >= other.fence
            unseen = self.state_lost and not known and not self._was_shown(actor, other.fence)
            if other.alive and not (forced or unseen):
                raise Violation(f"{actor.name} and {other.actor.name} run at the same time")
            if other.fence >= new.fence and not unseen:
                raise Violation(f"{actor.name} has a fence that is not above {other.actor.name}'s")
            within = now < other.held_until - _TOLERATED
            if within and not (forced or continues or new.ignores_hold):
                raise Violation(f"{actor.name} starts within the hold of {other.actor.name}")
            if new.takes_over and other.tick != new.tick and other.fence > (held.grant.claim.awaited_fence or 0):
                raise Violation(f"{actor.name} takes over, and {other.actor.name} had the key since")
            said = self._had_said(other, new.fence, held.grant.claim)
            if new.takes_over and other.tick == new.tick and said and not self._between(other, new):
                raise Violation(f"{actor.name} takes over from {other.actor.name}, whose run ended")
            if new.takes_over and other.fence in self._surely_forced and other.tick == new.tick:
                raise Violation(f"{actor.name} takes over from {other.actor.name}, who was made to end by force")
        claim, before = held.grant.claim, [one for one in self.starts if one.tick == new.tick]
        if claim.attempts is not None and new.takes_over and len(before) >= claim.attempts:
            raise Violation(f"{actor.name} makes attempt {len(before) + 1} of {claim.attempts}")
        if new.takes_over and new.tick in self._stopped_ticks:
            raise Violation(f"{actor.name} takes over from a run that was asked to end")
        if self._paused is not None and not held.grant.claim.ignore_pause:
            behind, until = self._paused
            granted = [index for index, run in enumerate(self._granted()) if run is not None and run.fence == new.fence]
            if granted and granted[0] >= behind and now < until - _TOLERATED:
                raise Violation(f"{actor.name} was granted a key that is paused")
        self.starts.append(new)
        return new

    def paused(self, until: float) -> None:
        """Record that the key is paused until `until`."""
        if not self._resuming:
            self._paused = len(self.world.writes), until

    def resuming(self) -> bool:
        """Record that somebody is about to resume the key; return True if it certainly is paused."""
        sure, self._paused, self._resuming = self._paused is not None, None, True
        return sure

    def resumed(self) -> None:
        """Record that somebody resumed the key, which certainly was paused."""
        self._resumed = True

    def _removed(self, actor: Actor) -> None:
        """Check that the key could be forgotten that `actor` forgets now."""
        now = self.world.clock.now()
        for one in self.starts:
            used_at = one.over_at if one.heard else one.at
            if one.alive or now < one.held_until - _TOLERATED or now - used_at < FRESH - _TOLERATED:
                raise Violation(f"{actor.name} forgets a key that {one.actor.name} has, or had within the hour")
        if self._paused is not None and now < self._paused[1] - _TOLERATED:
            raise Violation(f"{actor.name} forgets a key that is paused")
        self._forgotten = {one.owner for one in self.starts}

    def forcing(self, run: Run) -> None:
        """Record that somebody is about to release `run` by force."""
        self._forced.add(run.fence)

    def forced(self, actor: Actor, run: Run) -> None:
        """Record that `actor` released `run` by force."""
        self._surely_forced[run.fence] = self.last_write(actor)

    def stopped(self, actor: Actor, run: Run) -> None:
        """Record that `actor` asked `run` to end."""
        self._stopped[run.fence] = self.last_write(actor)
        self._stopped_ticks.add(run.tick)

    def renewed(self, started: Started, held: Holding, *, moved: bool) -> None:
        """Check the answer to a renewal, which may arrive after a later release by force."""
        forced_at = self._surely_forced.get(started.fence)
        if moved and forced_at is not None and self.last_write(started.actor) > forced_at:
            raise Violation(f"{started.actor.name} renews a lease that was taken from it by force")
        stopped_at, told = self._stopped.get(started.fence), held.grant.stop is not None
        if moved and not told and stopped_at is not None and self.last_write(started.actor) > stopped_at:
            raise Violation(f"{started.actor.name} renews, and is not told that it is to end")
        if told and started.owner not in self.stopping:
            raise Violation(f"{started.actor.name} is told to end, and nobody asked that")
        if held.lost and started.alive and not self.state_lost and started.fence not in self._forced:
            raise Violation(f"{started.actor.name} is told that its lease is lost although nobody took it")

    def refused(self, actor: Actor, owner: str, answer: Conflict, wanted: Any) -> None:
        """Check that a refusal has a reason; `wanted` are the run's settings."""
        # A pause may refuse a run that was released by force.
        if answer.run is not None and answer.run.owner == owner and answer.why != "paused":
            raise Violation(f"{actor.name} is refused by itself")
        if answer.why == "paused" and (wanted.ignore_pause or not self.pausing):
            raise Violation(f"{actor.name} is refused by a pause that it ignores, or that does not exist")
        if answer.why == "hold" and wanted.ignore_hold:
            raise Violation(f"{actor.name} is refused by a hold that it ignores")
        if answer.why in ("held", "hold") and answer.run is None:
            raise Violation(f"{actor.name} is refused by nobody")
        cell = self.world.server.show(KEY)
        run = decode(cell.data).run
        if cell.lease and run is not None and run.owner in self._gave_up:
            raise Violation(f"{actor.name} is refused, and the key is leased to one that gave up")

    def stood_by_in_vain(self, actor: Actor, awaited: Run, answer: Conflict, wanted: Any) -> None:
        """Check that a standby left for a reason."""
        now = self.world.clock.now()
        others_hold = any(now < one.held_until for one in self.starts if one.tick != awaited.tick)
        if answer.why not in ("ended", "hold") or (answer.why == "hold" and others_hold):
            return
        retries, attempts = wanted.standby_on != "died", [run for run in self._granted() if run is not None]
        spent = wanted.attempts and len({run.fence for run in attempts if run.tick == awaited.tick}) >= wanted.attempts
        ended = [one for one in self.starts if one.tick == awaited.tick and one.ending == EXITED]
        last = max((run.fence or 0 for run in attempts if run.tick == awaited.tick), default=0)
        said = [run.fence for _, data in self.world.writes for run in decode(data).history() if run.outcome == EXITED]
        if wanted.standby_on == "failed" and last not in said:
            return  # The last attempt died, for all that anybody knows.
        done = spent or [one for one in ended if not (retries and one.status)]
        granted = [one for one in self._granted() if one is not None and (one.fence or 0) > (awaited.fence or 0)]
        others = [one for one in granted if one.tick != awaited.tick]
        if not done and not others and not self._forced and not self.stopping:
            raise Violation(f"{actor.name} leaves, and nobody did the tick that it stood by for")

    def gave_up(self, actor: Actor, owner: str, *, answered: bool, said: bool) -> None:
        """Check that a run that gave up restored the record, except the fence.

        `said`: it wrote that, if it had to; `answered`: and got an answer.
        """
        if not said:
            raise Violation(f"{actor.name} may have the key, and gives up without a word")
        if answered:
            self._gave_up.add(owner)
        indices = [index for index, (name, _) in enumerate(self.world.writes) if name == actor.name]
        if not indices or indices != list(range(indices[0], len(self.world.writes))):
            return  # It wrote nothing, or others wrote in between.
        before = decode(self.world.writes[indices[0] - 1][1]) if indices[0] else State()
        after = decode(self.world.writes[-1][1])
        # Its last write may have been refused or be in flight: then the lease lapses by itself.
        if after.latest is not None and after.latest.program == actor.name and not answered:
            return
        if after.but(fence=0, made_at=None) != before.but(fence=0, made_at=None):
            raise Violation(f"{actor.name} gave up and left {after} of {before}")

    def finish(self) -> None:
        """Check the end of the world: the key is free once lease and hold are over."""
        cell = self.world.server.show(KEY)
        self.world.clock.time += max(cell.lease, cell.hold) + MOMENT
        leases = Leases(SimulatedStore(self.world.server), self.world.clock)
        paused = decode(cell.data).paused
        if self._paused is not None and self._paused[1] == float("inf") and paused is None:
            raise Violation("the pause is gone")
        if self._resumed and paused is not None:
            raise Violation("the key was resumed, and is paused")
        try:
            answer = leases.acquire(make_claim(KEY, ttl=30.0).but(ignore_pause=paused is not None))
        except BackendError as error:
            raise Violation(f"the key cannot be acquired: {error}") from error
        if not isinstance(answer, Grant):
            raise Violation(f"a free key is refused: {answer.why}")
        fences = [one.fence for one in self.starts]
        if not self.state_lost and any(fence >= (answer.fence or 0) for fence in fences):
            raise Violation("the fence went back")
        self._check_history(leases)

    def _check_history(self, leases: Leases) -> None:
        record = leases.read(KEY)
        recorded = {run.fence: run for run in record.history} if record is not None else {}
        for one in self.starts if not self.state_lost else []:
            if one.owner in self._forgotten:
                continue
            if one.fence not in recorded:
                raise Violation(f"{one.actor.name} ran, and no record has it")
            outcome = recorded[one.fence].outcome
            if one.heard and outcome != one.ending and one.fence not in self._forced:
                raise Violation(f"{one.actor.name} said {one.ending}, and the record says {outcome}")
            if one.heard and one.ending == outcome == EXITED and not one.status and record.success is None:  # type: ignore[union-attr]
                raise Violation(f"{one.actor.name} succeeded, and no success is recorded")

    def _had_said(self, one: Started, fence: int, claim: Claim) -> bool:
        """Return True if the record showed that a run needs no takeover when `claim` was granted `fence`."""
        history = self._record_before(fence).history()
        said = [run for run in history if run.owner == one.owner and run.outcome == EXITED]
        return any(not (claim.on_failure and run.status) for run in said)

    def _record_before(self, fence: int) -> State:
        """Return the record that a grant of that fence found."""
        before = State()
        for _, data in self.world.writes:
            state = decode(data)
            if state.run is not None and state.run.fence == fence:
                break
            before = state
        return before

    @staticmethod
    def _was_shown(actor: Actor, fence: int) -> bool:
        """Return True if an actor saw that the key had that fence, or a later one."""
        return any(decode(data).fence >= fence for data in actor.shown)

    def _between(self, one: Started, new: Started) -> bool:
        """Whether others may have begun the same tick in between: then what `one` said may have come too late."""
        record = self._record_before(new.fence)
        begun = [run for run in (record.run, *record.history()) if run is not None and run.outcome != NOT_STARTED]
        return any(run.tick == one.tick and one.fence < (run.fence or 0) < new.fence for run in begun)

    def last_write(self, actor: Actor) -> int:
        """Return the index of an actor's last swap that took effect, -1 without one."""
        return max((index for index, (name, _) in enumerate(self.world.writes) if name == actor.name), default=-1)

    def _granted(self) -> list[Run | None]:
        """Return who had the key behind each write."""
        return [decode(data).run for _, data in self.world.writes]
