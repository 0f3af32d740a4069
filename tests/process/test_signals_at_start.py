"""Signals before the command runs end cronlock without a trace."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .signals import PRINTER, end_printer, is_free, wait_for_handlers
from .support import Node, python, wait_until


def test_term_during_jitter_although_the_caller_blocks_it(node: Node) -> None:
    """A TERM that the caller had blocked ends the run before the command, too."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    started = node.start("--jitter", "10000", "--", "echo", "ran", preexec_fn=block)
    wait_for_handlers(started)
    started.signal(signal.SIGTERM)
    try:
        assert started.wait(10) == 143
    finally:
        started.process.kill()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_end_during_jitter(node: Node, name: str) -> None:
    """A signal before the first request: 128 + N, nothing ran, the key is free."""
    number = signal.Signals[name]
    started = node.start("--jitter", "3000d", "--", "echo", "ran")
    wait_for_handlers(started)
    time.sleep(0.2)
    started.signal(number)
    assert (started.wait(), started.out, started.err) == (128 + number, "", "")
    assert is_free(node)


def test_term_during_wait(node: Node) -> None:
    """TERM while it waits for the holder: 143, nothing ran, and the holder goes on."""
    holder = node.start_ready("--min-hold", "0", "--", *python(PRINTER))
    waiter = node.start("--wait", "300", "--", "echo", "ran")
    wait_for_handlers(waiter)
    time.sleep(0.3)
    waiter.signal(signal.SIGTERM)
    assert (waiter.wait(), waiter.out, waiter.err) == (143, "", "")
    end_printer(holder)
    assert is_free(node)


def test_term_during_a_wait_for_the_hold(node: Node) -> None:
    """TERM while it waits for a hold of years: 143, nothing ran."""
    assert node.run("--min-hold", "3000d", "--", "true").status == 0
    waiter = node.start("--wait", "3000d", "--", "echo", "ran")
    wait_for_handlers(waiter)
    time.sleep(0.3)
    waiter.signal(signal.SIGTERM)
    assert (waiter.wait(), waiter.out, waiter.err) == (143, "", "")


def test_term_during_acquire(own_node: Node) -> None:
    """TERM during a hung request: 143, nothing ran, and a lease is given back."""
    port = int(own_node.backend.rpartition(":")[2])
    server = next(pid for pid in _listeners(port))
    os.kill(server, signal.SIGSTOP)
    try:
        started = own_node.start("--backend-timeout", "3", "--", "echo", "ran")
        wait_for_handlers(started)
        time.sleep(0.5)
        started.signal(signal.SIGTERM)
        time.sleep(0.5)
    finally:
        os.kill(server, signal.SIGCONT)
    assert (started.wait(), started.out) == (143, "")
    assert is_free(own_node)


def _listeners(port: int) -> list[int]:
    """Return the redis-server processes on `port`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read()
            except OSError:
                continue
            if b"redis-server" in words and str(port).encode() in words and b"setpriv" not in words:
                found.append(int(entry))
    return found


def test_term_at_any_moment_of_the_start(node: Node) -> None:
    """TERM at any moment gives 143 and a free key or a hold, never a stale lease."""
    for step in range(25):
        # Quiet: another program of the previous run does not matter here.
        started = node.start("-q", "--min-hold", "0", "--ttl", "60", "--", "sleep", "300")
        time.sleep(step * 0.006)
        started.signal(signal.SIGTERM)
        # Before the interpreter has started, TERM kills it like any process.
        assert started.wait() in (143, -signal.SIGTERM)
        assert started.err == ""
        wait_until(lambda: node.left() == [], "everything ended")
        assert is_free_without_hold(node)


def test_ctrl_c_while_starting_shows_no_traceback(node: Node) -> None:
    """INT while the configuration is read, before anything was asked, ends cronlock without a traceback."""
    fifo = node.directory / "slow.conf"
    os.mkfifo(fifo)
    started = node.start("--config", fifo, "--", "echo", "ran")

    writers: list[int] = []

    def is_reading() -> bool:
        try:
            # Fails until the other end is open.
            writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    wait_until(is_reading, "reading of the configuration")
    started.signal(signal.SIGINT)
    assert started.wait() in (130, -signal.SIGINT)
    os.close(writers[0])
    assert (started.out, started.err) == ("", "")


def is_free_without_hold(node: Node) -> bool:
    """Whether the key is free; leaves no hold."""
    return node.run("--min-hold", "0", "--", "echo", "free").out == "free\n"
