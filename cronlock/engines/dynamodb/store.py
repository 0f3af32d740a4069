"""DynamoDB: one item for each key, read by one consistent read, swapped by one conditional update.

The condition is the item's ``rev`` that was seen: a random token, new in each write. A refusal returns the current item
in the same round trip. The item holds the key's fence.

`wire.dated` explains by which clock ends are written and judged. A lease counts from the request, as its holder counts,
so it is a little shorter from its arrival.
"""

from __future__ import annotations

from ...errors import Forbidden, ForeignValue
from ..wire import aws, aws_json
from ..wire.dated import DatedStore
from .item import ItemCell, decode, encode
from .table import Table, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.store import Cell
    from ..url import URL
    from ..wire.dated import DatedCell
    from .item import Item


def open_store(url: URL, timeout: float) -> DynamoDBStore:
    """Return the store of a ``dynamodb://TABLE`` URL; raise ConfigError for a bad one."""
    url.take_params((*aws.PARAMS, "prefix", "create", "strict"))
    url.forbid_credentials("credentials come from the environment, a profile or a role")
    url.forbid_path("keys are kept apart by ?prefix=NAME")
    name = url.need_name(f"name one table: {url.scheme}://TABLE")
    check_name(str(url), name)
    flags = {flag: url.flag(flag) for flag in ("create", "strict")}
    service = aws_json.JsonService(url, "dynamodb", "DynamoDB_20120810", timeout)
    return DynamoDBStore(Table(service, str(url), name, url.prefix()), str(url), **flags)


class DynamoDBStore(DatedStore):
    """Cells in one table of one region."""

    def __init__(self, table: Table, shown: str, *, create: bool = False, strict: bool = False) -> None:
        """`shown` begins every error; see `open_store` for the rest."""
        super().__init__(table.service, shown, create=create)
        self.table = table
        self._strict = strict

    def fetch(self, key: str, deadline: float) -> ItemCell:
        """Return the item's cell."""
        return self._decoded(key, self.table.get(key, deadline))

    def make(self, deadline: float) -> bool:
        """Make the table."""
        return self.table.create(deadline)

    def put(self, key: str, seen: DatedCell, cell: DatedCell, deadline: float) -> tuple[bool, DatedCell]:
        """Put `cell` in the place of what `seen` shows, by a conditional update."""
        done, item = self.table.put(key, seen.version, encode(cell), deadline)
        return done, cell if done else self._decoded(key, item)

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the item, if it is as it was seen."""
        try:
            return seen.version is None or self.table.delete(key, str(seen.version), deadline)
        except aws.Denied:
            raise Forbidden(f"{self._shown}: no dynamodb:DeleteItem") from None

    def location(self, key: str) -> str:
        """Return what messages call the cell."""
        return f"{self._shown}: item {self.table.item_name(key)!a}"

    def keys(self) -> Iterator[str]:
        """List the keys that have a cell, by reading the whole table."""
        return self.table.keys()

    def _decoded(self, key: str, item: Item | None) -> ItemCell:
        try:
            return decode(item)
        except ForeignValue as error:
            raise ForeignValue.at(self.location(key), error) from None

    def judged(self, key: str, cell: DatedCell, deadline: float) -> DatedCell:
        """Return `cell` with what depends on the time; with ``strict=yes`` on how long it was seen besides."""
        cell = super().judged(key, cell, deadline)
        if self._strict and isinstance(cell, ItemCell) and cell.lapses_at and not cell.lease:
            times = self.service.times
            cell.lease = cell.unproven(times)
            if cell.marked_since is None:
                # Observed from now on, by every node.
                try:
                    self.table.mark(key, str(cell.version), times.latest(), deadline)
                except aws.Denied:
                    pass  # A user who may only read acquires no key either.
        return cell
