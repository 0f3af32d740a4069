"""The cases: which actors there are, and what they do. Small cases are exhausted, larger ones sampled."""

from __future__ import annotations

from collections.abc import Callable

from cronlock.lease.rules import FRESH

from . import actors
from .actors import HOLD, TTL
from .monitor import Monitor
from .world import World

Case = Callable[[World, Monitor], None]

#: Long enough for the awaited lease, and that of one takeover, to lapse.
_STANDBY = 4 * TTL


def two_runs(world: World, monitor: Monitor) -> None:
    """Two nodes fire at the same moment."""
    world.add("x", actors.run(monitor))
    world.add("y", actors.run(monitor))


def stopped(world: World, monitor: Monitor) -> None:
    """A node fires with a hold shorter than its lease; another node of the same tick fires somewhat later."""
    world.add("x", actors.run(monitor, min_hold=4.0))
    world.add("y", actors.run(monitor, min_hold=4.0), starts_at=6.0)


def alone(world: World, monitor: Monitor) -> None:
    """One node fires."""
    world.add("x", actors.run(monitor, min_hold=2 * TTL))


def run_and_standby(world: World, monitor: Monitor) -> None:
    """One node runs, another stands by."""
    world.add("x", actors.run(monitor))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)


def long_run_and_standby(world: World, monitor: Monitor) -> None:
    """One node runs long enough to renew, another stands by."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=TTL))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)


def given_up(world: World, monitor: Monitor) -> None:
    """One node asks, and gives up if it has to wait; another stands by."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.01)


def by_hand(world: World, monitor: Monitor) -> None:
    """A person runs the job within the hold of an ended run; then the next node fires."""
    world.add("x", actors.run(monitor))
    world.add("h", actors.run(monitor, ignore_hold=True, min_hold=1.0), starts_at=2.0)
    world.add("y", actors.run(monitor), starts_at=HOLD / 2)


def by_hand_given_up(world: World, monitor: Monitor) -> None:
    """A run gives up within the hold of an ended run; the hold stays."""
    world.add("x", actors.run(monitor))
    world.add("g", actors.give_up(monitor, ignore_hold=True), starts_at=HOLD / 2)
    world.add("y", actors.run(monitor), starts_at=HOLD / 2 + 0.1)


def by_hand_not_started(world: World, monitor: Monitor) -> None:
    """A person's run within a hold cannot start its command; a node that fires late stands by for it."""
    world.add("x", actors.run(monitor))
    world.add("h", actors.give_up(monitor, ignore_hold=True, cannot_start=True), starts_at=2.0)
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=3.0)


def given_up_at_once(world: World, monitor: Monitor) -> None:
    """One node asks, and gives up if it has to wait; then the next node fires."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor), starts_at=0.2)


def given_up_and_run(world: World, monitor: Monitor) -> None:
    """One node gives up and another runs before the standby of the first asks again."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.01)
    world.add("w", actors.run(monitor, min_hold=0.0), starts_at=0.2)


def given_up_later(world: World, monitor: Monitor) -> None:
    """A run retries before it gives up."""
    world.add("x", actors.give_up(monitor, after=0.2))
    world.add("y", actors.run(monitor), starts_at=0.3)


def dead_given_up(world: World, monitor: Monitor) -> None:
    """A run dies, the next gives up, a third runs later."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=0.0))
    world.add("g", actors.give_up(monitor, after=0.05), starts_at=2 * TTL)
    world.add("y", actors.run(monitor, min_hold=0.0), starts_at=2 * TTL + 1.0)


def slow_reply(world: World, monitor: Monitor) -> None:
    """A run's machine stands still between request and reply; another run comes once the lease is over."""
    world.add("x", actors.run(monitor, lasts=TTL - 2.0, min_hold=0.0))
    world.add("y", actors.run(monitor, min_hold=0.0), starts_at=TTL + 0.2)


