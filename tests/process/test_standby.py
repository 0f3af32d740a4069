"""Standby, driven from outside on every backend: takeover, skip, and the command's variables."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from .backends import RECORDING, Backend, on
from .support import Node, Started, children, is_alive, now, wait_until

#: Long enough for every backend and a busy machine.
_TTL = 5
_STANDBYS = 6
#: One whose lock the kernel keeps, one that is asked again and again, one that notifies.
_VARIOUS = on("file", "redis", "zookeeper")
_WITH_SERVER = on("redis", "zookeeper")


def hold(node: Node, *options: object) -> Started:
    """Start a run that has the key until the file go is there."""
    return node.hold("--ttl", _TTL, "--kill-after", 0.2, *options)


def stand_by(node: Node, *options: object, count: int = _STANDBYS) -> list[Started]:
    """Start runs that stand by for the key, and wait until they do."""
    line = ["--ttl", _TTL, "--standby", 300, "--skip-status", 9, "-v", *options]
    code = "echo took over $CRONLOCK_TAKEOVER $CRONLOCK_TAKEOVER_FENCE $CRONLOCK_FENCE"
    standbys = [node.start(*line, "--", "sh", "-c", code) for _ in range(count)]
    for standby in standbys:
        standby.hears("standing by for")
    return standbys


def kill_all_of(started: Started) -> None:
    """Kill a run as the death of its machine does: all processes at once."""
    family = [started.pid, *started.guards, *children(started.guard)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    # The command first: it dies with the guard.
    for pid in reversed(family):
        os.kill(pid, signal.SIGKILL)
    started.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in family), "all of the run is dead")


@RECORDING
def test_one_takes_over_from_the_dead(backend: Backend) -> None:
    """Of many standbys exactly one takes over from a dead holder; the others exit when it ends."""
    node = backend.node
    holder = hold(node, "--min-hold", 600)
    standbys = stand_by(node, "--min-hold", 600)
    kill_all_of(holder)
    ends = sorted(standby.wait() for standby in standbys)
    assert ends == [0] + [9] * (_STANDBYS - 1), [standby.err for standby in standbys]
    (winner,) = [standby for standby in standbys if standby.process.returncode == 0]
    words = winner.out.split()
    assert words[:3] == ["took", "over", "1"]
    assert int(words[3]) < int(words[4])
    assert [standby.out for standby in standbys if standby is not winner] == [""] * (_STANDBYS - 1)
    assert "taking over from a run that died" in winner.err
    # The hold of the dead run's tick stays.
    assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9


@_VARIOUS
@pytest.mark.parametrize("status", [0, 3])
def test_standbys_exit_when_the_run_ends(backend: Backend, status: int) -> None:
    """A run that ended, well or badly, is not repeated; the standby is a skip that says so."""
    node = backend.node
    holder = node.hold("--ttl", _TTL, "--kill-after", 1, "--min-hold", 0, then=f"exit {status}")
    standbys = stand_by(node, "--min-hold", 0)
    node.finish()
    assert holder.wait() == status
    assert [standby.wait() for standby in standbys] == [9] * _STANDBYS
    assert [standby.out for standby in standbys] == [""] * _STANDBYS
    assert all(f"exited with status {status}" in standby.err for standby in standbys)


@_VARIOUS
def test_standby_ends_after_its_time(backend: Backend) -> None:
    """A run that goes on for longer than --standby is left alone."""
    node = backend.node
    holder = hold(node)
    standby = node.run("--ttl", _TTL, "--standby", 2, "--skip-status", 9, "--", "echo", "ran")
    assert (standby.status, standby.out, standby.err) == (9, "", "")
    node.finish()
    assert holder.wait() == 0


@_VARIOUS
def test_a_free_key_needs_no_standby(backend: Backend) -> None:
    """--standby changes nothing for a free key, and is a plain skip after a run that ended."""
    node = backend.node
    code = "echo ran $CRONLOCK_TAKEOVER"
    assert node.run("--standby", 300, "--", "sh", "-c", code).out == "ran\n"
    done = node.run("--standby", 300, "--skip-status", 9, "--", "sh", "-c", code)
    assert (done.status, done.out, done.err) == (9, "", "")


@_VARIOUS
def test_standby_takes_over_during_the_hold_of_a_dead_run(backend: Backend) -> None:
    """During the hold of a dead run only a standby gets the key."""
    node = backend.node
    kill_all_of(hold(node, "--min-hold", 600))
    died_at = now()
    wait_until(lambda: now() > died_at + _TTL + 4, "the lease lapsed")
    assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
    done = node.run("--ttl", _TTL, "--standby", 60, "--", "sh", "-c", "echo ran $CRONLOCK_TAKEOVER")
    assert (done.status, done.out) == (0, "ran 1\n")


@_VARIOUS
def test_a_command_that_could_not_start_is_taken_over(backend: Backend) -> None:
    """A node that gets the lease but lacks the program leaves the tick to standbys."""
    node = backend.node
    line = node.line("--ttl", _TTL, "--min-hold", 600, "--", "no-such-program")
    # Stopped after the lease, before the command: --jitter cannot do that, so the program is missing and slow to miss.
    assert node.spawn(line).wait() == 127
    assert node.run("--standby", 60, "--", "echo", "ran").out == "ran\n"


@_VARIOUS
def test_signal_ends_a_standby(backend: Backend) -> None:
    """TERM ends it at once, nothing ran, and the key is unchanged."""
    node = backend.node
    holder = hold(node, "--min-hold", 600)
    (standby,) = stand_by(node, count=1)
    standby.signal(signal.SIGTERM)
    assert (standby.wait(), standby.out) == (128 + signal.SIGTERM, "")
    node.finish()
    assert holder.wait() == 0


@_WITH_SERVER
def test_standby_without_a_server(backend: Backend) -> None:
    """A server that is gone until the end of the standby: nothing runs, and a line says why."""
    node = backend.node
    holder = hold(node)
    standby = node.start(
        *("--ttl", _TTL, "--standby", 12, "--backend-timeout", 2, "--skip-status", 9, "-v", "--", "echo", "ran")
    )
    standby.hears("standing by for")
    with backend.server.paused():
        assert (standby.wait(), standby.out) == (9, "")
        assert "without an answer of the backend; nothing was run" in standby.err
    assert holder.wait() == 75


@on("memcached")
def test_a_server_that_lost_the_run(backend: Backend) -> None:
    """A standby that finds no trace of the run says so, and its node starts no other run beside it."""
    node = backend.node
    # It renews only after half a minute.
    holder = node.hold("--ttl", 90, "--min-hold", 0)
    # Another machine: the holder's own remembers the fence as well.
    elsewhere = {"CRONLOCK_STATE_DIR": str(node.directory / "elsewhere")}
    line = ["--ttl", 90, "--min-hold", 0, "--skip-status", 9]
    standby = node.start(*line, "--standby", 300, "-v", "--", "echo", "ran", env=elsewhere)
    standby.hears("standing by for")
    standby.signal(signal.SIGSTOP)
    backend.server.restart(keep_data=False)
    # So that it is up for longer than it takes from the standby's last look to the next run.
    time.sleep(5)
    standby.signal(signal.SIGCONT)
    assert (standby.wait(), standby.out) == (9, "")
    assert "the server lost state" in standby.err
    done = node.run(*line, "--", "echo", "ran", env=elsewhere)
    assert (done.status, done.out) == (9, ""), done.err
    assert holder.process.poll() is None
    node.finish()
    assert holder.wait() == 0


_LATE = """
import sys, time
from cronlock.process import guard
from cronlock.__main__ import main
start = guard.Guard.__init__
def start_late(self, guard_config):
    time.sleep(0 if guard_config.plan.deadline is None else 3)
    start(self, guard_config)
guard.Guard.__init__ = start_late
main()
"""


@_WITH_SERVER
def test_on_error_run_is_not_beside_another(backend: Backend) -> None:
    """A machine that slept between acquiring and starting must not run the command without a lease."""
    words = ["run", "--key=job", "--ttl", "2", "--on-error", "run", "--", "echo", "ran"]
    late = backend.node.spawn([sys.executable, "-c", _LATE, *words])
    assert (late.wait(), late.out) == (69, ""), late.err
    assert "the lease expired before the command started; nothing was run" in late.err


@_VARIOUS
def test_timeout_and_status_of_a_takeover(backend: Backend) -> None:
    """A takeover is a run like any other: --timeout stops it, and its status is the standby's own."""
    node = backend.node
    holder = hold(node)
    line = ["--ttl", _TTL, "--standby", 300, "--timeout", 5, "-v", "--", "sh", "-c", "echo began; sleep 600"]
    standby = node.start(*line)
    standby.hears("standing by for")
    kill_all_of(holder)
    assert standby.wait() == 124
    assert standby.out == "began\n"
