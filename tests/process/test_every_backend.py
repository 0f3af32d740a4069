"""Guarantees on every backend, with real servers and real processes."""

from __future__ import annotations

import os
import signal
import time

from .backends import EVERY, RECORDING, WITH_SERVER, Backend, on
from .support import Node, Tree, now, wait_stopped, wait_until

#: Long enough for every backend and a busy machine.
_TTL = 5
#: That of runs which are killed or stopped: others wait until it is over.
_KILLED_TTL = 6
_RACERS = 50


@EVERY
def test_one_of_fifty_runs(backend: Backend) -> None:
    """Of fifty runs that race for one key, one runs and the others are silent skips."""
    node = backend.node
    code = 'while [ ! -e go ]; do sleep 0.1; done; exec "$@"'
    line = node.line("--min-hold", 600, "--ttl", 60, "--backend-timeout", 60, "--", "echo", "ran")
    racers = [node.spawn(["sh", "-c", code, "sh", *line]) for _ in range(_RACERS)]
    node.finish()
    ends = [(racer.wait(300), racer.out, racer.err) for racer in racers]
    assert sorted(ends) == [(0, "", "")] * (_RACERS - 1) + [(0, "ran\n", "")]


@EVERY
def test_second_start_right_after_a_short_job(backend: Backend) -> None:
    """A second start right after a job of a millisecond is a skip."""
    assert backend.node.run("--", "echo", "ran").out == "ran\n"
    done = backend.node.run("--skip-status", 9, "--", "echo", "ran")
    assert (done.status, done.out, done.err) == (9, "", "")


@EVERY
def test_no_hold(backend: Backend) -> None:
    """Without a hold the key is free as soon as the job ended."""
    for _ in range(3):
        assert backend.node.run("--min-hold", 0, "--", "echo", "ran").out == "ran\n"


@EVERY
def test_command_that_cannot_start_frees_the_key(backend: Backend) -> None:
    """A missing command leaves no hold."""
    assert backend.node.run("--", "no-such-command").status == 127
    assert backend.node.run("--", "echo", "ran").out == "ran\n"


@RECORDING
def test_fences_grow(backend: Backend) -> None:
    """Each run has a larger fence than the one before."""
    fences = [int(backend.node.run("--min-hold", 0, "--", "sh", "-c", "echo $CRONLOCK_FENCE").out) for _ in range(4)]
    assert fences == sorted(set(fences))


# On Redis: test_leases.
@on("file", "memcached", "zookeeper", "etcd", "postgresql", "mysql", "dynamodb", "s3", "sqs")
def test_job_longer_than_three_ttls(backend: Backend) -> None:
    """A job longer than three ttls keeps its lease, another run skips until it ends; then it is free."""
    node = backend.node
    began = now()
    started = node.hold("--ttl", _TTL, "--kill-after", 0.2, "--min-hold", 0, then="exit 5")
    while now() < began + 3 * _TTL + 0.5:
        assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
        time.sleep(0.5)
    node.finish()
    assert (started.wait(), started.err) == (5, "")
    assert node.run("--", "echo", "ran").out == "ran\n"


@on("file", "redis", "memcached", "zookeeper", "s3")
def test_sigkill_of_the_wrapper(backend: Backend) -> None:
    """After SIGKILL of the wrapper, the whole command is dead before another run starts."""
    node = backend.node
    tree = Tree(node.directory / "tree")
    started = node.start_ready("--ttl", _KILLED_TTL, "--kill-after", 1, "--min-hold", 0, "--", *tree.command)
    started.signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    check_dead_when_next_run_starts(node, tree, _KILLED_TTL)


# On Redis and file: test_trees.
@on("memcached", "zookeeper")
def test_sigstop_of_the_wrapper(backend: Backend) -> None:
    """A wrapper that stays stopped loses the command before another run starts."""
    node = backend.node
    tree = Tree(node.directory / "tree")
    started = node.start_ready("--ttl", _KILLED_TTL, "--kill-after", 1, "--min-hold", 0, "--", *tree.command)
    started.signal(signal.SIGSTOP)
    wait_stopped(started.pid)
    check_dead_when_next_run_starts(node, tree, _KILLED_TTL)
    started.signal(signal.SIGCONT)
    assert started.wait() == 75


