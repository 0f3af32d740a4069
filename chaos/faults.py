"""The faults of a torture run: effect, duration, and what each excuses.

A fault *grants* what a backend does not promise under it; see history.Fault. Everything else that goes
wrong is a violation.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cronlock import errors

from . import history
from .plan import NODES, RUNS, SERVERS, Kind, Shot
from .systems import System
from .wires import delay, drop, lose

if TYPE_CHECKING:
    from .world import World

_KILL, _STOP, _TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
#: Not in the plan: a share of all runs dies at a random moment.
KILL_ANYTIME = "kill-anytime"
#: Steps of clocks, in seconds.
JUMP = 120.0

Grants = list[dict[str, Any]]


@dataclass
class Breakage:
    """One injected fault with its target."""

    target: str
    begin: Callable[[], object]
    end: Callable[[], object] = lambda: None
    #: What happens in the middle of it.
    then: Callable[[], object] | None = None
    #: The nodes that it hits; empty: the servers.
    nodes: Sequence[str] = ()
    impairs: Sequence[str] = ()
    #: In seconds, after its end.
    recovery: float = 0.0
    grants: Grants = field(default_factory=list)
    statuses: Sequence[int] = ()


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and how to inject it."""

    kind: Kind
    #: None: an agent hits a process of a run; see `strike`.
    breaks: Callable[[World, Shot], Breakage] | None = None
    #: For a fault of a run: the process and its signal.
    process: str = ""
    number: int = 0
    #: The systems that it suits.
    suits: Callable[[type[System]], bool] = lambda _: True
    #: True if backends do not promise to survive it: only injected by its name or by "weak".
    weak: bool = False
    grants: tuple[tuple[str, str | None], ...] = ()


def _has_servers(system: type[System]) -> bool:
    return not system.local


# Runs.

_STRIKES = [
    Fault(Kind(f"kill-{process}", RUNS), process=process, number=_KILL)
    for process in (history.WRAPPER, history.GUARD, history.BOTH, history.COMMAND)
] + [
    Fault(Kind(f"stop-{process}{name}", RUNS, *length), process=process, number=_STOP)
    for process in (history.WRAPPER, history.GUARD, history.COMMAND)
    for name, length in (("-shortly", (0.05, 0.5)), ("-long", (1.3, 2.5)))
]
_STRIKES += [
    Fault(Kind("stop-both-shortly", RUNS, 0.05, 0.3), process=history.BOTH, number=_STOP),
    # Both watchers are stopped, so the command lives until one of them continues.
    Fault(
        Kind("stop-both-long", RUNS, 1.3, 2.5),
        process=history.BOTH,
        number=_STOP,
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
        grants=_taken_late(world),
    )


def _taken_late(world: World) -> Grants:
    """Return the excuses for requests that take effect after their runs gave up."""
    return [{"finding": finding} for finding in ("lost", "stuck")] if world.system.late_requests_take else []


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
    Fault(Kind("cut", NODES, 0.3, 2.5), _cut(up=True, down=True), suits=_has_servers),
    Fault(Kind("cut-requests", NODES, 0.3, 2.5), _cut(up=True, down=False), suits=_has_servers),
    Fault(Kind("cut-replies", NODES, 0.3, 2.5), _cut(up=False, down=True), suits=_has_servers),
    Fault(Kind("slow", NODES, 0.5, 2.5), _slow, suits=_has_servers),
    Fault(Kind("slow-then-cut", NODES, 2.0, 3.5, brief=1.0), _slow_then_cut, suits=_has_servers),
    Fault(Kind("lose-requests", NODES, 0.5, 2.5), _lossy(requests=True), suits=_has_servers),
    Fault(Kind("lose-replies", NODES, 0.5, 2.5), _lossy(requests=False), suits=_has_servers),
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


# Servers.

_UNSEEN_LOSS = ("overlap", "fence", "double", "hold")


def _loss(world: World, unless_seen: str | None) -> Grants:
    """Return the excuses for state loss: the first holder is stopped within a ttl."""
    return [
        {"finding": kind, "within": world.ttl if kind == "overlap" else None, "unless_seen": unless_seen}
        for kind in _UNSEEN_LOSS
    ]


def _on_server(number: int, *, leader: bool = False, empty: bool = False) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, shot: Shot) -> Breakage:
        system = world.system
        server = system.leader() if leader else world.pick_server(shot)

        def begin() -> None:
            system.hit(server, number)

        def end() -> None:
            if number == _STOP:
                server.resume()
            else:
                if empty:
                    system.wipe(server)
                server.start()
            system.wait_well()

        forgets = number != _STOP and (empty or not system.keeps_data)
        grants = []
        if (system.has_leader and not system.has_quorum) or (forgets and not system.has_quorum):
            grants = _loss(world, "lease")
        # A node with a higher watermark quarantines the key for the ttl.
        broken = _servers(world, server.site.host, begin, end, grants)
        if empty and system.is_furnished:
            broken.statuses = [errors.CONFIG]
        return broken

    return breaks


