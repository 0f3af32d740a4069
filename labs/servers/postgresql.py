"""PostgreSQL, alone and as a standby of another, and PgBouncer before it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cronlock.engines.postgresql import sql as postgresql_sql
from labs.proc import children, is_alive, is_stopped

from .database import DatabaseServer, as_user, give, run_as_user
from .process import ROOT, Server, eventually, need
from .tls import query, tls

#: The superuser of the servers, and the database that everybody uses.
SUPERUSER = DATABASE = "postgres"


def _program(name: str) -> str:
    """Return the path of a program of PostgreSQL's newest version here; fail the test when it is missing."""
    found = sorted((ROOT / "usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found and shutil.which(name) is None:
        pytest.fail(f"{name} is missing: apt-get install postgresql", pytrace=False)
    return str(found[-1]) if found else str(shutil.which(name))


class PostgresqlServer(DatabaseServer):
    """One PostgreSQL; see `DatabaseServer`. Without any `users` nobody needs a password."""

    scheme = "postgresql"
    admin = SUPERUSER
    database = DATABASE
    made = "PG_VERSION"
    failures = psycopg.Error
    tls_files = ("ssl_key_file", "ssl_cert_file", "ssl_ca_file")

    def usual_settings(self) -> dict[str, str]:
        """Return those of a small server that need not outlive the machine."""
        return {
            "listen_addresses": self.site.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "100",
            "log_timezone": "UTC",
            "ssl": "on" if self.tls else "off",
        }

    def tls_params(self) -> dict[str, str]:
        """Return the parameters of a URL that trusts the tests' authority."""
        return {"sslmode": "verify-full", "sslrootcert": str(tls().ca)}

    @classmethod
    def initialize(cls, data: Path) -> None:
        """Make a new data directory."""
        options = ("--no-sync", "--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C")
        run_as_user(_program("initdb"), *options, "-D", str(data))

    def command(self) -> list[str]:
        """Write who may log in, and return the command line of the server."""
        kind = "hostssl" if self.tls else "host"
        how = "scram-sha-256" if self._users else "trust"
        who = f"local all all trust\nlocal replication all trust\n{kind} all all all {how}\n"
        (self.data / "pg_hba.conf").write_text(who)
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        # QUIT has a server leave nothing behind.
        return [*as_user(signal.SIGQUIT), _program("postgres"), "-D", str(self.data), *options]

    def client(self, **options: Any) -> psycopg.Connection[Any]:
        """Return a superuser's connection by the Unix socket, to look at the server behind a backend's back."""
        place: dict[str, Any] = {"host": str(self.directory), "port": self.port}
        who: dict[str, Any] = {"user": SUPERUSER, "dbname": DATABASE, "connect_timeout": 10}
        return psycopg.connect(**{**place, **who, "autocommit": True, **options})

    def run(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of a superuser's statement."""
        with self.client() as client:
            # The statements of tests are their own.
            cursor = client.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def unix_url(self, **params: str) -> str:
        """Return the backend's URL by the Unix socket, for the superuser."""
        place = {"host": str(self.directory), "port": str(self.port)}
        return f"postgresql://{SUPERUSER}@/{DATABASE}{query({**place, **params})}"

    def stop(self) -> None:
        """End it in an orderly way, without waiting for clients."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all of its processes as a crash of the machine would."""
        if self._process is None:
            return
        processes = [self.pid, *children(self.pid)]
        for pid in processes:
            _signal(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)
        # The next start refuses while one of them has the shared memory.
        eventually(lambda: not any(map(is_alive, processes[1:])), "its processes are gone")

    def close(self) -> None:
        """End it, so that it leaves nothing behind, and remove its directory."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGQUIT)
        super().close()

    def pause(self) -> None:
        """Stop all of its processes where they are."""
        super().pause()
        # The first makes the others: there will be no more.
        for pid in children(self.pid):
            _signal(pid, signal.SIGSTOP)
            eventually(lambda pid=pid: is_stopped(pid) or not is_alive(pid), "the process stands")  # type: ignore[misc]

    def resume(self) -> None:
        """Let all of them go on."""
        for pid in (*children(self.pid), self.pid):
            _signal(pid, signal.SIGCONT)

    def make_table(self, table: str = "cronlock") -> None:
        """Make a table as `cronlock doctor --create` does."""
        self.run(postgresql_sql.statement(postgresql_sql.CREATE, table).decode())

    def add_user(self, name: str, password: str) -> None:
        """Add a role that may log in, unless there is one of that name."""
        if not self.run("SELECT 1 FROM pg_roles WHERE rolname = %s", name):
            secret = password.replace("'", "''")
            self.run(f"CREATE ROLE {name} LOGIN PASSWORD '{secret}'")


class PostgresqlStandby(PostgresqlServer):
    """A server that follows `primary`, asynchronously, and only reads until it is promoted."""

    def __init__(self, primary: PostgresqlServer) -> None:
        super().__init__(bare=True)
        self.primary = primary

    def promote(self) -> None:
        """Make it take writes, and return when it does."""
        assert self.run("SELECT pg_promote()") == [(True,)]

    def make_data(self) -> None:
        """Copy the primary's."""
        place = ("-h", str(self.primary.directory), "-p", str(self.primary.port), "-U", SUPERUSER)
        run_as_user(
            _program("pg_basebackup"), *place, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync"
        )


class PgBouncer(Server):
    """A pooler before `server`, which gives each transaction any of its connections to it."""

    def __init__(self, server: PostgresqlServer, *, connections: int = 3) -> None:
        super().__init__()
        self.server = server
        self._connections = connections

    def command(self) -> list[str]:
        """Write the configuration and return the command line."""
        program = need("pgbouncer", "pgbouncer")
        users = self.directory / "users.txt"
        users.write_text(f'"{SUPERUSER}" ""\n')
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(
            # `auth_type = any` logs everybody in as this user.
            f"[databases]\n* = host={self.server.directory} port={self.server.port} user={SUPERUSER}\n"
            f"[pgbouncer]\nlisten_addr = {self.site.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {users}\npool_mode = transaction\nadmin_users = {SUPERUSER}\n"
            f"default_pool_size = {self._connections}\nmax_client_conn = 500\n"
        )
        self.directory.chmod(0o755)
        give(self.directory, users, configuration)
        return [*as_user(signal.SIGQUIT), program, str(configuration)]

    def is_ready(self) -> bool:
        """Return True if a statement comes back through it."""
        try:
            with psycopg.connect(self.url().partition("?")[0], connect_timeout=5, autocommit=True) as client:
                return bool(client.execute("SELECT 1").fetchone())
        except psycopg.Error:
            return False

    def url(self, **params: str) -> str:
        """Return the backend's URL through the pooler."""
        return self.server.url(port=self.port, **params)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # It was faster.
