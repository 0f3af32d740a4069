"""What MySQL answers, and what lies in its table and PostgreSQL's."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from unittest.mock import patch

from cronlock.engines.mysql import sql as mysql_sql
from cronlock.engines.postgresql import sql as postgresql_sql
from cronlock.engines.registry import open_backend
from cronlock.engines.wire import sql

from .data import Data
from .engine import SECRET
from .http import maybe_maimed
from .operations import a_record, operate
from .streams import hurrying, served

_NAME_TOKENS = ("\t", "=", "%", "%41", "%ZZ", "% 1", "%-1", "%+1", "\n", "%0A")
#: What a number of a row may be, as text.
ROW_NUMBERS = ("0", "1", "1700000000000000", "1700000300000000", "-1", "9" * 15)


def some_names(data: Data) -> None:
    """Any key has a name, which leads back to it; any other name is some key."""
    name = as_stored(data.text(12))
    assert postgresql_sql.decode(postgresql_sql.code(name)) == name
    assert isinstance(postgresql_sql.decode(as_stored(data.maimed_text(postgresql_sql.code(name), _NAME_TOKENS))), str)


def a_row(data: Data) -> list[str | None]:
    """Return version, record and ends of a row, as one may be; None each without a row."""
    if data.chance(4):
        return [None] * 4
    record = as_stored(maybe_maimed(data, a_record(data)).decode("utf-8", "surrogateescape"))
    return [data.pick(("0123456789abcdef", "by hand")), record, *(data.pick(ROW_NUMBERS) for _ in range(2))]


def as_stored(text: str) -> str:
    """Return a text as it comes from bytes."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


_LONGLONG, _DOUBLE, _DECIMAL, _DATETIME, _BLOB, _STRING = 8, 5, 246, 12, 252, 253
_NUMBERS = (b"0", b"1", b"5000000", b"-1", b"9" * 19, b"-5000000", b"1", b"0")
#: Types of columns and what is in them, that no column of cronlock's has.
_COLUMNS = (
    *((_LONGLONG, b"9" * 400), (_LONGLONG, b"x"), (_LONGLONG, b""), (_LONGLONG, None), (_DOUBLE, b"inf")),
    *((_DOUBLE, b"nan"), (_DOUBLE, b"1e300"), (_DECIMAL, b"NaN"), (_DECIMAL, b"sNaN"), (_DECIMAL, b"Infinity")),
    *((_DATETIME, b"2024-01-01 00:00:00"), (_DATETIME, b"0000-00-00"), (_STRING, b"\xff"), (_STRING, "ä".encode())),
    *((_BLOB, b"\xff\xed\xa0\x80"), (_BLOB, b"x" * 9000), (250, b"1"), (16, b"1"), (245, b"{}"), (10, b"1")),
    (11, b"25:00:00"),
)
_MYSQL_ERRORS = (
    *(1040, 1045, 1049, 1054, 1062, 1064, 1142, 1146, 1203, 1205, 1213, 1290, 1364, 1698, 1836, 2006, 2026, 3101),
    *(3159, 0),
)
_MYSQL_TEXTS = (b"no", b"", b"a\nb\x1b[2J", b"x" * 9000, b"\xff", f"password {SECRET}".encode())
_MYSQL_URLS = (
    *(f"mysql://u:{SECRET}@h/d", f"mysql://u:{SECRET}@h,g:1/d?table=a.b", f"mysql://u:{SECRET}@/d?socket=/s"),
    *(f"mysql://u:{SECRET}@h/d", f"mariadb://u:{SECRET}@h,g/d"),
)
_MYSQL_TOKENS = (b"\xfb", b"\xfc\xff\xff", b"\xfe", b"\xff", b"\x00", b"\x00\x00\x00\x02", b"\xfd", b"\xff\xff\xff")
_PLUGINS = (
    *(b"mysql_native_password", b"caching_sha2_password", b"sha256_password", b"mysql_clear_password", b"dialog"),
    *(b"client_ed25519", b"mysql_old_password", b"x", b"\xff"),
)
_MORE, _AUTOCOMMIT = 8, 2


