"""A server of HTTP that answers what a test says."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cronlock.engines.wire.http import LONGEST, Connection, Response
from labs.servers.process import HOST

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
