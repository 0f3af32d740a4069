"""Signals: forwarded while the command runs, or dispositions as without cronlock."""

from __future__ import annotations

import signal

import pytest

from .signals import end_printer, is_free, start_printer
from .support import Node, Tree


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
