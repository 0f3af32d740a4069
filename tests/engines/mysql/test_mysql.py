"""MySQL's own tests: locks, uncommitted reads, statements, and a server that is slow."""

from __future__ import annotations

import threading
import time
from decimal import Decimal

import pymysql
import pytest

from cronlock.engines.mysql import sql as statements
from cronlock.engines.mysql.servers import is_on
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD
from cronlock.testing import LONG, eventually, granted, make_claim, refused
from labs.proxy import Proxy
from labs.servers.mariadb import DATABASE, MariadbServer
from labs.servers.process import HOST

from ..hooks import PATIENT, Opener, turned_away
from ..sql.kinds import HASTY, Mysql, locked
from .support import servers_of

# Statements


def test_what_was_not_committed_is_not_shown(server: MariadbServer, open_at: Opener, key: str) -> None:
    """Also where the server's setting is to show it, a read shows what was committed, and nothing of it stays."""
    server.run("SET GLOBAL tx_isolation = 'READ-UNCOMMITTED'")
    node = open_at(server.url())
    try:
        granted(node.acquire(make_claim(key)))
        with locked("mysql", server, key) as client:
            with client.cursor() as cursor:
                cursor.execute("UPDATE cronlock SET lapses_at = 0 WHERE name = %s", (key.encode(),))
            refused(node.acquire(make_claim(key)), HELD)
        ((level,),) = servers_of(node).query("SELECT @@tx_isolation", time.monotonic() + PATIENT)
        assert level == "READ-UNCOMMITTED"
    finally:
        server.run("SET GLOBAL tx_isolation = 'REPEATABLE-READ'")


def test_the_refused_change_nothing(server: MariadbServer, node: Leases, key: str) -> None:
    """A refused swap writes nothing, so it does not wait for the disk."""
    granted(node.acquire(make_claim(key, hold=LONG)))
    written = server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'")
    for _ in range(5):
        refused(node.acquire(make_claim(key)), HELD)
    assert server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'") == written


@pytest.mark.parametrize("there", ["nothing was there", "a row was there"])
def test_swap_that_was_done_before_a_refusal(
    node: Leases, key: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server refuses what comes behind a swap it is asked again, and the swap counts as done, once."""
    store, deadline = node.store, time.monotonic() + PATIENT
    seen = store.read(key, deadline)
    if there == "a row was there":
        seen = store.swap(key, seen, b"x", lease=LONG, hold=0.0, deadline=deadline)[1]
    for code in Mysql.rolled_back:
        with Mysql().refusing(monkeypatch, code, behind=True):
            done, cell = store.swap(key, seen, b"y", lease=LONG, hold=0.0, deadline=deadline)
        assert (done, cell.version) == (True, store.read(key, deadline).version)
        seen = cell


def test_only_a_row_that_is_there_is_passed_over(server: MariadbServer, open_at: Opener) -> None:
    """A value that is too long for an INSERT is refused, not truncated."""
    server.run("CREATE TABLE narrow LIKE cronlock")
    server.run("ALTER TABLE narrow MODIFY record VARBINARY(10) NOT NULL")
    node = open_at(server.url(table="narrow"))
    with pytest.raises(BackendUnavailable, match="Data too long"):
        node.acquire(make_claim("job"))
    assert server.run("SELECT COUNT(*) FROM narrow") == [(0,)]


def test_replaced_before_it_was_looked_at(node: Leases, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that was done is reported with its own cell, even if another node wrote at once."""
    store, deadline = node.store, time.monotonic() + PATIENT
    seen = store.swap(key, store.read(key, deadline), b"x", lease=LONG, hold=0.0, deadline=deadline)[1]
    monkeypatch.setattr(statements, "WRITTEN", statements.WRITTEN.replace("= {version}", "= X'00'"))
    done, cell = store.swap(key, seen, b"y", lease=LONG, hold=0.0, deadline=deadline)
    monkeypatch.undo()
    assert (done, cell.data) == (True, b"y")
    assert store.read(key, deadline).version == cell.version


def test_lock_that_is_not_waited_for(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A request that waited too long for a lock is repeated until the deadline."""
    node = open_at(server.url(), 3.5)
    with locked("mysql", server, key) as client:
        with client.cursor() as cursor:
            cursor.execute("INSERT INTO cronlock VALUES (%s, 'v', 'r', 0, 0)", (key.encode(),))
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"Lock wait timeout exceeded|no answer in time"):
            node.acquire(make_claim(key))
        assert time.monotonic() - began < 10
        timer = threading.Timer(1.3, client.rollback)
        timer.start()
        granted(open_at(server.url()).acquire(make_claim(key)))
        timer.join()


def test_server_without_any_room(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that has no connection left for anybody is asked again until it has, within the limit."""
    granted(open_at(server.url()).acquire(make_claim(key)))
    server.run("CREATE USER crowded IDENTIFIED BY 'x'")
    server.run(f"GRANT SELECT, INSERT, UPDATE ON {DATABASE}.cronlock TO crowded")
    url = server.url(user="crowded", password="x")
    crowd: list[pymysql.connections.Connection] = []

    def join() -> None:
        for _ in range(1000):
            crowd.append(server.client(unix_socket=None, host=HOST, port=server.port, user="crowded", password="x"))

    with pytest.raises(pymysql.OperationalError, match="Too many connections"):
        join()
    turned_away(lambda: open_at(url, HASTY).acquire(make_claim(key)), "Too many connections")
    timer = threading.Timer(0.5, lambda: [one.close() for one in crowd])
    timer.start()
    refused(open_at(url).acquire(make_claim(key)), HELD)
    timer.join()


def test_listing_a_table_of_others(server: MariadbServer, open_at: Opener) -> None:
    """One whose column has the same name, and numbers in it, is refused in one line."""
    server.run("CREATE TABLE people (name INT)")
    server.run("INSERT INTO people VALUES (1)")
    with pytest.raises(BackendUnavailable, match="unexpected reply"):
        list(open_at(server.url(table="people")).keys())


@pytest.mark.parametrize("value", [0, "0", b"0", "OFF", b"OFF", 1, b"ON", "NO_LOCK", None, Decimal("sNaN")])
def test_variable_that_is_on(value: object) -> None:
    """A variable counts as on unless it is surely off: servers show it as a number or a word."""
    assert is_on(value) == (str(value).strip("b'") not in ("0", "OFF"))


# A server that is slow


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
        for address in range(len(data)):
            if not self.slow:
                connection.client.sendall(data[address:])  # type: ignore[attr-defined]
                return
            connection.client.sendall(data[address : address + 1])  # type: ignore[attr-defined]
            time.sleep(0.1)


def test_goodbye(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A node that closes its connection says so, and the server's log has no complaint of it."""

    def is_alone() -> bool:
        return server.run("SHOW STATUS LIKE 'Threads_connected'") == [("Threads_connected", "1")]

    eventually(is_alone, "the other tests' nodes have left")
    before = server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
    node = open_at(server.url(), 3.0)
    grant = granted(node.acquire(make_claim(key)))
    time.sleep(3.1)  # Beyond the limit of its last request.
    assert node.renew(grant)
    time.sleep(3.1)
    node.close()
    eventually(is_alone, "the node has left")
    assert server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'") == before
