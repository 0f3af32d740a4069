"""What an engine is to the rules: a place with one cell for each key, and no word of leases' rules.

`cronlock.lease.leases` makes the `Backend` protocol of a store; `cronlock.lease.rules` decides. A store reads a
cell, and swaps it for another if nobody wrote meanwhile. That is all that the rules rely on, so it must be kept:

- **A version never comes twice.** A swap takes effect only while the cell is as `seen` shows it, in one atomic
  step, also when its request arrives late, or twice, or its reply is lost. Every swap that is carried out moves
  the version on, one that writes the same bytes too. (That nothing is there is seen again once a cell was removed:
  `rules.stays` says when.)
- **Over stays over.** If a cell is shown with lease or hold 0, that stays true until somebody writes. A lease or
  a hold lasts at least as long as asked for, counted from the call of `swap` or from any moment between that and
  when it was carried out, on any clock but ours; it may last a little longer. So a lease is counted from before the
  call, and who hears late of a hold asks for it anew.
- **Nothing is invented.** A failure is BackendUnavailable, which leaves open whether the swap was carried out.
  A refusal is an answer: what is in the cell instead.

A store does not retry on its own account beyond what it knows was not carried out, logs nothing, starts no thread,
and ends each call by its deadline.
"""

from __future__ import annotations

from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, Union

    from .vocabulary import Traits


#: Data with this in it must never be dropped for its age, as it may be where nobody wrote for `RETENTION`: a pause.
STAYS = b"\npaused\t"


class Cell(Value):
    """A key's place in a store as it was at one moment. A store may subclass it, to remember more for the next swap."""

    #: The record's bytes; None if there is none.
    data: bytes | None = None
    #: The store's own; two cells of one key with equal versions have equal data.
    version: object = None
    #: Seconds that the lease lasts unless renewed: above 0 as long as it is not known to be over, then 0. Whether it
    #: is 0 is what the rules go by; how many there are is for people, and for when to ask again.
    lease: float = 0.0
    #: The same of the hold.
    hold: float = 0.0
    #: The next fence is at least this: the server's time in microseconds, its revision, its transaction number. It
    #: never goes back, so that fences grow although a record was lost.
    floor: int = 0
    #: The server's epoch time, None where it has no clock to ask.
    time: float | None = None
    #: A descriptor that the command inherits since the lease lives in it (file), else None.
    descriptor: int | None = None


#: As the hold of a swap: there is none any more, whatever there was.
NO_HOLD = Cell()

if TYPE_CHECKING:
    #: What becomes of the hold: it lasts so many seconds from now on, or as long as it does already if that is
    #: longer (0.0: leave it as it is); or it is again as an earlier cell of this key showed it (`NO_HOLD`: it ends).
    Hold = Union[float, Cell]

    class Store(Protocol):
        """One cell for each key. `deadline` is when a call must have ended, by `time.monotonic`.

        Every call may raise BackendUnavailable, ForeignValue for something in the key's place that is no cell of
        cronlock's, and ConfigError for what only a change of the configuration can mend.
        """

        traits: Traits
        #: Seconds that one call of the `Backend` may take, where a run does not say less.
        timeout: float
        #: What a person should hear of (a clock that jumped, ...); the run says and clears them.
        notices: list[str]

        def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
            """Return the cell as it is now, not as a replica remembers it that takes no writes.

            With `exact` also find out how long lease and hold last where that costs a request more; without, an
            upper bound will do, and so will what a node of a cluster shows that may be behind: a swap of it is refused.
            """

        def swap(
            self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
        ) -> tuple[bool, Cell]:
            """Put `data` in the place of what `seen` shows, if that is still there.

            `lease`: so many seconds from now on; 0.0 ends it; None leaves it as it is. Returns whether it was
            done, and the cell as it is now: with the new version and what the server keeps of the lease (perhaps
            less than asked for), or what is there instead. Raises Unacknowledged if it was done and may be lost.
            """

        def remove(self, key: str, seen: Cell, deadline: float) -> bool:
            """Remove the cell, of which `seen` shows no lease, if nobody wrote since; False if somebody did.

            Then it is as if the key had never been used, but for the floor. Raises Forbidden where this user may not.
            """

        def location(self, key: str) -> str:
            """Return what messages call the cell, without a password: where somebody would look for it."""

        def keys(self) -> Iterator[str]:
            """List the keys that have a cell, in no order; raise BackendError unless `traits.lists_keys`."""

        def watch(self, key: str) -> int | None:
            """Return a descriptor that can be read once the cell may have changed since it was read last.

            None where the server cannot tell. It is the store's to close, and holds until the next request.
            """

        def uptime(self, key: str, deadline: float) -> float | None:
            """Return for how many seconds at least the key's server has been up; None where that tells nothing.

            It does where a server that starts has lost what it held: then leases are out for a ttl from its start.
            """

        def close(self) -> None:
            """Let go of connections, never of a lease. Raises nothing."""

    class Notifier(Protocol):
        """What hears of writes to one key's cell, where `traits.notifies`: the store's `notifier(key)`."""

        def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
            """Return a descriptor that can be read once others may have written, and whether they did since `seen`.

            `seen` is the cell of the run's last swap. It is asked for anew after each, and its to close.
            """

        def heard(self, seen: Cell, deadline: float) -> bool:
            """Take what made that descriptor readable; whether others may have written since `seen`.

            Raises BackendUnavailable once it hears nothing more, until `listen` is called again.
            """

        def notify(self, deadline: float) -> bool:
            """Have the descriptors of all that listen to the key readable; whether there should be one."""

        def close(self) -> None:
            """Let go of connections of its own; raises nothing."""
