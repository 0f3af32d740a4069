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

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cronlock.engines.dynamodb.store import DynamoDBStore
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, HISTORY, Conflict, Grant
from cronlock.testing import LONG, StoreContract, eventually, fresh_key, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.aws import EMULATORS, ENVIRON, AwsServer, MinistackServer
from labs.servers.aws_gate import Gate

from .dynamodb_nodes import (
    DynamoDBHooks,
    a_node,
    a_store,
    delete,
    item,
    make_table,
    put,
    read,
    replace,
    swap,
    use_examples,
    with_params,
)

#: A real table that the tests are to be run on as well, by whoever has an account.
_REAL = os.environ.get("CRONLOCK_TEST_DYNAMODB")


@pytest.fixture(scope="module", params=[*sorted(EMULATORS), *(["aws"] if _REAL else [])])
def kind(request: pytest.FixtureRequest) -> str:
    """Which DynamoDB is asked."""
    return str(request.param)


@pytest.fixture(scope="module")
def emulator(kind: str) -> Iterator[AwsServer | None]:
    """The emulator that is asked, None for AWS itself."""
    if kind == "aws":
        yield None
        return
    with EMULATORS[kind]() as running:
        yield running


@pytest.fixture(scope="module")
def url(emulator: AwsServer | None) -> str:
    """The URL of a table that is there."""
    if emulator is None:
        assert _REAL is not None
        return _REAL
    make_table(emulator.url())
    return emulator.url()


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client needs in its environment, and nothing of this machine's own, unless it asks AWS."""
    if "kind" not in request.fixturenames or request.getfixturevalue("kind") != "aws":
        use_examples(monkeypatch)


@pytest.fixture
def store(url: str) -> Iterator[DynamoDBStore]:
    """A node's store that reaches the table."""
    one = a_store(url)
    yield one
    one.close()


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


@pytest.fixture
def gate(emulator: AwsServer | None, url: str) -> Iterator[Gate]:
    """What AWS has in front, before the emulator."""
    if emulator is None:
        pytest.skip(f"{url}: AWS has its own in front")
    with Gate(emulator.port, ENVIRON["AWS_SECRET_ACCESS_KEY"]) as standing:
        yield standing


@pytest.fixture
def guarded(gate: Gate) -> Iterator[DynamoDBStore]:
    """A store that has to pass the gate."""
    one = a_store(f"dynamodb://cronlock?endpoint={gate.endpoint}")
    yield one
    one.close()


@pytest.fixture
def proxy(gate: Gate) -> Iterator[Proxy]:
    """A proxy before the gate, which keeps connections as AWS does."""
    with Proxy(gate.port) as standing:
        yield standing


@pytest.fixture
def far(proxy: Proxy) -> Iterator[DynamoDBStore]:
    """A store that goes through the proxy, and gives up soon."""
    one = a_store(f"dynamodb://cronlock?endpoint=http://127.0.0.1:{proxy.port}", 1.5)
    yield one
    one.close()


class TestDynamoDB(StoreContract):
    """One table."""

    #: The emulators take ten times as long for a request as others' servers.
    histories = 10

    @pytest.fixture
    def hooks(self, url: str) -> DynamoDBHooks:
        """The shared table's hooks."""
        return DynamoDBHooks(url)


# What is lost, late, or comes twice


@pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
@pytest.mark.parametrize("used", [False, True])
def test_lost_swap(store: DynamoDBStore, far: DynamoDBStore, proxy: Proxy, key: str, loss: str, used: bool) -> None:
    """It was done or not, which is not known; asked for again it is done, or refused with what it wrote."""
    seen = read(far, key)
    if used:
        _, seen = swap(far, key, seen, b"before")
    getattr(proxy, loss)()
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        swap(far, key, seen, b"after", lease=LONG)
    proxy.pass_all()
    was_done = loss == "drop_replies"
    assert (read(store, key).data == b"after") == was_done
    done, cell = swap(far, key, seen, b"again")
    assert (done, cell.data) == ((False, b"after") if was_done else (True, b"again"))
    assert (cell.lease > 0) == was_done


def test_late_swap(store: DynamoDBStore, far: DynamoDBStore, proxy: Proxy, key: str) -> None:
    """A request that arrives once somebody else wrote does nothing."""
    seen = read(far, key)
    proxy.hold_requests()
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        swap(far, key, seen, b"late", lease=LONG)
    done, cell = swap(store, key, read(store, key), b"in time")
    assert done
    proxy.deliver_held()
    assert item(store_url(store), key)["rev"] == {"S": cell.version}


def store_url(store: DynamoDBStore) -> str:
    """Return the URL of the table that a store reaches."""
    return f"dynamodb://{store.table.name}?endpoint={store.service.endpoint}"


