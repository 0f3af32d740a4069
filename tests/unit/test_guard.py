"""A real guard with a real command, in the hand of a wrapper that is slow, deaf or gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cronlock.lease.clock import SystemClock
from cronlock.process import command as process
from cronlock.process import guard, linux, protocol
from cronlock.process.protocol import Ended, Forked, NotStarted, Started
from labs.proc import is_alive, stat
from labs.servers.process import eventually

from .guards import DAEMON, LIMIT, NEEDS_SUBREAPERS, Guards, command, number_in


class NeverExecuted(process.Command):
    """A command whose file system does not answer: its exec takes for ever."""

    __slots__ = ()

    def _become(self, parent: int) -> None:
        os.setpgid(0, 0)
        while True:
            time.sleep(600)


def test_exec_that_never_returns(guards: Guards) -> None:
    """A command on a dead file system is ended at the deadline like any other."""
    watched = guards.start(command("none", kind=NeverExecuted))
    pid = watched.hear(Forked).pid
    watched.guard.renewed(SystemClock().now())
    assert watched.ended() == (protocol.BY_DEADLINE, True)
    assert not is_alive(pid)
    watched.wait_end()


def test_exec_that_never_returns_and_a_wrapper_that_stops_it(guards: Guards) -> None:
    """The guard obeys the wrapper even before the command is executed."""
    watched = guards.start(command("none", kind=NeverExecuted))
    watched.hear(Forked)
    watched.guard.stop(protocol.BY_LOSS)
    assert watched.ended() == (protocol.BY_LOSS, True)


def test_unread_reports(guards: Guards) -> None:
    """A full pipe to a wrapper that hangs does not keep the guard from its deadline."""
    watched = guards.start(command("sleep", "600"))
    pid = watched.hear(Forked).pid
    watched.hear(Started)
    watched.fill_pipe()
    # A report is due of it, and has no room.
    os.kill(pid, signal.SIGSTOP)
    watched.guard.renewed(SystemClock().now())
    watched.wait_end()
    assert not is_alive(pid)


def test_deadline_that_passed_before_the_start(guards: Guards) -> None:
    """Nothing is started then."""
    watched = guards.start(command("sleep", "600"), seconds=-1.0)
    assert watched.hear(NotStarted).error is None
    watched.wait_end()
    with pytest.raises(guard.GuardDied):
        watched.guard.read_reports()


def test_grace_that_reaches_back_before_the_start(guards: Guards) -> None:
    """A lease with less left than TERM's grace is late as well."""
    watched = guards.start(command("sleep", "600"), seconds=5.0, grace=6.0)
    assert watched.hear(NotStarted).error is None
    watched.wait_end()


def test_wrapper_that_is_gone(guards: Guards) -> None:
    """The end of the control pipe ends the command, with a message."""
    watched = guards.start(command("sleep", "600"))
    pid = watched.hear(Forked).pid
    watched.hear(Started)
    watched.guard.dismiss()
    ended = watched.hear(Ended)
    assert ended == Ended(protocol.BY_WRAPPER, int(signal.SIGTERM), clean=True, at=ended.at)
    assert not is_alive(pid)
    watched.wait_end()
    assert "was killed; the command was stopped" in watched.said
    assert len(watched.said.splitlines()) == 1


@NEEDS_SUBREAPERS
def test_pids_with_a_backup_guard(guards: Guards) -> None:
    """The backup guard and its child, which is the guard, before the guard has reported itself and afterwards."""
    watched = guards.start(command("sleep", "600"), backup=True)
    forked = watched.hear(Forked)
    assert watched.guard.pids() == {watched.guard.child, forked.guard}
    watched.guard.pid = forked.guard
    assert watched.guard.pids() == {watched.guard.child, forked.guard}
    assert forked.guard != watched.guard.child


