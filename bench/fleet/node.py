"""One simulated run: cronlock's own `Acquisition`, from the first request to the release."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cronlock.config import settings
from cronlock.errors import CronlockError
from cronlock.lease import timing
from cronlock.lease.clock import SystemClock
from cronlock.lease.vocabulary import EXITED, Conflict
from cronlock.run.acquisition import Acquisition
from cronlock.run.holding import Access, Holding
from cronlock.run.log import Log

WON, LOST, FAILED = "won", "lost", "failed"


@dataclass
class Outcome:
    """The result of one run."""

    kind: str
    key: str
    #: When it is due, in seconds after the tick.
    due: float
    #: When it had its answer and its connection was closed; of a winner, when its command started. Monotonic.
    left: float
    #: Of a failure.
    why: str = ""


class QuietLog(Log):
    """Counts messages by level, and shows nothing."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.told: dict[str, int] = {}

    def _say(self, level: str, text: str) -> None:
        word = f"{level}: {text.partition(':')[0]}"
        self.told[word] = self.told.get(word, 0) + 1


def load(options: dict[str, str]) -> settings.Settings:
    """Return the settings of a run with `options`, by their Python names, on a machine without a state directory.

    What a run remembers lies in a file of its machine: thousands of machines have thousands of those.
    """
    given: dict[str, str | bool] = {**options, "config": "/dev/null"}
    return settings.load(given, ["true"], {}).but(state_dir=None)


class Node:
    """One run; `pause` sleeps so many seconds."""

    def __init__(self, wanted: settings.Settings, log: Log, pause: Callable[[float], None]) -> None:
        self._key = wanted.key
        #: How long it sleeps before it asks.
        self.jitter = wanted.jitter * timing.jitter() if wanted.jitter else 0.0
        self._pause = pause
        self._access = Access(wanted, SystemClock(), log)
        self._holding: Holding | None = None

    def ask(self, due: float) -> Outcome:
        """Ask as cronlock does; a winner keeps its lease until `end`."""
        kind, why = WON, ""
        try:
            answer = Acquisition(self._access).acquire(self._pause)
            if isinstance(answer, Conflict):
                kind = LOST
            else:
                self._holding = answer
        except CronlockError as error:
            kind, why = FAILED, str(error)
        if kind != WON:
            self._access.backend.close()
        return Outcome(kind, self._key, due, time.monotonic(), why)

    def end(self) -> None:
        """Release as after a command that ended well."""
        if self._holding is not None:
            self._holding.release(EXITED, 0, self._access.clock.now())
            self._access.backend.close()
            self._holding = None
