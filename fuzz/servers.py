"""Replies of servers: Redis, Cluster maps, memcached and ZooKeeper."""

from __future__ import annotations

import struct
from typing import Any

from cronlock.engines.memcached.meta import Connection
from cronlock.engines.redis import ensemble
from cronlock.engines.redis.resp import LONGEST_REPLY, Replies, ReplyError
from cronlock.engines.registry import open_backend
from cronlock.engines.zookeeper.cell import to_text
from cronlock.errors import BackendUnavailable, ForeignValue

from .data import Data
from .engine import SECRET, expecting, said
from .operations import KEY, a_record, operate
from .streams import Answering, served

_RESP_TOKENS = (
    *(b"\r\n", b"\n", b"$", b"*", b":", b"+", b"-", b"-1", b"$-1\r\n", b"*-1\r\n", b"*99999999\r\n", b"\xff", b"$1"),
)
_ERRORS = (
    *("ERR no", "NOAUTH x", "MOVED 1 h:1", "MOVED 1 :0", "ASK 1 h:1", "MOVED", "LOADING", "READONLY"),
    *(f"x {SECRET}", ""),
)
_META_TOKENS = (
    *(b"\r\n", b" ", b"VA", b"HD", b"EN", b"NS", b"EX", b"NF", b"c1", b"t-1", b"9" * 25, b"c0", b"-1", b"\xff", b"W"),
)
_META_LINES = (
    *(b"EN", b"HD", b"HD c5", b"HD t9", b"NS", b"EX", b"NF", b"HD t-1", b"MN", b"ERROR", b"CLIENT_ERROR bad"),
    *(b"SERVER_ERROR out", b"ERROR Too many open connections", b"", b"END", b"STAT uptime 9"),
)


def some_replies(data: Data) -> None:
    """Any bytes are replies, or raise BackendUnavailable, with bounded memory."""
    reply = b"".join(_reply(data, 0) for _ in range(3))
    text = data.maimed(reply, _RESP_TOKENS)
    stream = Answering(data, lambda _: text * data.pick((1, 1, 1, 50)))
    stream.send(b"")
    replies = Replies("server", stream.receive, SECRET)
    with expecting(BackendUnavailable):
        for _ in range(3):
            before = stream.received
            answer = replies.next()
            assert stream.received - before <= LONGEST_REPLY + (1 << 16)
            _look_at(answer)


def _look_at(answer: Any) -> None:
    if isinstance(answer, ReplyError):
        said(answer.refusal("server"))
    for inner in answer if isinstance(answer, list) else ():
        _look_at(inner)


