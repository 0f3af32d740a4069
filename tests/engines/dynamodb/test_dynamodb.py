"""DynamoDB on two emulators: the contract, races, lost replies, what a run costs, the table, refusals.

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
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.dynamodb.backend import DynamoDBBackend
from cronlock.engines.dynamodb.item import PAGES, RING, State
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.vocabulary import CANCELLED, FORGOTTEN, HELD, HISTORY, HOLD, Conflict, Grant, Sight
from cronlock.testing import (
    LONG,
    BackendContract,
    Hooks,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.proxy import Proxy
from labs.servers.aws import EMULATORS, ENVIRON, AwsServer, MinistackServer
from labs.servers.aws_gate import Gate

from ..losses import LostReplies, everything_twice
from .dynamodb_nodes import DynamoDBHooks, delete, item, open_node, put, replace

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

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
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        node = open_node(emulator.url())
        node.table.create(node.service.deadline())
        node.close()
    return emulator.url()


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client needs in its environment, and nothing of this machine's own, unless it asks AWS."""
    if "kind" in request.fixturenames and request.getfixturevalue("kind") == "aws":
        return
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def node(url: str) -> Iterator[DynamoDBBackend]:
    """A node that reaches the table."""
    backend = open_node(url)
    yield backend
    backend.close()


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
def guarded(gate: Gate) -> Iterator[DynamoDBBackend]:
    """A node that has to pass the gate."""
    backend = open_node(f"dynamodb://cronlock?endpoint={gate.endpoint}")
    yield backend
    backend.close()


class TestDynamoDB(BackendContract):
    """One table."""

    @pytest.fixture
    def hooks(self, url: str) -> Hooks:
        """The shared table's hooks."""
        return DynamoDBHooks(url)


class _Way(Proxy):
    """A proxy that loses no answer to a plain read: what is read before a write is in no doubt."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._reading: set[object] = set()

    def _upward(self, connection, data) -> None:  # type: ignore[no-untyped-def]
        self._reading.discard(connection)
        if b".GetItem\r\n" in data:
            self._reading.add(connection)
        super()._upward(connection, data)

    def _downward(self, connection, data) -> None:  # type: ignore[no-untyped-def]
        if connection in self._reading:
            connection.replies += 1
            if not connection.left:
                connection.client.sendall(data)
        else:
            super()._downward(connection, data)


class TestLostReplies(LostReplies):
    """Lost, late and doubled requests, through a proxy."""

    @pytest.fixture
    def hooks(self, url: str) -> Hooks:
        """The shared table's hooks."""
        return DynamoDBHooks(url)

    @pytest.fixture
    def proxy(self, gate: Gate) -> Iterator[Proxy]:
        """A proxy before the gate, which keeps connections as AWS does."""
        with _Way(gate.port) as proxy:
            yield proxy

    @pytest.fixture
    def far(self, proxy: Proxy) -> Iterator[Backend]:
        """A node that goes through the proxy."""
        backend = open_node(f"dynamodb://cronlock?endpoint=http://127.0.0.1:{proxy.port}", 1.5)
        assert backend.read(fresh_key()) is None
        yield backend
        backend.close()

    @pytest.fixture
    def node(self, url: str) -> Iterator[Backend]:
        """A node that does not."""
        backend = open_node(url)
        yield backend
        backend.close()


def test_everything_twice(gate: Gate, node: DynamoDBBackend, key: str) -> None:
    """Each request comes in twice, and all is as if it had come once."""
    with Proxy(gate.port) as proxy:
        far = open_node(f"dynamodb://cronlock?endpoint=http://127.0.0.1:{proxy.port}")
        everything_twice(far, node, proxy, key)
        far.close()


# Races


