"""MySQL's backend on MariaDB: the contract in every mode of the server, races, lost replies, what a run costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.mysql.backend import MysqlBackend
from cronlock.engines.registry import open_backend
from cronlock.lease.vocabulary import CANCELLED, DIED, EXITED, HELD, HISTORY, HOLD, Conflict, Grant
from cronlock.testing import (
    LONG,
    BackendContract,
    Hooks,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.proxy import Proxy
from labs.servers.mariadb import MariadbServer

from ..losses import LostReplies

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

#: Long enough for any request on a loaded machine, in seconds.
PATIENT = 20.0
#: What a test waits for that is to wait in vain.
HASTY = 1.0
SECRET = "p'w \\ @:/?\u00e9\u20ac"
# All that changes what a statement means, in the two dialects.
_STRANGE = (
    "SIMULTANEOUS_ASSIGNMENT,NO_BACKSLASH_ESCAPES,ANSI,TRADITIONAL,HIGH_NOT_PRECEDENCE,EMPTY_STRING_IS_NULL,"
    "PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION,TIME_ROUND_FRACTIONAL,ONLY_FULL_GROUP_BY"
)
_ORACLE = "ORACLE"


def opened(url: str, timeout: float = PATIENT) -> MysqlBackend:
    """Return a node at `url`."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, MysqlBackend)
    return backend


