"""``cronlock doctor`` on real MariaDB servers: what it makes, what it finds, and what it says to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.doctor.findings import BAD, NOTE, OK, WARNING
from labs.servers.mariadb import DATABASE, MariadbReplica, MariadbServer
from labs.servers.process import HOST
from labs.servers.tls import tls

from ..look import Look
from ..sql.doctors import TableDoctor


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """One server without a table, that forgets nothing."""
    settings = {"innodb-flush-log-at-trx-commit": "1"}
    with MariadbServer(bare=True, users={"owner": "o", "guest": "g"}, settings=settings) as running:
        running.run(f"GRANT ALL ON {DATABASE}.* TO owner")
        yield running


@pytest.fixture
def table(server: MariadbServer) -> Iterator[str]:
    """The name of a table that the test makes."""
    yield "leases"
    server.run("DROP TABLE IF EXISTS leases")
    server.run("REVOKE ALL, GRANT OPTION FROM guest")


class TestTable(TableDoctor):
    """The tests that both SQL doctors share."""

    scheme = "mysql"
    product = "MariaDB 1"
    shown = " (InnoDB, Dynamic)"
    kept = b"kept"
    password = "g"
    locked_out = "credentials", "Access denied"
    lets_see = f"GRANT SELECT ON {DATABASE}.* TO guest"


def test_making_it_elsewhere(server: MariadbServer) -> None:
    """A table in another database is made and found there; a database that is missing is said."""
    server.run("CREATE DATABASE elsewhere")
    server.run("GRANT ALL ON elsewhere.* TO owner")
    assert Look(server.url(table="elsewhere.leases"), create=True).one("table").level == OK
    assert server.run("SELECT COUNT(*) FROM elsewhere.leases") == [(0,)]
    assert "CREATE DATABASE" in Look(server.url("missing", user="admin"), create=True).one("create").text
    assert "CREATE DATABASE" in Look(server.url("missing", user="admin")).one("credentials").text


def test_rights_that_are_too_many(server: MariadbServer, table: str) -> None:
    """The doctor warns of a user whose writes a replica would accept."""
    server.make_table(table)
    found = Look(server.url(user="admin", table=table)).one("permissions")
    assert found.level == WARNING
    assert f"GRANT SELECT, INSERT, UPDATE ON {table}" in (found.remedy or "")


def test_tables_that_will_not_do(server: MariadbServer, table: str) -> None:
    """A view, a table that a crash damages, and one that takes keys for each other are found."""
    url = server.url(table=table)
    server.make_table(table)
    server.run(f"ALTER TABLE {table} MODIFY name VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL")
    assert "a collation on name" in Look(url).one("table").text
    server.run(f"DROP TABLE {table}")
    server.make_table(table)
    server.run(f"ALTER TABLE {table} ENGINE=Aria")
    found = Look(url).one("table")
    assert "Aria" in found.text
    assert found.remedy == f"ALTER TABLE {table} ENGINE=InnoDB"
    server.run(f"CREATE OR REPLACE VIEW {DATABASE}.seen AS SELECT 1 AS name")
    assert Look(server.url(table="seen")).one("table").level == BAD
    server.run("DROP VIEW seen")


def test_settings_that_forget(server: MariadbServer, table: str) -> None:
    """Settings that let a crash forget are warned of."""
    server.make_table(table)
    server.run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    found = Look(server.url(table=table)).one("durability")
    server.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert found.level == WARNING
    assert "innodb_flush_log_at_trx_commit is 2" in found.text


def test_connections(server: MariadbServer, table: str) -> None:
    """Connections that are nearly used up are warned of."""
    server.make_table(table)
    server.run("SET GLOBAL max_connections = 20")
    # The server may not have done with whoever spoke to it before.
    clients = [server.client() for _ in range(18)]
    found = Look(server.url(table=table)).one("clients")
    for client in clients:
        client.close()
    server.run("SET GLOBAL max_connections = 151")
    assert found.level == WARNING


def test_login_refused(server: MariadbServer) -> None:
    """A wrong password is distinguished from a server that does not answer, and never shown."""
    found = Look(server.url(user="guest", password="wr0ng"))
    assert found.one("credentials").level == BAD
    assert not any("wr0ng" in finding.text for finding in found.found)
    assert Look(f"mysql:///db?socket={server.directory}/none").one("answer").level == BAD


def test_certificate() -> None:
    """The certificate is looked at where it is verified, and what is not verified is noted."""
    with MariadbServer(tls=True, users={"worker": "secret"}) as server:
        look = Look(server.url())
        assert look.one("encryption").level == OK
        # It was made for two days, this very second or earlier.
        assert any(f"good for another {left}" in look.one("certificate").text for left in ("1d", "2d00h"))
        look = Look(server.url(ssl="required"))
        assert look.one("encryption").level == NOTE
        assert "certificate" not in look.levels()
        assert "verify failed" in Look(server.url(ca=str(tls().client_cert))).one("answer").text


def test_replication() -> None:
    """A replica, its primary, and two independent servers are distinguished."""
    with (
        MariadbServer(users={"worker": "secret"}, settings=MariadbReplica.PRIMARY) as primary,
        MariadbReplica(primary) as replica,
    ):
        found = Look(primary.url())
        assert "asynchronous" in found.one("replication").text
        assert "sync_binlog is 0" in next(one.text for one in found.found if "sync_binlog" in one.text)
        both = f"mysql://worker:secret@{HOST}:{replica.port},{HOST}:{primary.port}/{DATABASE}"
        look = Look(both)
        assert BAD not in look.levels().values()
        assert f"{HOST}:{replica.port} is" in look.one("read-only").text
        alone = Look(replica.url(user="worker", password="secret")).one("answer")
        assert (alone.level, "read-only: a replica?" in alone.text) == (BAD, True)
        replica.promote()
        look = Look(both)
        assert look.one("read-only").level == BAD
        assert "not one cluster" in look.one("read-only").text
