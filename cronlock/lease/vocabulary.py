"""The values that every backend takes and returns; its protocol is in `cronlock.lease.protocols`.

Durations are seconds. A point in time is *boot time* (``Clock.now``, valid on this machine only, used by rules) or
*epoch time* (for people and records, with names that end in ``_at``).
"""

from __future__ import annotations

from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .protocols import Backend as Backend

#: Why a key was not granted.
HELD = "held"  # another run's lease
HOLD = "hold"  # the last run's min-hold is not over
STATE_LOST = "forgotten"  # the server may have lost a lease that is still in force
ENDED = "ended"  # the run that a standby waits for needs no takeover
PAUSED = "paused"  # somebody paused it
DEFERRED = "deferred"  # its tick failed on this host, and another may be standing by

#: How a run ended.
EXITED = "exited"
LOST = "lost"
TIMED_OUT = "timeout"
NOT_STARTED = "not-started"
STOPPED = "stopped"  # by `cronlock stop`
# Recorded by the next run for one that recorded no end.
DIED = "died"
RELEASED = "released"  # by `cronlock release`
#: After one of these a standby may take the job over.
UNFINISHED = (LOST, NOT_STARTED, DIED)

#: Seconds after which a backend may drop a key that nobody used.
RETENTION = 30 * 86400.0
#: The most runs in a key's history, besides the last successful one.
HISTORY = 20


class Traits(Value):
    """What a backend can do. The rules ask its traits, never its type."""

    shortest_ttl: float
    longest_ttl: float
    #: The longest min-hold, in seconds.
    longest_hold: float = 3650 * 86400.0
    #: Seconds by which the server may end a lease early; taken off the deadline.
    granularity: float = 0.0
    lists_keys: bool = True
    #: True if it guards this machine only.
    local: bool = False
    #: True if it knows who holds a key and how runs ended. Otherwise a hold looks like a lease, nothing is taken over
    #: or released by force, and `read` returns None for a free key, else an `opaque` record.
    records: bool = True
    #: True if it drops unused records, so that a missing one proves nothing about a lease.
    evicts: bool = False
    #: True if it can notify the run that has a key of what others write; see `cronlock.lease.listener`.
    notifies: bool = False


class Watermark(Value):
    """The highest fence that this host saw of a key on this backend; see `cronlock.lease.watermarks`."""

    fence: int
    #: Seconds since it was seen, at least.
    age: float
    #: Seconds since this host first noticed that the server shows less than `fence`; None if it does not.
    loss_noticed_ago: float | None
    #: The ttl of the lease that was seen, 0 if unknown.
    ttl: float = 0.0


class Claim(Value):
    """What a run asks for. Each run has a fresh owner, and retries with the same one."""

    key: str
    owner: str
    host: str
    pid: int
    #: The command's name without its arguments, which may hold secrets.
    program: str
    ttl: float
    #: The key stays taken for at least so many seconds after the grant, whatever is left of an earlier run's hold.
    hold: float
    #: Take the key although the last run's hold is not over.
    ignore_hold: bool = False
    watermark: Watermark | None = None
    #: Take the key only over from a run of this tick (`Run.tick`) that died, whatever its hold.
    standby_for: str | None = None
    #: The fence of the run that it stands by for; only this shows that the run gave the key back.
    awaited_fence: int | None = None
    #: Take the key although somebody paused it.
    ignore_pause: bool = False
    #: For a standby: take over from a run that died; from one whose command failed, that is, ended with a status other
    #: than `success`; at most this many attempts of a tick (None: no limit); leave failures of this host to others.
    on_death: bool = True
    on_failure: bool = False
    success: tuple[int, ...] = (0,)
    attempts: int | None = None
    defers: bool = False
    #: Seconds between the run's polls for a stop request, besides its renewals; recorded for `cronlock stop`.
    poll: float | None = None

    @property
    def quarantine(self) -> float:
        """How long the key counts as held after state loss, in seconds."""
        return self.ttl if self.watermark is None else max(self.ttl, self.watermark.ttl)


