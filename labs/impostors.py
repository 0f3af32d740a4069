"""Fake servers that send what a test wants."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .servers.process import HOST


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Let `serve` talk to each connection, in a thread of its own, which then closes it; give the port."""
    taken: list[socket.socket] = []

    def talk(connection: socket.socket) -> None:
        # The client hung up, as expected, or the test is over.
        with suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
                threading.Thread(target=talk, args=(taken[-1],), daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for one in taken:
                one.close()


@contextmanager
def impostor(answer: bytes, *, hangs_up: bool = False) -> Iterator[int]:
    """Give `answer` to whatever is asked on a port, and hang up behind it or not."""

    def serve(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(answer)
            if hangs_up:
                return

    with listening(serve) as port:
        yield port


def http_answers(body: object) -> list[bytes]:
    """Return answers of an HTTP server with `body`, as JSON unless it is bytes: that all is well, and that not."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data) for status in (200, 500)]
