"""SQL databases: one PostgreSQL, one MariaDB."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from labs.machines import Machine
from labs.servers.mariadb import MariadbServer
from labs.servers.postgresql import PostgresqlServer
from labs.servers.process import Server

from .base import System


class Database(System):
    """One server. What it said to have stored outlives its processes."""

    keeps_data = True
    is_furnished = True
    goes_by_wall_clock = True
    server: PostgresqlServer | MariadbServer

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.server = self.make()
        self.service = self.server
        self.servers = [self.server]

    def make(self) -> PostgresqlServer | MariadbServer:
        """Return the server, not started yet."""
        raise NotImplementedError

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.server.url()

    def wipe(self, server: Server) -> None:
        """Remove the database."""
        shutil.rmtree(server.data)


class Postgresql(Database):
    """PostgreSQL."""

    name = "postgresql"

    def make(self) -> PostgresqlServer:
        """Return the server, not started yet."""
        return PostgresqlServer(place=self.places[0])


class Mysql(Database):
    """MariaDB."""

    name = "mysql"

    def make(self) -> MariadbServer:
        """Return the server, not started yet; each commit has left it before it is answered."""
        return MariadbServer(settings={"innodb-flush-log-at-trx-commit": "2"}, place=self.places[0])
