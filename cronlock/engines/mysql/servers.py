"""Which server of MySQL or MariaDB is asked, and what its refusals mean."""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError
from ..wire import sql
from ..wire.sql import GRANTS, Refused
from ..wire.stream import ServerBusy, Stream, retry_while_busy
from . import sql as statements
from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.tls import Context
    from .connection import Row

    #: Host and port, or the path of a socket.
    Address = tuple[str, int] | str

# The server's numbers for what it refuses. Nothing was done, and it may be in a moment:
_NO_ROOM = (1040, 1203, 1226)  # connections: all, of this user, of this user by a quota
# waited too long for a lock, met another, found in conflict by the group; met a newer row than it began with
_ROLLED_BACK = (1205, 1213, 3101, 1020)
_NOT_NOW = (1047, 1290, 1792, 1836)  # not part of a Galera cluster's majority, or read-only
_NO_DATABASE = 1049
_NOT_HERE = 1044
_LOGIN = (1045, 1698)
_INSECURE = 3159


class Servers(sql.Servers):
    """Servers of MySQL or MariaDB, whose addresses are host and port, or the path of a socket."""

    no_table = (1146,)
    other_table = (1054, 1364)
    denied = (1142, 1143)

    def __init__(
        self,
        name: str,
        addresses: list[Address],
        *,
        user: str | None,
        password: str,
        database: str,
        table: str,
        tls: Context | None,
    ) -> None:
        super().__init__(name, addresses, table)
        self._user, self._password = user, password
        self._database = database
        self._tls = tls

    def ask(self, texts: list[str], deadline: float) -> list[tuple[int, list[Row]]]:
        """Send a request until a server has room and does not roll it back; return the answers.

        Its first statements are done twice where a later one is refused: a swap that was done finds its own version.
        """
        return retry_while_busy(deadline, lambda: self.ask_once(texts, deadline))

    def query(self, text: str, deadline: float) -> list[Row]:
        """Return the rows of any one statement, for checks of the server rather than of keys.

        Raises Refused for the server's own errors.
        """
        return self._ask_one(text, deadline)[1]

    def changed(self, text: str, deadline: float) -> int:
        """Return how many rows any one statement changed. Raises Refused."""
        return self._ask_one(statements.patient(text, sql.patience(deadline)), deadline)[0]

    def _ask_one(self, text: str, deadline: float) -> tuple[int, list[Row]]:
        def ask(connection: Connection) -> tuple[int, list[Row]]:
            (answer,) = connection.ask([text])
            return answer

        return self.asked(deadline, ask)

    def ask_once(self, texts: list[str], deadline: float) -> list[tuple[int, list[Row]]]:
        """Send a request once; raises ServerBusy if a statement was not done and a retry may succeed."""

        def ask(connection: Connection) -> list[tuple[int, list[Row]]]:
            patience = sql.patience(deadline)
            return connection.ask([statements.patient(text, patience) for text in texts])

        try:
            return self.asked(deadline, ask)
        except Refused as error:
            self.close()
            raise self.explained(error) from None

    def connection(self, deadline: float) -> Connection:
        """Return the connection, opened if need be, and limited to monotonic time `deadline`."""
        connection: Connection = super().connection(deadline)
        connection.limit(deadline)
        return connection

    def log_in(self, address: Address, deadline: float) -> Connection:
        """Return a connection of its own to one of `addresses`, made before monotonic time `deadline`."""
        name = self.name if len(self.addresses) == 1 else f"{self.name}: {_show(address)}"
        host = None if isinstance(address, str) else address[0]
        if isinstance(address, str):
            stream = Stream.connect_unix(name, address, deadline)
        else:
            stream = Stream.connect_tcp(name, *address, deadline)
        return Connection.log_in(
            name,
            stream,
            host=host,
            user=self._user,
            password=self._password,
            database=self._database,
            tls=self._tls,
        )

    def only_reads(self) -> BackendUnavailable:
        """Close the connection, and return what to raise for an answer of a server that takes no writes."""
        self.close()
        return self._not_now(f"{self.name}: the server is read-only: a replica?")

    def _connect_to(self, address: Address, deadline: float) -> Connection:
        try:
            connection = self.log_in(address, deadline)
            if len(self.addresses) == 1 or not self._is_read_only(connection):
                return connection
        except Refused as error:
            raise self.explained(error) from None
        connection.close()
        raise ServerBusy(f"{self.name}: {_show(address)}: read-only")

    def _is_read_only(self, connection: Connection) -> bool:
        """Ask before anything is written: an administrator's writes would not be refused."""
        try:
            ((_, rows),) = connection.ask([statements.READ_ONLY])
            return not rows or is_on(rows[0][0])
        except BaseException:
            connection.close()
            raise

    def _not_now(self, text: str) -> BackendUnavailable:
        # Of several servers, another may be the right one by now.
        return (ServerBusy if len(self.addresses) > 1 else BackendUnavailable)(
            f"{text}: name the server that takes writes"
        )

    def explained(self, error: Refused) -> Exception:
        """Return what the server's refusal means here."""
        text, table = str(error), self.shown_table
        if error.code in (*_NO_ROOM, *_ROLLED_BACK):
            return ServerBusy(text)
        if error.code in _NOT_NOW:
            return self._not_now(text)
        if error.code == _NO_DATABASE:
            return ConfigError(f"{text}; make it with CREATE DATABASE, or name another in the URL")
        if error.code == _NOT_HERE:
            grant = f"GRANT {GRANTS} ON {self._database}.{table} TO the URL's user"
            return BackendUnavailable(f"{text}; name another database in the URL, or {grant}")
        if error.code in _LOGIN:
            return BackendUnavailable(f"{text}: authentication failed: check user and password in the URL")
        if error.code == _INSECURE:
            return BackendUnavailable(f"{text}; add ssl=required, or ca= with the server's authority")
        return super().explained(error)


def is_on(value: object) -> bool:
    """Whether a variable of the server's is not known to be off."""
    return not isinstance(value, (int, str, bytes)) or value not in (0, b"0", b"OFF", "0", "OFF")


def _show(address: Address) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"