def _isolate(*, leader: bool) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, shot: Shot) -> Breakage:
        system = world.system
        server = system.leader() if leader else world.pick_server(shot)
        host = system.machine_of(server).name
        others = [machine.name for machine in system.machines if machine.name != host]

        def begin() -> None:
            world.fleet.break_wires(shot.id, [drop([host], others), drop(others, [host])])

        def end() -> None:
            world.fleet.mend_wires(shot.id)
            system.wait_well()

        return _servers(world, host, begin, end, [] if system.has_quorum else _loss(world, "lease"))

    return breaks


def _asks(name: str) -> Callable[[World, Shot], Breakage]:
    def breaks(world: World, _: Shot) -> Breakage:
        system = world.system
        action: Callable[[], None] = getattr(system, name)
        grants = _loss(world, "lease" if name == "fail_over" else None)
        return _servers(world, "all servers", action, system.wait_well, grants)

    return breaks


def _server_clock(world: World, shot: Shot) -> Breakage:
    jump = JUMP if shot.pick * 997 % 1.0 < 0.5 else -JUMP
    grants: Grants = [{"finding": finding} for finding in ("double", "hold", "stuck", "lost")]
    if world.system.goes_by_wall_clock:
        grants += [{"finding": "overlap", "within": world.ttl}]
    broken = _servers(
        world, f"{jump:+g} s", lambda: world.set_server_clock(jump), lambda: world.set_server_clock(0), grants
    )
    # If a clock goes back, leases and holds that it set last longer by that much.
    broken.recovery += JUMP
    return broken


def _servers(
    world: World, target: str, begin: Callable[[], object], end: Callable[[], object], grants: Grants
) -> Breakage:
    grants = [*grants, *_taken_late(world)]
    return Breakage(target, begin, end, impairs=[history.ALL], recovery=2 * world.ttl, grants=grants)


def _restarts(system: type[System]) -> bool:
    return not system.local and system.restarts


def _can_flush(system: type[System]) -> bool:
    return system.can_flush


def _is_one_of_many(system: type[System]) -> bool:
    return system.has_leader


_SERVER_FAULTS = [
    Fault(Kind("server-kill", SERVERS, 0.1, 1.0, 2.5), _on_server(_KILL), suits=_restarts),
    Fault(Kind("server-restart", SERVERS, 0.0, 0.3, 2.5), _on_server(_TERM), suits=_restarts),
    Fault(
        Kind("server-restart-empty", SERVERS, 0.0, 0.3, 2.5),
        _on_server(_TERM, empty=True),
        suits=lambda system: _restarts(system) and system.keeps_data,
    ),
    Fault(Kind("server-stop-shortly", SERVERS, 0.1, 0.6, 1.5), _on_server(_STOP), suits=_has_servers),
    Fault(Kind("server-stop-long", SERVERS, 1.2, 2.5, 2.5), _on_server(_STOP), suits=_has_servers),
    Fault(
        Kind("leader-kill", SERVERS, 1.5, 3.0, 2.5, brief=0.3), _on_server(_KILL, leader=True), suits=_is_one_of_many
    ),
    Fault(
        Kind("leader-stop", SERVERS, 1.5, 3.0, 2.5, brief=0.9), _on_server(_STOP, leader=True), suits=_is_one_of_many
    ),
    Fault(Kind("isolate-leader", SERVERS, 1.0, 4.0, 2.5, brief=0.5), _isolate(leader=True), suits=_is_one_of_many),
    Fault(Kind("isolate-server", SERVERS, 1.0, 3.0, 2.5), _isolate(leader=False), suits=_is_one_of_many),
    Fault(
        Kind("failover", SERVERS, 0.5, 1.5, 2.5),
        _asks("fail_over"),
        suits=lambda system: system.has_leader and not system.has_quorum,
    ),
    Fault(Kind("flush", SERVERS, 0.0, 0.1, 2.5), _asks("flush"), suits=_can_flush, weak=True),
    Fault(Kind("evict", SERVERS, 0.0, 0.1, 2.5), _asks("squeeze"), suits=_can_flush, weak=True),
    Fault(Kind("server-clock", SERVERS, 0.5, 2.0, 2.5), _server_clock, suits=_has_servers, weak=True),
]

#: All faults, by name.
FAULTS: Mapping[str, Fault] = {
    fault.kind.name: fault for fault in (*_STRIKES, *_NODE_FAULTS, *_DISK_FAULTS, *_SERVER_FAULTS)
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
