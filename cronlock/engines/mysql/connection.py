"""One connection to MySQL or MariaDB, each request within an exact time limit.

The protocol is spoken here: to import PyMySQL takes longer than all the rest of a run, and its time limits, as those
of the servers' own libraries, are for each operation on the socket.
"""

from __future__ import annotations

import time

from ...errors import ConfigError
from .login import AUTOCOMMIT, END, MORE, OK, Login, process_user
from .packets import Fields, Packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..wire.stream import Stream
    from ..wire.tls import Context

#: A row; None is NULL.
Row = tuple["Any", ...]

_QUIT, _QUERY = b"\x01", b"\x03"
# Of the END packet; a longer one that begins so is a row.
_LONGEST_END = 8
_MOST_COLUMNS = 100
# The types whose values are whole numbers, and the longest of those in digits, with a sign.
_WHOLE = (1, 2, 3, 8, 9, 13)
_LONGEST_NUMBER = 20
# The types of text, and the character set of those that are bytes.
_TEXT = (15, 16, 247, 248, 249, 250, 251, 252, 253, 254)
_BINARY = 63
# Seconds; the words fit into any buffer.
_GOODBYE = 0.1
_USER_PLEASE = "mysql://USER:PASSWORD@HOST/DATABASE"


class Connection:
    """A connection. Any failure raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("_packets", "_status")

    def __init__(self, packets: Packets, status: int) -> None:
        self._packets = packets
        self._status = status

    @classmethod
    def log_in(
        cls,
        name: str,
        stream: Stream,
        *,
        host: str | None,
        user: str | None,
        password: str,
        database: str,
        tls: Context | None,
    ) -> Connection:
        """Log in to the server at the other end of `stream`; `host` is None for a Unix socket.

        Raises Refused for what the server says against it.
        """
        packets = Packets(name, stream, password)
        try:
            user = user or process_user()
            if user is None:
                raise ConfigError(
                    f"{name}: no user in the URL, and this process's user id has no name; write {_USER_PLEASE}"
                )
            try:
                status = Login(name, packets, user, password, database).run(host, tls)
            except ValueError:
                # Without a traceback, which might contain the password.
                raise packets.nonsense() from None
            connection = cls(packets, status)
            if not status & AUTOCOMMIT:
                connection.ask(["SET autocommit = 1"])
            return connection
        except BaseException:
            stream.close()
            raise

    def limit(self, deadline: float) -> None:
        """Let all that is asked from now on be done by monotonic time `deadline`."""
        self._packets.limit(deadline)

    def ask(self, statements: Sequence[str]) -> list[tuple[int, list[Row]]]:
        """Send the statements in one packet; return for each how many rows it changed, and its rows.

        Raises Refused for the first that the server refuses: those before it are done.
        """
        self._packets.command(_QUERY + "; ".join(statements).encode())
        answers = []
        try:
            for at in range(len(statements)):
                answers.append(self._answer())
                if bool(self._status & MORE) != (at + 1 < len(statements)):
                    raise self._packets.nonsense()
        except ValueError:
            raise self._packets.nonsense() from None
        # A setting of the server or of a pooler may open a transaction even so.
        if not self._status & AUTOCOMMIT and statements != _COMMIT:
            self.ask(_COMMIT)
        return answers

    def quiet(self) -> bool:
        """Whether it still stands, as far as can be seen from here."""
        return self._packets.quiet()

    @property
    def certificate(self) -> dict[str, object]:
        """What the server's certificate says, where it was verified."""
        return self._packets.certificate()

    def close(self) -> None:
        """Say goodbye, so that the server's log has no complaint, and close the connection; raises nothing."""
        self._packets.limit(time.monotonic() + _GOODBYE)
        try:
            self._packets.command(_QUIT)
        except Exception:
            pass  # Closed already.
        self._packets.close()

    def _answer(self) -> tuple[int, list[Row]]:
        """Return the answer to one statement. Raises ValueError for nonsense."""
        fields = Fields(self._packets.receive())
        width = fields.length()
        if width == OK:
            changed = fields.length()
            fields.length()  # The last number that was given to a row.
            self._status = fields.number(2)
            return changed or 0, []
        if width is None or width > _MOST_COLUMNS:
            # None: it asks for a file of this machine.
            raise ValueError("no answer")
        columns = [_column(Fields(self._packets.receive())) for _ in range(width)]
        if not self._ends(self._packets.receive()):
            raise ValueError("more columns")
        rows: list[Row] = []
        while not self._ends(data := self._packets.receive()):
            fields = Fields(data)
            rows.append(tuple(_value(fields.text(), *column) for column in columns))
            if fields:
                raise ValueError("more than the columns")
        return len(rows), rows

    def _ends(self, data: bytes) -> bool:
        """Whether `data` is the packet behind columns or rows, with the session's status."""
        if data[0] != END or len(data) > _LONGEST_END:
            return False
        fields = Fields(data)
        fields.take(3)  # And the number of warnings.
        self._status = fields.number(2)
        return True


_COMMIT = ["COMMIT"]


def _column(fields: Fields) -> tuple[int, int]:
    """Return a column's type and character set."""
    for _ in range(6):
        fields.text()  # The names of what it belongs to, and its own.
    fields.length()
    characters = fields.number(2)
    fields.take(4)  # Its width.
    return fields.number(1), characters


def _value(value: bytes | None, kind: int, characters: int) -> Any:
    """Return a value as a number, as bytes, or as text."""
    if value is None:
        return None
    if kind in _WHOLE:
        if len(value) > _LONGEST_NUMBER:
            raise ValueError("no number")
        return int(value)
    if kind in _TEXT and characters == _BINARY:
        return value
    return value.decode("utf-8", "replace")
