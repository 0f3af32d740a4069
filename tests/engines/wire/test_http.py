"""HTTP: requests and answers, connections that are kept, and nonsense."""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from cronlock.engines.wire.http import Connection, Unanswered
from cronlock.errors import BackendUnavailable
from cronlock.testing import eventually
from labs.servers.process import HOST
from labs.servers.tls import tls

from .little_server import NONSENSE, OK, LittleServer, ask, talking_to


def test_answer() -> None:
    """Status, headers and body come as they are, and the request has what a server needs."""
    answer = b"HTTP/1.1 418 No Coffee\r\nContent-Length: 3\r\nDate: now\r\nX-Two: a\r\nx-two: b\r\n\r\n\x00\xff!"
    with talking_to(answer) as (connection, server):
        response = ask(connection, body=b"hello")
        assert (response.status, response.body) == (418, b"\x00\xff!")
        assert (response.headers["date"], response.headers["x-two"]) == ("now", "b")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /path?q=1 HTTP/1.1\r\n")
        for line in (f"Host: {HOST}:{server.port}".encode(), b"Content-Length: 5", b"X-One: 1"):
            assert line in head.split(b"\r\n")
        assert body == b"hello"


def test_headers_given_come_first() -> None:
    """A Host of the caller's own is not doubled."""
    with talking_to(OK) as (connection, server):
        connection.request("GET", "/", {"host": "elsewhere"}, b"", time.monotonic() + 10)
        assert server.requests[0].lower().count(b"host:") == 1
        assert b"elsewhere" in server.requests[0]


@pytest.mark.parametrize(
    ("host", "port", "secure", "authority"),
    [("a.example", 80, False, "a.example"), ("::1", 2379, False, "[::1]:2379"), ("b.example", 443, True, "b.example")],
)
def test_host_header(host: str, port: int, secure: bool, authority: str) -> None:
    """The port is left out where it is the scheme's own: signatures cover the header."""
    assert Connection("x", host, port, tls().context() if secure else None).authority == authority


def test_connection_is_kept() -> None:
    """A second request goes the same way, whatever form the first answer had."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    with talking_to(OK, chunked, empty, OK) as (connection, server):
        assert [ask(connection).body for _ in range(4)] == [b"hi", b"abcde", b"", b"hi"]
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"more than was asked for",
        OK + OK,
    ],
)
def test_connection_is_not_kept(answer: bytes) -> None:
    """Where the server wants it closed, or said more than it should, another is made."""
    with talking_to(answer) as (connection, server):
        assert ask(connection).body == b"hi"
        # The surplus may still be in flight: then the connection is not quiet.
        eventually(lambda: ask(connection).body == b"hi" and len(server.connections) > 1, "another connection")


def test_closed_connection_is_replaced() -> None:
    """A server that closed the idle connection is connected to once more."""
    with talking_to(OK) as (connection, server):
        ask(connection)
        server.connections[0].shutdown(socket.SHUT_RDWR)
        eventually(lambda: not connection.quiet(), "the end of the connection")
        assert ask(connection).body == b"hi"
        assert len(server.connections) == 2


def test_connection_that_was_just_made_is_kept() -> None:
    """Session tickets that come behind the handshake are no word too many: the request goes the same way."""
    files, context = tls(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.cert, files.key)
    server = LittleServer(OK, context=context)
    connection = Connection("test://tls", "localhost", server.port, files.context())
    connection.connect(time.monotonic() + 10)
    eventually(lambda: not connection.quiet(), "the tickets")
    assert [ask(connection).body for _ in range(2)] == [b"hi", b"hi"]
    assert len(server.connections) == 1
    connection.close()
    server.close()


def test_answer_without_a_length() -> None:
    """It ends with the connection."""
    with talking_to(b"HTTP/1.1 200 OK\r\n\r\nall of it", hangs_up=True) as (connection, _):
        assert ask(connection).body == b"all of it"
        assert ask(connection).body == b"all of it"


def test_announcements_are_passed_over() -> None:
    """100 Continue and its like are no answers."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    with talking_to(early + OK) as (connection, server):
        assert [ask(connection).body for _ in range(2)] == [b"hi", b"hi"]
        assert len(server.connections) == 1


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("hangs_up", [True, False])
def test_nonsense(name: str, hangs_up: bool) -> None:
    """Whatever it says, and whether it hangs up: unanswered, in one short line, and the next request is a new one."""
    with talking_to(NONSENSE[name], OK, hangs_up=hangs_up) as (connection, server):
        connection.connect(time.monotonic() + 10)
        with pytest.raises(Unanswered) as caught:
            ask(connection, 2.0)
        assert str(caught.value).startswith(f"test://{HOST}:{server.port}: ")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
        assert ask(connection).body == b"hi"


@pytest.mark.parametrize(
    ("target", "header"),
    [("/a b", "x"), ("/a\r\nX: y", "x"), ("/é", "x"), ("/", "se\r\nb: cret"), ("/", "secr\U0001f512et")],
)
def test_what_is_no_http_is_not_sent(target: str, header: str) -> None:
    """Nothing that came from elsewhere, a token perhaps, can add a header, or is shown where it would."""
    with talking_to(OK) as (connection, server):
        with pytest.raises(BackendUnavailable, match="cannot be sent by HTTP") as caught:
            connection.request("GET", target, {"A": header}, b"", time.monotonic() + 10)
        assert "\n" not in str(caught.value)
        assert not any(part in str(caught.value) for part in ("secr", "cret"))
        assert ask(connection).body == b"hi"
        assert len(server.requests) == 1


def test_close_can_be_repeated() -> None:
    """Closing raises nothing, and the next request connects again."""
    with talking_to(OK) as (connection, server):
        connection.close()
        ask(connection)
        connection.close()
        connection.close()
        assert ask(connection).body == b"hi"
        assert len(server.connections) == 2