def _reply(data: Data, depth: int) -> bytes:
    kind = data.below(7 if depth < 12 else 5)
    if kind == 0:
        return b"+OK\r\n"
    if kind == 1:
        return b"-%b\r\n" % data.pick(_ERRORS).encode()
    if kind == 2:
        return b":%d\r\n" % data.number()
    if kind == 3:
        return b"$-1\r\n"
    if kind == 4:
        return _bulk(data.blob(20))
    return _array([_reply(data, depth + 1) for _ in range(data.below(4))])


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _array(parts: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def a_redis(data: Data) -> None:
    """A server whose hashes hold anything, and who swaps them or not, gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        clock = _array([_bulk(_digits(data)), _bulk(_digits(data))])
        if b"\r\nSCAN\r\n" in request:
            names = [_bulk(b"cronlock:" + data.blob(5)) for _ in range(data.below(4))]
            reply = _array([_bulk(data.pick((b"0", b"0", b"7", b"x"))), _array(names)])
        elif b"\r\nINFO\r\n" in request:
            reply = _bulk(b"uptime_in_seconds:%b\r\n" % _digits(data))
        elif b"\r\nEVAL\r\n" not in request:
            reply = clock + _hash(data)
        elif data.chance(2):
            reply = b"*4\r\n:0\r\n" + clock + _hash(data)
        else:
            reply = b"*4\r\n:1\r\n" + clock + _bulk(_digits(data)) + _bulk(_digits(data))
        for command in (b"\r\nSELECT\r\n$1", b"\r\nAUTH\r\n"):
            reply = b"+OK\r\n" + reply if command in request else reply
        if b"\r\nWAIT\r\n" in request:
            reply += b":%d\r\n" % data.below(3)
        if data.chance(8):
            reply = _reply(data, 0)
        return data.maimed(reply, _RESP_TOKENS) if data.chance(3) else reply

    url = data.pick(("redis://{}h", "redis://u{}h/1", "redis://{}h?min_replicas=1", "redis+unix://{}/s"))
    url = url.format(f":{SECRET}@")
    with served(data, answer):
        operate(data, open_backend(url, 5.0))


def _digits(data: Data) -> bytes:
    return str(data.below(10**6)).encode() if not data.chance(6) else data.digits().encode("utf-8", "replace")


def _hash(data: Data) -> bytes:
    """Return whether there is a hash, and its fields."""
    if data.chance(4):
        return b":%d\r\n" % data.below(2) + _array([b"$-1\r\n"] * 5)
    text = a_record(data)
    words = [None, b"00ff", data.maimed(text, (b"\t", b"\n", b"%")) if data.chance(3) else text]
    words += [_digits(data), _digits(data)]
    if data.chance(8):
        words[data.below(5)] = data.pick((None, b"1", b"", b"x"))
    return b":1\r\n" + _array([b"$-1\r\n" if word is None else _bulk(word) for word in words])


def some_slots(data: Data) -> None:
    """A map of a cluster's slots is one, or refused."""

    def value() -> Any:
        return data.pick((0, 1, 16383, 16384, -1, None, b"h", b"", [], [b"h", 1], data.number()))

    answer = data.several(3, lambda: [value(), value(), *data.several(2, lambda: [value(), value()])])
    try:
        slots = ensemble.slots_of("node", ("asked", 1), answer)
    except (ValueError, BackendUnavailable):
        return
    for first, last, (host, port) in slots:
        assert host
        assert 0 < port < 65536
        assert 0 <= first <= last < 16384


def some_items(data: Data) -> None:
    """Any bytes are answers of memcached's meta protocol, or BackendUnavailable."""
    text = data.maimed(b"".join(_meta_answer(data) for _ in range(3)), _META_TOKENS)
    stream = Answering(data, lambda _: text)
    connection = Connection("server", stream)
    with expecting(BackendUnavailable, ForeignValue):
        for _ in range(2):
            kind = data.below(5)
            if kind == 0:
                item = connection.get(b"name")
                assert item is None or item.cas > 0
            elif kind == 1:
                cas, *_ = connection.swap(b"name", b"value", data.below(3), 9)
                assert cas is None or cas > 0
            elif kind == 2:
                connection.delete(b"name", data.below(3))
            elif kind == 3:
                assert all(value.isprintable() for value in connection.statistics().values())
            else:
                assert connection.uptime() >= 0


def _meta_answer(data: Data) -> bytes:
    if data.chance(3):
        value = data.blob(30)
        flags = data.pick((b"t9 c5", b"c5 t-1", b"t9", b"c0 t1", b""))
        return b"VA %d %b\r\n%b\r\n" % (len(value) + (data.below(3) - 1 if data.chance(6) else 0), flags, value)
    return data.pick(_META_LINES) + b"\r\n"


def a_memcached(data: Data) -> None:
    """A server whose items hold anything gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        reply = b""
        for line in request.split(b"\r\n"):
            if line.startswith(b"mg ") and line.endswith(b" v t c"):
                reply += _item(data)
            elif line.startswith(b"mg "):
                reply += data.pick((b"EN\r\n", b"HD t%d\r\n" % data.below(3_000_000)))
            elif line.startswith(b"ms "):
                reply += data.pick((b"HD c7\r\n", b"HD c7\r\n", b"NS\r\n", b"EX\r\n", b"NF\r\n"))
            elif line.startswith(b"stats"):
                reply += b"STAT uptime %d\r\nSTAT x y z\r\nEND\r\n" % data.below(1000)
        return data.maimed(reply, _META_TOKENS) if data.chance(3) else reply

    with served(data, answer):
        operate(data, open_backend(data.pick(("memcached://h", "memcached://h,g:1")), 5.0))


def _item(data: Data) -> bytes:
    value = b"lease=%d hold=%d swap=0\n%b" % (data.below(500), data.below(500), a_record(data))
    if data.chance(4):
        value = data.maimed(value)
    return b"EN\r\n" if data.chance(4) else b"VA %d t%d c5\r\n%b\r\n" % (len(value), data.below(2_600_000), value)


def a_zookeeper(data: Data) -> None:
    """A server that answers requests with anything gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        reply = b""
        for frame in _frames(request):
            if len(frame) > 20 and frame[:4] == b"\0\0\0\0":
                body = struct.pack("!iiqi16sb", 0, data.pick((4000, 4000, 4000, 0, -1)), 77, 16, bytes(16), 0)
            else:
                body = _zookeeper_answer(data, frame)
            body = data.maimed(body) if data.chance(6) else body
            length = len(body) if not data.chance(20) else data.number() % 2**31
            reply += struct.pack("!i", length) + body
        return reply

    url = data.pick(("zookeeper://h", f"zookeeper://u:{SECRET}@h,g:1/root"))
    with served(data, answer):
        # A server that keeps saying "somebody else was faster" is asked again until the time is over.
        operate(data, open_backend(url, 0.05))


def _frames(request: bytes) -> list[bytes]:
    frames = []
    while len(request) >= 4:
        length = struct.unpack("!i", request[:4])[0]
        frames.append(request[4 : 4 + length])
        request = request[4 + length :]
    return frames


def _zookeeper_answer(data: Data, frame: bytes) -> bytes:
    """Return header and body of an answer to a request; its kind is the second number."""
    xid, kind = struct.unpack("!ii", frame[:8].ljust(8, b"\0"))
    error = data.pick((-101, -102, -103, -108, -110, -112, -115, -4, 5)) if data.chance(8) else 0
    header = struct.pack("!iqi", xid if not data.chance(20) else data.pick((-1, -2, 0, 99)), data.below(10**6), error)
    if error:
        return header
    stat = struct.pack("!qqqqiiiqiiq", 1, 2, 10**12, 10**12 + data.below(10**6), *(data.below(3),) * 3, 77, 9, 0, 1)
    text = _zookeeper_node(data) if not data.chance(6) else data.blob(9)
    names = data.pick(([], [], [b"beef"], [b"beef"], [b""], [b"%", b"~clock"], [KEY.encode()]))
    listed = struct.pack("!i", len(names)) + b"".join(struct.pack("!i", len(name)) + name for name in names)
    bodies = {
        1: struct.pack("!i", 2) + b"/x",
        3: stat,
        4: struct.pack("!i", len(text)) + text + stat,
        5: stat,
        12: listed + stat,
        14: b"".join(data.pick(_zookeeper_results(stat)) for _ in range(data.below(4)))
        + struct.pack("!ibi", -1, 1, -1),
    }
    return header + bodies.get(kind, b"")


def _zookeeper_results(stat: bytes) -> tuple[bytes, ...]:
    """Return what a transaction's parts may say: written, deleted, made, or a failure."""
    failed = (struct.pack("!ibi", -1, 0, code) + struct.pack("!i", code) for code in (0, -2, -101, -103, -110))
    return (struct.pack("!ibi", 5, 0, 0) + stat, struct.pack("!ibi", 2, 0, 0), *failed)


def _zookeeper_node(data: Data) -> bytes:
    """Return the text of a key's node, mostly of a lease in the session that the server names."""
    hold = data.pick((0.0, 45.0, 1e9))
    text = to_text(data.pick(("beef", "beef", "")), "4d", 4.0, data.pick((0, 10**12)), hold, a_record(data))
    return data.maimed(text) if data.chance(12) else text


TARGETS = (some_replies, a_redis, some_slots, some_items, a_memcached, a_zookeeper)
