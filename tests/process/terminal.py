"""An interactive shell at a terminal, and commands for it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import pytest

from cronlock.process.linux import descendants

from .support import Node, is_stopped, wait_until

PROMPT = "prompt> "


class Shell:
    """An interactive bash at a terminal of its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen = ""
        #: All output of the terminal.
        self.shown = ""
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(node.directory)
            environ = {**node.environ, "PS1": PROMPT, "TERM": "dumb", "HISTFILE": "/dev/null"}
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environ)
        self.expect(PROMPT)

    def send(self, text: str) -> None:
        """Type `text`."""
        os.write(self._master, text.encode())

    def do(self, line: str) -> None:
        """Type a line."""
        self.send(line + "\n")

    def expect(self, text: str, limit: float = 60) -> None:
        """Wait until `text` is shown, after the last text that was waited for."""
        end = time.monotonic() + limit
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                pytest.fail(f"{text!r} was not shown, but {self._seen[-2000:]!r}")
            try:
                data = os.read(self._master, 4096)
            except OSError:
                pytest.fail(f"the terminal closed before {text!r} was shown, but {self._seen[-2000:]!r}")
            text_shown = data.decode(errors="replace").replace("\r", "")
            self._seen += text_shown
            self.shown += text_shown
        self._seen = self._seen.partition(text)[2]

    def ends_job_with(self, status: int) -> None:
        """Check the exit status of the foreground job that just ended."""
        self.expect(PROMPT)
        self.do("echo status=$?.")
        self.expect(f"\nstatus={status}.")
        self.expect(PROMPT)

    def wait_until_job_goes_on(self) -> None:
        """Wait until a job has the terminal, and none of its processes is stopped."""

        def goes_on() -> bool:
            below = descendants(self.pid)
            in_front = os.tcgetpgrp(self._master) != self.pid
            return in_front and bool(below) and not any(map(is_stopped, below))

        wait_until(goes_on, "the job to go on")

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Hang up."""
        os.close(self._master)
        try:
            os.kill(self.pid, signal.SIGKILL)
        finally:
            os.waitpid(self.pid, 0)


# No shell: one that is stopped between its vfork and its child's exec never shows as stopped. Ctrl-C kills it
# without a handler of the interpreter's: a sleep that is continued may begin anew after the handler, and forget it.
LOOP = (
    f"'{sys.executable}' -ISc 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    """print("rea" "dy", flush=True); time.sleep(300)'"""
)
BACKGROUND_LOOP = f"""'{sys.executable}' -ISc '
import os, sys, time
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.05)
print("rea" "dy", flush=True)
wait("go")
print("wor" "ked", flush=True)
wait("go2")
sys.exit(6)'"""