def slow_renewal(world: World, monitor: Monitor) -> None:
    """The same at a renewal."""
    world.add("x", actors.run(monitor, lasts=2 * TTL, min_hold=0.0))
    world.add("y", actors.run(monitor, min_hold=0.0), starts_at=4 / 3 * TTL + 1.0)
    world.add("z", actors.run(monitor, min_hold=0.0), starts_at=5 / 3 * TTL + 1.0)


def forced_and_standby(world: World, monitor: Monitor) -> None:
    """Somebody releases by force a run that a standby awaits."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)
    world.add("f", actors.force(monitor), starts_at=1.0)


def forced_hold_and_standby(world: World, monitor: Monitor) -> None:
    """Somebody releases by force the hold of a failed run that a standby awaits."""
    world.add("x", actors.run(monitor, exits=1, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=_STANDBY, standby_on="any"), starts_at=0.1)
    world.add("f", actors.force(monitor), starts_at=1.5)


def forced_late(world: World, monitor: Monitor) -> None:
    """Somebody releases by force a run that no longer has the key."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("f", actors.force(monitor), starts_at=0.5)
    world.add("y", actors.run(monitor, min_hold=0.0, lasts=TTL / 2), starts_at=1.5)


def state_loss(world: World, monitor: Monitor) -> None:
    """Runs of one node, on a server that may lose its state."""
    memory: dict[str, bytes] = {}
    world.may_lose_state = monitor.state_lost = True
    world.add("x", actors.run(monitor, memory=memory, lasts=TTL / 4, min_hold=0.0))
    world.add("y", actors.run(monitor, memory=memory, min_hold=0.0), starts_at=1.0)
    world.add("z", actors.run(monitor, memory=memory, min_hold=0.0, wait=TTL), starts_at=2 * TTL)


def forced(world: World, monitor: Monitor) -> None:
    """Somebody releases a run by force while another stands by."""
    world.add("x", actors.run(monitor, lasts=TTL / 2))
    world.add("f", actors.force(monitor), starts_at=1.0)
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)


def waits(world: World, monitor: Monitor) -> None:
    """A run waits for the key with --wait."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("y", actors.run(monitor, min_hold=0.0, wait=3.0), starts_at=0.1)


def dead_taken_over(world: World, monitor: Monitor) -> None:
    """Two standbys await one run."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)
    world.add("z", actors.run(monitor, standby=_STANDBY), starts_at=0.2)


def late_word(world: World, monitor: Monitor) -> None:
    """A run may report its end after others had the key: one that gives up, one that runs, one that comes later."""
    world.add("x", actors.run(monitor, lasts=TTL * 0.9, min_hold=0.0))
    world.add("g", actors.give_up(monitor, after=0.05), starts_at=2 * TTL)
    world.add("y", actors.run(monitor, min_hold=0.0, lasts=TTL / 4), starts_at=2 * TTL + 1.0)
    world.add("w", actors.run(monitor, min_hold=0.0), starts_at=2 * TTL + 3.0)


def late_word_given_up(world: World, monitor: Monitor) -> None:
    """A run may report its end while another has the key and gives it up; then the next node fires."""
    world.add("x", actors.run(monitor, lasts=TTL * 0.9, min_hold=0.0))
    world.add("g", actors.give_up(monitor, after=0.05), starts_at=2 * TTL)
    world.add("y", actors.run(monitor, min_hold=0.0), starts_at=2 * TTL + 1.0)


def late_word_and_standby(world: World, monitor: Monitor) -> None:
    """The same, while a takeover cannot start its command and another node stands by."""
    world.add("x", actors.run(monitor, lasts=TTL * 0.9, min_hold=4 * TTL))
    world.add("g", actors.give_up(monitor, standby=_STANDBY, cannot_start=True), starts_at=0.1)
    world.add("z", actors.run(monitor, standby=_STANDBY), starts_at=2 * TTL)