def test_everything_twice(gate: Gate, proxy: Proxy, far: DynamoDBStore, key: str) -> None:
    """Each request comes in twice, and all is as if it had come once."""
    proxy.doubles = True
    node, claim = Leases(far), make_claim(key, hold=LONG)
    fence = granted(node.acquire(claim)).fence
    grant = granted(node.acquire(claim))
    assert grant.fence == fence
    assert node.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)
    assert node.release(grant, make_ending(), keep_hold=False)
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert len(record.history) == 2
    assert gate.actions.count("UpdateItem") == 2 * 6


@pytest.mark.parametrize("says", [True, False])
def test_refusal_brings_the_item_along(guarded: DynamoDBStore, gate: Gate, key: str, says: bool) -> None:
    """Who is refused knows what is there without asking again, but where a server does not say it."""
    seen = read(guarded, key)
    swap(guarded, key, seen, b"there", lease=LONG)
    before = len(gate.actions)
    if not says:
        gate.refuse("ConditionalCheckFailedException")
    done, cell = swap(guarded, key, seen, b"too late")
    assert (done, cell.data, cell.lease > 0) == (False, b"there", True)
    assert gate.actions[before:] == (["UpdateItem"] if says else ["UpdateItem", "GetItem"])


def test_deleted_item(store: DynamoDBStore, url: str, key: str) -> None:
    """A cell whose item somebody deleted is there no more, and its swap makes none."""
    _, seen = swap(store, key, read(store, key), b"mine", lease=LONG)
    delete(url, key)
    done, cell = swap(store, key, seen, b"mine", lease=LONG)
    assert (done, cell.data, cell.lease) == (False, None, 0)
    # A fence after a lost record is above all that were given before.
    assert cell.floor > (time.time() - 60) * 1e6
    assert not item(url, key)


# What it costs


def test_requests_of_a_run(guarded: DynamoDBStore, gate: Gate, key: str) -> None:
    """A skip is one plain read, a run a read and two updates, a renewal one update."""
    node = Leases(guarded)
    for _ in range(3):
        gate.actions.clear()
        grant = granted(node.acquire(make_claim(key)))
        refused(node.acquire(make_claim(key)), HELD)
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)
        assert gate.actions == ["GetItem", "UpdateItem", "GetItem", "UpdateItem", "UpdateItem"]


@pytest.mark.parametrize(("host", "units"), [("web-3", 3), ("ip-10-0-142-201.eu-central-1.compute.internal", 4)])
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


def test_a_run_imports_little(url: str, key: str) -> None:
    """A run with credentials of the environment imports no botocore; tests/test_cost.py has what it does."""
    code = (
        "import sys; from cronlock.engines.registry import open_backend; from cronlock.lease.vocabulary import Claim\n"
        f"node = open_backend({url!r}, 20.0)\n"
        f"node.acquire(Claim(key={key!r}, owner='o', host='h', pid=1, program='p', ttl=60.0, hold=0.0))\n"
        "print(' '.join(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"botocore", "boto3", "urllib3", "logging", "asyncio", "subprocess"}


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
    """Who cannot wait for a table says that it is being made."""
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
    assert other.place(key) == f"{str(url).partition('?')[0]}: item 'other-{key}:{key}'"
    other.close()


# What is not cronlock's


_GOOD = {
    **{"v": {"N": "2"}, "rev": {"S": "x"}, "record": {"S": "cronlock=2"}},
    **{"lapse": {"N": "0"}, "hold": {"N": "0"}, "ttl": {"N": "0"}},
}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hello": {"S": "world"}}, "not a record of cronlock"),
        ({"v": {"N": "1"}, "rev": {"N": "7"}, "gone": {"S": " "}}, "a record of an older, unreleased layout"),
        ({**_GOOD, "v": {"N": "3"}}, "not a record of cronlock"),
        ({**_GOOD, "v": {"S": "2"}}, "not a record of cronlock"),
        ({**_GOOD, "rev": {"N": "1"}}, "not a record of cronlock"),
        ({**_GOOD, "record": {"B": "AAAA"}}, "not a record of cronlock"),
        ({**_GOOD, "record": {"S": "naïve"}}, "not a record of cronlock"),
        ({**_GOOD, "lapse": {"N": "-1"}}, "not a record of cronlock: no time"),
        ({name: value for name, value in _GOOD.items() if name != "hold"}, "without attribute 'hold'"),
    ],
)
def test_foreign_item_is_left_alone(
    store: DynamoDBStore, url: str, key: str, values: dict[str, dict[str, str]], said: str
) -> None:
    """An item that is not cronlock's is named in one line, and not written to."""
    seen = read(store, key)
    replace(url, key, values)
    before = item(url, key)
    for work in (lambda: read(store, key), lambda: swap(store, key, seen, b"mine", lease=LONG)):
        with pytest.raises(ForeignValue, match=rf"item 'cronlock:{key}': [^\n]*{said}[^\n]*nothing was changed"):
            work()
    assert item(url, key) == before


