"""When the machine had too much to do: then what depends on its speed is no verdict.

A small program is started every half second. If one takes too long, the history has the fault "busy" from the end of
the one before to its end, and for a ttl more. What that excuses is counted apart, under its name.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from cronlock import errors

from . import history
from .findings import LOST, OUTLIVE, STUCK

#: The name of the fault.
BUSY = "busy"
_EVERY = 0.5
#: Seconds. On a machine with time to spare it takes 0.02.
_TOO_LONG = 0.25
#: What a kill may take on such a machine, in seconds.
_LATE = 2.0
#: Two at once, twice a tick, an older fence or a process left behind have no excuse. A process that is to be killed
#: lives on for as long as the machine does not get to it.
_GRANTS = [{"finding": LOST}, {"finding": STUCK}, {"finding": OUTLIVE, "within": _LATE}]
_STATUSES = [errors.UNAVAILABLE, errors.LOST]


def excuse(note: history.Writer, fault: str = BUSY, at: float | None = None, recovery: float = 0.0) -> None:
    """Note that requests may be late from now on, or from time `at`."""
    about = {"fault": fault, "name": BUSY, "target": "the whole machine", "recovery": recovery}
    note.note("fault", at, **about, grants=_GRANTS, statuses=_STATUSES)


class Pulse:
    """Measures all the while. Use it as a context manager."""

    def __init__(self, note: history.Writer, ttl: float) -> None:
        self._note = note
        self._ttl = ttl
        self._count = 0
        self._last = history.now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def beat(self, begin: float, end: float) -> None:
        """Note that the program ran from `begin` to `end`, if that is too long."""
        if end - begin > _TOO_LONG:
            self._count += 1
            fault = f"{BUSY}-{self._count}"
            excuse(self._note, fault, self._last, self._ttl)
            self._note.note("healed", end, fault=fault)
        self._last = end

    def _measure(self) -> None:
        while not self._over.wait(_EVERY):
            begin = history.now()
            subprocess.run([sys.executable, "-IS", "-c", ""], check=True)
            self.beat(begin, history.now())
