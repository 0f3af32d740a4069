"""The rules of time, as pure functions. Times are seconds on this machine's boot clock.

A lease is good until D = sent + ttl - margin, where `sent` is taken before the request that granted or renewed it.
The server counts from later, so the lease cannot lapse there before D. This is the lease rule of Gray and Cheriton
(SOSP 1989): the holder stops by its own clock before the server's time is over, and nobody compares two machines'
clocks.
"""

from __future__ import annotations

from ..system import os

# Two quartz clocks drift apart by some 100 ppm, and NTP slews by at most 500 ppm. By default chronyd slews more; see
# TIMING in the manual.
CLOCK_RATE_MARGIN = 0.001
# Seconds that KILL may take to reach every process of a busy machine.
FIXED_MARGIN = 0.1
# TERM's grace takes at most a third of the ttl, so that renewals have the rest.
GRACES_IN_TTL = 3

# A renewal comes at a third of the ttl, or up to a tenth of that later.
LATEST_RENEWAL = 1.1 / 3
# Seconds between a run's polls for a stop request, if a poll asks no server.
LOCAL_POLL = 5.0

# A run starts listening for notifications after so many seconds: most runs end before that.
LISTEN_AFTER = 1.0

# Seconds between a standby's polls for the run's end: 1,000 standbys send a server 67 requests a second.
STANDBY_POLL = 15.0
STANDBY_POLL_LOCAL = 1.0
# Standbys spread their requests over so many seconds after a lease can have lapsed.
STANDBY_SPREAD = 0.5


def jitter() -> float:
    """Return a random number from 0 to 1, for the rules that spread requests."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def deadline(sent: float, ttl: float, granularity: float) -> float:
    """Return D: when a lease of `ttl` that was requested at `sent` must count as over."""
    return sent + ttl - (ttl * CLOCK_RATE_MARGIN + FIXED_MARGIN + granularity)


def grace(kill_after: float, ttl: float) -> float:
    """Return how long before D TERM is due: `kill_after`, or a third of a ttl too short for it."""
    return min(kill_after, ttl / GRACES_IN_TTL)


def kill_lead(ttl: float) -> float:
    """Return how long before D KILL is sent, so that it *has been* sent to every process by D."""
    return min(FIXED_MARGIN, ttl / 20)


def renew_after(ttl: float, jitter: float) -> float:
    """Return how long after the last successful send to renew: ttl/3, give or take 10 %.

    `jitter` is random, from 0 to 1: holders that started together do not stay together.
    """
    return ttl / 3 * (0.9 + 0.2 * jitter)


def retry_pause(failures: int, ttl: float, jitter: float) -> float:
    """Return the pause after the n-th failed request in a row: doubling, jittered, small against the ttl."""
    return float(min(0.1 * 2 ** min(failures - 1, 10), max(0.1, ttl / 20), 5.0)) * (0.5 + jitter)


def takeover_hold(hold: float, waited: float) -> float:
    """Return the hold of a takeover by a run that first asked `waited` seconds ago.

    The takeover does the dead run's tick, whose hold goes on, and its own tick, which may be a later one and keeps the
    hold that it would have had otherwise.
    """
    return max(0.0, hold - waited)


class StandbyPlan:
    """When a standby asks next: once the lease can have lapsed, and periodically for the run's end.

    Each standby's period starts at a random moment, so that runs that found the key held in the same second do not ask
    in the same second.
    """

    __slots__ = ("_next_poll", "_period")

    def __init__(self, now: float, jitter: float, *, local: bool) -> None:
        self._period = STANDBY_POLL_LOCAL if local else STANDBY_POLL
        self._next_poll = now + self._period * jitter

    def next_ask(self, now: float, lapse: float | None, jitter: float) -> float:
        """Return when to ask next; `lapse` is when the lease lapses unless renewed, None if unknown."""
        while self._next_poll <= now:
            self._next_poll += self._period * (0.9 + 0.2 * jitter)
        if lapse is None:
            return self._next_poll
        # A server that counts in whole seconds may still show a lease that is due.
        return min(self._next_poll, max(lapse, now + 0.1) + STANDBY_SPREAD * jitter)
