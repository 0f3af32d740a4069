"""One interleaving: actors over a simulated server, with a decision at each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from cronlock.errors import BackendUnavailable
from cronlock.lease.rules import FRESH
from cronlock.testing.simulated import SimulatedClock

from .stores import ActorsStore, Call, WithoutFloor

KEY = "job"
#: Seconds past the end of a wait.
MOMENT = 0.001
#: The most seconds of a request; a hold may start so long before its run.
LATE = 1.0
#: The largest step in seconds of the server's clock that must break no promise: less than the margin of every lease.
STEP = 0.05
#: More steps than any case needs: a world that takes them loops.
_MOST_STEPS = 400


class Actor:
    """One process: a greenlet that yields at each request and each sleep."""

    def __init__(self, world: World, name: str, script: Callable[[Actor], None], *, starts_at: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.call: Call | None = None
        self.wakes_at: float | None = world.clock.now() + starts_at
        self.gone = False
        #: By SIGSTOP, or because its machine stands still; it continues later.
        self.stopped = False
        #: An answer that arrived while it was stopped.
        self.unread: list[Any] = []
        #: The records that it has seen.
        self.shown: list[bytes | None] = []
        #: The number of its requests without an answer.
        self.failures = 0
        self.store = ActorsStore(self)
        self._greenlet = greenlet(lambda *_: script(self))

    @property
    def is_done(self) -> bool:
        """True if it has ended."""
        return self.gone or bool(self._greenlet.dead)

    def pause(self, seconds: float, wake: int | None = None) -> None:
        """Sleep; the `pause` of the program's code."""
        if seconds > 0:
            self.wakes_at = self.world.clock.now() + seconds
            self.world.hub.switch()

    def ask(self, call: Call) -> Any:
        """Yield until the world has decided what happens to `call`."""
        self.call = call
        return self.world.hub.switch()

    def go_on(self, value: Any = None) -> None:
        """Run it to its next request or sleep."""
        self.call = self.wakes_at = None
        self._greenlet.switch(value)

    def fail(self) -> None:
        """Continue it with BackendUnavailable."""
        self.call = None
        self.failures += 1
        self._greenlet.throw(BackendUnavailable("no answer"))

    def kill(self) -> None:
        """Kill the process."""
        self.gone = True
        self.call = self.wakes_at = None
        self.discard()

    def discard(self) -> None:
        """End the greenlet; its `finally` blocks run, but reach nobody."""
        self.gone = True
        if not self._greenlet.dead and getcurrent() is not self._greenlet:
            self._greenlet.throw(GreenletExit)


