"""Process trees: whatever dies or is stopped, the whole command ends in time."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from .support import Node, Started, Tree, children, halt, is_alive, now, python, wait_stopped, wait_until

_TTL = 6


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Give a tree of processes that resist being killed."""
    return Tree(tmp_path / "tree")


def start(node: Node, tree: Tree, *words: object) -> Started:
    """Start a tree under a lease and wait until it is complete."""
    started = node.start_ready("--ttl", _TTL, "--min-hold", "0", *words, "--", *tree.command)
    assert len(tree.alive()) >= 5
    return started


def check_dead_when_next_run_starts(node: Node, tree: Tree) -> None:
    """Check that nothing of the tree lives when the next run of the key starts."""
    started = node.start("--min-hold", "0", "--wait", "60", "--", *tree.counter(), cwd=os.getcwd())
    assert started.wait() == 0, started.err
    _, alive, _, began = started.out.split()
    assert int(alive) == 0
    assert tree.last_beat() < float(began)


def all_end_in_time(tree: Tree, killed_at: float) -> None:
    """Wait for the end of the tree, and check that it came before the lease lapsed."""
    wait_until(lambda: tree.alive() == [], "the end of the tree")
    # The last renewal was sent before the kill.
    assert tree.last_beat() < killed_at + _TTL


def test_sigkill_of_the_wrapper(node: Node, tree: Tree) -> None:
    """After SIGKILL of the wrapper the whole command is dead before the next run starts, with a message."""
    started = start(node, tree)
    killed_at = now()
    started.signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    check_dead_when_next_run_starts(node, tree)
    assert tree.last_beat() < killed_at + _TTL
    assert "killed" in started.err
    assert len(started.messages) == 1


def test_sigstop_of_the_wrapper(node: Node, tree: Tree) -> None:
    """If the wrapper stays stopped beyond the deadline, the command is killed in time."""
    started = start(node, tree)
    started.signal(signal.SIGSTOP)
    wait_stopped(started.pid)
    stopped_at = now()
    check_dead_when_next_run_starts(node, tree)
    # Its last renewal was sent before it was stopped.
    assert tree.last_beat() < stopped_at + _TTL
    started.signal(signal.SIGCONT)
    assert started.wait() == 75
    assert len(started.messages) == 1


def test_sigkill_of_the_guard(node: Node, tree: Tree) -> None:
    """After SIGKILL of the guard the wrapper kills everything and exits with status 70 and a message."""
    started = start(node, tree)
    os.kill(started.guard, signal.SIGKILL)
    assert started.wait() == 70
    assert tree.alive() == []
    assert len(started.messages) == 1
    assert "guard" in started.err
    check_dead_when_next_run_starts(node, tree)


@pytest.mark.parametrize("spared", ["wrapper", "backup guard", "guard"])
def test_sigkill_of_two(node: Node, tree: Tree, spared: str) -> None:
    """Any one of wrapper, backup guard and guard suffices to kill everything in time."""
    started = start(node, tree)
    family = {"wrapper": started.pid, "backup guard": started.backup_guard, "guard": started.guard}
    kept = family.pop(spared)
    killed_at = now()
    kill_at_once(list(family.values()))
    assert started.wait() == (70 if spared == "wrapper" else -signal.SIGKILL)
    all_end_in_time(tree, killed_at)
    wait_until(lambda: not is_alive(kept), f"the end of the {spared}")
    check_dead_when_next_run_starts(node, tree)


@pytest.mark.parametrize("first", ["guard", "wrapper"])
def test_stopped_guard_of_a_killed_wrapper(node: Node, tree: Tree, first: str) -> None:
    """The backup guard continues a guard that was stopped when the wrapper is killed, or is stopped then."""
    started = start(node, tree)
    guard = started.guard
    if first == "guard":
        halt(guard)
    killed_at = now()
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    if first == "wrapper":
        with suppress(ProcessLookupError):  # It may be done already.
            os.kill(guard, signal.SIGSTOP)
    all_end_in_time(tree, killed_at)
    wait_until(lambda: not is_alive(guard), "the guard's end")
    check_dead_when_next_run_starts(node, tree)


def test_sigkill_of_the_backup_guard(node: Node) -> None:
    """Without its backup guard a run continues and ends normally."""
    started = node.hold(then="exit 5")
    os.kill(started.backup_guard, signal.SIGKILL)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_sigkill_of_all_three(node: Node) -> None:
    """If wrapper and both guards are killed at once, the command itself dies."""
    started = node.start_ready("--ttl", "5", "--", "sh", "-c", "echo ready; exec sleep 300")
    kill_at_once([started.pid, started.backup_guard, started.guard])
    assert started.wait() == -signal.SIGKILL
    wait_until(lambda: node.left() == [], "the command's end")


def kill_at_once(pids: list[int]) -> None:
    """Send SIGKILL to processes, none of which can act in between."""
    for pid in pids:
        halt(pid)
    # The innermost first: the kernel continues a stopped group whose last parent ends.
    for pid in reversed(pids):
        with suppress(ProcessLookupError):  # It dies with the one before.
            os.kill(pid, signal.SIGKILL)


def test_kill_of_the_process_group(node: Node, tree: Tree) -> None:
    """SIGKILL to the wrapper's process group, as from a supervisor, kills the whole tree."""
    started = start(node, tree)
    killed_at = now()
    os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    all_end_in_time(tree, killed_at)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGTSTP", "SIGPIPE"])
