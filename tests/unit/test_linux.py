"""Linux's process primitives for the guard."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from typing import Any

import pytest

from cronlock.process import command as process
from cronlock.process import linux

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tests what only Linux has")


def boot_time() -> float:
    """Return seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_alarm_becomes_readable_at_its_moment_and_not_before() -> None:
    """Also when moved, past, or taken back."""
    alarm = linux.Alarm()
    poll = select.poll()
    poll.register(alarm.descriptor, select.POLLIN)
    moment = boot_time() + 0.2
    alarm.set(moment)
    assert poll.poll(60_000)
    assert boot_time() >= moment
    alarm.set(boot_time() + 3600)
    assert not poll.poll(0)
    alarm.set(boot_time() - 3600)
    assert poll.poll(60_000)
    alarm.set(None)
    assert not poll.poll(0)
    os.close(alarm.descriptor)


def test_without_a_timer_the_poller_wakes_once_a_second() -> None:
    """A suspended machine's poll counts the wrong clock."""
    alarm = linux.Alarm()
    os.close(alarm.descriptor)
    alarm.descriptor = -1
    assert alarm.poll_limit(0.0) is None
    alarm.set(100.0)
    assert alarm.poll_limit(0.0) == 1.0
    assert alarm.poll_limit(99.5) == 0.5
    assert alarm.poll_limit(200.0) == 0.0


def test_descendants_are_found_in_both_ways() -> None:
    """By the kernel's lists of children, and by every process's parent."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 600 & sh -c 'sleep 600 & echo; wait' & read _; wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        until = time.monotonic() + 60
        while len(linux.descendants(child.pid)) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        found = linux.descendants(child.pid)
        by_parent = linux._children_by_parent()
        assert sorted(found) == sorted(linux._tree(child.pid, frozenset(), lambda pid: by_parent.get(pid, [])))
        assert len(found) == 3
        assert linux.descendants(child.pid, frozenset(linux.children(child.pid))) == []
        process.signal_group(child.pid, 9)
    assert linux.descendants(child.pid) == []


def test_the_command_does_not_see_what_the_interpreter_sets_for_itself() -> None:
    """PEP 538: in the C locale the interpreter puts LC_CTYPE into its own environment."""
    code = "from cronlock.process import command; print('LC_CTYPE' in command.environment({}))"
    for variables, expected in (({}, "False"), ({"LC_CTYPE": "C.UTF-8"}, "True")):
        env = {"PATH": os.environ["PATH"], **variables}
        answer = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == expected


def test_children_of_an_unreadable_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another user, or one that ended meanwhile, shows no children and raises nothing."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "refused")

    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            assert child.pid in linux.children(os.getpid())
            monkeypatch.setattr(linux, "open", refuse, raising=False)
            assert linux.children(os.getpid()) == []
            monkeypatch.setattr(os, "listdir", refuse)
            assert linux.children(os.getpid()) == []
        finally:
            child.kill()


def test_proc_of_another_pid_namespace_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another pid namespace /proc shows other processes by these numbers, which must not be signalled."""
    assert linux.has_proc()
    monkeypatch.setattr(os, "readlink", lambda _path: str(os.getpid() + 1))
    assert not linux.has_proc()


def test_no_proc_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc nothing is looked for in it."""

    def missing(_path: str) -> str:
        raise FileNotFoundError(2, "no /proc")

    monkeypatch.setattr(os, "readlink", missing)
    assert not linux.has_proc()


_SPARES = """
import os, subprocess, sys
from cronlock.process import command as process, linux
def start():
    child = subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    return child
elder = start()
spared = frozenset([elder.pid])
linux.become_subreaper()
mine = start()
its = linux.descendants(mine.pid)
print(process.none_left(True, None, adopts=True, spared=spared), process.none_left(True, None, adopts=True))
print(process.kill_all(mine.pid, adopts=True, spared=spared), linux.descendants(os.getpid(), spared))
print(process.none_left(True, None, adopts=True, spared=spared), process.none_left(True, None, adopts=True))
print(elder.poll(), len(linux.descendants(elder.pid)))
os.killpg(elder.pid, 9)
"""


def test_what_was_there_before_is_spared() -> None:
    """All is killed but the children from before, with their own; and they keep it from being none."""
    answer = subprocess.run(
        [sys.executable, "-c", _SPARES], capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL
    )
    assert (answer.stdout.splitlines(), answer.stderr) == (["False False", "True []", "True False", "None 1"], "")
