"""HTTP answers that are framed wrongly or come in pieces: as strict as h11."""

from __future__ import annotations

import random

import h11

from cronlock.engines.wire.http import Answer

from .little_server import NONSENSE, OK

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
WHOLE = [
    *(OK, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
    *(
        b"HTTP/1.1 200 OK\r\n\r\nall",
        b"HTTP/1.0 404 \r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 500\r\n\r\n",
        *NONSENSE.values(),
    ),
]
PIECES = [
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b";",
        b"0",
        b"9",
        b"\x00",
        b"\x7f",
        b"\xe9",
        b",",
        b"HTTP/1.1 200 OK\r\n",
    ),
    *(b"\r\nContent-Length: 2", b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: close", b"\r\n\r\n", b"\r\n A: b"),
    b"HTTP/1.1 200 OK\r\n",
]


def _ours(data: bytes, pieces: int) -> tuple[int, dict[str, str], bytes] | None:
    """Return what is read of an answer that comes in so many pieces, and then the connection's end."""
    answer, size = Answer(), max(len(data) // max(pieces, 1), 1)
    try:
        for start in range(0, len(data), size):
            response = answer.feed(data[start : start + size])
            if response is not None:
                break
        else:
            response = answer.end()
    except ValueError:
        return None
    return None if response is None else (response.status, response.headers, response.body)


def _theirs(data: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """Return what h11 reads of it."""
    protocol = h11.Connection(h11.CLIENT)
    protocol.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    protocol.send(h11.EndOfMessage())
    protocol.receive_data(data)
    protocol.receive_data(b"")
    head, body = None, b""
    try:
        while not isinstance(event := protocol.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    assert head is not None
    return head.status_code, {name.decode(): value.decode("latin-1") for name, value in head.headers}, body


def test_as_strict_as_h11() -> None:
    """Of thousands of damaged replies, those accepted here h11 reads alike, however they are cut into pieces.

    Every whole reply that h11 accepts is accepted.
    """
    for answer in (*WHOLE, *NONSENSE.values()):
        assert _ours(answer, 1) == _theirs(answer), answer
    chance, taken = random.Random(16), 0
    for _ in range(6000):
        data = chance.choice((*WHOLE, *WHOLE, chance.choice([*NONSENSE.values()])))[:400]
        for _ in range(chance.choice((1, 1, 2, 3))):
            start = chance.randrange(len(data) + 1)
            data = data[:start] + chance.choice((b"", *PIECES)) + data[start + chance.choice((0, 0, 1, 5)) :]
        ours = _ours(data, 1)
        assert ours is None or ours == _theirs(data), data
        assert _ours(data, 7) == _ours(data, len(data)) == ours, data
        taken += ours is not None
    assert taken > 250
