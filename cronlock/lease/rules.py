"""The rules of a lease: who gets a key, and what each step changes in its record.

Pure functions of a store's `Cell` and its decoded `State`. `cronlock.lease.leases` swaps their results into the
store, where each takes effect only if nobody wrote since the cell was read. So a decision stays right until it takes
effect, and a late or doubled request has no effect: it names the version that it was decided on. Giving up, ending
and releasing by force write too, so that earlier decisions are refused.

A *tick* is one firing of a crontab line, named after the owner of its first run (`Run.tick`). A run that reports its
end before anybody else begins its tick has done the tick. One that died, never started, or was stopped because it
lost its lease has not, so a standby may take over; nor has one that gave the key back, which leaves only its fence. A
standby may ask to retry a failed command as well, as one more attempt. A stop request makes the tick done, however its
run ends.
"""

from __future__ import annotations

from . import state as states
from .vocabulary import (
    DEFERRED,
    DIED,
    ENDED,
    HELD,
    HISTORY,
    HOLD,
    NOT_STARTED,
    PAUSED,
    RELEASED,
    STATE_LOST,
    STOPPED,
    UNFINISHED,
    Conflict,
    Record,
    Run,
    Stop,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .state import State
    from .store import Cell
    from .vocabulary import Claim, Ending, Pause

#: The state of a tick: needs no more runs; begun but not ended; not begun.
_DONE, _BEGUN, _OPEN = "done", "begun", "open"
#: Why `cronlock forget` keeps a record, besides HELD, HOLD and PAUSED.
USED = "used"
#: The least age in seconds of a record that may be forgotten: no request is in flight for so long.
FRESH = 3600.0
#: Servers report their uptime in whole seconds, and stores subtract some for safety.
_UPTIME_SLACK = 3.0


def is_run_of(state: State, owner: str) -> bool:
    """True if `owner` was granted the key last and neither ended, nor gave up, nor was released by force.

    Its lease may have lapsed: until somebody else is granted the key, its owner may take it up again.
    """
    return state.run is not None and state.run.owner == owner and state.run.outcome != RELEASED


def pause_left(state: State, now: float) -> float:
    """Return how many seconds of a pause are left: 0.0 without one, infinite without an end.

    `now` is the earliest possible epoch time, so that in doubt the key is still paused.
    """
    if state.paused is None:
        return 0.0
    return float("inf") if state.paused.until is None else max(0.0, state.paused.until - now)


def stop_of(state: State, owner: str) -> Stop | None:
    """Return the stop request for the run of `owner`, or None."""
    return state.stop if state.stop is not None and state.stop.owner == owner else None


def refuse(state: State, claim: Claim, seen: Cell, now: float) -> Conflict | None:
    """Return why `claim` does not get the key, None if it does; `quarantine` decides one further reason.

    `now` is the earliest possible epoch time.
    """
    mine = is_run_of(state, claim.owner)
    fence = state.fence or None
    # A lease of our own that lapsed leaves our own hold.
    respects_hold, last = not (claim.ignore_hold or mine), None
    if claim.standby_for is not None:
        # A retry has begun nothing yet, and the run that it took over from may have reported its end meanwhile.
        others = state.but(run=None) if mine else state
        tick, last = _tick(others, claim, seen)
        if tick == _DONE and seen.lease and others.run is not None and others.run.tick != claim.standby_for:
            # The holder is of another tick, and may give the key back, which restores the state before.
            tick, last = _tick(others.but(run=None), claim, seen)
        if tick == _DONE:
            return Conflict(ENDED, remaining=0.0, run=others.latest, fence=fence)
        # A tick that nobody began has no hold, so a hold belongs to another tick.
        respects_hold = respects_hold and tick == _OPEN
    if mine and seen.lease:
        return None
    if seen.lease:
        return Conflict(HELD, remaining=seen.lease, run=state.run, fence=fence)
    if state.paused is not None and not claim.ignore_pause:
        left = pause_left(state, now)
        if left:
            run = None if mine else state.latest
            return Conflict(PAUSED, remaining=left, run=run, fence=fence, pause=state.paused)
    if claim.defers and last is not None and last.host == claim.host and last.failed(claim.success):
        return Conflict(DEFERRED, remaining=0.1, run=last, fence=fence)
    if seen.hold and respects_hold:
        return Conflict(HOLD, remaining=seen.hold, run=state.latest, fence=fence)
    return None


def may_need_another(run: Run, claim: Claim, *, leased: bool) -> bool:
    """True if a standby with `claim` takes over from `run`, or may have to once that run is over."""
    if run.outcome is None and leased:
        return True
    return claim.on_death if run.unfinished else claim.on_failure and run.failed(claim.success)


def attempts(state: State, tick: str | None) -> int:
    """Return how many recorded runs of a tick began."""
    runs = [run for run in (state.run, *state.history()) if run is not None]
    return sum(run.tick == tick and run.outcome != NOT_STARTED for run in runs)


def _tick(state: State, claim: Claim, seen: Cell) -> tuple[str, Run | None]:
    """Return the state of the tick that a standby waits for, and its last run. A done tick gets no takeover."""
    if state.stop is not None and state.stop.tick == claim.standby_for:
        return _DONE, None
    run = state.latest
    if run is not None and run.tick == claim.standby_for:
        for run in (state.run, *state.history()):
            # Skip runs that never started: the run before one decides, with an end that it may have reported since.
            if run is not None and run.tick == claim.standby_for and run.outcome != NOT_STARTED:
                leased = bool(seen.lease)
                spent = claim.attempts is not None and attempts(state, claim.standby_for) >= claim.attempts
                needed = may_need_another(run, claim, leased=leased) and (leased or not spent)
                return (_BEGUN if needed else _DONE), run
        return _OPEN, None
    # The awaited fence was granted, but no run with it or a later one is on record: that run gave the key back.
    awaited = claim.awaited_fence
    given_back = awaited is not None and awaited <= state.fence and (run is None or (run.fence or 0) < awaited)
    return (_OPEN if given_back else _DONE), None


def has_lost_state(state: State, claim: Claim) -> bool:
    """Return True if the store shows a lower fence than this node's watermark."""
    return claim.watermark is not None and state.fence < max(1, claim.watermark.fence)


def quarantine(state: State, claim: Claim, uptime: float | None, *, evicts: bool) -> Conflict | None:
    """Return a conflict while a lease that the server lost may be in force (see `has_lost_state`), else None.

    If the server started after the watermark was written, every earlier lease is over once it is up for the ttl;
    `uptime` is a lower bound. Otherwise a failover, a flush or a restored backup lost state at an unknown time,
    so the quarantine counts from when this node first noticed. A store that `evicts` unused records may miss one
    without any loss.
    """
    watermark = claim.watermark
    assert watermark is not None
    noticed = watermark.loss_noticed_ago or 0.0
    if uptime is not None and uptime < watermark.age:
        # Within the slack either may have come first: use the one that waits longer.
        waited = uptime if evicts or uptime + _UPTIME_SLACK < watermark.age else min(uptime, noticed)
    elif evicts:
        return None
    else:
        waited = noticed
    if waited >= claim.quarantine:
        return None
    return Conflict(STATE_LOST, remaining=claim.quarantine - waited, run=state.run, fence=state.fence or None)


def grant(state: State, claim: Claim, seen: Cell, at: float) -> State:
    """Return the state after granting the key to `claim`, which is not refused, at epoch time `at`."""
    mine = is_run_of(state, claim.owner)
    if mine and seen.lease:
        return state
    watermark, latest = claim.watermark, state.latest
    fence = max(state.fence + 1, seen.floor, watermark.fence + 1 if watermark is not None else 0)
    took_over = None
    if mine:
        assert state.run is not None
        took_over = state.run.took_over
    elif claim.standby_for is not None:
        dead = latest is not None and latest.tick == claim.standby_for
        took_over = latest.fence if dead and latest is not None else claim.awaited_fence
    run = Run(
        owner=claim.owner,
        host=states.bounded(claim.host),
        pid=claim.pid,
        program=states.bounded(claim.program),
        started_at=at,
        ttl=claim.ttl,
        fence=fence,
        stands_for=claim.standby_for,
        took_over=took_over,
        poll=claim.poll,
    )
    if state.run is not None and not mine:
        state = state.with_past(states.cut_off(state.run))
    # A pause that the claim does not ignore has ended, else it would have been refused.
    paused = state.paused if claim.ignore_pause else None
    # A stop request stays while giving back may make a run of its tick the last one again.
    stop = state.stop if state.run is None else stop_of(state, state.run.owner)
    return state.but(fence=fence, run=run, paused=paused, stop=stop, made_at=None)


def end(state: State, owner: str, ending: Ending, at: float) -> State | None:
    """Return the state after the run of `owner` ended at epoch time `at`; None if that changes nothing.

    `is_run_of` says whether this ends the lease. If another run already has the key, the report changes only the
    history; should that run give the key back, the tick is done. An unfinished run with a stop request counts as
    STOPPED, and the request stays for standbys to see.
    """
    request = stop_of(state, owner)
    if request is not None:
        ending = ending.but(outcome=STOPPED) if ending.outcome in UNFINISHED else ending
    if is_run_of(state, owner):
        assert state.run is not None
        return state.but(run=None, stop=request).with_past(_ended(state.run, ending, at))
    for index, line in enumerate(state.past):
        run = states.readable(line)
        if run is not None and run.owner == owner and run.outcome == DIED:
            ended = _ended(run, ending, at)
            text = states.run_to_line(ended)
            past = (*state.past[:index], text, *state.past[index + 1 :])
            newer = any(other is not None and other.succeeded for other in map(states.readable, state.past[:index]))
            return state.but(past=past, success=text if ended.succeeded and not newer else state.success)
    return None


def _ended(run: Run, ending: Ending, at: float) -> Run:
    return run.but(ended_at=max(at, run.started_at), outcome=ending.outcome, status=ending.status)


def give_back(state: State, replaced: State) -> State:
    """Return the state after the holder gave the key back; `replaced` is the state before its grant.

    Only the fence remains of the run. What others reported meanwhile stays.
    """
    before = replaced.run
    if before is None:
        return state.but(run=None)
    newest = state.but(run=None).latest
    if newest is None or newest.owner != before.owner or newest.outcome not in (DIED, RELEASED):
        return state.but(run=None)
    # The grant moved it into the history, whose oldest run was dropped for it.
    past = state.past[1:] + replaced.past[len(state.past) - 1 :]
    return state.but(run=before, past=past)


def dated(state: State, at: float) -> State:
    """Return the state that is to be written at epoch time `at`, and shows when its record was made if no run does."""
    return state if state.latest is not None or state.made_at is not None else state.but(made_at=at)


def force_release(state: State, owner: str, seen: Cell) -> State | None:
    """Return the state after ending lease and hold of `owner` by force; None if it has neither.

    A run that never ended is marked even if its lease has lapsed, so that no standby takes it over. For the same
    reason the tick of a run that ended gets a stop request.
    """
    run = state.run
    if run is not None:
        if run.owner != owner or (run.outcome == RELEASED and not seen.hold):
            return None
        return state.but(run=run.but(outcome=RELEASED))
    latest = state.latest
    if latest is None or latest.owner != owner or not seen.hold:
        return None
    return state.but(stop=Stop(owner, user="", host="", tick=latest.tick))


def pause(state: State, pause: Pause, seen: Cell) -> State:
    """Return the state with a pause. It uses up a fence, so that a loss of the pause is noticed."""
    reason = states.bounded(pause.reason, states.LONGEST_REASON)
    pause = pause.but(user=states.bounded(pause.user), host=states.bounded(pause.host), reason=reason)
    return dated(state.but(fence=max(state.fence + 1, seen.floor), paused=pause), pause.at)


def resume(state: State, seen: Cell) -> State | None:
    """Return the state without its pause; None if there is no pause."""
    return None if state.paused is None else state.but(fence=max(state.fence + 1, seen.floor), paused=None)


def stop(state: State, stop: Stop, seen: Cell) -> State | None:
    """Return the state with a stop request; None if its run has no lease, or was asked already."""
    if not (seen.lease and is_run_of(state, stop.owner)) or stop_of(state, stop.owner):
        return None
    assert state.run is not None
    user, host = states.bounded(stop.user), states.bounded(stop.host)
    return state.but(stop=stop.but(user=user, host=host, tick=state.run.tick))


def shown(state: State, seen: Cell, now: float) -> Record:
    """Return a key's record for people; `now` is the earliest possible epoch time."""
    run, history = state.run, state.history()
    if run is not None and run.outcome == RELEASED and not seen.lease:
        history, run = [run, *history[: HISTORY - 1]], None
    return Record(
        run=run,
        remaining=seen.lease if run is not None else 0.0,
        hold_remaining=seen.hold,
        history=history,
        success=state.last_success(),
        pause=state.paused if pause_left(state, now) else None,
        stop=None if run is None else stop_of(state, run.owner),
        made_at=state.made_at,
    )


def stays(record: Record, now: float, age: float) -> str | None:
    """Return why a record must not be forgotten: HELD, HOLD, PAUSED or USED within `age` seconds; None if it may.

    A delayed request that was decided on an absent cell would take effect after a removal. So `age` must exceed the
    age of any request in flight (`FRESH`).
    """
    if record.remaining > 0:
        return HELD
    if record.hold_remaining > 0:
        return HOLD
    if record.pause is not None:
        return PAUSED
    used = last_used(record)
    return USED if used is not None and now - used < age else None


def last_used(record: Record) -> float | None:
    """Return the latest recorded epoch time of an active run, else when the record was made; None if unknown."""
    runs = record.runs if record.success is None else [*record.runs, record.success]
    return max((run.ended_at or run.started_at for run in runs), default=record.made_at)
