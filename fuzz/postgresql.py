"""What PostgreSQL answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from unittest.mock import patch

from cronlock.engines.postgresql import scram
from cronlock.engines.postgresql import servers as postgresql
from cronlock.engines.postgresql import sql as statements
from cronlock.engines.postgresql.messages import message
from cronlock.engines.registry import open_backend
from cronlock.engines.wire import sql
from cronlock.engines.wire.hashes import hmac_sha256, pbkdf2_sha256
from cronlock.errors import BackendUnavailable

from .data import Data
from .engine import SECRET
from .operations import operate
from .sql import ROW_NUMBERS, a_row, as_stored
from .streams import hurrying, served

_CODES = (
    *("40001", "40P01", "25006", "42P01", "3F000", "42703", "42804", "42P10", "42501", "22003", "57P01", "53300"),
    *("08006", "XX000", "", "\ufffd"),
)
_TEXTS = (
    *(b"no", b"", b"a\nb\x1b[2J", b"x" * 9000, b"\xff", f"password {SECRET}".encode()),
    b"sorry, too many clients already",
)
_CELLS = (None, "", "nan", "inf", "-1e300", "9" * 400, "9" * 5000, "x", "²", "x" * 9000, "\udcff", "a\nb", "t", "NULL")
_TOKENS = (
    *(
        b"Z\0\0\0\5I",
        b"C\0\0\0\4",
        b"E\0\0\0\4",
        b"D\0\0\0\4",
        b"R\0\0\0\x08\0\0\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
    ),
    *(b"N\0\0\0\4", b"A\0\0\0\4", b"S\0\0\0\4", b"G\0\0\0\4", b"i=999,", b"m=x,", b"\x7f\xff\xff\xff"),
)
_URLS = (
    *(
        f"postgresql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h/d?sslmode=disable",
        f"postgresql://u:{SECRET}@h,g:1/d",
    ),
    *(f"postgres://u:{SECRET}@/d?host=/run", f"postgresql://u:{SECRET}@h/d?sslmode=require"),
)
#: The outline of one: what is signed, and how.
_CERTIFICATE = bytes.fromhex("3082001a3003020101300d06092a864886f70d01010b0500030400010203")
_TLS_PLEASE = b"\x04\xd2\x16\x2f"
_READY = message(b"Z", b"I")


class _Server:
    """A server that talks the protocol, and says anything in it."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._first = self._said = b""

    def answer(self, request: bytes) -> bytes:
        """Return the answer to what a client sent at once."""
        data = self._data
        if request[4:8] == _TLS_PLEASE:
            return data.pick((b"N", b"N", b"N", b"E", b"Nx", b""))
        reply = self._reply(request)
        return data.maimed(reply, _TOKENS) if data.chance(16) else reply

    def _reply(self, request: bytes) -> bytes:
        data = self._data
        if request[:1] == b"P":
            return self._rows(request[6:].partition(b"\0")[0])
        if request[:1] == b"p":
            return self._goes_on(request)
        if request[:1] == b"X":
            return b""
        if data.chance(8):
            return self._error()
        if not data.chance(3):
            return self._let_in()
        kind = data.pick((3, 5, 7, 10, 10, 10, data.below(99)))
        text = data.pick((b"salt", b"", data.blob(6))) if kind == 5 else b"SCRAM-SHA-256\0\0"
        return _asking(kind, text if not data.chance(8) else data.blob(6))

    def _goes_on(self, request: bytes) -> bytes:
        """Return the next step of a login."""
        data = self._data
        if b"SCRAM-SHA-256\0" in request:
            self._first = request.partition(b"n,,")[2]
            nonce = self._first.partition(b"r=")[2] + data.pick((b"x", b"x", b"x", b"", data.blob(3)))
            self._said = b"r=%b,s=%b,i=%b" % (
                nonce,
                base64.b64encode(b"salt"),
                data.pick((b"1", b"1", b"7", b"-1", b"")),
            )
            return _asking(11, self._said)
        if b"c=biws" in request and not data.chance(6):
            last = b"c=" + request.partition(b"c=")[2].rpartition(b",p=")[0]
            rounds = int(self._said.rpartition(b"i=")[2] or b"1")
            key = hmac_sha256(pbkdf2_sha256(SECRET.encode(), b"salt", rounds), b"Server Key")
            proof = hmac_sha256(key, b",".join((self._first, self._said, last)))
            return _asking(12, b"v=" + base64.b64encode(proof)) + self._let_in()
        return self._let_in() if not data.chance(4) else self._error()

    def _let_in(self) -> bytes:
        data = self._data
        told = {
            b"server_version": data.pick((b"15.18 (Debian)", b"15.18", b"9.6.1", b"x", b"9" * 400)),
            b"in_hot_standby": data.pick((b"off", b"off", b"off", b"on", None)),
            b"default_transaction_read_only": data.pick((b"off", b"off", b"off", b"on", None)),
        }
        states = [message(b"S", name, b"\0", value, b"\0") for name, value in told.items() if value is not None]
        return b"".join((_asking(0), *states, message(b"K", bytes(8)), _READY))

    def _error(self) -> bytes:
        data = self._data
        severity = data.pick((b"ERROR", b"ERROR", b"FATAL", b"x"))
        code = data.pick(_CODES).encode()
        return message(b"E", b"S", severity, b"\0V", severity, b"\0C", code, b"\0M", data.pick(_TEXTS), b"\0\0")

    def _rows(self, statement: bytes) -> bytes:
        """Return the answer to a statement, mostly of the right shape."""
        data = self._data
        if data.chance(10):
            return data.pick((b"", message(b"1"))) + self._error() + data.pick((_READY, _READY, b""))
        rows = _rows_of(data, statement)
        if data.chance(12):
            rows = data.pick(
                ([], rows * 3, [[]], [row[: data.below(1 + len(row))] for row in rows], [[*row, None] for row in rows])
            )
        if rows and rows[0] and data.chance(8):
            at = data.below(len(rows[0]))
            rows = [[*row[:at], data.pick(_CELLS), *row[at + 1 :]] for row in rows]
        end = [message(b"C", b"SELECT 1\0")] if not data.chance(20) else []
        if data.chance(20):
            end.append(self._error())
        ready = message(b"Z", data.pick((b"T", b"E", b""))) if data.chance(20) else _READY
        return b"".join((message(b"1"), message(b"2"), *map(_row, rows), *end, ready))


