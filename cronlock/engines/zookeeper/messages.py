"""The messages of ZooKeeper's protocol: the requests that cronlock sends, and their answers.

Their fields are those of zookeeper.jute in ZooKeeper's sources, one behind the other: numbers with the highest byte
first; bytes and texts with their length before them, -1 for none. kazoo has them too, and imports hashlib, enum and
re for them, which takes a third of a run; so it only names errors here.
"""

from __future__ import annotations

from ...value import Value
from ..wire import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# What makes a request wait for no version, no watch, no error.
_NONE = -1
_EVERYTHING = 31
#: The xids that the servers give to a watch's event, and clients to credentials.
EVENT_XID, AUTH_XID = -1, -4


class Fields(fields.Fields):
    """An answer. Raises ValueError where it is cut off or malformed."""

    __slots__ = ()

    def number(self, size: int = 4) -> int:
        """Return a number of `size` bytes."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def flag(self) -> bool:
        """Return a truth value."""
        return self.take(1) != b"\0"

    def data(self) -> bytes:
        """Return bytes, empty if there are none."""
        return self.take(max(0, self.number()))

    def text(self) -> str:
        """Return a text."""
        return self.data().decode()


class Stat(Value):
    """What the servers know of a node."""

    #: The transaction that made it, and the leader's time of its last write, in milliseconds since 1970.
    czxid: int
    mtime: int
    #: The number of its writes, and the session that it ends with, if any.
    version: int
    ephemeralOwner: int

    @classmethod
    def read(cls, answer: Fields) -> Stat:
        """Read one of an answer."""
        czxid = answer.number(8)
        answer.take(16)  # The last transaction on it, and when it was made.
        mtime, version = answer.number(8), answer.number()
        answer.take(8)  # How often its children and its access changed.
        owner = answer.number(8)
        answer.take(16)  # The sizes of its data and its children, and the last transaction on these.
        return cls(czxid, mtime, version, owner)


class Header(Value):
    """The beginning of an answer."""

    xid: int
    zxid: int
    code: int

    @classmethod
    def read(cls, answer: Fields) -> Header:
        """Read that of an answer."""
        return cls(answer.number(), answer.number(8), answer.number())


class Opened(Value):
    """The answer to `connect`: the session, and its timeout in milliseconds, 0 or less if it is over."""

    timeout: int
    id: int
    password: bytes

    @classmethod
    def read(cls, answer: Fields) -> Opened:
        """Read one."""
        answer.number()  # The protocol's version.
        return cls(answer.number(), answer.number(8), answer.data())


class Result(Value):
    """The result of a part of a transaction; `value` is a `Stat` if that part answers one."""

    code: int
    value: Stat | None = None


class Request:
    """A request without its header."""

    __slots__ = ("body",)

    #: Its number in the protocol.
    type = 0

    def __init__(self, *parts: bytes) -> None:
        self.body = b"".join(parts)

    def numbered(self, xid: int) -> bytes:
        """Return it as it is sent, with a number that its answer repeats."""
        return _data(_int(xid) + _int(self.type) + self.body)

    def answer(self, answer: Fields) -> Any:  # noqa: ARG002 (most answers are read)
        """Read what the servers answer if there is no error."""
        return None


class _OnNode(Request):
    """A request that answers what the servers know of a node."""

    __slots__ = ()

    def answer(self, answer: Fields) -> Stat:
        """Return the node's stat."""
        return Stat.read(answer)


class Create(Request):
    """Make a node: of `flags`, 1 makes it ephemeral."""

    __slots__ = ()
    type = 1

    def __init__(self, path: str, data: bytes, acl: bytes, flags: int) -> None:
        super().__init__(_text(path), _data(data), acl, _int(flags))


class Delete(Request):
    """Delete a node that has this version, or -1 for any."""

    __slots__ = ()
    type = 2

    def __init__(self, path: str, version: int) -> None:
        super().__init__(_text(path), _int(version))


