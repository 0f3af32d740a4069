"""The smoke test of ``cronlock doctor`` on any backend: small requests, and a lease of its own."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, TypeVar

from .. import keys
from ..errors import BackendError, ConfigError, CronlockError, Forbidden
from ..lease.describe import describe
from ..lease.leases import Leases
from ..lease.vocabulary import EXITED, Claim, Conflict, Ending
from . import findings
from .findings import BAD, NOTE, OK, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

    from ..engines.url import URL
    from ..lease.vocabulary import Backend, Grant

_Kind = TypeVar("_Kind")

_REQUESTS = 5
#: Seconds between attempts while another doctor has the key.
_PAUSE = 0.1
#: The program in the probe's record, and the start of its key.
PROGRAM = "cronlock doctor"


class Case:
    """One backend to check, with the limits and the lease to check it by."""

    def __init__(self, url: URL, backend: Backend, *, timeout: float, ttl: float, hold: float) -> None:
        """`timeout` limits one request; `hold` is for how many seconds from its start a run keeps its key."""
        self.url = url
        self.backend = backend
        self.timeout = timeout
        self.ttl = ttl
        self.hold = hold
        #: The probe's key, of this process alone: two doctors do not meet. See also `share_key`.
        self.key = probe_key(os.uname().nodename, os.getpid())
        #: The ttl that the server granted to the probe's lease; None before there was one.
        self.kept: float | None = None

    def store(self, kind: type[_Kind]) -> _Kind:
        """Return the backend's store, of the `kind` that the URL's scheme has."""
        assert isinstance(self.backend, Leases)
        assert isinstance(self.backend.store, kind)
        return self.backend.store

    def share_key(self) -> None:
        """Share one key among all doctors of this host: for backends whose records do not expire."""
        self.key = probe_key(os.uname().nodename)

    def deadline(self) -> float:
        """Return the monotonic time by which a request that is sent now must end."""
        return time.monotonic() + self.timeout


def probe_key(host: str, pid: int | None = None) -> str:
    """Return the key of a probe on `host`, valid whatever the host's name; without a pid, one for all there."""
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-._") else "-" for letter in host)
    return f"{PROGRAM} {name[:64]}" + ("" if pid is None else f" {pid}")


def servers(case: Case, doctor: ModuleType | None, *, create: bool) -> Iterator[Finding]:
    """Run the engine's `doctor` on the servers, and try a lease; `create` makes what runs need first.

    Every error is a finding; a server that did not answer gets no more requests.
    """
    step = "create" if create else "answer"
    try:
        if create:
            for finding in _create(case, doctor):
                yield finding
                if finding.level == BAD:
                    return
        step = "answer"
        for finding in doctor.reach(case) if doctor is not None else ():
            yield finding
            if finding.level == BAD:
                return
        if not case.backend.traits.local:
            yield round_trip(case)
        step = "lease"
        yield from lease(case)
        step = "server"
        if doctor is not None:
            yield from doctor.examine(case)
    except (BackendError, ConfigError) as error:
        yield Finding(step, BAD, str(error))
    finally:
        if step in ("lease", "server"):
            yield from _forget(case)


def _create(case: Case, doctor: ModuleType | None) -> Iterable[Finding]:
    if doctor is not None and hasattr(doctor, "create"):
        made: Iterable[Finding] = doctor.create(case)
        return made
    return [Finding("create", NOTE, f"{case.url.scheme}:// needs nothing made before the first run")]


def _forget(case: Case) -> Iterator[Finding]:
    try:
        yield from forget(case)
    except BackendError:
        return  # The record lapses, or a finding reported that it stays.


def round_trip(case: Case) -> Finding:
    """Measure small requests, which change nothing. Raises BackendError when there is no answer."""
    times = []
    case.backend.read(case.key)  # Connects.
    for _ in range(_REQUESTS):
        before = time.monotonic()
        case.backend.read(case.key)
        times.append(time.monotonic() - before)
    return findings.judge_round_trip(statistics.median(times), case.timeout)


def lease(case: Case) -> Iterator[Finding]:
    """Acquire, renew and release the probe's own key, with no hold."""
    host, pid = os.uname().nodename, os.getpid()
    owner = f"{keys.escape(host)}:{pid}:{os.urandom(8).hex()}"
    claim = Claim(key=case.key, owner=owner, host=host, pid=pid, program=PROGRAM, ttl=case.ttl, hold=0.0)
    released = False
    step = "acquire"
    try:
        answer = _acquire(case, claim)
        if isinstance(answer, Conflict):
            released = True
            remedy = f"look again in {answer.remaining:.0f} s"
            yield Finding("lease", WARNING, f"an earlier doctor left its key behind: {describe(answer)}", remedy)
            return
        case.kept = answer.ttl
        step = "renew"
        kept = case.backend.renew(answer)
        step = "release"
        ended = case.backend.release(answer, Ending(EXITED, 0, time.time()), keep_hold=False)
        released = True
        if kept and ended:
            yield Finding("lease", OK, "acquired, renewed and released one")
        else:
            what = "renewed" if not kept else "released"
            text = f"the probe's lease was lost before it could be {what}"
            yield Finding("lease", BAD, text, "check that nothing flushes the server")
    except BackendError as error:
        yield Finding("lease", BAD, f"cannot {step} one: {error}")
    finally:
        if not released:
            _abandon(case.backend, claim)


def forget(case: Case) -> Iterator[Finding]:
    """Remove the probe's record; a finding says so if that is not allowed."""
    if not isinstance(case.backend, Leases):
        return
    store = case.backend.store
    cell = store.read(case.key, case.deadline())
    try:
        # Another doctor of this host may be using it, if they share the key.
        if not cell.lease:
            store.remove(case.key, cell, case.deadline())
    except Forbidden as error:
        yield Finding("permissions", NOTE, f"{error}: the doctors' own record, {case.key!r}, stays")


def _acquire(case: Case, claim: Claim) -> Grant | Conflict:
    """Acquire the probe's key; wait for another doctor that shares it."""
    deadline = case.deadline()
    while True:
        answer = case.backend.acquire(claim)
        if not isinstance(answer, Conflict) or time.monotonic() + _PAUSE > deadline:
            return answer
        time.sleep(_PAUSE)


def _abandon(backend: Backend, claim: Claim) -> None:
    try:
        backend.abandon(claim)
    except CronlockError:
        pass  # Reported already; the lease lapses.
