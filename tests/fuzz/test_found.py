"""Regression tests of what fuzzing found."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cronlock import keys
from cronlock.commands.views import table
from cronlock.engines.dynamodb import item as dynamodb_item
from cronlock.engines.etcd import api as etcd
from cronlock.engines.etcd.messages import text_of
from cronlock.engines.file.mounts import refuse_network
from cronlock.engines.file.slots import Slot, encode_slot
from cronlock.engines.file.store import FileStore
from cronlock.engines.mysql.servers import Servers
from cronlock.engines.registry import open_backend
from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.sqs import wire as sqs_wire
from cronlock.engines.wire.aws_credentials import parse_time
from cronlock.engines.wire.http import Connection, Unanswered
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease import state
from cronlock.lease.vocabulary import DIED, Conflict, Record, Run
from cronlock.lease.watermarks import Watermarks, encode
from cronlock.run.log import Log
from cronlock.testing import make_claim
from cronlock.testing.simulated import SimulatedClock
from fuzz.data import Data
from fuzz.engine import SECRET, said
from fuzz.streams import served

_ESCAPE = "\x1b[2J"


@contextmanager
def _says(answer: Callable[[bytes], bytes], *, greets: bool = False) -> Iterator[None]:
    """Let each connection lead to a server that answers so."""
    with served(Data(b"whole"), answer, greets=greets):
        yield


def _http(status: int, answer: object) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 %d so\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.fixture
def _keys_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials for AWS."""
    environment = {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": SECRET, "SESSION_TOKEN": SECRET, "REGION": "eu-west-1"}
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_short_line_in_the_table_of_mounts(tmp_path: Path) -> None:
    """A line of another form is passed over, and the others count."""
    (tmp_path / "mountinfo").write_text("1 2\n\n1 2 0:3 / / rw - nfs x\n")
    with pytest.raises(ConfigError, match="network file system"):
        refuse_network("/var/lib", str(tmp_path / "mountinfo"))


def test_watermark_with_an_endless_fence(tmp_path: Path) -> None:
    """A fence that no backend gives is no watermark; kept, it would leave no room for the rest."""
    clock = SimulatedClock()
    Watermarks(str(tmp_path), "redis://h", "k", clock).remember(Conflict("held", remaining=1.0, fence=7), clock.now())
    (path,) = (tmp_path / "watermarks").iterdir()
    path.write_bytes(encode({"fence": "9" * 400}))
    watermarks = Watermarks(str(tmp_path), "redis://h", "k", clock)
    assert watermarks.recall() is None
    watermarks.remember(Conflict("held", remaining=1.0, fence=8), clock.now())
    watermark = Watermarks(str(tmp_path), "redis://h", "k", clock).recall()
    assert watermark is not None
    assert watermark.fence == 8


def test_owner_of_bytes_that_are_no_text() -> None:
    """An owner that others wrote has a name of its own, too."""
    assert keys.escape("\udc80") == "%80" != keys.escape("\x80")


def test_hold_without_end(tmp_path: Path) -> None:
    """A key's file with a time that cannot be counted with is not cronlock's."""
    store = FileStore(str(tmp_path), 1.0)
    Path(store.location("k")).write_bytes(encode_slot(Slot(number=1, hold_until=1e20, key="k")))
    with pytest.raises(ForeignValue, match="not a file of cronlock"):
        store.read("k", time.monotonic() + 1.0)


def test_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    """Names from a record reach neither a terminal nor a log as anything but text on one line."""
    names = {"owner": "o", "host": _ESCAPE, "pid": 1, "started_at": 1.0, "ttl": 300.0, "fence": 1}
    run = Run(program="other" + _ESCAPE, outcome=_ESCAPE, ended_at=2.0, **names)  # type: ignore[arg-type]
    died = Run(program="one", outcome=DIED, **names)  # type: ignore[arg-type]
    lines = table.status_table([("k", Record(run=died, remaining=1.0, history=[run]))], 3.0)
    assert not any(_ESCAPE in line for line in lines)
    Log().error(f"held by {_ESCAPE}\r\n\x9b of it")
    assert capfd.readouterr().err == f"cronlock: held by {_ESCAPE.replace(chr(27), ' ')}    of it{os.linesep}"


def test_long_owner_in_a_message() -> None:
    """A message has the beginning of what others wrote, not all of it."""
    with pytest.raises(ForeignValue) as caught:
        state.decode(b"cronlock=2\t1\nfence\t1\nrun\t%b\th\tnone\n" % (b"x" * 60_000))
    assert len(str(caught.value)) < 200


def test_status_line_with_a_secret() -> None:
    """Nothing of a line that is none is part of the message."""
    connection = Connection("server", "h", 80)
    with _says(lambda _: f"{SECRET} 1 so\r\n\r\n".encode()), pytest.raises(Unanswered) as caught:
        connection.request("GET", "/", {}, b"", time.monotonic() + 5)
    assert "is this really an HTTP server" in str(caught.value)
    said(caught.value)


def test_server_of_etcd_that_repeats_the_password() -> None:
    """An error of etcd's is shown without the password."""
    refused = {"message": f"wrong password {SECRET}", "code": 16}
    with (
        _says(lambda _: _http(400, refused)),
        pytest.raises(BackendUnavailable, match=r"wrong password \*\*\*") as caught,
    ):
        open_backend(f"etcd://u:{SECRET}@h", 5.0).read("k")
    said(caught.value)


def test_long_key_in_etcd() -> None:
    """A message has the beginning of a key of others, not all of it."""
    found = {"key": text_of(b"cronlock/held/k/" + b"x" * 100_000), "value": "", "mod_revision": "2"}
    answer = {"header": {"revision": "2"}, "responses": [{}, {"response_range": {"kvs": [found]}}]}
    with _says(lambda _: _http(200, answer)), pytest.raises(ForeignValue, match="not a key of cronlock") as caught:
        open_backend("etcd://h", 5.0).read("k")
    said(caught.value)


@pytest.mark.parametrize("name", [b"cronlock/record/a", b"cronlock/recore", b"a"])
def test_list_of_etcd_that_goes_round(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of keys that does not begin behind the one before is none."""
    monkeypatch.setattr(etcd, "_PAGE", 1)
    with _says(lambda _: _http(200, {"kvs": [{"key": text_of(name)}]})):
        backend = open_backend("etcd://h", 5.0)
        with pytest.raises(BackendUnavailable, match="keys of another range"):
            backend.keys()


def _item() -> Any:
    numbers = {name: {"N": "0"} for name in ("lapse", "hold", "ttl")}
    return {"v": {"N": "2"}, "rev": {"S": "a"}, "record": {"S": "b"}, "mark": {"S": "a 1.0"}, **numbers}


@pytest.mark.parametrize("time_", ["x" * 100_000, "nan", "-1", ""])
def test_bad_time_in_an_item(time_: str) -> None:
    """A message has the beginning of what is no time, not all of it."""
    assert dynamodb_item.decode(_item()).version == "a"
    with pytest.raises(ForeignValue, match="no time") as caught:
        dynamodb_item.decode({**_item(), "lapse": {"N": time_}})
    said(caught.value)


@pytest.mark.parametrize("name", ["rev", "record", "mark"])
def test_half_a_character_in_an_item(name: str) -> None:
    """JSON can say what no text of DynamoDB's can hold."""
    with pytest.raises(ForeignValue, match="not a record of cronlock"):
        dynamodb_item.decode({**_item(), name: {"S": "\ud800"}})


@pytest.mark.usefixtures("_keys_of_aws")
def test_scan_that_goes_round() -> None:
    """A scan that goes on where it began ends; an item without a name is passed over."""
    answer = {"Items": [{"cronlock": "x"}, {"cronlock": {"S": "cronlock:a"}}], "LastEvaluatedKey": {"cronlock": 1}}
    with _says(lambda _: _http(200, answer)):
        listed = open_backend("dynamodb://table?endpoint=http://h", 5.0).keys()
        assert [next(listed), next(listed)] == ["a", "a"]
        with pytest.raises(BackendUnavailable, match="endless scan"):
            next(listed)


@pytest.mark.usefixtures("_keys_of_aws")
@pytest.mark.parametrize(
    ("code", "text"),
    [("a\nb", "no"), (f"a{SECRET}", "no"), ("AccessDenied", f"{'x' * 297}{SECRET}"), ("x" * 9000, "x" * 9000)],
)
def test_error_of_aws_in_one_line_without_a_secret(code: str, text: str) -> None:
    """Neither an error's code nor its text breaks the line, or shows the beginning of a secret at its cut."""
    with _says(lambda _: _http(400, {"__type": code, "message": text})), pytest.raises(BackendUnavailable) as caught:
        open_backend("dynamodb://table?endpoint=http://h", 5.0).read("k")
    said(caught.value)
    assert SECRET[:3] not in str(caught.value)


@pytest.mark.usefixtures("_keys_of_aws")
def test_sqs_that_refuses_with_a_secret() -> None:
    """SQS's refusal of a receipt is shown without the secret that it repeats."""
    refused = {"__type": "InvalidParameterValue", "message": f"a\n{SECRET}"}
    with _says(lambda _: _http(400, refused)), pytest.raises(BackendUnavailable, match=r"a \*\*\*") as caught:
        open_backend("sqs://queue?endpoint=http://h", 5.0).acquire(make_claim("k"))
    said(caught.value)


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", ""])
def test_bad_number_of_messages(number: str) -> None:
    """An attribute that is not a number of messages counts as 0."""
    assert sqs_wire.count({"a": number, "b": "2"}, ("a", "b", "c")) == 2


def test_retention_that_is_no_number() -> None:
    """A message has the beginning of what a queue says, on one line."""
    attributes = {"FifoQueue": "true", "MessageRetentionPeriod": "1\n" * 9000}
    with pytest.raises(ConfigError, match="retention of") as caught:
        sqs_queue.check_attributes("sqs://queue", attributes)
    said(caught.value)


@pytest.mark.parametrize("text", ["x" * 9000, "2030-01-01T00:00:00\nx"])
def test_end_of_credentials_that_is_no_time(text: str) -> None:
    """A message has the beginning of what is no time, on one line."""
    with pytest.raises(ValueError, match="no time") as caught:
        parse_time(text)
    said(caught.value)


#: More than a number with a point can be.
_ENDLESS = 10**400
_ROW: tuple[Any, ...] = (1, b"0123456789abcdef", b"x", 0, 0, 0)


@pytest.mark.parametrize(
    "row",
    [
        *(_ROW[:4], _ROW[:5], (*_ROW, 1), (None, *_ROW[1:]), (1, 5, *_ROW[2:]), (1, b"x", 5, 0, 0, 0)),
        *((*_ROW[:3], float("inf"), 0, 0), (*_ROW[:3], Decimal("NaN"), 0, 0), (*_ROW[:3], _ENDLESS, 0, 0)),
        *((*_ROW[:4], Decimal("Infinity"), 0), (_ENDLESS, *_ROW[1:])),
    ],
    ids=lambda row: f"{row!s:.60}",
)
def test_bad_row_of_mysql(row: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of another shape, or with numbers that no column of cronlock's has, is an unexpected reply."""
    monkeypatch.setattr(Servers, "ask_once", lambda *_: [(0, []), (0, [row])])
    with pytest.raises(BackendUnavailable, match="unexpected reply"):
        open_backend("mysql://u@h/d", 5.0).acquire(make_claim("k"))


@pytest.mark.parametrize("column", [float("inf"), Decimal("Infinity"), _ENDLESS, None], ids=lambda one: f"{one!s:.9}")
def test_bad_number_of_mysql(column: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of the times that are told behind a swap."""
    empty, written = (1, None, None, None, None, 0), (column, 1, 1)
    rows = {True: empty, False: written}
    monkeypatch.setattr(Servers, "ask_once", lambda _, texts, __: [(1, [rows["c.record" in text]]) for text in texts])
    with pytest.raises(BackendUnavailable, match="unexpected reply"):
        open_backend("mysql://u@h/d", 5.0).acquire(make_claim("k"))


@pytest.mark.parametrize("names", [[b"a", b"c", b"b"], [b"a", 5], [b"a", None], [b"a", b"a"]])
def test_list_of_mysql_that_goes_round(names: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Malformed or unordered names are an unexpected reply; a list of them might never end."""
    monkeypatch.setattr(Servers, "ask_once", lambda *_: [(0, [(name,) for name in names])])
    with pytest.raises(BackendUnavailable, match="unexpected reply"):
        list(open_backend("mysql://u@h/d", 5.0).keys())


def test_order_of_mysqls_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come in the order of their bytes, which is not that of characters where some are no text."""
    names = ["\ufffd".encode(), b"\xff"]
    monkeypatch.setattr(Servers, "ask_once", lambda *_: [(0, [(name,) for name in names])])
    assert list(open_backend("mysql://u@h/d", 5.0).keys()) == ["\ufffd", "\udcff"]


def test_server_of_mysql_that_repeats_the_password() -> None:
    """An error of MySQL's is shown without the password."""
    text = b"\xff\x51\x04#42000wrong " + SECRET.encode()
    packet = bytes([len(text), 0, 0, 0]) + text
    with _says(lambda _: packet, greets=True), pytest.raises(BackendUnavailable, match=r"wrong \*\*\*") as caught:
        open_backend(f"mysql://u:{SECRET}@h/d", 5.0).read("k")
    said(caught.value)
