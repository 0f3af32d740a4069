"""A real guard with a real command, in the hand of a wrapper that is slow, deaf or gone."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cronlock.lease.clock import SystemClock
from cronlock.process import command as process
from cronlock.process import guard, linux, protocol
from cronlock.process.protocol import Ended, Forked, NotStarted, Started
from labs.proc import is_alive

_Report = TypeVar("_Report", bound=protocol.Message)

#: Far more than anything takes here.
LIMIT = 60.0


class NeverExecuted(process.Command):
    """A command whose file system does not answer: its exec takes for ever."""

    __slots__ = ()

    def _become(self, parent: int) -> None:
        os.setpgid(0, 0)
        while True:
            time.sleep(600)


def command(*argv: str, kind: type[process.Command] = process.Command) -> process.Command:
    """Return a command without terminal and lease."""
    return kind(list(argv), dict(os.environ), ignored=frozenset(), terminal=None, descriptor=None, die_with_guard=False)


class Watched:
    """A guard, and what it says."""

    def __init__(self, what: process.Command, *, seconds: float, grace: float = 0.5, folder: Path) -> None:
        self._heard: list[protocol.Message] = []
        self._said = folder / "said"
        self._said.touch()
        self._signals, self._signals_writer = os.pipe()
        self._null = os.open(os.devnull, os.O_RDWR)
        #: Children that are not this guard's orphans.
        self._known = set(linux.children(os.getpid()))
        clock = SystemClock()
        config = protocol.GuardConfig(
            command=what,
            plan=protocol.Plan(deadline=clock.now() + seconds, grace=grace, kill_after=grace, kill_lead=0.05),
            timeout=None,
            stop_on_loss=True,
            backup=False,
            signals=self._signals,
            null=self._null,
            terminal=None,
            clock=clock,
            say=self._say,
        )
        self.grace = grace
        self.guard = guard.Guard(config)
        self._known.add(self.guard.child)
        self._ended = False

    @property
    def said(self) -> str:
        """The guard's messages for people."""
        return self._said.read_text()

    def hear(self, kind: type[_Report]) -> _Report:
        """Wait for the report of this kind, and return it."""
        poll = select.poll()
        poll.register(self.guard.reports.descriptor, select.POLLIN)
        until = time.monotonic() + LIMIT
        while True:
            for report in self._heard:
                if isinstance(report, kind):
                    return report
            while not poll.poll(10):
                assert time.monotonic() < until, f"no {kind.__name__}, but {self._heard}"
                self._reap()
            self._heard += self.guard.read_reports()

    def ended(self) -> tuple[str | None, bool]:
        """Wait for the end, and return why, and whether it was clean."""
        report = self.hear(Ended)
        return report.why, report.clean

    def fill_pipe(self) -> None:
        """Let no further report have room in the pipe."""
        writer = os.open(f"/proc/self/fd/{self.guard.reports.descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            for size in (4096, 1):
                try:
                    while True:
                        os.write(writer, b"x" * size)
                except BlockingIOError:
                    pass
        finally:
            os.close(writer)

    def wait_end(self) -> None:
        """Wait until the guard ended by itself."""
        until = time.monotonic() + LIMIT
        while os.waitpid(self.guard.child, os.WNOHANG) == (0, 0):
            assert time.monotonic() < until, "the guard goes on for ever"
            time.sleep(0.01)
        self._ended = True

    def close(self) -> None:
        """End what is left."""
        if not self._ended:
            for pid in (*linux.descendants(self.guard.child), self.guard.child):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(self.guard.child, 0)
        while self._reap():
            time.sleep(0.01)
        self.guard.dismiss()
        for descriptor in (self.guard.reports.descriptor, self._signals, self._signals_writer, self._null):
            os.close(descriptor)

    def _reap(self) -> set[int]:
        """Reap this process's orphans as process 1 would, which may take seconds for it; return those that live."""
        orphans = set(linux.children(os.getpid())) - self._known
        return {pid for pid in orphans if os.waitpid(pid, os.WNOHANG) == (0, 0)}

    def _say(self, text: str) -> None:
        with self._said.open("a") as file:
            file.write(text + "\n")


class Guards:
    """Starts guards for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Watched] = []

    def start(self, what: process.Command, *, seconds: float = LIMIT, grace: float = 0.5) -> Watched:
        """Start a guard of `what` whose lease is good for `seconds`."""
        watched = Watched(what, seconds=seconds, grace=grace, folder=self._folder)
        self._all.append(watched)
        return watched

    def close(self) -> None:
        """End all of them."""
        for watched in self._all:
            watched.close()


@pytest.fixture(name="guards")
def _guards(tmp_path: Path) -> Iterator[Guards]:
    """Give a starter of guards, of which nothing is left behind."""
    guards = Guards(tmp_path)
    linux.become_subreaper()
    yield guards
    guards.close()
    linux.can_adopt()  # It ends that.


def number_in(path: Path) -> int:
    """Return the number that a command writes into a file, once it did."""
    until = time.monotonic() + LIMIT
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until, f"nothing in {path.name}"
        time.sleep(0.01)
    return int(path.read_text())


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


def test_dismissed_guard_gets_no_request(guards: Guards) -> None:
    """A wrapper that is continued while it waits for the guard's end has nothing to say, and does not fail."""
    watched = guards.start(command("true"))
    watched.hear(Ended)
    watched.guard.dismiss()
    watched.guard.send_continue()
    watched.wait_end()


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
