"""``cronlock doctor`` on real PostgreSQL servers: what it makes, what it finds, and what it says to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.doctor.findings import BAD, NOTE, WARNING
from labs.servers.postgresql import PgBouncer, PostgresqlServer, PostgresqlStandby
from labs.servers.process import HOST, eventually
from labs.servers.tls import tls

from ..look import Look
from ..sql.doctors import TableDoctor


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """One server without a table, that forgets nothing."""
    with PostgresqlServer(bare=True, settings={"fsync": "on"}) as running:
        running.run("CREATE ROLE guest LOGIN")
        yield running


@pytest.fixture
def table(server: PostgresqlServer) -> Iterator[str]:
    """The name of a table that the test makes."""
    yield "leases"
    server.run("DROP TABLE IF EXISTS leases")


class TestTable(TableDoctor):
    """The tests that both SQL doctors share."""

    scheme = "postgresql"
    product = "PostgreSQL "
    locked_out = "permissions", "lacks SELECT, INSERT, UPDATE"


def test_schema_that_is_missing(server: PostgresqlServer) -> None:
    """Nothing can be made there."""
    assert Look(server.url(table="nowhere.leases"), create=True).one("create").level == BAD


def test_tables_that_will_not_do(server: PostgresqlServer, table: str) -> None:
    """A view, and a table that a crash empties are found."""
    url = server.url(table=table)
    server.make_table(table)
    server.run(f"ALTER TABLE {table} SET UNLOGGED")
    assert "a crash empties it" in Look(url).one("table").text
    assert Look(server.url(table="pg_catalog.pg_tables")).one("table").level == BAD


def test_settings_that_forget(server: PostgresqlServer, table: str) -> None:
    """Settings that let a crash forget are warned of, for this user."""
    server.make_table(table)
    server.run("CREATE ROLE hasty SUPERUSER LOGIN")
    server.run("ALTER ROLE hasty SET synchronous_commit = off")
    server.run("ALTER ROLE hasty SET default_transaction_isolation = 'repeatable read'")
    look = Look(server.url(user="hasty", table=table))
    assert look.one("durability").level == WARNING
    assert "synchronous_commit is off" in look.one("durability").text
    assert "conflicting swaps are repeated" in look.one("isolation").text
    with PostgresqlServer(settings={"full_page_writes": "off", "autovacuum": "off"}) as careless:
        look = Look(careless.url())
        assert "fsync is off" in look.one("durability").text
        assert look.one("upkeep").level == WARNING


def test_standbys(server: PostgresqlServer, table: str) -> None:
    """The doctor reports standbys, and whether a grant waits for them; one alone is not enough."""
    server.make_table(table)
    url = server.url(table=table)
    assert "nothing runs" in Look(url).one("standbys").text
    with PostgresqlStandby(server) as standby:
        eventually(lambda: server.run("SELECT count(*) FROM pg_stat_replication") == [(1,)], "the standby follows")
        assert Look(url).one("standbys").text.startswith("1, asynchronous: a failover can lose")
        alone = Look(standby.url(table=table))
        assert alone.levels()["answer"] == BAD
        assert "read-only" in alone.one("answer").text
        server.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        server.run("SELECT pg_reload_conf()")

        def in_step() -> bool:
            return bool(server.run("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == [(1,)])

        eventually(in_step, "the standby is synchronous")
        assert Look(url).one("standbys").text == "1, synchronous (1 in step)"
        server.run("CREATE ROLE lonely SUPERUSER LOGIN")
        server.run("ALTER ROLE lonely SET synchronous_commit = local")
        assert Look(server.url(user="lonely", table=table)).one("standbys").level == WARNING
        server.run("ALTER SYSTEM RESET synchronous_standby_names")
        server.run("SELECT pg_reload_conf()")


def test_pooler(server: PostgresqlServer, table: str) -> None:
    """A pooler is noticed, and all right."""
    server.make_table(table)
    with PgBouncer(server) as pooler:
        look = Look(pooler.url(table=table))
    assert BAD not in look.levels().values()
    assert look.one("pooler").level == NOTE


def test_encryption() -> None:
    """Whether the server was verified is said, and for how long its certificate is good; so are the credentials."""
    with PostgresqlServer(tls=True, users={"worker": "s3cret"}) as guarded:
        look = Look(guarded.url())
        assert look.one("encryption").text == "TLS, sslmode=verify-full"
        assert look.one("certificate").text.startswith(HOST)
        assert "accepts any server" in Look(guarded.url(sslmode="require")).one("encryption").text
        wrong = Look(guarded.url(user="worker", password="hidden")).one("credentials")
        assert (wrong.level, "hidden" in wrong.text) == (BAD, False)
        assert Look(guarded.url(database="nix")).one("credentials").level == BAD
        other = Look(guarded.url(sslrootcert=str(tls().client_cert))).one("answer")
        assert "certificate verify failed" in other.text
