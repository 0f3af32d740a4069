"""PostgreSQL and MySQL for tests of what both promise: their servers, and how a store's row is reached behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from cronlock.engines.mysql import connection as mysql_connection
from cronlock.engines.postgresql import connection as postgresql_connection
from cronlock.engines.wire.sql import Refused, TableStore
from cronlock.lease.leases import Leases
from labs.servers.mariadb import ADMIN, DATABASE, MariadbReplica, MariadbServer
from labs.servers.postgresql import PostgresqlServer, PostgresqlStandby
from labs.servers.process import HOST

from ..hooks import FaultHooks, node_at

if TYPE_CHECKING:
    from cronlock.lease.store import Store

#: Seconds of a wait that must fail.
HASTY = 1.0
SECRET = "p'w \\ @:/?\u00e9"

Server = Any
#: Opens a node at a URL, patient unless told otherwise.
Opener = Callable[..., Leases]


def store_of(node: Leases) -> TableStore:
    """Return a node's store."""
    assert isinstance(node.store, TableStore)
    return node.store


class Postgresql:
    """PostgreSQL."""

    scheme = "postgresql"
    #: With these a connection is made in one packet.
    plain: ClassVar[dict[str, str]] = {"sslmode": "disable", "gssencmode": "disable"}
    #: The server's messages for a missing table, a write to a replica, and too many connections.
    missing = "does not exist"
    read_only = "read-only"
    no_room = "too many connections"
    #: The message at the end of a wait for a lock.
    locked = r"another session has a row of cronlock locked|no answer in time"
    #: The transactions that wait for a lock.
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%cronlock%%'"
    rolled_back = ("40001", "40P01")
    crowd = "CREATE ROLE single LOGIN CONNECTION LIMIT 1"
    grant = "GRANT SELECT, INSERT, UPDATE ON cronlock TO single"

    def server(self, **options: Any) -> Server:
        """Return a server."""
        return PostgresqlServer(**options)

    @contextmanager
    def pair(self) -> Iterator[tuple[Server, Server]]:
        """Run a server and one that follows it."""
        with PostgresqlServer() as primary, PostgresqlStandby(primary) as standby:
            yield primary, standby

    def both(self, first: Server, second: Server) -> str:
        """Return a URL of two servers."""
        return f"postgresql://postgres@{HOST}:{first.port},{HOST}:{second.port}/postgres"

    def cut_off(self, primary: Server, standby: Server) -> None:
        """Let `standby` hear nothing more of `primary`."""
        standby.run("ALTER SYSTEM SET primary_conninfo = ''")
        standby.run("SELECT pg_reload_conf()")
        while primary.run("SELECT count(*) FROM pg_stat_replication") != [(0,)]:
            pass

    def name(self, key: str) -> object:
        """Return a plain key's name in the table."""
        return key

    def end_sessions(self, server: Server) -> None:
        """Let the server hang up on all nodes."""
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cronlock'")

    @contextmanager
    def refusing(self, patch: pytest.MonkeyPatch, code: Any) -> Iterator[None]:
        """Refuse the first request with `code`."""
        with _refusing(patch, postgresql_connection.Connection, Refused("postgresql://h: no", code)):
            yield


class Mysql:
    """MySQL, as MariaDB is it."""

    scheme = "mysql"
    plain: ClassVar[dict[str, str]] = {}
    missing = "doesn't exist"
    read_only = r"read-only.*name the server that takes writes"
    no_room = "max_user_connections"
    locked = r"Lock wait timeout exceeded|no answer in time"
    waiting = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    rolled_back = (1213, 1205, 1020, 3101)
    crowd = "CREATE USER single WITH MAX_USER_CONNECTIONS 1"
    grant = f"GRANT SELECT, INSERT, UPDATE ON {DATABASE}.cronlock TO single"

    def server(self, **options: Any) -> Server:
        """Return a server."""
        return MariadbServer(**options)

    @contextmanager
    def pair(self) -> Iterator[tuple[Server, Server]]:
        """Run a server and one that follows it."""
        users = {"worker": "secret"}
        with (
            MariadbServer(users=users, settings=MariadbReplica.PRIMARY) as primary,
            MariadbReplica(primary) as replica,
        ):
            yield primary, replica

    def both(self, first: Server, second: Server, login: str = "worker:secret") -> str:
        """Return a URL of two servers."""
        return f"mysql://{login}@{HOST}:{first.port},{HOST}:{second.port}/{DATABASE}"

    def cut_off(self, primary: Server, standby: Server) -> None:
        """Let `standby` hear nothing more of `primary`."""
        standby.run("STOP SLAVE IO_THREAD")

    def name(self, key: str) -> object:
        """Return a plain key's name in the table."""
        return key.encode()

    def end_sessions(self, server: Server) -> None:
        """Let the server hang up on all nodes."""
        server.run(f"KILL USER {ADMIN}")

    @contextmanager
    def refusing(self, patch: pytest.MonkeyPatch, code: Any, *, behind: bool = False) -> Iterator[None]:
        """Refuse the first request with `code`, or the last statement of it: what came before was done."""
        with _refusing(patch, mysql_connection.Connection, Refused("mysql://h: no", code), behind=behind):
            yield


@contextmanager
def _refusing(
    patch: pytest.MonkeyPatch, connection: Any, refusal: Exception, *, behind: bool = False
) -> Iterator[None]:
    pending, plain = [refusal], connection.ask

    def ask(*words: Any) -> Any:
        if pending and not behind:
            raise pending.pop()
        answers = plain(*words)
        if pending:
            raise pending.pop()
        return answers

    with patch.context() as patched:
        patched.setattr(connection, "ask", ask)
        yield
    assert not pending


KINDS: dict[str, Postgresql | Mysql] = {"postgresql": Postgresql(), "mysql": Mysql()}


class TableHooks(FaultHooks):
    """Time passes by changing the row."""

    # A connection takes a packet.
    acquire = 3
    # A server that closes the connection at the login counts as busy.
    hasty = 3.0

    def __init__(self, kind: str, server: Server, url: str = "") -> None:
        super().__init__(server)
        self._kind = KINDS[kind]
        self._url = url or server.url()
        self.params = self._kind.plain

    def open_store(self) -> Store:
        """Return one more node."""
        return node_at(self._url).store

    def kept(self, key: str) -> object:
        """Return the row."""
        return self.server.run("SELECT * FROM cronlock WHERE name = %s", self._kind.name(key))

    def lapse(self, key: str) -> None:
        """End the lease behind everybody's back."""
        self._alter("lapses_at", key)

    def end_hold(self, key: str) -> None:
        """End the hold behind everybody's back."""
        self._alter("held_until", key)

    def _alter(self, column: str, key: str) -> None:
        self.server.run(f"UPDATE cronlock SET {column} = 1 WHERE name = %s", self._kind.name(key))


@contextmanager
def locked(kind: str, server: Server, key: str) -> Iterator[Any]:
    """Lock a key's row; yield the connection, whose rollback unlocks it."""
    client = server.client(autocommit=False)
    try:
        with client.cursor() as cursor:
            cursor.execute("SELECT 1 FROM cronlock WHERE name = %s FOR UPDATE", (KINDS[kind].name(key),))
        yield client
    finally:
        client.rollback()
        client.close()
