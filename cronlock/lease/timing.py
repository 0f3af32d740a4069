"""The rules of time, as functions of what they are given; seconds on this machine's boot clock.

The lease is good until D = sent + ttl less a margin, where `sent` is from before the request that
granted or renewed it: the server counted from later, so it cannot have let go earlier. This is the
lease rule of Gray and Cheriton (SOSP 1989): the holder stops on its own clock, before the server's
time is over, and no two machines' clocks are compared.
"""

from __future__ import annotations

import os

# Two quartz clocks drift apart by some 100 ppm, and NTP slews by at most 500 ppm; chronyd by far more unless told, see
# TIMING in the manual.
CLOCK_RATE_MARGIN = 0.001
# What a kill takes to reach everybody on a busy machine.
FIXED_MARGIN = 0.1
# TERM's grace takes at most a third of the ttl, so that renewals have the rest.
GRACES_IN_TTL = 3

# A renewal comes at a third of the ttl, or up to a tenth of that later.
LATEST_RENEWAL = 1.1 / 3
# How often a run looks whether somebody asked it to end, where a look asks no server.
LOCAL_POLL = 5.0

# A run listens for notifications once it lasted for so long: most are over by then.
LISTEN_AFTER = 1.0

# How often a standby looks whether the run has ended: 1,000 of them ask a server 67 times a second.
STANDBY_LOOK = 15.0
STANDBY_LOOK_LOCAL = 1.0
# Those who wait for a lease to lapse ask spread over so many seconds after it.
STANDBY_SPREAD = 0.5


def jitter() -> float:
    """Return a random number from 0 to 1, for the rules that spread requests."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def deadline(sent: float, ttl: float, granularity: float) -> float:
    """Return D: when a lease of `ttl` that was asked for at `sent` must count as over."""
    return sent + ttl - (ttl * CLOCK_RATE_MARGIN + FIXED_MARGIN + granularity)


def grace(kill_after: float, ttl: float) -> float:
    """Return how long before D TERM is due: `kill_after`, or a third of a ttl too short for it."""
    return min(kill_after, ttl / GRACES_IN_TTL)


def kill_lead(ttl: float) -> float:
    """Return how long before D KILL is sent, so that by D it *has been* sent to everybody."""
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
    """Return the hold that begins with a takeover by a run that asked first `waited` seconds ago.

    It does the dead run's tick, whose hold goes on, and its own, which may be a later one: that has
    the hold that it would have had without the dead run.
    """
    return max(0.0, hold - waited)


class StandbyPlan:
    """When a standby asks next: when the lease can have lapsed, and now and then whether the run has ended.

    The looks keep to a beat that began at a random moment, so that the many who found the key held in
    the same second do not ask in the same second.
    """

    __slots__ = ("_look", "_period")

    def __init__(self, now: float, jitter: float, *, local: bool) -> None:
        self._period = STANDBY_LOOK_LOCAL if local else STANDBY_LOOK
        self._look = now + self._period * jitter

    def next_ask(self, now: float, lapse: float | None, jitter: float) -> float:
        """Return the next moment to ask; `lapse` is when the lease is over unless it is renewed, None if unknown."""
        while self._look <= now:
            self._look += self._period * (0.9 + 0.2 * jitter)
        if lapse is None:
            return self._look
        # A server that counts in whole seconds may still show a lease that is due.
        return min(self._look, max(lapse, now + 0.1) + STANDBY_SPREAD * jitter)
