"""DynamoDB: one item for each key, read by one consistent read, swapped by one conditional update.

The condition is that the item's ``rev`` is the one that was seen: it is a random token, new in each write. A
refusal brings the item along in the same round trip. The item is never deleted, for the fence lives in it.

By which clock ends are written and judged stands in `item`. A lease lasts as long as asked for from when it was
sent, as its holder counts, and so for less from when it arrives.
"""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...lease.store import Cell
from ...lease.vocabulary import Traits
from ..wire import aws
from .item import SLACK, ItemCell, decode, encode
from .table import NoTable, Table, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.store import Hold
    from ..url import URL
    from .item import Item

#: How many seconds an end may be too early by, as AWS's answer shows: less than others' slack.
_SHORT = SLACK / 2
#: From so many seconds on a person should hear that this machine's clock is wrong.
_WRONG = 5.0


def open_store(url: URL, timeout: float) -> DynamoDBStore:
    """Return the store of a ``dynamodb://TABLE`` URL; raise ConfigError for a bad one."""
    url.take_params((*aws.PARAMS, "prefix", "create", "strict"))
    url.forbid_credentials("credentials come from the environment, a profile or a role")
    url.forbid_path("keys are kept apart by ?prefix=NAME")
    name = url.need_name(f"name one table: {url.scheme}://TABLE")
    check_name(str(url), name)
    flags = {flag: _flag(url, flag) for flag in ("create", "strict")}
    service = aws.Service(url, "dynamodb", "DynamoDB_20120810", timeout)
    return DynamoDBStore(Table(service, str(url), name, url.prefix()), str(url), timeout, **flags)


def _flag(url: URL, name: str) -> bool:
    value = url.params.get(name, "no")
    if value not in ("yes", "no"):
        raise ConfigError(f"{url}: {name}={value!r}: write {name}=yes or {name}=no")
    return value == "yes"


class DynamoDBStore:
    """Cells in one table of one region."""

    def __init__(self, table: Table, shown: str, timeout: float, *, create: bool = False, strict: bool = False) -> None:
        """`shown` begins every error; see `open_store` for the rest."""
        self.traits = Traits(shortest_ttl=2.0, longest_ttl=365 * 86400.0)
        self.timeout = timeout
        self.table = table
        self.service = table.service
        self.notices = self.service.notices
        self._shown = shown
        self._create = create
        self._strict = strict
        self._said = False

    def read(self, key: str, deadline: float, *, exact: bool = False) -> ItemCell:  # noqa: ARG002 - it tells all
        """Return the cell as it is now; make the table first, if it is missing and ``create=yes``.

        Raises ConfigError when there is no table, or there are no credentials.
        """
        try:
            item = self.table.get(key, deadline)
        except NoTable:
            if not self._create:
                raise
            self.table.create(deadline)
            item = self.table.get(key, deadline)
        return self._judged(key, self._decoded(key, item), deadline)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, ItemCell]:
        """Put `data` in the place of what `seen` shows, if that is still there: by one update.

        By a second one where the answer to the first shows that the ends in it are too early, since this
        machine's clock had fallen behind.
        """
        assert isinstance(seen, ItemCell)
        times, clock = self.service.times, self.service.clock
        if not times.known:
            self.read(key, deadline)
        for _ in range(2):
            sent, start = clock.now(), times.latest()
            cell = seen.followed_by(data, lease, hold, start)
            done, item = self.table.put(key, seen.version, encode(cell), deadline)
            if not done:
                return False, self._judged(key, self._decoded(key, item), deadline)
            counted = bool(lease) or (not isinstance(hold, Cell) and hold > 0)
            if not counted or times.latest() - (clock.now() - sent) <= start + _SHORT:
                cell = self._judged(key, cell, deadline)
                if lease:
                    cell.lease = lease
                    self._say_clock()
                return True, cell
            seen = cell
        raise BackendUnavailable(f"{self._shown}: AWS's clock and this machine's run apart")

    def purge(self, key: str, deadline: float) -> str | None:
        """Remove the item unless a run has it; return what is not allowed, None if it was done."""
        try:
            self.table.delete(key, deadline)
        except aws.Denied:
            return "no dynamodb:DeleteItem"
        return None

    def place(self, key: str) -> str:
        """Return what messages call the cell."""
        return f"{self._shown}: item {self.table.item_name(key)!a}"

    def keys(self) -> Iterator[str]:
        """List the keys that have a cell, by reading the whole table."""
        return self.table.keys()

    def watch(self, key: str) -> None:
        """Return None: DynamoDB tells nothing by itself."""

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: what a table that was restored has lost, nothing tells."""

    def close(self) -> None:
        """Close the connection."""
        self.service.close()

    def _decoded(self, key: str, item: Item | None) -> ItemCell:
        try:
            return decode(item)
        except ForeignValue as error:
            raise ForeignValue(
                f"{self.place(key)}: {error}; nothing was changed: delete it, or use another key or prefix="
            ) from None

    def _judged(self, key: str, cell: ItemCell, deadline: float) -> ItemCell:
        """Return `cell` with what depends on the time."""
        times = self.service.times
        if not times.known:
            raise BackendUnavailable(f"{self._shown}: its answers have no Date, so no clock can be trusted")
        cell.judge(times)
        if self._strict and cell.lapses_at and not cell.lease:
            cell.lease = cell.unproven(times)
            if cell.marked_since is None:
                # From now on, for whoever looks.
                try:
                    self.table.mark(key, str(cell.version), times.latest(), deadline)
                except aws.Denied:
                    pass  # Who may only read takes no key either.
        return cell

    def _say_clock(self) -> None:
        ahead = self.service.clock.wall() - self.service.times.now()
        if abs(ahead) > _WRONG and not self._said:
            self._said = True
            way = "ahead of" if ahead > 0 else "behind"
            self.notices.append(
                f"this machine's clock is about {abs(ahead):.0f} s {way} AWS's: set it, as by NTP; AWS's is gone by"
            )
