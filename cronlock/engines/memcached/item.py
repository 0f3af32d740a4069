"""A key's item: its text, and the time that it gives to lease and hold.

A line of the store's own precedes the record: the durations of lease and hold *from the write of the item*, and a
random word that makes each text different. An item is written with an expiry of `KEPT` seconds, so what is left of
that shows its age by the server's clock: leases and holds are judged by this age.

The server counts whole seconds, and its second may end at any moment: n of its seconds are at least n - 2 of ours.
`SLACK` makes up for that, so a lease never ends early, and up to three seconds late.
"""

from __future__ import annotations

from ...errors import ForeignValue
from ...lease.store import Cell
from ...lease.vocabulary import RETENTION
from ...system import os
from ...value import digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.store import Hold
    from .meta import Connection, Item

#: Seconds that a lease or a hold is made longer by, for the server's whole seconds.
SLACK = 2.0
#: Seconds; more than 30 days would be taken for a date.
KEPT = int(RETENTION)
_OLDER = b"cronlock=1\n"
_NAMES = (b"lease=", b"hold=", b"swap=")


class ItemCell(Cell):
    """An item as it was at one moment. Its version is its whole text, which never comes twice."""

    #: Valid on `connection` only: a restarted server gives the same numbers again. 0 without an item.
    cas: int = 0
    connection: Connection | None = None
    #: The server's seconds since the item was written, when the answer was here, at boot time `at`.
    age: int = 0
    at: float = 0.0
    #: For how long from its own writing lease and hold last, slack included.
    lease_lasts: float = 0.0
    hold_lasts: float = 0.0


def cell_of(item: Item | None, connection: Connection, at: float, floor: int) -> ItemCell:
    """Return the cell of `item`, with `floor` if there is no item; raise ForeignValue if it is not cronlock's."""
    if item is None:
        return ItemCell(connection=connection, at=at, floor=floor)
    if item.left is None:
        raise ForeignValue("an item that never expires")
    words = item.value.partition(b"\n")[0].split(b" ")
    lease, hold = (digits(word.partition(b"=")[2], 11) for word in (*words, b"", b"")[:2])
    known = len(words) == 3 and all(map(bytes.startswith, words, _NAMES))
    if not known or lease is None or hold is None:
        if item.value.startswith(_OLDER):
            raise ForeignValue("a record of an older, unreleased layout of cronlock")
        raise ForeignValue("not a record of cronlock")
    return shown(item.value, connection, item.cas, at, max(0, KEPT - item.left), lease, hold)


def shown(
    value: bytes, connection: Connection, cas: int, at: float, age: int, lease_lasts: float, hold_lasts: float
) -> ItemCell:
    """Return the cell of an item with the text `value`."""
    return ItemCell(
        data=value.partition(b"\n")[2],
        version=value,
        lease=_without_slack(lease_lasts - age),
        hold=_without_slack(hold_lasts - age),
        cas=cas,
        connection=connection,
        age=age,
        at=at,
        lease_lasts=lease_lasts,
        hold_lasts=hold_lasts,
    )


def times(seen: ItemCell, lease: float | None, hold: Hold, now: float) -> tuple[float, float]:
    """Return for how long lease and hold are to last from boot time `now` on, slack included."""
    lease_lasts = _still(seen, seen.lease_lasts, now) if lease is None else _with_slack(lease)
    if isinstance(hold, ItemCell):
        return lease_lasts, _still(hold, hold.hold_lasts, now)
    if isinstance(hold, Cell):
        return lease_lasts, 0.0
    return lease_lasts, max(_still(seen, seen.hold_lasts, now), _with_slack(hold))


def _still(cell: ItemCell, lasts: float, now: float) -> float:
    """Return for how long what `lasts` so long from the item's writing has to last from boot time `now` on.

    Its age may be `SLACK` more than what passed in truth. Whatever is over without the slack is over.
    """
    if lasts <= cell.age:
        return 0.0
    left = min(lasts, lasts - cell.age + SLACK) - (now - cell.at)
    return left if left > SLACK else 0.0


def text(data: bytes, lease_lasts: float, hold_lasts: float) -> bytes:
    """Return an item's text, another one each time; times are rounded up to the server's whole seconds."""
    word = os.urandom(8).hex().encode()
    return b"lease=%d hold=%d swap=%b\n%b" % (-int(-lease_lasts // 1), -int(-hold_lasts // 1), word, data)


def _with_slack(seconds: float) -> float:
    return seconds + SLACK if seconds > 0 else 0.0


def _without_slack(seconds: float) -> float:
    """Return seconds without the slack, which is for safety, but never 0 while they last."""
    return max(1.0, seconds - SLACK) if seconds > 0 else 0.0
