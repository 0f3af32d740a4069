"""The protocol of Redis: what comes from the network is never trusted."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.engines.redis.resp import DEEPEST_REPLY, LONGEST_REPLY, Replies, ReplyError, encode
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import Claim
from labs.impostors import listening

if TYPE_CHECKING:
    from cronlock.engines.redis.resp import Reply

SECRET = "correct-horse"


def reader(pieces: list[bytes]) -> Replies:
    """Return a reader of `pieces`, after which the connection ends."""
    rest = iter([piece for piece in pieces if piece])

    def receive() -> bytes:
        for piece in rest:
            return piece
        raise BackendUnavailable("test: the server closed the connection")

    return Replies("test", receive)


def plain(reply: Reply) -> object:
    """Return `reply` with errors as their text, to compare it."""
    if isinstance(reply, ReplyError):
        return reply.text
    return [plain(element) for element in reply] if isinstance(reply, list) else reply


def written(value: object) -> bytes:
    """Return `value` as a server writes it."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    assert isinstance(value, list)
    return b"*%d\r\n" % len(value) + b"".join(map(written, value))


SCALARS = st.none() | st.integers(-(2**62), 2**62) | st.binary(max_size=40)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_every_reply_is_read_however_it_is_cut(values: list[object], data: st.DataObject) -> None:
    """Replies come out as they were written, wherever the network cuts them."""
    stream = b"".join(map(written, values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    replies = reader([stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)])])
    assert [plain(replies.next()) for _ in values] == values
    replies.expect_end()


@pytest.mark.parametrize(
    "answer",
    [
        b"$%d\r\n" % (LONGEST_REPLY + 1),
        b"*%d\r\n" % (LONGEST_REPLY + 1),
        b"*1\r\n" * (DEEPEST_REPLY + 1) + b":1\r\n",
        b"+" + b"x" * (LONGEST_REPLY + 1),
        b"*2\r\n" + written(b"x" * (LONGEST_REPLY // 2)) * 2,
        b"$-2\r\n",
        b":\r\n",
        b": 1\r\n",
        b":1_0\r\n",
        b":+1\r\n",
        b"$3\r\nabcde",
        b"$1\r\n",
        b"\r\n",
        b"%1\r\n+a\r\n+b\r\n",
    ],
    ids=lambda answer: repr(answer[:20]),
)
def test_replies_beyond_the_rules_are_refused(answer: bytes) -> None:
    """Too long, too deep, a wrong number or the newer protocol: BackendUnavailable."""
    with pytest.raises(BackendUnavailable):
        reader([answer]).next()


def test_more_than_was_asked_for_is_refused() -> None:
    """A second reply to one request would be taken for the answer to the next."""
    replies = reader([b"+OK\r\n+OK\r\n"])
    replies.next()
    with pytest.raises(BackendUnavailable, match="more than"):
        replies.expect_end()


def test_many_small_elements_take_no_time() -> None:
    """The longest list that is let through is read in one go, not copied for each element."""
    count = LONGEST_REPLY // 4 - 4
    assert reader([b"*%d\r\n" % count + b":1\r\n" * count]).next() == [1] * count


def test_a_command_is_written_by_length() -> None:
    """No byte of a word can end it."""
    assert encode([b"GET", b"a\r\nb", b""]) == b"*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n"


def claim() -> Claim:
    """Return a claim like any other."""
    return Claim(key="job", owner="me", host="h", pid=1, program="true", ttl=10, hold=0)


def failure(port: int, timeout: float = 10) -> str:
    """Return why an acquire on the server at `port` failed, which never holds the password."""
    backend = open_backend(f"redis://user:{SECRET}@127.0.0.1:{port}", timeout)
    with pytest.raises(BackendUnavailable) as caught:
        backend.acquire(claim())
    backend.close()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a server that reads a request, answers the same always, and closes."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        # A reset would take back what was sent.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return serve


TIME = written([b"1795452207", b"592466"])
EMPTY = TIME + written(0) + written([None] * 5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "web server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "rediss://"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unexpected reply"),
        (b"", "closed the connection"),
        (b"+OK\r\n", "closed the connection"),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'user' 'correct-horse'\r\n", "authentication failed"),
        (b"+OK\r\n-ERR you sent correct-horse\x1b[2J\r\n", "the server refused"),
        (b"-DENIED Redis is running in protected mode because\r\n", "protected mode"),
        (b"-DENIED correct-horse\r\n", "protected mode"),
        (b"+OK\r\n" + TIME + b"-LOADING Redis is loading the dataset in memory\r\n", "still loading"),
        (b"+OK\r\n-MISCONF Redis is configured to save RDB snapshots, but\r\n", "cannot save"),
        (b"+OK\r\n-MASTERDOWN Link with MASTER is down\r\n", "lost its master"),
        (b"+OK\r\n-NOREPLICAS Not enough good replicas to write.\r\n", "too few replicas"),
        (b"-ERR max number of clients reached\r\n", "maxclients"),
        (b"+OK\r\n+OK\r\n", "closed the connection"),
        (b"+OK\r\n" + b"+OK\r\n" * 3, "unexpected reply"),
        (b"+OK\r\n" + written([b"1"]) + written(0) + written([None] * 5), "unexpected reply"),
        (b"+OK\r\n" + written([b"1", b"x"]) + written(0) + written([None] * 5), "unexpected reply"),
        (b"+OK\r\n" + written([1, 1]) + written(0) + written([None] * 5), "unexpected reply"),
        (b"+OK\r\n" + TIME + written(0) + written([None] * 4), "unexpected reply"),
        (b"+OK\r\n" + EMPTY + b"+more\r\n", "more than"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_a_server_of_another_kind_is_named(answer: bytes, expected: str) -> None:
    """A server that is not Redis, or plays with us, is unavailable, for a reason that helps."""
    with listening(saying(answer)) as port:
        assert expected in failure(port, timeout=3)


def test_an_endless_reply_is_cut_off() -> None:
    """A server that sends without end does not fill the memory."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"+" + b"x" * 65536)

    with listening(serve) as port:
        assert "too long" in failure(port)


def test_a_reply_in_drops_ends_with_the_time_limit() -> None:
    """A byte now and then does not prolong the request."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"+")
            time.sleep(0.02)

    with listening(serve) as port:
        assert "no answer in time" in failure(port, timeout=0.5)
