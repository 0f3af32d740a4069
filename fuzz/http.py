"""What servers answer by HTTP, in JSON: any bytes, framed as servers frame them, or nearly so."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from cronlock.engines.wire.http import Connection
from cronlock.errors import BackendUnavailable

from .data import Data
from .engine import SECRET, expecting
from .streams import served

_HTTP_TOKENS = (
    *(b"\r\n", b"\n", b"\r\n\r\n", b": ", b"HTTP/1.1 ", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\xff", b"9" * 5000, b"\0"),
    *(b"Connection: close\r\n", b"HTTP/1.1 101 x\r\n\r\n", SECRET.encode(), b"\x85"),
)
STATUSES = (200, 200, 204, 304, 400, 403, 404, 500, 503, 999)
#: Parts of JSON that are none of what was asked for.
_PARTS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.5, 1 << 63, 1 << 200, float("inf"), float("nan"), "", " ", "nan", "²", "-1"),
    *("\ud800", "a\nb", "\x1b[2J", "x" * 9000, "9" * 400, "9" * 5000, "1e999", [], {}, [[]], [None], ["a"]),
    *({"S": 5}, {"N": []}, {"S": "\ud800"}, {"N": "9" * 6000}, {"N": "x" * 6000}, {"a": {}}),
)
#: Seconds by which clocks differ from what is right.
SKEWS = (0.0, 0.0, 0.0, 0.0, 1.0, -3.0, 40.0, -400.0, 1e5)
YEAR = 365 * 86400.0


def http_answer(data: Data, status: int, body: bytes, lines: Sequence[bytes] = ()) -> bytes:
    """Return an answer, as servers frame it, or nearly so."""
    head = [b"HTTP/1.1 %d so" % status, *lines]
    kind = data.below(12)
    if kind == 0:
        head.append(b"Transfer-Encoding: chunked")
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif kind == 1:
        head.append(b"Connection: close")
    else:
        head.append(b"Content-Length: %d" % len(body))
    text = b"\r\n".join(head) + b"\r\n\r\n" + body
    if kind == 2:
        text = b"HTTP/1.1 100 Continue\r\n\r\n" * data.pick((1, 1, 20)) + text
    return data.maimed(text, _HTTP_TOKENS) if data.chance(12) else text


def read_request(request: bytes) -> tuple[str, dict[str, str], Any]:
    """Return path, headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return first.split(" ")[1], headers, json.loads(body) if body[:1] in (b"{", b"[") else None


def bent(data: Data, value: Any) -> Any:
    """Return what is to be JSON with one of its parts made another, or left out."""
    if isinstance(value, dict) and value and not data.chance(5):
        name = data.pick([*value])
        if data.chance(5):
            return {other: part for other, part in value.items() if other != name}
        return {**value, name: bent(data, value[name])}
    if isinstance(value, list) and value and not data.chance(5):
        at = data.below(len(value))
        return [*value[:at], bent(data, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and value and data.chance(2):
        return data.maimed_text(value, ("\t", "\n", "%", "=", "\ud800", "owner=", "\x00", "9" * 30))
    return data.pick(_PARTS)


def as_json_text(data: Data, value: Any) -> bytes:
    """Return JSON that mostly says what is right."""
    return json.dumps(bent(data, value) if data.chance(6) else value).encode()


def an_http_answer(data: Data) -> None:
    """Any bytes are an answer of HTTP, or BackendUnavailable."""

    def answer(_request: bytes) -> bytes:
        lines = data.several(2, lambda: data.pick((b"Date: x", b"X-A: \xe4", b"x-a: b", b"Connection: close")))
        text = http_answer(data, data.pick(STATUSES), data.blob(40) * data.pick((1, 1, 1, 200)), lines)
        return data.maimed(text, _HTTP_TOKENS) if data.chance(2) else text

    connection = Connection("server", "h", 80, longest=data.pick((1 << 20, 400)))
    token = data.pick(("ab", "ab", SECRET, "a\nb", "\ud800", "a b", ""))
    with served(data, answer):
        for _ in range(2):
            with expecting(BackendUnavailable):
                response = connection.request("POST", "/", {"Authorization": token}, b"{}", time.monotonic() + 5.0)
                assert 200 <= response.status < 1000
                assert len(response.body) <= 1 << 20
                assert all(name == name.lower() for name in response.headers)
    connection.close()


def maybe_maimed(data: Data, text: bytes) -> bytes:
    return data.maimed(text) if data.chance(12) else text
