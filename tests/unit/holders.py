"""A run's dealings with leases on the simulated store: single requests go wrong, and the clock is in hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cronlock.config import settings
from cronlock.engines import registry
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease import timing
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import EXITED, Claim, Conflict, Ending, Grant
from cronlock.run.acquisition import Acquisition
from cronlock.run.holding import Access, Holding
from cronlock.run.log import Log
from cronlock.testing.simulated import SimulatedClock, SimulatedServer, SimulatedStore

from . import leases_bench

_Answer = TypeVar("_Answer")

TTL = 30.0
#: What becomes of a request. A late one is carried out by the server when the next one was; one that is not
#: sent lacks credentials, say.
FINE, LOST_REQUEST, LOST_REPLY, LATE, GIVEN_BACK = "fine", "lost request", "lost reply", "late", "given back"
NOT_SENT = "not sent"
#: The server takes the request and never answers.
HUNG = "hung"


class Interrupted(Exception):
    """A signal came while the run waited."""


class Way(Leases):
    """A way to the server on which single requests go wrong; each takes a second."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.server = SimulatedServer(clock)
        self.swaps = leases_bench.Way(self.server)
        super().__init__(self.swaps, clock)
        self.clock = clock
        #: What becomes of the next requests of each kind; FINE when used up.
        self.acquires: list[str] = []
        self.renewals: list[str] = []
        self.releases: list[str] = []
        #: Until when each release is refused, at once; and how often one was asked for.
        self.down_until = 0.0
        self.asked_to_release = 0
        #: The owners that asked, in order, and those that were abandoned.
        self.owners: list[str] = []
        self.abandoned: list[str] = []
        #: The fate of the requests to give up.
        self.abandons: list[str] = []

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key, unless the way to it fails."""
        fate = self._sent(self.acquires)
        self.owners.append(claim.owner)
        if fate in (LATE, GIVEN_BACK):
            # Both are of the swap: what is refused is refused at once.
            self.swaps.fates = [leases_bench.LATE if fate == LATE else leases_bench.UNACKNOWLEDGED]
        answer = super().acquire(claim)
        self.swaps.fates.clear()
        return self._answered(fate, answer)

    def renew(self, grant: Grant) -> bool:
        """Renew, unless the way to it fails."""
        fate = self._sent(self.renewals)
        return self._answered(fate, super().renew(grant))

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """Release, unless the way to it fails, or is down."""
        self.asked_to_release += 1
        if self.down_until > self.clock.now():
            raise BackendUnavailable("connection refused")
        fate = self._sent(self.releases)
        return self._answered(fate, super().release(grant, ending, keep_hold=keep_hold))

    def abandon(self, claim: Claim) -> None:
        """Give up."""
        self.abandoned.append(claim.owner)
        if self.abandons:
            self._sent(self.abandons)
        super().abandon(claim)

    def late_requests_arrive(self) -> list[bool]:
        """Let the server carry out what was under way; return whether it did."""
        return self.swaps.deliver()

    def another(self) -> Leases:
        """Return another node."""
        return Leases(SimulatedStore(self.server), self.clock)

    def _sent(self, fates: list[str]) -> str:
        fate = fates.pop(0) if fates else FINE
        self.clock.advance(1.0)
        if fate == HUNG:
            self.clock.advance(self.limit - 1.0)
            raise BackendUnavailable("no answer in time")
        if fate == LOST_REQUEST:
            raise BackendUnavailable("unreachable")
        if fate == NOT_SENT:
            raise ConfigError("no credentials")
        return fate

    def _answered(self, fate: str, answer: _Answer) -> _Answer:
        if fate == LOST_REPLY:
            raise BackendUnavailable("no answer in time")
        return answer


class Lines(Log):
    """A log that keeps what is said."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def _say(self, level: str, text: str) -> None:
        self.said.append((level, text))

    def of(self, level: str) -> list[str]:
        """Return what was said at `level`."""
        return [text for its, text in self.said if its == level]


class Bench:
    """A run between a way to the server and a clock that it moves by its pauses."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **given: str) -> None:
        self.clock = SimulatedClock()
        self.way = Way(self.clock)
        self.log = Lines()
        self.pauses: list[float] = []
        #: Called while the run waits.
        self.meanwhile: Callable[[], object] = lambda: None
        monkeypatch.setattr(registry, "open_backend", lambda *_: self.way)
        (folder / "conf").touch()
        options = {"ttl": f"{TTL}", "key": "k", "config": f"{folder}/conf", "state_dir": f"{folder}", **given}
        kept = settings.load({"backend": "memory://here", **options}, ["true"], {})
        self.acquisition = Acquisition(Access(kept, self.clock, self.log))

    def pause(self, seconds: float, wake: int | None = None) -> None:
        """Let time pass, and `meanwhile` happen; a run that waits for ever fails."""
        self.pauses.append(seconds)
        assert len(self.pauses) < 10_000, "asks without an end"
        self.clock.advance(seconds)
        if seconds:
            self.meanwhile()

    def release(self, holding: Holding, status: int = 0) -> None:
        """Let the run end with `status`."""
        holding.release(EXITED, status, self.clock.now(), self.pause)

    def acquire(self) -> Holding | Conflict:
        """Acquire."""
        return self.acquisition.acquire(self.pause)

    def acquired(self) -> Holding:
        """Acquire a lease, which must be granted."""
        answer = self.acquire()
        assert isinstance(answer, Holding), answer.why
        return answer

    def other_holds(self, hold: float = 0.0) -> Grant:
        """Let another run have the key."""
        claim = Claim(key="k", owner="other", host="o", pid=1, program="p", ttl=TTL, hold=hold)
        grant = self.way.another().acquire(claim)
        assert isinstance(grant, Grant)
        return grant

    def owner_of_the_key(self) -> str | None:
        """Return the key's holder on the server."""
        record = self.way.another().read("k")
        return record.run.owner if record is not None and record.run is not None and record.remaining else None


@pytest.fixture(name="bench")
def _bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Give a bench without --wait."""
    return Bench(tmp_path, monkeypatch)


def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench with --wait 10m."""
    return Bench(folder, monkeypatch, wait="600")


def deadline_of(sent: float) -> float:
    """Return when a lease that was asked for at `sent` counts as over."""
    return timing.deadline(sent, TTL, 0.0)
