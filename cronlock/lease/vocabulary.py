"""The lease and its vocabulary: what every backend takes and gives.

Times are seconds. A point in time here is either *boot time* (``Clock.now``: this machine only,
for rules) or *epoch time* (for people and records); names of the latter end in ``_at``.
"""

from __future__ import annotations

from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from .listener import Listener

#: Why a key was not granted.
HELD = "held"  # another run's lease
HOLD = "hold"  # the last run's min-hold is not over
STATE_LOST = "forgotten"  # the server may have lost a lease that is still out
ENDED = "ended"  # the run that a standby waits for needs nobody to take it over
PAUSED = "paused"  # somebody paused it
DEFERRED = "deferred"  # its tick failed on this host, and another may be standing by

#: How a run ended, as its record says it.
EXITED = "exited"
LOST = "lost"
TIMED_OUT = "timeout"
NOT_STARTED = "not-started"
STOPPED = "stopped"  # as `cronlock stop` asked
# What others say of a run that did not say it itself, once the next one started.
DIED = "died"
RELEASED = "released"  # by `cronlock release`
#: With these the job was not done: a standby may still take it over.
UNFINISHED = (LOST, NOT_STARTED, DIED)

#: Keys that nobody used for so long may vanish from the backend.
RETENTION = 30 * 86400.0
#: How many runs a key's history has, besides the last successful one.
HISTORY = 20


class Traits(Value):
    """What a backend can keep; declared by it and asked by the rules, never by its type."""

    shortest_ttl: float
    longest_ttl: float
    #: The longest min-hold, in seconds.
    longest_hold: float = 3650 * 86400.0
    #: How much earlier than asked the server may end a lease; taken off the deadline.
    granularity: float = 0.0
    lists_keys: bool = True
    #: Whether it guards this machine only.
    local: bool = False
    #: Whether it knows who has a key and how runs ended. Where not, a hold is as good as a lease, nothing is
    #: taken over or released by force, and `read` returns None for a key that is free, else one `opaque`.
    records: bool = True
    #: Whether it drops records that nobody uses: that one is missing tells nothing of a lease.
    evicts: bool = False
    #: Whether it can notify the run that has a key of what others write; see `cronlock.lease.listener`.
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
    """What one run asks for. The owner is fresh for each run and the same on every retry."""

    key: str
    owner: str
    host: str
    pid: int
    #: The command's name without its arguments, which may hold secrets.
    program: str
    ttl: float
    #: The key is not free again before this long after the grant, whatever is left of an earlier run's hold.
    hold: float
    #: Take the key although the last run's hold is not over.
    ignore_hold: bool = False
    watermark: Watermark | None = None
    #: Take the key only over from a run of this tick (`Run.tick`) that died, whatever its hold.
    standby_for: str | None = None
    #: The fence of the run that it stands by for: should that give the key back, nothing else tells.
    awaited_fence: int | None = None
    #: Take the key although somebody paused it.
    ignore_pause: bool = False
    #: Of a standby: whether it takes over from a run that died, and from one whose command ended with a status that is
    #: none of `success`, after how many attempts no more (None: no limit), and whether it leaves that to other hosts.
    on_death: bool = True
    on_failure: bool = False
    success: tuple[int, ...] = (0,)
    attempts: int | None = None
    defers: bool = False
    #: How often the run looks whether it is to end, besides with its renewals; for who asks it to.
    poll: float | None = None

    @property
    def quarantine(self) -> float:
        """How long the key counts as held after state loss, in seconds."""
        return self.ttl if self.watermark is None else max(self.ttl, self.watermark.ttl)


class Grant(Value):
    """A lease that is ours."""

    claim: Claim
    #: Larger for every later run of the key; None where the backend cannot say.
    fence: int | None
    #: What the server keeps without a renewal: may be less than was asked for.
    ttl: float
    #: The backend's own, such as what a renewal needs to know of the key.
    token: object = None
    #: A descriptor that the command inherits, since the lease lives in it (file backend).
    descriptor: int | None = None
    #: The run before this one, ended or not; None if there was none or the backend cannot tell.
    previous: Run | None = None
    #: The fence of the run in whose place this one is, for a claim that stood by.
    took_over: int | None = None
    #: Which run of its tick this is, and the exit status of the one before it, None where that did not end.
    attempt: int = 1
    previous_status: int | None = None
    #: Once a renewal found that somebody asked this run to end.
    stop: Stop | None = None


class Run(Value):
    """One run, as a record keeps it."""

    owner: str
    host: str
    pid: int
    program: str
    started_at: float
    ttl: float
    fence: int | None
    #: None as long as nobody said that it ended.
    ended_at: float | None = None
    outcome: str | None = None
    status: int | None = None
    #: Of a takeover: the tick that it runs, and the fence of the run before it.
    stands_for: str | None = None
    took_over: int | None = None
    #: How often it looks whether it is to end, if it was told to: `Claim.poll`.
    poll: float | None = None

    @property
    def tick(self) -> str:
        """The owner of the first run of this tick: one that died and those that took over from it are one tick."""
        return self.stands_for or self.owner

    @property
    def succeeded(self) -> bool:
        """Whether its command ended by itself, with status 0."""
        return self.outcome == EXITED and self.status == 0

    @property
    def unfinished(self) -> bool:
        """Whether it did not end, or was stopped or not started by no doing of its command."""
        return self.outcome is None or self.outcome in UNFINISHED

    def failed(self, success: tuple[int, ...]) -> bool:
        """Whether its command ended, or was timed out, with a status that is none of `success`."""
        return self.outcome in (EXITED, TIMED_OUT) and self.status not in success


