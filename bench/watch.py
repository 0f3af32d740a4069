"""Counts requests on their way to servers that do not count them by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from labs.proxy import Proxy

#: Of connections: what goes before the first request, in as many round trips.
LOGIN = "login"


class Watch(Proxy):
    """Stands before the server on port `target`, and counts what clients ask of it over plain connections.

    `of_one` makes what is called with all that one client sent so far, and gives the names of the requests in
    it that it had not given before.
    """

    def __init__(self, target: int, of_one: Callable[[], Sent]) -> None:
        super().__init__(target)
        self.asked: Counter[str] = Counter()
        self._of_one = of_one
        self._sent: dict[Any, Sent] = {}

    def _upward(self, connection: Any, data: bytes) -> None:
        sent = self._sent.setdefault(connection, self._of_one())
        self.asked.update(sent.more(data))
        super()._upward(connection, data)


class WatchCount:
    """What clients asked of a server since this was made."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._asked, self._connections = Counter(watch.asked), watch.connections

    def since(self) -> tuple[dict[str, int], int]:
        """Return {request: times} and the number of connections."""
        asked = Counter(self._watch.asked)
        asked.subtract(self._asked)
        found = {name: number for name, number in sorted(asked.items()) if number}
        return found, self._watch.connections - self._connections


class Sent:
    """What one client sent, in a protocol."""

    def __init__(self) -> None:
        self._rest = b""

    def more(self, data: bytes) -> Iterator[str]:
        """Yield the names of the requests that end in `data`."""
        self._rest += data
        while (found := self._first(self._rest)) is not None:
            length, name = found
            self._rest = self._rest[length:]
            if name is not None:
                yield name

    def _first(self, data: bytes) -> tuple[int, str | None] | None:
        """Return (length, name) of the first message of `data`, None if there is no whole one.

        The name is None for what is no request, but belongs to one.
        """
        raise NotImplementedError


class SentHTTP(Sent):
    """HTTP/1.1: requests are called as AWS calls them, by their method on S3, or as the last word of their path."""

    def _first(self, data: bytes) -> tuple[int, str | None] | None:
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = len(head) + len(end) + int(fields.get("content-length", 0))
        if len(data) < length:
            return None
        method, path, _ = first.split()
        if "x-amz-content-sha256" in fields:
            return length, method
        return length, fields.get("x-amz-target", path.replace("/", ".")).rpartition(".")[2]


class SentPostgreSQL(Sent):
    """PostgreSQL's protocol 3, up to 17: a request is what is executed."""

    _STARTUP = 196608

    def __init__(self) -> None:
        super().__init__()
        self._started = False

    def _first(self, data: bytes) -> tuple[int, str | None] | None:
        kind = 1 if self._started else 0
        if len(data) < kind + 4 or len(data) < kind + int.from_bytes(data[kind : kind + 4], "big"):
            return None
        length = kind + int.from_bytes(data[kind : kind + 4], "big")
        if not self._started:
            self._started = int.from_bytes(data[4:8], "big") == self._STARTUP
            return length, LOGIN
        return length, {b"Q": "query", b"E": "query", b"p": LOGIN}.get(data[:1])


class SentMySQL(Sent):
    """MySQL's protocol: a request is a command, of which each begins to count its packets anew."""

    _QUIT = 1

    def _first(self, data: bytes) -> tuple[int, str | None] | None:
        if len(data) < 4 or len(data) < 4 + int.from_bytes(data[:3], "little"):
            return None
        length = 4 + int.from_bytes(data[:3], "little")
        if data[3] > 0:
            return length, LOGIN
        return length, None if data[4] == self._QUIT else "query"
