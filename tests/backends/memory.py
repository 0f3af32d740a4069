"""A server in memory with a clock that tests move: the rules in their plainest form."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from cronlock.errors import BackendUnavailable
from cronlock.lease import CANCELLED, FORGOTTEN, HELD, HOLD, Claim, Conflict, Ending, Grant, Record, Run, Traits
from tests.clocks import ManualClock

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
        return self._reply(Record(run=entry.run, remaining=remaining, hold_remaining=hold, last=entry.last))

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
                if taken and entry.run is not None:
                    entry.run, entry.last = None, entry.run
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
        return entry if entry is not None and entry.run is not None and entry.run.owner == claim.owner else None

    def _refusal(self, claim: Claim) -> Conflict | None:
        if (claim.key, claim.owner) in self.server.finished:
            return Conflict(CANCELLED, remaining=0.0)
        entry, now = self.server.entries.get(claim.key), self.server.clock.now()
        if entry is not None:
            run = entry.run or entry.last
            if entry.run is not None and entry.lapse > now:
                if entry.run.owner == claim.owner:
                    return None
                return Conflict(HELD, remaining=entry.lapse - now, run=run, fence=entry.fence)
            # A lease of its own that lapsed before it heard of it leaves a hold of its own.
            mine = entry.run is not None and entry.run.owner == claim.owner
            if entry.hold_until > now and not claim.ignore_hold and not mine:
                return Conflict(HOLD, remaining=entry.hold_until - now, run=run, fence=entry.fence)
        return self._forgotten(claim, entry)

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
            if entry.run is None or entry.run.owner != claim.owner:
                entry.kept = (entry.hold_until, entry.run) if entry.hold_until > clock.now() else (0.0, None)
            entry.lapse = clock.now() + claim.ttl
            entry.hold_until = max(clock.now() + claim.hold, entry.kept[0])
            entry.run = Run(
                owner=claim.owner,
                host=claim.host,
                pid=claim.pid,
                program=claim.program,
                started_at=clock.wall(),
                ttl=claim.ttl,
                fence=entry.fence,
            )
        return Grant(claim, fence=entry.fence, ttl=claim.ttl)
