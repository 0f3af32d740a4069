"""The faults of a torture run: effect, duration, and what each excuses.

A fault *grants* what a backend does not promise under it; see history.Fault. Everything else that goes
wrong is a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cronlock import errors

from . import history
from .breakage import JUMP, KILL, STOP, Breakage, Fault, has_servers, taken_late
from .plan import NODES, RUNS, SERVERS, Kind, Shot
from .server_faults import SERVER_FAULTS
from .systems import System
from .wires import delay, drop, lose

if TYPE_CHECKING:
    from .world import World


#: Not in the plan: a share of all runs dies at a random moment.
KILL_ANYTIME = "kill-anytime"


# Runs.

_STRIKES = [
    Fault(Kind(f"kill-{process}", RUNS), process=process, number=KILL)
    for process in (history.WRAPPER, history.GUARD, history.BOTH, history.COMMAND)
] + [
    Fault(Kind(f"stop-{process}{name}", RUNS, *length), process=process, number=STOP)
    for process in (history.WRAPPER, history.GUARD, history.COMMAND)
    for name, length in (("-shortly", (0.05, 0.5)), ("-long", (1.3, 2.5)))
]
_STRIKES += [
    Fault(Kind("stop-both-shortly", RUNS, 0.05, 0.3), process=history.BOTH, number=STOP),
    # Both watchers are stopped, so the command lives until one of them continues.
    Fault(
        Kind("stop-both-long", RUNS, 1.3, 2.5),
        process=history.BOTH,
        number=STOP,
        weak=True,
        grants=(("overlap", None), ("outlive", None), ("double", None), ("hold", None)),
    ),
]


# Nodes and their network.


def _cut(*, up: bool, down: bool) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, shot: Shot) -> Breakage:
        node = world.pick_node(shot)
        rules = [drop([node], world.hosts)] * up + [drop(world.hosts, [node])] * down
        return _wires(world, shot, node, rules)

    return breaks


def _slow(world: World, shot: Shot) -> Breakage:
    node, seconds = world.pick_node(shot), 0.02 + shot.pick * 997 % 1.0 * 0.6
    return _wires(world, shot, node, [delay([node], world.hosts, seconds / 2), delay(world.hosts, [node], seconds / 2)])


def _slow_then_cut(world: World, shot: Shot) -> Breakage:
    """Slow replies, and from the middle on none."""
    node, seconds = world.pick_node(shot), 0.45 + shot.pick * 997 % 1.0 * 0.1
    broken = _wires(world, shot, node, [delay(world.hosts, [node], seconds)])
    rules = [drop([node], world.hosts), drop(world.hosts, [node])]
    broken.then = lambda: world.fleet.break_wires(shot.id, rules)
    return broken


def _lossy(*, requests: bool) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, shot: Shot) -> Breakage:
        node, seed = world.pick_node(shot), int(shot.pick * 1e6)
        ends = ([node], world.hosts) if requests else (world.hosts, [node])
        return _wires(world, shot, node, [lose(*ends, 0.7, seed)])

    return breaks


def _wires(world: World, shot: Shot, node: str, rules: list[dict[str, Any]]) -> Breakage:
    return Breakage(
        node,
        lambda: world.fleet.break_wires(shot.id, rules),
        lambda: world.fleet.mend_wires(shot.id),
        nodes=[node],
        impairs=[node],
        recovery=world.ttl,  # Data that was lost comes again after a pause, which doubles each time.
        grants=taken_late(world),
    )


def _node_clock(world: World, shot: Shot) -> Breakage:
    node = world.pick_node(shot)
    jump = JUMP if shot.pick * 997 % 1.0 < 0.5 else -JUMP
    return Breakage(
        f"{node} {jump:+g} s",
        lambda: world.set_node_clock(node, jump),
        lambda: world.set_node_clock(node, 0),
        nodes=[node],
    )


def _limits(what: str, choices: Sequence[int]) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, shot: Shot) -> Breakage:
        node = world.pick_node(shot)
        number = choices[int(shot.pick * 997 % 1.0 * len(choices))]
        return Breakage(
            f"{node}, {number}",
            lambda: world.limits[node].update({what: number}),
            world.limits[node].clear,
            nodes=[node],
            impairs=[node],
            recovery=world.ttl,
            # The limit may hit the interpreter, cronlock or the command.
            statuses=[1, 64, 120, 126, 127, errors.FAULT, errors.UNAVAILABLE, -6, 134, 255],
        )

    return breaks


_NODE_FAULTS = [
    Fault(Kind("cut", NODES, 0.3, 2.5), _cut(up=True, down=True), suits=has_servers),
    Fault(Kind("cut-requests", NODES, 0.3, 2.5), _cut(up=True, down=False), suits=has_servers),
    Fault(Kind("cut-replies", NODES, 0.3, 2.5), _cut(up=False, down=True), suits=has_servers),
    Fault(Kind("slow", NODES, 0.5, 2.5), _slow, suits=has_servers),
    Fault(Kind("slow-then-cut", NODES, 2.0, 3.5, brief=1.0), _slow_then_cut, suits=has_servers),
    Fault(Kind("lose-requests", NODES, 0.5, 2.5), _lossy(requests=True), suits=has_servers),
    Fault(Kind("lose-replies", NODES, 0.5, 2.5), _lossy(requests=False), suits=has_servers),
    Fault(Kind("node-clock", NODES, 0.5, 2.5), _node_clock),
    Fault(Kind("few-descriptors", NODES, 0.3, 1.0), _limits("files", range(3, 14))),
    Fault(Kind("few-processes", NODES, 0.3, 1.0), _limits("processes", (1, 2, 3, 4))),
]


# The disk of the file backend.


def _disk(how: str) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, _: Shot) -> Breakage:
        return Breakage("the disk", lambda: world.spoil_disk(how), world.mend_disk, impairs=[history.ALL], recovery=0.5)

    return breaks


_DISK_FAULTS = [
    Fault(Kind("disk-full", SERVERS, 0.2, 1.5), _disk("full"), suits=lambda system: system.local),
    Fault(Kind("disk-read-only", SERVERS, 0.2, 1.5), _disk("read-only"), suits=lambda system: system.local),
]


#: All faults, by name.
FAULTS: Mapping[str, Fault] = {
    fault.kind.name: fault for fault in (*_STRIKES, *_NODE_FAULTS, *_DISK_FAULTS, *SERVER_FAULTS)
}


_GROUPS = ("all", "weak", "none", RUNS, NODES, SERVERS)


def choose(names: str, system: type[System]) -> list[Fault]:
    """Return the faults of a comma-separated list that suit the system.

    ``all`` are those that every promise must bear, ``weak`` the others, ``none`` none. ValueError for an unknown name.
    """
    chosen: dict[str, Fault] = {}
    for name in filter(None, names.split(",")):
        if name in ("all", "weak"):
            chosen.update({n: fault for n, fault in FAULTS.items() if fault.weak == (name == "weak")})
        elif name in (RUNS, NODES, SERVERS):
            chosen.update({n: fault for n, fault in FAULTS.items() if fault.kind.track == name and not fault.weak})
        elif name in FAULTS:
            chosen[name] = FAULTS[name]
        elif name not in ("none", KILL_ANYTIME):
            raise ValueError(f"unknown fault {name}; known: {', '.join((*_GROUPS, KILL_ANYTIME, *FAULTS))}")
    return [fault for fault in chosen.values() if fault.suits(system)]
