"""HTTP to servers that are slow, lie, talk nonsense or never stop."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import h11
import pytest

from cronlock.engines.wire.http import LONGEST, Answer, Connection, Response, Unanswered
from cronlock.engines.wire.stream import ServerBusy
from cronlock.errors import BackendUnavailable
from cronlock.testing import eventually
from labs.servers.process import HOST, free_port
from labs.servers.tls import tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class LittleServer:
    """Answers the n-th request with the n-th of `answers` and the last one again and again.

    An answer is bytes, or a function that is given the connection. With `hangs_up` the connection is closed
    behind each answer.
    """

    def __init__(
        self,
        *answers: bytes | Callable[[socket.socket], None],
        hangs_up: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._answers = answers
        self._hangs_up = hangs_up
        self._context = context
        #: The requests, head and body, and the number of connections.
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self.connections):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
                while len(data) < length:
                    data += connection.recv(65536)
                self.requests.append(head + b"\r\n\r\n" + data[:length])
                data = data[length:]
                answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)
                if self._hangs_up:
                    connection.shutdown(socket.SHUT_RDWR)
                    connection.close()
                    return


@contextmanager
def talking_to(
    *answers: bytes | Callable[[socket.socket], None], hangs_up: bool = False, longest: int = LONGEST
) -> Iterator[tuple[Connection, LittleServer]]:
    """A connection to a `LittleServer`."""
    server = LittleServer(*answers, hangs_up=hangs_up)
    connection = Connection(f"test://{HOST}:{server.port}", HOST, server.port, longest=longest)
    try:
        yield connection, server
    finally:
        connection.close()
        server.close()


def ask(connection: Connection, limit: float = 10.0, body: bytes = b"") -> Response:
    """Make a small request."""
    return connection.request("POST", "/path?q=1", {"X-One": "1"}, body, time.monotonic() + limit)


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


NONSENSE = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n",
    "chunk's end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n",
    "no HTTP": b"+PONG\r\n",
    "binary": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d",
    "status 99": b"HTTP/1.1 099 OK\r\n\r\n",
    "status of four": b"HTTP/1.1 2000 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
    "length in words": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
    "endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nhi",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "zero in a header": b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "long head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70000,
    "announcements": b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
}


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("hangs_up", [True, False])
def test_nonsense(name: str, hangs_up: bool) -> None:
    """Whatever it says, and whether it hangs up: unanswered, in one short line, and the next request is a new one."""
    with talking_to(NONSENSE[name], OK, hangs_up=hangs_up) as (connection, server):
        connection.connect(time.monotonic() + 10)
        with pytest.raises(Unanswered) as caught:
            ask(connection, 0.5)
        assert str(caught.value).startswith(f"test://{HOST}:{server.port}: ")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
        assert ask(connection).body == b"hi"


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


@pytest.mark.parametrize(
    "answer",
    [
        b"secret",
        b"HTTP/1.1 200 OK\r\nsecret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: secret\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nsecret\r\n",
    ],
)
def test_nothing_of_the_answer_is_shown(answer: bytes) -> None:
    """A value that is not valid in HTTP may still be a secret."""
    with talking_to(answer + b"\r\n\r\n", hangs_up=True) as (connection, _), pytest.raises(Unanswered) as caught:
        ask(connection)
    assert "secret" not in str(caught.value)
    assert "ecre" not in str(caught.value)


def _pour(first: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def pour(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)

    return pour


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 999),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 999),
        (b"", b"\r\n" * 999),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 99),
    ],
)
def test_answer_that_never_ends(first: bytes, piece: bytes) -> None:
    """It is given up on by its size, long before the time limit."""
    with talking_to(_pour(first, piece), longest=1 << 16) as (connection, _), pytest.raises(Unanswered) as caught:
        ask(connection, 300.0)
    assert "in time" not in str(caught.value)


def test_longest_answer() -> None:
    """The limit is what is said, and may be another one."""
    for length, fits in ((LONGEST // 2, True), (LONGEST, False)):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length
        with talking_to(answer) as (connection, server):
            if fits:
                assert len(ask(connection).body) == length
            else:
                with pytest.raises(Unanswered, match="longer than"):
                    ask(connection)
                larger = Connection("larger", HOST, server.port, longest=2 * LONGEST)
                assert len(ask(larger).body) == length
                larger.close()


def test_answer_drop_by_drop() -> None:
    """Each byte comes in time and the answer does not: the limit is one for all of it."""

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    began = time.monotonic()
    with talking_to(drip) as (connection, _), pytest.raises(Unanswered, match="no answer in time"):
        ask(connection, 0.4)
    assert time.monotonic() - began >= 0.35


def test_reset() -> None:
    """A reset in the middle of an answer that ends with the connection does not end it."""

    def reset(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    with talking_to(reset) as (connection, _), pytest.raises(Unanswered):
        ask(connection)


def test_nothing_was_done() -> None:
    """A request that could not be sent whole was not done."""
    nobody = Connection("test://nobody", HOST, free_port())
    with pytest.raises(BackendUnavailable, match="refused") as caught:
        ask(nobody)
    assert not isinstance(caught.value, Unanswered)
    with socket.create_server((HOST, 0)) as deaf:
        connection = Connection("test://deaf", HOST, deaf.getsockname()[1])
        with pytest.raises(BackendUnavailable, match="in time") as caught:
            ask(connection, 0.5, b"x" * 20_000_000)
        assert not isinstance(caught.value, (Unanswered, ServerBusy))
        connection.close()


def test_deaf_server() -> None:
    """The kernel takes the request for a server that never reads it: it may have been done."""
    with socket.create_server((HOST, 0)) as deaf:
        connection = Connection("test://deaf", HOST, deaf.getsockname()[1])
        with pytest.raises(Unanswered, match="in time"):
            ask(connection, 0.3)
        connection.close()


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
