"""DynamoDB on two emulators: the contract, lost replies, what a run costs, the table, refusals, strict=yes.

With CRONLOCK_TEST_DYNAMODB=dynamodb://TABLE?... all of it but the proxies' tests also runs on AWS, with
the credentials that are there; the table has to exist.

The emulators differ from AWS, and from each other, in what cronlock relies on:

- moto's tables have no lock (see labs/servers/aws.py); MiniStack and AWS do one update of an item at a time;
- moto and MiniStack take expressions that AWS refuses, such as names that are not used: dynalite and AWS do not;
- dynalite, which passes the contract as well, gives no item with a refusal: cronlock then reads it;
- none of them makes a table that is not ready at once, throttles, or looks at signatures and policies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from cronlock.engines.dynamodb.store import DynamoDBStore
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HISTORY
from cronlock.testing import LONG, StoreContract, eventually, granted, make_claim, make_ending
from cronlock.testing.cells import read
from cronlock.testing.cells import try_swap as swap
from labs.servers.aws import AwsServer
from labs.servers.aws_gate import Gate

from ..faults import Costs, Doubles, StoreFaults, Strangers, URLs
from ..wire.aws_nodes import with_params
from ..wire.aws_suite import DatedStoreSuite, Suite
from .dynamodb_nodes import DynamoDBHooks, a_store, item, put, replace

_GOOD = {
    **{"v": {"N": "2"}, "rev": {"S": "x"}, "record": {"S": "cronlock=2"}},
    **{"lapse": {"N": "0"}, "hold": {"N": "0"}, "ttl": {"N": "0"}},
}


class TestDynamoDB(StoreContract):
    """One table."""

    @pytest.fixture
    def hooks(self, swift_hooks: DynamoDBHooks) -> DynamoDBHooks:
        """Need not wait, unless it is AWS's."""
        return swift_hooks


class TestStore(DatedStoreSuite):
    """The same as S3's."""


class TestStrangers(Strangers, URLs):
    """Foreign items, and a table that is missing or wrong."""

    foreign: ClassVar[list[tuple[dict[str, dict[str, str]], str]]] = [
        ({"hello": {"S": "world"}}, "not a record of cronlock"),
        ({"v": {"N": "1"}, "rev": {"N": "7"}, "gone": {"S": " "}}, "a record of an older, unreleased layout"),
        ({**_GOOD, "v": {"N": "3"}}, "not a record of cronlock"),
        ({**_GOOD, "v": {"S": "2"}}, "not a record of cronlock"),
        ({**_GOOD, "rev": {"N": "1"}}, "not a record of cronlock"),
        ({**_GOOD, "record": {"B": "AAAA"}}, "not a record of cronlock"),
        ({**_GOOD, "record": {"S": "naïve"}}, "not a record of cronlock"),
        ({**_GOOD, "lapse": {"N": "-1"}}, "not a record of cronlock: no time"),
        (
            {name: value for name, value in _GOOD.items() if name != "hold"},
            "not a record of cronlock: attribute 'hold'",
        ),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("dynamodb://", "name one table"),
        ("dynamodb://a", "3 to 255"),
        ("dynamodb://tab$le", "3 to 255"),
        ("dynamodb://table:80", "name one table"),
        ("dynamodb://table,other", "name one table"),
        ("dynamodb://table/path", "a path is not supported"),
        ("dynamodb://user:secret@table", "user and password are not supported"),
        ("dynamodb://table?create=1", "create=yes"),
        ("dynamodb://table?strict=maybe", "strict=yes"),
        ("dynamodb://table?ttl=1", "unknown parameter"),
        ("dynamodb://table?region=EU%20West", "is no region"),
        ("dynamodb://table?endpoint=localhost:8000", "http://HOST:PORT"),
        ("dynamodb://table?endpoint=ftp://localhost", "http://HOST:PORT"),
        ("dynamodb://table?endpoint=http://", "host is missing"),
        ("dynamodb://table?endpoint=http://localhost:port", "bad port"),
        ("dynamodb://table?prefix=a/b", "prefix="),
    ]


class TestFaults(StoreFaults, Doubles, Costs):
    """An emulator by a wire."""

    @pytest.fixture
    def hooks(self, emulated_hooks: DynamoDBHooks) -> DynamoDBHooks:
        """Not on AWS."""
        return emulated_hooks


@pytest.mark.parametrize("says", [True, False])
def test_refusal_brings_the_item_along(guarded: DynamoDBStore, gate: Gate, key: str, says: bool) -> None:
    """A refused swap returns the current item in the same reply, if the server supports that."""
    seen = read(guarded, key)
    swap(guarded, key, seen, b"there", lease=LONG)
    before = len(gate.actions)
    if not says:
        gate.refuse("ConditionalCheckFailedException")
    done, cell = swap(guarded, key, seen, b"too late")
    assert (done, cell.data, cell.lease > 0) == (False, b"there", True)
    assert gate.actions[before:] == (["UpdateItem"] if says else ["UpdateItem", "GetItem"])


# Cost


