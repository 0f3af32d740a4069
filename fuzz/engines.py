"""What the servers of the newer engines answer: HTTP, etcd, AWS, MySQL and PostgreSQL; and what lies in them."""

from __future__ import annotations

import base64
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from cronlock.engines.dynamodb import item as dynamodb_item
from cronlock.engines.dynamodb import store as dynamodb
from cronlock.engines.etcd import api as etcd
from cronlock.engines.etcd import cell as etcd_cell
from cronlock.engines.etcd import held as etcd_held
from cronlock.engines.etcd import names as etcd_names
from cronlock.engines.etcd.messages import KeyValue, text_of
from cronlock.engines.mysql import sql as mysql_sql
from cronlock.engines.postgresql import connection as postgresql_connection
from cronlock.engines.postgresql import servers as postgresql
from cronlock.engines.postgresql import sql as postgresql_sql
from cronlock.engines.registry import open_backend
from cronlock.engines.s3 import store as s3
from cronlock.engines.sqs import backend as sqs
from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.url import URL
from cronlock.engines.wire import aws_credentials, aws_signature, sql
from cronlock.engines.wire.http import Connection
from cronlock.engines.wire.stream import ServerBusy, protocol_error
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.server_clock import ServerClock
from cronlock.lease.store import NO_HOLD
from cronlock.testing.simulated import SimulatedClock

from .data import Data
from .engine import SECRET, expecting, said
from .operations import KEY, a_claim, a_record, operate
from .streams import hurrying, served

_HTTP_TOKENS = (
    *(b"\r\n", b"\n", b"\r\n\r\n", b": ", b"HTTP/1.1 ", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"\xff", b"9" * 5000, b"\0"),
    *(b"Connection: close\r\n", b"HTTP/1.1 101 x\r\n\r\n", SECRET.encode(), b"\x85"),
)
_STATUSES = (200, 200, 204, 304, 400, 403, 404, 500, 503, 999)
#: Parts of JSON that are none of what was asked for.
_PARTS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.5, 1 << 63, 1 << 200, float("inf"), float("nan"), "", " ", "nan", "²", "-1"),
    *("\ud800", "a\nb", "\x1b[2J", "x" * 9000, "9" * 400, "9" * 5000, "1e999", [], {}, [[]], [None], ["a"]),
    *({"S": 5}, {"N": []}, {"S": "\ud800"}, {"N": "9" * 6000}, {"N": "x" * 6000}, {"a": {}}),
)
#: Seconds by which clocks differ from what is right.
_SKEWS = (0.0, 0.0, 0.0, 0.0, 1.0, -3.0, 40.0, -400.0, 1e5)
_YEAR = 365 * 86400.0


# HTTP and JSON.


def _http(data: Data, status: int, body: bytes, lines: Sequence[bytes] = ()) -> bytes:
    """Return an answer, as servers frame it, or nearly so."""
    head = [b"HTTP/1.1 %d so" % status, *lines]
    kind = data.below(12)
    if kind == 0:
        head.append(b"Transfer-Encoding: chunked")
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif kind == 1:
        head.append(b"Connection: close")
    else:
        head.append(b"Content-Length: %d" % len(body))
    text = b"\r\n".join(head) + b"\r\n\r\n" + body
    if kind == 2:
        text = b"HTTP/1.1 100 Continue\r\n\r\n" * data.pick((1, 1, 20)) + text
    return data.maimed(text, _HTTP_TOKENS) if data.chance(12) else text


