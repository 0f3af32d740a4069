"""Helpers of the tests on DynamoDB: a table, and direct access to it."""

from __future__ import annotations

from typing import Any, ClassVar

from cronlock.engines.dynamodb.store import DynamoDBStore
from cronlock.engines.wire.dated import DatedStore
from cronlock.testing.cells import read

from ..hooks import PATIENT
from ..wire.aws_nodes import DatedHooks, WrongClock, open_dated, with_params
from ..wire.aws_suite import Suite


def a_store(url: str, timeout: float = PATIENT, *, clock: WrongClock | None = None) -> DynamoDBStore:
    """Return a node's store, by a clock of its own if need be."""
    store = open_dated(url, timeout, clock=clock)
    assert isinstance(store, DynamoDBStore)
    return store


class DynamoDBHooks(DatedHooks):
    """One table."""

    def put(self, key: str, value: dict[str, dict[str, Any]]) -> None:
        """Write attributes into the key's item."""
        replace(self.url, key, value)

    def kept(self, key: str) -> object:
        """Return the key's item."""
        return item(self.url, key)


class DynamoDBSuite(Suite):
    """A table."""

    service: ClassVar[str] = "dynamodb"
    what: ClassVar[str] = "table"
    writing: ClassVar[str] = "UpdateItem"
    listing: ClassVar[str] = "Scan"
    needed: ClassVar[frozenset[str]] = frozenset({"GetItem", "UpdateItem"})
    variable: ClassVar[str] = "CRONLOCK_TEST_DYNAMODB"
    hooks: ClassVar[type[DatedHooks]] = DynamoDBHooks

    @classmethod
    def prefixed(cls, url: str, name: str) -> str:
        """Return the URL with another prefix."""
        return with_params(url, f"prefix={name}")

    @classmethod
    def delete(cls, store: DatedStore, key: str) -> None:
        """Delete the key's item."""
        assert isinstance(store, DynamoDBStore)
        assert store.remove(key, read(store, key), store.service.deadline())


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
    """Return a key's item in the table, or an empty one."""
    found: dict[str, Any] = _call(url, "GetItem", key, ConsistentRead=True).get("Item", {})
    return found


def _call(url: str, action: str, key: str, **request: Any) -> dict[str, Any]:
    store = a_store(url)
    request.update(TableName=store.table.name, Key={"cronlock": {"S": store.table.item_name(key)}})
    try:
        return store.table.service.call(action, request, store.service.deadline()).body
    finally:
        store.close()
