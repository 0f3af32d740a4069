"""A TCP proxy that drops, delays and holds data between a client and a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from .servers.process import HOST, eventually


class Proxy:
    """Stands on `port` of loopback before the server on port `target`.

    What it does with bytes may be changed at any time and counts for every connection. Bytes
    that were dropped are gone: a client that goes on with the same connection reads nonsense.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        #: How many connections were made, and how many pieces came from clients: one a request
        #: for protocols that send each request at once.
        self.connections = 0
        self.requests = 0
        #: True if each request reaches the server twice, the first time by a connection of its own: for protocols
        #: without a login.
        self.doubles = False
        self._pass_requests = True
        self._pass_replies = True
        self._refuse = False
        self._delay = 0.0
        self._hold = False
        self._open: list[_Connection] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake a thread that is in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def pass_all(self) -> None:
        """Forward everything from now on; held data stays held."""
        self._pass_requests = self._pass_replies = True
        self._refuse = self._hold = False
        self._delay = 0.0

    def drop_requests(self) -> None:
        """Drop requests."""
        self._pass_requests = False

    def drop_replies(self) -> None:
        """Drop replies; requests reach the server."""
        self._pass_replies = False

    def drop_all(self) -> None:
        """Drop everything, like a cut cable; connections stay open."""
        self._pass_requests = self._pass_replies = False

    def delay(self, seconds: float) -> None:
        """Delay each request."""
        self._delay = seconds

    def hold_requests(self) -> None:
        """Hold requests until `deliver_held`, even after their clients have gone."""
        self._hold = True

    @property
    def held(self) -> int:
        """The number of held bytes."""
        with self._lock:
            return sum(len(connection.held) for connection in self._open)

    def deliver_held(self) -> None:
        """Forward held requests, and return when the server has answered each connection."""
        with self._lock:
            connections = [connection for connection in self._open if connection.held]
        for connection in connections:
            before = connection.replies
            connection.deliver()
            eventually(lambda c=connection, n=before: c.replies > n or c.ended, "the server's answer")  # type: ignore[misc]
            connection.close_if_left()

    def refuse(self) -> None:
        """Close all connections, and new ones at once."""
        self._refuse = True
        self.cut()

    def cut(self) -> None:
        """Close all connections, but accept new ones."""
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # The proxy was closed.
            connection = self._connect(client)
            # Whoever sees the number can cut the connection; and whoever was served or refused was counted.
            self.connections += 1
            if connection is None:
                client.close()
            else:
                connection.start()

    def _connect(self, client: socket.socket) -> _Connection | None:
        """Return the connection of `client` to the server, which can be cut from now on; None if there is none."""
        if self._refuse:
            return None
        try:
            server = socket.create_connection((HOST, self.target), timeout=10)
        except OSError:
            return None
        server.settimeout(None)
        connection = _Connection(self, client, server)
        with self._lock:
            self._open.append(connection)
        return connection

    def _upward(self, connection: _Connection, data: bytes) -> None:
        """Forward, drop or hold a client's bytes."""
        self.requests += 1
        if self.doubles:
            with socket.create_connection((HOST, self.target)) as other:
                other.sendall(data)
                assert other.recv(65536)
        if self._hold:
            with self._lock:
                connection.held += data
        elif self._pass_requests:
            if self._delay:
                time.sleep(self._delay)
            connection.server.sendall(data)

    def _downward(self, connection: _Connection, data: bytes) -> None:
        """Forward or drop the server's bytes."""
        connection.replies += 1
        if self._pass_replies and not connection.left:
            connection.client.sendall(data)


class _Connection:
    """A client's connection and its connection to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.held = bytearray()
        self.replies = 0
        #: The client went away while a request of its own was held.
        self.left = False
        self.ended = False

    def start(self) -> None:
        """Forward bytes in both directions."""
        for pump in (self._pump_up, self._pump_down):
            threading.Thread(target=pump, daemon=True).start()

    def deliver(self) -> None:
        """Forward held requests."""
        data, self.held = bytes(self.held), bytearray()
        try:
            self.server.sendall(data)
        except OSError:
            self.close()

    def close_if_left(self) -> None:
        """Close the server's side when nothing can come from the client any more."""
        if self.left:
            self.close()

    def close(self) -> None:
        """Close both sides."""
        self.ended = True
        for side in (self.client, self.server):
            try:
                # Wakes a thread that reads from it, which closing alone does not.
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The other end was faster.
            side.close()

    def _pump_up(self) -> None:
        self._pump(self.client, self.proxy._upward)
        if self.held:
            self.left = True
        else:
            self.close()

    def _pump_down(self) -> None:
        self._pump(self.server, self.proxy._downward)
        self.close()

    def _pump(self, source: socket.socket, forward: Callable[[_Connection, bytes], None]) -> None:
        """Forward what `source` sends until it ends."""
        try:
            while data := source.recv(65536):
                forward(self, data)
        except OSError:
            pass  # A reset ends the connection like a close.
