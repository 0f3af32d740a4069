"""PostgreSQL, alone and as a standby of another, and PgBouncer before it."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from cronlock.engines.postgresql import sql as postgresql_sql
from cronlock.engines.wire.sql import GRANTS

from .process import LOOPBACK, Place, Server, eventually, need
from .tls import query, tls

#: Who the servers run as where the tests are root: they refuse that.
_USER = "nobody"
_INSTALLED = "/usr/lib/postgresql"
#: The superuser of the servers, and the database that everybody uses.
SUPERUSER = DATABASE = "postgres"


def _program(name: str) -> str:
    """Return the path of a program of PostgreSQL's newest version here; fail the test when it is missing."""
    found = sorted(Path(_INSTALLED).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found and shutil.which(name) is None:
        pytest.fail(f"{name} is missing: apt-get install postgresql", pytrace=False)
    return str(found[-1]) if found else str(shutil.which(name))


def _as_user() -> list[str]:
    """Return the start of a command that is to run as somebody who may run PostgreSQL."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_USER)
    # Behind the change of user, which takes the death signal away. QUIT has a server leave nothing behind.
    leash = ("--pdeathsig", "SIGQUIT")
    return [need("setpriv", "util-linux"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *leash]


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, _USER)


def _run(*command: str) -> None:
    done = subprocess.run([*_as_user(), *command], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def _template() -> Path:
    """Return a new data directory of which copies are made: cheaper than one for each server."""
    directory = Path(tempfile.mkdtemp(prefix="cl-pg-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    _give(directory)
    made = directory / "data"
    options = ("--no-sync", "--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C")
    _run(_program("initdb"), *options, "-D", str(made))
    return made


class PostgresqlServer(Server):
    """One server, with cronlock's table in the database `DATABASE` unless it is `bare`.

    `users` maps the names of roles that may log in, with a password only, to those; without any, nobody
    needs one. With `tls` only encrypted connections are taken; `settings` are more of its own.
    """

    keeps_data = True

    def __init__(
        self,
        *,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        bare: bool = False,
        place: Place = LOOPBACK,
    ) -> None:
        super().__init__(place)
        self.tls = tls
        self._users = dict(users or {})
        self._bare = bare
        self._settings = {
            "listen_addresses": place.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "100",
            "log_timezone": "UTC",
            **(settings or {}),
        }

    def command(self) -> list[str]:
        """Return the command line of the server."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return [*_as_user(), _program("postgres"), "-D", str(self.data), *options]

    def launch(self) -> None:
        """Start it, on a new data directory if it has none."""
        _give(self.directory)
        self.directory.chmod(0o755)
        if not (self.data / "PG_VERSION").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self._make_data()
        (self.data / "pg_hba.conf").write_text(self._who_may())
        if self.tls:
            self._settings.update(self._tls_settings())
        super().launch()

    def wait_ready(self) -> None:
        """Wait until it answers, and make table and users."""
        super().wait_ready()
        self._furnish()

    def is_ready(self) -> bool:
        """Whether it answers a statement."""
        try:
            with self.client() as client:
                return bool(client.execute("SELECT 1").fetchone())
        except psycopg.Error:
            return False

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

    def url(
        self, database: str = DATABASE, *, user: str = "", password: str | None = None, port: int = 0, **params: str
    ) -> str:
        """Return the backend's URL, with the first user and password of the server's own unless others are given.

        `port` is another way to it, such as a proxy's.
        """
        if not user:
            user, own = next(iter(self._users.items()), (SUPERUSER, None))
            password = own if password is None else password
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        if self.tls:
            params = {"sslmode": "verify-full", "sslrootcert": str(tls().ca), **params}
        return f"postgresql://{login}@{self.place.host}:{port or self.port}/{database}{query(params)}"

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
        children = self._children()
        for pid in (self.pid, *children):
            _signal(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)
        # The next start refuses while one of them has the shared memory.
        eventually(lambda: not any(map(_is_there, children)), "its processes are gone")

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
        for pid in self._children():
            _signal(pid, signal.SIGSTOP)
            eventually(lambda pid=pid: _state(pid) in "TtZX", "the process stands")  # type: ignore[misc]

    def resume(self) -> None:
        """Let all of them go on."""
        for pid in (*self._children(), self.pid):
            _signal(pid, signal.SIGCONT)

    def make_table(self, table: str = "cronlock", *, grant: str = "") -> None:
        """Make a table as `cronlock doctor --create` does; `grant` is the role that may use it."""
        self.run(postgresql_sql.statement(postgresql_sql.CREATE, table).decode())
        if grant:
            self.run(f"GRANT {GRANTS} ON {table} TO {grant}")

    def _make_data(self) -> None:
        subprocess.run(["cp", "-a", str(_template()), str(self.data)], check=True)

    def _furnish(self) -> None:
        for name, password in self._users.items():
            known = self.run("SELECT 1 FROM pg_roles WHERE rolname = %s", name)
            if not known:
                secret = password.replace("'", "''")
                self.run(f"CREATE ROLE {name} LOGIN PASSWORD '{secret}'")
        if not self._bare:
            self.make_table()
            for name in self._users:
                self.run(f"GRANT {GRANTS} ON cronlock TO {name}")

    def _who_may(self) -> str:
        kind = "hostssl" if self.tls else "host"
        how = "scram-sha-256" if self._users else "trust"
        return f"local all all trust\nlocal replication all trust\n{kind} all all all {how}\n"

    def _tls_settings(self) -> dict[str, str]:
        key = self.directory / "server.key"
        if not key.exists():
            shutil.copy(tls().key, key)
            key.chmod(0o600)
            _give(key)
        cert = self.directory / "server.pem"
        shutil.copy(tls().cert, cert)
        ca = self.directory / "ca.pem"
        shutil.copy(tls().ca, ca)
        for path in (cert, ca):
            path.chmod(0o644)
        return {"ssl": "on", "ssl_cert_file": str(cert), "ssl_key_file": str(key), "ssl_ca_file": str(ca)}

    def _children(self) -> list[int]:
        try:
            words = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []
        return [int(word) for word in words]


class PostgresqlStandby(PostgresqlServer):
    """A server that follows `primary`, asynchronously, and only reads until it is promoted."""

    def __init__(self, primary: PostgresqlServer) -> None:
        super().__init__(bare=True)
        self.primary = primary

    def promote(self) -> None:
        """Make it take writes, and return when it does."""
        assert self.run("SELECT pg_promote()") == [(True,)]

    def _make_data(self) -> None:
        place = ("-h", str(self.primary.directory), "-p", str(self.primary.port), "-U", SUPERUSER)
        _run(_program("pg_basebackup"), *place, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")


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
            f"[pgbouncer]\nlisten_addr = {self.place.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {users}\npool_mode = transaction\nadmin_users = {SUPERUSER}\n"
            f"default_pool_size = {self._connections}\nmax_client_conn = 500\n"
        )
        self.directory.chmod(0o755)
        for path in (self.directory, users, configuration):
            _give(path)
        return [*_as_user(), program, str(configuration)]

    def is_ready(self) -> bool:
        """Whether a statement comes back through it."""
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


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _is_there(pid: int) -> bool:
    return _state(pid) not in "XZ"
