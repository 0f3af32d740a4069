"""The requests of runs in a generated history."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """A request of a run, in terms that mean the same on both stores."""

    owner: str
    node: int
    brief: bool
    hold: str
    ignore_hold: bool
    ignore_pause: bool
    #: The tick that it stands by for, and the place of its run's grant among all.
    standby_for: str | None
    awaited: int | None
    #: How a run of that tick may have ended, and how many there may be.
    standby_on: str
    attempts: int | None
    watermark: str

    def __str__(self) -> str:
        words = [f"a {'short' if self.brief else 'long'} lease", f"{self.hold} hold"]
        words += ["whatever the hold"] if self.ignore_hold else []
        words += ["whoever paused it"] if self.ignore_pause else []
        if self.standby_for is not None:
            words.append(f"standing by for {self.standby_for}, granted as #{self.awaited}, {self.standby_on}")
            words += [] if self.attempts is None else [f"at most {self.attempts} attempts"]
        words += [f"its watermark {self.watermark}"] if self.watermark else []
        return ", ".join(words)
