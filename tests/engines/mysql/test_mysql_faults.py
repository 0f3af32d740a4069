"""MySQL's backend when things go wrong: servers that stop, replicas, TLS, rights, tables of others, nonsense."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest

from cronlock.doctor.findings import NOTE
from cronlock.engines.mysql import link as mysql_link
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.vocabulary import CANCELLED, FORGOTTEN, HELD, HOLD, Conflict, Grant, Sight
from cronlock.testing import LONG, eventually, fresh_key, granted, make_claim, make_ending, refused
from labs.clocks import ManualClock
from labs.proxy import Proxy
from labs.servers.mariadb import ADMIN, DATABASE, MariadbGalera, MariadbReplica, MariadbServer
from labs.servers.process import HOST, free_port, need
from labs.servers.tls import tls

from ..look import Look
from .test_mysql import HASTY, PATIENT, SECRET, opened

if TYPE_CHECKING:
    from cronlock.engines.mysql.backend import MysqlBackend

    Opener = Callable[..., MysqlBackend]


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """One server for all tests that do not stop it."""
    with MariadbServer(settings={"max-connections": "30"}) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[MariadbServer]:
    """A server of the test's own, which forgets nothing in a crash."""
    with MariadbServer(settings={"innodb-flush-log-at-trx-commit": "1"}) as running:
        yield running


@pytest.fixture
def open_at() -> Iterator[Opener]:
    """What opens a node that is closed at the end."""
    nodes: list[MysqlBackend] = []

    def open_one(url: str, timeout: float = PATIENT) -> MysqlBackend:
        nodes.append(opened(url, timeout))
        return nodes[-1]

    yield open_one
    for node in nodes:
        node.close()


@pytest.fixture
def node(server: MariadbServer, open_at: Opener) -> MysqlBackend:
    """A node that reaches the shared server."""
    return open_at(server.url())


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


# A server that stops


def test_pause_beyond_limit_and_ttl(own_server: MariadbServer, open_at: Opener) -> None:
    """A server that stands still is given up in time; what it was asked then takes nothing from anybody."""
    holder, asker = open_at(own_server.url(), 1.0), open_at(own_server.url(), 1.0)
    key, claim, late = fresh_key(), make_claim("dead", ttl=1.0), make_claim("late")
    grant, dead = granted(holder.acquire(make_claim(key))), granted(holder.acquire(claim))
    assert asker.read("late") is None
    own_server.pause()
    requests: list[Callable[[], object]] = [
        lambda: holder.renew(dead),
        lambda: asker.acquire(late),
        # On new connections, which the kernel makes.
        lambda: holder.renew(grant),
        lambda: asker.read(key),
    ]
    for ask in requests:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            ask()
        assert time.monotonic() - began >= 0.9
    own_server.resume()
    patient = open_at(own_server.url())
    patient.abandon(late)
    granted(patient.acquire(make_claim("late")))
    assert patient.renew(grant)

    def heir() -> bool:
        return isinstance(patient.acquire(make_claim("dead", owner="heir")), Grant)

    eventually(heir, "the lease lapses")
    assert not patient.renew(dead)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_restart_keeps_leases(own_server: MariadbServer, open_at: Opener, how: str) -> None:
    """What was granted is kept over a restart and a crash, and the holder goes on."""
    holder, asker, key = open_at(own_server.url()), open_at(own_server.url()), fresh_key()
    grant = granted(holder.acquire(make_claim(key, hold=LONG)))
    if how == "restart":
        own_server.restart(keep_data=True)
    else:
        own_server.kill()
        with pytest.raises(BackendUnavailable, match="refused"):
            asker.acquire(make_claim(key))
        own_server.start()
    assert refused(asker.acquire(make_claim(key)), HELD).fence == grant.fence
    assert holder.renew(grant)
    assert holder.release(grant, make_ending(), keep_hold=True)


def test_restart_without_data(own_server: MariadbServer, open_at: Opener) -> None:
    """A server that comes back empty is doubted by who saw it before, and its fences go on from there."""
    node, key = open_at(own_server.url()), fresh_key()
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    own_server.restart(keep_data=False)
    assert not node.renew(grant)
    sight = Sight(grant.fence + 10**12, age=5.0, noticed_age=None, ttl=60.0)
    for name in (key, "new"):
        assert refused(node.acquire(make_claim(name, sight=sight)), FORGOTTEN).remaining > 50
    sight = Sight(grant.fence + 10**12, age=100.0, noticed_age=LONG, ttl=60.0)
    heir = granted(node.acquire(make_claim(key, sight=sight)))
    assert heir.fence is not None
    assert heir.fence > grant.fence + 10**12


