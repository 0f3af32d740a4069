"""Drive ``cronlock`` from outside: runs, misbehaving commands, and process information from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labs.proc import children as children
from labs.proc import is_alive as is_alive
from labs.proc import is_stopped as is_stopped
from labs.proc import look, pids, stat
from labs.servers.process import eventually

#: In the environment of every process of a test, to find those left behind.
_MARK = "TESTS_OF_CRONLOCK"
_CRONLOCKS_ARGUMENTS = b"\0cronlock\0run\0"


def now() -> float:
    """Return the time on the clock that counts suspension, as cronlock's rules do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def python(code: str, *arguments: object) -> list[str]:
    """Return a command that runs `code` in a bare interpreter."""
    return [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]


class Started:
    """A started process whose output goes to files, so that no pipe blocks."""

    def __init__(self, command: Sequence[str], out: Path, err: Path, **options: Any) -> None:
        self._out, self._err = out, err
        with out.open("wb") as stdout, err.open("wb") as stderr:
            settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr, **options}
            self.process = subprocess.Popen(command, **settings)

    @property
    def pid(self) -> int:
        """The wrapper's process id."""
        return self.process.pid

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def messages(self) -> list[str]:
        """The lines on standard error so far."""
        return self.err.splitlines()

    @property
    def guard(self) -> int:
        """The guard's process id: the only child of the wrapper or of the backup guard."""
        return self.guards[-1]

    @property
    def guards(self) -> list[int]:
        """The process ids of the backup guard, if any, and of the guard."""
        return guards(self.pid)

    @property
    def backup_guard(self) -> int:
        """The backup guard's process id, on backends with one."""
        backup, _ = self.guards
        return backup

    def signal(self, number: int) -> None:
        """Send a signal to the wrapper."""
        self.process.send_signal(number)

    def wait(self, limit: float = 120) -> int:
        """Return the exit status, negative for a signal."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end; stdout {self.out[-500:]!r}, stderr {self.err[-2000:]!r}") from None

    def wait_for(self, text: str, limit: float = 60) -> None:
        """Wait until it wrote `text` to standard output."""
        wait_until(lambda: text in self.out or self.process.poll() is not None, f"{text!r} on standard output", limit)
        assert text in self.out, f"ended with {self.process.poll()}: {self.out!r} {self.err!r}"

    def hears(self, text: str, limit: float = 60) -> None:
        """Wait until `text` is on standard error."""
        wait_until(lambda: text in self.err, f"{text!r} on standard error", limit)


class Done:
    """A finished run."""

    def __init__(self, started: Started) -> None:
        self.status = started.wait()
        self.out = started.out
        self.err = started.err
        self.messages = started.messages


class Node:
    """A machine to run cronlock on: its own state directory, environment and backend."""

    def __init__(self, directory: Path, backend: str) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.backend = backend
        self.mark = os.urandom(8).hex()
        self._count = 0
        empty = directory / "empty.conf"
        empty.touch()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
        # CRONLOCK_CONFIG: ignore the machine's own file in /etc.
        self.environ.update(
            {
                _MARK: self.mark,
                "CRONLOCK_STATE_DIR": str(self.state),
                "CRONLOCK_BACKEND": backend,
                "CRONLOCK_CONFIG": str(empty),
            }
        )

    def line(self, *words: object, key: str = "job") -> list[str]:
        """Return a command line of ``cronlock run`` for `key`."""
        return [sys.executable, "-m", "cronlock", "run", f"--key={key}", *map(str, words)]

    def start(self, *words: object, key: str = "job", env: dict[str, str] | None = None, **options: Any) -> Started:
        """Start ``cronlock run`` with `words` without a terminal, with `env` added to the node's."""
        return self.spawn(self.line(*words, key=key), env=env, **options)

    def run(self, *words: object, key: str = "job", env: dict[str, str] | None = None, **options: Any) -> Done:
        """Run ``cronlock run`` with `words` to its end."""
        return Done(self.start(*words, key=key, env=env, **options))

    def start_ready(self, *words: object, **options: Any) -> Started:
        """Start ``cronlock run`` with `words`, and wait until its command printed "ready"."""
        started = self.start(*words, **options)
        started.wait_for("ready")
        return started

    def hold(self, *words: object, then: str = "exit 0", **options: Any) -> Started:
        """Start a run that has the key until `finish`, and then does `then` in a shell."""
        code = f"echo ready; while [ ! -e go ]; do sleep 0.05; done; {then}"
        return self.start_ready(*words, "--", "sh", "-c", code, **options)

    def finish(self) -> None:
        """Let the commands that wait for the file "go" end."""
        (self.directory / "go").touch()

    def spawn(self, command: Sequence[str], *, env: dict[str, str] | None = None, **options: Any) -> Started:
        """Start any command in the node's environment."""
        self._count += 1
        out, err = (self.directory / f"{self._count}.{name}" for name in ("out", "err"))
        settings: dict[str, Any] = {"cwd": self.directory, "start_new_session": True, **options}
        return Started(command, out, err, env={**self.environ, **(env or {})}, **settings)

    def left(self) -> list[int]:
        """Return the live processes of this node."""
        mark = f"{_MARK}={self.mark}".encode()
        return [pid for pid in pids() if mark in look(pid, "environ") and is_alive(pid)]

    def check_nothing_left(self) -> None:
        """Fail if a process of the test is still alive, and kill it."""
        limit = time.monotonic() + 30
        while (left := self.left()) and time.monotonic() < limit:
            time.sleep(0.05)
        told = [(pid, show(pid)) for pid in left]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        assert not told, f"left behind: {told}"


