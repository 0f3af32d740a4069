"""Helpers of the tests on DynamoDB: a table, and direct access to it."""

from __future__ import annotations

from typing import Any

import pytest

from cronlock.engines.dynamodb.store import DynamoDBStore

from ..faults import PATIENT
from ..wire.aws_nodes import DatedHooks, WrongClock, open_dated, use_examples


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