def test_fifty_racers_round_after_round(url: str) -> None:
    """Of fifty nodes exactly one gets the key, whether it is new, ended, or its holder died."""
    nodes = [open_node(url) for _ in range(50)]
    hooks, key, fence = DynamoDBHooks(url), fresh_key(), 0
    for number in range(6):
        answers: list[Grant | Conflict] = []
        barrier = threading.Barrier(len(nodes))

        def race(racer: DynamoDBBackend, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
            start.wait()
            into.append(racer.acquire(make_claim(key)))

        threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(nodes)
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert grant.fence is not None
        assert grant.fence > fence
        fence = grant.fence
        if number % 2:
            hooks.lapse(nodes[0], grant)
        else:
            assert nodes[0].release(grant, make_ending(), keep_hold=False)
    for racer in nodes:
        racer.close()


def test_renewal_against_a_takeover(node: DynamoDBBackend, url: str, key: str) -> None:
    """A holder that is late renews before a takeover that has read its lapsed lease: the takeover sees it."""
    grant = granted(node.acquire(make_claim(key)))
    put(url, key, lapse=1.0)
    other = open_node(url)
    stale = other.table.get(key, other.service.deadline())
    assert node.renew(grant)
    claim = make_claim(key)
    done, state = other.table.write(key, stale, stale.taken(claim, 1e9, 1e9), other.service.deadline())
    assert not done
    assert state.run is not None
    assert state.run.owner == grant.claim.owner
    refused(other.acquire(claim), HELD)
    other.close()


# What it costs


def test_requests_of_a_run(guarded: DynamoDBBackend, gate: Gate, key: str) -> None:
    """A skip is one request, a run two; every few runs past ones are put aside by one or two more."""
    counts = []
    for _ in range(24):
        before = len(gate.actions)
        grant = granted(guarded.acquire(make_claim(key)))
        assert len(gate.actions) == before + 1
        refused(guarded.acquire(make_claim(key)), HELD)
        assert len(gate.actions) == before + 2
        assert guarded.renew(grant)
        assert len(gate.actions) == before + 3
        assert guarded.release(grant, make_ending(), keep_hold=False)
        counts.append(len(gate.actions) - before - 2)
    assert set(gate.actions) == {"UpdateItem"}
    assert set(counts) <= {2, 3, 4}
    assert sum(counts) / len(counts) < 2.4
    before = len(gate.actions)
    assert guarded.read(key) is not None
    assert gate.actions[before:] == ["BatchGetItem"]


@pytest.mark.parametrize("host", ["web-3", "ip-10-0-142-201.eu-central-1.compute.internal", "h" * 60])
@pytest.mark.parametrize("length", [0, 200])
def test_every_write_is_one_unit(node: DynamoDBBackend, url: str, key: str, host: str, length: int) -> None:
    """A key's item is never larger than the kilobyte that one unit writes, also with long names."""
    key, sizes = f"billing-{key}".ljust(length, "x"), []
    for number in range(40):
        owner = f"{host}:12345:{number:016x}"
        grant = granted(node.acquire(make_claim(key, owner=owner, host=host, program="make-invoices", hold=LONG)))
        sizes.append(_size(item(url, f"cronlock:{key}")))
        assert node.release(grant, make_ending(number % 3), keep_hold=False)
        sizes.append(_size(item(url, f"cronlock:{key}")))
    assert max(sizes) <= 1024
    # Written every few runs only, these may be larger where both names are long.
    pages = [_size(item(url, f"cronlock/{page}:{key}")) for page in range(PAGES)]
    assert max(pages) <= (2048 if length else 1024)


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


# The history


def test_ring_of_past_runs(node: DynamoDBBackend, url: str, key: str) -> None:
    """However many runs there were, there are as many items, and the newest runs are known."""
    grants = []
    for number in range(RING + 10):
        grants.append(granted(node.acquire(make_claim(key))))
        assert node.release(grants[-1], make_ending(number), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert [run.fence for run in record.history] == [grant.fence for grant in reversed(grants[-HISTORY:])]
    assert all(item(url, f"cronlock/{page}:{key}") for page in range(PAGES))
    assert not item(url, f"cronlock/{PAGES}:{key}")


def test_late_duplicate_of_a_past_run(node: DynamoDBBackend, key: str) -> None:
    """A past run that is put aside a second time, much later, does not displace the one of its slot."""
    old = granted(node.acquire(make_claim(key)))
    assert node.release(old, make_ending(), keep_hold=False)
    first = node.table.get(key, node.service.deadline()).last
    assert first is not None
    for number in range(RING + 8):
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(number), keep_hold=False)
    before = node.read(key)
    node.table.file(key, (first,), node.service.deadline())
    after = node.read(key)
    assert before is not None
    assert after is not None
    assert [run.owner for run in before.history] == [run.owner for run in after.history]


def test_past_runs_that_somebody_wrote_over(node: DynamoDBBackend, url: str, key: str) -> None:
    """What is no run is missing from the history, and nothing else is."""
    for number in range(1, 13):
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(number), keep_hold=False)
    page = next(page for page in range(PAGES) if item(url, f"cronlock/{page}:{key}"))
    slot = next(name for name in item(url, f"cronlock/{page}:{key}") if name.startswith("h"))
    replace(url, f"cronlock/{page}:{key}", {slot: {"S": "nonsense\tx\ty"}, "h9": {"N": "1"}})
    record = node.read(key)
    assert record is not None
    assert len(record.history) == 11


