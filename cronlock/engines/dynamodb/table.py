"""Requests to DynamoDB about a table and its items: one or two in each method."""

from __future__ import annotations

from ...errors import ConfigError
from ..wire.dated import Missing
from ..wire.http import Unanswered
from ..wire.stream import ServerBusy, protocol_error, retry_while_busy
from .item import KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..wire.aws_json import JsonService, Reply
    from .item import Item

_NO_TABLE = "ResourceNotFoundException"
_REFUSED = "ConditionalCheckFailedException"
_LONGEST_NAME = 255
_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def check_name(shown: str, name: str) -> None:
    """Raise ConfigError, which `shown` begins, for a name that no table can have."""
    if not (3 <= len(name) <= _LONGEST_NAME and set(name) <= _CHARACTERS):
        raise ConfigError(f"{shown}: a table's name has 3 to 255 letters, digits, '-', '_' or '.'")


class Table:
    """The table, and the keys in it that begin with one prefix. Of each method, see `JsonService.call`."""

    def __init__(self, service: JsonService, shown: str, name: str, prefix: str) -> None:
        """`shown` begins every error; `name` is the table's."""
        self.service = service
        self.name = name
        self._shown = shown
        self._prefix = prefix

    def create(self, deadline: float) -> bool:
        """Make the table, paid for by the request, and wait for it; False if it is there already.

        Raises ServerBusy when it is not ready in time.
        """
        request = {
            "TableName": self.name,
            "AttributeDefinitions": [{"AttributeName": KEY, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            "DeletionProtectionEnabled": True,
        }
        made = not self.service.call("CreateTable", request, deadline, ("ResourceInUseException",)).code

        def see_it() -> None:
            if self.describe(deadline).get("TableStatus") not in ("ACTIVE", "UPDATING"):
                raise ServerBusy(f"{self._shown}: the table is being made: ask again in a minute")

        retry_while_busy(deadline, see_it)
        return made

    def describe(self, deadline: float) -> dict[str, Any]:
        """Return DescribeTable's reply; raises ConfigError if the table is missing."""
        return _dict(self.ask("DescribeTable", {"TableName": self.name}, deadline).body.get("Table"))

    def delete(self, key: str, rev: str, deadline: float) -> bool:
        """Remove a key's item if it has this ``rev``; False if it has another, or does not exist."""
        request = {
            "Key": {KEY: {"S": self.item_name(key)}},
            "ConditionExpression": "#rev = :rev",
            "ExpressionAttributeNames": _names("rev"),
            "ExpressionAttributeValues": {":rev": {"S": rev}},
        }
        return not self.ask("DeleteItem", request, deadline, (_REFUSED,)).code

    def get(self, key: str, deadline: float) -> Item | None:
        """Return a key's current item, or None."""
        request = {"Key": {KEY: {"S": self.item_name(key)}}, "ConsistentRead": True}
        return self.ask("GetItem", request, deadline).body.get("Item")

    def put(self, key: str, old: object, item: Item, deadline: float) -> tuple[bool, Item | None]:
        """Put the attributes `item`, with a new ``rev``, in the place of those with ``rev`` `old`; None: of no item.

        Return whether that was done, and if not, what is there instead.
        """
        names, values = {*item, "mark"}, {f":{name}": value for name, value in item.items()}
        if old is None:
            condition = f"attribute_not_exists(#{KEY})"
            names.add(KEY)
        else:
            condition = "#rev = :old"
            values[":old"] = {"S": old}
        request = {
            "Key": {KEY: {"S": self.item_name(key)}},
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in item) + " REMOVE #mark",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": _names(*names),
            "ExpressionAttributeValues": values,
            "ReturnValues": "UPDATED_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        reply = self.ask("UpdateItem", request, deadline, (_REFUSED,))
        if reply.code:
            # Some servers do not say it in the refusal.
            found = reply.body.get("Item") or self.get(key, deadline)
            # It is done already where the request came in twice.
            return _dict(found).get("rev") == item["rev"], found
        if _dict(reply.body.get("Attributes")).get("rev") != item["rev"]:
            raise protocol_error(self._shown, "DynamoDB", "to an update", Unanswered)
        return True, None

    def mark(self, key: str, rev: str, since: float, deadline: float) -> None:
        """Note in a key's item that it has had this ``rev`` since epoch time `since`, if it still has."""
        request = {
            "Key": {KEY: {"S": self.item_name(key)}},
            "UpdateExpression": "SET #mark = :mark",
            "ConditionExpression": "#rev = :rev",
            "ExpressionAttributeNames": _names("mark", "rev"),
            "ExpressionAttributeValues": {":mark": {"S": f"{rev} {since:.3f}"}, ":rev": {"S": rev}},
        }
        # Refused: another node wrote, so there is nothing to note.
        self.ask("UpdateItem", request, deadline, (_REFUSED,))

    def keys(self) -> Iterator[str]:
        """List the keys that have an item, by reading the whole table."""
        start = f"{self._prefix}:"
        request: dict[str, Any] = {
            "TableName": self.name,
            "ConsistentRead": True,
            "ProjectionExpression": f"#{KEY}",
            "FilterExpression": f"begins_with(#{KEY}, :start)",
            "ExpressionAttributeNames": _names(KEY),
            "ExpressionAttributeValues": {":start": {"S": start}},
        }
        while True:
            answer = self.ask("Scan", request, self.service.deadline()).body
            for item in _list(answer.get("Items")):
                name = _dict(item.get(KEY)).get("S")
                if isinstance(name, str):
                    yield name[len(start) :]
            behind = answer.get("LastEvaluatedKey")
            if not behind:
                return
            if behind == request.get("ExclusiveStartKey"):
                # It would never come to an end.
                raise protocol_error(self._shown, "DynamoDB", "endless scan")
            request["ExclusiveStartKey"] = behind

    def ask(self, action: str, request: dict[str, Any], deadline: float, known: tuple[str, ...] = ()) -> Reply:
        """Send a request about the table; raises Missing if there is no table."""
        request.setdefault("TableName", self.name)
        reply = self.service.call(action, request, deadline, (*known, _NO_TABLE))
        if reply.code == _NO_TABLE:
            raise Missing(self._shown, f"table {self.name}", self.service)
        return reply

    def item_name(self, key: str) -> str:
        """Return the name of a key's item."""
        return f"{self._prefix}:{key}"


def _names(*names: str) -> dict[str, str]:
    """Return attributes' names as expressions have them, since some are words of the language."""
    return {f"#{name}": name for name in names}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
