"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """The clock of the rules in a test's hand; see `cronlock.lease.clock.Clock`."""

    def __init__(self, now: float = 1000.0, wall: float = 1.7e9) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Return boot time, in seconds."""
        return self._now

    def wall(self) -> float:
        """Return epoch time, in seconds."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += seconds
        self._wall += seconds

    def reboot(self, uptime: float, wall: float) -> None:
        """Start boot time anew at `uptime`, `wall` seconds later on the wall."""
        self._now = uptime
        self._wall += wall