class Tree:
    """A command that ignores TERM and starts processes in other sessions, orphans, a stopped one and a changing one.

    Each notes the time again and again in a file of `folder`, so that it is known until when it lived. What
    outlives a broken test ends by itself: nobody could catch the changing one from outside.
    """

    _CODE = """
import os, signal, sys, time
folder = sys.argv[1]
ways, size = sys.argv[3].split(","), int(sys.argv[4])
end = time.monotonic() + 300
def note(name):
    if time.monotonic() > end:
        os._exit(0)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    with open(f"{folder}/{name}", "a") as file:
        file.write(f"{now}\\n")
def live(name):
    while True:
        note(name)
        time.sleep(0.02)
if "deaf" in ways:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
def member(way):
    if way != "plain":
        os.setsid()
    if way == "orphan" and os.fork():
        os._exit(0)
    if way == "stopped":
        note("stopped")
        os.kill(os.getpid(), signal.SIGSTOP)
    while way == "changing":
        note("changing")
        time.sleep(0.005)
        if os.fork():
            os._exit(0)
    live(f"{way}.{os.getpid()}")
members = [way for way in ways if way != "deaf"] + ["plain", "session", "orphan"] * (size // 3)
for way in members:
    if os.fork() == 0:
        member(way)
note("leader")
limit = time.monotonic() + 60
while len(os.listdir(folder)) < len(members) + 1 and time.monotonic() < limit:
    time.sleep(0.01)
print("ready", flush=True)
live("leader")
"""

    ALL = "deaf,plain,session,orphan,stopped,changing"

    def __init__(self, folder: Path, ways: str = ALL, size: int = 0) -> None:
        folder.mkdir()
        self.folder = folder
        self.name = "tree-" + os.urandom(8).hex()
        self.command = python(self._CODE, folder, self.name, ways, size)

    def alive(self) -> list[int]:
        """Return its live processes."""
        return [pid for pid in members_of(self.name) if is_alive(pid)]

    def first_beat(self) -> float:
        """Return when the command began."""
        return min(float(path.read_text().split()[0]) for path in self.folder.iterdir() if path.stat().st_size)

    def last_beat(self) -> float:
        """Return when its last process died."""
        return max(float(path.read_text().split()[-1]) for path in self.folder.iterdir() if path.stat().st_size)

    def counter(self) -> list[str]:
        """Return a command that prints the number of live processes of the tree and its own start time."""
        return [sys.executable, "-c", _COUNTER, self.name]


_COUNTER = """
import sys, time
from tests.process.support import is_alive, members_of, now
began = now()
print("alive:", sum(is_alive(pid) for pid in members_of(sys.argv[1])), "began:", began)
"""


def members_of(name: str) -> list[int]:
    """Return the processes with `name` among their arguments, except cronlock's and the caller."""
    wanted = b"\0" + name.encode() + b"\0"
    found = []
    for pid in pids():
        words = look(pid, "cmdline")
        if wanted in words and _CRONLOCKS_ARGUMENTS not in words and b"members_of" not in words:
            found.append(pid)
    return found


def guards(wrapper: int) -> list[int]:
    """Return the backup guard, if any, and the guard of a run, which has no other children."""
    (child,) = children(wrapper)
    return [child, *children(child)] if is_backup_guard(child) else [child]


def is_backup_guard(pid: int) -> bool:
    """Return whether a process is a backup guard."""
    return look(pid, "comm").strip() == b"cronlock-backup"


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process used."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def copied_bytes(pid: int) -> int:
    """Return how many bytes a process read and wrote."""
    counts = dict(line.split(b": ") for line in look(pid, "io").splitlines())
    return int(counts[b"rchar"]) + int(counts[b"wchar"])


def show(pid: int) -> str:
    """Return a description of a process."""
    return look(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")[:300]


def wait_until(condition: Callable[[], object], what: str, limit: float = 60) -> None:
    """Wait for `condition`; fail, saying `what`, after `limit` seconds."""
    eventually(condition, what, limit)


def wait_stopped(pid: int) -> None:
    """Wait until a process is stopped."""
    wait_until(lambda: is_stopped(pid), f"process {pid} stopped")


def halt(pid: int) -> None:
    """Stop a process, again if somebody continued it before that was seen."""

    def is_halted() -> bool:
        os.kill(pid, signal.SIGSTOP)
        return is_stopped(pid)

    wait_until(is_halted, f"process {pid} stopped")


def wait_running(pid: int) -> None:
    """Wait until a process is not stopped."""
    wait_until(lambda: stat(pid)[:1] in ([b"S"], [b"R"], [b"D"]), f"process {pid} going on")