def _read(request: bytes) -> tuple[str, dict[str, str], Any]:
    """Return path, headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return first.split(" ")[1], headers, json.loads(body) if body[:1] in (b"{", b"[") else None


def _bent(data: Data, value: Any) -> Any:
    """Return what is to be JSON with one of its parts made another, or left out."""
    if isinstance(value, dict) and value and not data.chance(5):
        name = data.pick([*value])
        if data.chance(5):
            return {other: part for other, part in value.items() if other != name}
        return {**value, name: _bent(data, value[name])}
    if isinstance(value, list) and value and not data.chance(5):
        at = data.below(len(value))
        return [*value[:at], _bent(data, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and value and data.chance(2):
        return data.maimed_text(value, ("\t", "\n", "%", "=", "\ud800", "owner=", "\x00", "9" * 30))
    return data.pick(_PARTS)


def _json(data: Data, value: Any) -> bytes:
    """Return JSON that mostly says what is right."""
    return json.dumps(_bent(data, value) if data.chance(6) else value).encode()


def an_http_answer(data: Data) -> None:
    """Any bytes are an answer of HTTP, or BackendUnavailable."""

    def answer(_request: bytes) -> bytes:
        lines = data.several(2, lambda: data.pick((b"Date: x", b"X-A: \xe4", b"x-a: b", b"Connection: close")))
        text = _http(data, data.pick(_STATUSES), data.blob(40) * data.pick((1, 1, 1, 200)), lines)
        return data.maimed(text, _HTTP_TOKENS) if data.chance(2) else text

    connection = Connection("server", "h", 80, longest=data.pick((1 << 20, 400)))
    token = data.pick(("ab", "ab", SECRET, "a\nb", "\ud800", "a b", ""))
    with served(data, answer):
        for _ in range(2):
            with expecting(BackendUnavailable):
                response = connection.request("POST", "/", {"Authorization": token}, b"{}", time.monotonic() + 5.0)
                assert 200 <= response.status < 1000
                assert len(response.body) <= 1 << 20
                assert all(name == name.lower() for name in response.headers)
    connection.close()


# etcd.

_ETCD_ERRORS = (
    *("etcdserver: requested lease not found", "etcdserver: lease already exists", "etcdserver: no leader"),
    *("etcdserver: invalid auth token", "etcdserver: user name is empty", "etcdserver: authentication is not enabled"),
    *("etcdserver: permission denied", "etcdserver: mvcc: database space exceeded", "etcdserver: request is too large"),
    *("etcdserver: authentication failed, invalid user ID or password", "context deadline exceeded", "", "a\nb"),
    *("x" * 9000, "\ud800", f"bad password {SECRET}"),
)
_ETCD_URLS = (
    *("etcd://h", "etcd://h,g:1,[::1]/root?prefix=p", f"etcd://u:{SECRET}@h", f"etcd://u:{SECRET}@h,g:1/root"),
)


def an_etcd(data: Data) -> None:
    """A gateway that answers anything gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        path, _, message = _read(request)
        if data.chance(10 if path != "/v3/auth/authenticate" else 3):
            # Only who was told the password can repeat it.
            text, code = data.pick(_ETCD_ERRORS if SECRET in url else _ETCD_ERRORS[:-1]), data.below(17)
            failed: dict[str, Any] = {"error": text, "message": text, "code": code}
            if data.chance(4):
                failed = {"error": {"grpc_code": code, "message": text}}
            return _http(data, data.pick(_STATUSES), _json(data, failed))
        if data.chance(40):
            return _http(data, data.pick(_STATUSES), data.pick((b"", b"CommonName of client", b"[" * 9999, b"[]")))
        return _http(data, 200, _json(data, _etcd_answer(data, path, message)))

    url = data.pick(_ETCD_URLS)
    with served(data, answer), hurrying(data.pick((0.01, 0.01, 0.3))):
        backend = open_backend(url, 5.0)
        with patch.object(etcd, "_PAGE", 2), patch.object(etcd_held, "_LINGERING", 100.0):
            operate(data, backend)


def _etcd_answer(data: Data, path: str, message: Any) -> dict[str, Any]:
    header = {"revision": data.pick(("7", "7", "7", 8))}
    if path == "/v3/kv/txn":
        done = not message["compare"] or not data.chance(3)
        parts = message["success" if done else "failure"]
        return {
            "header": header,
            "responses": [_etcd_part(data, part) for part in parts],
            **({"succeeded": True} if done else {}),
        }
    if path == "/v3/lease/grant":
        return {"ID": message["ID"], "TTL": message["TTL"]}
    if path == "/v3/lease/timetolive":
        return {"ID": message["ID"], "TTL": data.pick(("5", "400", "-1", 0))}
    if path == "/v3/kv/range":
        first = base64.b64decode(message["key"]).rstrip(b"\0")
        start = first[: first.index(b"/record/") + 8]
        names = sorted(data.pick((b"a", b"billing", b"%C3%A4", b"z", b"%", data.blob(5))) for _ in range(data.below(4)))
        return {"kvs": [{"key": text_of(start + name)} for name in names]}
    return {"token": data.pick(("tok.7", "tok.7", "tok.7", "", "a\nb", "\xe4"))} if "auth" in path else {}


def _etcd_part(data: Data, part: dict[str, Any]) -> dict[str, Any]:
    """Return what a part of a transaction is answered."""
    if "request_range" not in part:
        return {"response_put": {}}
    key = base64.b64decode(part["request_range"]["key"])
    found: list[KeyValue] = []
    if b"/record/" in key:
        found += [] if data.chance(4) else [_kept(data, key, _maybe_maimed(data, a_record(data)))]
    elif data.chance(2):
        found += _held(data, key)
    return {"response_range": {"kvs": [_as_json(one) for one in found]}} if found else {"response_range": {}}


def _held(data: Data, key: bytes) -> list[KeyValue]:
    """Return what lies below ``held/``."""
    lease, hold = (etcd_held.Held(b"", 0, data.pick((0.0, 45.0, 3000.0)), 1.7e9).text for _ in range(2))
    both = [_kept(data, key + b"lease", _maybe_maimed(data, lease)), _kept(data, key + b"hold/x", hold)]
    return data.pick((both, both[:1], both[1:], [_kept(data, key + b"x" * data.pick((0, 9000)), b"")]))


