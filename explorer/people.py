"""Cases in which people intervene: they pause, stop, release by force and forget."""

from __future__ import annotations

from cronlock.lease.rules import FRESH

from . import actors
from .actors import HOLD, TTL
from .monitor import Monitor
from .world import World

#: Long enough for the awaited lease, and that of one takeover, to lapse.
STANDBY = 4 * TTL


def forced_and_standby(world: World, monitor: Monitor) -> None:
    """Somebody releases by force a run that a standby awaits."""
    world.add("x", actors.run(monitor, lasts=TTL / 2, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)
    world.add("f", actors.force(monitor), starts_at=1.0)


def forced_hold_and_standby(world: World, monitor: Monitor) -> None:
    """Somebody releases by force the hold of a failed run that a standby awaits."""
    world.add("x", actors.run(monitor, exits=1, min_hold=2 * TTL))
    world.add("y", actors.run(monitor, standby=STANDBY, standby_on="any"), starts_at=0.1)
    world.add("f", actors.force(monitor), starts_at=1.5)


def forced_late(world: World, monitor: Monitor) -> None:
    """Somebody releases by force a run that no longer has the key."""
    world.add("x", actors.run(monitor, min_hold=0.0))
    world.add("f", actors.force(monitor), starts_at=0.5)
    world.add("y", actors.run(monitor, min_hold=0.0, lasts=TTL / 2), starts_at=1.5)


def forced(world: World, monitor: Monitor) -> None:
    """Somebody releases a run by force while another stands by."""
    world.add("x", actors.run(monitor, lasts=TTL / 2))
    world.add("f", actors.force(monitor), starts_at=1.0)
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)


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
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)
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
    world.add("y", actors.run(monitor, standby=STANDBY), starts_at=0.1)
    world.add("s", actors.stop(monitor), starts_at=1.0)
    world.add("z", actors.run(monitor, min_hold=0.0), starts_at=2 * TTL)


def asked_to_stop_as_it_fails(world: World, monitor: Monitor) -> None:
    """Somebody stops a run whose command fails before it hears of that; a standby awaits failures."""
    world.add("x", actors.run(monitor, lasts=TTL / 4, exits=1))
    world.add("y", actors.run(monitor, standby=STANDBY, standby_on="any"), starts_at=0.1)
    world.add("s", actors.stop(monitor), starts_at=1.0)


def asked_to_stop_at_start(world: World, monitor: Monitor) -> None:
    """Somebody stops a run whose command cannot start, while another stands by."""
    world.add("x", actors.give_up(monitor, cannot_start=True))
    world.add("y", actors.run(monitor, standby=STANDBY))
    world.add("s", actors.stop(monitor))


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
