"""The clock of a server, as far as its answers tell, for those that judge leases by it.

An answer that was asked for at `sent` and came at `received`, by this machine's clock, and shows the server's time
as `time`, or up to `granularity` seconds later, bounds what the server's clock shows at any moment. That another's
lease is over is judged by the earliest that it can be; the end of an own lease is written by the latest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .clock import Clock

#: Two clocks' rates differ by less than this: quartz drifts by some 100 ppm, NTP slews by at most 500 ppm.
RATE = 0.001
#: Bounds that contradict each other by more than so many seconds show that the server's clock was set.
JUMP = 1.0


class ServerClock:
    """What is known of one server's clock, or of several that keep the same time."""

    __slots__ = ("_ahead_at_least", "_ahead_at_most", "_clock", "_granularity", "_name", "_notices", "_seen_at")

    def __init__(self, name: str, clock: Clock, notices: list[str], granularity: float = 0.0) -> None:
        """`name` is what messages call the server; a notice is put into `notices` when its clock was set."""
        self._name = name
        self._clock = clock
        self._notices = notices
        self._granularity = granularity
        # By how much the server's clock is ahead of ours, as it was at `_seen_at`.
        self._ahead_at_least = self._ahead_at_most = 0.0
        self._seen_at: float | None = None

    @property
    def known(self) -> bool:
        """Whether any answer told the time."""
        return self._seen_at is not None

    def observe(self, sent: float, received: float, time: float) -> None:
        """Take note of the server's epoch `time` in an answer."""
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
        """Know nothing again, as before the first answer."""
        self._seen_at = None

    def now(self) -> float:
        """Return the likeliest epoch time: this machine's wall clock as far as the answers do not contradict it."""
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
        apart = (now - self._seen_at) * RATE
        return self._ahead_at_least - apart, self._ahead_at_most + apart