# Servers that fail


def test_paused_server_is_unavailable(key: str) -> None:
    """A server that stands still costs the time limit of a request, and what it was asked takes nothing later."""
    with MinistackServer() as server:
        make_table(server.url())
        node, other = a_node(server.url(), 1.0), a_node(server.url())
        grant = granted(node.acquire(make_claim(key, ttl=2.0)))
        server.pause()
        began = time.monotonic()
        for work in (lambda: node.renew(grant), lambda: node.acquire(make_claim(key))):
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                work()
        assert time.monotonic() - began < 8.0
        server.resume()
        eventually(lambda: isinstance(other.acquire(make_claim(key)), Grant), "the lease lapsed", pause=0.3)
        assert not node.renew(grant)
        node.close()
        other.close()


def test_server_that_is_down(key: str) -> None:
    """A server that is not there is said in one line."""
    with MinistackServer() as server:
        store = a_store(server.url())
    said = rf"dynamodb://cronlock: {re.escape(server.endpoint)}: connection refused"
    with pytest.raises(BackendUnavailable, match=said):
        read(store, key)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100000,
        b'{"Attributes": 1}',
        b'{"Attributes": {"rev": 1}}',
        b'{"Attributes": {"rev": {"S": "another"}}}',
        b'{"Item": [], "Attributes": []}',
        b'{"Item": [1]}',
        b'{"Item": {"v": {"N": 2}}}',
    ],
)
@pytest.mark.parametrize("status", [200, 302, 400, 500])
def test_nonsense_is_no_grant(guarded: DynamoDBStore, gate: Gate, key: str, status: int, body: bytes) -> None:
    """Whatever a server answers that is not DynamoDB, nothing is taken for granted, and no traceback comes of it."""
    gate.answers += [(status, body)] * 3
    with pytest.raises((BackendUnavailable, ForeignValue)):
        Leases(guarded).acquire(make_claim(key))
    gate.answers.clear()
    assert isinstance(Leases(guarded).acquire(make_claim(key)), Grant)


@pytest.mark.parametrize("answer", [{"Items": 1}, {"Items": [1, {"cronlock": 1}, {"cronlock": {"N": "1"}}]}])
def test_nonsense_is_no_key(guarded: DynamoDBStore, gate: Gate, answer: dict[str, object]) -> None:
    """A list of items that is none names no keys."""
    gate.answers += [(200, json.dumps(answer).encode())]
    assert list(guarded.keys()) == []


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
    """Who looks strictly believes no end that was written, only that nothing changed for a ttl."""
    _, held = swap(store, key, read(store, key), b"held", lease=2.0)
    put(url, key, lapse=1.0)
    first, second = strict(), strict()
    assert read(store, key).lease == 0
    assert 2.0 < read(first, key).lease <= 4.0
    # What was begun by one is gone on with by another; and its holder need not know.
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


def test_strict_begins_anew_with_each_write(
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


def test_strict_look_of_who_may_only_read(gate: Gate, store: DynamoDBStore, url: str, key: str) -> None:
    """It shows the lease, and leaves the mark to others."""
    swap(store, key, read(store, key), b"held", lease=2.0)
    put(url, key, lapse=1.0)
    gate.allowed = {"GetItem"}
    one = a_store(f"dynamodb://cronlock?endpoint={gate.endpoint}&strict=yes")
    assert read(one, key).lease > 2.0
    assert gate.actions == ["GetItem", "UpdateItem"]
    one.close()


# URLs


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("dynamodb://", "name one table"),
        ("dynamodb://a", "3 to 255"),
        ("dynamodb://tab$le", "3 to 255"),
        ("dynamodb://table:80", "name one table"),
        ("dynamodb://table,other", "name one table"),
        ("dynamodb://table/path", "no path"),
        ("dynamodb://user:geheim@table", "no user and password"),
        ("dynamodb://table?create=1", "create=yes"),
        ("dynamodb://table?strict=maybe", "strict=yes"),
        ("dynamodb://table?ttl=1", "unknown parameter"),
        ("dynamodb://table?region=EU%20West", "is no region"),
        ("dynamodb://table?endpoint=localhost:8000", "http://HOST:PORT"),
        ("dynamodb://table?endpoint=ftp://localhost", "http://HOST:PORT"),
        ("dynamodb://table?endpoint=http://", "host is missing"),
        ("dynamodb://table?endpoint=http://localhost:port", "bad port"),
        ("dynamodb://table?prefix=a/b", "prefix="),
    ],
)
def test_bad_urls(bad: str, said: str) -> None:
    """A URL that cannot be is refused before anything is asked."""
    with pytest.raises(ConfigError, match=said) as caught:
        a_store(bad)
    assert "geheim" not in str(caught.value)