def check_dead_when_next_run_starts(node: Node, tree: Tree, ttl: float) -> None:
    """Check that nothing of the tree lives when the next run of the key, by the same line, starts."""
    another = node.start("--ttl", ttl, "--min-hold", 0, "--wait", 120, "--", *tree.counter(), cwd=os.getcwd())
    assert another.wait() == 0, another.err
    _, alive, _, began = another.out.split()
    assert int(alive) == 0
    assert tree.last_beat() < float(began)


@WITH_SERVER
def test_server_that_hangs(backend: Backend) -> None:
    """If the server accepts requests but never answers, the command is dead before the ttl is over: status 75.

    cronlock stays a second at most behind that, whatever the limit of a request; who asks only then has an answer
    within twice that limit, status 69.
    """
    tree = Tree(backend.node.directory / "tree")
    started = backend.node.start_ready("--ttl", _TTL, "--backend-timeout", 9, "--", *tree.command)
    with backend.server.paused():
        paused_at = now()
        assert started.wait() == 75
        ended_at = now()
        another = backend.node.run("--backend-timeout", 5, "--", "echo", "ran")
        answered_at = now()
    assert tree.alive() == []
    assert tree.last_beat() < paused_at + _TTL
    assert len(started.messages) == 1, started.err
    assert "lease lost" in started.err
    assert ended_at < paused_at + _TTL + 2.5
    assert (another.status, another.out) == (69, "")
    assert len(another.messages) == 1
    assert answered_at < ended_at + 14.9  # Not three times the limit.


# The services of AWS do not restart, and their emulators forget everything then.
@on("redis", "zookeeper", "etcd", "postgresql", "mysql")
def test_server_that_restarts_with_its_data(backend: Backend) -> None:
    """A server that is killed and started again within the ttl leaves the job undisturbed."""
    node = backend.node
    # ZooKeeper lets a session of 20 ticks live at most: 10 s with the tick of the tests.
    words = ("--ttl", 10, "--kill-after", 1, "--min-hold", 0, "--backend-timeout", 2)
    started = node.hold(*words, then="exit 5")
    backend.server.kill()
    backend.server.start()
    # Two renewals fall into it, whatever was lost with the connection.
    time.sleep(6)
    assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
    node.finish()
    assert (started.wait(), started.err) == (5, "")


@on("redis", "zookeeper", "etcd", "postgresql", "mysql")
def test_server_that_is_away_as_the_command_ends(backend: Backend) -> None:
    """The end of the run is recorded as soon as the server is back, without waiting for the lease to lapse."""
    node = backend.node
    # The release is retried for twice that long.
    started = node.hold("--ttl", 30, "--min-hold", 0, "--backend-timeout", 30, then="touch gone; exit 5")
    backend.server.kill()
    node.finish()
    wait_until((node.directory / "gone").exists, "the command ends")
    backend.server.start()
    assert (started.wait(), started.err) == (5, "")
    assert node.run("--skip-status", 9, "--", "echo", "ran").out == "ran\n"


@on("memcached")
def test_server_that_restarts_without_its_data(backend: Backend) -> None:
    """After a restart memcached has lost the lease: the command is stopped, and no other starts meanwhile."""
    tree = Tree(backend.node.directory / "tree")
    started = backend.node.start_ready("--ttl", _TTL, "--min-hold", 0, "--", *tree.command)
    backend.server.kill()
    backend.server.start()
    check_dead_when_next_run_starts(backend.node, tree, _TTL)
    assert started.wait() == 75


@EVERY
def test_holder_that_ends_while_others_look(backend: Backend) -> None:
    """There is no gap between lease and hold: runs that ask while the holder ends are skips."""
    node = backend.node
    holder = node.hold("--ttl", 30, "--min-hold", 60)
    others = [node.start("--skip-status", 9, "--", "echo", "ran") for _ in range(4)]
    node.finish()
    assert [other.wait() for other in others] == [9] * 4
    assert holder.wait() == 0
