"""What the tests of DynamoDB share: nodes, a look behind their backs, clocks that are wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cronlock.engines.dynamodb.backend import DynamoDBBackend
from cronlock.engines.registry import open_backend
from cronlock.lease.clock import SystemClock
from cronlock.testing import Hooks

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend, Grant

#: Long enough for any request on a loaded machine, in seconds.
PATIENT = 20.0


class WrongClock(SystemClock):
    """A wall clock that is so many seconds ahead of the true one; boot time goes on as it does, or lost some."""

    __slots__ = ("ahead", "losing", "lost")

    def __init__(self, ahead: float) -> None:
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


def open_node(url: str, timeout: float = PATIENT, *, ahead: float = 0.0) -> DynamoDBBackend:
    """Return a node whose clock is `ahead` of the true time."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, DynamoDBBackend)
    if ahead:
        backend.service.use_clock(WrongClock(ahead))
    return backend


class DynamoDBHooks(Hooks):
    """Time passes by writing the item's ends anew."""

    forces_time = True
    tells_uptime = False

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Backend:
        """Return one more node."""
        return open_node(self.url)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Let the lease have ended long ago."""
        put(self.url, grant.claim.key, lapse=1.0)

    def end_hold(self, node: Backend, key: str) -> None:
        """Let the hold have ended long ago, and one that is kept."""
        put(self.url, key, hold=1.0, kept=1.0)


def put(url: str, key: str, **numbers: float) -> None:
    """Write numbers into a key's item behind everybody's back."""
    replace(url, f"cronlock:{key}", {name: {"N": str(value)} for name, value in numbers.items()})


def replace(url: str, name: str, values: dict[str, dict[str, Any]]) -> None:
    """Write attributes into the item of a name."""
    _call(
        url,
        "UpdateItem",
        Key={"cronlock": {"S": name}},
        UpdateExpression="SET " + ", ".join(f"#{one} = :{one}" for one in values),
        ExpressionAttributeNames={f"#{one}": one for one in values},
        ExpressionAttributeValues={f":{one}": value for one, value in values.items()},
    )


def item(url: str, name: str) -> dict[str, Any]:
    """Return the item of a name as it is in the table, empty if there is none."""
    found: dict[str, Any] = _call(url, "GetItem", Key={"cronlock": {"S": name}}, ConsistentRead=True).get("Item", {})
    return found


def delete(url: str, name: str) -> None:
    """Delete the item of a name."""
    _call(url, "DeleteItem", Key={"cronlock": {"S": name}})


def _call(url: str, action: str, **request: Any) -> dict[str, Any]:
    node = open_node(url)
    try:
        request["TableName"] = node.table.name
        return node.service.call(action, request, node.service.deadline()).body
    finally:
        node.close()
