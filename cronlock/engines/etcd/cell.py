"""A cell, from the key of its record and the keys below ``held/``."""

from __future__ import annotations

from ...errors import ForeignValue
from ...lease.store import Cell
from . import held as below_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .held import Held
    from .messages import KeyValue
    from .names import Names

# Characters of a key of etcd's in a message; longer ones are cut.
_LONGEST_SHOWN = 300


class EtcdCell(Cell):
    """A cell whose version is the revision of the last write of its record, 0 for no record."""

    #: The key of the lease, and those of holds: the hold is in force while any of them exists.
    lease_key: Held | None = None
    hold_keys: tuple[Held, ...] = ()

    @property
    def modified(self) -> int:
        """The version."""
        return self.version if isinstance(self.version, int) else 0

    @property
    def lease_modified(self) -> int:
        """The revision at which the key of the lease was written last, 0 for none."""
        return 0 if self.lease_key is None else self.lease_key.modified


def cell_of(names: Names, found: list[KeyValue], revision: int) -> EtcdCell:
    """Return the cell of the keys that were found at `revision`; raise ForeignValue if one is not cronlock's."""
    record, lease, holds = None, None, []
    for one in found:
        try:
            if one.key == names.record:
                record = one
            elif one.key == names.lease:
                lease = below_held.read(one)
            elif one.key.startswith(names.hold):
                holds.append(below_held.read(one))
            else:
                raise ForeignValue("not a key of cronlock")
        except ForeignValue as error:
            raise ForeignValue.at(f"etcd key {shown(one.key)!r}", error) from None
    return EtcdCell(
        data=None if record is None else record.value,
        version=0 if record is None else record.modified,
        lease=0.0 if lease is None else max(lease.length, 0.1),
        hold=max((one.remaining for one in holds), default=0.0),
        floor=revision + 1,
        lease_key=lease,
        hold_keys=tuple(holds),
    )


def shown(key: bytes) -> str:
    """Return a key of etcd's for messages, cut if it is long."""
    return key.decode("utf-8", "replace")[:_LONGEST_SHOWN]
