"""A connection that answers with the fuzzer's bytes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from cronlock.engines.wire.stream import ConnectionClosed, Stream

from .data import Data

#: The most bytes of a reply that a client may read before it gives up.
MOST = 8 << 20


class Answering(Stream):
    """A stream that answers each request with what `answer` returns, in pieces, and then hangs up, or never stops.

    It keeps to the real one's contract: every failure is BackendUnavailable.
    """

    __slots__ = ("_answer", "_chunks", "_endless", "_waiting", "received")

    def __init__(self, data: Data, answer: Callable[[bytes], bytes], deadline: float | None = None) -> None:
        super().__init__("server", time.monotonic() + 60 if deadline is None else deadline)
        self._answer = answer
        self._waiting = b""
        self._chunks = 1 if data.chance(16) else data.pick((3, 17, 65536, 65536))
        #: Repeated without end after the reply.
        self._endless = b""
        if data.chance(64):
            self._chunks, self._endless = 65536, (data.blob(8) or b"\0") * 8192
        self.received = 0

    def send(self, data: bytes) -> None:
        """Take a request."""
        self._left()
        self._waiting += self._answer(data)

    def receive(self) -> bytes:
        """Return the next piece of the answer."""
        self._left()
        piece, self._waiting = self._waiting[: self._chunks], self._waiting[self._chunks :]
        piece = piece or self._endless
        if not piece:
            raise ConnectionClosed("server: the server closed the connection")
        self.received += len(piece)
        assert self.received < MOST, "it takes an answer without end"
        return piece

    def quiet(self) -> bool:
        """Tell whether nothing is there to be read."""
        return not self._waiting

    def buffers(self) -> bool:
        """Tell whether something is there to be read."""
        return bool(self._waiting)

    def fileno(self) -> int:
        """Return a descriptor that stands for the connection."""
        return 0

    def close(self) -> None:
        """Hang up."""
        self._waiting = b""


@contextmanager
def served(data: Data, answer: Callable[[bytes], bytes], *, greets: bool = False) -> Iterator[None]:
    """Let each connection that is made lead to a server that answers so; one that `greets` answers nothing first."""

    def connect(deadline: float) -> Answering:
        stream = Answering(data, answer, deadline)
        if greets:
            stream.send(b"")
        return stream

    def connect_tcp(_name: str, _host: str, _port: int, deadline: float, _tls: object = None) -> Answering:
        return connect(deadline)

    def connect_unix(_name: str, _path: str, deadline: float) -> Answering:
        return connect(deadline)

    with patch.object(Stream, "connect_tcp", connect_tcp), patch.object(Stream, "connect_unix", connect_unix):
        yield


@contextmanager
def hurrying(step: float) -> Iterator[None]:
    """Let `step` seconds pass whenever somebody looks at the clock of deadlines: who asks until then is soon through.

    On a machine that is busy or not, the same input takes the same time.
    """
    ticks = itertools.count(1)
    with patch("time.monotonic", lambda: 1000.0 + step * next(ticks)):
        yield