class Pause(Value):
    """No run of the key may start; one that is under way goes on."""

    user: str
    host: str
    reason: str = ""
    at: float = 0.0
    #: When it is over by itself, by the server's clock where it has one; None: not before somebody resumes the key.
    until: float | None = None


class Stop(Value):
    """The run of `owner` is to end."""

    owner: str
    user: str
    host: str
    at: float = 0.0
    #: The run's, which nobody takes over.
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
    """All that a backend knows of a key, as it was when it was read; of one that nobody used it is `Record()`."""

    #: The run that was granted the key last, until it reports its end or is released by force.
    run: Run | None = None
    #: Seconds until `run`'s lease lapses unless renewed; 0 when it lapsed or there is none.
    remaining: float = 0.0
    #: Seconds until the hold is over, 0 when it is.
    hold_remaining: float = 0.0
    #: Runs before `run`, the newest first, at most HISTORY; one that never said its end is DIED, or RELEASED.
    history: Sequence[Run] = ()
    #: The last run that succeeded, however long ago.
    success: Run | None = None
    #: Whether a run or its hold has the key, and the backend tells neither by which nor until when.
    opaque: bool = False
    #: As long as the key is paused.
    pause: Pause | None = None
    #: Once somebody asked `run` to end.
    stop: Stop | None = None
    #: When the record was made, if no run is on record.
    made_at: float | None = None

    @property
    def runs(self) -> list[Run]:
        """All runs that are remembered, the newest first."""
        return [*self.history] if self.run is None else [self.run, *self.history]

    @property
    def last(self) -> Run | None:
        """The last recorded run that reported its end."""
        return next((run for run in self.history if run.ended_at is not None), None)


if TYPE_CHECKING:

    class Backend(Protocol):
        """A place that keeps leases: `cronlock.lease.leases` over a store, or an engine that has no records.

        Each method raises BackendUnavailable when it could not ask or cannot know the answer, and
        ForeignValue when something that is not cronlock's lies in the key's place. No method
        retries on its own account, logs, starts a thread (the guard is forked behind `acquire`), or
        takes longer than `limit`.
        """

        traits: Traits
        #: Seconds that a call may take: what the backend was opened with, unless a run has less time left.
        limit: float
        #: What a person should hear of (a clock that jumped, ...); the run says and clears them.
        notices: list[str]

        def acquire(self, claim: Claim) -> Grant | Conflict:
            """Take the key if it is free. The same owner asking again gets the same lease, which lasts anew.

            A claim with `standby_for` gets it only if the last run is of that tick, its lease lapsed
            (or it ended UNFINISHED, or gave the key back), and nobody released it by force; the dead run's hold goes
            on, or the claim's, if that is longer. While a run of that tick has the lease the answer is HELD, else
            ENDED.
            """

        def renew(self, grant: Grant) -> bool:
            """Let the lease last `grant.ttl` from now on; False when it is no longer ours.

            Sets `grant.stop` where somebody asked the run to end: it keeps the lease until all of it is dead.
            """

        def stop_requested(self, grant: Grant) -> bool:
            """Whether somebody wrote since our last word, by a look: the next renewal tells what."""

        def listener(self, key: str) -> Listener | None:
            """Return what hears of others' writes to the key, None where nothing does. Asks nothing yet."""

        def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
            """End our lease and record how the run ended, in the history too; False when it was not ours.

            With `keep_hold` the key stays taken for what is left of the hold that the claim
            asked for; without it, the key is as free as it was before.
            """

        def abandon(self, claim: Claim) -> None:
            """Undo an `acquire` whose answer never came: the record is as before, but for the fence.

            A duplicate of that acquire which arrives later must not take the key.
            """

        def read(self, key: str) -> Record | None:
            """Return what is known of the key, changing nothing; None if there is no record."""

        def watch(self, key: str) -> int | None:
            """Return a descriptor that can be read once the key may have changed since it was asked for.

            None where the server cannot tell: ask again in time. It is the backend's to close, and
            holds until the next request.
            """

        def keys(self) -> Iterator[str]:
            """List the keys with a record, in no order; raise BackendError unless `traits.lists_keys`."""

        def force_release(self, key: str, owner: str) -> bool:
            """Take the lease or the hold from `owner`, whoever asks; False if it was not theirs.

            The record stays, and the fence goes on from where it was.
            """

        def pause(self, key: str, pause: Pause, lasts: float | None) -> None:
            """Let no run of the key start from now on, for so many seconds or until `resume`."""

        def resume(self, key: str) -> Pause | None:
            """Let runs start again; return the pause that there was, also one that is over, None without one."""

        def stop(self, key: str, stop: Stop) -> bool:
            """Ask the run of `stop.owner` to end; False if it has no lease. No standby takes over its tick."""

        def forget(self, key: str, age: float) -> bool:
            """Remove the record, and all that there is of the key; False if `cronlock.lease.rules.stays` keeps it.

            `age` is for how many seconds no run of it may have been under way. Raises Forbidden.
            """

        def close(self) -> None:
            """Let go of connections and threads; never of a lease. Raises nothing."""
