"""MariaDB, alone, as a replica of another, and as a Galera cluster."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest

from cronlock.engines.mysql import sql as mysql_sql
from cronlock.engines.wire.sql import GRANTS

from .process import LOOPBACK, Group, Place, Server, eventually, free_port, need
from .tls import query, tls

_PACKAGE = "mariadb-server"
_GALERA = Path("/usr/lib/galera/libgalera_smm.so")
#: Who the servers run as where the tests are root.
_USER = "nobody"
#: The database that everybody uses, and who may do everything, without a password.
DATABASE = "cronlock"
ADMIN = "admin"


def _as_user() -> list[str]:
    """Return the start of a command that is to run as somebody without rights."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_USER)
    # Behind the change of user, which takes the death signal away.
    leash = ("--pdeathsig", "SIGKILL")
    return [need("setpriv", "util-linux"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *leash]


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, _USER)


@functools.cache
def _template() -> Path:
    """Return a new data directory of which copies are made: cheaper than one for each server."""
    directory = Path(tempfile.mkdtemp(prefix="cl-my-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    _give(directory)
    made = directory / "data"
    options = ["--no-defaults", f"--datadir={made}", "--skip-test-db", "--auth-root-authentication-method=normal"]
    options += ["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"]
    # A server that starts removes what it takes for its own from there.
    options += [f"--tmpdir={directory}"]
    command = [*_as_user(), need("mariadb-install-db", _PACKAGE), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


class MariadbServer(Server):
    """One server, with cronlock's table in the database `DATABASE` unless it is `bare`.

    `users` maps the names of users to their passwords; the first is the one of `url`. With `tls` they are
    let in over encrypted connections only; `settings` are more of its own, by the names of its options.
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
        self.socket = self.directory / "socket"
        self._users = dict(users or {})
        self._bare = bare
        self._settings = {
            "bind-address": place.host,
            "port": str(self.port),
            "socket": str(self.socket),
            "pid-file": str(self.directory / "pid"),
            "tmpdir": str(self.directory),
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "8M",
            "innodb-log-file-size": "4M",
            "key-buffer-size": "64K",
            "aria-pagecache-buffer-size": "1M",
            "performance-schema": "OFF",
            "skip-name-resolve": "ON",
            "default-time-zone": "+05:45",  # Of no concern to anybody.
            **(settings or {}),
        }

    def command(self) -> list[str]:
        """Return the command line of the server."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        return [*_as_user(), need("mariadbd", _PACKAGE), "--no-defaults", f"--datadir={self.data}", *options]

    def launch(self) -> None:
        """Start it, on a new data directory if it has none."""
        _give(self.directory)
        self.directory.chmod(0o755)
        if not (self.data / "mysql").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            subprocess.run(["cp", "-a", str(_template()), str(self.data)], check=True)
        first = self.directory / "first.sql"
        first.write_text(
            f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
            f"CREATE USER IF NOT EXISTS {ADMIN}@'%';\n"
            f"GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION;\n"
        )
        first.chmod(0o644)
        self._settings["init-file"] = str(first)
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
            return bool(self.run("SELECT 1"))
        except pymysql.Error:
            return False

    def client(self, **options: Any) -> pymysql.connections.Connection:
        """Return an administrator's connection by the Unix socket, to look at the server behind a backend's back."""
        place = {"unix_socket": str(self.socket), "user": ADMIN, "database": DATABASE}
        return pymysql.connect(**{**place, "autocommit": True, "connect_timeout": 10, "read_timeout": 60, **options})

    def run(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of an administrator's statement."""
        client = self.client()
        try:
            with client.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        finally:
            client.close()

    def url(
        self, database: str = DATABASE, *, user: str = "", password: str | None = None, port: int = 0, **params: str
    ) -> str:
        """Return the backend's URL, with the first user and password of the server's own unless others are given.

        `port` is another way to it, such as a proxy's.
        """
        if not user:
            user, own = next(iter(self._users.items()), (ADMIN, None))
            password = own if password is None else password
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        if self.tls:
            params = {**tls().params(), **params}
        return f"mysql://{login}@{self.place.host}:{port or self.port}/{database}{query(params)}"

    def unix_url(self, **params: str) -> str:
        """Return the backend's URL by the Unix socket, for the administrator."""
        return f"mysql://{ADMIN}@/{DATABASE}{query({'socket': str(self.socket), **params})}"

    def make_table(self, table: str = "cronlock") -> None:
        """Make a table as `cronlock doctor --create` does."""
        self.run(mysql_sql.statement(mysql_sql.CREATE, f"`{table}`"))

    def _furnish(self) -> None:
        if not self._bare:
            self.make_table()
        for name, password in self._users.items():
            self.run(f"CREATE USER IF NOT EXISTS {name}@'%%' IDENTIFIED BY %s", password)
            if self.tls:
                self.run(f"ALTER USER {name}@'%' REQUIRE SSL")
            if not self._bare:
                self.run(f"GRANT {GRANTS} ON {DATABASE}.cronlock TO {name}@'%'")

    def _tls_settings(self) -> dict[str, str]:
        files = {"ssl-key": tls().key, "ssl-cert": tls().cert, "ssl-ca": tls().ca}
        settings = {}
        for name, path in files.items():
            own = self.directory / path.name
            shutil.copy(path, own)
            own.chmod(0o600)
            _give(own)
            settings[name] = str(own)
        return settings


class MariadbReplica(MariadbServer):
    """A server that follows `primary` asynchronously and refuses writes until it is promoted.

    The primary needs the settings `PRIMARY`.
    """

    #: What the primary of replicas is started with.
    PRIMARY: Mapping[str, str] = {"server-id": "1", "log-bin": "bin", "binlog-format": "MIXED", "sync-binlog": "0"}

    def __init__(self, primary: MariadbServer) -> None:
        own = {"server-id": "2", "log-bin": "bin", "binlog-format": "MIXED", "sync-binlog": "0", "read-only": "ON"}
        super().__init__(settings=own, bare=True)
        self.primary = primary

    def wait_ready(self) -> None:
        """Wait until it follows the primary and has all that this has."""
        super().wait_ready()
        # Its own first statements are the primary's as well.
        self.run("SET GLOBAL gtid_slave_pos = ''")
        self.run(
            f"CHANGE MASTER TO MASTER_HOST='{self.primary.place.host}', MASTER_PORT={self.primary.port},"
            f" MASTER_USER='{ADMIN}', MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=4"
        )
        self.run("SET GLOBAL slave_exec_mode = 'IDEMPOTENT'")
        self.run("START SLAVE")
        eventually(self.is_in_step, "the replica is in step")

    def is_in_step(self) -> bool:
        """Whether it has all that its primary has written."""
        file, position = self.primary.run("SHOW MASTER STATUS")[0][:2]
        return bool(self.run("SELECT MASTER_POS_WAIT(%s, %s, 1)", file, position)[0][0] in (0, 1))

    def promote(self) -> None:
        """Follow nobody any more and take writes."""
        self.run("STOP SLAVE")
        self.run("SET GLOBAL read_only = OFF")


class _GaleraNode(MariadbServer):
    """One node, which joins the node that listens for others on port `other`, or begins a cluster."""

    def __init__(self, other: int | None) -> None:
        self.peers = free_port()
        host = LOOPBACK.host
        options = f"gmcast.listen_addr=tcp://{host}:{self.peers};base_port={self.peers};gcache.size=8M"
        super().__init__(
            bare=other is not None,
            settings={
                "wsrep-on": "ON",
                "wsrep-provider": str(_GALERA),
                "wsrep-provider-options": f"{options};ist.recv_addr={host}:{free_port()}",
                "wsrep-cluster-address": "gcomm://" + (f"{host}:{other}" if other is not None else ""),
                "wsrep-node-address": f"{host}:{self.peers}",
                "wsrep-sst-method": "rsync",
                "wsrep-sst-receive-address": f"{host}:{free_port()}",
                "binlog-format": "ROW",
                "innodb-autoinc-lock-mode": "2",
            },
        )

    def is_ready(self) -> bool:
        """Whether it is in step with the others."""
        try:
            return self.run("SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")]
        except pymysql.Error:
            return False


class MariadbGalera(Group):
    """Two nodes that both take writes."""

    def __init__(self) -> None:
        if not _GALERA.exists():
            pytest.fail(f"{_GALERA} is missing: apt-get install galera-4", pytrace=False)
        need("rsync", "rsync")
        first = _GaleraNode(None)
        self.nodes: list[MariadbServer] = [first, _GaleraNode(first.peers)]
        super().__init__(list(self.nodes))

    def launch(self) -> None:
        """Start one after the other: the second copies the first."""
        self.nodes[0].start()
        self.nodes[1].launch()

    def wait_ready(self) -> None:
        """Wait until both are one cluster."""
        self.nodes[1].wait_ready()
        size = [("wsrep_cluster_size", "2")]
        eventually(lambda: all(node.run("SHOW STATUS LIKE 'wsrep_cluster_size'") == size for node in self.nodes), "two")
