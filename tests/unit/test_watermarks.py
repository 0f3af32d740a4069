"""Watermarks: what a host remembers of a key across runs and reboots."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from cronlock.lease import clock as clocks
from cronlock.lease.vocabulary import HELD, RETENTION, STATE_LOST, Claim, Conflict, Run, Watermark
from cronlock.lease.watermarks import Watermarks
from cronlock.testing.simulated import SimulatedClock

LOCATION = "redis://h cronlock"


def see(folder: Path, clock: SimulatedClock, conflict: Conflict) -> None:
    """Let a run of key `k` get `conflict` for an answer."""
    watermarks = Watermarks(str(folder), LOCATION, "k", clock)
    watermarks.recall()
    watermarks.remember(conflict, clock.now())
    assert watermarks.problem is None


def seen(folder: Path, clock: SimulatedClock) -> Watermark:
    """Return what is remembered of key `k`."""
    watermark = Watermarks(str(folder), LOCATION, "k", clock).recall()
    assert watermark is not None
    return watermark


def test_a_watermark_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    """Fence and age; nothing of another key or place."""
    clock = SimulatedClock()
    assert Watermarks(str(tmp_path), LOCATION, "k", clock).recall() is None
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    clock.advance(5)
    watermark = seen(tmp_path, clock)
    assert (watermark.fence, watermark.age, watermark.loss_noticed_ago) == (7, 5.0, None)
    assert Watermarks(str(tmp_path), LOCATION, "other", clock).recall() is None
    assert Watermarks(str(tmp_path), "redis://h2 cronlock", "k", clock).recall() is None


def test_forget(tmp_path: Path) -> None:
    """Forgetting removes this key's watermark alone, and may be repeated."""
    clock = SimulatedClock()
    for key in ("k", "other"):
        Watermarks(str(tmp_path), LOCATION, key, clock).remember(Conflict(HELD, remaining=1.0, fence=7), clock.now())
    for _ in range(2):
        Watermarks(str(tmp_path), LOCATION, "k", clock).forget()
    assert Watermarks(str(tmp_path), LOCATION, "k", clock).recall() is None
    assert Watermarks(str(tmp_path), LOCATION, "other", clock).recall() is not None


def test_the_ttl_of_the_lease_that_was_seen(tmp_path: Path) -> None:
    """It is that lease which may be out, not one of the ttl that is asked for now."""
    run = Run(owner="h:1:a", host="h", pid=1, program="p", started_at=1.0, ttl=600.0, fence=7)
    see(tmp_path, SimulatedClock(), Conflict(HELD, remaining=1.0, fence=7, run=run))
    see(tmp_path, SimulatedClock(), Conflict(STATE_LOST, remaining=1.0))
    watermark = seen(tmp_path, SimulatedClock())
    assert watermark.ttl == 600.0
    claim = Claim(key="k", owner="o", host="h", pid=1, program="p", ttl=300.0, hold=0.0, watermark=watermark)
    assert claim.quarantine == 600.0
    claim.watermark = None
    assert claim.quarantine == 300.0


def test_the_fence_never_goes_down(tmp_path: Path) -> None:
    """A server that shows less does not lower what was seen."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=3))
    assert seen(tmp_path, clock).fence == 7


def test_noticing_keeps_the_age_of_the_watermark_and_of_the_first_notice(tmp_path: Path) -> None:
    """Asking a server that lost its state again does not restart the wait."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    clock.advance(10)
    for _ in range(3):
        see(tmp_path, clock, Conflict(STATE_LOST, remaining=1.0))
        clock.advance(4)
    watermark = seen(tmp_path, clock)
    assert (watermark.fence, watermark.age, watermark.loss_noticed_ago) == (7, 22.0, 12.0)
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=9))
    watermark = seen(tmp_path, clock)
    assert (watermark.fence, watermark.age, watermark.loss_noticed_ago) == (9, 0.0, None)


def test_after_a_reboot_the_age_is_at_least_the_uptime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boot times of two boots cannot be compared, so the wait restarts."""
    clock = SimulatedClock(now=5000)
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    see(tmp_path, clock, Conflict(STATE_LOST, remaining=1.0))
    monkeypatch.setattr(clocks, "boot_id", lambda: "another boot")
    clock = SimulatedClock(now=30.0, wall=clock.wall() + 100.0)
    watermark = seen(tmp_path, clock)
    assert (watermark.fence, watermark.age, watermark.loss_noticed_ago) == (7, 30.0, None)


def test_what_is_older_than_the_retention_is_no_evidence(tmp_path: Path) -> None:
    """The server may have collected the record by itself."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    clock.advance(RETENTION)
    assert Watermarks(str(tmp_path), LOCATION, "k", clock).recall() is None