class Exists(_OnNode):
    """Ask for a node's stat."""

    __slots__ = ()
    type = 3

    def __init__(self, path: str) -> None:
        super().__init__(_text(path), b"\0")


class GetData(Request):
    """Ask for a node's data and stat; with `watch`, for an event once one of them changes."""

    __slots__ = ()
    type = 4

    def __init__(self, path: str, watch: bool = False) -> None:
        super().__init__(_text(path), bytes([watch]))

    def answer(self, answer: Fields) -> tuple[bytes, Stat]:
        """Return both."""
        return answer.data(), Stat.read(answer)


class SetData(_OnNode):
    """Write a node that has this version, or -1 for any."""

    __slots__ = ()
    type = 5

    def __init__(self, path: str, data: bytes, version: int) -> None:
        super().__init__(_text(path), _data(data), _int(version))


class Sync(Request):
    """Let what the connection reads from now on be no older than this request."""

    __slots__ = ()
    type = 9

    def __init__(self, path: str) -> None:
        super().__init__(_text(path))


class GetChildren2(Request):
    """Ask for the names of a node's children, and its stat; with `watch`, for an event once there are others."""

    __slots__ = ()
    type = 12

    def __init__(self, path: str, watch: bool = False) -> None:
        super().__init__(_text(path), bytes([watch]))

    def answer(self, answer: Fields) -> tuple[list[str], Stat]:
        """Return both."""
        count = answer.number()
        if count > len(answer):
            raise ValueError("too many")
        return [answer.text() for _ in range(count)], Stat.read(answer)


class CheckVersion(Request):
    """A part of a transaction: fail unless a node has this version, or -1 for any."""

    __slots__ = ()
    type = 13

    def __init__(self, path: str, version: int) -> None:
        super().__init__(_text(path), _int(version))


class Transaction(Request):
    """Do all of its parts or none."""

    __slots__ = ()
    type = 14

    def __init__(self, parts: Sequence[Request]) -> None:
        bodies = (_part(part.type) + part.body for part in parts)
        super().__init__(*bodies, _part(_NONE, is_end=True))

    def answer(self, answer: Fields) -> list[Result]:
        """Return the result of each part."""
        results: list[Result] = []
        while True:
            kind, is_end = answer.number(), answer.flag()
            answer.number()  # The code once more.
            if is_end:
                return results
            if kind == Create.type:
                answer.data()  # The path.
                results.append(Result(0))
            elif kind == SetData.type:
                results.append(Result(0, Stat.read(answer)))
            elif kind in (Delete.type, CheckVersion.type):
                results.append(Result(0))
            elif kind == _NONE:
                results.append(Result(answer.number()))
            else:
                raise ValueError("no part of a transaction")


class Auth(Request):
    """Act as a user from now on."""

    __slots__ = ()
    type = 100

    def __init__(self, scheme: str, credentials: str) -> None:
        super().__init__(_int(0), _text(scheme), _text(credentials))


class Close(Request):
    """End the session."""

    __slots__ = ()
    type = -11


def connect(milliseconds: int, session: int, password: bytes) -> bytes:
    """Return the request to begin a session, or to go on with one.

    It claims no transaction number as seen: a read of a key is current by itself, and a wiped server would refuse the
    session rather than report its end.
    """
    return _data(b"".join((_int(0), _int(0, 8), _int(milliseconds), _int(session, 8), _data(password), b"\0")))


def _int(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big", signed=True)


def _data(data: bytes) -> bytes:
    return _int(len(data)) + data


def _text(text: str) -> bytes:
    return _data(text.encode())


def _part(kind: int, *, is_end: bool = False) -> bytes:
    return _int(kind) + bytes([is_end]) + _int(_NONE)


#: Who may do everything with a node: all, and whoever makes it.
OPEN_ACL = _int(1) + _int(_EVERYTHING) + _text("world") + _text("anyone")
CREATOR_ACL = _int(1) + _int(_EVERYTHING) + _text("auth") + _text("")