def _kept(data: Data, key: bytes, value: bytes) -> KeyValue:
    return KeyValue(key, value, data.pick((7, 7, 8)), data.pick((77, 77, 77, 0)))


def _as_json(one: KeyValue) -> dict[str, Any]:
    parts = {"key": text_of(one.key), "value": text_of(one.value)}
    return {**parts, "mod_revision": str(one.modified), "lease": one.lease}


def _maybe_maimed(data: Data, text: bytes) -> bytes:
    return data.maimed(text) if data.chance(12) else text


def an_etcd_cell(data: Data) -> None:
    """Whatever lies in etcd is a cell, or ForeignValue; what a cell's keys say is read again."""
    names = etcd_names.Names("cronlock", KEY)
    found = [_kept(data, names.record, _maybe_maimed(data, a_record(data))), *_held(data, names.held)]
    with expecting(ForeignValue):
        cell = etcd_cell.cell_of(names, found, data.below(1000))
        assert 0 <= cell.lease < 1e15
        assert 0 <= cell.hold < 1e15
        assert (cell.lease > 0, cell.hold > 0) == (cell.lease_key is not None, len(cell.hold_keys) > 0)
        for one in cell.hold_keys:
            assert etcd_held.read(KeyValue(one.key, one.text, one.modified, one.lease)) == one


# AWS.

_AWS_ERRORS = (
    *("ProvisionedThroughputExceededException", "ExpiredTokenException", "UnrecognizedClientException"),
    *("InvalidSignatureException", "AccessDeniedException", "RequestTimeTooSkewed", "ResourceInUseException"),
    *("ResourceNotFoundException", "ConditionalCheckFailedException", "com.amazonaws.sqs#QueueDoesNotExist"),
    *("ReceiptHandleIsInvalid", "InvalidParameterValue", "InternalServerError", "MissingAuthenticationToken"),
    *("a.b#ValidationException:http://x", "x" * 9000, "a\nb", f"x{SECRET}", "\ud800", ""),
)
_AWS_TEXTS = (
    *("", "no", "a\nb", f"your secret is {SECRET}", "x" * 9000, "Signature expired: 1", "\ud800", "\x1b[2J"),
    *(f"{'x' * 297}{SECRET}", f"AttemptId {SECRET}", None, 5),
)
_REFUSED = {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "no"}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _date(at: float) -> str:
    moment = time.gmtime(at)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year} {time.strftime('%H:%M:%S', moment)} GMT"


@contextmanager
def _an_account(data: Data, clock: SimulatedClock, answer: Callable[[str, Any], tuple[int, Any]]) -> Iterator[None]:
    """Let an AWS service answer each action and its request with a status and what `answer` makes of them."""
    skew, has_date, aws_errors = data.pick(_SKEWS), not data.chance(8), data.pick((4, 12, 12, 40))

    def serve(request: bytes) -> bytes:
        clock.advance(data.pick((0.0, 0.0, 0.05, 0.05, 0.05, 3.0, 400.0, 50_000.0)) if data.chance(4) else 0.01)
        fields = _read(request)[1]
        target = fields.get("x-amz-target")
        action = target.rpartition(".")[2] if target else request.partition(b" ")[0].decode()
        if data.chance(aws_errors):
            status, body = data.pick((400, 400, 400, 403, 500, 503, 200)), _aws_error(data)
        else:
            status, body = answer(action, _read(request)[2])
        lines = [f"Date: {_date(clock.wall() + skew)}".encode()] if has_date else []
        if data.chance(20):
            lines = [b"Date: " + data.pick((b"", b"x", b"\xff", b"Sun, 99 Nov 1994 08:49:37 GMT"))]
        if data.chance(20):
            lines.append(b"x-amzn-errortype: " + data.pick((b"a:b", b"\xff\x85", SECRET.encode())))
        if isinstance(body, bytes):
            lines += [] if data.chance(20) else [b'ETag: "%b"' % data.pick((b"a", b"b", b"", b"\xff"))]
        return _http(data, status, body if isinstance(body, bytes) else _json(data, body), lines)

    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAFUZZ",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
        "AWS_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with patch.dict(os.environ, environment), served(data, serve), hurrying(0.05):
        yield


def _aws_error(data: Data) -> dict[str, Any]:
    return {"__type": data.pick(_AWS_ERRORS), data.pick(("message", "Message")): data.pick(_AWS_TEXTS)}