# A table that forgot


def test_deleted_item_is_noticed(node: DynamoDBBackend, url: str, key: str) -> None:
    """A key whose item somebody deleted counts as held by a node that had seen it, and its fence goes on."""
    grant = granted(node.acquire(make_claim(key, ttl=60.0)))
    assert grant.fence is not None
    delete(url, f"cronlock:{key}")
    sight = Sight(grant.fence + 5, age=1.0, noticed_age=None, ttl=60.0)
    assert refused(node.acquire(make_claim(key, ttl=60.0, sight=sight)), FORGOTTEN).remaining == 60.0
    assert not node.renew(grant)
    later = Sight(grant.fence + 5, age=70.0, noticed_age=61.0, ttl=60.0)
    heir = granted(node.acquire(make_claim(key, ttl=60.0, sight=later)))
    assert heir.fence == grant.fence + 6


def test_restored_table(node: DynamoDBBackend, url: str, key: str) -> None:
    """Its items count from the backup on, up to the very same numbers: the run of another is not taken for ours."""
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    backup = item(url, f"cronlock:{key}")
    grant = granted(node.acquire(make_claim(key)))
    delete(url, f"cronlock:{key}")
    replace(url, f"cronlock:{key}", {name: value for name, value in backup.items() if name != "cronlock"})
    other = granted(node.acquire(make_claim(key)))
    assert other.fence == grant.fence  # This node had seen nothing yet.
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=False)
    assert node.renew(other)
    refused(node.acquire(make_claim(key)), HELD)


def test_first_fence_of_a_key_that_was_given_up_on(node: DynamoDBBackend, url: str, key: str) -> None:
    """Who gave up before anybody was granted the key leaves no fence for the first one to go on from."""
    node.abandon(make_claim(key))
    other = open_node(url)
    usual, grant = granted(other.acquire(make_claim(fresh_key()))), granted(other.acquire(make_claim(key)))
    assert usual.fence is not None
    assert grant.fence is not None
    assert grant.fence >= usual.fence
    other.close()


def test_giving_up_settles_no_doubt(node: DynamoDBBackend, url: str, key: str) -> None:
    """A node that saw a key whose item is gone still doubts when another one gave up on it meanwhile."""
    grant = granted(node.acquire(make_claim(key, ttl=60.0)))
    delete(url, f"cronlock:{key}")
    node.abandon(make_claim(key))
    sight = Sight(grant.fence or 0, age=1.0, noticed_age=None, ttl=60.0)
    refused(node.acquire(make_claim(key, ttl=60.0, sight=sight)), FORGOTTEN)


# The table