def test_garbage_in_the_file_is_as_nothing(tmp_path: Path) -> None:
    """A damaged file costs this rule, not the run."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    (file,) = (tmp_path / "watermarks").iterdir()
    for garbage in (b"", b"\xff" * 600, b"cronlock=1\nfence=x\n"):
        file.write_bytes(garbage)
        assert Watermarks(str(tmp_path), LOCATION, "k", clock).recall() is None
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=8))


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """And nothing is raised."""
    (tmp_path / "watermarks").write_text("in the way")
    watermarks = Watermarks(str(tmp_path), LOCATION, "k", SimulatedClock())
    assert watermarks.recall() is None
    watermarks.remember(Conflict(HELD, remaining=1.0, fence=7), 1000.0)
    assert watermarks.problem is not None


def test_what_cannot_be_written_back_is_no_watermark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that became read-only a quarantine would restart each time, and never end."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    really_open = os.open

    def read_only(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return really_open(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", read_only)
    watermarks = Watermarks(str(tmp_path), LOCATION, "k", clock)
    assert watermarks.recall() is None
    watermarks.remember(Conflict(STATE_LOST, remaining=1.0), 1000.0)
    assert watermarks.problem is not None
    assert "Read-only" in watermarks.problem


@pytest.mark.parametrize(("first", "second"), [(8, 9), (9, 8)])
def test_two_writers_at_once_never_lower_the_fence(tmp_path: Path, first: int, second: int) -> None:
    """Both recalled the same; whoever writes last, the higher fence stays."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    writers = [Watermarks(str(tmp_path), LOCATION, "k", clock) for _ in range(2)]
    for watermarks in writers:
        watermarks.recall()
    for watermarks, fence in zip(writers, (first, second)):
        watermarks.remember(Conflict(HELD, remaining=1.0, fence=fence), 1000.0)
    assert seen(tmp_path, clock).fence == 9


def test_an_answer_after_state_loss_does_not_lower_what_another_run_wrote(tmp_path: Path) -> None:
    """A run in quarantine writes last, after one that saw more."""
    clock = SimulatedClock()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    quarantined = Watermarks(str(tmp_path), LOCATION, "k", clock)
    quarantined.recall()
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=9))
    quarantined.remember(Conflict(STATE_LOST, remaining=1.0, fence=3), 1000.0)
    assert seen(tmp_path, clock).fence == 9


def test_an_answer_that_shows_nothing(tmp_path: Path) -> None:
    """Neither fence nor ttl is made up."""
    see(tmp_path, SimulatedClock(), Conflict(HELD, remaining=1.0))
    watermark = seen(tmp_path, SimulatedClock())
    assert (watermark.fence, watermark.ttl) == (0, 0.0)


def test_a_later_time_of_the_same_boot_is_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some machines keep their boot's id when they start again, as a restored snapshot does."""
    monkeypatch.setattr(clocks, "boot_id", lambda: "the only boot")
    clock = SimulatedClock(now=5000.0)
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    watermark = seen(tmp_path, SimulatedClock(now=30.0, wall=clock.wall() + 100.0))
    assert (watermark.fence, watermark.age) == (7, 30.0)


def test_a_notice_of_another_boot_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one whose time could be of this boot."""
    clock = SimulatedClock(now=10.0)
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    see(tmp_path, clock, Conflict(STATE_LOST, remaining=1.0))
    monkeypatch.setattr(clocks, "boot_id", lambda: "another boot")
    assert seen(tmp_path, SimulatedClock(now=30.0, wall=clock.wall() + 100.0)).loss_noticed_ago is None


@pytest.mark.parametrize(("slept", "wall"), [(0.0, 1.0), (1.0, 0.0)], ids=["by the wall clock", "by the boot clock"])
def test_how_long_it_is_evidence(tmp_path: Path, slept: float, wall: float) -> None:
    """Up to a day before the server may drop the record, by whichever clock says more."""
    trusted = RETENTION - 86400.0
    clock = SimulatedClock(now=100.0)
    see(tmp_path, clock, Conflict(HELD, remaining=1.0, fence=7))
    for later, known in ((trusted - 1.0, True), (trusted + 1.0, False)):
        then = SimulatedClock(now=100.0 + slept * later, wall=clock.wall() + wall * later)
        assert (Watermarks(str(tmp_path), LOCATION, "k", then).recall() is not None) is known


def test_the_file(tmp_path: Path) -> None:
    """Its name fits whatever the key, it has one size, and only its owner reads it, or the directory."""
    before = os.umask(0)
    try:
        long = Watermarks(str(tmp_path), LOCATION, "k" * 300, SimulatedClock())
        long.remember(Conflict(HELD, remaining=1.0, fence=7), 1000.0)
        # The directory is there now.
        see(tmp_path, SimulatedClock(), Conflict(HELD, remaining=1.0, fence=7))
    finally:
        os.umask(before)
    assert long.problem is None
    folder = tmp_path / "watermarks"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert [(file.stat().st_size, file.stat().st_mode & 0o777) for file in files] == [(512, 0o600)] * 2


def test_a_directory_that_another_run_makes_just_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves."""
    (tmp_path / "watermarks").mkdir()
    really_open, missing = os.open, [True]

    def open_late(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_CREAT and missing:
            missing.pop()
            raise FileNotFoundError
        return really_open(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", open_late)
    see(tmp_path, SimulatedClock(), Conflict(HELD, remaining=1.0, fence=7))
    assert (missing, seen(tmp_path, SimulatedClock()).fence) == ([], 7)


def test_an_answer_is_as_old_as_its_request(tmp_path: Path) -> None:
    """A process that was stopped between its request and its note says nothing of a server that started meanwhile."""
    clock = SimulatedClock()
    watermarks = Watermarks(str(tmp_path), LOCATION, "k", clock)
    asked_at = clock.now()
    clock.advance(100.0)
    watermarks.remember(Conflict(HELD, remaining=1.0, fence=7), asked_at)
    assert seen(tmp_path, clock).age == 100.0
    trusted = RETENTION - 86400.0
    later = SimulatedClock(now=100.0, wall=clock.wall() + trusted - 99.0)
    assert Watermarks(str(tmp_path), LOCATION, "k", later).recall() is None