def a_dynamodb(data: Data) -> None:
    """A table whose items hold anything gives answers, or the errors of backends."""
    clock = SimulatedClock()

    def answer(action: str, request: Any) -> tuple[int, Any]:
        if action == "UpdateItem":
            return _updated(data, request, clock.wall())
        if action == "GetItem":
            return 200, {} if data.chance(4) else {"Item": _item(data, clock.wall())}
        if action == "Scan":
            names = data.several(3, lambda: data.pick(("cronlock:billing", "cronlock:", "x", "cronlock:\ud800")))
            scanned: dict[str, Any] = {"Items": [{"cronlock": {"S": name}} for name in names]}
            if data.chance(3):
                scanned["LastEvaluatedKey"] = {"cronlock": {"S": data.pick(("cronlock:a", "cronlock:b"))}}
            return 200, scanned
        return 200, {"Table": {"TableStatus": data.pick(("ACTIVE", "ACTIVE", "CREATING", 5))}}

    more = data.pick(("", "", "&strict=yes", "&strict=yes", "&create=yes", "&prefix=p"))
    with _an_account(data, clock, answer):
        store = dynamodb.open_store(URL(f"dynamodb://table?endpoint=http://h{more}"), 5.0)
        store.service.use_clock(clock)
        operate(data, Leases(store, clock))


def _updated(data: Data, request: Any, now: float) -> tuple[int, Any]:
    """Return the answer to an update: done mostly, or refused with or without what is there."""
    if data.chance(3):
        return 400, _REFUSED if data.chance(4) else {**_REFUSED, "Item": _item(data, now)}
    return 200, {"Attributes": {"rev": request["ExpressionAttributeValues"].get(":rev")}}


def _item(data: Data, now: float) -> dynamodb_item.Item:
    """Return an item that anything may be known of a key by."""

    def end() -> dict[str, str]:
        return {"N": f"{0.0 if data.chance(2) else now + data.pick((-1e6, -1.9, 0.0, 20.0, _YEAR)):.3f}"}

    text, rev = a_record(data).decode(), data.pick("abc")
    item = {
        **{"v": {"N": data.pick(("2", "2", "2", "2", "2", "2", "1"))}, "rev": {"S": rev}, "record": {"S": text}},
        **{"lapse": end(), "hold": end(), "ttl": {"N": data.pick(("0", "5.000", "300.000"))}},
    }
    if data.chance(2):
        item["mark"] = {"S": f"{rev} {now + data.pick((-400.0, 0.0)):.3f}"}
    return item


def an_item(data: Data) -> None:
    """Whatever lies in DynamoDB is a cell, which is written as it was read, or ForeignValue."""
    item: Any = _item(data, 1.7e9)
    for _ in range(data.below(3)):
        item = _bent(data, item)
    clock = SimulatedClock()
    times = ServerClock("AWS", clock, [], 1.0)
    times.observe(clock.now() - 1.0, clock.now(), 1.7e9)
    with expecting(ForeignValue):
        cell = dynamodb_item.decode(item)
        if cell.version is not None:
            assert dynamodb_item.decode(dynamodb_item.encode(cell)) == cell.but(mark="")
        cell.judge(times)
        assert 0 <= cell.lease < 1e12
        assert 0 <= cell.hold < 1e12
        assert 0 <= cell.unproven(times) < 1e12
        holds: tuple[Any, ...] = (0.0, 5.0, cell, NO_HOLD)
        after = cell.followed_by(b"x", data.pick((None, 0.0, 5.0)), data.pick(holds), 1.7e9)
        assert dynamodb_item.decode(dynamodb_item.encode(after)).data == b"x"


def an_s3(data: Data) -> None:
    """A bucket whose objects hold anything gives answers, or the errors of backends."""
    clock = SimulatedClock()

    def answer(action: str, _: Any) -> tuple[int, Any]:
        if data.chance(6):
            codes = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchBucket", "SlowDown")
            code = data.pick(codes)
            return data.pick((404, 409, 412, 503)), f"<Error><Code>{code}</Code></Error>".encode()
        if action == "GET":
            return 200, _content(data, clock.wall())
        return 200, b""

    with _an_account(data, clock, answer):
        more = data.pick(("", "", "&create=yes"))
        store = s3.open_store(URL(f"s3://bucket/p?endpoint=http://h{more}"), 5.0)
        store.service.use_clock(clock)
        operate(data, Leases(store, clock))


def _content(data: Data, now: float) -> bytes:
    """Return what an object may have in it, or a page of a list."""
    if data.chance(4):
        names = data.several(3, lambda: data.pick(("p/a", "p/%2E", "p/.cronlock", "x", "p/b%2fc", "p/&amp;")))
        page = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in names)
        token = "<NextContinuationToken>t</NextContinuationToken>" if data.chance(3) else ""
        return data.maimed(f"<L>{page}{token}</L>".encode())
    ends = (0.0 if data.chance(2) else now + data.pick((-1e6, -1.9, 0.0, 20.0, _YEAR)) for _ in range(2))
    head = "\t".join(("cronlock-s3=1", "a", *(f"{end:.3f}" for end in ends), data.pick(("0", "5.000", "300.000"))))
    content = head.encode() + b"\n" + a_record(data)
    return data.maimed(content) if data.chance(4) else content


