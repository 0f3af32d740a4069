"""What fuzzing found once, as it is now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cronlock import keys, record
from cronlock.backends import filestate
from cronlock.backends.file import FileBackend
from cronlock.backends.mounts import refuse_network
from cronlock.errors import ConfigError, ForeignValue
from cronlock.lease import DIED, Conflict, Record, Run
from cronlock.log import Log
from cronlock.sights import Sights
from cronlock.views import table
from tests.clocks import ManualClock

_ESCAPE = "\x1b[2J"


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
