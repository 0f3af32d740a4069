"""What AWS's services answer: DynamoDB, S3, SQS, and whoever gives credentials; and what lies in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from cronlock.engines.dynamodb import item as dynamodb_item
from cronlock.engines.dynamodb import store as dynamodb
from cronlock.engines.s3 import store as s3
from cronlock.engines.sqs import backend as sqs
from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.url import URL
from cronlock.engines.wire import aws_credentials, aws_signature
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.server_clock import ServerClock
from cronlock.lease.store import NO_HOLD
from cronlock.testing.simulated import SimulatedClock

from .data import Data
from .engine import SECRET, expecting, said
from .http import SKEWS, STATUSES, YEAR, as_json_text, bent, http_answer, read_request
from .operations import a_claim, a_record, operate
from .streams import hurrying, served

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
    skew, has_date, aws_errors = data.pick(SKEWS), not data.chance(8), data.pick((4, 12, 12, 40))

    def serve(request: bytes) -> bytes:
        clock.advance(data.pick((0.0, 0.0, 0.05, 0.05, 0.05, 3.0, 400.0, 50_000.0)) if data.chance(4) else 0.01)
        fields = read_request(request)[1]
        target = fields.get("x-amz-target")
        action = target.rpartition(".")[2] if target else request.partition(b" ")[0].decode()
        if data.chance(aws_errors):
            status, body = data.pick((400, 400, 400, 403, 500, 503, 200)), _aws_error(data)
        else:
            status, body = answer(action, read_request(request)[2])
        lines = [f"Date: {_date(clock.wall() + skew)}".encode()] if has_date else []
        if data.chance(20):
            lines = [b"Date: " + data.pick((b"", b"x", b"\xff", b"Sun, 99 Nov 1994 08:49:37 GMT"))]
        if data.chance(20):
            lines.append(b"x-amzn-errortype: " + data.pick((b"a:b", b"\xff\x85", SECRET.encode())))
        if isinstance(body, bytes):
            lines += [] if data.chance(20) else [b'ETag: "%b"' % data.pick((b"a", b"b", b"", b"\xff"))]
        return http_answer(data, status, body if isinstance(body, bytes) else as_json_text(data, body), lines)

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
        return {"N": f"{0.0 if data.chance(2) else now + data.pick((-1e6, -1.9, 0.0, 20.0, YEAR)):.3f}"}

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
        item = bent(data, item)
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
    ends = (0.0 if data.chance(2) else now + data.pick((-1e6, -1.9, 0.0, 20.0, YEAR)) for _ in range(2))
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
        message = bent(data, message)
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
        body = as_json_text(data, fields)
        if path.endswith("/token"):
            body = data.pick((b"AQAE", b"AQAE", b"a b", b"\xff", b"", b"a\nb", b"x" * 9000))
        elif path.endswith("/security-credentials/"):
            body = data.pick((b"role", b"role", b"role\nother", b"a b", b"", b"x" * 9000))
        elif path.endswith("/region"):
            body = data.pick((b"eu-west-1", b"eu-west-1", b"", b"x" * 9000, b"EU", b"a\nb"))
        return http_answer(data, data.pick(STATUSES) if data.chance(5) else 200, body)

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
