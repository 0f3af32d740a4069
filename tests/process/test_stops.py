"""TSTP, STOP and CONT to the wrapper and to the command, and how both end then."""

from __future__ import annotations

import os
import signal
import time

from .signals import WAITER, wait_for_handlers
from .support import Node, children, is_alive, python, wait_running, wait_stopped


def test_tstp_stops_both_and_cont_continues_both(node: Node) -> None:
    """TSTP to the wrapper stops wrapper and command, CONT continues both."""
    started = node.start_ready("--", *python(WAITER))
    (command,) = children(started.guard)
    for _ in range(2):
        started.signal(signal.SIGTSTP)
        wait_stopped(started.pid)
        wait_stopped(command)
        started.signal(signal.SIGCONT)
        wait_running(started.pid)
        wait_running(command)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_tstp_while_waiting(node: Node) -> None:
    """TSTP before the command runs stops the wrapper until CONT."""
    started = node.start("--jitter", "10000", "--", "true")
    wait_for_handlers(started)
    started.signal(signal.SIGTSTP)
    wait_stopped(started.pid)
    started.signal(signal.SIGCONT)
    wait_running(started.pid)
    started.signal(signal.SIGTERM)
    assert started.wait() == 143


def test_stopped_wrapper_within_the_deadline(node: Node) -> None:
    """SIGSTOP for less than the lease does not disturb the run."""
    started = node.start_ready("--ttl", "60", "--", *python(WAITER))
    started.signal(signal.SIGSTOP)
    wait_stopped(started.pid)
    started.signal(signal.SIGCONT)
    wait_running(started.pid)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_stopped_command_is_left_stopped(node: Node) -> None:
    """A stop of the command stops only the command; the lease is renewed."""
    started = node.start_ready("--ttl", "6", "--kill-after", "0.2", "--", *python(WAITER))
    (command,) = children(started.guard)
    os.kill(command, signal.SIGSTOP)
    wait_stopped(command)
    time.sleep(8)
    assert is_alive(started.pid)
    wait_running(started.pid)
    assert node.run("--", "echo", "ran").out == ""
    os.kill(command, signal.SIGCONT)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_term_ends_a_stopped_command(node: Node) -> None:
    """TERM to the wrapper ends a command that is stopped once it is continued, as without cronlock."""
    started = node.start_ready("--", "sh", "-c", "echo ready; exec sleep 300")
    (command,) = children(started.guard)
    os.kill(command, signal.SIGSTOP)
    wait_stopped(command)
    started.signal(signal.SIGTERM)
    started.signal(signal.SIGCONT)
    assert started.wait() == 143


def test_stop_sends_term_once_to_each(node: Node) -> None:
    """Neither the command nor its child gets a second TERM, which may have another meaning."""
    code = """
import os, signal, time
os.fork()
terms = []
def note(number, frame):
    terms.append(number)
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGCONT, note)
os.write(1, b"ready\\n")
while signal.SIGCONT not in terms:
    time.sleep(0.01)
# A signal after CONT would arrive before the end of this.
time.sleep(0.5)
"""
    done = node.run("--timeout", 6, "--", *python(code))
    assert done.status == 124
    assert sorted(done.out.split()) == ["SIGCONT"] * 2 + ["SIGTERM"] * 2 + ["ready"] * 2
