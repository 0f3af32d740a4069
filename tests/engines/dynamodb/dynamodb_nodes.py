"""What the tests of DynamoDB share: nodes, a look behind their backs, clocks that are wrong."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from cronlock.engines.dynamodb.store import DynamoDBStore, open_store
from cronlock.engines.url import URL
from cronlock.engines.wire.dated import SLACK
from cronlock.lease.clock import SystemClock
from cronlock.lease.leases import Leases
from labs.servers.aws import ENVIRON, MotoServer

from ..faults import PATIENT, FaultHooks

if TYPE_CHECKING:
    from cronlock.engines.wire.dated import DatedCell
    from cronlock.lease.store import Cell, Hold


class WrongClock(SystemClock):
    """A wall clock that is so many seconds ahead of the true one; boot time goes on as it does, or lost some."""

    __slots__ = ("ahead", "losing", "lost")

    def __init__(self, ahead: float = 0.0) -> None:
        super().__init__()
        self.ahead = ahead
        #: Seconds that boot time stood still, and those that it stands still each time that it is looked at.
        self.lost = self.losing = 0.0

    def now(self) -> float:
        """Seconds since boot, but for those that were lost."""
        self.lost += self.losing
        return super().now() - self.lost

    def wall(self) -> float:
        """Seconds since the epoch, wrongly."""
        return time.time() + self.ahead


def a_store(url: str, timeout: float = PATIENT, *, clock: WrongClock | None = None) -> DynamoDBStore:
    """Return a node's store, by a clock of its own if need be."""
    store = open_store(URL(url), timeout)
    if clock is not None:
        store.service.use_clock(clock)
    return store


def a_node(url: str, timeout: float = PATIENT, *, ahead: float = 0.0) -> Leases:
    """Return a node whose clock is `ahead` of the true time."""
    return Leases(a_store(url, timeout, clock=WrongClock(ahead) if ahead else None))


def with_params(url: str, params: str) -> str:
    """Return the URL with more parameters."""
    return f"{url}{'&' if '?' in url else '?'}{params}"


class DynamoDBHooks(FaultHooks):
    """Time passes by itself: what was seen before has ends in it, too."""

    def __init__(self, server: Any, url: str) -> None:
        super().__init__(server)
        self.url = url
        self.keeps_connections = not isinstance(server, MotoServer)

    def pass_time(self, seconds: float) -> None:
        """Wait also for the slack, and as no node knows AWS's time to the second."""
        super().pass_time(seconds + SLACK + 2.2)

    def lapse(self, key: str) -> None:
        """Wait until every node knows that the lease is over."""
        super().lapse(key)
        time.sleep(1.2)

    def end_hold(self, key: str) -> None:
        """Wait until every node knows that the hold is over."""
        super().end_hold(key)
        time.sleep(1.2)

    def open_store(self) -> DynamoDBStore:
        """Return one more node's store."""
        return a_store(self.url)

    def put(self, key: str, value: dict[str, dict[str, Any]]) -> None:
        """Write attributes into the key's item."""
        replace(self.url, key, value)

    def kept(self, key: str) -> object:
        """Return the key's item."""
        return item(self.url, key)


def read(store: DynamoDBStore, key: str) -> DatedCell:
    """Return the cell as it is now."""
    return store.read(key, time.monotonic() + store.timeout)


def swap(
    store: DynamoDBStore, key: str, seen: Cell, data: bytes, *, lease: float | None = None, hold: Hold = 0.0
) -> tuple[bool, DatedCell]:
    """Swap within the store's time limit."""
    return store.swap(key, seen, data, lease=lease, hold=hold, deadline=time.monotonic() + store.timeout)


def use_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give clients the emulators' credentials, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


def make_table(url: str) -> None:
    """Make the table of a URL on an emulator."""
    with pytest.MonkeyPatch.context() as patch:
        use_examples(patch)
        store = a_store(url)
        store.table.create(store.service.deadline())
        store.close()


def replace(url: str, key: str, values: dict[str, dict[str, Any]]) -> None:
    """Write attributes into a key's item behind everybody's back."""
    _call(
        url,
        "UpdateItem",
        key,
        UpdateExpression="SET " + ", ".join(f"#{one} = :{one}" for one in values),
        ExpressionAttributeNames={f"#{one}": one for one in values},
        ExpressionAttributeValues={f":{one}": value for one, value in values.items()},
    )


def put(url: str, key: str, **numbers: float) -> None:
    """Write numbers into a key's item behind everybody's back."""
    replace(url, key, {name: {"N": str(value)} for name, value in numbers.items()})


def item(url: str, key: str) -> dict[str, Any]:
    """Return a key's item as it is in the table, empty if there is none."""
    found: dict[str, Any] = _call(url, "GetItem", key, ConsistentRead=True).get("Item", {})
    return found


def number(url: str, key: str, name: str) -> float:
    """Return a number of a key's item."""
    return float(item(url, key)[name]["N"])


def delete(url: str, key: str) -> None:
    """Delete a key's item."""
    _call(url, "DeleteItem", key)


def _call(url: str, action: str, key: str, **request: Any) -> dict[str, Any]:
    store = a_store(url)
    request.update(TableName=store.table.name, Key={"cronlock": {"S": store.table.item_name(key)}})
    try:
        return store.table.service.call(action, request, store.service.deadline()).body
    finally:
        store.close()