def an_object(data: Data) -> None:
    """Whatever lies in a bucket is a cell, which is written as it was read, or ForeignValue."""
    with expecting(ForeignValue):
        cell = s3.decode(_content(data, 1.7e9), "tag")
        assert s3.decode(s3.encode(cell), "tag") == cell


def an_sqs(data: Data) -> None:
    """A queue that delivers anything gives answers, or the errors of backends."""
    clock = SimulatedClock()

    def answer(action: str, request: Any) -> tuple[int, Any]:
        if action == "ReceiveMessage":
            return 200, {} if data.chance(3) else {"Messages": [_message(data, clock.wall())]}
        if action == "GetQueueAttributes":
            found = {**sqs_queue.ATTRIBUTES, **{name: str(data.below(2)) for name in request["AttributeNames"][:3]}}
            if data.chance(8):
                found[data.pick([*found, "RedrivePolicy"])] = data.pick(("²", "9" * 5000, "a\nb", "x" * 9000, "x"))
            return 200, {"Attributes": found}
        return 200, {}

    def fails(action: str, request: Any) -> tuple[int, Any]:
        if data.chance(6):
            code = data.pick(("com.amazonaws.sqs#QueueDoesNotExist", "ReceiptHandleIsInvalid", "InvalidParameterValue"))
            return 400, {"__type": code, "message": data.pick(_AWS_TEXTS)}
        return answer(action, request)

    more = data.pick(("", "", "&create=yes", "&account=123456789012"))
    with _an_account(data, clock, fails):
        backend = sqs.open_backend(URL(f"sqs://queue?endpoint=http://h{more}"), 5.0)
        backend.use_clock(clock)
        operate(data, backend)


def _message(data: Data, now: float) -> dict[str, Any]:
    age = data.pick((0.0, 1.0, 100.0, -100.0, 3 * 86400.0))
    return {
        "MessageId": "id-1",
        "ReceiptHandle": data.pick(("handle", "handle", "x" * 2000)),
        "Body": data.pick((sqs_queue.SEED, sqs_queue.SEED, sqs_queue.HEIR, sqs_queue.HEIR, "else\nwhere")) + "\nmore",
        "Attributes": {"SentTimestamp": str(int((now - age) * 1000))},
    }


def a_message(data: Data) -> None:
    """What SQS delivers is a token, or ForeignValue, or a ValueError that says what is wrong."""
    message: Any = _message(data, 1.7e9)
    if data.chance(2):
        message = _bent(data, message)
    try:
        with expecting(ForeignValue):
            token = sqs_queue.read_message(message if isinstance(message, dict) else {}, 1.7e9)
            assert sqs_queue.quarantine(token, a_claim(data)) >= 0
    except ValueError as error:
        said(error)


def a_date(data: Data) -> None:
    """Any text is the date of an answer, or none."""
    at = float(data.below(1 << 24)) * 2000.0 + 1e9
    assert aws_signature.parse_date(_date(at)) == at
    strange = (" ", ":", "-1", "9" * 5000, "²", "٣", "1_0", "GMT", "nan")
    found = aws_signature.parse_date(data.maimed_text(_date(at), strange))
    assert found is None or 0 < found < 1e12
    try:
        aws_credentials.parse_time(
            data.maimed_text("2024-02-29T12:00:00Z", ("T", "Z", "-", "9" * 6000, "\n", ".", "+00:00", "x" * 6000))
        )
    except ValueError as error:
        said(error)


_METADATA_URLS = (
    *("http://127.0.0.1/role", "http://[::1]:80/a?b", "http://169.254.170.2/", "http://elsewhere/", "x://y"),
)


