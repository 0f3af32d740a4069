"""One torture run: ticks on all nodes and faults by the plan, for a given time."""

from __future__ import annotations

import contextlib
import heapq
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import history
from .breakage import Breakage, Fault
from .faults import FAULTS
from .findings import LEFT, OUTLIVE
from .plan import RUNS, SERVERS, Shot
from .world import SKIPPED, World

#: About how many seconds a run takes besides its command; a kill falls within.
_START_AND_END = 0.15
#: Orders are sent so many seconds ahead.
_AHEAD = 1.0
#: Seconds for the servers to recover at the end.
_WELL_AGAIN = 180.0
_WAYS = "deaf,child,session,orphan"


@dataclass(frozen=True)
class Pace:
    """The numbers of a torture run, in seconds."""

    seconds: float
    keys: int
    ttl: float = 3.0
    hold: float = 2.0
    kill_after: float = 0.4
    backend_timeout: float = 0.7
    #: Between two ticks of a key: longer than the hold plus the difference of the nodes' clocks.
    period: float = 3.2
    #: New keys at each tick.
    fresh: int = 1
    #: The largest offset of a node's clock, either way.
    skew: float = 0.4
    longest_job: float = 5.0
    #: True: every job is longer than the ttl, and half of them are hard to stop.
    long_jobs: bool = False
    #: The share of runs killed at a random moment: wrapper, guard or both.
    killed: float = 0.0
    #: True: while servers recover longer than planned, the whole plan waits, so that pairs of faults meet as planned.
    together: bool = False


