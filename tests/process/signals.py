"""Commands that print their signals, or wait."""

from __future__ import annotations

import signal
from collections.abc import Callable

from .support import Node, Started, python, wait_until

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


def wait_for_handlers(started: Started) -> None:
    """Wait until the wrapper catches its signals, of which CONT is the last."""

    def catches() -> bool:
        with open(f"/proc/{started.pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGCONT - 1) & 1)

    wait_until(catches, "CONT is caught")
