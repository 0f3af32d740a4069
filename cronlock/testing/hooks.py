"""How the contract and the state machine reach a backend, and the claims that they make."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from cronlock.lease.vocabulary import EXITED, Claim, Conflict, Ending, Grant, Record, Sight

from .waiting import eventually

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

#: Longer than any test takes, in seconds.
LONG = 600.0


class Hooks:
    """How the contract reaches a backend and its server behind the backend's back."""

    #: The ttl and the hold for tests that let them lapse by waiting; long ones cost nothing
    #: where `lapse` and `end_hold` need not wait.
    short_ttl = 2.0
    short_hold = 2.0
    #: Whether `lapse` and `end_hold` work at once whatever the ttl: the state machine needs it.
    forces_time = False
    #: Why a forced release frees the key only when its holder has noticed.
    force_waits = ""
    #: Why this server is never suspected to have forgotten a lease.
    never_forgets = ""
    #: Why this server is suspected by its uptime only.
    forgets_by_uptime_only = ""
    #: Whether the server tells its uptime.
    tells_uptime = True
    #: Why the record of a run that died is not to be read any more once its lease lapsed.
    dead_run_vanishes = ""
    #: Why an owner that gave up on a key that it did not have is not remembered.
    forgets_strangers = ""
    #: How many owners race for one key.
    racers = 8

    def open(self) -> Backend:
        """Return a backend of its own, as another node would have it."""
        raise NotImplementedError

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Let the lease lapse, as if `node` had died after it got the grant."""
        self._wait_for(node, grant.claim.key, lambda record: record.remaining == 0, "the lease lapsed")

    def end_hold(self, node: Backend, key: str) -> None:
        """Let the key's hold be over, and leave a lease as it is."""
        self._wait_for(node, key, lambda record: record.hold_remaining == 0, "the hold ended")

    def _wait_for(self, node: Backend, key: str, condition: Callable[[Record], bool], what: str) -> None:
        def look() -> bool:
            record = node.read(key)
            return record is None or condition(record)

        eventually(look, what, pause=0.1)


def fresh_key(name: str = "job") -> str:
    """Return a key that nobody used."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def make_claim(
    key: str,
    *,
    owner: str | None = None,
    ttl: float = LONG,
    hold: float = 0.0,
    ignore_hold: bool = False,
    sight: Sight | None = None,
    host: str = "node-a",
    program: str = "backup.sh",
    standby_for: str | None = None,
) -> Claim:
    """Return a claim of a new run, with a fresh owner unless one is given."""
    return Claim(
        key=key,
        owner=owner or f"{host}-{uuid.uuid4().hex[:12]}",
        host=host,
        pid=4711,
        program=program,
        ttl=ttl,
        hold=hold,
        ignore_hold=ignore_hold,
        sight=sight,
        standby_for=standby_for,
    )


def make_ending(status: int = 0, outcome: str = EXITED) -> Ending:
    """Return the ending of a run that ended now."""
    return Ending(outcome, status, time.time())


def granted(answer: Grant | Conflict) -> Grant:
    """Return the grant that `answer` must be."""
    assert isinstance(answer, Grant), f"not granted: {answer.why}, {answer.remaining:.3f} s remaining"
    return answer


def refused(answer: Grant | Conflict, why: str) -> Conflict:
    """Return the conflict that `answer` must be, for the reason `why`."""
    assert isinstance(answer, Conflict), "granted, and should not have been"
    assert answer.why == why
    return answer
