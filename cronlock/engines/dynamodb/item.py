"""The item of a key: its attributes, and the cell that they show.

``v`` is the layout (2), ``rev`` a random token, new in each write; ``lapse`` and ``hold`` are when lease and hold
end, in epoch seconds by AWS's clock, 0 without one; ``ttl`` is for how long the lease was granted, in
seconds; ``record`` is the record's text. ``mark`` (of ``strict=yes``) is a ``rev``, and since when it has been seen.
"""

from __future__ import annotations

from ...errors import ForeignValue
from ..wire.dated import SLACK, DatedCell, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.server_clock import ServerClock

    #: An item as the protocol has it: name -> {kind: value}.
    Item = dict[str, dict[str, Any]]

#: The item's key.
KEY = "cronlock"
_LAYOUT = "2"
_OLDER = "1"


class ItemCell(DatedCell):
    """A cell of an item. Its version is the item's ``rev``, None where there is no item."""

    #: The note of a node that looks strictly.
    mark: str = ""

    def unproven(self, clock: ServerClock) -> float:
        """Return for how much longer this version must be seen until its holder is dead, whatever end it wrote."""
        since = self.marked_since
        return max(0.0, self.ttl + SLACK - (0.0 if since is None else max(0.0, clock.earliest() - since)))

    @property
    def marked_since(self) -> float | None:
        """The epoch time at which a node first noted this version; None if none did."""
        version, _, since = self.mark.partition(" ")
        try:
            return time_of(since) if version == self.version else None
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
            lapses_at=time_of(item["lapse"]["N"]),
            hold_until=time_of(item["hold"]["N"]),
            ttl=time_of(item["ttl"]["N"]),
            mark=_text(item["mark"]["S"]) if "mark" in item else "",
        )
    except KeyError as error:
        # The text of it is the name.
        raise ForeignValue(f"not a record of cronlock: attribute {error} is missing or of another type") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ForeignValue(f"not a record of cronlock: {error}") from None


def encode(cell: DatedCell) -> Item:
    """Return the attributes of a cell's item, without its key and without a mark."""
    return {
        "v": {"N": _LAYOUT},
        "rev": {"S": str(cell.version)},
        "lapse": {"N": f"{cell.lapses_at:.3f}"},
        "hold": {"N": f"{cell.hold_until:.3f}"},
        "ttl": {"N": f"{cell.ttl:.3f}"},
        "record": {"S": (cell.data or b"").decode("ascii")},
    }


def _text(value: object) -> str:
    """Return text that is not empty and ASCII; raise TypeError or ValueError for anything else."""
    if not isinstance(value, str) or not value:
        raise TypeError("an attribute has no text")
    if not value.isascii():
        raise ValueError("an attribute has text that is not ASCII")
    return value