class World:
    """Actors, a server, and requests in flight."""

    def __init__(self, choose: Callable[[int], int], *, faults: int) -> None:
        """`choose` picks one of n options; `faults` is the most faults."""
        self.clock = SimulatedClock()
        self.server = WithoutFloor(self.clock)
        self.hub = getcurrent()
        self.actors: list[Actor] = []
        self.story: list[str] = []
        #: What each swap wrote that was carried out, None for a removal, and whose it was.
        self.writes: list[tuple[str, bytes | None]] = []
        #: The time of each write.
        self.written_at: list[float] = []
        self._choose = choose
        self._faults = faults
        self._in_flight: list[tuple[str, Call]] = []
        self._may_step = True
        #: True: the server may lose its state once.
        self.may_lose_state = False

    def add(self, name: str, script: Callable[[Actor], None], *, starts_at: float = 0.0) -> Actor:
        """Add an actor that starts after `starts_at` seconds."""
        actor = Actor(self, name, script, starts_at=starts_at)
        self.actors.append(actor)
        return actor

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.clock.now() - 1000:8.3f}  {text}")

    def wrote(self, actor: Actor, data: bytes | None) -> None:
        """Note a swap, or a removal, that was carried out."""
        self.writes.append((actor.name, data))
        self.written_at.append(self.clock.now())
        if data is None:
            self.removed(actor)

    def removed(self, actor: Actor) -> None:
        """Check a removal; the monitor does."""

    def run(self) -> None:
        """Run until nothing more can happen."""
        for _ in range(_MOST_STEPS):
            self._wake()
            options = self._options()
            if not options:
                break
            options[self._choose(len(options)) if len(options) > 1 else 0]()
        else:
            raise AssertionError("it goes on for ever")
        for actor in self.actors:
            actor.discard()

    def _wake(self) -> None:
        """Run every actor whose sleep is over to its next request or sleep."""
        while True:
            ready = [one for one in self._asleep() if (one.wakes_at or 0.0) <= self.clock.now()]
            if not ready:
                return
            ready[0].go_on()

    def _asleep(self) -> list[Actor]:
        return [one for one in self.actors if not (one.is_done or one.stopped) and one.wakes_at is not None]

    def _next_moment(self) -> float | None:
        """Return the next moment at which something happens by itself, or None."""
        moments = [one.wakes_at for one in self._asleep() if one.wakes_at is not None]
        now = self.clock.now()
        if any(one.stopped for one in self.actors):
            # A stopped actor does harm just after the end of a lease, a hold or a deadline.
            cell = self.server.show(KEY)
            ends = [now + left + MOMENT for left in (cell.lease, cell.hold) if left]
            moments += [moment for moment in (*ends, *self.deadlines()) if moment > now]
        return min(moments, default=None)

    def _options(self) -> list[Callable[[], None]]:
        """Return what can happen now: who is next, and as long as there may be faults, which one."""
        options: list[Callable[[], None]] = []
        waiting = [one for one in self.actors if not (one.is_done or one.stopped) and one.call is not None]
        for actor in waiting:
            options.append(partial(self._answer, actor))
        moment = self._next_moment()
        if not waiting and moment is not None:
            options.append(partial(self._pass_time, moment))
        # No request takes so long, of which forgetting a key makes use.
        self._in_flight = [one for one in self._in_flight if self.clock.now() - one[1].decided_at < FRESH]
        for number in range(len(self._in_flight)):
            options.append(partial(self._arrive, number))
        for actor in self.actors:
            if actor.stopped and not actor.is_done:
                options.append(partial(self._continue, actor))
        if not self._faults or not waiting:
            return options
        for actor in waiting:
            options.append(partial(self._refuse, actor))
            options.append(partial(self._kill, actor))
            options.append(partial(self._stop, actor))
            if actor.call is not None and actor.call.writes:
                options.append(partial(self._lose_reply, actor))
                options.append(partial(self._delay, actor))
                options.append(partial(self._double, actor))
                options.append(partial(self._kill_behind, actor))
                options.append(partial(self._stop_behind, actor))
        if self._may_step:
            options.append(self._step)
        if self.may_lose_state:
            options.append(self._lose_state)
        return options

    # What can happen

    def _answer(self, actor: Actor) -> None:
        call = self._taken(actor, "")
        actor.go_on(call.carry_out())

    def _refuse(self, actor: Actor) -> None:
        self._fault(actor, ", refused")
        actor.fail()

    def _lose_reply(self, actor: Actor) -> None:
        self._fault(actor, ", its reply is lost").carry_out()
        actor.fail()

    def _delay(self, actor: Actor) -> None:
        self._in_flight.append((actor.name, self._fault(actor, ", delayed in flight, and gives up waiting")))
        actor.fail()

    def _double(self, actor: Actor) -> None:
        call = self._fault(actor, ", a copy of it stays in flight")
        self._in_flight.append((actor.name, call))
        actor.go_on(call.carry_out())

    def _kill(self, actor: Actor) -> None:
        self._fault(actor, ", and is killed before it is sent")
        actor.kill()

    def _kill_behind(self, actor: Actor) -> None:
        self._fault(actor, ", and is killed behind it").carry_out()
        actor.kill()

    def _arrive(self, number: int) -> None:
        name, call = self._in_flight.pop(number)
        self.tell(f"{name}'s request arrives late")
        call.carry_out()

    def _pass_time(self, moment: float) -> None:
        self.clock.time = max(self.clock.time, moment)

    def _stop(self, actor: Actor) -> None:
        self._faults -= 1
        actor.stopped = True
        self.tell(f"{actor.name} is stopped before it {actor.call.what if actor.call else ''}")

    def _stop_behind(self, actor: Actor) -> None:
        call = self._fault(actor, ", and is stopped before it hears the answer")
        actor.stopped, actor.call = True, None
        actor.unread.append(call.carry_out())

    def _continue(self, actor: Actor) -> None:
        actor.stopped = False
        self.tell(f"{actor.name} goes on")
        if actor.unread:
            actor.go_on(actor.unread.pop())

    def _step(self) -> None:
        self._faults -= 1
        self._may_step = False
        self.server.ahead += STEP
        self.tell(f"the server's clock is set forward by {STEP:g} s")

    def _lose_state(self) -> None:
        self._faults -= 1
        self.may_lose_state = False
        self.server.forget(KEY)
        self.tell("the server loses what it has")

    def deadlines(self) -> list[float]:
        """Return the moments just after the deadlines of leases; the monitor replaces this."""
        return []

    def _taken(self, actor: Actor, what: str) -> Call:
        call = actor.call
        assert call is not None
        self.tell(f"{actor.name} {call.what}{what}")
        return call

    def _fault(self, actor: Actor, what: str) -> Call:
        self._faults -= 1
        return self._taken(actor, what)