class Grant(Value):
    """A lease that this run holds."""

    claim: Claim
    #: Grows with each grant of the key; None if the backend gives none.
    fence: int | None
    #: Seconds that the server keeps it without a renewal, which may be less than the claim asked for.
    ttl: float
    #: Private to the backend, for instance what a renewal needs.
    token: object = None
    #: A descriptor that the command inherits because the lease lives in it (file backend).
    descriptor: int | None = None
    #: The run before this one, ended or not; None if there was none or the backend cannot tell.
    previous: Run | None = None
    #: The fence of the run in whose place this one is, for a claim that stood by.
    took_over: int | None = None
    #: The number of this run within its tick, and the exit status of the one before; None if that recorded no end.
    attempt: int = 1
    previous_status: int | None = None
    #: Set by a renewal that finds a stop request for this run.
    stop: Stop | None = None


class Run(Value):
    """One run in a record."""

    owner: str
    host: str
    pid: int
    program: str
    started_at: float
    ttl: float
    fence: int | None
    #: None until its end is recorded.
    ended_at: float | None = None
    outcome: str | None = None
    status: int | None = None
    #: Of a takeover: the tick that it runs, and the fence of the run before it.
    stands_for: str | None = None
    took_over: int | None = None
    #: See `Claim.poll`.
    poll: float | None = None

    @property
    def tick(self) -> str:
        """The owner of the tick's first run; a run that died and its takeovers share one tick."""
        return self.stands_for or self.owner

    @property
    def succeeded(self) -> bool:
        """True if its command exited with status 0."""
        return self.outcome == EXITED and self.status == 0

    @property
    def unfinished(self) -> bool:
        """True if it has no end yet, or ended for a reason other than its command."""
        return self.outcome is None or self.outcome in UNFINISHED

    def failed(self, success: tuple[int, ...]) -> bool:
        """True if its command exited or timed out with a status that is not in `success`."""
        return self.outcome in (EXITED, TIMED_OUT) and self.status not in success


class Pause(Value):
    """A pause: no run of the key may start. A run that has started goes on."""

    user: str
    host: str
    reason: str = ""
    at: float = 0.0
    #: When it ends by itself, by the server's clock if it has one; None: only `cronlock resume` ends it.
    until: float | None = None


class Stop(Value):
    """A request that the run of `owner` ends."""

    owner: str
    user: str
    host: str
    at: float = 0.0
    #: The run's tick, which nobody may take over.
    tick: str = ""


class Conflict(Value):
    """The key was not granted. An answer, not a failure."""

    #: HELD, HOLD, STATE_LOST, ENDED, PAUSED or DEFERRED.
    why: str
    #: Seconds until the key can be free; for a lease, if it is not renewed; infinite for a pause without an end.
    remaining: float
    #: The holder's run, or the last run for a hold or an end.
    run: Run | None = None
    #: The highest fence that the server shows, for this node's watermark.
    fence: int | None = None
    pause: Pause | None = None


class Ending(Value):
    """How a run ended, for its record."""

    #: EXITED, LOST, TIMED_OUT, STOPPED or NOT_STARTED.
    outcome: str
    #: cronlock's exit status for it; None if the command never ran.
    status: int | None
    #: By this machine's wall clock; a backend with a clock of its own uses that.
    ended_at: float


class Record(Value):
    """All that a backend knows about a key at one moment; `Record()` for an unused key."""

    #: The run that was granted the key last, until it reports its end or is released by force.
    run: Run | None = None
    #: Seconds until `run`'s lease lapses unless renewed; 0 without a lease.
    remaining: float = 0.0
    #: Seconds until the hold is over; 0 without one.
    hold_remaining: float = 0.0
    #: Runs before `run`, newest first, at most HISTORY; one without a recorded end is DIED or RELEASED.
    history: Sequence[Run] = ()
    #: The last run that succeeded, however long ago.
    success: Run | None = None
    #: True if the key is taken, but the backend cannot tell by whom or until when.
    opaque: bool = False
    pause: Pause | None = None
    #: A stop request for `run`.
    stop: Stop | None = None
    #: When the record was made, if no run is on record.
    made_at: float | None = None

    @property
    def runs(self) -> list[Run]:
        """All recorded runs, newest first."""
        return [*self.history] if self.run is None else [self.run, *self.history]

    @property
    def last(self) -> Run | None:
        """The last recorded run that reported its end."""
        return next((run for run in self.history if run.ended_at is not None), None)
