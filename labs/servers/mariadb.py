"""MariaDB, alone, as a replica of another, and as a Galera cluster; alone also MySQL, where that was unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cronlock.engines.mysql import sql as mysql_sql

from .database import DatabaseServer, as_user, run_as_user
from .process import LOOPBACK, ROOT, Group, eventually, free_port, need
from .tls import query

_PACKAGE = "mariadb-server"
_GALERA = Path("/usr/lib/galera/libgalera_smm.so")
#: MySQL's server is unpacked in place of MariaDB's.
_IS_MYSQL = Path("/") != ROOT and (ROOT / "usr/sbin/mysqld").exists() and not (ROOT / "usr/sbin/mariadbd").exists()
#: The database that everybody uses, and who may do everything, without a password.
DATABASE = "cronlock"
ADMIN = "admin"


_OWN = {"innodb-log-file-size": "4M", "aria-pagecache-buffer-size": "1M"}


class MariadbServer(DatabaseServer):
    """One MariaDB; see `DatabaseServer`."""

    scheme = "mysql"
    admin = ADMIN
    database = DATABASE
    made = "mysql"
    failures = pymysql.Error
    tls_files = ("ssl-key", "ssl-cert", "ssl-ca")

    def usual_settings(self) -> dict[str, str]:
        """Return those of a small server that need not outlive the machine."""
        self.socket = self.directory / "socket"
        return {
            "bind-address": self.site.host,
            "port": str(self.port),
            "socket": str(self.socket),
            "pid-file": str(self.directory / "pid"),
            "tmpdir": str(self.directory),
            "init-file": str(self.directory / "first.sql"),
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "8M",
            "key-buffer-size": "64K",
            **({"basedir": str(ROOT / "usr"), "mysqlx": "OFF", "secure-file-priv": "NULL"} if _IS_MYSQL else _OWN),
            "performance-schema": "OFF",
            **(
                {} if _IS_MYSQL else {"ssl": "ON" if self.tls else "OFF"}
            ),  # From 11.4 on it has a certificate of its own otherwise.
            "skip-name-resolve": "ON",
            "default-time-zone": "+05:45",  # Of no concern to anybody.
        }

    @classmethod
    def initialize(cls, data: Path) -> None:
        """Make a new data directory."""
        if _IS_MYSQL:
            options = [
                "--no-defaults",
                "--initialize-insecure",
                "--secure-file-priv=NULL",
                f"--basedir={ROOT / 'usr'}",
                f"--datadir={data}",
            ]
            run_as_user(need("mysqld", "mysql-server"), *options)
            return
        options = ["--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal"]
        options += ["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"]
        # A server that starts removes what it takes for its own from there.
        options += [f"--tmpdir={data.parent}"]
        run_as_user(need("mariadb-install-db", _PACKAGE), *options)

    def command(self) -> list[str]:
        """Write its first statements, and return the command line of the server."""
        first = self.directory / "first.sql"
        first.write_text(
            f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
            f"CREATE USER IF NOT EXISTS {ADMIN}@'%';\n"
            f"GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION;\n"
        )
        first.chmod(0o644)
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        server = need("mysqld", "mysql-server") if _IS_MYSQL else need("mariadbd", _PACKAGE)
        return [*as_user(), server, "--no-defaults", f"--datadir={self.data}", *options]

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

    def unix_url(self, **params: str) -> str:
        """Return the backend's URL by the Unix socket, for the administrator."""
        return f"mysql://{ADMIN}@/{DATABASE}{query({'socket': str(self.socket), **params})}"

    def make_table(self, table: str = "cronlock") -> None:
        """Make a table as `cronlock doctor --create` does."""
        self.run(mysql_sql.statement(mysql_sql.CREATE, f"`{table}`"))

    def add_user(self, name: str, password: str) -> None:
        """Add a user, unless there is one of that name."""
        self.run(f"CREATE USER IF NOT EXISTS {name}@'%%' IDENTIFIED BY %s", password)
        if self.tls:
            self.run(f"ALTER USER {name}@'%' REQUIRE SSL")

    def grant(self, user: str, table: str = "cronlock") -> None:
        """Let a user use a table."""
        super().grant(f"{user}@'%'", f"{DATABASE}.{table}")


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
            f"CHANGE MASTER TO MASTER_HOST='{self.primary.site.host}', MASTER_PORT={self.primary.port},"
            f" MASTER_USER='{ADMIN}', MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=4, MASTER_SSL=0"
        )
        self.run("SET GLOBAL slave_exec_mode = 'IDEMPOTENT'")
        self.run("START SLAVE")
        eventually(self.is_in_step, "the replica is in step")

    def is_in_step(self) -> bool:
        """Return True if it has all that its primary has written."""
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
        """Return True if it is in step with the others."""
        try:
            return self.run("SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")]
        except pymysql.Error:
            return False


class MariadbGalera(Group[MariadbServer]):
    """Two nodes that both take writes."""

    def __init__(self) -> None:
        if not _GALERA.exists():
            pytest.fail(f"{_GALERA} is missing: apt-get install galera-4", pytrace=False)
        need("rsync", "rsync")
        first = _GaleraNode(None)
        super().__init__([first, _GaleraNode(first.peers)])

    def launch(self) -> None:
        """Start one after the other: the second copies the first."""
        self.nodes[0].start()
        self.nodes[1].launch()

    def wait_ready(self) -> None:
        """Wait until both are one cluster."""
        self.nodes[1].wait_ready()
        size = [("wsrep_cluster_size", "2")]
        eventually(lambda: all(node.run("SHOW STATUS LIKE 'wsrep_cluster_size'") == size for node in self.nodes), "two")
