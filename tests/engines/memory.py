"""A server in memory with a clock that tests move: the rules in their plainest form."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import TypeVar

from cronlock.errors import BackendUnavailable
from cronlock.lease.record import cut_off, released, with_run
from cronlock.lease.vocabulary import (
    CANCELLED,
    ENDED,
    FORGOTTEN,
    HELD,
    HOLD,
    Claim,
    Conflict,
    Ending,
    Grant,
    Record,
    Run,
    Traits,
)
from labs.clocks import ManualClock

_T = TypeVar("_T")


class _Entry:
    """What the server knows of one key."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.lapse = 0.0
        self.hold_until = 0.0
        #: The end of a hold that `run` was told to ignore, and the run that left it, if that died.
        self.kept: tuple[float, Run | None] = (0.0, None)
        self.last: Run | None = None
        self.history: list[Run] = []
        self.success: Run | None = None
        self.fence = 0


class MemoryServer:
    """The server: any number of `MemoryBackend` share one."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.entries: dict[str, _Entry] = {}
        #: (key, owner) that released or gave up.
        self.finished: set[tuple[str, str]] = set()
        self.started = clock.now()
        self.lock = threading.Lock()
        #: Requests do not arrive.
        self.unreachable = False
        #: Requests arrive and are done, and their answers are lost.
        self.loses_replies = False

    @property
    def uptime(self) -> float:
        """Seconds since it started."""
        return self.clock.now() - self.started

    def restart(self, *, lose: bool) -> None:
        """Start again, without what it knew if `lose`."""
        self.started = self.clock.now()
        if lose:
            self.entries.clear()
            self.finished.clear()


class MemoryBackend:
    """One node's way to the server."""

    traits = Traits(fencing=True, shortest_ttl=0.1, longest_ttl=1e6)

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.notices: list[str] = []
        #: The names of the requests made, for tests of who asked what.
        self.requests: list[str] = []

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if the rules give it."""
        with self._request("acquire"):
            answer = self._refusal(claim) or self._grant(claim)
        return self._reply(answer)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last from now on, unless another has had the key since."""
        with self._request("renew"):
            entry = self._ours(grant.claim)
            if entry is not None:
                entry.lapse = self.server.clock.now() + grant.ttl
        return self._reply(entry is not None)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """Record the end and free the key."""
        with self._request("release"):
            claim = grant.claim
            entry = self._ours(claim)
            if entry is not None:
                assert entry.run is not None
                entry.last, entry.run, entry.lapse = entry.run, None, 0.0
                entry.last.ended_at = self.server.clock.wall()
                entry.last.outcome, entry.last.status = ending.outcome, ending.status
                entry.history = with_run(entry.history, entry.last)
                entry.success = entry.last if entry.last.succeeded else entry.success
                entry.hold_until = entry.hold_until if keep_hold else entry.kept[0]
            self.server.finished.add((claim.key, claim.owner))
        return self._reply(entry is not None)

    def abandon(self, claim: Claim) -> None:
        """Free the key if it is ours, and refuse the owner from now on."""
        with self._request("abandon"):
            entry = self._ours(claim)
            if entry is not None:
                entry.lapse = 0.0
                entry.hold_until, entry.run = entry.kept
            self.server.finished.add((claim.key, claim.owner))
        self._reply(None)

    def read(self, key: str) -> Record | None:
        """Return the record."""
        with self._request("read"):
            entry, now = self.server.entries.get(key), self.server.clock.now()
        if entry is None:
            return self._reply(None)
        remaining = max(0.0, entry.lapse - now) if entry.run else 0.0
        hold = max(0.0, entry.hold_until - now)
        forced = entry.run is not None and (key, entry.run.owner) in self.server.finished
        history = [run for run in entry.history if entry.run is None or run.owner != entry.run.owner]
        return self._reply(
            Record(
                run=released(entry.run, by_force=forced),
                remaining=remaining,
                hold_remaining=hold,
                last=entry.last,
                history=history,
                success=entry.success,
            )
        )

    def watch(self, key: str) -> None:
        """Tell nothing."""

    def keys(self) -> Iterator[str]:
        """List the keys."""
        with self._request("keys"):
            names = list(self.server.entries)
        return iter(self._reply(names))

    def force_release(self, key: str, owner: str) -> bool:
        """End the lease and the hold of `owner`."""
        with self._request("force_release"):
            entry, now = self.server.entries.get(key), self.server.clock.now()
            latest = (entry.run or entry.last) if entry is not None else None
            taken = False
            if entry is not None and latest is not None and latest.owner == owner:
                taken = entry.lapse > now or entry.hold_until > now
                entry.lapse = entry.hold_until = 0.0
                entry.kept = (0.0, None)
                self.server.finished.add((key, owner))
        return self._reply(taken)

    def close(self) -> None:
        """Do nothing."""

    def _request(self, name: str) -> threading.Lock:
        self.requests.append(name)
        if self.server.unreachable:
            raise BackendUnavailable("memory: unreachable")
        return self.server.lock

    def _reply(self, answer: _T) -> _T:
        if self.server.loses_replies:
            raise BackendUnavailable("memory: no answer in time")
        return answer

    def _ours(self, claim: Claim) -> _Entry | None:
        entry = self.server.entries.get(claim.key)
        gone = (claim.key, claim.owner) in self.server.finished
        return (
            entry
            if entry is not None and entry.run is not None and entry.run.owner == claim.owner and not gone
            else None
        )

    def _refusal(self, claim: Claim) -> Conflict | None:
        if (claim.key, claim.owner) in self.server.finished:
            return Conflict(CANCELLED, remaining=0.0)
        entry, now = self.server.entries.get(claim.key), self.server.clock.now()
        if entry is not None:
            run = entry.run or entry.last
            live = entry.run is not None and entry.lapse > now
            if live and entry.run is not None and entry.run.owner == claim.owner:
                return None
            if claim.standby_for is not None and not self._may_take_over(claim, entry, live=live):
                return Conflict(ENDED, remaining=0.0, run=run, fence=entry.fence)
            if live:
                return Conflict(HELD, remaining=entry.lapse - now, run=run, fence=entry.fence)
            # A lease of its own that lapsed before it heard of it leaves a hold of its own.
            mine = entry.run is not None and entry.run.owner == claim.owner
            if entry.hold_until > now and not (claim.ignore_hold or mine or claim.standby_for):
                return Conflict(HOLD, remaining=entry.hold_until - now, run=run, fence=entry.fence)
        elif claim.standby_for is not None:
            return Conflict(ENDED, remaining=0.0)
        return self._forgotten(claim, entry)

    def _may_take_over(self, claim: Claim, entry: _Entry, *, live: bool) -> bool:
        run = entry.run or entry.last
        if run is None or run.tick != claim.standby_for or not run.undone:
            return False
        # Who gave back what it did not run has ended by its own word; who has not, was forced out.
        return live or entry.run is None or (claim.key, run.owner) not in self.server.finished

    def _forgotten(self, claim: Claim, entry: _Entry | None) -> Conflict | None:
        """The rule of the server that may have lost a lease that is still out."""
        sight = claim.sight
        if sight is None or (entry is not None and entry.fence >= sight.floor):
            return None
        waited = self.server.uptime if self.server.uptime < sight.age else sight.noticed_age or 0.0
        if waited >= claim.doubt:
            return None
        return Conflict(FORGOTTEN, remaining=claim.doubt - waited, fence=entry.fence if entry is not None else None)

    def _grant(self, claim: Claim) -> Grant:
        entry, clock = self.server.entries.setdefault(claim.key, _Entry()), self.server.clock
        if entry.run is None or entry.run.owner != claim.owner or entry.lapse <= clock.now():
            floor = claim.sight.floor if claim.sight is not None else 0
            entry.fence = max(entry.fence + 1, floor + 1, int(clock.wall() * 1e6))
            previous = entry.run or entry.last
            again = entry.run is not None and entry.run.owner == claim.owner
            took_over = None if claim.standby_for is None or previous is None else previous.fence
            if again:
                assert entry.run is not None
                took_over = entry.run.took_over
            else:
                holds = entry.hold_until > clock.now() or claim.standby_for is not None
                entry.kept = (entry.hold_until, entry.run) if holds else (0.0, None)
                if entry.run is not None:
                    forced = (claim.key, entry.run.owner) in self.server.finished
                    entry.history = with_run(entry.history, cut_off(copy.copy(entry.run), by_force=forced))
            entry.lapse = clock.now() + claim.ttl
            own = entry.hold_until if again else 0.0
            entry.hold_until = max(clock.now() + claim.hold if claim.hold else 0.0, entry.kept[0], own)
            entry.run = Run(
                owner=claim.owner,
                host=claim.host,
                pid=claim.pid,
                program=claim.program,
                started_at=clock.wall(),
                ttl=claim.ttl,
                fence=entry.fence,
                stands_for=claim.standby_for,
                took_over=took_over,
            )
            return Grant(claim, fence=entry.fence, ttl=claim.ttl, previous=previous, took_over=took_over)
        return Grant(claim, fence=entry.fence, ttl=claim.ttl, took_over=entry.run.took_over)
