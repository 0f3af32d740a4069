"""Signals: forwarded while the command runs; before that they end cronlock without a trace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from .support import Node, Started, Tree, children, is_alive, python, wait_running, wait_stopped, wait_until

#: A command that prints its signals; TERM ends it with status 9.
PRINTER = """
import os, signal
def note(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        os._exit(9)
for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"):
    number = getattr(signal, "SIG" + name)
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, note)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


#: Exits with status 5 once there is a file "go". A shell would not do where it is stopped: one that is
#: stopped between its vfork and its child's exec never shows as stopped.
WAITER = """
import os, sys, time
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
sys.exit(5)
"""


def start_printer(node: Node, *words: str, preexec_fn: Callable[[], None] | None = None) -> Started:
    """Start a command that prints its signals and wait until it does."""
    return node.start_ready(*words, "--", *python(PRINTER), preexec_fn=preexec_fn)


def end_printer(started: Started) -> None:
    """End it by a forwarded TERM."""
    started.signal(signal.SIGTERM)
    assert started.wait() == 9


def is_free(node: Node) -> bool:
    """Whether the key is free."""
    return node.run("--", "echo", "free").out == "free\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT"])
def test_forwarded(node: Node, name: str) -> None:
    """A signal to the wrapper reaches the command, which may continue."""
    printer = start_printer(node)
    printer.signal(signal.Signals[name])
    printer.wait_for(name)
    end_printer(printer)
    assert printer.err == ""


def test_all_of_the_group_gets_it(node: Node) -> None:
    """A forwarded signal reaches the command's whole process group, as Ctrl-C would."""
    child = "trap 'echo child; exit' USR1; echo up; while :; do sleep 0.05; done"
    code = f'trap "echo parent; wait; exit 3" USR1; sh -c "{child}" & echo ready; wait; wait'
    started = node.start_ready("--", "sh", "-c", code)
    started.wait_for("up")
    started.signal(signal.SIGUSR1)
    assert started.wait() == 3
    assert {"parent", "child"} <= set(started.out.split())


def test_many_signals_in_a_row(node: Node) -> None:
    """Many signals in a row neither end the wrapper nor get lost."""
    printer = start_printer(node)
    for _ in range(300):
        printer.signal(signal.SIGUSR1)
        printer.signal(signal.SIGWINCH)
    printer.signal(signal.SIGUSR2)
    printer.wait_for("SIGUSR2")
    end_printer(printer)


def test_term_that_the_command_handles(node: Node) -> None:
    """TERM to the wrapper gives the command's status."""
    printer = start_printer(node)
    end_printer(printer)
    assert printer.out.split() == ["ready", "SIGTERM"]
    assert printer.err == ""
    # It ran, so there is a hold.
    assert not is_free(node)


def test_term_that_kills_the_command(node: Node) -> None:
    """A command that dies of TERM gives 143, and its processes in other sessions are killed."""
    tree = Tree(node.directory / "tree", "plain,session,orphan,stopped")
    started = node.start_ready("--kill-after", "1", "--", *tree.command)
    started.signal(signal.SIGTERM)
    assert started.wait() == 143
    assert tree.alive() == []


def test_term_that_kills_the_command_but_not_its_children(node: Node) -> None:
    """Processes that ignore the TERM which killed the command are killed after the grace."""
    code = "setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done' & wait"
    started = node.start_ready("--kill-after", "1", "--", "bash", "-c", code)
    started.signal(signal.SIGTERM)
    assert started.wait() == 143
    assert node.left() == []


def test_ignored_signals_stay_ignored(node: Node) -> None:
    """Under nohup the command ignores HUP too, and the wrapper survives it."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    printer = start_printer(node, preexec_fn=ignore)
    printer.signal(signal.SIGHUP)
    printer.signal(signal.SIGUSR2)
    printer.signal(signal.SIGUSR1)
    printer.wait_for("SIGUSR1")
    end_printer(printer)
    assert "SIGHUP" not in printer.out
    assert "SIGUSR2" not in printer.out


def test_no_signal_is_blocked_or_ignored(node: Node) -> None:
    """No signal is blocked or ignored in the command even if the caller blocks some."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})

    started = node.start("--", "grep", "^Sig", "/proc/self/status", preexec_fn=block)
    assert started.wait() == 0
    masks = dict(line.split(":\t") for line in started.out.splitlines())
    # What the C library keeps for itself (32, 33) may come ignored from whoever started the tests, as make does.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [int(masks[name], 16) & settable for name in ("SigPnd", "SigBlk", "SigIgn")] == [0, 0, 0]


@pytest.mark.parametrize("blocked", [False, True])
def test_dispositions_are_as_without_cronlock(node: Node, blocked: bool) -> None:
    """The command ignores the same signals as without cronlock."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        signal.signal(signal.SIGRTMIN + 2, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    command = ["grep", "^SigIgn", "/proc/self/status"]
    started = node.start("--", *command, preexec_fn=prepare)
    assert started.wait() == 0
    direct = node.spawn(command, preexec_fn=prepare)
    assert direct.wait() == 0
    assert started.out == direct.out


def test_signals_that_the_caller_blocks_still_end_a_run(node: Node) -> None:
    """TERM ends the run even if the caller blocked it, as it would end the command."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    started = node.start_ready("--", "sh", "-c", "echo ready; exec sleep 300", preexec_fn=block)
    started.signal(signal.SIGTERM)
    assert started.wait() == 143


def wait_for_handlers(started: Started) -> None:
    """Wait until the wrapper catches TERM."""

    def catches() -> bool:
        with open(f"/proc/{started.pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    wait_until(catches, "TERM is caught")


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
    started = node.start_ready("--ttl", "1.5", "--", *python(WAITER))
    (command,) = children(started.guard)
    os.kill(command, signal.SIGSTOP)
    wait_stopped(command)
    time.sleep(3)
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
    done = node.run("--timeout", 2, "--", *python(code))
    assert done.status == 124
    assert sorted(done.out.split()) == ["SIGCONT"] * 2 + ["SIGTERM"] * 2 + ["ready"] * 2
