"""The actors: runs, standbys, runs by hand, forced releases and runs that give up, by the program's own code."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from cronlock.engines import registry
from cronlock.errors import BackendError
from cronlock.lease import leases, rules, timing
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import EXITED, LOST, STOPPED, Claim, Conflict, Grant, Pause, Stop
from cronlock.lease.watermarks import Watermarks, decode
from cronlock.run.acquisition import Acquisition
from cronlock.run.holding import Access, Holding
from cronlock.run.log import Log
from cronlock.run.standby import Standby

from .monitor import Monitor, Started
from .world import KEY, LATE, Actor

#: Seconds.
TTL, HOLD = 30.0, 10.0


class _Silent(Log):
    __slots__ = ("warned",)

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warned = 0

    def _say(self, level: str, text: str) -> None:
        """Count warnings."""
        self.warned += level == "warning"


class _Interrupted(Exception):
    """A signal arrived during a wait."""


class _Memory(Watermarks):
    """The watermark of one node, in memory."""

    __slots__ = ("_texts",)

    def __init__(self, texts: dict[str, bytes], clock: Any) -> None:
        super().__init__("/nowhere", "simulated", KEY, clock)
        self._texts = texts

    def _read(self) -> dict[str, str]:
        return decode(self._texts.get("text", b""))

    def _write(self, data: bytes) -> None:
        self._texts["text"] = data


def settings(actor: Actor, **changes: Any) -> SimpleNamespace:
    """Return the settings that a run reads."""
    values: dict[str, Any] = {
        "key": KEY,
        "ttl": TTL,
        "min_hold": HOLD,
        "wait": 0.0,
        "standby": 0.0,
        "ignore_hold": False,
        "ignore_pause": False,
        "standby_on": "died",
        "attempts": None,
        "poll": None,
        "success_status": (0,),
        "backend": "simulated:",
        "backend_url": "simulated:",
        "backend_timeout": LATE,
        "on_lost": "stop",
        "state_dir": None,
        "kill_after": 1.0,
        "command": [actor.name],
        "leases": Leases(actor.store, actor.world.clock),
    }
    return SimpleNamespace(**{**values, **changes})


def run(
    monitor: Monitor, *, lasts: float = 1.0, exits: int = 0, memory: dict[str, bytes] | None = None, **changes: Any
) -> Script:
    """Return a script of ``cronlock run`` whose command lasts `lasts` seconds and exits with status `exits`."""

    def script(actor: Actor) -> None:
        wanted, clock, log = settings(actor, **changes), actor.world.clock, _Silent()
        access = Access(wanted, clock, log)  # type: ignore[arg-type]
        if memory is not None:
            access.watermarks = _Memory(memory, clock)
        asked, acquisition = _owners(access), Acquisition(access)
        try:
            answer = acquisition.acquire(actor.pause)
            awaited = answer.run if isinstance(answer, Conflict) else None
            if isinstance(answer, Conflict):
                monitor.refused(actor, asked[-1], answer, wanted)
            if isinstance(answer, Conflict) and wanted.standby:
                answer = Standby(acquisition, wanted.standby, actor.pause).wait(answer)
        except BackendError as error:
            actor.world.tell(f"{actor.name} runs nothing: {error}")
            return
        if isinstance(answer, Conflict):
            actor.world.tell(f"{actor.name} skips: {answer.why}")
            if wanted.standby and awaited is not None:
                monitor.stood_by_in_vain(actor, awaited, answer, wanted)
            return
        _command(monitor, monitor.started(actor, answer), answer, log, lasts, exits)

    return script


def _owners(access: Access) -> list[str]:
    """Return a list to which each acquire adds its owner."""
    asked: list[str] = []
    acquire = access.backend.acquire

    def noted(claim: Claim) -> Grant | Conflict:
        asked.append(claim.owner)
        return acquire(claim)

    access.backend.acquire = noted  # type: ignore[method-assign]
    return asked


def _command(monitor: Monitor, started: Started, held: Holding, log: _Silent, lasts: float, exits: int) -> None:
    """Run a command as wrapper and guard do: the guard kills it at the deadline, whatever the wrapper does."""
    actor, clock = started.actor, started.actor.world.clock
    end = clock.now() + lasts
    while True:
        now = clock.now()
        if min(end, now) >= held.deadline:
            outcome = LOST
            break
        if now >= end:
            outcome = EXITED
            break
        if held.next_renewal is not None and now >= held.next_renewal:
            moved = held.renew()
            monitor.renewed(started, held, moved=moved)
            started.deadline = held.deadline
            if held.lost:
                outcome = LOST
                break
            if held.grant.stop is not None:
                outcome = STOPPED
                break
            continue
        actor.pause(min(end, held.deadline, held.next_renewal or end) - now)
    started.ended(outcome)
    if not held.lost:
        started.ending, started.status, warned = outcome, exits, log.warned
        held.release(outcome, exits, clock.now(), actor.pause)
        started.heard = outcome != LOST and log.warned == warned


def give_up(monitor: Monitor, *, after: float = 0.0, cannot_start: bool = False, **changes: Any) -> Script:
    """Return a script of a run that is interrupted in a sleep `after` seconds after its start, and gives up.

    If it gets the key before, it gives the key back too, or finds that its command `cannot_start`.
    """

    def script(actor: Actor) -> None:
        end = actor.world.clock.now() + after

        def pause(seconds: float, _wake: int | None = None) -> None:
            if seconds > 0:
                actor.pause(min(seconds, end - actor.world.clock.now()))
                if actor.world.clock.now() >= end:
                    raise _Interrupted

        wanted = settings(actor, **changes)
        access = Access(wanted, actor.world.clock, _Silent())  # type: ignore[arg-type]
        acquisition = Acquisition(access)
        asked, failed, recorded, said = _owners(access), actor.failures, False, False
        abandon = access.backend.abandon

        def noted(claim: Claim) -> None:
            nonlocal failed, said
            failed, said = actor.failures, True
            abandon(claim)

        access.backend.abandon = noted  # type: ignore[method-assign]
        try:
            answer = acquisition.acquire(pause)
        except (BackendError, _Interrupted):
            pass
        else:
            if isinstance(answer, Conflict) and wanted.standby:
                answer = Standby(acquisition, wanted.standby, actor.pause).wait(answer)
            recorded = isinstance(answer, Conflict) or cannot_start
            if not isinstance(answer, Conflict):
                (answer.not_started if cannot_start else answer.give_back)()
        if not recorded and asked:
            monitor.gave_up(actor, asked[-1], answered=actor.failures == failed, said=said or not actor.failures)

    return script


def force(monitor: Monitor) -> Script:
    """Return a script of ``cronlock release``, which takes the key from its holder."""

    def script(actor: Actor) -> None:
        leases = Leases(actor.store, actor.world.clock)
        try:
            record = leases.read(KEY)
            run = record and (record.run or record.last)
            if run:
                monitor.forcing(run)
                if leases.force_release(KEY, run.owner):
                    monitor.forced(actor, run)
        except BackendError:
            return

    return script


def pause(monitor: Monitor, lasts: float | None = None) -> Script:
    """Return a script of ``cronlock pause``."""

    def script(actor: Actor) -> None:
        monitor.pausing, began = True, actor.world.clock.now()
        try:
            Leases(actor.store, actor.world.clock).pause(KEY, Pause(actor.name, "h"), lasts)
        except BackendError:
            return
        monitor.paused(float("inf") if lasts is None else began + lasts)

    return script


def stop(monitor: Monitor) -> Script:
    """Return a script of ``cronlock stop``, which asks the holder to end."""

    def script(actor: Actor) -> None:
        leases = Leases(actor.store, actor.world.clock)
        try:
            record = leases.read(KEY)
            if record is not None and record.run is not None:
                monitor.stopping.add(record.run.owner)
                if leases.stop(KEY, Stop(record.run.owner, actor.name, "h")):
                    monitor.stopped(actor, record.run)
        except BackendError:
            return

    return script


def resume(monitor: Monitor) -> Script:
    """Return a script of ``cronlock resume``."""

    def script(actor: Actor) -> None:
        sure = monitor.resuming()
        try:
            Leases(actor.store, actor.world.clock).resume(KEY)
        except BackendError:
            return
        if sure:
            monitor.resumed()

    return script


def forget(monitor: Monitor) -> Script:  # noqa: ARG001 (the world has it check what is removed)
    """Return the script of ``cronlock forget``: somebody removes the record, if nobody used the key for an hour."""

    def script(actor: Actor) -> None:
        try:
            gone = Leases(actor.store, actor.world.clock).forget(KEY, rules.FRESH)
        except BackendError:
            return
        actor.world.tell(f"{actor.name} {'forgets the key' if gone else 'leaves the key'}")

    return script


Script = Callable[[Actor], None]


def patched() -> Any:
    """Return a context in which runs open the leases in their settings."""
    return mock.patch.multiple(registry, open_configured=lambda wanted: wanted.leases, location=lambda url: url)


def without_haste() -> Any:
    """Return a context in which no request runs out of real time: a busy machine is no interleaving."""
    return mock.patch.object(leases, "time", SimpleNamespace(monotonic=lambda: 0.0))


def without_noise() -> Any:
    """Return a context without randomness."""
    return mock.patch.object(timing, "jitter", return_value=0.5)
