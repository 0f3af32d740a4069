"""One connection to PostgreSQL, each request within an exact time limit.

The protocol is spoken here: libpq brings twenty other libraries, and to load these takes a fifth of a run. Where more
is needed than is known here (`.login`), `.libpq_connection` takes over.
"""

from __future__ import annotations

import time

from ...errors import ConfigError
from ..wire.sql import Refused
from ..wire.stream import ConnectionClosed, Stream
from .login import Login
from .messages import (
    ERROR,
    MOST_ROWS,
    ONLY_READS,
    READY,
    VERSION,
    Fields,
    Messages,
    Row,
    Unsuited,
    login_error,
    message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..wire.tls import Context

# Types of messages: of the server's, and ours.
_DATA, _COMPLETE = b"D", b"C"
#: What says that a statement was read and given its values, and what its columns are.
_PREAMBLE = (b"1", b"2", b"T", b"n")
_PARSE, _BIND, _EXECUTE, _SYNC, _TERMINATE = b"P", b"B", b"E", b"S", b"X"
#: The session is in no transaction: all that was done is committed.
_IDLE = b"I"
# Seconds; the words fit into any buffer.
_GOODBYE = 0.1


class Connection:
    """A connection. Any failure but Refused raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("_messages", "encrypted", "process")

    def __init__(self, messages: Messages, process: int, *, encrypted: bool) -> None:
        self._messages = messages
        #: The pid of the server's process, as of the login: a pooler invents one.
        self.process = process
        #: True if the connection uses TLS.
        self.encrypted = encrypted

    @classmethod
    def connect(cls, name: str, settings: Mapping[str, str], deadline: float) -> Connection:
        """Connect to the one host of libpq's `settings`, which `login.suits`, before monotonic time `deadline`.

        Raises ServerBusy when the server has no room, and Unsuited where libpq may get in.
        """
        host, port, mode = settings["host"], settings["port"], settings.get("sslmode", "prefer")
        if host.startswith("/"):
            stream, mode = Stream.connect_unix(name, f"{host}/.s.PGSQL.{port}", deadline), "disable"
        else:
            stream = Stream.connect_tcp(name, settings["hostaddr"], int(port), deadline)
        try:
            messages = Messages(name, stream, settings.get("password"))
            encrypted = mode != "disable" and messages.offers_tls()
            if encrypted:
                messages.start_tls(_context(name, settings, mode), host)
            elif mode not in ("disable", "prefer"):
                raise login_error(f"{name}: the server has no TLS, which sslmode={mode} asks for")
            try:
                process = Login(name, messages, settings).run()
            except ValueError:
                # Without a traceback, which might contain the password.
                raise messages.nonsense() from None
            connection = cls(messages, process, encrypted=encrypted)
            if settings.get("target_session_attrs") == "read-write" and connection.only_reads(deadline):
                raise login_error(f"{name}: session is read-only")
            return connection
        except BaseException:
            stream.close()
            raise

    def ask(self, statement: bytes, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:
        """Send a statement with its values and return the rows of its answer, of `width` columns each."""
        messages = self._messages
        messages.limit(deadline)
        messages.ask(_request(statement, values))
        rows: list[Row] = []
        refusal: Refused | None = None
        complete = False
        while True:
            try:
                kind, body = messages.receive()
            except ConnectionClosed:
                if refusal is None:
                    raise
                # A pooler's reason for hanging up.
                raise ConnectionClosed(str(refusal)) from None
            if kind == _DATA and not complete and len(rows) < MOST_ROWS:
                rows.append(self._row(body, width))
            elif kind == _COMPLETE and not complete:
                complete = True
            elif kind == ERROR:
                # Behind the rows, it is that of a commit that failed.
                refusal, earlier = messages.refusal(body), refusal
                if earlier is not None:
                    raise messages.nonsense()
            elif kind == READY and body == _IDLE:
                break
            elif kind not in _PREAMBLE or complete:
                raise messages.nonsense()
        if refusal is not None:
            raise refusal
        if not complete:
            raise messages.nonsense("empty")
        return rows

    def only_reads(self, deadline: float) -> bool:
        """Whether the session takes no writes."""
        told = [self._messages.states.get(name) for name in ONLY_READS]
        if None in told and b"on" not in told:
            # Before 14 no server tells.
            return self.ask(b"SHOW transaction_read_only", (), 1, deadline) != [["off"]]
        return b"on" in told

    def quiet(self) -> bool:
        """Whether it still stands, as far as can be seen from here."""
        return self._messages.quiet()

    @property
    def version(self) -> int:
        """The server's version, such as 150018."""
        words = self._messages.states.get(VERSION, b"").split(b" ")[0].split(b".")
        numbers = [int(digits) for digits in map(_leading_digits, words[:2]) if digits]
        return sum(number * factor for number, factor in zip(numbers, (10000, 1)))

    def close(self) -> None:
        """Say goodbye, so that the server's log has no complaint, and close the connection; raises nothing."""
        self._messages.limit(time.monotonic() + _GOODBYE)
        try:
            self._messages.send(message(_TERMINATE))
        except Exception:
            pass  # Closed already.
        self._messages.close()

    def _row(self, body: bytes, width: int) -> Row:
        try:
            fields = Fields(body)
            if fields.number(2) != width:
                raise ValueError("of another width")
            row = [_value(fields) for _ in range(width)]
            if fields:
                raise ValueError("more than the columns")
        except ValueError:
            raise self._messages.nonsense() from None
        return row


def _request(statement: bytes, values: Sequence[str | None]) -> bytes:
    """Return the messages that ask for one statement, which is a transaction of its own."""
    # Neither has a name, and the types of all values follow from the statement.
    parts = [bytes(4), len(values).to_bytes(2, "big")]
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            text = value.encode("utf-8", "surrogateescape")
            parts += [len(text).to_bytes(4, "big"), text]
    return b"".join(
        (
            message(_PARSE, b"\0", statement, bytes(3)),
            message(_BIND, *parts, bytes(2)),
            message(_EXECUTE, bytes(5)),
            message(_SYNC),
        )
    )


def _value(fields: Fields) -> str | None:
    length = fields.number(4)
    return None if length == -1 else fields.take(length).decode("utf-8", "surrogateescape")


def _leading_digits(word: bytes) -> bytes:
    """Return the digits that `word` begins with, at most nine: of "17beta1" those before the letters."""
    rest = word.lstrip(b"0123456789")
    return word[: len(word) - len(rest)][:9]


def _context(name: str, settings: Mapping[str, str], mode: str) -> Context:
    """Return what is asked of the server's certificate."""
    try:
        from ..wire.tls import loosen, make_context, unverified

        if "sslrootcert" not in settings:
            return unverified()
        context = make_context(name, {"ca": settings["sslrootcert"]})
    except (ImportError, ConfigError) as error:
        # A Python without TLS, or a file that is just being written.
        raise Unsuited(f"{name}: no TLS: {error}") from error
    if mode != "verify-full":
        # With a file of authorities, "require" means the same as "verify-ca".
        loosen(context, any_authority=False)
    return context
