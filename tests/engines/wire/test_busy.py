"""Servers without room for another connection: asked again, within the limit, and only then called unavailable."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cronlock.engines.wire import stream
from cronlock.engines.wire.stream import ConnectionClosed, ServerBusy, Stream, retry_while_busy
from cronlock.errors import BackendUnavailable
from labs.servers.process import HOST

from .test_stream import LIMIT, black_hole

#: /proc/net/tcp's word for a connection that was asked for.
_SYN_SENT = "02"


def sources(port: int) -> set[str]:
    """Return the local ports of connections to `port` that are being asked for."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {words[1] for words in lines if words[2].endswith(f":{port:04X}") and words[3] == _SYN_SENT}


def test_full_queue_is_tried_again() -> None:
    """A connection that a full backlog dropped is tried again before the kernel would."""
    with black_hole() as hole:
        seen: set[str] = set()

        def connect() -> None:
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                Stream.connect_tcp("name", HOST, hole, time.monotonic() + LIMIT)

        thread = threading.Thread(target=connect)
        thread.start()
        while thread.is_alive():
            seen |= sources(hole)
            time.sleep(0.02)
        assert len(seen) >= 3, "the kernel repeats its request from the same port"


def test_busy_unix_socket_is_tried_again(tmp_path: Path) -> None:
    """A Unix socket's full backlog is reported at once, as "try again"."""
    place = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(place)
        listener.listen(0)
        caller.connect(place)
        deadline = time.monotonic() + LIMIT
        with pytest.raises(ServerBusy):
            Stream.connect_unix("name", place, deadline)
        tries = 0

        def connect() -> Stream:
            nonlocal tries
            tries += 1
            if tries == 3:
                listener.accept()[0].close()
            return Stream.connect_unix("name", place, deadline)

        retry_while_busy(deadline, connect).close()
        assert tries == 3


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments of a clock that begins at 100 and on which only pauses take time; the last one is now."""
    moments = [100.0]

    def sleep(seconds: float) -> None:
        moments.append(moments[-1] + seconds)

    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: moments[-1], sleep=sleep))
    return moments


def test_patience_ends_in_time(moments: list[float]) -> None:
    """A server that stays busy is given up within the limit, for its own reason."""

    def refuse() -> None:
        raise ServerBusy("no room")

    with pytest.raises(ServerBusy, match="no room"):
        retry_while_busy(101.0, refuse)
    assert len(moments) > 2
    assert moments[-1] < 101.0


def test_what_it_said_is_kept_when_time_is_over(moments: list[float]) -> None:
    """An attempt that the limit ends does not hide why there were others; the error stays what it is."""

    def refuse() -> None:
        if len(moments) < 3:
            raise ServerBusy("no room")
        moments.append(101.0)
        raise ConnectionClosed("no answer in time")

    with pytest.raises(ConnectionClosed, match=r"^no answer in time; before that: no room$"):
        retry_while_busy(101.0, refuse)
    assert len(moments) == 4


def test_a_dead_server_is_no_busy_one() -> None:
    """A closed port is reported at once, not tried until the deadline."""
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        tries = 0

        def connect() -> Stream:
            nonlocal tries
            tries += 1
            return Stream.connect_tcp("name", HOST, unused.getsockname()[1], time.monotonic() + LIMIT)

        with pytest.raises(BackendUnavailable, match="connection refused"):
            retry_while_busy(time.monotonic() + LIMIT, connect)
        assert tries == 1


def test_last_words_are_heard() -> None:
    """A server's last words are read, although sending found the connection closed."""
    with socket.create_server((HOST, 0)) as listener:
        stream = Stream.connect_tcp("name", HOST, listener.getsockname()[1], time.monotonic() + LIMIT)
        peer, _ = listener.accept()
        peer.sendall(b"too many")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        for _ in range(2):
            stream.send(b"request")
        assert stream.receive() == b"too many"
        with pytest.raises(ConnectionClosed):
            stream.receive()
