"""The store protocol: one cell for each key, read and changed by compare-and-swap. A store knows no lease rules.

`cronlock.lease.leases` implements `Backend` over a store, and `cronlock.lease.rules` decides. The rules rely on three
guarantees:

- **No version returns.** A swap takes effect in one atomic step, and only while the cell is as `seen` shows it, even
  if its request arrives late or twice or its reply is lost. Every swap that takes effect changes the version, even
  if it writes the same bytes. (Only the absence of a cell returns, after `remove`; see `rules.stays`.)
- **Over stays over.** A lease or hold that is shown as 0 stays 0 until somebody writes. It lasts at least as long as
  requested, counted on any clock but ours from some moment between the call of `swap` and its effect, and possibly a
  little longer. So a lease counts from before the call, and a run that hears of its hold late asks again.
- **No guesses.** A failure raises BackendUnavailable, which leaves open whether the swap took effect. A refusal is an
  answer with the present cell.

A store retries only what certainly had no effect, logs nothing, starts no thread, and ends each call by its deadline.
"""

from __future__ import annotations

from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, Union

    from .vocabulary import Traits


#: A store must keep data that contains this (a pause) however old; other data it may drop after `RETENTION`.
STAYS = b"\npaused\t"


class Cell(Value):
    """A key's cell at one moment. A store may subclass it to remember more for the next swap."""

    #: The record's bytes; None without a record.
    data: bytes | None = None
    #: Private to the store; cells of one key with equal versions have equal data.
    version: object = None
    #: Seconds until the lease lapses unless renewed; 0 only if it is known to be over. The rules look only at 0 or
    #: not; the number is for people and for the time of the next request.
    lease: float = 0.0
    #: The same for the hold.
    hold: float = 0.0
    #: The least next fence: the server's time in microseconds, its revision or transaction number. It never goes
    #: back, so that fences grow even if a record is lost.
    floor: int = 0
    #: The server's epoch time; None if the store cannot read its clock.
    time: float | None = None
    #: A descriptor that the command inherits because the lease lives in it (file), else None.
    descriptor: int | None = None


#: As the hold of a swap: end any hold.
NO_HOLD = Cell()

if TYPE_CHECKING:
    #: A number of seconds extends the hold to at least so long from now (0.0 leaves it). A cell restores the hold that
    #: this earlier cell of the key showed (`NO_HOLD` ends it).
    Hold = Union[float, Cell]

    class Store(Protocol):
        """One cell for each key. Each call ends by its `deadline`, in `time.monotonic` time.

        Every call may raise BackendUnavailable, ForeignValue if the key's location holds something else, and
        ConfigError for what only a change of the configuration can mend.
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

            Afterwards only the floor is left of the key. Raises Forbidden.
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

            A lease that a restart lost may be out for a ttl from that start.
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
