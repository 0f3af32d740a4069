"""The contract of stores on PostgreSQL and MariaDB, plain and where all that can be set otherwise is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.engines.postgresql import sql as postgresql_sql
from cronlock.testing import StoreContract, StoreHooks
from labs.servers.mariadb import MariadbServer
from labs.servers.postgresql import PgBouncer, PostgresqlServer

from .kinds import KINDS, SECRET, TableHooks

# All that changes what a statement means, in the two dialects.
_STRANGE = (
    "SIMULTANEOUS_ASSIGNMENT,NO_BACKSLASH_ESCAPES,ANSI,TRADITIONAL,HIGH_NOT_PRECEDENCE,EMPTY_STRING_IS_NULL,"
    "PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION,TIME_ROUND_FRACTIONAL,ONLY_FULL_GROUP_BY"
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server with a role whose transactions are serializable, and a database that lacks most letters."""
    with PostgresqlServer() as running:
        running.run("CREATE ROLE strict SUPERUSER LOGIN")
        running.run("ALTER ROLE strict SET default_transaction_isolation = 'serializable'")
        running.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with running.client(dbname="latin") as client:
            client.execute(postgresql_sql.statement(postgresql_sql.CREATE, "cronlock"))
        yield running


@pytest.fixture(scope="module")
def pooler(postgresql: PostgresqlServer) -> Iterator[PgBouncer]:
    """A pooler before it, with fewer connections than a race has nodes."""
    with PgBouncer(postgresql) as running:
        yield running


@pytest.fixture(scope="module")
def mysql() -> Iterator[MariadbServer]:
    """A server whose user has the least rights and a difficult password."""
    with MariadbServer(users={"worker": f"{SECRET}\u20ac"}) as running:
        yield running


@pytest.fixture(scope="module")
def strange() -> Iterator[MariadbServer]:
    """A server with every setting that could change what a statement means, without autocommit."""
    settings = {"sql-mode": _STRANGE, "autocommit": "OFF", "character-set-server": "ucs2", "sql-safe-updates": "ON"}
    settings["transaction-isolation"] = "SERIALIZABLE"
    with MariadbServer(users={"worker": "secret"}, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def oracle() -> Iterator[MariadbServer]:
    """A server with Oracle's dialect, which opens a transaction for all, and shows what is not committed."""
    settings = {"sql-mode": "ORACLE", "init-connect": "SET autocommit = 0", "transaction-isolation": "READ-UNCOMMITTED"}
    with MariadbServer(users={"worker": "secret"}, settings=settings) as running:
        yield running


class TestPlain(StoreContract):
    """One server of each kind, plain."""

    @pytest.fixture(params=KINDS)
    def hooks(self, request: pytest.FixtureRequest) -> StoreHooks:
        """The server's hooks."""
        return TableHooks(request.param, request.getfixturevalue(request.param))


class TestLibpq(StoreContract):
    """On PostgreSQL by libpq, as for a user with a variable that only libpq knows."""

    histories = 4

    @pytest.fixture
    def hooks(self, postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> StoreHooks:
        """The server's hooks."""
        monkeypatch.setenv("PGAPPNAME", "cronlock")
        return TableHooks("postgresql", postgresql)


class TestSerializable(StoreContract):
    """For a role with serializable transactions by default."""

    histories = 4

    @pytest.fixture
    def hooks(self, postgresql: PostgresqlServer) -> StoreHooks:
        """The server's hooks, for that role."""
        return TableHooks("postgresql", postgresql, postgresql.url(user="strict"))


class TestOddly(StoreContract):
    """Through PgBouncer, which gives each statement another connection; where all that can be set otherwise is.

    And where the server takes Oracle's dialect, and leaves transactions open.
    """

    histories = 4

    @pytest.fixture(params=["pooler", "strange", "oracle"])
    def hooks(self, request: pytest.FixtureRequest, postgresql: PostgresqlServer) -> StoreHooks:
        """The server's hooks."""
        server = request.getfixturevalue(request.param)
        if request.param == "pooler":
            return TableHooks("postgresql", postgresql, server.url())
        return TableHooks("mysql", server)