def some_credentials(data: Data) -> None:
    """Whatever the services of containers and instances say gives credentials, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        path = _path(request)
        fields: dict[str, Any] = {"AccessKeyId": "AKIA", "SecretAccessKey": SECRET, "Token": SECRET}
        if data.chance(2):
            fields["Expiration"] = "2030-01-01T00:00:00Z"
        if data.chance(4):
            fields["Code"] = data.pick(("Success", "Failed", "a\nb" * 999, 5))
        body = _json(data, fields)
        if path.endswith("/token"):
            body = data.pick((b"AQAE", b"AQAE", b"a b", b"\xff", b"", b"a\nb", b"x" * 9000))
        elif path.endswith("/security-credentials/"):
            body = data.pick((b"role", b"role", b"role\nother", b"a b", b"", b"x" * 9000))
        elif path.endswith("/region"):
            body = data.pick((b"eu-west-1", b"eu-west-1", b"", b"x" * 9000, b"EU", b"a\nb"))
        return _http(data, data.pick(_STATUSES) if data.chance(5) else 200, body)

    environment = data.pick(
        (
            {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"},
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": data.pick(_METADATA_URLS),
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRET,
            },
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6"},
            {},
        )
    )
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(aws_credentials, "_FILES", ()),
        served(data, answer),
        hurrying(0.01),
        expecting(BackendUnavailable, ConfigError),
    ):
        region, endpoint = data.pick((None, None, "eu-west-1")), data.pick((None, None, "http://h"))
        finder = aws_credentials.Finder("sqs", "sqs://queue", region=region, endpoint=endpoint)
        found = finder.find(time.monotonic() + 5.0)
        assert finder.region
        assert aws_credentials.split_endpoint(finder.endpoint or "")
        assert SECRET not in repr(found)
        if SECRET in (found.secret, found.token):
            assert SECRET not in found.scrub(f"it is {SECRET}")


def _path(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode("latin-1")


# SQL.

_NAME_TOKENS = ("\t", "=", "%", "%41", "%ZZ", "% 1", "%-1", "%+1", "\n", "%0A")
#: What a number of a row may be, as text.
_ROW_NUMBERS = ("0", "1", "1700000000000000", "1700000300000000", "-1", "9" * 15)


def some_names(data: Data) -> None:
    """Any key has a name, which leads back to it; any other name is some key."""
    name = _as_stored(data.text(12))
    assert postgresql_sql.decode(postgresql_sql.code(name)) == name
    assert isinstance(postgresql_sql.decode(_as_stored(data.maimed_text(postgresql_sql.code(name), _NAME_TOKENS))), str)


def _row(data: Data) -> list[str | None]:
    """Return version, record and ends of a row, as one may be; None each without a row."""
    if data.chance(4):
        return [None] * 4
    record = _as_stored(_maybe_maimed(data, a_record(data)).decode("utf-8", "surrogateescape"))
    return [data.pick(("0123456789abcdef", "by hand")), record, *(data.pick(_ROW_NUMBERS) for _ in range(2))]


def _as_stored(text: str) -> str:
    """Return a text as it comes from bytes."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


_LONGLONG, _DOUBLE, _DECIMAL, _DATETIME, _BLOB, _STRING = 8, 5, 246, 12, 252, 253
_NUMBERS = (b"0", b"1", b"5000000", b"-1", b"9" * 19, b"-5000000", b"1", b"0")
#: Types of columns and what is in them, that no column of cronlock's has.
_COLUMNS = (
    *((_LONGLONG, b"9" * 400), (_LONGLONG, b"x"), (_LONGLONG, b""), (_LONGLONG, None), (_DOUBLE, b"inf")),
    *((_DOUBLE, b"nan"), (_DOUBLE, b"1e300"), (_DECIMAL, b"NaN"), (_DECIMAL, b"sNaN"), (_DECIMAL, b"Infinity")),
    *((_DATETIME, b"2024-01-01 00:00:00"), (_DATETIME, b"0000-00-00"), (_STRING, b"\xff"), (_STRING, "ä".encode())),
    *((_BLOB, b"\xff\xed\xa0\x80"), (_BLOB, b"x" * 9000), (250, b"1"), (16, b"1"), (245, b"{}"), (10, b"1")),
    (11, b"25:00:00"),
)
_MYSQL_ERRORS = (
    *(1040, 1045, 1049, 1054, 1062, 1064, 1142, 1146, 1203, 1205, 1213, 1290, 1364, 1698, 1836, 2006, 2026, 3101),
    *(3159, 0),
)
_MYSQL_TEXTS = (b"no", b"", b"a\nb\x1b[2J", b"x" * 9000, b"\xff", f"password {SECRET}".encode())
_MYSQL_URLS = (
    *(f"mysql://u:{SECRET}@h/d", f"mysql://u:{SECRET}@h,g:1/d?table=a.b", f"mysql://u:{SECRET}@/d?socket=/s"),
    *(f"mysql://u:{SECRET}@h/d", f"mariadb://u:{SECRET}@h,g/d"),
)
_MYSQL_TOKENS = (b"\xfb", b"\xfc\xff\xff", b"\xfe", b"\xff", b"\x00", b"\x00\x00\x00\x02", b"\xfd", b"\xff\xff\xff")
_PLUGINS = (
    *(b"mysql_native_password", b"caching_sha2_password", b"sha256_password", b"mysql_clear_password", b"dialog"),
    *(b"client_ed25519", b"mysql_old_password", b"x", b"\xff"),
)
_MORE, _AUTOCOMMIT = 8, 2


