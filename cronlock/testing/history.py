"""One history on two stores: what runs on three nodes do, with the same answers from an engine's and the simulated one.

Each history has a key of its own. What happens next is drawn by what the simulated store shows, from the history's
seed alone. All histories wait together, for short leases to lapse and for short holds to end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import (
    EXITED,
    LOST,
    NOT_STARTED,
    STOPPED,
    TIMED_OUT,
    Claim,
    Conflict,
    Grant,
    Pause,
    Run,
    Stop,
    Watermark,
)

from .hooks import LONG, StoreHooks, fresh_key, make_claim, make_ending
from .requests import Request
from .simulated import SimulatedClock, SimulatedServer, SimulatedStore
from .waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cronlock.lease.store import Store

_NODES = 3
#: A history is so many times this many steps, with a wait in between.
_PHASES, _STEPS = 4, 7
_SHORT, _LONG = 10.0, 1e5
_ENDINGS = [(EXITED, 0), (EXITED, 3), (TIMED_OUT, 124), (LOST, 75), (NOT_STARTED, 127), (STOPPED, 75)]


class _World:
    """One of the two stores, with what the runs know of it."""

    def __init__(self, nodes: Sequence[Leases], key: str, ttl: float, hold: float, long: float) -> None:
        self.nodes = nodes
        self.key = key
        self._ttls = {True: ttl, False: long}
        self._holds = {"no": 0.0, "short": hold, "long": long}
        self._claims: dict[str, Claim] = {}
        self.grants: dict[str, Grant] = {}
        #: In the order of their grants, which identifies runs on both.
        self.fences: list[int] = []
        self._forgotten = 0

    def ask(self, request: Request) -> str:
        """Ask for the key, perhaps again."""
        return self._answer(self.nodes[request.node].acquire(self._claim(request)))

    def renew(self, request: Request) -> str:
        """Renew what was granted."""
        grant = self.grants[request.owner]
        renewed = self.nodes[request.node].renew(grant)
        return f"{renewed}, {'goes on' if grant.stop is None else f'asked to end by {grant.stop.user}'}"

    def release(self, request: Request, ending: tuple[str, int], *, keep_hold: bool) -> str:
        """Say how the run ended."""
        outcome, status = ending
        grant = self.grants[request.owner]
        return str(self.nodes[request.node].release(grant, make_ending(status, outcome), keep_hold=keep_hold))

    def abandon(self, request: Request) -> str:
        """Give up."""
        self.nodes[request.node].abandon(self._claim(request))
        return "done"

    def force(self, node: int, owner: str) -> str:
        """Take the key from `owner`."""
        return str(self.nodes[node].force_release(self.key, owner))

    def pause(self, node: int) -> str:
        """Let no run start."""
        self.nodes[node].pause(self.key, Pause("somebody", f"node-{node}"), None)
        return "done"

    def resume(self, node: int) -> str:
        """Let runs start again."""
        pause = self.nodes[node].resume(self.key)
        return "was not paused" if pause is None else f"was paused on {pause.host}"

    def stop(self, node: int, owner: str) -> str:
        """Ask the run of `owner` to end."""
        return str(self.nodes[node].stop(self.key, Stop(owner, "somebody", f"node-{node}")))

    def forget(self, node: int) -> str:
        """Remove the record. Fences that came from a watermark alone restart, since no floor knows them."""
        if gone := self.nodes[node].forget(self.key, -60.0):
            self._forgotten = len(self.fences)
        return str(gone)

    def look(self, node: int) -> str:
        """Return the record."""
        record = self.nodes[node].read(self.key)
        if record is None:
            return "nothing"
        lines = [f"run {self._run(record.run)}{' with its lease' if record.remaining else ''}"]
        lines += ["a hold"] if record.hold_remaining else []
        lines += ["asked to end"] if record.stop is not None else []
        lines += [f"paused on {record.pause.host}"] if record.pause is not None else []
        lines += [f"last {self._run(record.last)}", f"success {self._run(record.success)}"]
        return "; ".join(lines + [f"past {self._run(run)}" for run in record.history])

    def _claim(self, request: Request) -> Claim:
        """Return the claim of `request`, which stays what it was when it was made."""
        if request.owner not in self._claims:
            seen = self.fences[-1] if self.fences else 0
            watermarks = {
                "in step": Watermark(seen, age=0.0, loss_noticed_ago=None),
                "shows more": Watermark(seen + 10**9, age=0.0, loss_noticed_ago=None),
                "showed more long ago": Watermark(seen + 10**9, age=0.0, loss_noticed_ago=1e6),
            }
            self._claims[request.owner] = make_claim(
                self.key,
                owner=request.owner,
                host=f"node-{request.node}",
                ttl=self._ttls[request.brief],
                hold=self._holds[request.hold],
                ignore_hold=request.ignore_hold,
                standby_for=request.standby_for,
                awaited_fence=None if request.awaited is None else self.fences[request.awaited],
                watermark=watermarks.get(request.watermark),
            ).but(
                ignore_pause=request.ignore_pause,
                on_death=request.standby_on != "failed",
                on_failure=request.standby_on != "died",
                attempts=request.attempts,
                defers=request.attempts == 3,
            )
        return self._claims[request.owner]

    def _answer(self, answer: Grant | Conflict) -> str:
        if isinstance(answer, Conflict):
            assert (answer.remaining > 0) == (answer.why != "ended")
            return f"{answer.why}: {self._run(answer.run)}, fence {self._ordinal(answer.fence)}"
        self.grants[answer.claim.owner] = answer
        fence = answer.fence or 0
        if fence not in self.fences:
            assert fence > max(self.fences[self._forgotten :], default=0), f"the fence went back: {fence}"
            self.fences.append(fence)
        words = f"granted as {self._ordinal(fence)} behind {self._run(answer.previous)}"
        which = f"attempt {answer.attempt} behind status {answer.previous_status}"
        return f"{words}, in place of {self._ordinal(answer.took_over)}, {which}"

    def _ordinal(self, fence: int | None) -> str:
        # A pause skipped a fence.
        return "none" if fence is None else f"#{self.fences.index(fence)}" if fence in self.fences else "another"

    def _run(self, run: Run | None) -> str:
        if run is None:
            return "none"
        ended = "without an end" if run.outcome is None else f"{run.outcome} {run.status}"
        ticks = "" if run.stands_for is None else f" for {run.stands_for} and {self._ordinal(run.took_over)}"
        return f"{run.owner}@{run.host} {self._ordinal(run.fence)}{ticks} {ended} {run.ended_at is not None}"


class _History:
    """One history; `story` is what happened so far."""

    def __init__(self, seed: int, model: _World, real: _World, *, force_waits: bool) -> None:
        self.seed = seed
        self.key = real.key
        self.story: list[str] = []
        self._draw = random.Random(seed)
        self._model = model
        self._real = real
        self._force_waits = force_waits
        self._requests: list[Request] = []
        self._ended: set[str] = set()
        #: Ticks, and the place of the grant, of each run that was granted the key.
        self._ticks: list[tuple[str, int]] = []

    def go_on(self) -> None:
        """Do some steps; AssertionError with the story where the answers differ."""
        for _ in range(_STEPS):
            self._step()
            if self._draw.random() < 0.3:
                self._look()
        self._look()

    def _step(self) -> None:
        draw, requests = self._draw, self._requests[-5:]
        granted = [request for request in requests if request.owner in self._model.grants]
        kinds = {"ask": 8, "abandon": 2, "force": 2, "pause": 1, "resume": 1, "stop": 2, "forget": 1}
        kinds.update({"again": 2} if requests else {})
        kinds.update({"renew": 3, "release": 6} if granted else {})
        kind = draw.choices([*kinds], [*kinds.values()])[0]
        if kind == "ask" or (kind == "abandon" and (not requests or draw.random() < 0.2)):
            self._requests.append(self._request())
            request = self._requests[-1]
            if kind == "ask":
                return self._ask(request, f"asks for {request}")
            return self._both(f"{request.owner} gives up, who never asked", lambda world: world.abandon(request))
        if kind == "force":
            return self._force(draw.choice(requests).owner if requests else "nobody")
        if kind in ("pause", "resume", "forget"):
            return self._look(kind)
        if kind == "stop":
            node, owner = draw.randrange(_NODES), draw.choice(requests).owner if requests else "nobody"
            return self._both(f"node {node} asks {owner} to end", lambda world: world.stop(node, owner))
        # Mostly the one that was there last and has not ended.
        some = granted if kind in ("renew", "release") else requests
        if draw.random() < 0.8:
            some = [request for request in some if request.owner not in self._ended] or some
        return self._of(kind, some[-min(draw.choice([1, 1, 1, 2, 3]), len(some))])

    def _of(self, kind: str, request: Request) -> None:
        if kind == "again":
            self._ask(request, "asks again")
        elif kind == "abandon":
            self._ended.add(request.owner)
            self._both(f"{request.owner} gives up", lambda world: world.abandon(request))
        elif kind == "renew":
            self._both(f"{request.owner} renews", lambda world: world.renew(request))
        else:
            self._ended.add(request.owner)
            ending, keep = self._draw.choice(_ENDINGS), self._draw.random() < 0.5
            words = f"{request.owner} ends with {ending}, {'' if keep else 'not '}keeping its hold"
            self._both(words, lambda world: world.release(request, ending, keep_hold=keep))

    def _ask(self, request: Request, words: str) -> None:
        before = self._model.grants.get(request.owner)
        self._both(f"{request.owner} on node {request.node} {words}", lambda world: world.ask(request))
        grant = self._model.grants.get(request.owner)
        if grant is not None and grant is not before:
            self._ticks.append((request.standby_for or request.owner, len(self._model.fences) - 1))

    def _force(self, owner: str) -> None:
        node = self._draw.randrange(_NODES)
        self._both(f"{owner} is forced out by node {node}", lambda world: world.force(node, owner))
        for request in self._requests:
            if self._force_waits and request.owner == owner and owner in self._model.grants:
                # Its next words free the key where a forced release waits for them.
                self._of("renew", request)
                self._of("release", request)

    def _look(self, kind: str = "look") -> None:
        node = self._draw.randrange(_NODES)
        self._both(f"node {node} asks for: {kind}", lambda world: getattr(world, kind)(node))

    def _request(self) -> Request:
        draw = self._draw
        tick = draw.choice([*self._ticks[-3:], self._ticks[-1]]) if self._ticks and draw.random() < 0.35 else None
        watermarks = ["", "", "", "", "in step", "in step", "shows more", "showed more long ago"]
        return Request(
            owner=f"r{len(self._requests) + 1}.{self.seed}",  # One node plays all histories, and knows runs by owner.
            node=draw.randrange(_NODES),
            brief=draw.random() < 0.6,
            hold=draw.choice(["no", "short", "long"]),
            ignore_hold=draw.random() < 0.5,
            ignore_pause=draw.random() < 0.5,
            standby_for=None if tick is None else tick[0],
            awaited=None if tick is None else tick[1],
            standby_on=draw.choice(["died", "died", "failed", "any"]),
            attempts=draw.choice([None, None, 2, 3]),
            watermark=draw.choice(watermarks) if self._model.fences else "",  # Without one nothing is more on both.
        )

    def _both(self, words: str, do: Callable[[_World], str]) -> None:
        answers = []
        for world in (self._model, self._real):
            try:
                answers.append(do(world))
            except (BackendError, AssertionError, ValueError) as error:
                answers.append(f"{type(error).__name__}: {error}")
        self.story.append(f"{words}: {answers[0]}")
        if answers[0] != answers[1]:
            raise AssertionError(
                f"another answer than the simulated store's at the end of this history of {self.key}:\n  "
                + "\n  ".join(self.story)
                + f"\nbut here: {answers[1]}\nagain with CRONLOCK_HISTORIES=1 CRONLOCK_HISTORIES_SEED={self.seed}"
            )


def compare_histories(hooks: StoreHooks, count: int, seed: int) -> None:
    """Play `count` histories with seeds from `seed` on; fail with the first one in which the answers differ.

    If the machine is so slow that short leases lapse, they are played again with longer ones.
    """
    seeds, played = [*range(seed, seed + count)], 0
    while played * 2 <= count:
        slow = _compare(hooks, seeds)
        played, seeds = played + len(seeds) - len(slow), slow
        hooks.short_ttl, hooks.short_hold = hooks.short_ttl * 2, hooks.short_hold * 2
        assert hooks.short_ttl < LONG / 2, "the machine is too slow to compare histories"


def _compare(hooks: StoreHooks, seeds: list[int]) -> list[int]:
    """Play a history for each seed at once; return the seeds of those that took too long to tell anything."""
    stores = [hooks.open_store() for _ in range(_NODES)]
    clock = SimulatedClock()
    server = SimulatedServer(clock)
    models = [SimulatedStore(server) for _ in range(_NODES)]
    for one in models:
        one.traits = stores[0].traits
    nodes, simulated = [Leases(store) for store in stores], [Leases(one, clock) for one in models]
    short = min(hooks.short_ttl, hooks.short_hold) - stores[0].traits.granularity
    histories = []
    for number in seeds:
        key = fresh_key("history")
        model = _World(simulated, key, _SHORT, _SHORT, _LONG)
        real = _World(nodes, key, hooks.short_ttl, hooks.short_hold, LONG)
        histories.append(_History(number, model, real, force_waits=bool(hooks.force_waits)))
    slow: list[_History] = []
    try:
        for phase in range(_PHASES):
            if phase:
                clock.time += 2 * _SHORT
                hooks.pass_time(hooks.short_hold)
            # A short time of the model may be long over on the engine: that proves nothing.
            slow += [one for one in histories if one not in slow and not _play(one, hooks, stores[0], server, short)]
    finally:
        for store in stores:
            store.close()
    return [one.seed for one in slow]


def _play(history: _History, hooks: StoreHooks, store: Store, server: SimulatedServer, short: float) -> bool:
    """Play a history's next phase once the stores agree on what is over; False if that took too long."""
    shown, deadline = server.show(history.key), time.monotonic() + 60.0
    if not shown.lease and store.read(history.key, deadline).lease:
        hooks.lapse(history.key)
    if not shown.hold:
        eventually(lambda: not store.read(history.key, deadline).hold, "the hold ended", pause=0.1)
    began = time.monotonic()
    try:
        history.go_on()
    except AssertionError as error:
        if time.monotonic() - began < 0.7 * short:
            pytest.fail(str(error), pytrace=False)
    history.story.append("short leases lapse, short holds end")
    return time.monotonic() - began < 0.7 * short
