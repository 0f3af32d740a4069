"""Standing by: a run that found its key held waits to take over, should the holder die.

It asks when the lease can have lapsed, and now and then whether the run has ended; where the
backend can tell of a change, also then. What it asks for is the dead run's tick and nothing else
(`Claim.standby_for`), so that a run which ended between two looks is never done again.
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
        """Sleeps so many seconds, or until the descriptor `wake` can be read; may raise to end it all."""

        def __call__(self, seconds: float, wake: int | None = None) -> None: ...


#: How often a tick that failed on this host is left to others before it is tried here again.
_DEFERS = 2


class Standby:
    """One run's time in standby, `limit` seconds at most."""

    def __init__(self, acquisition: Acquisition, limit: float, pause: Pause) -> None:
        access = acquisition.access
        self._acquisition = acquisition
        self._access = access
        self._clock = access.clock
        self._pause = pause
        self._give_up = access.clock.now() + limit
        self._plan = timing.StandbyPlan(access.clock.now(), timing.jitter(), local=access.backend.traits.local)
        #: Why the last look was without an answer, or None.
        self.failure: BackendError | None = None

    def wait(self, conflict: Conflict) -> Holding | Conflict:
        """Return the lease taken over from the run that `conflict` names, or why there is nothing to take over.

        That is ENDED once the tick needs nobody any more, and the last answer when the time is over; `failure`
        says whether that is an old one.
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
                # Nobody is asked to run anything: look again when the lease can have lapsed, or at the next beat.
                self._access.log.info(f"still standing by: {error}")
                self.failure, lapse = error, _if_to_come(lapse, self._clock.now())
                # Whatever became of the request, it is not to be taken for the next one's.
                self._acquisition.stand_by_for(awaited)
                continue
            self.failure = None
            if isinstance(answer, Holding) or answer.why not in (HELD, PAUSED, DEFERRED):
                return answer
            if answer.why == DEFERRED:
                # At a beat all others look; those that began it later than this one at the next.
                deferred += 1
                self._acquisition.defers = deferred < _DEFERS
                conflict, lapse = answer, None
                continue
            conflict, lapse = answer, self._clock.now() + answer.remaining
        return conflict

    def _wait_until_next_ask(self, lapse: float | None) -> bool:
        """Wait until it is time to ask; False when the time to stand by is over."""
        wake = None
        try:
            wake = self._access.until_it_changes()
        except BackendError as error:
            self.failure, lapse = error, _if_to_come(lapse, self._clock.now())
        now = self._clock.now()
        ask = self._plan.next_ask(now, lapse, timing.jitter())
        self._pause(max(0.0, min(ask, self._give_up) - now), wake)
        now = self._clock.now()
        if now < ask and now < self._give_up:
            # Told of a change, as all others were: do not ask all at once.
            self._pause(min(timing.STANDBY_SPREAD * timing.jitter(), self._give_up - now))
        return self._clock.now() < self._give_up


def _if_to_come(lapse: float | None, now: float) -> float | None:
    """Return `lapse` unless it is past: then a server that is away would be asked at once, by all."""
    return lapse if lapse is not None and lapse > now else None


def may_take_over(conflict: Conflict, claim: Claim) -> bool:
    """Whether the run that has the key, or left its hold, is one that somebody may have to take over."""
    if conflict.why not in (HELD, HOLD) or conflict.run is None:
        return False
    return rules.may_need_another(conflict.run, claim, leased=conflict.why == HELD)