def test_missing_table(node: DynamoDBBackend, key: str, url: str) -> None:
    """A table that is not there is a fault of the configuration, and the line to type is said."""
    elsewhere = open_node(url.replace("dynamodb://cronlock", "dynamodb://no-such-table"))
    with pytest.raises(ConfigError, match=r"no table no-such-table in .*cronlock doctor --create"):
        elsewhere.acquire(make_claim(key))
    grant = granted(node.acquire(make_claim(key)))
    # Not for a run that goes on: it may be there again.
    with pytest.raises(BackendUnavailable, match="no table no-such-table"):
        elsewhere.renew(grant)
    elsewhere.close()


def test_table_is_made_by_the_first_run(key: str, emulator: AwsServer | None) -> None:
    """With create=yes the first run makes the table, of many at once too, and runs."""
    if emulator is None:
        pytest.skip("AWS's tables are kept")
    name = f"made-{fresh_key()}"
    nodes = [open_node(f"dynamodb://{name}?endpoint={emulator.endpoint}&create=yes") for _ in range(4)]
    answers: list[Grant | Conflict] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(one.acquire(make_claim(key)))) for one in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "Conflict", "Grant"]
    told = nodes[0].table.describe(nodes[0].service.deadline())
    assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert told["DeletionProtectionEnabled"] is True
    for one in nodes:
        one.close()


def test_table_that_is_still_being_made(guarded: DynamoDBBackend, gate: Gate) -> None:
    """Who cannot wait for a table says that it is being made."""
    gate.refuse("ResourceInUseException")
    gate.answers += [(200, b'{"Table": {"TableStatus": "CREATING"}}')] * 100
    guarded.service._timeout = 1.0
    with pytest.raises(BackendUnavailable, match="being made"):
        guarded.table.create(guarded.service.deadline())


def test_what_a_policy_must_allow(guarded: DynamoDBBackend, gate: Gate, key: str) -> None:
    """A run gets by with two actions; the other commands need two more."""
    gate.allowed = {"GetItem", "UpdateItem"}
    grant = granted(guarded.acquire(make_claim(key, ignore_hold=True)))
    assert guarded.renew(grant)
    assert guarded.release(grant, make_ending(), keep_hold=False)
    guarded.abandon(make_claim(key))
    assert not guarded.force_release(key, "nobody")
    for work in (lambda: guarded.read(key), lambda: list(guarded.keys())):
        with pytest.raises(BackendUnavailable, match=r"may not dynamodb:(BatchGetItem|Scan): allow it"):
            work()
    gate.allowed |= {"BatchGetItem", "Scan"}
    assert guarded.read(key) is not None
    assert key in set(guarded.keys())


def test_items_left_for_another_request(guarded: DynamoDBBackend, gate: Gate, key: str) -> None:
    """A read that the table was too busy for in part is asked for the rest."""
    granted(guarded.acquire(make_claim(key)))
    name = f"cronlock:{key}"
    gate.answers.append(
        (
            200,
            b'{"Responses": {"cronlock": []}, "UnprocessedKeys": {"cronlock": {"ConsistentRead": true, "Keys":'
            b' [{"cronlock": {"S": "%s"}}]}}}' % name.encode(),
        )
    )
    record = guarded.read(key)
    assert record is not None
    assert record.run is not None
    assert gate.actions[-2:] == ["BatchGetItem", "BatchGetItem"]


def test_table_that_is_too_busy_to_be_read(guarded: DynamoDBBackend, gate: Gate, key: str) -> None:
    """It is asked again with pauses that grow, until the time limit."""
    rest = b'{"Responses": {}, "UnprocessedKeys": {"cronlock": {"Keys": [{"cronlock": {"S": "x"}}]}}}'
    gate.answers += [(200, rest)] * 1000
    guarded.service._timeout = 1.0
    before = len(gate.actions)
    with pytest.raises(BackendUnavailable, match="throttled: table cronlock is too busy"):
        guarded.read(key)
    assert 2 <= len(gate.actions) - before <= 6


# What is not cronlock's


