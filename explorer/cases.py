"""The cases: which actors there are, and what they do. Small cases are exhausted, larger ones sampled."""

from __future__ import annotations

from collections.abc import Callable

from . import actors
from .actors import HOLD, TTL
from .monitor import Monitor
from .people import (
    STANDBY,
    asked_to_stop,
    asked_to_stop_as_it_fails,
    asked_to_stop_at_start,
    forced,
    forced_and_standby,
    forced_hold_and_standby,
    forced_late,
    forgotten,
    forgotten_at_once,
    forgotten_in_use,
    forgotten_while_paused,
    paused,
    paused_and_standby,
    paused_by_hand,
    paused_for_a_time,
)
from .world import World

Case = Callable[[World, Monitor], None]


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
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)


def long_run_and_standby(world: World, monitor: Monitor) -> None:
    """One node runs long enough to renew, another stands by."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=TTL))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)


def given_up(world: World, monitor: Monitor) -> None:
    """One node asks, and gives up if it has to wait; another stands by."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.01)


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
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=3.0)


def given_up_at_once(world: World, monitor: Monitor) -> None:
    """One node asks, and gives up if it has to wait; then the next node fires."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor), starts_at=0.2)


def given_up_and_run(world: World, monitor: Monitor) -> None:
    """One node gives up and another runs before the standby of the first asks again."""
    world.add("x", actors.give_up(monitor, after=0.05))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.01)
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


def state_loss(world: World, monitor: Monitor) -> None:
    """Runs of one node, on a server that may lose its state."""
    memory: dict[str, bytes] = {}
    world.may_lose_state = monitor.state_lost = True
    world.add("x", actors.run(monitor, memory=memory, lasts=TTL / 4, min_hold=0.0))
    world.add("y", actors.run(monitor, memory=memory, min_hold=0.0), starts_at=1.0)
    world.add("z", actors.run(monitor, memory=memory, min_hold=0.0, wait=TTL), starts_at=2 * TTL)


def waits(world: World, monitor: Monitor) -> None:
    """A run waits for the key with --wait."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("y", actors.run(monitor, min_hold=0.0, wait=3.0), starts_at=0.1)


def dead_taken_over(world: World, monitor: Monitor) -> None:
    """Two standbys await one run."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)
    world.add("z", actors.run(monitor, standby=STANDBY), starts_at=0.2)


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
    world.add("g", actors.give_up(monitor, standby=STANDBY, cannot_start=True), starts_at=0.1)
    world.add("z", actors.run(monitor, standby=STANDBY), starts_at=2 * TTL)


def attempts(world: World, monitor: Monitor) -> None:
    """A run fails, and so does the second attempt; there must be no third."""
    for index, name in enumerate("xyz"):
        standby = STANDBY if index else 0.0
        script = actors.run(monitor, exits=int(index < 2), standby=standby, standby_on="any", attempts=2)
        world.add(name, script, starts_at=index * 0.1)


def failed_and_tried_again(world: World, monitor: Monitor) -> None:
    """A run fails for which two stand by in case it does, and the second attempt succeeds unless it dies."""
    world.add("x", actors.run(monitor, exits=1))
    for index, name in enumerate("yz"):
        script = actors.run(monitor, standby=STANDBY, standby_on="failed", attempts=3)
        world.add(name, script, starts_at=0.1 * (index + 1))


def attempt_that_succeeds(world: World, monitor: Monitor) -> None:
    """A run succeeds, while another stands by for its failure."""
    world.add("x", actors.run(monitor))
    world.add("y", actors.run(monitor, standby=STANDBY, standby_on="failed", attempts=2), starts_at=0.1)


def three_runs(world: World, monitor: Monitor) -> None:
    """Three nodes fire within a second."""
    for index, name in enumerate("xyz"):
        world.add(name, actors.run(monitor), starts_at=index * 0.1)


def all_at_once(world: World, monitor: Monitor) -> None:
    """All kinds of actors, in two ticks."""
    world.add("x", actors.run(monitor, lasts=TTL / 2))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)
    world.add("g", actors.give_up(monitor), starts_at=0.2)
    world.add("z", actors.run(monitor, standby=STANDBY, lasts=TTL), starts_at=0.3)
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