def test_guard_survives_signals(node: Node, name: str) -> None:
    """The guard survives signals."""
    started = node.hold(then="exit 5")
    for guard in (started.guard, started.backup_guard):
        os.kill(guard, signal.Signals[name])
        time.sleep(0.1)
        assert is_alive(guard)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_stopped_guard_is_continued(node: Node) -> None:
    """The wrapper continues a stopped guard at the next renewal."""
    started = node.hold("--ttl", 12, then="exit 5")
    halt(started.guard)
    node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_fifty_processes(node: Node) -> None:
    """Fifty processes in many sessions that ignore TERM are all killed."""
    tree = Tree(node.directory / "tree", "deaf,plain", 48)
    started = start(node, tree)
    assert len(tree.alive()) >= 50
    killed_at = now()
    started.signal(signal.SIGKILL)
    started.wait()
    all_end_in_time(tree, killed_at)


def test_daemon_survives_a_normal_end(node: Node) -> None:
    """After a normal end a daemon lives on, and the key is released."""
    code = "setsid sh -c 'echo $$; exec sleep 300' & exit 3"
    started = node.start("--min-hold", "0", "--", "sh", "-c", code)
    assert started.wait() == 3
    wait_until(lambda: started.out, "the daemon's pid")
    daemon = int(started.out)
    try:
        assert node.run("--min-hold", "0", "--", "echo", "free").out == "free\n"
        assert is_alive(daemon)
        wait_until(lambda: node.left() == [daemon], "the end of all but the daemon")
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_daemon_keeps_no_lock_of_the_file_backend(file_node: Node) -> None:
    """A daemon that inherited the file backend's descriptor does not keep the key after the run's end."""
    test_daemon_survives_a_normal_end(file_node)


def test_orphans_are_reaped_while_it_runs(node: Node) -> None:
    """The guard reaps its orphans."""
    code = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)
        os._exit(0)
    os.wait()
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
"""
    started = node.start_ready("--", *python(code))
    guard = started.guard
    wait_until(lambda: len(children(guard)) == 1, "only the command is left of the guard's children")
    assert children(started.pid) == [started.backup_guard]
    assert children(started.backup_guard) == [guard]
    node.finish()
    assert started.wait() == 0


def test_on_lost_continue_survives_the_wrapper(node: Node) -> None:
    """With --on-lost continue the command continues after SIGKILL of the wrapper."""
    started = node.hold("--on-lost", "continue", then="echo end")
    started.signal(signal.SIGKILL)
    started.process.wait()
    time.sleep(0.5)
    assert node.left()
    node.finish()
    wait_until(lambda: node.left() == [], "the command's end")
    assert started.out == "ready\nend\n"


def test_file_backend_sigkill_of_all_processes_of_cronlock(file_node: Node) -> None:
    """On the file backend the key stays held while any process of the job lives."""
    code = "setsid sh -c 'echo $$; exec sleep 300' & exec sleep 300"
    started = file_node.start("--ttl", "3", "--min-hold", "0", "--", "sh", "-c", code)
    wait_until(lambda: started.out, "the process of another session")
    far = int(started.out)
    kill_at_once([started.pid, *started.guards])
    started.wait()
    time.sleep(0.3)
    assert is_alive(far)
    assert file_node.run("--", "echo", "ran").out == ""
    os.kill(far, signal.SIGKILL)
    wait_until(lambda: file_node.left() == [], "the end of all")
    assert file_node.run("--", "echo", "ran").out == "ran\n"


def test_file_backend_sigstop_of_the_wrapper(file_node: Node, tree: Tree) -> None:
    """A stopped wrapper does not keep the file backend's key forever."""
    started = start(file_node, tree)
    started.signal(signal.SIGSTOP)
    wait_stopped(started.pid)
    check_dead_when_next_run_starts(file_node, tree)
    started.signal(signal.SIGCONT)
    assert started.wait() == 75


def test_children_from_before_exec_are_spared(node: Node) -> None:
    """Children of the shell that became cronlock by exec live on."""
    line = node.line("--min-hold", "0", "--", "sh", "-c", "echo ready; exec sleep 300")
    started = node.spawn(["sh", "-c", 'sleep 299 & echo $!; exec "$@"', "sh", *line])
    started.wait_for("ready")
    sibling = int(started.out.split()[0])
    (backup_guard,) = (pid for pid in children(started.pid) if pid != sibling)
    (guard,) = children(backup_guard)
    os.kill(guard, signal.SIGKILL)
    assert started.wait() == 70
    try:
        assert is_alive(sibling)
    finally:
        os.kill(sibling, signal.SIGKILL) if is_alive(sibling) else None


def test_nested_runs_end_together(node: Node, tree: Tree) -> None:
    """After SIGKILL of the outer wrapper, a nested run ends with its command."""
    inner = node.line("--min-hold", "0", "--", *tree.command, key="inner")
    started = node.start_ready("--ttl", _TTL, "--min-hold", "0", "--", *inner)
    killed_at = now()
    started.signal(signal.SIGKILL)
    started.wait()
    all_end_in_time(tree, killed_at)


@pytest.mark.parametrize("on_term", ["exit 3", ":"], ids=["leader ends", "leader stays"])
def test_proc_of_another_pid_namespace(node: Node, on_term: str) -> None:
    """Where /proc shows other processes, the command's group is gone before the key is free."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes a pid namespace")
    tree = Tree(node.directory / "tree", "deaf,plain")
    leader = f"trap '{on_term}' TERM; \"$@\" & while :; do wait; done"
    words = ("--ttl", _TTL, "--min-hold", "0", "--timeout", "5", "--kill-after", "1")
    line = node.line(*words, "--", "sh", "-c", leader, "sh", *tree.command)
    # Not as the namespace's first process, with whose end the kernel ends all others.
    started = node.spawn(["unshare", "-pf", "sh", "-c", '"$@"; exit $?', "sh", *line])
    started.wait_for("ready")
    check_dead_when_next_run_starts(node, tree)
    assert started.wait() == 124
    assert len(started.messages) == 1
