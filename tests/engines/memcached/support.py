"""memcached behind the store's back, and how tests reach it."""

from __future__ import annotations

import itertools
import socket

from cronlock.engines.memcached.store import MemcachedStore, open_store
from cronlock.engines.url import URL
from labs.servers.process import HOST

from ..hooks import PATIENT, FaultHooks


def memcached_at(url: str) -> MemcachedStore:
    """Return the store of a URL."""
    return open_store(URL(url), PATIENT)


class Connection:
    """A connection to the server behind the backend's back."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=PATIENT)
        self._file = self._socket.makefile("rb")
        self._numbers = itertools.count()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def say(self, command: bytes) -> bytes:
        """Send a command and return the first line of its answer."""
        self._socket.sendall(command + b"\r\n")
        return self._file.readline().rstrip()

    def get(self, name: bytes) -> tuple[bytes, int] | None:
        """Return an item's value, and what it has left."""
        words = self.say(b"mg %b v t" % name).split()
        if words[0] == b"EN":
            return None
        return self._file.read(int(words[1]) + 2)[:-2], int(words[2][1:])

    def set(self, name: bytes, value: bytes, seconds: int = 0) -> None:
        """Put a value in a name's place."""
        assert self.say(b"set %b 0 %d %d\r\n%b" % (name, seconds, len(value), value)) == b"STORED"

    def fill(self) -> None:
        """Put some thousand items of about a record's size: memcached evicts among items of a size."""
        junk = b"".join(
            b"ms junk-%d-%d %d q\r\n%b\r\n" % (next(self._numbers), size, size, b"x" * size)
            for size in range(200, 500, 20)
            for _ in range(200)
        )
        self._socket.sendall(junk + b"mn\r\n")
        while self._file.readline() != b"MN\r\n":
            pass


def name_of(key: str) -> bytes:
    """Return the name of a key's item."""
    return b"cronlock:" + key.encode()


class MemcachedHooks(FaultHooks):
    """Time passes as it does."""

    def put(self, key: str, value: tuple[bytes, int]) -> None:
        """Set an item, to last for so many seconds."""
        with Connection(self.server.port) as wire:
            wire.set(name_of(key), *value)

    def kept(self, key: str) -> object:
        """Return the item's text."""
        with Connection(self.server.port) as wire:
            return (wire.get(name_of(key)) or [None])[0]