class MysqlHooks(Hooks):
    """Time passes by changing the row."""

    forces_time = True
    tells_uptime = False

    def __init__(self, server: MariadbServer, url: str = "") -> None:
        self.server = server
        self._url = url or server.url()

    def open(self) -> Backend:
        """Return one more node."""
        return opened(self._url)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """End the lease behind everybody's back."""
        self._alter("lapses_at = 1", grant.claim.key)

    def end_hold(self, node: Backend, key: str) -> None:
        """End the hold behind everybody's back."""
        self._alter("held_until = 1, kept_until = 1", key)

    def _alter(self, what: str, key: str) -> None:
        self.server.run(f"UPDATE cronlock SET {what} WHERE name = %s", key.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """One server for all tests that do not harm it; its user has the least rights and a difficult password."""
    with MariadbServer(users={"worker": SECRET}) as running:
        yield running


@pytest.fixture(scope="module")
def strange_server() -> Iterator[MariadbServer]:
    """A server with every setting that could change what a statement means, without autocommit."""
    settings = {"sql-mode": _STRANGE, "autocommit": "OFF", "character-set-server": "ucs2", "sql-safe-updates": "ON"}
    settings["transaction-isolation"] = "SERIALIZABLE"
    with MariadbServer(users={"worker": "secret"}, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def oracle_server() -> Iterator[MariadbServer]:
    """A server with Oracle's dialect, which opens a transaction for whoever logs in."""
    settings = {"sql-mode": _ORACLE, "init-connect": "SET autocommit = 0", "transaction-isolation": "READ-UNCOMMITTED"}
    with MariadbServer(users={"worker": "secret"}, settings=settings) as running:
        yield running


@pytest.fixture
def open_at() -> Iterator[Callable[..., MysqlBackend]]:
    """What opens a node that is closed at the end."""
    nodes: list[MysqlBackend] = []

    def open_one(url: str, timeout: float = PATIENT) -> MysqlBackend:
        nodes.append(opened(url, timeout))
        return nodes[-1]

    yield open_one
    for node in nodes:
        node.close()


@pytest.fixture
def node(server: MariadbServer, open_at: Callable[..., MysqlBackend]) -> MysqlBackend:
    """A node that reaches the shared server."""
    return open_at(server.url())


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


class TestMysql(BackendContract):
    """One server, plain."""

    @pytest.fixture
    def hooks(self, server: MariadbServer) -> Hooks:
        """The shared server's hooks."""
        return MysqlHooks(server)


class TestStrangeModes(BackendContract):
    """Where all that can be set otherwise is."""

    @pytest.fixture
    def hooks(self, strange_server: MariadbServer) -> Hooks:
        """That server's hooks."""
        return MysqlHooks(strange_server)


class TestOracleMode(BackendContract):
    """Where the server takes Oracle's dialect, and leaves transactions open."""

    @pytest.fixture
    def hooks(self, oracle_server: MariadbServer) -> Hooks:
        """That server's hooks."""
        return MysqlHooks(oracle_server)


class TestLostReplies(LostReplies):
    """Lost, late and doubled requests."""

    @pytest.fixture
    def hooks(self, server: MariadbServer) -> Hooks:
        """The shared server's hooks."""
        return MysqlHooks(server)

    @pytest.fixture
    def proxy(self, server: MariadbServer) -> Iterator[Proxy]:
        """A proxy before the shared server."""
        with Proxy(server.port) as running:
            yield running

    @pytest.fixture
    def far(self, server: MariadbServer, proxy: Proxy, open_at: Callable[..., MysqlBackend], key: str) -> Backend:
        """A node behind the proxy."""
        backend = open_at(server.url(port=proxy.port), timeout=HASTY)
        assert backend.read(key) is None
        return backend

    @pytest.fixture
    def node(self, server: MariadbServer, open_at: Callable[..., MysqlBackend]) -> Backend:
        """A node that reaches the shared server."""
        return open_at(server.url())


# Races, and what they cost


def test_fifty_racers_round_after_round(server: MariadbServer) -> None:
    """Of fifty nodes exactly one gets the key, whether it is new, ended, or its holder died."""
    nodes = [opened(server.url()) for _ in range(50)]
    hooks = MysqlHooks(server)
    key, fence = fresh_key(), 0
    for number in range(8):
        answers: list[Grant | Conflict] = []
        barrier = threading.Barrier(len(nodes))

        def race(racer: MysqlBackend, name: str, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
            start.wait()
            into.append(racer.acquire(make_claim(name)))

        threads = [threading.Thread(target=race, args=(racer, key, barrier, answers)) for racer in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(nodes)
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
        assert grant.fence is not None
        assert grant.fence > fence
        fence = grant.fence
        if number % 3 == 0:
            hooks.lapse(nodes[0], grant)
        elif number % 3 == 1:
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        else:
            key = fresh_key()
    for racer in nodes:
        racer.close()


def test_what_a_run_costs(server: MariadbServer, open_at: Callable[..., MysqlBackend]) -> None:
    """A run is a login of one packet and two requests of one packet each, a skip a login and one request."""
    key = fresh_key()
    assert opened(server.url()).release(
        granted(opened(server.url()).acquire(make_claim(key))), make_ending(), keep_hold=False
    )
    with Proxy(server.port) as proxy:
        backend = open_at(server.url(port=proxy.port))
        grant = granted(backend.acquire(make_claim(key, hold=LONG)))
        assert (proxy.connections, proxy.requests) == (1, 2)
        assert backend.renew(grant)
        assert backend.release(grant, make_ending(), keep_hold=True)
        assert (proxy.connections, proxy.requests) == (1, 4)
        refused(backend.acquire(make_claim(key)), HOLD)
        assert proxy.requests == 5
        # The first run ever of a key makes its row.
        granted(backend.acquire(make_claim(fresh_key())))
        assert proxy.requests == 7


def test_the_refused_change_nothing(server: MariadbServer, node: MysqlBackend, key: str) -> None:
    """Who is refused writes nothing, so that the disk is not waited for."""
    granted(node.acquire(make_claim(key, hold=LONG)))
    before = server.run("SELECT * FROM cronlock WHERE name = %s", key.encode())
    written = server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'")
    for _ in range(5):
        refused(node.acquire(make_claim(key)), HELD)
    assert server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'") == written
    assert server.run("SELECT * FROM cronlock WHERE name = %s", key.encode()) == before


def test_conflict_without_the_history(server: MariadbServer, node: MysqlBackend, key: str) -> None:
    """What a loser is told does not grow with the history."""
    sizes = []
    for _ in range(2):
        grant = granted(node.acquire(make_claim(key, program="x" * 200)))
        before = _bytes_sent(server)
        refused(node.acquire(make_claim(key)), HELD)
        sizes.append(_bytes_sent(server) - before)
        for _ in range(HISTORY):
            assert node.release(grant, make_ending(), keep_hold=False)
            grant = granted(node.acquire(make_claim(key, program="x" * 200)))
        assert node.release(grant, make_ending(), keep_hold=False)
    assert abs(sizes[0] - sizes[1]) < 100


def _bytes_sent(server: MariadbServer) -> int:
    return int(server.run("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")[0][1])


def test_odd_owners(node: MysqlBackend) -> None:
    """An owner is what it is, to the byte: with quotes, spaces, capitals, and what is no text."""
    names = ["it's", 'a"b', "a\\", "a\\'; --", "a b ", "a b", "A", "a", "ß", "ss", "\udcff", "a\n", "%", "\U0001f512"]
    for name in names:
        key = fresh_key()
        claim = make_claim(key, owner=name, host="h\udcff'\\", program="p\t\n\0'")
        grant = granted(node.acquire(claim))
        assert not any(node.force_release(key, other) for other in names if other != name)
        record = node.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.owner, record.run.host, record.run.program) == (name, "h\udcff'\\", "p\t\n\0'")
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)
        refused(node.acquire(claim), CANCELLED)
        for other in names:
            if other != name:
                node.abandon(make_claim(key, owner=other))
        refused(node.acquire(claim), CANCELLED)


# The record


def test_long_words_are_cut(node: MysqlBackend, key: str) -> None:
    """Names of hosts and programs are kept up to a length, so that a row stays small."""
    for _ in range(HISTORY + 1):
        grant = granted(node.acquire(make_claim(key, host="\udcff" * 5000, program="\U0001f512" * 5000)))
        assert node.release(grant, make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert len(record.history) == HISTORY
    assert record.history[-1].host == "\udcff" * 255
    assert record.history[-1].program.startswith("\U0001f512" * 63)
    assert len(record.history[-1].program) < 70


def test_what_is_remembered_has_an_end(server: MariadbServer, node: MysqlBackend, key: str) -> None:
    """However many runs there were, a row has the last of them only."""
    for number in range(HISTORY + 10):
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(number), keep_hold=False)
    ((gone, history),) = server.run("SELECT gone, history FROM cronlock WHERE name = %s", key.encode())
    assert (len(gone.split(b"\n")), len(history.split(b"\n"))) == (16, HISTORY)


def test_run_that_was_restored_is_history_once(server: MariadbServer, node: MysqlBackend, key: str) -> None:
    """A dead run that many took over and gave up is told once, and once more if it speaks after all."""
    hooks = MysqlHooks(server)
    for _ in range(2):
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    dead = granted(node.acquire(make_claim(key)))
    hooks.lapse(node, dead)
    for _ in range(3):
        claim = make_claim(key, standby_for=dead.claim.owner)
        granted(node.acquire(claim))
        record = node.read(key)
        assert record is not None
        assert [run.outcome for run in record.history] == [DIED, EXITED, EXITED]
        node.abandon(claim)
    assert node.release(dead, make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert [(run.owner == dead.claim.owner, run.outcome) for run in record.history] == [
        (True, EXITED),
        (False, EXITED),
        (False, EXITED),
    ]


def test_renewal_never_takes_back(server: MariadbServer, node: MysqlBackend, key: str) -> None:
    """A renewal that comes behind a later one leaves what that gave."""
    grant = granted(node.acquire(make_claim(key, ttl=LONG)))
    late = granted(node.acquire(grant.claim))
    late.ttl = 1.0
    assert node.renew(late)
    record = node.read(key)
    assert record is not None
    assert record.remaining > LONG / 2
    # Nor does it seem lost where the server's clock was set back meanwhile: each changes the row.
    server.run("UPDATE cronlock SET lapses_at = lapses_at + 600000000 WHERE name = %s", key.encode())
    assert [node.renew(grant) for _ in range(3)] == [True] * 3


def test_many_keys_are_listed(server: MariadbServer, open_at: Callable[..., MysqlBackend]) -> None:
    """A listing of more than a page has every key once, and nothing of rows that were never granted."""
    server.make_table("many")
    server.run("INSERT INTO many (name, fence) SELECT CONCAT('job-', seq), seq % 2 FROM seq_1_to_5000")
    listed = list(open_at(server.url(user="admin", table="many")).keys())
    assert len(listed) == len(set(listed)) == 2500
