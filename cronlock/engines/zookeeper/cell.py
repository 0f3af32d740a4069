"""The content of a key's node: a line of the store, then the record's bytes.

    cronlock-node<TAB>LEASE<TAB>SESSION<TAB>TIMEOUT<TAB>UNTIL<TAB>HOLD

LEASE is the name of the ephemeral node of the lease granted last, empty once it was ended; SESSION (hexadecimal)
owns it and lasts TIMEOUT milliseconds. A hold lasts until UNTIL by the leader's clock, or HOLD milliseconds from
when this was written, whichever is later: only the leader knows when that is. All are 0 if there is none.
"""

from __future__ import annotations

import time

from ...errors import ForeignValue
from ...lease.store import Cell
from ...value import digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .session import Session

_MAGIC = "cronlock-node"
_FIELDS = 6
_LONGEST_HEAD = 200
#: Seconds: the leader rounds up to its tick, so a lease that is due may still exist for a moment.
_DUE = 0.1


class NodeCell(Cell):
    """A cell, and the fields of its node's line."""

    #: The name of the lease's node, which existed if `lease` is above 0.
    lease_name: str = ""
    #: The session that owns it, hexadecimal, and its timeout in seconds.
    session: str = ""
    timeout: float = 0.0
    #: When the hold is over, by the leader's clock in milliseconds; 0 for none.
    hold_until: int = 0
    #: When it was seen: at least so late by the leader's clock in milliseconds, and monotonic time.
    leader_time: int = 0
    seen_at: float = 0.0

    @property
    def node(self) -> tuple[int, int] | None:
        """The version: the transaction that made the node, and the number of writes; None without a node."""
        return self.version if isinstance(self.version, tuple) else None

    def is_of(self, session: Session) -> bool:
        """Return True if `session` owns the lease granted last."""
        return session.id != 0 and self.session == session.label

    def lease_left(self, renewed: int, now: float) -> float:
        """Return how long a lease lasts that was renewed at `renewed`, by the leader's clock like `now`."""
        return max(_DUE, self.timeout - (now - renewed) / 1000)

    def hold_left(self, now: float) -> float:
        """Return how long the hold lasts."""
        return max(0.0, (self.hold_until - now) / 1000)


def to_text(lease_name: str, session: str, timeout: float, until: int, hold: float, data: bytes) -> bytes:
    """Return the node's text."""
    fields = (_MAGIC, lease_name, session, round(timeout * 1000), until, -int(-hold * 1000 // 1))
    return "\t".join(map(str, fields)).encode() + b"\n" + data


def to_cell(text: bytes, stat: Any, names: list[str], now: int | None, zxid: int) -> NodeCell:
    """Return the cell of a node with children `names`; `now` is the leader's time if it is known.

    Raises ForeignValue for a node that is not cronlock's.
    """
    head, end, data = text.partition(b"\n")
    try:
        magic, lease_name, session, timeout, until, hold, *_ = head[:_LONGEST_HEAD].decode("ascii").split("\t")
        if magic != _MAGIC or not end or not f"0{lease_name}{session}".isalnum():
            raise ValueError
        lasts, ends, more = (_whole(number) for number in (timeout, until, hold))
    except ValueError:
        what = "a record of an older, unreleased layout of cronlock" if head == b"cronlock=1" else "not cronlock's"
        raise ForeignValue(what) from None
    foreign = [name for name in names if name != lease_name]
    if foreign:
        raise ForeignValue(f"the parent of nodes that are not cronlock's, such as {foreign[0]!r}")
    if stat.ephemeralOwner:
        raise ForeignValue("ephemeral: not cronlock's")
    leader_time = stat.mtime if now is None else now
    cell = NodeCell(
        data=data,
        version=(stat.czxid, stat.version),
        floor=zxid + 1,
        time=None if now is None else now / 1000,
        lease_name=lease_name,
        session=session,
        timeout=lasts / 1000,
        hold_until=max(ends, stat.mtime + more if more else 0),
        leader_time=leader_time,
        seen_at=time.monotonic(),
    )
    # An upper bound: the lease's own node has the time of its last renewal.
    return cell.but(lease=max(_DUE, cell.timeout) if names else 0.0, hold=cell.hold_left(leader_time))


def _whole(text: str) -> int:
    number = digits(text, 15)
    if number is None:
        raise ValueError
    return number