def _asking(kind: int, text: bytes = b"") -> bytes:
    return message(b"R", kind.to_bytes(4, "big"), text)


def _row(row: Sequence[str | None]) -> bytes:
    parts = [len(row).to_bytes(2, "big")]
    for value in row:
        text = None if value is None else value.encode("utf-8", "surrogateescape")
        parts.append(b"\xff" * 4 if text is None else len(text).to_bytes(4, "big") + text)
    return message(b"D", *parts)


def _rows_of(data: Data, statement: bytes) -> list[list[str | None]]:
    now = data.pick(("1700000000000000", "1700000500000000"))
    if statement.startswith(b"SHOW"):
        return [[data.pick(("off", "on"))]]
    if statement.startswith(b"SELECT name"):
        keys = (data.pick(("a", "billing", "ä", "%", as_stored(data.text(4)))) for _ in range(data.below(4)))
        return [[name] for name in sorted({statements.code(key) for key in keys})]
    if statement.startswith(b"SELECT"):
        return [[now, *a_row(data), data.pick(("off", "off", "off", "on"))]]
    return [[now, data.pick(ROW_NUMBERS), data.pick(ROW_NUMBERS)]] if not data.chance(4) else []


def a_postgresql(data: Data) -> None:
    """A server that talks the protocol, and says anything in it, gives answers, or the errors of backends."""

    def resolve(name: str, host: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if data.chance(20):
            raise BackendUnavailable(f"{name}: cannot find the address of {host!r}: no")
        return [(2, 1, 6, "", (address, 0)) for address in data.pick((["10.0.0.1"], ["10.0.0.1", "::1"]))]

    scram.end_point(data.maimed(_CERTIFICATE, _TOKENS))
    with (
        served(data, _Server(data).answer),
        patch.object(postgresql, "resolve", resolve),
        # Whatever lies about on this machine; and what is left to libpq is not asked of it.
        patch.object(postgresql, "suits", lambda _settings: True),
        patch.object(postgresql, "_load_libpq", side_effect=ImportError),
        patch.object(scram, "_MOST_ROUNDS", 100),
        patch.object(sql, "PAGE", 2),
        hurrying(0.05),
    ):
        operate(data, open_backend(data.pick(_URLS), 5.0))