def test_answer_that_drips(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that sends a byte now and then does not stretch the time limit."""
    granted(open_at(server.url()).acquire(make_claim(key)))
    for connected in (False, True):
        drip = _Drip(server.port)
        drip.slow = not connected
        with drip:
            node = open_at(server.url(port=drip.port), 1.5)
            if connected:
                assert node.read(key) is not None
                drip.slow = True
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                node.read(key)
            assert 1.4 <= time.monotonic() - began < 10


class _Drip(Proxy):
    """Sends a byte of what the server says every tenth of a second, once `slow`."""

    slow = False

    def _downward(self, connection: object, data: bytes) -> None:
        for place in range(len(data)):
            if not self.slow:
                connection.client.sendall(data[place:])  # type: ignore[attr-defined]
                return
            connection.client.sendall(data[place : place + 1])  # type: ignore[attr-defined]
            time.sleep(0.1)


def test_idle_connection_that_was_closed(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that hung up while nothing was asked fails no request."""
    with Proxy(server.port) as proxy:
        node = open_at(server.url(port=proxy.port))
        grant = granted(node.acquire(make_claim(key)))
        proxy.cut()
        eventually(lambda: node.renew(grant), "the cut is noticed before it is asked")
        assert proxy.connections == 2
        server.run(f"KILL USER {ADMIN}")
        time.sleep(0.2)  # For its goodbye to arrive.
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)


def test_goodbye(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A node that closes its connection says so, and the server's log has no complaint of it."""
    before = server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
    node = open_at(server.url(), 0.5)
    grant = granted(node.acquire(make_claim(key)))
    time.sleep(0.6)  # Beyond the limit of its last request.
    assert node.renew(grant)
    time.sleep(0.6)
    node.close()
    time.sleep(0.2)
    assert server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'") == before


# Several servers


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[MariadbServer, MariadbReplica]]:
    """A server and its replica, which takes over at the end."""
    with (
        MariadbServer(users={"worker": "secret"}, settings=MariadbReplica.PRIMARY) as primary,
        MariadbReplica(primary) as replica,
    ):
        yield primary, replica


def _both(first: MariadbServer, second: MariadbServer, login: str = "worker:secret") -> str:
    return f"mysql://{login}@{HOST}:{first.port},{HOST}:{second.port}/{DATABASE}"


@pytest.mark.parametrize("login", ["worker:secret", ADMIN])
def test_replica_is_passed_over(
    pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str, login: str
) -> None:
    """Of several hosts the one that takes writes is asked, wherever it stands, by administrators too."""
    primary, replica = pair
    node = open_at(_both(replica, primary, login))
    grant = granted(node.acquire(make_claim(key)))
    refused(open_at(_both(primary, replica, login)).acquire(make_claim(key)), HELD)
    assert node.release(grant, make_ending(), keep_hold=False)
    eventually(replica.is_in_step, "the replica is in step")
    (own,) = replica.run("SELECT COUNT(*) FROM cronlock WHERE name = %s", key.encode())
    assert own == (1,)  # By replication.


def test_replica_alone_is_refused(pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str) -> None:
    """A replica that is named alone says that it is read-only, and has nothing of it."""
    replica = pair[1]
    node = open_at(replica.url(user="worker", password="secret"))
    with pytest.raises(BackendUnavailable, match=r"read-only.*name the server that takes writes"):
        node.acquire(make_claim(key))
    assert node.read(key) is None


def test_switch_within_a_run(pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str) -> None:
    """A server that stops taking writes under a run is left for the one that does."""
    primary, replica = pair
    node = open_at(_both(primary, replica))
    grant = granted(node.acquire(make_claim(key)))
    eventually(replica.is_in_step, "the replica is in step")
    primary.run("SET GLOBAL read_only = ON")
    with pytest.raises(BackendUnavailable, match="read-only"):
        open_at(_both(primary, replica), HASTY).renew(grant)
    replica.run("SET GLOBAL read_only = OFF")
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    replica.run("SET GLOBAL read_only = ON")
    primary.run("SET GLOBAL read_only = OFF")