@NEEDS_SUBREAPERS
def test_backup_guard_ends_what_a_killed_guard_leaves(
    guards: Guards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever session it is."""
    monkeypatch.chdir(tmp_path)
    watched = guards.start(command("sh", "-c", DAEMON + "echo $$ > leader; exec sleep 600"), backup=True)
    daemon, leader = number_in(tmp_path / "daemon"), number_in(tmp_path / "leader")
    os.kill(watched.hear(Forked).guard, signal.SIGKILL)
    watched.wait_end()
    assert (is_alive(daemon), is_alive(leader)) == (False, False)


def test_backup_guard_leaves_the_daemons_of_a_command_that_ended(
    guards: Guards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the guard ended by itself."""
    monkeypatch.chdir(tmp_path)
    watched = guards.start(command("sh", "-c", DAEMON + "exit 0"), backup=True)
    daemon = number_in(tmp_path / "daemon")
    watched.hear(Ended)
    watched.wait_end()
    assert is_alive(daemon)


def test_backup_guard_sleeps(guards: Guards) -> None:
    """It waits for the guard's end, does nothing until then, and ends with it."""
    watched = guards.start(command("sleep", "600"), backup=True)
    watched.hear(Started)
    eventually(lambda: stat(watched.guard.child)[0] == b"S", "it sleeps", LIMIT)
    # Its processor time, in ticks.
    used = stat(watched.guard.child)[11:13]
    time.sleep(0.5)
    assert stat(watched.guard.child)[11:13] == used
    watched.guard.stop(protocol.BY_LOSS)
    watched.wait_end()


def test_dismissed_guard_gets_no_request(guards: Guards, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrapper that is continued while it waits for the guard's end has nothing to say, and does not fail."""
    watched = guards.start(command("true"))
    watched.hear(Ended)
    watched.guard.dismiss()
    watched.guard.send_continue()
    watched.guard.dismiss()
    watched.wait_end()
    os.write(1, b"mine\n")
    assert capfd.readouterr().out == "mine\n"


def test_wait_returns_when_the_guard_is_gone(guards: Guards) -> None:
    """It is reaped then, although it had a command to end."""
    watched = guards.start(command("sleep", "600"))
    pid = watched.hear(Forked).pid
    watched.guard.wait()
    assert linux.children(os.getpid()).count(watched.guard.child) == 0
    assert not is_alive(pid)
    watched.reaped()


def test_renewals_move_the_deadline(guards: Guards) -> None:
    """A command lives as long as it is renewed, and ends at the last deadline."""
    watched = guards.start(command("sleep", "600"))
    pid = watched.hear(Forked).pid
    seconds = 0.5
    while True:
        seconds *= 2
        first = SystemClock().now() + seconds
        watched.guard.renewed(first)
        watched.guard.renewed(first + 600)
        # Both in time, on a machine however slow.
        if SystemClock().now() < first - watched.grace - seconds / 4:
            break
    time.sleep(seconds)
    assert is_alive(pid)
    watched.guard.renewed(SystemClock().now())
    assert watched.ended() == (protocol.BY_DEADLINE, True)


#: A shell that goes on in spite of TERM or ends of it, in front of one that ignores it.
_DEAF = "sh -c 'trap \"\" TERM; echo $$ > orphan; while :; do sleep 0.05; done' & while :; do wait; done"
_LEADERS = {"stays": "trap : TERM; " + _DEAF, "ends": "trap 'exit 3' TERM; " + _DEAF}


@pytest.mark.parametrize("leader", _LEADERS)
@pytest.mark.parametrize("adopts", [True, False])
@pytest.mark.parametrize("has_proc", [True, False])
def test_what_ignores_term_in_the_commands_group(
    guards: Guards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leader: str, adopts: bool, has_proc: bool
) -> None:
    """It is gone before the end is called clean: with no way to adopt orphans and without /proc too."""
    if not adopts:
        monkeypatch.setattr(linux, "become_subreaper", lambda: False)
    if not has_proc:
        monkeypatch.setattr(linux, "has_proc", lambda: False)
    monkeypatch.setattr(process, "UNKILLABLE_AFTER", 5.0)
    monkeypatch.chdir(tmp_path)
    watched = guards.start(command("sh", "-c", _LEADERS[leader]))
    orphan = number_in(tmp_path / "orphan")
    watched.guard.stop(protocol.BY_LOSS)
    try:
        assert watched.ended() == (protocol.BY_LOSS, True)
        assert not is_alive(orphan)
    finally:
        if is_alive(orphan):
            os.kill(orphan, signal.SIGKILL)


def test_group_that_ends_by_itself_is_clean_at_once(
    guards: Guards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a way to adopt orphans the group is asked, and one that is gone is not waited for."""
    monkeypatch.setattr(linux, "become_subreaper", lambda: False)
    monkeypatch.chdir(tmp_path)
    # The leader ends behind the other member, and reaps it.
    script = "trap 'wait; exit 3' TERM; sh -c 'echo $$ > member; exec sleep 600' & wait"
    watched = guards.start(command("sh", "-c", script), seconds=3 * LIMIT, grace=2 * LIMIT)
    member = number_in(tmp_path / "member")
    watched.guard.stop(protocol.BY_LOSS)
    assert watched.ended() == (protocol.BY_LOSS, True)
    assert not is_alive(member)
