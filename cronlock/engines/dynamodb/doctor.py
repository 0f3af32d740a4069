"""The checks of ``cronlock doctor`` on DynamoDB, and the table that it makes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding
from ...errors import BackendUnavailable
from ..wire import aws_doctor
from ..wire.aws import Denied
from ..wire.doctor import judge_server_clock
from .item import KEY
from .store import DynamoDBStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...doctor.probe import Case

#: Permissions of a run, and of the other commands besides.
RUN_ACTIONS = ("GetItem", "UpdateItem")
READ_ACTIONS = ("Scan",)
DOCTOR_ACTIONS = ("DescribeTable", "DescribeTimeToLive", "DeleteItem")
#: How long a table takes to be made, in seconds, at most: it is some ten of them.
_MAKING = 90.0


def create(case: Case) -> Iterator[Finding]:
    """Make the table unless there is one of that name. Raises BackendUnavailable, and ConfigError."""
    table = case.store(DynamoDBStore).table
    deadline = time.monotonic() + max(case.timeout, _MAKING)
    yield aws_doctor.create(f"table {table.name}", lambda: table.create(deadline), "dynamodb:CreateTable")


def reach(case: Case) -> Iterator[Finding]:
    """Find credentials, connect, and see that the table is there. Raises BackendUnavailable."""
    store = case.store(DynamoDBStore)
    case.share_key()
    yield from aws_doctor.reach(store.service, "table", lambda: store.table.get(case.key, case.deadline()))


def examine(case: Case) -> Iterator[Finding]:
    """Look at the table, its settings, what these credentials may do, and at the clock."""
    store = case.store(DynamoDBStore)
    yield from _table(case, store)
    yield from _expiry(case, store)
    yield aws_doctor.count_keys(store, "dynamodb:Scan")
    yield judge_server_clock(store.service.times, store.service.clock.wall(), case.hold)


def _table(case: Case, store: DynamoDBStore) -> Iterator[Finding]:
    try:
        description = store.table.describe(case.deadline())
    except Denied:
        yield Finding("table", NOTE, "cannot tell its settings: these credentials may not dynamodb:DescribeTable")
        return
    status = str(description.get("TableStatus"))
    yield Finding("table", OK if status in ("ACTIVE", "UPDATING") else WARNING, f"{store.table.name}: {status}")
    schema = [(part.get("AttributeName"), part.get("KeyType")) for part in description.get("KeySchema") or ()]
    if schema != [(KEY, "HASH")]:
        yield Finding("key", BAD, f"its key is {schema}", f"make another table, whose only key is {KEY!r}, a string")
    mode = (description.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED")
    if mode == "PAY_PER_REQUEST":
        yield Finding("capacity", OK, "on demand")
    else:
        capacity: Any = description.get("ProvisionedThroughput") or {}
        writes, reads = capacity.get("WriteCapacityUnits"), capacity.get("ReadCapacityUnits")
        text = f"provisioned: {writes} writes and {reads} reads/s"
        yield Finding("capacity", NOTE, f"{text}; many nodes that start in the same second are throttled beyond that")
    replicas = [str(one.get("RegionName")) for one in description.get("Replicas") or ()]
    if description.get("GlobalTableVersion") or replicas:
        strong = description.get("MultiRegionConsistency") == "STRONG"
        text = f"it is a global table ({', '.join(replicas) or 'several regions'})"
        if strong:
            yield Finding("regions", NOTE, f"{text} with strong consistency; cronlock is not tested on those")
        else:
            remedy = "use a table of one region, or see that all machines name the same region= in the URL"
            yield Finding("regions", BAD, f"{text}: two regions can grant the same key", remedy)
    if not description.get("DeletionProtectionEnabled"):
        yield Finding("deletion", NOTE, "it can be deleted, with all leases and fences: deletion protection is off")


def _expiry(case: Case, store: DynamoDBStore) -> Iterator[Finding]:
    try:
        body = store.table.ask("DescribeTimeToLive", {}, case.deadline()).body
    except BackendUnavailable:
        return  # Of little weight, and often not allowed.
    expiry: Any = body.get("TimeToLiveDescription") or {}
    if expiry.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
        text = f"by attribute {expiry.get('AttributeName')!r}: cronlock writes none, so nothing is deleted"
        yield Finding("expiry", NOTE, text)
