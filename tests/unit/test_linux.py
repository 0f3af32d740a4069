"""What Linux offers a guard."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import pytest

from cronlock import linux, process

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
    code = "from cronlock import process; print('LC_CTYPE' in process.environment({}))"
    for variables, expected in (({}, "False"), ({"LC_CTYPE": "C.UTF-8"}, "True")):
        env = {"PATH": os.environ["PATH"], **variables}
        answer = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == expected
