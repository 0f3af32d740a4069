"""Search through interleavings: all of a small case in order, or random ones of a larger case."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import actors
from .monitor import Monitor, Violation
from .world import World

#: Adds the actors of a case to a world.
Case = Callable[[World, Monitor], None]


class Found(Exception):
    """A violation, with the story of its interleaving."""

    def __init__(self, violation: Exception, story: list[str], choices: list[int]) -> None:
        super().__init__(str(violation))
        self.story = story
        self.choices = choices


class _Choices:
    """Follow given choices, then take the first option; record the number of options."""

    def __init__(self, given: list[int]) -> None:
        self.taken: list[int] = []
        self.options: list[int] = []
        self._given = given

    def __call__(self, options: int) -> int:
        index = len(self.taken)
        choice = self._given[index] if index < len(self._given) else 0
        self.taken.append(choice)
        self.options.append(options)
        return choice


@contextmanager
def prepared() -> Iterator[None]:
    """Return a context in which the program's own code runs in worlds."""
    with actors.patched(), actors.without_haste(), actors.without_noise():
        yield


def play(case: Case, choose: Callable[[int], int], faults: int) -> World:
    """Run one interleaving. Raises Found for a violation."""
    world = World(choose, faults=faults)
    monitor = Monitor(world)
    case(world, monitor)
    try:
        world.run()
        monitor.finish()
    except Violation as error:
        raise Found(error, [*world.story, f"VIOLATION: {error}"], list(getattr(choose, "taken", []))) from error
    finally:
        for actor in world.actors:
            actor.discard()
    return world


def exhaust(case: Case, faults: int, most: int | None = None) -> int:
    """Run all interleavings with up to `faults` faults, or the first `most`; return their number."""
    given: list[int] = []
    count = 0
    while most is None or count < most:
        choices = _Choices(given)
        play(case, choices, faults)
        count += 1
        given = choices.taken
        while given and given[-1] + 1 >= choices.options[len(given) - 1]:
            given = given[:-1]
        if not given:
            break
        given = [*given[:-1], given[-1] + 1]
    return count


def sample(case: Case, faults: int, number: int, seed: int) -> set[tuple[int, ...]]:
    """Run random interleavings; return the choices of the distinct ones."""
    source = random.Random(seed)
    seen: set[tuple[int, ...]] = set()
    for _ in range(number):
        taken: list[int] = []

        def choose(options: int, taken: list[int] = taken) -> int:
            # Faults are few, so they fall late as well as early.
            taken.append(source.randrange(options))
            return taken[-1]

        play(case, choose, faults)
        seen.add(tuple(taken))
    return seen


def shortest(case: Case, faults: int, most: int = 200_000) -> Found | None:
    """Return a violation with the fewest faults, None without one among the first `most` of each number."""
    for allowed in range(faults + 1):
        try:
            exhaust(case, allowed, most)
        except Found as found:
            return found
    return None
