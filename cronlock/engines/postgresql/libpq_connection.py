"""One connection to PostgreSQL by libpq, each request within an exact time limit.

For logins of which `.login` does not know. It uses libpq's non-blocking calls: libpq's own ``connect_timeout`` counts
whole seconds and restarts for each host, and does not limit statements. If `.libpq` cannot be loaded, as on macOS,
psycopg.pq replaces it, whose import is then most of a run's cost.
"""

from __future__ import annotations

import select
import time

from ...errors import BackendUnavailable
from ..wire.sql import Refused
from ..wire.stream import ConnectionClosed, protocol_error
from .messages import MOST_ROWS, PRODUCT, login_error, one_line

try:
    from . import libpq as pq
    from .libpq import Error
except (ImportError, AttributeError):  # The latter from an interpreter whose `_ctypes` is another.
    try:
        from psycopg import Error, pq  # type: ignore[assignment, no-redef]
    except ImportError as error:
        # psycopg is missing, or both its binary part and the system's libpq are.
        raise ModuleNotFoundError("no libpq", name="libpq") from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .messages import Row

# Parts of an answer to one statement. In COPY mode there is always one more.
_MOST_PARTS = 2
# The longest timeout of poll(2), in milliseconds.
_LONGEST_POLL = (1 << 31) - 1


class LibpqConnection:
    """A connection. Any failure but Refused raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("_name", "_password", "_pgconn")

    def __init__(self, name: str, pgconn: pq.PGconn, password: str | None) -> None:
        self._name = name
        self._pgconn = pgconn
        self._password = password

    @classmethod
    def connect(cls, name: str, settings: dict[str, str], deadline: float) -> LibpqConnection:
        """Connect to the one host of libpq's `settings` before monotonic time `deadline`.

        Raises ServerBusy when the server has no room.
        """
        conninfo = " ".join(f"{word}='{_quoted(value)}'" for word, value in settings.items())
        pgconn = pq.PGconn.connect_start(conninfo.encode("utf-8", "surrogateescape"))
        connection = cls(name, pgconn, settings.get("password"))
        try:
            connection._log_in(deadline)
            pgconn.nonblocking = 1
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, statement: bytes, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:
        """Send a statement with its values and return the rows of its answer, of `width` columns each."""
        pgconn = self._pgconn
        try:
            parameters = [None if value is None else value.encode("utf-8", "surrogateescape") for value in values]
            pgconn.send_query_params(statement, parameters)
            while pgconn.flush():
                self._wait(select.POLLIN | select.POLLOUT, deadline)
                pgconn.consume_input()
            answers = []
            while (answer := self._next_answer(deadline)) is not None:
                answers.append(answer)
                if len(answers) > _MOST_PARTS:
                    raise protocol_error(self._name, PRODUCT)
        except Error as error:
            raise ConnectionClosed(
                f"{self._name}: {self._one_line(pgconn.error_message or str(error).encode())}"
            ) from error
        if not answers:
            raise protocol_error(self._name, PRODUCT, "empty")
        # The error of a failed commit follows the rows.
        return [self._rows(answer, width) for answer in reversed(answers)][-1]

    def quiet(self) -> bool:
        """Return True if nothing arrived since the last answer: then the server only announces that it closes."""
        try:
            return self._pgconn.status == pq.ConnStatus.OK and not _ready(self._pgconn.socket, select.POLLIN, 0)
        except (Error, OSError):
            return False

    @property
    def version(self) -> int:
        """The server's version, such as 150018."""
        return self._pgconn.server_version

    @property
    def process(self) -> int:
        """The pid of the server's process, as of the login: a pooler invents one."""
        return self._pgconn.backend_pid

    @property
    def encrypted(self) -> bool:
        """True if the connection uses TLS."""
        return bool(self._pgconn.ssl_in_use)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self._pgconn.finish()

    def _log_in(self, deadline: float) -> None:
        pgconn = self._pgconn
        while True:
            step = pq.PollingStatus.FAILED
            if pgconn.status != pq.ConnStatus.BAD:
                step = pgconn.connect_poll()
            if step == pq.PollingStatus.OK:
                return
            if step == pq.PollingStatus.FAILED:
                text = self._one_line(pgconn.error_message)
                raise login_error(f"{self._name}: {text}")
            self._wait(select.POLLIN if step == pq.PollingStatus.READING else select.POLLOUT, deadline)

    def _next_answer(self, deadline: float) -> pq.PGresult | None:
        """Return the next part of an answer; None after the last, when all is committed."""
        while self._pgconn.is_busy():
            self._wait(select.POLLIN, deadline)
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _wait(self, events: int, deadline: float) -> None:
        if not _ready(self._pgconn.socket, events, deadline - time.monotonic()):
            raise BackendUnavailable(f"{self._name}: no answer in time")

    def _rows(self, answer: pq.PGresult, width: int) -> list[Row]:
        if answer.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            code = (answer.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")
            message = answer.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or answer.error_message
            raise Refused(f"{self._name}: {self._one_line(message)}", code)
        if answer.ntuples > MOST_ROWS or (answer.ntuples and answer.nfields != width):
            raise protocol_error(self._name, PRODUCT)
        return [[_text(answer.get_value(row, column)) for column in range(width)] for row in range(answer.ntuples)]

    def _one_line(self, message: bytes) -> str:
        """Return a message of libpq or the server as one printable line."""
        return one_line(message.decode("utf-8", "replace"), self._password)


def _ready(descriptor: int, events: int, seconds: float) -> bool:
    if descriptor < 0 or seconds < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, events)
    # Rounded up, so that it does not spin in the last millisecond.
    return bool(poll.poll(min(int(seconds * 1000) + (seconds > 0), _LONGEST_POLL)))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