@pytest.mark.parametrize(
    "values",
    [
        {"hello": {"S": "world"}},
        {"v": {"N": "2"}, "rev": {"N": "1"}, "fence": {"N": "1"}, "gone": {"S": " "}},
        {"v": {"N": "1"}},
        {"v": {"N": "1"}, "rev": {"N": "1"}, "fence": {"N": "-1"}, "gone": {"S": " "}, "run": {"S": "x"}},
        {"v": {"N": "1"}, "rev": {"N": "1"}, "fence": {"N": "1"}, "gone": {"S": " "}, "run": {"S": "a\tb\tc"}},
        {"v": {"N": "1"}, "rev": {"N": "1"}, "fence": {"N": "1"}, "gone": {"S": " "}, "run": {"N": "1"}},
        {"v": {"S": "1"}, "rev": {"N": "1"}, "fence": {"N": "1"}, "gone": {"S": " "}, "hold": {"N": "-7"}},
    ],
)
def test_foreign_item_is_left_alone(
    node: DynamoDBBackend, url: str, key: str, values: dict[str, dict[str, str]]
) -> None:
    """An item that is not cronlock's is named, and not written to."""
    replace(url, f"cronlock:{key}", values)
    before = item(url, f"cronlock:{key}")
    for work in (
        lambda: node.acquire(make_claim(key)),
        lambda: node.acquire(make_claim(key, ignore_hold=True)),
        lambda: node.read(key),
        lambda: node.abandon(make_claim(key)),
    ):
        with pytest.raises(ForeignValue, match=r"not a record of cronlock.*prefix="):
            work()
    assert item(url, f"cronlock:{key}") == before


def test_prefixes_keep_keys_apart(node: DynamoDBBackend, url: str, key: str) -> None:
    """Two fleets share a table by different prefixes."""
    other = open_node(f"{url}{'&' if '?' in url else '?'}prefix=other")
    granted(node.acquire(make_claim(key)))
    granted(other.acquire(make_claim(key)))
    assert list(other.keys()) == [key]
    other.close()


def test_longest_names(node: DynamoDBBackend, key: str) -> None:
    """Hosts and programs of any length are recorded, cut, and the key works on."""
    claim = make_claim(key, host="h" * 5000, program="\U0001f512" * 5000)
    grant = granted(node.acquire(claim))
    run = refused(node.acquire(make_claim(key)), HELD).run
    assert run is not None
    assert len(run.host.encode()) == 255
    assert 250 <= len(run.program.encode()) <= 255
    assert node.release(grant, make_ending(), keep_hold=False)


def test_state_is_what_it_was(key: str) -> None:
    """What is written of a state is read as that state."""
    claim = make_claim(key, hold=30.0, program="a\tb\n%09%")
    state = State(rev=7, fence=41).taken(claim, 1e9, 1e9)
    again = State.decode(state.encode())
    assert again.encode() == state.encode()
    assert again.run is not None
    assert (again.run.program, again.run.fence, again.fence) == ("a\tb\n%09%", 42, 42)


# Servers that fail


def test_paused_server_is_unavailable(key: str) -> None:
    """A server that stands still costs the time limit of a request, and what it was asked takes nothing later."""
    with MinistackServer() as server:
        node, other = open_node(server.url(), 1.0), open_node(server.url())
        other.table.create(other.service.deadline())
        grant = granted(node.acquire(make_claim(key, ttl=2.0)))
        server.pause()
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            node.renew(grant)
        fresh = make_claim(key)
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            node.acquire(fresh)
        server.resume()
        eventually(lambda: isinstance(other.acquire(make_claim(key)), Grant), "the lease lapsed", pause=0.3)
        assert not node.renew(grant)
        node.close()
        other.close()


def test_server_that_is_down(key: str) -> None:
    """A server that is not there is said in one line."""
    with MinistackServer() as server:
        node = open_node(server.url())
    with pytest.raises(
        BackendUnavailable, match=rf"dynamodb://cronlock: {re.escape(server.endpoint)}: connection refused"
    ):
        node.acquire(make_claim(key))


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
        b'{"Attributes": {"v": 1}}',
        b'{"Attributes": {"v": {"N": 1}}}',
        b'{"Item": [], "Attributes": []}',
    ],
)
@pytest.mark.parametrize("status", [200, 302, 400, 500])
def test_nonsense_is_no_grant(guarded: DynamoDBBackend, gate: Gate, key: str, status: int, body: bytes) -> None:
    """Whatever a server answers that is not DynamoDB, nothing is taken for granted, and no traceback comes of it."""
    gate.answers += [(status, body)] * 3
    with pytest.raises((BackendUnavailable, ForeignValue)):
        guarded.acquire(make_claim(key))
    gate.answers.clear()
    assert isinstance(guarded.acquire(make_claim(key)), (Grant, Conflict))