def paused(world: World, monitor: Monitor) -> None:
    """Somebody pauses the key while a node fires, and resumes it around the time when others do."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("p", actors.pause(monitor))
    world.add("y", actors.run(monitor, min_hold=0.0, lasts=0.1), starts_at=2.0)
    world.add("r", actors.resume(monitor), starts_at=2.5)
    world.add("z", actors.run(monitor, min_hold=0.0), starts_at=3.0)


def paused_and_standby(world: World, monitor: Monitor) -> None:
    """Somebody pauses the key of a run that a standby awaits, and a person runs the job in spite of it."""
    world.add("x", actors.run(monitor, lasts=TTL / 2))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)
    world.add("p", actors.pause(monitor), starts_at=1.0)
    world.add("h", actors.run(monitor, ignore_pause=True, ignore_hold=True), starts_at=2.0)


def paused_by_hand(world: World, monitor: Monitor) -> None:
    """A person runs the paused job; somebody releases it by force, and the next node fires."""
    world.add("p", actors.pause(monitor))
    world.add("h", actors.run(monitor, ignore_pause=True, min_hold=0.0), starts_at=1.0)
    world.add("f", actors.force(monitor), starts_at=1.5)
    world.add("y", actors.run(monitor), starts_at=3.0)


def paused_for_a_time(world: World, monitor: Monitor) -> None:
    """A node fires shortly before the end of a pause, another shortly after."""
    world.add("p", actors.pause(monitor, HOLD))
    world.add("y", actors.run(monitor, min_hold=0.0), starts_at=HOLD - 1.0)
    world.add("z", actors.run(monitor, min_hold=0.0), starts_at=HOLD + 1.0)


def asked_to_stop(world: World, monitor: Monitor) -> None:
    """Somebody stops a run that a standby awaits; then the next node fires."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=0.0))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)
    world.add("s", actors.stop(monitor), starts_at=1.0)
    world.add("z", actors.run(monitor, min_hold=0.0), starts_at=2 * TTL)


def asked_to_stop_as_it_fails(world: World, monitor: Monitor) -> None:
    """Somebody stops a run whose command fails before it hears of that; a standby awaits failures."""
    world.add("x", actors.run(monitor, lasts=TTL / 4, exits=1))
    world.add("y", actors.run(monitor, standby=_STANDBY, standby_on="any"), starts_at=0.1)
    world.add("s", actors.stop(monitor), starts_at=1.0)


def asked_to_stop_at_start(world: World, monitor: Monitor) -> None:
    """Somebody stops a run whose command cannot start, while another stands by."""
    world.add("x", actors.give_up(monitor, cannot_start=True))
    world.add("y", actors.run(monitor, standby=_STANDBY))
    world.add("s", actors.stop(monitor))


def attempts(world: World, monitor: Monitor) -> None:
    """A run fails, and so does the second attempt; there must be no third."""
    for index, name in enumerate("xyz"):
        standby = _STANDBY if index else 0.0
        script = actors.run(monitor, exits=int(index < 2), standby=standby, standby_on="any", attempts=2)
        world.add(name, script, starts_at=index * 0.1)


def failed_and_tried_again(world: World, monitor: Monitor) -> None:
    """A run fails for which two stand by in case it does, and the second attempt succeeds unless it dies."""
    world.add("x", actors.run(monitor, exits=1))
    for index, name in enumerate("yz"):
        script = actors.run(monitor, standby=_STANDBY, standby_on="failed", attempts=3)
        world.add(name, script, starts_at=0.1 * (index + 1))


def attempt_that_succeeds(world: World, monitor: Monitor) -> None:
    """A run succeeds, while another stands by for its failure."""
    world.add("x", actors.run(monitor))
    world.add("y", actors.run(monitor, standby=_STANDBY, standby_on="failed", attempts=2), starts_at=0.1)


def forgotten(world: World, monitor: Monitor) -> None:
    """Somebody forgets the key within a hold of over an hour, and behind it while the next node fires."""
    world.add("x", actors.run(monitor, min_hold=FRESH + 5.0))
    world.add("f", actors.forget(monitor), starts_at=FRESH + 2.0)
    world.add("g", actors.forget(monitor), starts_at=FRESH + 6.0)
    world.add("y", actors.run(monitor), starts_at=FRESH + 6.0)


