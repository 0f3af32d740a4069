"""The choice of a PostgreSQL server, and the meaning of its errors."""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError
from ..wire import sql
from ..wire.sql import Refused
from ..wire.stream import ServerBusy, in_turn, resolve, retry_while_busy
from . import sql as statements
from .connection import Connection
from .login import suits
from .messages import Unsuited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .libpq_connection import LibpqConnection
    from .messages import Row

_OLDEST = 100000
# SQLSTATEs. A transaction that the server rolled back because of a conflict: it had no effect.
_ROLLED_BACK = ("40001", "40P01")
_READ_ONLY = "25006"
_LOCKED = "55P03"


class Servers(sql.Servers):
    """Servers of PostgreSQL, whose addresses are host and port, or the directory of a socket and port."""

    no_table = ("42P01", "3F000")
    other_table = ("42703", "42804", "42883", "42P10", "42809", "428C9")
    denied = ("42501",)

    def __init__(self, name: str, addresses: list[tuple[str, str]], settings: dict[str, str], table: list[str]) -> None:
        """`settings` are libpq's for all of them, `table` the parts of the table's name.

        Raises ConfigError if they need libpq, and it is missing.
        """
        super().__init__(name, addresses, ".".join(table))
        #: The table as statements name it.
        self.table = ".".join(f'"{part}"' for part in table)
        self._settings = settings
        self._suits = suits(settings)
        if not self._suits:
            try:
                _load_libpq()
            except ImportError as error:
                raise ConfigError(f"{name}: a login like this needs {_lacking()}") from error

    def ask(self, text: str, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:
        """Send a statement until the server has room and does not roll it back; return its rows of `width` columns."""
        try:
            return retry_while_busy(deadline, lambda: self._ask_once(text, values, width, deadline))
        except Refused as error:
            raise self.explained(error) from error

    def query(self, text: str, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:
        """Return the rows of any one statement, for checks of the server rather than of keys.

        Raises Refused for the server's own errors, as they are.
        """
        filled = statements.statement(text, self.table)
        return self.asked(deadline, lambda connection: connection.ask(filled, values, width, deadline))

    def connection(self, deadline: float) -> Connection | LibpqConnection:
        """Return the connection, opened by monotonic time `deadline` if need be."""
        connection: Connection | LibpqConnection = super().connection(deadline)
        return connection

    def only_reads(self) -> BackendUnavailable:
        """Close the connection, and return the error for a server that takes no writes."""
        self.close()
        return BackendUnavailable(f"{self.name}: the server is read-only: a replica? name the primary")

    def _ask_once(self, text: str, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:

        def ask(connection: Connection | LibpqConnection) -> list[Row]:
            filled = statements.statement(text, self.table, sql.patience(deadline))
            return connection.ask(filled, values, width, deadline)

        try:
            return self.asked(deadline, ask)
        except Refused as error:
            if error.code in _ROLLED_BACK:
                # Only if the default isolation is stricter than PostgreSQL's own.
                raise ServerBusy(str(error)) from error
            if not error.code.startswith(("22", "42")):
                self.close()
            raise

    def _connect_to(self, server: tuple[str, str], deadline: float) -> Connection | LibpqConnection:
        """Connect to the first address of a host that answers; the login skips a read-only server."""
        host, port = server
        addresses = [""]
        if not host.startswith("/"):
            addresses = list(dict.fromkeys(str(address[4][0]) for address in resolve(self.name, host)))
        for address, share in in_turn(addresses, deadline):
            settings = {**self._settings, "host": host, "port": port, "hostaddr": address}
            try:
                connection = self._log_in(settings, share)
            except BackendUnavailable:
                if address == addresses[-1]:
                    raise
                continue
            if connection.version >= _OLDEST:
                return connection
            connection.close()
            break
        raise BackendUnavailable(f"{self.name}: {host} is too old: cronlock needs PostgreSQL 10 or later")

    def _log_in(self, settings: dict[str, str], deadline: float) -> Connection | LibpqConnection:
        """Connect as it costs least; libpq, which knows every way, tries what does not go so."""
        failure: Unsuited | None = None
        if self._suits:
            try:
                return Connection.connect(self.name, settings, deadline)
            except Unsuited as error:
                if time.monotonic() >= deadline:
                    raise
                failure = error
        try:
            connect = _load_libpq().connect
        except ImportError:
            # Where it is needed from the start, it was loaded before.
            raise BackendUnavailable(f"{failure}; to try another way needs {_lacking()}") from None
        return connect(self.name, settings, deadline)

    def explained(self, error: Refused) -> Exception:
        """Return the error with its meaning here, and the remedy."""
        if error.code == _LOCKED:
            text = f"another session has a row of {self.shown_table} locked; see pg_stat_activity"
            return BackendUnavailable(f"{error}: {text}")
        if error.code == _READ_ONLY:
            return BackendUnavailable(f"{error}; name the primary")
        return super().explained(error)


def _load_libpq() -> type[LibpqConnection]:
    """Return the class of connections by libpq. Raises ImportError if there is none."""
    try:
        from .libpq_connection import LibpqConnection
    except ImportError:
        from ..clients import see_installed

        if not see_installed():
            raise
        from .libpq_connection import LibpqConnection
    return LibpqConnection


def _lacking() -> str:
    """Return what is missing without libpq, and what brings it."""
    from ..clients import lacks

    return str(lacks("libpq"))