class Driver:
    """Makes ticks and faults in a world."""

    def __init__(self, world: World, pace: Pace, seed: int, shots: Sequence[Shot]) -> None:
        self._world = world
        self._pace = pace
        self._chance = random.Random(f"{seed} ticks")
        self._skew = {node: self._chance.uniform(-pace.skew, pace.skew) for node in world.nodes}
        self._shots = shots
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._runs = 0
        self._kills = 0
        #: How many seconds the servers' faults are behind the plan.
        self._late = 0.0
        self._broken: dict[str, Breakage] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._servers_well = threading.Event()
        self._leave = threading.Event()

    def run(self) -> None:
        """Run to the end; record failures of the harness in the history."""
        begin = history.now() + 1.0
        self._plan_ticks(begin)
        for shot in self._shots:
            if shot.track != SERVERS:
                self._later(begin + shot.at, partial(self._begin, shot, begin, 0.0))
        on_servers = threading.Thread(target=self._break_servers, args=(begin,), daemon=True)
        on_servers.start()
        try:
            while self._due:
                time.sleep(max(0.0, self._due[0][0] - history.now()))
                heapq.heappop(self._due)[2]()
        finally:
            self._over.set()
            if not self._servers_well.wait(_WELL_AGAIN):
                self._world.note.note("harness", text="the servers were not well again in time")
            self._mend_all()
        self._probe()
        self._leave.set()
        on_servers.join()

    def _later(self, at: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (at, self._count, what))

    # Ticks.

    def _plan_ticks(self, begin: float) -> None:
        pace = self._pace
        for number in range(pace.keys):
            tick = 0
            at = begin + pace.period * number / pace.keys
            while at < begin + pace.seconds:
                key = f"key{number}" if number >= pace.fresh else f"new{number}-{tick}"
                job = self._job()
                self._later(at - _AHEAD, partial(self._order_tick, at, key, str(tick), job))
                self._later(at, partial(self._note_tick, key, str(tick)))
                at += pace.period
                tick += 1

    def _job(self) -> list[str]:
        """Return seconds, status and ways of a tick's command; see command.py."""
        chance, pace = self._chance, self._pace
        kind = chance.random()
        if pace.long_jobs:
            seconds = chance.uniform(pace.ttl, pace.longest_job)
        elif kind < 0.55:
            seconds = chance.uniform(0.0, 0.3)
        elif kind < 0.8:
            seconds = chance.uniform(0.3, pace.ttl / 2)
        else:
            seconds = chance.uniform(pace.ttl / 2, pace.longest_job)
        ways = _WAYS if chance.random() < (0.5 if pace.long_jobs else 0.2) else "deaf" if chance.random() < 0.3 else ""
        return [f"{seconds:.3f}", str(chance.choice((0, 0, 3))), *([ways] if ways else [])]

    def _order_tick(self, at: float, key: str, tick: str, job: list[str]) -> None:
        # Some use --wait, some --standby.
        chosen = self._chance.random()
        more: dict[str, Any] = {}
        if chosen < 0.15:
            more = {"wait": self._pace.ttl}
        elif chosen < 0.5 and self._world.system.can_stand_by:
            more = {"standby": self._pace.ttl * 1.5}
        for node in self._world.nodes:
            self._order_run(at + self._skew[node] + self._chance.uniform(0, 0.05), node, key, tick, job, **more)

    def _order_run(self, at: float, node: str, key: str, tick: str | None, job: Sequence[str], **more: Any) -> None:
        pace = self._pace
        self._runs += 1
        run = f"{node}-{self._runs:06d}"
        options = [f"--ttl={pace.ttl:g}", f"--min-hold={pace.hold:g}", f"--kill-after={pace.kill_after:g}"]
        options += [f"--backend-timeout={pace.backend_timeout:g}"]
        options += [f"--{name}={more[name]:g}" for name in ("wait", "standby") if name in more]
        order = self._world.run_order(node, run, key, tick, options, job)
        if not more.get("probe") and self._chance.random() < pace.killed:
            order["strike"] = self._death(job)
        spawn = {"node": node, "key": key, "tick": tick, "ttl": pace.ttl, "hold": pace.hold, "skip_status": SKIPPED}
        self._world.order(node, {**order, "at": at, "family": "child" in job[-1], "spawn": {**spawn, **more}})

    def _death(self, job: Sequence[str]) -> dict[str, Any]:
        """Return the order to kill processes of a run: before, while or after its command runs."""
        chance = self._chance
        life = _START_AND_END + (0.0 if chance.random() < 0.3 else float(job[0]))
        fault = FAULTS[f"kill-{chance.choice((history.WRAPPER, history.GUARD, history.BOTH))}"]
        self._kills += 1
        return {**self._order_strike(fault, f"kill-{self._kills}"), "after": chance.uniform(0.0, life)}

    def _note_tick(self, key: str, tick: str) -> None:
        with self._lock:
            ill = {node for broken in self._broken.values() for node in broken.impairs}
        nodes = self._world.nodes
        unhealthy = nodes if history.ALL in ill else [node for node in nodes if node in ill]
        self._world.note.tick(key, tick, [node for node in nodes if node not in unhealthy], unhealthy)

    # Faults.

    def _begin(self, shot: Shot, begin: float, late: float) -> None:
        behind = self._late if self._pace.together else 0.0
        if shot.at + behind > self._pace.seconds:
            return
        if behind > late:
            self._later(begin + shot.at + behind, partial(self._begin, shot, begin, behind))
            return
        if shot.track == RUNS:
            self._strike(shot)
            return
        broken = self._break(shot)
        if broken.then is not None:
            self._later(history.now() + shot.length / 2, partial(self._go_on, shot.id))
        self._later(history.now() + shot.length, partial(self._mend, shot.id))

    def _go_on(self, fault: str) -> None:
        broken = self._broken.get(fault)
        if broken is not None and broken.then is not None:
            broken.then()

    def _strike(self, shot: Shot) -> None:
        strike = self._order_strike(FAULTS[shot.name], shot.id)
        order = {"within": self._pace.period, "for": shot.length, "pick": shot.pick * 101 % 1.0}
        self._world.order(self._world.pick_node(shot), {**strike, **order})

    def _order_strike(self, fault: Fault, name: str) -> dict[str, Any]:
        """Return an order for agent.py to hit a process, without time and run."""
        grants = fault.grants
        if self._world.system.local and fault.process == history.BOTH:
            # The lease lives in the command and all its descendants, however long they live.
            grants = (*grants, (OUTLIVE, None), (LEFT, None))
        return {
            "do": "strike",
            "fault": name,
            "name": fault.kind.name,
            "process": fault.process,
            "signal": fault.number,
            "for": 0.0,
            "grants": [{"finding": finding, "within": within} for finding, within in grants],
        }

    def _break(self, shot: Shot) -> Breakage:
        fault = FAULTS[shot.name]
        assert fault.breaks is not None
        broken = fault.breaks(self._world, shot)
        with self._lock:
            self._broken[shot.id] = broken
        self._world.note.fault(
            shot.id,
            shot.name,
            broken.target,
            nodes=list(broken.nodes),
            impairs=list(broken.impairs),
            recovery=broken.recovery,
            grants=broken.grants,
            statuses=list(broken.statuses),
        )
        broken.begin()
        return broken

    def _mend(self, fault: str) -> None:
        self._broken[fault].end()
        with self._lock:
            del self._broken[fault]
        self._world.note.healed(fault)

    def _mend_all(self) -> None:
        for fault in list(self._broken):
            with contextlib.suppress(KeyError):  # The thread for servers was faster.
                self._mend(fault)

    def _break_servers(self, begin: float) -> None:
        """Break servers one after the other, since their recovery takes an unknown time."""
        try:
            self._shoot_at_servers(begin)
        except BaseException as error:  # Servers that fail fail a test, which is no Exception.
            self._world.note.note("harness", text=f"{type(error).__name__}: {error}")
        self._servers_well.set()
        # The kernel kills a server when the thread that started it ends.
        self._leave.wait()

    def _shoot_at_servers(self, begin: float) -> None:
        for shot in self._shots:
            if shot.track != SERVERS:
                continue
            if self._over.wait(max(0.0, begin + shot.at + self._late - history.now())):
                return
            self._break(shot)
            self._over.wait(shot.length)
            self._mend(shot.id)
            self._late = max(self._late, history.now() - (begin + shot.at + shot.length))

    # The end.

    def _probe(self) -> None:
        """Acquire each key once when all must be free."""
        pace = self._pace
        at = history.now() + pace.longest_job + pace.ttl + pace.hold + 3.0
        for number in range(pace.fresh, pace.keys):
            self._order_run(at, self._world.nodes[0], f"key{number}", None, ["0"], probe=True)
        time.sleep(max(0.0, at + 1.0 - history.now()))
        self._world.finish(60.0)