def a_mysql(data: Data) -> None:
    """A server that talks the protocol, and says anything in it, gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        reply = _greeting(data) if not request else _mysql_answer(data, request)
        return data.maimed(reply, _MYSQL_TOKENS) if data.chance(16) else reply

    with served(data, answer, greets=True), hurrying(0.05), patch.object(sql, "PAGE", 2):
        operate(data, open_backend(data.pick(_MYSQL_URLS), 5.0))


def _packets(payloads: Sequence[bytes], number: int) -> bytes:
    packets = [
        struct.pack("<I", len(payload))[:3] + bytes([(number + at) % 256]) + payload
        for at, payload in enumerate(payloads)
    ]
    return b"".join(packets)


def _greeting(data: Data) -> bytes:
    if data.chance(20):
        return _packets([_mysql_error(data)], 0)
    plugin = data.pick(_PLUGINS[:2]) if not data.chance(6) else data.pick(_PLUGINS)
    flags = 0x00FF_FFFF & ~0x800
    text = (
        b"\x0a" + data.pick((b"8.0.36", b"5.5.5-10.11.6-MariaDB", b"x")) + b"\0" + struct.pack("<I", 7) + b"saltsalt\0"
    )
    text += struct.pack("<HBHHB", flags & 0xFFFF, data.pick((45, 33, 255)), _AUTOCOMMIT, flags >> 16, 21)
    return _packets([text + bytes(10) + b"saltsaltsalt\0" + plugin + b"\0"], 0)


def _mysql_error(data: Data) -> bytes:
    code = data.pick(_MYSQL_ERRORS) if not data.chance(8) else data.below(65536)
    return b"\xff" + struct.pack("<H", code) + b"#HY000" + data.pick(_MYSQL_TEXTS)


def _ok(data: Data, changed: int, *, more: bool) -> bytes:
    status = (_MORE if more else 0) | (_AUTOCOMMIT if not data.chance(16) else 0)
    return b"\0" + bytes([changed, 0]) + struct.pack("<HH", status, 0)


def _mysql_answer(data: Data, request: bytes) -> bytes:
    number, payload = request[3], request[4:]
    if number:
        return _packets([_login_answer(data)], number + 1)
    if payload[:1] != b"\x03":
        return b""
    statements = payload[1:].decode().split("; ")
    reply: list[bytes] = []
    for at, statement in enumerate(statements):
        if data.chance(24):
            reply.append(_mysql_error(data))
            break
        more = at + 1 < len(statements) if not data.chance(60) else data.chance(2)
        if statement.startswith(("SELECT", "SHOW")):
            reply += _result(_mysql_rows(data, statement), more=more)
        else:
            reply.append(_ok(data, data.pick((0, 1, 1, 1)), more=more))
    return _packets(reply, 1)


def _login_answer(data: Data) -> bytes:
    """Return what becomes of a password: it is right mostly."""
    kind = data.below(24)
    if kind == 0:
        return _mysql_error(data)
    if kind == 1:
        return b"\xfe" + data.pick(_PLUGINS) + b"\0" + data.pick((b"saltsaltsaltsaltsalt\0", b"", b"\xff"))
    if kind == 2:
        return b"\x01" + data.pick((b"\x03", b"\x04", b"x", b"", b"-----BEGIN PUBLIC KEY-----\n"))
    return _ok(data, 0, more=False)


def _mysql_rows(data: Data, statement: str) -> list[list[tuple[int, bytes | None]]]:
    """Return rows of (type, value) that answer a statement, mostly of the right shape."""

    def number(text: str | None = None) -> tuple[int, bytes | None]:
        return _LONGLONG, data.pick(_NUMBERS) if text is None else text.encode()

    rows: list[list[tuple[int, bytes | None]]]
    now = data.pick(("1700000000000000", "1700000500000000"))
    if statement.startswith("SELECT name"):
        names = sorted(data.pick((b"a", b"billing", b"\xff", "ä".encode(), data.blob(4))) for _ in range(data.below(4)))
        rows = [[(_BLOB, name)] for name in names]
    elif statement.startswith("SHOW"):
        rows = [[(_STRING, b"wsrep_on"), (_STRING, b"ON")]] if data.chance(3) else []
    elif statement == mysql_sql.READ_ONLY:
        rows = [[(_LONGLONG, data.pick((b"0", b"0", b"1")))]]
    elif "c.record" in statement:
        version, record, *ends = (
            None if part is None else part.encode("utf-8", "surrogateescape") for part in _row(data)
        )
        read_only = data.pick((b"0", b"0", b"0", b"1"))
        marks = [(_LONGLONG, end) for end in ends]
        rows = [[number(now), (_BLOB, version), (_BLOB, record), *marks, (_LONGLONG, read_only)]]
    else:
        nothing = (_LONGLONG, None)
        rows = [[number(now), *data.pick(((number(), number()), (number(now), number()), (nothing, nothing)))]]
    if data.chance(12):
        rows = data.pick(([], rows * 3, [row[: data.below(1 + len(row))] or row for row in rows]))
    if rows and data.chance(8):
        at = data.below(len(rows[0]))
        rows = [[*row[:at], data.pick(_COLUMNS), *row[at + 1 :]] for row in rows]
    return rows


def _result(rows: list[list[tuple[int, bytes | None]]], *, more: bool) -> list[bytes]:
    """Return the packets of a result set."""
    end = b"\xfe" + struct.pack("<HH", 0, (_MORE if more else 0) | _AUTOCOMMIT)
    columns = [kind for kind, _ in rows[0]] if rows else [_BLOB]
    payloads = [bytes([len(columns)])]
    for kind in columns:
        charset = 255 if kind == _STRING else 63
        payloads.append(b"\x03def\0\0\0\1c\1c\x0c" + struct.pack("<HIBHB", charset, 99, kind, 0, 0) + b"\0\0")
    payloads.append(end)
    payloads += [b"".join(_counted(value) for _, value in row) for row in rows]
    return [*payloads, end]


def _counted(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    return (bytes([len(value)]) if len(value) < 251 else b"\xfc" + struct.pack("<H", len(value))) + value


_POSTGRESQL_CODES = (
    *("40001", "40P01", "25006", "42P01", "3F000", "42703", "42804", "42P10", "42501", "22003", "57P01", "53300"),
    *("08006", "XX000", "", "\ufffd"),
)
_CELLS = (None, "", "nan", "inf", "-1e300", "9" * 400, "9" * 5000, "x", "²", "x" * 9000, "\udcff", "a\nb", "t", "NULL")


class _Asked(postgresql_connection.Connection):
    """A connection of PostgreSQL on which anything comes; as the real one does, it says one line of bounded length."""

    __slots__ = ("_data",)

    def __init__(self, data: Data) -> None:
        self._data = data
        self._name = "postgresql://h/d"

    @classmethod
    def reached(cls, data: Data, name: str) -> _Asked:
        """Return a connection, or raise what connecting may."""
        if data.chance(12):
            raise data.pick((ServerBusy, BackendUnavailable))(f"{name}: sorry, too many clients already")
        return cls(data)

    def ask(
        self, statement: bytes, values: Sequence[str | None], width: int, deadline: float
    ) -> list[postgresql_connection.Row]:
        """Return rows; as the real one does, raise for such as are of another width."""
        data = self._data
        if time.monotonic() >= deadline or data.chance(40):
            raise BackendUnavailable("postgresql://h/d: no answer in time")
        if data.chance(10):
            raise sql.Refused("postgresql://h/d: the server says no", data.pick(_POSTGRESQL_CODES))
        rows = _postgresql_rows(data, statement)
        if data.chance(12):
            rows = data.pick(
                ([], rows * 3, [[]], [row[: data.below(1 + len(row))] for row in rows], [[*row, None] for row in rows])
            )
        if rows and rows[0] and data.chance(8):
            at = data.below(len(rows[0]))
            rows = [[*row[:at], data.pick(_CELLS), *row[at + 1 :]] for row in rows]
        if any(len(row) != width for row in rows):
            raise protocol_error(self._name, postgresql_connection.PRODUCT)
        return rows

    def quiet(self) -> bool:
        """Tell whether nothing came, as mostly."""
        return not self._data.chance(8)

    @property
    def version(self) -> int:
        """The server's version, which is too old now and then."""
        return 150018 if not self._data.chance(20) else 90600

    def close(self) -> None:
        """Do nothing."""


