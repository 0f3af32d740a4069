"""What DynamoDB is asked about the items of a table: one method a request, or two.

Every change of an item is an update that is conditional on what is there; see `dynamodb` for the rules.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ..wire.http import Unanswered
from .item import KEY, PAGES, SLACK, UNIT, State, digest, gone_to_text, new_run, number, run_to_text, slot_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...lease.vocabulary import Claim, Run
    from ..wire import aws
    from .item import Item

_NO_TABLE = "ResourceNotFoundException"
_REFUSED = "ConditionalCheckFailedException"
#: For the first grant of a key: what a free item looks like, to a run that would start now.
_FREE = (
    "attribute_not_exists(#cronlock) OR (#v = :v AND attribute_exists(#rev) AND attribute_not_exists(#run)"
    " AND (attribute_not_exists(#hold) OR #hold <= :over) AND NOT contains(#gone, :me))"
)
_TAKE = (
    "SET #v = :v, #run = :run, #lapse = :lapse, #kept = if_not_exists(#hold, :zero), #hold = :hold,"
    " #fence = if_not_exists(#fence, :first) + :one, #rev = if_not_exists(#rev, :rev) + :one,"
    " #gone = if_not_exists(#gone, :nobody) REMOVE #mark"
)
#: Items of keys that have a record; of one that was only given up on there is none.
_LISTED = "begins_with(#cronlock, :start) AND (attribute_exists(#run) OR attribute_exists(#last))"
_TAKE_NAMES = (KEY, "v", "run", "hold", "gone", "lapse", "kept", "fence", "rev", "mark")

#: Before a busy table is asked for the rest, in seconds; each further pause is twice as long.
_FIRST_PAUSE = 0.05


class NoTable(ConfigError):
    """There is no such table."""


class Table:
    """The table, and the keys in it that begin with one prefix. Of each method, see `aws.Service.call`."""

    def __init__(self, service: aws.Service, shown: str, name: str, prefix: str) -> None:
        """`shown` begins every error; `name` is the table's."""
        self.service = service
        self.name = name
        self._shown = shown
        self._prefix = prefix

    def create(self, deadline: float) -> bool:
        """Make the table, paid for by the request, and wait for it; False if it is there already.

        Raises BackendUnavailable when it is not ready in time.
        """
        request = {
            "TableName": self.name,
            "AttributeDefinitions": [{"AttributeName": KEY, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            "DeletionProtectionEnabled": True,
        }
        made = not self.service.call("CreateTable", request, deadline, ("ResourceInUseException",)).code
        while self.describe(deadline).get("TableStatus") not in ("ACTIVE", "UPDATING"):
            if time.monotonic() + 0.5 > deadline:
                raise BackendUnavailable(f"{self._shown}: the table is being made: ask again in a minute")
            time.sleep(0.25)
        return made

    def describe(self, deadline: float) -> dict[str, Any]:
        """Return what DescribeTable says of the table; raises ConfigError when there is none."""
        return _dict(self.ask("DescribeTable", {"TableName": self.name}, deadline).body.get("Table"))

    def delete_items(self, key: str, deadline: float) -> None:
        """Remove all of a key that no run has: for the doctors' own."""
        for name in (self.item_name(key), *(self.page_name(key, page) for page in range(PAGES))):
            request = {
                "Key": {KEY: {"S": name}},
                "ConditionExpression": "attribute_not_exists(#run)",
                "ExpressionAttributeNames": _names("run"),
            }
            if self.ask("DeleteItem", request, deadline, (_REFUSED,)).code:
                return

    def take(self, claim: Claim, now: float, deadline: float) -> tuple[bool, State]:
        """Take the key for a run that starts at `now`, if its item is that of a free one.

        Return whether it was, and the item's state as it is then.
        """
        floor = claim.sight.floor if claim.sight is not None else 0
        values = {
            ":v": {"N": "1"},
            ":run": {"S": run_to_text(new_run(claim, now, None))},
            ":lapse": number(now + claim.ttl),
            ":hold": number(now + claim.hold if claim.hold > 0 else 0.0),
            ":over": number(now - SLACK),
            ":me": {"S": digest(claim.owner)},
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
            # Later than any that an item had which is not there any more.
            ":first": {"N": str(int(now))},
            ":rev": {"N": str(int(now * 1000))},
            ":nobody": {"S": gone_to_text(())},
        }
        request: dict[str, Any] = {
            "Key": {KEY: {"S": self.item_name(claim.key)}},
            "UpdateExpression": _TAKE,
            "ConditionExpression": _FREE,
            "ExpressionAttributeNames": _names(*_TAKE_NAMES),
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if floor > 0:
            # Less than was seen: the server may have lost a lease, which is judged on what it has.
            values[":floor"] = {"N": str(floor)}
            request["ConditionExpression"] = f"({_FREE}) AND #fence >= :floor"
        reply = self.ask("UpdateItem", request, deadline, (_REFUSED,))
        if reply.code:
            return False, self._refused_state(claim.key, reply, deadline)
        state = self.state(claim.key, _dict(reply.body.get("Attributes")))
        if not state.is_run_of(claim.owner):
            raise Unanswered(f"{self._shown}: does not answer an update as DynamoDB does")
        return True, state

    def write(self, key: str, old: State, new: State, deadline: float) -> tuple[bool, State]:
        """Write `new` in place of `old`; return (True, `new` as written), or (False, what is there instead)."""
        while new.past and new.size(self.item_name(key)) > UNIT:
            # First, so that no run is ever in neither place; a page at a time, which is mostly full by then.
            page = slot_of(new.past[0])[0]
            self.file(key, tuple(run for run in new.past if slot_of(run)[0] == page), deadline)
            new = new.but(past=tuple(run for run in new.past if slot_of(run)[0] != page))
        new = new.but(rev=old.rev + 1 if old.rev else int(self.service.times.now() * 1000) + 1)
        before, after = old.encode() if old.rev else {}, new.encode()
        sets = {name: value for name, value in after.items() if before.get(name) != value}
        removed = [name for name in before if name not in after]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
        if removed:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in removed)
        values: Item = {f":{name}": value for name, value in sets.items()}
        if old.rev:
            condition = "#rev = :old"
            values[":old"] = {"N": str(old.rev)}
        else:
            condition = f"attribute_not_exists(#{KEY})"
        names = {*sets, *removed, *(() if old.rev else (KEY,))}
        if old.run is not None:
            # A table that was restored from a backup counts again, perhaps up to the very same number.
            condition += " AND begins_with(#run, :owner)"
            values[":owner"] = {"S": run_to_text(old.run).partition("\t")[0]}
            names.add("run")
        request = {
            "Key": {KEY: {"S": self.item_name(key)}},
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": _names(*names),
            "ExpressionAttributeValues": values,
            "ReturnValues": "UPDATED_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        reply = self.ask("UpdateItem", request, deadline, (_REFUSED,))
        if reply.code:
            found = self._refused_state(key, reply, deadline)
            # It is done already where the request came in twice.
            return (found.rev == new.rev and found.encode() == after), found
        if _dict(_dict(reply.body.get("Attributes")).get("rev")).get("N") != str(new.rev):
            raise Unanswered(f"{self._shown}: does not answer an update as DynamoDB does")
        return True, new

    def file(self, key: str, past: tuple[Run, ...], deadline: float) -> None:
        """Put past runs of one page into its item; a later run in the same slot stays."""
        values: Item = {}
        slots = {slot_of(run)[1]: run for run in past}
        for slot, run in slots.items():
            values[f":h{slot}"] = {"S": run_to_text(run)}
            values[f":f{slot}"] = {"N": str(run.fence or 0)}
        request = {
            "Key": {KEY: {"S": self.page_name(key, slot_of(past[0])[0])}},
            "UpdateExpression": "SET " + ", ".join(f"#{name[1:]} = {name}" for name in values),
            "ConditionExpression": " AND ".join(
                f"(attribute_not_exists(#f{slot}) OR #f{slot} <= :f{slot})" for slot in slots
            ),
            "ExpressionAttributeNames": _names(*(name[1:] for name in values)),
            "ExpressionAttributeValues": values,
        }
        self.ask("UpdateItem", request, deadline, (_REFUSED,))

    def set_mark(self, key: str, state: State, deadline: float) -> None:
        request = {
            "Key": {KEY: {"S": self.item_name(key)}},
            "UpdateExpression": "SET #mark = :mark",
            "ConditionExpression": "#rev = :rev",
            "ExpressionAttributeNames": _names("mark", "rev"),
            "ExpressionAttributeValues": {
                ":mark": {"S": f"{state.rev} {self.service.times.latest():.3f}"},
                ":rev": {"N": str(state.rev)},
            },
        }
        # Refused: somebody changed the item, so there is nothing to be marked.
        self.ask("UpdateItem", request, deadline, (_REFUSED,))

    def keys(self) -> Iterator[str]:
        """List the keys with a record, by reading the whole table."""
        start = f"{self._prefix}:"
        request: dict[str, Any] = {
            "TableName": self.name,
            "ConsistentRead": True,
            "ProjectionExpression": "#cronlock",
            "FilterExpression": _LISTED,
            "ExpressionAttributeNames": _names("cronlock", "run", "last"),
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
                raise BackendUnavailable(f"{self._shown}: does not answer a scan as DynamoDB does")
            request["ExclusiveStartKey"] = behind

    def ask(self, action: str, request: dict[str, Any], deadline: float, known: tuple[str, ...] = ()) -> aws.Reply:
        """Ask about the table; raises `NoTable` when there is none."""
        request.setdefault("TableName", self.name)
        if action == "BatchGetItem":
            del request["TableName"]
        reply = self.service.call(action, request, deadline, (*known, _NO_TABLE))
        if reply.code == _NO_TABLE:
            raise NoTable(
                f"{self._shown}: there is no table {self.name} in {self.service.region}: make it by"
                f" `cronlock doctor --create`, or see cronlock-backends(7)"
            )
        return reply

    def get(self, key: str, deadline: float) -> State:
        request = {"Key": {KEY: {"S": self.item_name(key)}}, "ConsistentRead": True}
        return self.state(key, self.ask("GetItem", request, deadline).body.get("Item"))

    def get_all(self, names: list[str], deadline: float) -> dict[str, Item]:
        """Return the items that there are, by name."""
        found: dict[str, Item] = {}
        wanted: Any = {self.name: {"Keys": [{KEY: {"S": name}} for name in names], "ConsistentRead": True}}
        pause = _FIRST_PAUSE
        while True:
            body = self.ask("BatchGetItem", {"RequestItems": wanted}, deadline).body
            for item in _list(_dict(body.get("Responses")).get(self.name)):
                name = _dict(item.get(KEY)).get("S")
                if isinstance(name, str):
                    found[name] = item
            wanted = body.get("UnprocessedKeys")
            if not wanted:
                return found
            # Left for another request, as when the table is busy.
            if time.monotonic() + pause > deadline:
                raise BackendUnavailable(f"{self._shown}: throttled: table {self.name} is too busy to be read")
            time.sleep(pause)
            pause *= 2

    def _refused_state(self, key: str, reply: aws.Reply, deadline: float) -> State:
        """Return what is there in place of what an update expected; some servers do not say it in the refusal."""
        item = reply.body.get("Item")
        return self.state(key, item) if item else self.get(key, deadline)

    def state(self, key: str, item: Item | None) -> State:
        if not item:
            return State()
        try:
            return State.decode(item)
        except ForeignValue as error:
            name = ascii(self.item_name(key))
            raise ForeignValue(f"{self._shown}: item {name}: {error}; delete it or use ?prefix=") from None

    def item_name(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    def page_name(self, key: str, page: int) -> str:
        """Return the name of an item for past runs: no prefix has a slash."""
        return f"{self._prefix}/{page}:{key}"


def _names(*names: str) -> dict[str, str]:
    """Return attributes' names as expressions have them, since some are words of the language."""
    return {f"#{name}": name for name in names}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
