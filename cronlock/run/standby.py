"""Standing by: a run that found its key held waits to take over if the holder dies.

It asks when the lease can have lapsed, periodically for the run's end, and when the backend reports a change. It asks
only for the dead run's tick (`Claim.standby_for`), so that it never repeats a run that ended between two requests.
"""

from __future__ import annotations

from ..errors import BackendError
from ..lease import rules, timing
from ..lease.vocabulary import DEFERRED, HELD, HOLD, PAUSED
from .holding import Holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..lease.vocabulary import Claim, Conflict
    from .acquisition import Acquisition

    class Pause(Protocol):
        """Sleep, or return early when `wake` becomes readable; an exception ends the standby."""

        def __call__(self, seconds: float, wake: int | None = None) -> None: ...


#: How often this host leaves a tick that failed here to others before it retries.
_DEFERS = 2


class Standby:
    """One run's standby of at most `limit` seconds."""

    def __init__(self, acquisition: Acquisition, limit: float, pause: Pause) -> None:
        access = acquisition.access
        self._acquisition = acquisition
        self._access = access
        self._clock = access.clock
        self._pause = pause
        self._give_up = access.clock.now() + limit
        self._plan = timing.StandbyPlan(access.clock.now(), timing.jitter(), local=access.backend.traits.local)
        #: Why the last request got no answer, or None.
        self.failure: BackendError | None = None

    def wait(self, conflict: Conflict) -> Holding | Conflict:
        """Return the lease taken over from the run in `conflict`, or a conflict.

        The conflict is ENDED once the tick needs no more runs; it is the last answer once the time is over, which is
        out of date if `failure` is set.
        """
        if not may_take_over(conflict, self._acquisition.claim):
            return conflict
        assert conflict.run is not None
        awaited = conflict.run
        self._acquisition.stand_by_for(awaited)
        self._access.log.info(f"standing by for {awaited.host} (pid {awaited.pid})")
        lapse: float | None = self._clock.now() + (conflict.remaining if conflict.why == HELD else 0.0)
        deferred = 0
        while self._wait_until_next_ask(lapse):
            try:
                answer = self._acquisition.acquire(self._pause)
            except BackendError as error:
                # Ask again once the lease can have lapsed, or at the end of the period.
                self._access.log.info(f"still standing by: {error}")
                self.failure, lapse = error, _if_future(lapse, self._clock.now())
                # A fresh owner, so that a late effect of this request is not taken for the next one's.
                self._acquisition.stand_by_for(awaited)
                continue
            self.failure = None
            if isinstance(answer, Holding) or answer.why not in (HELD, PAUSED, DEFERRED):
                return answer
            if answer.why == DEFERRED:
                # All other standbys ask within one period, so leave the tick to them for that long.
                deferred += 1
                self._acquisition.defers = deferred < _DEFERS
                conflict, lapse = answer, None
                continue
            conflict, lapse = answer, self._clock.now() + answer.remaining
        return conflict

    def _wait_until_next_ask(self, lapse: float | None) -> bool:
        """Wait for the next time to ask; False if the standby is over."""
        wake = None
        try:
            wake = self._access.watch_key()
        except BackendError as error:
            self.failure, lapse = error, _if_future(lapse, self._clock.now())
        now = self._clock.now()
        ask = self._plan.next_ask(now, lapse, timing.jitter())
        self._pause(max(0.0, min(ask, self._give_up) - now), wake)
        now = self._clock.now()
        if now < ask and now < self._give_up:
            # Every standby heard of the change: do not ask all at once.
            self._pause(min(timing.STANDBY_SPREAD * timing.jitter(), self._give_up - now))
        return self._clock.now() < self._give_up


def _if_future(lapse: float | None, now: float) -> float | None:
    """Return `lapse` unless it is past, when all standbys would ask a server that is down at once."""
    return lapse if lapse is not None and lapse > now else None


def may_take_over(conflict: Conflict, claim: Claim) -> bool:
    """True if the run that has the key, or left its hold, may need a takeover."""
    if conflict.why not in (HELD, HOLD) or conflict.run is None:
        return False
    return rules.may_need_another(conflict.run, claim, leased=conflict.why == HELD)
