"""What fuzzing found once, as it is now."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cronlock import keys, record
from cronlock.backends import etcd, filestate, open_backend
from cronlock.backends.etcd_api import text_of
from cronlock.backends.file import FileBackend
from cronlock.backends.http import Connection, Unanswered
from cronlock.backends.mounts import refuse_network
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease import DIED, Conflict, Record, Run
from cronlock.log import Log
from cronlock.sights import Sights
from cronlock.views import table
from tests.clocks import ManualClock

from .data import Data
from .engine import SECRET, said
from .streams import served

_ESCAPE = "\x1b[2J"


@contextmanager
def _says(answer: Callable[[bytes], bytes], *, greets: bool = False) -> Iterator[None]:
    """Let each connection lead to a server that answers so."""
    with served(Data(b"whole"), answer, greets=greets):
        yield


def _http(status: int, answer: object) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 %d so\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_short_line_in_the_table_of_mounts(tmp_path: Path) -> None:
    """A line of another form is passed over, and the others count."""
    (tmp_path / "mountinfo").write_text("1 2\n\n1 2 0:3 / / rw - nfs x\n")
    with pytest.raises(ConfigError, match="network file system"):
        refuse_network("/var/lib", str(tmp_path / "mountinfo"))


def test_sight_with_an_endless_fence(tmp_path: Path) -> None:
    """A fence that no backend gives is no sight; kept, it would leave no room for the rest."""
    clock = ManualClock()
    Sights(str(tmp_path), "redis://h", "k", clock).remember(Conflict("held", remaining=1.0, fence=7))
    (path,) = (tmp_path / "sights").iterdir()
    path.write_bytes(record.encode({"fence": "9" * 400}))
    sights = Sights(str(tmp_path), "redis://h", "k", clock)
    assert sights.recall() is None
    sights.remember(Conflict("held", remaining=1.0, fence=8))
    sight = Sights(str(tmp_path), "redis://h", "k", clock).recall()
    assert sight is not None
    assert sight.floor == 8


def test_owner_of_bytes_that_are_no_text() -> None:
    """An owner that others wrote has a name of its own, too."""
    assert keys.escape("\udc80") == "%80" != keys.escape("\x80")


def test_hold_without_end(tmp_path: Path) -> None:
    """A key's file with a time that cannot be counted with is not cronlock's."""
    backend = FileBackend(str(tmp_path), 1.0)
    fields = {"number": "1", "key": "k", "fence": "1", "hold_until": "1e20"}
    with open(backend._path("k"), "wb") as file:
        file.write(filestate.encode_slot(fields) + filestate.encode_slot({}))
    with pytest.raises(ForeignValue, match="not a file of cronlock"):
        backend.read("k")


def test_what_a_terminal_would_obey(capfd: pytest.CaptureFixture[str]) -> None:
    """Names from a record reach neither a terminal nor a log as anything but text on one line."""
    names = {"owner": "o", "host": _ESCAPE, "pid": 1, "started_at": 1.0, "ttl": 300.0, "fence": 1}
    run = Run(program="other" + _ESCAPE, outcome=_ESCAPE, ended_at=2.0, **names)  # type: ignore[arg-type]
    died = Run(program="one", outcome=DIED, **names)  # type: ignore[arg-type]
    lines = table.status_table(
        [("k", Record(run=died, remaining=1.0, hold_remaining=0.0, last=run, history=[run]))], 3.0
    )
    assert not any(_ESCAPE in line for line in lines)
    Log().error(f"held by {_ESCAPE}\r\n\x9b of it")
    assert capfd.readouterr().err == f"cronlock: held by {_ESCAPE.replace(chr(27), ' ')}    of it{os.linesep}"


def test_long_owner_in_a_message() -> None:
    """A message has the beginning of what others wrote, not all of it."""
    with pytest.raises(ForeignValue) as caught:
        record.run_from_fields({"owner": "x" * 100_000, "pid": "none"})
    assert len(str(caught.value)) < 200


def test_status_line_with_a_secret() -> None:
    """What h11 quotes of a line that is none is no part of the message."""
    connection = Connection("server", "h", 80)
    with _says(lambda _: f"{SECRET} 1 so\r\n\r\n".encode()), pytest.raises(Unanswered) as caught:
        connection.request("GET", "/", {}, b"", time.monotonic() + 5)
    assert "does not answer as an HTTP server does" in str(caught.value)
    said(caught.value)


def test_host_of_bytes_that_are_no_text_in_etcds_history() -> None:
    """A run of a host whose name is no text is written into the history, and read again."""
    run = Run(owner="\udc80:1:x", host="\udc80", pid=1, program="p", started_at=1.0, ttl=300.0, fence=1)
    value = {"key": text_of(b"cronlock/history/k/00"), "value": text_of(etcd._line(run))}
    fields = {"fence": "1", **record.run_to_fields(run, "last.")}
    lying = {"key": text_of(b"cronlock/record/k"), "value": text_of(record.encode(fields)), "mod_revision": "2"}
    answer = {"responses": [{"response_range": {"kvs": kvs}} for kvs in ([lying], [], [value])]}
    with _says(lambda _: _http(200, answer)):
        known = open_backend("etcd://h", 5.0).read("k")
    assert known is not None
    assert [one.owner for one in known.history] == [run.owner]


def test_server_of_etcd_that_repeats_the_password() -> None:
    """What etcd answers is shown without the password."""
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
    answer = {"responses": [{}, {"response_range": {"kvs": [found]}}, {}]}
    with _says(lambda _: _http(200, answer)), pytest.raises(ForeignValue, match="not a key of cronlock") as caught:
        open_backend("etcd://h", 5.0).read("k")
    said(caught.value)


@pytest.mark.parametrize("name", [b"cronlock/record/a", b"cronlock/recore", b"a"])
def test_list_of_etcd_that_goes_round(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of keys that does not begin behind the one before is none."""
    monkeypatch.setattr(etcd, "_PAGE", 1)
    with _says(lambda _: _http(200, {"kvs": [{"key": text_of(name)}]})):
        backend = open_backend("etcd://h", 5.0)
        with pytest.raises(BackendUnavailable, match="lists other keys"):
            backend.keys()
