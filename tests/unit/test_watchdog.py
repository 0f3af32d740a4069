"""The guard's loop: what it reports, what it forwards, and what it ends, of real commands."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cronlock.lease.clock import SystemClock
from cronlock.process import command as process
from cronlock.process import protocol
from cronlock.process.protocol import Ended, Forked, NotStarted, Started, Stopped
from cronlock.process.watchdog import Watchdog
from labs.proc import is_alive
from labs.servers.process import eventually

from .guards import DAEMON, LIMIT, NEEDS_SUBREAPERS, Guards, command, number_in


class Unforkable(process.Command):
    """A command that gets no process."""

    __slots__ = ()

    def start(self) -> tuple[int, int]:
        """Fail as fork(2) does for want of memory."""
        raise OSError(errno.ENOMEM, "no memory")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands write into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def test_a_command_that_cannot_be_executed(guards: Guards) -> None:
    """Nothing else is reported than why, although its process ended as well."""
    watched = guards.start(command("/does/not/exist"))
    watched.hear(NotStarted)
    reports = watched.heard_to_the_end()
    assert [type(report) for report in reports] == [Forked, NotStarted]
    assert watched.hear(NotStarted).error == errno.ENOENT


def test_a_command_that_gets_no_process(guards: Guards) -> None:
    """The error is the system's own."""
    watched = guards.start(command("true", kind=Unforkable))
    assert watched.hear(NotStarted).error == errno.ENOMEM
    assert [type(report) for report in watched.heard_to_the_end()] == [NotStarted]


def test_a_command_that_ends(guards: Guards) -> None:
    """Its status is reported once, behind its start."""
    watched = guards.start(command("sh", "-c", "exit 3"))
    ended = watched.hear(Ended)
    assert (ended.why, os.waitstatus_to_exitcode(ended.wait_status or 0), ended.clean) == (None, 3, True)
    assert [type(report) for report in watched.heard_to_the_end()] == [Forked, Started, Ended]


def test_a_command_that_stops(guards: Guards) -> None:
    """Each stop is reported with its signal, and its end afterwards."""
    watched = guards.start(command("sh", "-c", "kill -STOP $$; exit 4"))
    assert watched.hear(Stopped).signal == signal.SIGSTOP
    watched.guard.send_continue()
    ended = watched.hear(Ended)
    assert os.waitstatus_to_exitcode(ended.wait_status or 0) == 4
    assert [type(report) for report in watched.heard_to_the_end()] == [Forked, Started, Stopped, Ended]


def test_orphans_that_end_are_not_the_command(guards: Guards) -> None:
    """They are reaped, and nothing is reported of them."""
    script = "(sh -c 'exit 7' & exec sleep 0.05) & wait; sleep 0.3; exit 5"
    watched = guards.start(command("sh", "-c", f"sh -c '(sleep 0.05; exit 7) & exit 0'; {script}"))
    assert os.waitstatus_to_exitcode(watched.hear(Ended).wait_status or 0) == 5
    assert [type(report) for report in watched.heard_to_the_end()] == [Forked, Started, Ended]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_forwarded_signal(guards: Guards, tmp_path: Path, number: int) -> None:
    """It reaches the command, whose end of it is its own; other numbers reach nobody."""
    watched = guards.start(command("sh", "-c", "echo $$ > pid; exec sleep 600"))
    pid = number_in(tmp_path / "pid")
    watched.forward(signal.SIGWINCH)
    watched.forward(signal.SIGKILL)
    watched.forward(number)
    ended = watched.hear(Ended)
    assert (ended.why, ended.wait_status, ended.clean) == (None, number, True)
    assert not is_alive(pid)


@NEEDS_SUBREAPERS
@pytest.mark.parametrize(
    ("number", "forwarded", "why"),
    [
        # A command that dies of a forwarded signal takes along what it started; else a daemon goes on.
        (signal.SIGTERM, True, protocol.BY_SIGNAL),
        (signal.SIGTERM, False, None),
    ],
)
def test_daemons_of_a_command_that_a_signal_killed(
    guards: Guards, tmp_path: Path, number: int, forwarded: bool, why: str | None
) -> None:
    """Whoever stops the job from outside wants all of it to end."""
    watched = guards.start(command("sh", "-c", DAEMON + "echo $$ > leader; exec sleep 600"))
    daemon, leader = number_in(tmp_path / "daemon"), number_in(tmp_path / "leader")
    if forwarded:
        watched.forward(number)
    else:
        os.kill(leader, number)
    ended = watched.hear(Ended)
    assert (ended.why, ended.wait_status, ended.clean) == (why, number, forwarded)
    assert is_alive(daemon) != forwarded


