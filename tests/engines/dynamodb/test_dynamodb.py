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
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from cronlock.engines.dynamodb.store import DynamoDBStore
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HISTORY, Conflict, Grant
from cronlock.testing import LONG, StoreContract, eventually, fresh_key, granted, make_claim, make_ending
from cronlock.testing.cells import read
from cronlock.testing.cells import try_swap as swap
from labs.servers.aws import DYNAMODB_EMULATORS, ENVIRON, AwsServer
from labs.servers.aws_gate import Gate

from ..faults import Costs, Doubles, StoreFaults, Strangers, URLs
from ..wire.aws_nodes import Later, a_node, with_params
from .dynamodb_nodes import DynamoDBHooks, a_store, delete, item, make_table, put, replace

#: A real table that the tests are to be run on as well, by whoever has an account.
_REAL = os.environ.get("CRONLOCK_TEST_DYNAMODB")


@pytest.fixture(scope="module", params=[*sorted(DYNAMODB_EMULATORS), *(["aws"] if _REAL else [])])
def kind(request: pytest.FixtureRequest) -> str:
    """Which DynamoDB is asked."""
    return str(request.param)


@pytest.fixture(scope="module")
def emulator(kind: str) -> Iterator[AwsServer | None]:
    """The emulator that is asked, None for AWS itself."""
    if kind == "aws":
        yield None
        return
    with DYNAMODB_EMULATORS[kind]() as running:
        yield running


@pytest.fixture(scope="module")
def url(emulator: AwsServer | None) -> str:
    """The URL of a table that is there."""
    if emulator is None:
        assert _REAL is not None
        return _REAL
    make_table(emulator.url())
    return emulator.url()


@pytest.fixture
def store(url: str) -> Iterator[DynamoDBStore]:
    """A node's store that reaches the table."""
    one = a_store(url)
    yield one
    one.close()


@pytest.fixture
def gate(emulator: AwsServer | None, url: str) -> Iterator[Gate]:
    """What AWS has in front, before the emulator."""
    if emulator is None:
        pytest.skip(f"{url}: only for emulators")
    with Gate(emulator.port, ENVIRON["AWS_SECRET_ACCESS_KEY"]) as standing:
        yield standing


@pytest.fixture
def guarded(gate: Gate) -> Iterator[DynamoDBStore]:
    """A store that has to pass the gate."""
    one = a_store(f"dynamodb://cronlock?endpoint={gate.endpoint}")
    yield one
    one.close()


_GOOD = {
    **{"v": {"N": "2"}, "rev": {"S": "x"}, "record": {"S": "cronlock=2"}},
    **{"lapse": {"N": "0"}, "hold": {"N": "0"}, "ttl": {"N": "0"}},
}


@pytest.fixture
def hooks(emulator: AwsServer | None, url: str) -> DynamoDBHooks:
    """The shared table's hooks."""
    return DynamoDBHooks(emulator, url)


class TestDynamoDB(StoreContract):
    """One table."""

    @pytest.fixture
    def hooks(self, emulator: AwsServer | None, url: str) -> Iterator[DynamoDBHooks]:
        """The shared table's hooks, which need not wait unless it is AWS's."""
        if emulator is None:
            yield DynamoDBHooks(emulator, url)
            return
        later = Later(emulator.port)
        with later:
            yield DynamoDBHooks(emulator, url, later)


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
            "not a record of cronlock: without attribute 'hold'",
        ),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("dynamodb://", "name one table"),
        ("dynamodb://a", "3 to 255"),
        ("dynamodb://tab$le", "3 to 255"),
        ("dynamodb://table:80", "name one table"),
        ("dynamodb://table,other", "name one table"),
        ("dynamodb://table/path", "no path"),
        ("dynamodb://user:secret@table", "no user and password"),
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
    def hooks(self, emulator: AwsServer | None, url: str) -> DynamoDBHooks:
        """The shared table's hooks."""
        if emulator is None:
            pytest.skip(f"{url}: nothing comes between")
        return DynamoDBHooks(emulator, url)


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


def test_deleted_item(store: DynamoDBStore, url: str, key: str) -> None:
    """A swap of a deleted item is refused, and makes no new one."""
    _, seen = swap(store, key, read(store, key), b"mine", lease=LONG)
    delete(url, key)
    done, cell = swap(store, key, seen, b"mine", lease=LONG)
    assert (done, cell.data, cell.lease) == (False, None, 0)
    # A fence after a lost record is above all that were given before.
    assert cell.floor > (time.time() - 60) * 1e6
    assert not item(url, key)


# What it costs


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


def test_missing_table(key: str, url: str) -> None:
    """A table that is not there is a fault of the configuration, and the line to type is said."""
    elsewhere = a_store(url.replace("dynamodb://cronlock", "dynamodb://no-such-table"))
    with pytest.raises(ConfigError, match=r"no table no-such-table in .*cronlock doctor --create"):
        read(elsewhere, key)
    elsewhere.close()


def test_table_is_made_by_the_first_run(key: str, emulator: AwsServer | None) -> None:
    """With create=yes the first run makes the table, of many at once too, and runs."""
    if emulator is None:
        pytest.skip("AWS's tables are kept")
    name = f"made-{fresh_key()}"
    nodes = [a_node(f"dynamodb://{name}?endpoint={emulator.endpoint}&create=yes") for _ in range(4)]
    answers: list[Grant | Conflict] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(one.acquire(make_claim(key)))) for one in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "Conflict", "Grant"]
    store = nodes[0].store
    assert isinstance(store, DynamoDBStore)
    told = store.table.describe(store.service.deadline())
    assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert told["DeletionProtectionEnabled"] is True
    for one in nodes:
        one.close()


def test_table_that_is_still_being_made(guarded: DynamoDBStore, gate: Gate) -> None:
    """A request that cannot wait for a new table reports that it is being made."""
    gate.refuse("ResourceInUseException")
    gate.answers += [(200, b'{"Table": {"TableStatus": "CREATING"}}')] * 100
    with pytest.raises(BackendUnavailable, match="being made"):
        guarded.table.create(time.monotonic() + 1.0)


def test_what_a_policy_must_allow(guarded: DynamoDBStore, gate: Gate, key: str) -> None:
    """A run, and a look at one key, get by with two actions; a list of keys needs one more."""
    node = Leases(guarded)
    gate.allowed = {"GetItem", "UpdateItem"}
    grant = granted(node.acquire(make_claim(key, ignore_hold=True)))
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    assert not node.force_release(key, "nobody")
    assert node.read(key) is not None
    with pytest.raises(BackendUnavailable, match=r"may not dynamodb:Scan: allow it"):
        list(node.keys())
    gate.allowed.add("Scan")
    assert key in set(node.keys())


def test_prefixes_keep_keys_apart(store: DynamoDBStore, url: str, key: str) -> None:
    """Two fleets share a table by different prefixes."""
    other = a_store(with_params(url, f"prefix=other-{key}"))
    swap(store, key, read(store, key), b"mine")
    assert read(other, key).data is None
    swap(other, key, read(other, key), b"theirs")
    assert read(store, key).data == b"mine"
    assert list(other.keys()) == [key]
    assert other.location(key) == f"{str(url).partition('?')[0]}: item 'other-{key}:{key}'"
    other.close()


# strict=yes


@pytest.fixture
def strict(url: str) -> Iterator[Callable[[], DynamoDBStore]]:
    """What opens one more store that looks strictly."""
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
