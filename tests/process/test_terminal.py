"""cronlock is transparent at a terminal with a job-control shell."""

from __future__ import annotations

import os
import signal
import sys
import time

from .support import Node, children, guards, is_stopped, wait_until
from .terminal import BACKGROUND_LOOP, LOOP, PROMPT, Shell


def test_ctrl_c(shell: Shell) -> None:
    """Ctrl-C ends the command, with the matching status."""
    shell.do(f"./locked {LOOP}")
    shell.expect("ready")
    shell.send("\x03")
    shell.ends_job_with(130)


def test_ctrl_backslash(shell: Shell) -> None:
    """Ctrl-\\ quits the command."""
    shell.do("ulimit -c 0")
    shell.expect(PROMPT)
    shell.do(f"./locked {LOOP}")
    shell.expect("ready")
    shell.send("\x1c")
    shell.ends_job_with(131)


def test_ctrl_c_that_the_command_handles(shell: Shell) -> None:
    """A command that handles Ctrl-C keeps its own status, and gets the signal once."""
    shell.do("./locked sh -c 'trap \"echo got''one; exit 4\" INT; echo rea''dy; while :; do sleep 0.1; done'")
    shell.expect("ready")
    shell.send("\x03")
    shell.expect("gotone")
    shell.ends_job_with(4)


def test_ctrl_z_and_fg(shell: Shell) -> None:
    """Ctrl-Z stops the job for the shell, fg continues it, more than once."""
    shell.do(f"./locked {LOOP}")
    shell.expect("ready")
    for _ in range(2):
        shell.send("\x1a")
        shell.expect("Stopped")
        shell.expect(PROMPT)
        shell.do("fg")
        shell.expect("locked")
        shell.wait_until_job_goes_on()
    shell.send("\x03")
    shell.ends_job_with(130)


def test_ctrl_z_and_bg(shell: Shell, node: Node) -> None:
    """bg lets a stopped job go on in the background, fg brings it back."""
    (node.directory / "job").write_text(f"#!/bin/sh\nexec {BACKGROUND_LOOP}\n")
    (node.directory / "job").chmod(0o755)
    shell.do("./locked ./job")
    shell.expect("ready")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.do("bg")
    shell.expect("&")
    node.finish()
    shell.expect("worked")
    shell.do("fg")
    shell.expect("locked")
    (node.directory / "go2").touch()
    shell.ends_job_with(6)


def test_reading_from_the_terminal(shell: Shell) -> None:
    """A foreground command reads what is typed."""
    shell.do("./locked sh -c 'echo rea''dy; read x; echo got:$x; read y; echo got:$y'")
    shell.expect("ready")
    shell.do("hello")
    shell.expect("got:hello")
    shell.do("again")
    shell.expect("got:again")
    shell.ends_job_with(0)


def _reads_in_front(shell: Shell) -> None:
    """Bring the stopped job to the foreground, where it reads a line."""
    shell.do("fg")
    shell.expect("locked")
    time.sleep(0.3)
    shell.do("hello")
    shell.expect("got:hello")
    shell.ends_job_with(0)


def test_reading_after_ctrl_z_and_fg(shell: Shell) -> None:
    """A command that was stopped and continued reads what is typed."""
    shell.do("./locked sh -c 'echo rea''dy; read x; echo got:$x'")
    shell.expect("ready")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    _reads_in_front(shell)


def test_background_job_that_reads(shell: Shell) -> None:
    """A background job that reads from the terminal is stopped, and reads once it is brought forward."""
    shell.do("./locked sh -c 'read x; echo got:$x' &")
    shell.expect(PROMPT)
    wait_until(lambda: any(is_stopped(pid) for pid in children(shell.pid)), "the job is stopped")
    _reads_in_front(shell)


def test_background_job_that_does_not_read(shell: Shell, node: Node) -> None:
    """A background job runs and ends without the terminal, while the shell has it."""
    shell.do("./locked sh -c 'while [ ! -e go ]; do sleep 0.1; done; echo do''ne; exit 8' & job=$!")
    shell.expect(PROMPT)
    shell.do("read x; echo got:$x")
    time.sleep(0.2)
    shell.do("hello")
    shell.expect("got:hello")
    node.finish()
    shell.expect("done")
    shell.do("wait $job; echo status=$?.")
    shell.expect("\nstatus=8.")


def test_window_size(shell: Shell) -> None:
    """A change of the window's size reaches the command."""
    shell.do("./locked bash -c 'trap \"echo size:\\$(stty size)\" WINCH; echo rea''dy; while :; do sleep 0.1; done'")
    shell.expect("ready")
    shell.resize(33, 77)
    shell.expect("size:33 77")
    shell.send("\x03")
    shell.ends_job_with(130)


def test_script_reads_on(shell: Shell, node: Node) -> None:
    """A script at the terminal can read after cronlock ended: it has the foreground again."""
    (node.directory / "script").write_text(
        "./locked sh -c 'read x; echo command:$x'\nread y\necho script:$y\n./locked true\nread z\necho then:$z\n"
    )
    shell.do("sh script")
    for word, what in (("one", "command"), ("two", "script"), ("three", "then")):
        time.sleep(0.2)
        shell.do(word)
        shell.expect(f"{what}:{word}")
    shell.ends_job_with(0)