@NEEDS_SUBREAPERS
def test_a_daemon_of_a_command_that_ends(guards: Guards, tmp_path: Path) -> None:
    """It goes on; that something is left is reported."""
    watched = guards.start(command("sh", "-c", DAEMON + "exit 0"))
    daemon = number_in(tmp_path / "daemon")
    ended = watched.hear(Ended)
    assert (ended.why, ended.wait_status, ended.clean) == (None, 0, False)
    assert is_alive(daemon)


@NEEDS_SUBREAPERS
def test_a_daemon_of_a_command_that_is_stopped(guards: Guards, tmp_path: Path) -> None:
    """The end is reported once the daemon is dead, too."""
    watched = guards.start(command("sh", "-c", DAEMON + "exec sleep 600"))
    daemon = number_in(tmp_path / "daemon")
    watched.guard.stop(protocol.BY_REQUEST)
    ended = watched.hear(Ended)
    assert (ended.why, ended.wait_status, ended.clean) == (protocol.BY_REQUEST, signal.SIGTERM, True)
    assert not is_alive(daemon)


def test_the_longest_run_time(guards: Guards) -> None:
    """Counted from the start; a command without one is not ended."""
    before = SystemClock().now()
    watched = guards.start(command("sleep", "600"), timeout=1.0)
    assert watched.ended() == (protocol.BY_TIMEOUT, True)
    assert watched.hear(Ended).at >= before + 1.0


def test_a_second_reason_to_stop(guards: Guards, tmp_path: Path) -> None:
    """The first one stays, and TERM is sent once."""
    script = "trap 'echo term >> terms' TERM; echo $$ > pid; while :; do sleep 0.02; done"
    watched = guards.start(command("sh", "-c", script), grace=1.0)
    number_in(tmp_path / "pid")
    watched.guard.stop(protocol.BY_REQUEST)
    eventually((tmp_path / "terms").exists, "TERM arrives", LIMIT)
    watched.guard.stop(protocol.BY_LOSS)
    assert watched.ended() == (protocol.BY_REQUEST, True)
    assert (tmp_path / "terms").read_text() == "term\n"


@pytest.mark.parametrize("stopped", [True, False])
def test_the_lock_of_a_command_that_is_stopped(guards: Guards, tmp_path: Path, stopped: bool) -> None:
    """Is released, since a wrapper that hangs has it as well; one that ends by itself leaves that to the wrapper."""
    with (tmp_path / "lock").open("w") as mine, (tmp_path / "lock").open("w") as other:
        fcntl.flock(mine, fcntl.LOCK_EX)
        what = command("sh", "-c", "echo $$ > pid; exec sleep 600" if stopped else "exit 0")
        watched = guards.start(what.but(descriptor=mine.fileno()))
        if stopped:
            number_in(tmp_path / "pid")
            watched.guard.stop(protocol.BY_LOSS)
        assert watched.ended() == (protocol.BY_LOSS if stopped else None, True)
        if stopped:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("stops", [True, False])
def test_a_wrapper_that_dies(guards: Guards, tmp_path: Path, stops: bool) -> None:
    """Its command is stopped, and the terminal taken back; unless it is to go on without its lease."""
    terminal: Any = SimpleNamespace(take_back=lambda pid: (tmp_path / "taken").write_text(f"{pid}\n"))
    script = "echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; exit 6"
    plan = protocol.Plan(deadline=None, grace=0.5, kill_after=0.5)
    changes: dict[str, Any] = {} if stops else {"stop_on_loss": False, "plan": plan}
    watched = guards.start(command("sh", "-c", script), terminal=terminal, **changes)
    pid = number_in(tmp_path / "pid")
    # Without a deadline none is set later.
    watched.guard.renewed(SystemClock().now() if not stops else SystemClock().now() + LIMIT)
    watched.guard.dismiss()
    if stops:
        assert watched.ended() == (protocol.BY_WRAPPER, True)
        # Only then has it said all.
        watched.wait_end()
        assert number_in(tmp_path / "taken") == pid
    else:
        time.sleep(0.3)
        assert is_alive(pid)
        (tmp_path / "go").touch()
        ended = watched.hear(Ended)
        assert (ended.why, os.waitstatus_to_exitcode(ended.wait_status or 0)) == (None, 6)
        assert not (tmp_path / "taken").exists()
    assert bool(watched.said) == stops


@pytest.mark.parametrize(("limit", "milliseconds"), [(1.5, 1501.0), (None, None)])
def test_how_long_a_poll_lasts(limit: float | None, milliseconds: float | None) -> None:
    """A millisecond longer, so that what is due then is due."""
    asked: list[float | None] = []

    def poll(timeout: float | None) -> list[tuple[int, int]]:
        asked.append(timeout)
        return []

    watchdog = Watchdog.__new__(Watchdog)
    parts: Any = watchdog
    parts._poll = SimpleNamespace(poll=poll)
    parts._exec, parts._children, parts._over = -1, 5, False
    parts._control, parts._config = SimpleNamespace(descriptor=6), SimpleNamespace(signals=7)
    watchdog._wait(limit)
    assert asked == [milliseconds]
