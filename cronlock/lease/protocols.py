"""What backends and stores are, for type checkers alone: a run would pay for every line here, and loads none.

`cronlock.lease.store` specifies a store. Other modules import the names from `cronlock.lease.vocabulary`
(Backend) and of `cronlock.lease.store` (Store, Notifier), which re-export them where types are checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .listener import Listener
    from .store import Cell, Hold
    from .vocabulary import Claim, Conflict, Ending, Grant, Pause, Record, Stop, Traits


class Backend(Protocol):
    """Leases over a store (`cronlock.lease.leases`), or an engine without records.

    Each method raises BackendUnavailable if it gets no answer or cannot know what the server did, and
    ForeignValue if the key's location holds something else. No method retries, logs, takes longer than
    `limit`, or starts a thread: the guard is forked after `acquire`.
    """

    traits: Traits
    #: Seconds that a call may take.
    limit: float
    #: Warnings for people, such as a clock jump; the run prints and clears them.
    notices: list[str]

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free. An owner that asks again gets the same lease, counted from now.

        A claim with `standby_for` gets the key only if the last run belongs to that tick, its lease lapsed (or it
        ended UNFINISHED, or gave the key back), and nobody released it by force. The longer of both holds goes on.
        The answer is HELD while a run of that tick has the lease, else ENDED.
        """

    def renew(self, grant: Grant) -> bool:
        """Extend the lease to `grant.ttl` from now; False if this run no longer holds it.

        Sets `grant.stop` on a stop request. The run keeps its lease until all its processes are dead.
        """

    def stop_requested(self, grant: Grant) -> bool:
        """Return True if somebody wrote since our last write; the next renewal finds out what."""

    def listener(self, key: str) -> Listener | None:
        """Return a listener for others' writes to the key, None without `traits.notifies`. Sends no request."""

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End the lease and record how the run ended; False if this run did not hold it.

        With `keep_hold` the claim's hold goes on. Without, the hold before the grant applies again.
        """

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose reply was lost: restore the record, except the fence.

        A late duplicate of that acquire must not take the key.
        """

    def read(self, key: str) -> Record | None:
        """Return the key's record, None if it has none. Changes nothing."""

    def watch(self, key: str) -> int | None:
        """Return a descriptor that becomes readable when the key may have changed; None: poll instead.

        The backend owns it, and it is valid until the next request.
        """

    def keys(self) -> Iterator[str]:
        """List the keys with a record, in no order; raise BackendError unless `traits.lists_keys`."""

    def force_release(self, key: str, owner: str) -> bool:
        """End the lease and the hold of `owner`; False if it has neither. Record and fence stay."""

    def pause(self, key: str, pause: Pause, lasts: float | None) -> None:
        """Refuse new runs of the key for `lasts` seconds, or until `resume`."""

    def resume(self, key: str) -> Pause | None:
        """Allow runs again; return the pause that ended, even if it had expired, or None."""

    def stop(self, key: str, stop: Stop) -> bool:
        """Ask the run of `stop.owner` to end; False if it has no lease. No standby takes over its tick."""

    def forget(self, key: str, age: float) -> bool:
        """Remove everything about the key; False if `cronlock.lease.rules.stays` keeps it. Raises Forbidden.

        A key that was used within the last `age` seconds stays.
        """

    def close(self) -> None:
        """Close connections and threads, but release nothing. Raises nothing."""


class Store(Protocol):
    """One cell for each key. Each call ends by its `deadline`, in `time.monotonic` time.

    Every call may raise BackendUnavailable, ForeignValue if the key's location holds something else, and
    ConfigError for what only a change of the configuration can fix.
    """

    traits: Traits
    #: Default for `Backend.limit`.
    timeout: float
    #: See `Backend.notices`.
    notices: list[str]

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Return the cell as the server that takes writes has it.

        With `exact` spend another request, if needed, on how long lease and hold last. Without it, an upper bound
        suffices, and so does a cluster node that lags: a swap of its cell is refused.
        """

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Replace the cell with `data` if it is still as `seen` shows it.

        `lease` counts in seconds from now; 0.0 ends it; None leaves it. Returns whether it took effect, and the
        present cell, which shows the lease as the server keeps it, perhaps shorter than requested. Raises
        Unacknowledged if the swap took effect but may be lost.
        """

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the cell if nobody wrote since `seen`, which shows no lease; else return False.

        Afterwards only the floor of the key remains. Raises Forbidden.
        """

    def location(self, key: str) -> str:
        """Return where the cell stands, for messages, without a password."""

    def keys(self) -> Iterator[str]:
        """List the keys that have a cell, in no order; raise BackendError unless `traits.lists_keys`."""

    def watch(self, key: str) -> int | None:
        """Return a descriptor that becomes readable when the cell may have changed; None: poll instead.

        The store owns it, and it is valid until the next request.
        """

    def uptime(self, key: str, deadline: float) -> float | None:
        """Return a lower bound in seconds of the uptime of the key's server; None if a restart loses nothing.

        A lease that a restart lost may be in force for a ttl from that start.
        """

    def close(self) -> None:
        """Close connections, but release nothing. Raises nothing."""


class Notifier(Protocol):
    """Notifications of writes to one key's cell: what `notifier(key)` of a store with `traits.notifies` returns."""

    def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
        """Return a descriptor that becomes readable after others' writes, and whether they wrote since `seen`.

        `seen` is the cell of the run's last swap. The run calls this again after each swap; the notifier owns the
        descriptor.
        """

    def heard(self, seen: Cell, deadline: float) -> bool:
        """Consume a notification; return True if others may have written since `seen`.

        Raises BackendUnavailable if no more can come before the next `listen`.
        """

    def notify(self, deadline: float) -> bool:
        """Wake all listeners to the key; return True if there should be one."""

    def close(self) -> None:
        """Close its own connections. Raises nothing."""