@pytest.mark.parametrize(("host", "units"), [("web-3", 3), ("ip-10-0-142-201.eu-central-1.compute.internal", 3)])
def test_units_of_a_run(store: DynamoDBStore, url: str, key: str, host: str, units: int) -> None:
    """With a history that is full a write is paid for as so many kilobytes; the manual has the price."""
    node, sizes = Leases(store), []
    for number in range(HISTORY + 3):
        owner = f"{host}:4711:{number:016x}"
        claim = make_claim(f"billing-{key}", owner=owner, host=host, program="make-invoices", hold=LONG)
        grant = granted(node.acquire(claim.but(ignore_hold=True)))
        sizes.append(_size(item(url, claim.key)))
        assert node.release(grant, make_ending(), keep_hold=True)
        sizes.append(_size(item(url, claim.key)))
    assert -(-max(sizes) // 1024) == units
    assert max(sizes) <= 4096  # One unit of a read.


def _size(found: dict[str, dict[str, str]]) -> int:
    """Return an item's size as AWS counts it: names and texts as UTF-8, a number's digits by twos, and one."""
    total = 0
    for name, value in found.items():
        ((kind, text),) = value.items()
        total += len(name) + (len(text.encode()) if kind == "S" else (len(text) + 1) // 2 + 1)
    return total


# The table


def test_settings_of_a_new_table(emulator: AwsServer | None, suite: type[Suite]) -> None:
    """It is paid by the request, and protected against deletion."""
    if emulator is None:
        pytest.skip("nothing is made on AWS")
    made = a_store(suite.url(emulator.endpoint, f"made-{os.urandom(6).hex()}"))
    assert made.make(made.service.deadline())
    told = made.table.describe(made.service.deadline())
    assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert told["DeletionProtectionEnabled"] is True
    made.close()


def test_table_that_is_still_being_made(guarded: DynamoDBStore, gate: Gate) -> None:
    """A request that cannot wait for a new table reports that it is being made."""
    gate.refuse("ResourceInUseException")
    gate.answers += [(200, b'{"Table": {"TableStatus": "CREATING"}}')] * 100
    with pytest.raises(BackendUnavailable, match="being made"):
        guarded.table.create(time.monotonic() + 4.0)


# strict=yes


@pytest.fixture
def strict(url: str) -> Iterator[Callable[[], DynamoDBStore]]:
    """Open one more strict store."""
    stores: list[DynamoDBStore] = []

    def open_one() -> DynamoDBStore:
        stores.append(a_store(with_params(url, "strict=yes")))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_strict_waits_for_a_whole_ttl(
    store: DynamoDBStore, strict: Callable[[], DynamoDBStore], url: str, key: str
) -> None:
    """A strict store ignores written ends; it waits until nothing has changed for a ttl."""
    _, held = swap(store, key, read(store, key), b"held", lease=2.0)
    put(url, key, lapse=1.0)
    first, second = strict(), strict()
    assert read(store, key).lease == 0
    assert 2.0 < read(first, key).lease <= 4.0
    # Another node continues an observation; the holder need not know.
    assert 0 < read(second, key).lease <= 4.0
    assert item(url, key)["rev"] == {"S": held.version}
    began = time.monotonic()
    eventually(lambda: read(second, key).lease == 0, "a whole ttl has passed", pause=0.3)
    assert time.monotonic() - began > 1.5
    eventually(lambda: read(first, key).lease == 0, "this one knows it, too", limit=2.0)
    done, cell = swap(second, key, read(second, key), b"taken", lease=2.0)
    assert done
    assert cell.lease == 2.0
    assert "mark" not in item(url, key)


def test_strict_restarts_with_each_write(
    store: DynamoDBStore, strict: Callable[[], DynamoDBStore], url: str, key: str
) -> None:
    """A holder that goes on renewing is not taken over, whatever end was written."""
    _, held = swap(store, key, read(store, key), b"held", lease=2.0)
    put(url, key, lapse=1.0)
    other = strict()
    assert read(other, key).lease > 0
    old = item(url, key)["mark"]["S"].partition(" ")[0]
    done, held = swap(store, key, held, b"held", lease=2.0)
    assert done
    for mark in (f"{old} 1000.000", "nonsense", f"{held.version} nonsense", f"{held.version} nan"):
        replace(url, key, {"mark": {"S": mark}, "lapse": {"N": "1"}})
        assert read(other, key).lease == pytest.approx(4.0)
    replace(url, key, {"mark": {"S": f"{held.version} 1000.000"}})
    assert read(other, key).lease == 0


def test_strict_does_not_wait_for_the_ended(
    store: DynamoDBStore, strict: Callable[[], DynamoDBStore], key: str
) -> None:
    """A lease that was ended is not waited for."""
    _, held = swap(store, key, read(store, key), b"held", lease=LONG)
    swap(store, key, held, b"ended", lease=0.0)
    assert read(strict(), key).lease == 0


def test_strict_read_without_write_permission(gate: Gate, store: DynamoDBStore, url: str, key: str) -> None:
    """It shows the lease, and leaves the mark to others."""
    swap(store, key, read(store, key), b"held", lease=2.0)
    put(url, key, lapse=1.0)
    gate.allowed = {"GetItem"}
    one = a_store(f"dynamodb://cronlock?endpoint={gate.endpoint}&strict=yes")
    assert read(one, key).lease > 2.0
    assert gate.actions == ["GetItem", "UpdateItem"]
    one.close()
