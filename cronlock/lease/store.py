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
    from typing import Union

    from .protocols import Notifier as Notifier
    from .protocols import Store as Store


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
