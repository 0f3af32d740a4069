"""libpq, PostgreSQL's own client: as much of it as `.connection` calls, under the names of psycopg.pq.

https://www.postgresql.org/docs/current/libpq.html documents the functions. They are called by the
interpreter's own ``_ctypes``, as in `cronlock.process.linux`: psycopg itself imports asyncio, logging and ssl, which
takes four times as long as all else of a run. Importing the module raises ImportError where no libpq can be loaded.
"""

from __future__ import annotations

import _ctypes
import sys

from ...system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from ctypes import c_char_p, c_int, c_void_p
    from typing import Any, TypeVar

    _T = TypeVar("_T")
else:

    class c_int(_ctypes._SimpleCData):
        """int."""

        _type_ = "i"

    class c_char_p(_ctypes._SimpleCData):
        """char *, which ends with NUL: bytes, None for NULL."""

        _type_ = "z"

    class c_void_p(_ctypes._SimpleCData):
        """void *: an address, None for NULL."""

        _type_ = "P"


# The newest of the functions called: of PostgreSQL 9.5.
_NEWEST = "PQsslInUse"


class _Function(_ctypes.CFuncPtr):
    """A function of C; others may run while it does."""

    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = c_int


def _paths() -> Iterator[str]:
    """Yield where libpq may be: in psycopg's binary package, then in the system."""
    for folder in sys.path:
        # Not a relative path such as '': anybody may write to the current directory, and cron runs this as root.
        if not os.path.isabs(folder) or not os.path.exists(f"{folder}/psycopg_binary/__init__.py"):
            continue
        try:
            names = os.listdir(f"{folder}/psycopg_binary.libs")
        except OSError:
            continue
        yield from (f"{folder}/psycopg_binary.libs/{name}" for name in names if name.startswith("libpq-"))
    yield "libpq.so.5"


def _open() -> int:
    for path in _paths():
        try:
            library = _ctypes.dlopen(path, os.RTLD_NOW)
            _ctypes.dlsym(library, _NEWEST)
        except OSError:
            continue
        return library
    raise ImportError("no libpq")


_LIBRARY = _open()


def _bind(name: str, result: type[_ctypes._SimpleCData[_T]] | None, *arguments: type[Any]) -> Callable[..., _T]:
    function = _Function(_ctypes.dlsym(_LIBRARY, name))
    function.restype, function.argtypes = result, arguments
    return function


_PQconnectStart = _bind("PQconnectStart", c_void_p, c_char_p)
_PQconnectPoll = _bind("PQconnectPoll", c_int, c_void_p)
_PQsetNoticeProcessor = _bind("PQsetNoticeProcessor", c_void_p, c_void_p, c_void_p, c_void_p)
_PQstatus = _bind("PQstatus", c_int, c_void_p)
_PQsocket = _bind("PQsocket", c_int, c_void_p)
_PQerrorMessage = _bind("PQerrorMessage", c_char_p, c_void_p)
_PQserverVersion = _bind("PQserverVersion", c_int, c_void_p)
_PQbackendPID = _bind("PQbackendPID", c_int, c_void_p)
_PQsslInUse = _bind("PQsslInUse", c_int, c_void_p)
_PQsetnonblocking = _bind("PQsetnonblocking", c_int, c_void_p, c_int)
# After the number of values: their types, themselves, their lengths and formats; the last is the answer's format.
_PQsendQueryParams = _bind(
    "PQsendQueryParams", c_int, c_void_p, c_char_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int
)
_PQflush = _bind("PQflush", c_int, c_void_p)
_PQconsumeInput = _bind("PQconsumeInput", c_int, c_void_p)
_PQisBusy = _bind("PQisBusy", c_int, c_void_p)
_PQgetResult = _bind("PQgetResult", c_void_p, c_void_p)
_PQfinish: Callable[[int | None], None] = _bind("PQfinish", None, c_void_p)
_PQresultStatus = _bind("PQresultStatus", c_int, c_void_p)
_PQresultErrorMessage = _bind("PQresultErrorMessage", c_char_p, c_void_p)
_PQresultErrorField = _bind("PQresultErrorField", c_char_p, c_void_p, c_int)
_PQntuples = _bind("PQntuples", c_int, c_void_p)
_PQnfields = _bind("PQnfields", c_int, c_void_p)
_PQgetisnull = _bind("PQgetisnull", c_int, c_void_p, c_int, c_int)
_PQgetvalue = _bind("PQgetvalue", c_char_p, c_void_p, c_int, c_int)
_PQclear: Callable[[int], None] = _bind("PQclear", None, c_void_p)

