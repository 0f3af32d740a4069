"""What DynamoDB keeps of a key: the attributes of its one item, and the cell that they show.

``v`` is the layout (2), ``rev`` a random token, new in each write; ``lapse`` and ``hold`` are when lease and hold
end, in epoch seconds by AWS's clock, 0 where there is none; ``ttl`` is for how long the lease was granted, in
seconds; ``record`` is the record's text. ``mark`` (of ``strict=yes``) is a ``rev``, and since when it has been seen.

No condition can ask AWS what time it is, so ends are written and judged by who asks, by what is known of AWS's clock.
An own end is written by the latest that this can be; another's is over once the earliest is `SLACK` behind it,
since not all of AWS's front ends tell the very same time.
"""

from __future__ import annotations

import os

from ...errors import ForeignValue
from ...lease.store import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.server_clock import ServerClock
    from ...lease.store import Hold

    #: An item as the protocol has it: name -> {kind: value}.
    Item = dict[str, dict[str, Any]]

#: The item's key.
KEY = "cronlock"
#: Seconds for which a lease or a hold counts as on behind its end.
SLACK = 2.0
_LAYOUT = "2"
_OLDER = "1"


class ItemCell(Cell):
    """A cell, with the ends that its item has. Its version is the item's ``rev``, None where there is no item."""

    #: Epoch seconds by AWS's clock; 0 where there is none.
    lapses_at: float = 0.0
    hold_until: float = 0.0
    #: For how long the lease was granted, in seconds.
    ttl: float = 0.0
    #: What a node that looks strictly wrote about the item.
    mark: str = ""

    def followed_by(self, data: bytes, lease: float | None, hold: Hold, start: float) -> ItemCell:
        """Return the cell that a swap puts in the place of this one, whose times count from epoch time `start`."""
        if isinstance(hold, Cell):
            hold_until = hold.hold_until if isinstance(hold, ItemCell) else 0.0
        else:
            hold_until = max(self.hold_until, start + hold if hold > 0 else 0.0)
        return ItemCell(
            data=data,
            version=os.urandom(8).hex(),
            lapses_at=self.lapses_at if lease is None else start + lease if lease > 0 else 0.0,
            hold_until=hold_until,
            ttl=self.ttl if lease is None else lease,
        )

    def judge(self, clock: ServerClock) -> None:
        """Set what depends on the time.

        The floor is the least that the time can be. So a fence after a lost record is above the lost ones, unless
        the last of them is no older than the clock is known exactly: a second, and the length of a request.
        """
        earliest, now = clock.earliest(), clock.now()
        self.time, self.floor = now, int(earliest * 1e6)
        self.lease = min(_left(self.lapses_at, earliest, now), max(self.ttl, 1.0))
        self.hold = _left(self.hold_until, earliest, now)

    def unproven(self, clock: ServerClock) -> float:
        """Return for how much longer this version must be seen until its holder is dead, whatever end it wrote."""
        since = self.marked_since
        return max(0.0, self.ttl + SLACK - (0.0 if since is None else max(0.0, clock.earliest() - since)))

    @property
    def marked_since(self) -> float | None:
        """The epoch time since when this version is known to be there, None if nobody marked it."""
        version, _, since = self.mark.partition(" ")
        try:
            return _number(since) if version == self.version else None
        except ValueError:
            return None


def decode(item: Item | None) -> ItemCell:
    """Return the cell of an item, of which nothing is judged yet; raise ForeignValue for anything else."""
    if not item:
        return ItemCell()
    try:
        layout = item["v"]["N"]
        if layout == _OLDER:
            raise ForeignValue("a record of an older, unreleased layout of cronlock")
        if layout != _LAYOUT:
            raise ValueError("its attribute v is another")
        return ItemCell(
            data=_text(item["record"]["S"]).encode("ascii"),
            version=_text(item["rev"]["S"]),
            lapses_at=_number(item["lapse"]["N"]),
            hold_until=_number(item["hold"]["N"]),
            ttl=_number(item["ttl"]["N"]),
            mark=_text(item["mark"]["S"]) if "mark" in item else "",
        )
    except KeyError as error:
        # The text of it is the name.
        raise ForeignValue(f"not a record of cronlock: without attribute {error}, or that is of another kind") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ForeignValue(f"not a record of cronlock: {error}") from None


def encode(cell: ItemCell) -> Item:
    """Return the attributes of a cell's item, without its key and without a mark."""
    return {
        "v": {"N": _LAYOUT},
        "rev": {"S": str(cell.version)},
        "lapse": {"N": f"{cell.lapses_at:.3f}"},
        "hold": {"N": f"{cell.hold_until:.3f}"},
        "ttl": {"N": f"{cell.ttl:.3f}"},
        "record": {"S": (cell.data or b"").decode("ascii")},
    }


def _left(end: float, earliest: float, now: float) -> float:
    """Return for how many seconds from `now` on, never 0 as long as it is not sure to be over."""
    return max(1.0, end - now) if end + SLACK > earliest else 0.0


def _text(value: object) -> str:
    """Return text that is not empty and ASCII; raise TypeError or ValueError for anything else."""
    if not isinstance(value, str) or not value:
        raise TypeError("an attribute has no text")
    if not value.isascii():
        raise ValueError("an attribute has text that is not ASCII")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise ValueError(f"no time: {text[:20]!r}")
    return value