def _postgresql_rows(data: Data, statement: bytes) -> list[postgresql_connection.Row]:
    now = data.pick(("1700000000000000", "1700000500000000"))
    if statement.startswith(b"SELECT name"):
        keys = (data.pick(("a", "billing", "ä", "%", _as_stored(data.text(4)))) for _ in range(data.below(4)))
        return [[name] for name in sorted({postgresql_sql.code(key) for key in keys})]
    if statement.startswith(b"SELECT"):
        return [[now, *_row(data), data.pick(("off", "off", "off", "on"))]]
    return [[now, data.pick(_ROW_NUMBERS), data.pick(_ROW_NUMBERS)]] if not data.chance(4) else []


def a_postgresql(data: Data) -> None:
    """A server whose rows hold anything gives answers, or the errors of backends."""

    def connect(name: str, _settings: dict[str, str], _deadline: float) -> _Asked:
        return _Asked.reached(data, name)

    def resolve(name: str, host: str) -> list[str]:
        if data.chance(20):
            raise BackendUnavailable(f"{name}: cannot find the address of {host!r}: no")
        return data.pick((["10.0.0.1"], ["10.0.0.1", "::1"]))

    urls = (f"postgresql://u:{SECRET}@h/d", "postgresql://h,g:1/d", "postgres:///d?host=/run")
    with (
        patch.object(postgresql_connection.Connection, "connect", connect),
        patch.object(postgresql, "resolve", resolve),
        patch.object(sql, "PAGE", 2),
        hurrying(0.05),
    ):
        operate(data, open_backend(data.pick(urls), 5.0))


TARGETS = (
    *(
        an_http_answer,
        an_etcd,
        an_etcd_cell,
        a_dynamodb,
        an_item,
        an_s3,
        an_object,
        an_sqs,
        a_message,
        a_date,
        some_credentials,
    ),
    *(some_names, a_mysql, a_postgresql),
)
