"""Bounds of a server's clock, for engines that judge leases by it.

A request sent at `sent` and answered at `received`, both by this machine's clock, with the server's `time` in the
reply (known to `granularity` seconds) bounds the server's clock from then on. Another run's lease is over once it is
over by the earliest possible time; a node writes the end of its own lease by the latest possible time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .clock import Clock

#: Two clocks' rates differ by less than this: quartz drifts by some 100 ppm, NTP slews by at most 500 ppm.
RATE = 0.001
#: Bounds that contradict each other by more than so many seconds prove that the server's clock was set.
JUMP = 1.0


class ServerClock:
    """The clock of one server, or of several with synchronised clocks."""

    __slots__ = ("_ahead_at_least", "_ahead_at_most", "_clock", "_granularity", "_name", "_notices", "_seen_at")

    def __init__(self, name: str, clock: Clock, notices: list[str], granularity: float = 0.0) -> None:
        """A clock jump of the server `name` appends a warning to `notices`."""
        self._name = name
        self._clock = clock
        self._notices = notices
        self._granularity = granularity
        # Bounds in seconds of how far the server's clock was ahead of ours at `_seen_at`.
        self._ahead_at_least = self._ahead_at_most = 0.0
        self._seen_at: float | None = None

    @property
    def known(self) -> bool:
        """True after the first reply with the server's time."""
        return self._seen_at is not None

    def observe(self, sent: float, received: float, time: float) -> None:
        """Narrow the bounds by the server's epoch `time` in a reply."""
        least, most = time - received, time + self._granularity - sent
        if self._seen_at is not None:
            known_least, known_most = self._bounds(received)
            jump = max(0.0, least - known_most) or min(0.0, most - known_least)
            if abs(jump) > JUMP:
                self._notices.append(
                    f"{self._name}: the server's clock jumped by {jump:+.1f} s during this run"
                    " (or another server took over); leases are judged by it: let it be slewed, not set"
                )
            if not jump:
                least, most = max(least, known_least), min(most, known_most)
        self._ahead_at_least, self._ahead_at_most, self._seen_at = least, most, received

    def forget(self) -> None:
        """Drop the bounds."""
        self._seen_at = None

    def now(self) -> float:
        """Return the likeliest epoch time: this machine's wall clock, clamped to the bounds."""
        wall = self._clock.wall()
        return min(max(wall, self.earliest()), self.latest()) if self.known else wall

    def earliest(self) -> float:
        """Return the least that the server's clock can show now. Only if `known`."""
        now = self._clock.now()
        return now + self._bounds(now)[0]

    def latest(self) -> float:
        """Return the most that the server's clock can show now. Only if `known`."""
        now = self._clock.now()
        return now + self._bounds(now)[1]

    def _bounds(self, now: float) -> tuple[float, float]:
        assert self._seen_at is not None
        drift = (now - self._seen_at) * RATE
        return self._ahead_at_least - drift, self._ahead_at_most + drift