def forgotten_at_once(world: World, monitor: Monitor) -> None:
    """One gives up, and somebody forgets the key before the next node fires."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("f", actors.forget(monitor), starts_at=0.2)
    world.add("y", actors.run(monitor), starts_at=0.4)


def forgotten_in_use(world: World, monitor: Monitor) -> None:
    """Somebody forgets a key of which a run lasts for longer than an hour, and soon after its end."""
    world.add("x", actors.run(monitor, ttl=2 * FRESH, lasts=1.5 * FRESH, min_hold=0.0))
    world.add("f", actors.forget(monitor), starts_at=1.25 * FRESH)
    world.add("g", actors.forget(monitor), starts_at=1.75 * FRESH)


def forgotten_while_paused(world: World, monitor: Monitor) -> None:
    """Somebody forgets a key that somebody paused, and one that is resumed before another node fires."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("p", actors.pause(monitor), starts_at=1.5)
    world.add("f", actors.forget(monitor), starts_at=FRESH + 2.0)
    world.add("r", actors.resume(monitor), starts_at=FRESH + 3.0)
    world.add("g", actors.forget(monitor), starts_at=FRESH + 4.0)
    world.add("y", actors.run(monitor), starts_at=FRESH + 5.0)


def three_runs(world: World, monitor: Monitor) -> None:
    """Three nodes fire within a second."""
    for index, name in enumerate("xyz"):
        world.add(name, actors.run(monitor), starts_at=index * 0.1)


def all_at_once(world: World, monitor: Monitor) -> None:
    """All kinds of actors, in two ticks."""
    world.add("x", actors.run(monitor, lasts=TTL / 2))
    world.add("y", actors.run(monitor, standby=_STANDBY), starts_at=0.1)
    world.add("g", actors.give_up(monitor), starts_at=0.2)
    world.add("z", actors.run(monitor, standby=_STANDBY, lasts=TTL), starts_at=0.3)
    world.add("h", actors.run(monitor, ignore_hold=True), starts_at=5.0)
    world.add("f", actors.force(monitor), starts_at=20.0)
    world.add("w", actors.run(monitor, wait=TTL, lasts=TTL / 2), starts_at=2 * TTL)
    world.add("p", actors.pause(monitor), starts_at=TTL / 3)
    world.add("s", actors.stop(monitor), starts_at=TTL / 2)
    world.add("r", actors.resume(monitor), starts_at=2 * TTL)


#: (case, faults in a short run, faults in a long one)
SMALL: tuple[tuple[Case, int, int], ...] = (
    (stopped, 1, 3),
    (alone, 2, 4),
    (two_runs, 1, 3),
    (run_and_standby, 1, 2),
    (long_run_and_standby, 1, 2),
    (given_up, 1, 2),
    (given_up_at_once, 1, 3),
    (by_hand_not_started, 1, 2),
    (by_hand, 1, 2),
    (by_hand_given_up, 1, 2),
    (forced, 1, 2),
    (waits, 1, 2),
    (given_up_and_run, 1, 2),
    (given_up_later, 1, 3),
    (dead_given_up, 1, 3),
    (slow_reply, 1, 2),
    (slow_renewal, 1, 2),
    (forced_and_standby, 1, 2),
    (forced_late, 1, 2),
    (state_loss, 1, 2),
    (dead_taken_over, 1, 2),
    (late_word, 1, 2),
    (late_word_given_up, 1, 3),
    (late_word_and_standby, 1, 2),
    (paused, 1, 2),
    (paused_and_standby, 1, 2),
    (paused_by_hand, 1, 2),
    (paused_for_a_time, 1, 2),
    (asked_to_stop, 1, 2),
    (attempts, 1, 2),
    (failed_and_tried_again, 1, 2),
    (attempt_that_succeeds, 1, 2),
    (asked_to_stop_as_it_fails, 0, 1),
    (forced_hold_and_standby, 0, 1),
    (asked_to_stop_at_start, 0, 1),
    (forgotten, 0, 1),
    (forgotten_at_once, 1, 2),
    (forgotten_in_use, 1, 2),
    (forgotten_while_paused, 1, 2),
)
LARGE: tuple[Case, ...] = (three_runs, all_at_once, dead_taken_over, forced)