def a_mysql(data: Data) -> None:
    """A server that talks the protocol, and says anything in it, gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        reply = _greeting(data) if not request else _mysql_answer(data, request)
        return data.maimed(reply, _MYSQL_TOKENS) if data.chance(16) else reply

    with served(data, answer, greets=True), hurrying(0.05), patch.object(sql, "PAGE", 2):
        operate(data, open_backend(data.pick(_MYSQL_URLS), 5.0))


def _packets(payloads: Sequence[bytes], number: int) -> bytes:
    packets = [
        struct.pack("<I", len(payload))[:3] + bytes([(number + at) % 256]) + payload
        for at, payload in enumerate(payloads)
    ]
    return b"".join(packets)


def _greeting(data: Data) -> bytes:
    if data.chance(20):
        return _packets([_mysql_error(data)], 0)
    plugin = data.pick(_PLUGINS[:2]) if not data.chance(6) else data.pick(_PLUGINS)
    flags = 0x00FF_FFFF & ~0x800
    text = (
        b"\x0a" + data.pick((b"8.0.36", b"5.5.5-10.11.6-MariaDB", b"x")) + b"\0" + struct.pack("<I", 7) + b"saltsalt\0"
    )
    text += struct.pack("<HBHHB", flags & 0xFFFF, data.pick((45, 33, 255)), _AUTOCOMMIT, flags >> 16, 21)
    return _packets([text + bytes(10) + b"saltsaltsalt\0" + plugin + b"\0"], 0)


def _mysql_error(data: Data) -> bytes:
    code = data.pick(_MYSQL_ERRORS) if not data.chance(8) else data.below(65536)
    return b"\xff" + struct.pack("<H", code) + b"#HY000" + data.pick(_MYSQL_TEXTS)


def _ok(data: Data, changed: int, *, more: bool) -> bytes:
    status = (_MORE if more else 0) | (_AUTOCOMMIT if not data.chance(16) else 0)
    return b"\0" + bytes([changed, 0]) + struct.pack("<HH", status, 0)


def _mysql_answer(data: Data, request: bytes) -> bytes:
    number, payload = request[3], request[4:]
    if number:
        return _packets([_login_answer(data)], number + 1)
    if payload[:1] != b"\x03":
        return b""
    statements = payload[1:].decode().split("; ")
    reply: list[bytes] = []
    for at, statement in enumerate(statements):
        if data.chance(24):
            reply.append(_mysql_error(data))
            break
        more = at + 1 < len(statements) if not data.chance(60) else data.chance(2)
        if statement.startswith(("SELECT", "SHOW")):
            reply += _result(_mysql_rows(data, statement), more=more)
        else:
            reply.append(_ok(data, data.pick((0, 1, 1, 1)), more=more))
    return _packets(reply, 1)


def _login_answer(data: Data) -> bytes:
    """Return what becomes of a password: it is right mostly."""
    kind = data.below(24)
    if kind == 0:
        return _mysql_error(data)
    if kind == 1:
        return b"\xfe" + data.pick(_PLUGINS) + b"\0" + data.pick((b"saltsaltsaltsaltsalt\0", b"", b"\xff"))
    if kind == 2:
        return b"\x01" + data.pick((b"\x03", b"\x04", b"x", b"", b"-----BEGIN PUBLIC KEY-----\n"))
    return _ok(data, 0, more=False)


def _mysql_rows(data: Data, statement: str) -> list[list[tuple[int, bytes | None]]]:
    """Return rows of (type, value) that answer a statement, mostly of the right shape."""

    def number(text: str | None = None) -> tuple[int, bytes | None]:
        return _LONGLONG, data.pick(_NUMBERS) if text is None else text.encode()

    rows: list[list[tuple[int, bytes | None]]]
    now = data.pick(("1700000000000000", "1700000500000000"))
    if statement.startswith("SELECT name"):
        names = sorted(data.pick((b"a", b"billing", b"\xff", "ä".encode(), data.blob(4))) for _ in range(data.below(4)))
        rows = [[(_BLOB, name)] for name in names]
    elif statement.startswith("SHOW"):
        rows = [[(_STRING, b"wsrep_on"), (_STRING, b"ON")]] if data.chance(3) else []
    elif statement == mysql_sql.READ_ONLY:
        rows = [[(_LONGLONG, data.pick((b"0", b"0", b"1")))]]
    elif "c.record" in statement:
        version, record, *ends = (
            None if part is None else part.encode("utf-8", "surrogateescape") for part in a_row(data)
        )
        read_only = data.pick((b"0", b"0", b"0", b"1"))
        marks = [(_LONGLONG, end) for end in ends]
        rows = [[number(now), (_BLOB, version), (_BLOB, record), *marks, (_LONGLONG, read_only)]]
    else:
        nothing = (_LONGLONG, None)
        rows = [[number(now), *data.pick(((number(), number()), (number(now), number()), (nothing, nothing)))]]
    if data.chance(12):
        rows = data.pick(([], rows * 3, [row[: data.below(1 + len(row))] or row for row in rows]))
    if rows and data.chance(8):
        at = data.below(len(rows[0]))
        rows = [[*row[:at], data.pick(_COLUMNS), *row[at + 1 :]] for row in rows]
    return rows


def _result(rows: list[list[tuple[int, bytes | None]]], *, more: bool) -> list[bytes]:
    """Return the packets of a result set."""
    end = b"\xfe" + struct.pack("<HH", 0, (_MORE if more else 0) | _AUTOCOMMIT)
    columns = [kind for kind, _ in rows[0]] if rows else [_BLOB]
    payloads = [bytes([len(columns)])]
    for kind in columns:
        charset = 255 if kind == _STRING else 63
        payloads.append(b"\x03def\0\0\0\1c\1c\x0c" + struct.pack("<HIBHB", charset, 99, kind, 0, 0) + b"\0\0")
    payloads.append(end)
    payloads += [b"".join(_counted(value) for _, value in row) for row in rows]
    return [*payloads, end]


def _counted(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    return (bytes([len(value)]) if len(value) < 251 else b"\xfc" + struct.pack("<H", len(value))) + value