def test_failover_that_forgot(pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str) -> None:
    """A lease that the new primary never heard of counts as held by who saw it, and its fence is not given again."""
    primary, replica = pair
    node = open_at(_both(primary, replica), 5.0)
    replica.run("STOP SLAVE IO_THREAD")
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    primary.kill()
    with pytest.raises(BackendUnavailable, match=r"refused.*read-only"):
        node.renew(grant)
    replica.promote()
    assert not node.renew(grant)
    sight = Sight(grant.fence, age=0.5, noticed_age=None, ttl=LONG)
    assert refused(node.acquire(make_claim(key, sight=sight)), FORGOTTEN).remaining > LONG - 60
    heir = granted(node.acquire(make_claim(key, sight=Sight(grant.fence, age=LONG, noticed_age=LONG, ttl=LONG))))
    assert heir.fence is not None
    assert heir.fence > grant.fence


def test_host_that_does_not_answer_costs_its_share(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A host that takes connections and says nothing leaves the next one its part of the time."""
    with Proxy(server.port) as proxy:
        proxy.drop_all()
        hosts = f"{HOST}:{free_port()},{HOST}:{proxy.port},{HOST}:{server.port}"
        granted(open_at(f"mysql://{ADMIN}@{hosts}/{DATABASE}", 6.0).acquire(make_claim(key)))
        with pytest.raises(BackendUnavailable, match=r"in time; .*refused"):
            open_at(f"mysql://{ADMIN}@{HOST}:{proxy.port},{HOST}:{free_port()}/{DATABASE}", HASTY).read(key)


def test_galera(open_at: Opener) -> None:
    """Of those who ask the two nodes of a cluster at the same moment one gets the key, and both know."""
    with MariadbGalera() as cluster:
        nodes = [open_at(cluster.nodes[number % 2].url()) for number in range(8)]
        key, fence = fresh_key(), 0
        for _ in range(40):
            answers: list[Grant | Conflict] = []
            barrier = threading.Barrier(len(nodes))

            def race(racer: MysqlBackend, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
                start.wait()
                into.append(racer.acquire(make_claim(key)))

            threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(answers) == len(nodes)
            (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
            assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
            assert (grant.fence or 0) > fence
            fence = grant.fence or 0
            assert nodes[0].renew(grant)
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        look = Look(cluster.nodes[0].url())
        assert "Galera, 2 nodes" in look.one("replication").text
        both = f"mysql://{ADMIN}@{HOST}:{cluster.nodes[0].port},{HOST}:{cluster.nodes[1].port}/{DATABASE}"
        assert Look(both).one("read-only").level == NOTE
        cluster.nodes[0].kill()
        survivor = open_at(cluster.nodes[1].url(), HASTY)

        def says_so() -> bool:
            try:
                survivor.acquire(make_claim(fresh_key()))
            except BackendUnavailable as error:
                return "WSREP has not yet prepared" in str(error)
            return False

        # Half of a cluster is not its majority, as it finds out in time.
        eventually(says_so, "the other node is missed")


# Who may


@pytest.fixture(scope="module")
def guarded() -> Iterator[MariadbServer]:
    """A server that lets its users in over TLS only."""
    settings = {"bind-address": f"{HOST},127.0.0.2"}
    with MariadbServer(tls=True, users={"worker": SECRET, "guest": "guest"}, settings=settings) as running:
        running.run(f"REVOKE ALL ON {DATABASE}.cronlock FROM guest@'%'")
        running.run(f"GRANT SELECT ON {DATABASE}.cronlock TO guest@'%'")
        yield running


@pytest.mark.parametrize("mode", ["", "required", "verify-ca", "VERIFY_IDENTITY"])
def test_tls_and_password(guarded: MariadbServer, open_at: Opener, key: str, mode: str) -> None:
    """A server takes the password of the URL over TLS, however much is asked of its certificate."""
    node = open_at(guarded.url(ssl=mode) if mode else guarded.url())
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    assert bool(node.servers.link(time.monotonic() + PATIENT).certificate) == (mode != "required")


def test_server_that_is_not_the_one(guarded: MariadbServer, key: str) -> None:
    """A certificate of another authority or name is refused, and so is a user without TLS."""
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        opened(guarded.url(ca=str(tls().client_cert))).acquire(make_claim(key))
    with pytest.raises(BackendUnavailable, match=r"certificate is not valid for '127\.0\.0\.2'"):
        opened(guarded.url().replace(HOST, "127.0.0.2")).acquire(make_claim(key))
    granted(opened(guarded.url(ssl="verify_ca").replace(HOST, "127.0.0.2")).acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="authentication failed"):
        opened(guarded.url().partition("?")[0]).acquire(make_claim(key))


def test_tls_to_a_server_without(server: MariadbServer, key: str) -> None:
    """Where TLS is asked for and not to be had, no password is sent."""
    server.run("SET GLOBAL require_secure_transport = OFF")
    url = server.url(user="x", password="hidden", ssl="required")
    with pytest.raises(BackendUnavailable, match="TLS") as caught:
        opened(url).acquire(make_claim(key))
    assert "hidden" not in str(caught.value)


def test_unix_socket(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server on this machine can be reached by its socket."""
    granted(open_at(server.unix_url()).acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="there is no socket"):
        open_at(f"mysql:///db?socket={server.directory}/nowhere").acquire(make_claim(key))


def test_wrong_password(guarded: MariadbServer, key: str) -> None:
    """A refused password is said, and it is in no text."""
    with pytest.raises(BackendUnavailable, match=r"Access denied for .*check user and password") as caught:
        opened(guarded.url(user="worker", password="wr0ng&secret")).acquire(make_claim(key))
    assert "wr0ng" not in str(caught.value)


def test_missing_rights(guarded: MariadbServer, open_at: Opener, key: str) -> None:
    """Who may not use the table is told what to grant."""
    node = open_at(guarded.url(user="guest", password="guest"))
    with pytest.raises(BackendUnavailable, match=r"denied.* GRANT SELECT, INSERT, UPDATE ON cronlock"):
        node.acquire(make_claim(key))
    assert node.read(key) is None
    elsewhere = guarded.url(user="guest", password="guest").replace(f"/{DATABASE}", "/elsewhere")
    with pytest.raises(
        BackendUnavailable, match=r"name another database in the URL, or GRANT .* ON elsewhere\.cronlock"
    ):
        open_at(elsewhere).acquire(make_claim(key))


def test_missing_table(server: MariadbServer, open_at: Opener, key: str) -> None:
    """Where the table is missing the message says how it is made; a run that has its lease goes on asking."""
    for url, remedy in (
        (server.url(table="nowhere"), "make it with `cronlock doctor --create`"),
        (server.url("nowhere"), "make it with CREATE DATABASE"),
    ):
        node = open_at(url)
        for ask in (lambda n: n.acquire(make_claim(key)), lambda n: n.read(key), lambda n: list(n.keys())):
            with pytest.raises(ConfigError, match=remedy):
                ask(node)
    server.make_table("dropped")
    node = open_at(server.url(table="dropped"))
    grant = granted(node.acquire(make_claim(key)))
    server.run("DROP TABLE dropped")
    for ask in (lambda n: n.renew(grant), lambda n: n.abandon(grant.claim)):
        with pytest.raises(BackendUnavailable, match="doesn't exist"):
            ask(node)


def test_table_elsewhere(server: MariadbServer, open_at: Opener, key: str) -> None:
    """The table may have another name, in another database, with capital letters."""
    server.run("CREATE DATABASE Jobs")
    server.run("CREATE TABLE Jobs.Leases_2 LIKE cronlock")
    node = open_at(server.url(table="Jobs.Leases_2"))
    granted(node.acquire(make_claim(key)))
    assert list(node.keys()) == [key]


def test_table_of_others(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A table that is not cronlock's is left alone."""
    server.run("CREATE TABLE foreigners (name VARBINARY(800) PRIMARY KEY, fence BIGINT)")
    with pytest.raises(ForeignValue, match="is no table of cronlock's; nothing was changed"):
        open_at(server.url(table="foreigners")).acquire(make_claim(key))
    assert server.run("SELECT COUNT(*) FROM foreigners") == [(0,)]


def test_listing_a_table_of_others(server: MariadbServer, open_at: Opener) -> None:
    """One whose columns have the same names is refused in one line, too."""
    server.run("CREATE TABLE people (name INT, fence INT)")
    server.run("INSERT INTO people VALUES (1, 1)")
    with pytest.raises(BackendUnavailable, match="a senseless answer"):
        list(open_at(server.url(table="people")).keys())


@pytest.mark.parametrize("line", ["nonsense", "owner=x\tpid=y", "pid=1", "\udcff".encode("utf-8", "surrogateescape")])
def test_row_of_others(server: MariadbServer, node: MysqlBackend, key: str, line: str) -> None:
    """A row that somebody wrote by hand is named, and nothing is done to it."""
    grant = granted(node.acquire(make_claim(key)))
    server.run("UPDATE cronlock SET run_line = %s WHERE name = %s", line, key.encode())
    before = server.run("SELECT * FROM cronlock WHERE name = %s", key.encode())
    for ask in (lambda: node.acquire(make_claim(key)), lambda: node.read(key)):
        with pytest.raises(ForeignValue, match=f"the row of '{key}' in cronlock: .*; nothing was changed"):
            ask()
    assert server.run("SELECT * FROM cronlock WHERE name = %s", key.encode()) == before
    assert node.release(grant, make_ending(), keep_hold=False)


def test_locked_row(server: MariadbServer, open_at: Opener, key: str) -> None:
    """While somebody sits on the row nothing is granted, and what was asked meanwhile takes nothing later."""
    node, hasty = open_at(server.url()), open_at(server.url(), HASTY)
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    claim = make_claim(key)
    locker = server.client(autocommit=False)
    with locker.cursor() as cursor:
        cursor.execute("SELECT 1 FROM cronlock WHERE name = %s FOR UPDATE", (key.encode(),))
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        hasty.acquire(claim)
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        hasty.abandon(claim)
    assert node.read(key) is not None
    locker.close()
    node.abandon(claim)
    refused(node.acquire(claim), CANCELLED)

    def free() -> bool:
        record = node.read(key)
        return record is not None and record.remaining == 0

    eventually(free, "what was asked late is undone")


def test_lock_that_is_not_waited_for(server: MariadbServer, open_at: Opener, key: str) -> None:
    """Where the server gives up a lock sooner than cronlock does, it is asked again until there is no time left."""
    server.run("SET GLOBAL innodb_lock_wait_timeout = 1")
    node, hasty = open_at(server.url()), open_at(server.url(), 1.5)
    locker = server.client(autocommit=False)
    try:
        with locker.cursor() as cursor:
            cursor.execute("INSERT INTO cronlock (name) VALUES (%s)", (key.encode(),))
        with pytest.raises(BackendUnavailable, match=r"Lock wait timeout exceeded|no answer in time"):
            hasty.acquire(make_claim(key))
        timer = threading.Timer(1.3, locker.rollback)
        timer.start()
        granted(node.acquire(make_claim(key)))
        timer.join()
    finally:
        server.run("SET GLOBAL innodb_lock_wait_timeout = 50")
        locker.close()


def test_server_without_room(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that has no connection left is asked again until it has, within the limit."""
    server.run("CREATE USER crowded IDENTIFIED BY 'x'")
    server.run("CREATE USER single IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1")
    for user in ("crowded", "single"):
        server.run(f"GRANT SELECT, INSERT, UPDATE ON {DATABASE}.cronlock TO {user}")
    first = open_at(server.url(user="single", password="x"))
    grant = granted(first.acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="max_user_connections"):
        open_at(server.url(user="single", password="x"), HASTY).acquire(make_claim(key))
    timer = threading.Timer(0.5, first.close)
    timer.start()
    assert refused(open_at(server.url(user="single", password="x")).acquire(make_claim(key)), HELD).fence == grant.fence
    timer.join()
    crowd: list[pymysql.connections.Connection] = []

    def join() -> None:
        crowd.append(server.client(unix_socket=None, host=HOST, port=server.port, user="crowded", password="x"))

    with pytest.raises(pymysql.OperationalError, match="Too many connections"):
        _for_ever(join)
    with pytest.raises(BackendUnavailable, match="Too many connections"):
        open_at(server.url(user="crowded", password="x"), HASTY).acquire(make_claim(key))
    timer = threading.Timer(0.5, lambda: [one.close() for one in crowd])
    timer.start()
    refused(open_at(server.url(user="crowded", password="x")).acquire(make_claim(key)), HELD)
    timer.join()


def _for_ever(work: Callable[[], None]) -> None:
    for _ in range(1000):
        work()


# Nonsense


@pytest.mark.parametrize(
    "text",
    [
        "mysql://h",
        "mysql://h/",
        "mysql:///db",
        "mysql://h/a/b",
        "mysql://h/" + "x" * 65,
        "mysql://h/db?socket=/run/s",
        "mysql:///db?socket=s",
        "mysql:///db?socket=/s&ssl=required",
        "mysql://h/db?ssl=on",
        "mysql://h/db?ssl=disabled&ca=/x",
        "mysql://h/db?cert=/x",
        "mysql://h/db?ca=/does/not/exist",
        "mysql://h/db?ssl=required&key=/x",
        "mysql://h/db?table=a.b.c",
        "mysql://h/db?table=1a",
        "mysql://h/db?table=a%60b",
        "mysql://h/db?table=",
        "mysql://h/db?table=" + "x" * 64,
        "mysql://h/db?prefix=x",
        "mysql://h/d%00b",
        "mariadb://u:p@/db",
    ],
)
def test_bad_urls(text: str) -> None:
    """What cannot be meant is said before anything is asked."""
    with pytest.raises(ConfigError):
        opened(text)


def test_hold_beyond_all_measure(node: MysqlBackend, key: str) -> None:
    """A hold that a server cannot tell as a time is refused; the longest that it can is kept."""
    with pytest.raises(ConfigError, match=r"--min-hold .* at most 315360000 s"):
        node.acquire(make_claim(key, hold=1e12))
    grant = granted(node.acquire(make_claim(key, ttl=node.traits.longest_ttl, hold=315360000.0)))
    assert node.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > 315000000


def _greeting(plugin: bytes = b"mysql_native_password") -> bytes:
    flags = 0x00FFF7FF & ~0x800  # All but TLS.
    body = b"\x0a8.0.0\x00\x01\x00\x00\x00" + b"12345678\x00" + (flags & 0xFFFF).to_bytes(2, "little")
    body += b"\x21\x02\x00" + (flags >> 16).to_bytes(2, "little") + b"\x15" + bytes(10) + b"123456789012\x00"
    return _packet(0, body + plugin + b"\x00")


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


_OK = b"\x00\x00\x00\x02\x00\x00\x00"


@pytest.mark.parametrize(
    "words",
    [
        [b""],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"-ERR unknown command\r\n"],
        [b"\xff" * 70000],
        [b"\0" * 70000],
        [_packet(0, b"\x0a")],
        [_packet(0, b"\xff")],
        [_packet(0, b"")],
        [_greeting(), _packet(2, b"")],
        [_greeting(), _packet(2, b"\x05")],
        [_greeting(), _packet(2, _OK), b""],
        [_greeting(), _packet(2, _OK), _packet(1, b"\xfb/etc/passwd")],
        [_greeting(), _packet(2, _OK), _packet(1, _OK)],
        [_greeting(), _packet(2, _OK), _packet(1, b"\xfe" + b"\xff" * 8)],
        [_greeting(), _packet(2, _OK), b"\xff\xff\xff\x01" + b"x" * (5 << 20)],
        [_greeting(), _packet(2, _OK), _packet(1, b"\x01") + _packet(2, b"\xfb\xfb")],
    ],
)
def test_what_is_no_mysql(words: list[bytes], key: str) -> None:
    """Another kind of server on the port, or one that talks nonsense, is one line, in time."""
    with _Says(words) as says, pytest.raises(BackendUnavailable) as caught:
        opened(f"mysql://u:hidden@{HOST}:{says.port}/db", 3.0).acquire(make_claim(key))
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert b"passwd" not in says.heard


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password"])
def test_password_is_not_shown(plugin: bytes, key: str) -> None:
    """A server that asks for the password as it is does not get it without TLS."""
    asks = _packet(2, b"\xfe" + plugin + b"\x00" + b"12345678")
    with _Says([_greeting(), asks, b""]) as says, pytest.raises(BackendUnavailable, match="takes TLS"):
        opened(f"mysql://u:hidden@{HOST}:{says.port}/db", 3.0).acquire(make_claim(key))
    assert b"hidden" not in says.heard


def test_password_by_the_public_key(key: str, tmp_path: Path) -> None:
    """A server that gives its public key, as MySQL 8 does without TLS, gets the password encrypted by it."""
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"

    def run(command: list[str], **options: bytes) -> bytes:
        return subprocess.run(command, check=True, capture_output=True, **options).stdout  # type: ignore[call-overload,no-any-return]

    run([need("openssl", "openssl"), "genrsa", "-out", str(private), "2048"])
    run(["openssl", "rsa", "-in", str(private), "-pubout", "-out", str(public)])
    full, shows_key = _packet(2, b"\x01\x04"), _packet(4, b"\x01" + public.read_bytes())
    with _Says([_greeting(b"caching_sha2_password"), full, shows_key, _packet(6, b"\xff\x15\x04#28000no")]) as says:
        with pytest.raises(BackendUnavailable, match="no: authentication failed"):
            opened(f"mysql://u:hidden@{HOST}:{says.port}/db", PATIENT).acquire(make_claim(key))
        secret = says.heard[-256:]
    options = ["-pkeyopt", "rsa_padding_mode:oaep"]
    shown = run(["openssl", "pkeyutl", "-decrypt", "-inkey", str(private), *options], input=secret)
    salt = b"12345678123456789012"
    assert bytes([one ^ other for one, other in zip(shown, salt)]) == b"hidden\0"


def test_package_that_is_missing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the password cannot be encrypted, the message says what to install, or to use TLS."""
    for name in ("cryptography", "cryptography.hazmat.backends"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(pymysql._auth, "sha2_rsa_encrypt", mysql_link._encrypted)
    full, shows_key = _packet(2, b"\x01\x04"), _packet(4, b"\x01key")
    with (
        _Says([_greeting(b"caching_sha2_password"), full, shows_key, b""]) as says,
        pytest.raises(BackendUnavailable, match=r"takes TLS .*: pip install cryptography"),
    ):
        opened(f"mysql://u:hidden@{HOST}:{says.port}/db", PATIENT).acquire(make_claim(key))
    assert b"hidden" not in says.heard


def test_nothing_before_tls(key: str) -> None:
    """A server that speaks no TLS where that is asked for hears neither user nor password."""
    with _Says([_greeting(), _packet(2, _OK)]) as says, pytest.raises(BackendUnavailable, match="TLS"):
        opened(f"mysql://bob:hidden@{HOST}:{says.port}/db?ssl=required", 3.0).acquire(make_claim(key))
    assert b"bob" not in says.heard


class _Says:
    """A listener that says each of `words` once something came, the first at once."""

    def __init__(self, words: list[bytes]) -> None:
        self.heard = b""
        self._words = words
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> _Says:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                for number, word in enumerate(self._words):
                    if number:
                        self.heard += client.recv(65536)
                    client.sendall(word)
                client.settimeout(0.5)
                while data := client.recv(65536):
                    self.heard += data
            except OSError:
                pass  # It has heard enough.
            client.close()


def test_unknown_host(key: str) -> None:
    """A name without an address is said as such."""
    for name in ("no-such-host.invalid", "x" * 300, "a..b"):
        with pytest.raises(BackendUnavailable, match="cannot find the address"):
            opened(f"mysql://{name}/db").read(key)


def test_a_clock_that_jumped_is_said(server: MariadbServer, key: str) -> None:
    """When the server's clock goes otherwise than ours, a person hears of it."""
    clock = ManualClock()
    node = opened(server.url())
    node._clock = clock
    grant = granted(node.acquire(make_claim(key)))
    assert node.renew(grant)
    assert node.notices == []
    clock.advance(100)
    assert node.renew(grant)
    (notice,) = node.notices
    assert "clock jumped by -100.0 s" in notice or "clock jumped by -99.9 s" in notice
    node.close()


def test_nobody(server: MariadbServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no name on this machine is told to write one into the URL."""
    monkeypatch.setattr(pymysql.connections, "DEFAULT_USER", None)
    with pytest.raises(ConfigError, match="names no user"):
        opened(f"mysql://{HOST}:{server.port}/db").acquire(make_claim(key))


def test_close_after_a_failure(server: MariadbServer) -> None:
    """A node that failed can be closed, and asked again."""
    node = opened(server.url(table="nix"))
    for _ in range(2):
        with pytest.raises(ConfigError):
            node.read("x")
        node.close()
        node.close()