@pytest.mark.parametrize("body", [b'{"Responses": 1}', b'{"Responses": {"cronlock": [1, {"cronlock": 1}]}}'])
def test_nonsense_is_no_record(guarded: DynamoDBBackend, gate: Gate, key: str, body: bytes) -> None:
    """A list of items that is none is no record."""
    gate.answers += [(200, body)]
    assert guarded.read(key) is None


# strict=yes


def _strict(url: str) -> DynamoDBBackend:
    return open_node(f"{url}{'&' if '?' in url else '?'}strict=yes")


def test_strict_waits_for_a_whole_ttl(url: str, key: str) -> None:
    """Who takes over strictly believes no end that was written, only that nothing changed for a ttl."""
    dead, first, second = open_node(url), _strict(url), _strict(url)
    grant = granted(dead.acquire(make_claim(key, ttl=2.0)))
    put(url, key, lapse=1.0)
    assert 2.0 < refused(first.acquire(make_claim(key)), HELD).remaining <= 4.0
    # What was begun by one is gone on with by another, and by the same in another process.
    assert refused(second.acquire(make_claim(key)), HELD).remaining <= 4.0
    eventually(lambda: isinstance(second.acquire(make_claim(key)), Grant), "a whole ttl has passed", pause=0.3)
    assert not dead.renew(grant)
    for node in (dead, first, second):
        node.close()


def test_strict_begins_anew_with_each_renewal(url: str, key: str) -> None:
    """A holder that goes on renewing is not taken over, whatever end was written."""
    holder, other = open_node(url), _strict(url)
    grant = granted(holder.acquire(make_claim(key, ttl=2.0)))
    put(url, key, lapse=1.0)
    refused(other.acquire(make_claim(key)), HELD)
    assert item(url, f"cronlock:{key}")["mark"]
    # It is marked for the version that was there then, and the holder need not know.
    begun = int(item(url, f"cronlock:{key}")["rev"]["N"])
    assert holder.renew(grant)
    replace(url, f"cronlock:{key}", {"mark": {"S": f"{begun} 1000.000"}, "lapse": {"N": "1"}})
    assert refused(other.acquire(make_claim(key)), HELD).remaining == pytest.approx(4.0)
    replace(url, f"cronlock:{key}", {"mark": {"S": "nonsense"}})
    assert refused(other.acquire(make_claim(key)), HELD).remaining == pytest.approx(4.0)
    assert holder.release(grant, make_ending(), keep_hold=False)
    granted(other.acquire(make_claim(key)))
    holder.close()
    other.close()


def test_strict_does_not_wait_for_the_ended(url: str, key: str) -> None:
    """A run that ended, or was released by force, is not waited for."""
    node = _strict(url)
    grant = granted(node.acquire(make_claim(key)))
    assert node.release(grant, make_ending(), keep_hold=False)
    second = granted(node.acquire(make_claim(key)))
    assert node.force_release(key, second.claim.owner)
    granted(node.acquire(make_claim(key)))
    node.close()


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
        open_node(bad)
    assert "geheim" not in str(caught.value)


def test_hold_and_cancel_are_said(node: DynamoDBBackend, key: str) -> None:
    """A hold is refused with what is left of it by AWS's time, a late duplicate with nothing."""
    claim = make_claim(key, hold=LONG)
    assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=True)
    assert LONG - 60 < refused(node.acquire(make_claim(key)), HOLD).remaining <= LONG
    assert refused(node.acquire(claim), CANCELLED).remaining == 0
