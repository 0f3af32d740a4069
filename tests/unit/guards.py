"""Real guards with real commands, and what they report."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cronlock.lease.clock import SystemClock
from cronlock.process import command as process
from cronlock.process import guard, linux, protocol
from cronlock.process.protocol import Ended

#: Of tests of the backup guard, and of processes that left the command's group: qemu-user, for one, has none.
NEEDS_SUBREAPERS = pytest.mark.skipif(not linux.can_adopt(), reason="needs child subreapers")
_Report = TypeVar("_Report", bound=protocol.Message)

#: Far more than anything takes here.
LIMIT = 60.0
#: The start of a command that leaves a process in a session of its own.
DAEMON = "setsid sh -c 'echo $$ > daemon; exec sleep 600' & while [ ! -s daemon ]; do sleep 0.01; done; "


def command(*argv: str, kind: type[process.Command] = process.Command) -> process.Command:
    """Return a command without terminal and lease."""
    return kind(list(argv), dict(os.environ), ignored=frozenset(), terminal=None, descriptor=None, die_with_guard=False)


class Watched:
    """A guard, and what it says."""

    def __init__(
        self, what: process.Command, *, seconds: float, grace: float, folder: Path, changes: dict[str, Any]
    ) -> None:
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
        ).but(**changes)
        self.grace = grace
        tests = os.getpid()
        self.guard = guard.Guard(config)
        if self.guard.child <= 0 or os.getpid() != tests:
            os._exit(1)  # A guard with a bug must end nothing but what is its own.
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

    def heard_to_the_end(self) -> list[protocol.Message]:
        """Wait until no more reports can come, and return all."""
        self.guard.dismiss()
        try:
            while True:
                self._heard += self.guard.read_reports()
        except guard.GuardDied:
            return self._heard

    def forward(self, number: int) -> None:
        """Let a signal for the command arrive, as the wrapper's handlers do."""
        os.write(self._signals_writer, bytes([number]))

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
        while (ended := os.waitpid(self.guard.child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < until, "the guard goes on for ever"
            time.sleep(0.01)
        self._ended = True
        assert ended == (self.guard.child, 0)

    def reaped(self) -> None:
        """Take note that somebody else waited for its end."""
        self._ended = True

    def close(self) -> None:
        """End what is left."""
        if not self._ended:
            for pid in (*linux.descendants(self.guard.child), self.guard.child):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(self.guard.child, 0)
        while orphans := self._reap():
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
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

    def start(self, what: process.Command, *, seconds: float = LIMIT, grace: float = 0.5, **changes: Any) -> Watched:
        """Start a guard of `what` whose lease is good for `seconds`; `changes` are of its configuration."""
        watched = Watched(what, seconds=seconds, grace=grace, folder=self._folder, changes=changes)
        self._all.append(watched)
        return watched

    def close(self) -> None:
        """End all of them."""
        for watched in self._all:
            watched.close()


def number_in(path: Path) -> int:
    """Return the number that a command writes into a file, once it did."""
    until = time.monotonic() + LIMIT
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until, f"nothing in {path.name}"
        time.sleep(0.01)
    return int(path.read_text())