# Discards notices: called with a NULL of ours and the text, free(3) of the former does nothing.
# A function of Python's would need memory that can be written and executed, which hardened systems refuse.
_DISCARD = _ctypes.dlsym(_LIBRARY, "PQfreemem")


class Error(Exception):
    """A function failed; `PGconn.error_message` says why."""


class ConnStatus:
    """How a connection is."""

    OK, BAD = 0, 1


class PollingStatus:
    """The event that a connection in progress waits for."""

    FAILED, READING, WRITING, OK = 0, 1, 2, 3


class ExecStatus:
    """The status of a good reply."""

    COMMAND_OK, TUPLES_OK = 1, 2


class DiagnosticField:
    """The fields of an error."""

    SQLSTATE, MESSAGE_PRIMARY = ord("C"), ord("M")


class PGconn:
    """A connection. Only `finish` ends it: a forked process drops its copy silently."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer

    @classmethod
    def connect_start(cls, conninfo: bytes) -> PGconn:
        """Begin to connect; see `connect_poll`."""
        pointer = _PQconnectStart(conninfo)
        if pointer is None:
            raise MemoryError
        # Otherwise notices are written to stderr.
        _PQsetNoticeProcessor(pointer, _DISCARD, None)
        return cls(pointer)

    def connect_poll(self) -> int:
        """Go on connecting; return a `PollingStatus`."""
        return _PQconnectPoll(self._pointer)

    @property
    def status(self) -> int:
        """A `ConnStatus`."""
        return _PQstatus(self._pointer)

    @property
    def socket(self) -> int:
        """The descriptor, which may change while connecting; -1 for none."""
        return _PQsocket(self._pointer)

    @property
    def error_message(self) -> bytes:
        """The last error."""
        return _PQerrorMessage(self._pointer) or b""

    @property
    def server_version(self) -> int:
        """The server's version, such as 150018."""
        return _PQserverVersion(self._pointer)

    @property
    def backend_pid(self) -> int:
        """The pid of the server's process."""
        return _PQbackendPID(self._pointer)

    @property
    def ssl_in_use(self) -> bool:
        """True if the connection uses TLS."""
        return bool(_PQsslInUse(self._pointer))

    def _set_nonblocking(self, value: int) -> None:
        if _PQsetnonblocking(self._pointer, value) != 0:
            raise Error

    #: To be set: True if sending must not block; see `flush`.
    nonblocking = property(None, _set_nonblocking)

    def send_query_params(self, command: bytes, values: Sequence[bytes | None]) -> None:
        """Send a statement with its values, which libpq copies; both end at their first NUL."""
        count = len(values)
        if _PQsendQueryParams(self._pointer, command, count, None, (c_char_p * count)(*values), None, None, 0) != 1:
            raise Error

    def flush(self) -> int:
        """Send what is queued; return 1 if some of it remains."""
        left = _PQflush(self._pointer)
        if left < 0:
            raise Error
        return left

    def consume_input(self) -> None:
        """Read what has arrived."""
        if _PQconsumeInput(self._pointer) != 1:
            raise Error

    def is_busy(self) -> int:
        """Return 1 if `get_result` would wait for the server."""
        return _PQisBusy(self._pointer)

    def get_result(self) -> PGresult | None:
        """Return the next part of the answer, None after the last."""
        pointer = _PQgetResult(self._pointer)
        return None if pointer is None else PGresult(pointer)

    def finish(self) -> None:
        """Close the connection, once: later calls fail."""
        # All of these accept NULL, as a connection that failed.
        pointer, self._pointer = self._pointer, None
        _PQfinish(pointer)


class PGresult:
    """A part of an answer."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __del__(self) -> None:
        _PQclear(self._pointer)

    @property
    def status(self) -> int:
        """Its kind, an `ExecStatus` if it is good."""
        return _PQresultStatus(self._pointer)

    @property
    def error_message(self) -> bytes:
        """The error's text."""
        return _PQresultErrorMessage(self._pointer) or b""

    def error_field(self, code: int) -> bytes | None:
        """Return a `DiagnosticField`."""
        return _PQresultErrorField(self._pointer, code)

    @property
    def ntuples(self) -> int:
        """The number of rows."""
        return _PQntuples(self._pointer)

    @property
    def nfields(self) -> int:
        """The number of columns."""
        return _PQnfields(self._pointer)

    def get_value(self, row: int, column: int) -> bytes | None:
        """Return a value as text, which has no NUL; None is NULL."""
        return None if _PQgetisnull(self._pointer, row, column) else _PQgetvalue(self._pointer, row, column)
