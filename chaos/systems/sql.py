"""SQL databases: one PostgreSQL, one MariaDB."""

from __future__ import annotations

from labs.servers.mariadb import MariadbServer
from labs.servers.postgresql import PostgresqlServer

from .base import System


class Database(System):
    """One server. What it said to have stored outlives its processes."""

    keeps_data = True
    is_furnished = True
    goes_by_wall_clock = True


class Postgresql(Database):
    """PostgreSQL."""

    name = "postgresql"
    kind = PostgresqlServer


class Mysql(Database):
    """MariaDB."""

    name = "mysql"

    def make(self) -> MariadbServer:
        """Return the server, not started yet; each commit has left it before it is answered."""
        return MariadbServer(settings={"innodb-flush-log-at-trx-commit": "2"}, site=self.sites[0])