def test_script_reads_on_after_the_guards_death(shell: Shell, node: Node) -> None:
    """A script at the terminal can read after cronlock's guard was killed."""
    (node.directory / "script").write_text(
        "./locked sh -c 'echo rea''dy; exec sleep 300'\necho status=$?.\nread y\necho script:$y\n"
    )
    shell.do("sh script")
    shell.expect("ready")
    (script,) = children(shell.pid)
    (wrapper,) = children(script)
    os.kill(guards(wrapper)[-1], signal.SIGKILL)
    shell.expect("status=70.")
    shell.do("hello")
    shell.expect("script:hello")
    shell.ends_job_with(0)


_UNREPORTED = """
import os, signal
from cronlock.__main__ import main
from cronlock.process.command import Command
start = Command.start
def start_and_die(self):
    _, reader = start(self)
    os.read(reader, 1)  # Until exec.
    os.kill(os.getpid(), signal.SIGKILL)
Command.start = start_and_die
main()
"""


def test_guard_that_dies_before_it_reports_the_command(shell: Shell, node: Node) -> None:
    """The script can read although the wrapper never learned which group the terminal was given to."""
    (node.directory / "unreported").write_text(_UNREPORTED)
    (node.directory / "script").write_text(
        f"'{sys.executable}' unreported run --key job -- sleep 300\necho status=$?.\nread y\necho script:$y\n"
    )
    shell.do("sh script")
    shell.expect("status=70.")
    shell.do("hello")
    shell.expect("script:hello")
    shell.ends_job_with(0)


def test_ctrl_c_ends_a_script(shell: Shell, node: Node) -> None:
    """Ctrl-C at a command in a script ends the script too, as without cronlock."""
    (node.directory / "script").write_text(f"./locked {LOOP}\necho went''on\n")
    shell.do("bash script")
    shell.expect("ready")
    shell.send("\x03")
    shell.ends_job_with(130)
    assert "wenton" not in shell.shown


def test_ctrl_z_stops_a_pipeline(shell: Shell) -> None:
    """Ctrl-Z stops the whole pipeline that cronlock is part of, fg continues it, Ctrl-C ends it."""
    shell.do(f"./locked {LOOP} | cat")
    shell.expect("ready")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    shell.do("fg")
    shell.expect("| cat")
    shell.wait_until_job_goes_on()
    shell.send("\x03")
    shell.expect(PROMPT)
    wait_until(lambda: children(shell.pid) == [], "the pipeline's end")


_PAGER = """
import sys
line = sys.stdin.readline().strip()
with open("/dev/tty") as terminal:
    print(f"page:{line}", flush=True)
    print(f"key:{terminal.readline().strip()}", flush=True)
print(f"rest:{sys.stdin.read().strip()}", flush=True)
"""


def test_pager_at_the_end_of_a_pipeline(shell: Shell, node: Node) -> None:
    """A pager at the end of the pipeline reads from the terminal while the command runs, and nothing is stopped."""
    (node.directory / "pager.py").write_text(_PAGER)
    job = "echo hello; while [ ! -e go ]; do sleep 0.05; done; echo more"
    shell.do(f"./locked sh -c '{job}' | '{sys.executable}' -IS pager.py")
    shell.expect("page:hello")
    shell.do("q")
    shell.expect("key:q")
    node.finish()
    shell.expect("rest:more")
    shell.ends_job_with(0)
    assert "Stopped" not in shell.shown


def test_reading_from_the_terminal_in_front_of_a_pipe(shell: Shell) -> None:
    """A command in front of a pipe gets the terminal when it reads, and the shell gets it back."""
    shell.do("./locked sh -c 'read x; echo got:$x; read y; echo got:$y' | cat")
    shell.do("hello")
    shell.expect("got:hello")
    shell.do("again")
    shell.expect("got:again")
    shell.ends_job_with(0)
    assert "Stopped" not in shell.shown


def test_ctrl_c_while_waiting(shell: Shell, node: Node) -> None:
    """Ctrl-C while it waits for another run ends cronlock with 130, and nothing runs."""
    holder = node.hold()
    shell.do("CRONLOCK_WAIT=300 ./locked touch ran")
    wait_until(lambda: children(shell.pid), "the waiting run")
    time.sleep(0.5)
    shell.send("\x03")
    shell.ends_job_with(130)
    assert not (node.directory / "ran").exists()
    node.finish()
    assert holder.wait() == 0


def test_skip_says_so(shell: Shell) -> None:
    """At a terminal a skip names the holder, unless --quiet."""
    shell.do("CRONLOCK_MIN_HOLD=60 ./locked true")
    shell.expect(PROMPT)
    shell.do("./locked -q echo r''an; echo en''d")
    shell.expect("\nend\n")
    shell.do("./locked echo r''an; echo en''d")
    shell.expect(f"skipped: {os.uname().nodename}")
    shell.expect("\nend\n")
    assert "\nran" not in shell.shown
