"""The faults of servers: killed, stopped, cut off, emptied, or with another time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cronlock import errors

from . import history
from .breakage import JUMP, KILL, STOP, TERM, Breakage, Fault, Grants, has_servers, taken_late
from .plan import SERVERS, Kind, Shot
from .systems import System
from .wires import drop

if TYPE_CHECKING:
    from .world import World


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
            if number == STOP:
                server.resume()
            else:
                if empty:
                    system.wipe(server)
                server.start()
            system.wait_well()

        forgets = number != STOP and (empty or not system.keeps_data)
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
    grants = [*grants, *taken_late(world)]
    return Breakage(target, begin, end, impairs=[history.ALL], recovery=2 * world.ttl, grants=grants)


def _restarts(system: type[System]) -> bool:
    return not system.local and system.restarts


def _can_flush(system: type[System]) -> bool:
    return system.can_flush


def _is_one_of_many(system: type[System]) -> bool:
    return system.has_leader


SERVER_FAULTS = [
    Fault(Kind("server-kill", SERVERS, 0.1, 1.0, 2.5), _on_server(KILL), suits=_restarts),
    Fault(Kind("server-restart", SERVERS, 0.0, 0.3, 2.5), _on_server(TERM), suits=_restarts),
    Fault(
        Kind("server-restart-empty", SERVERS, 0.0, 0.3, 2.5),
        _on_server(TERM, empty=True),
        suits=lambda system: _restarts(system) and system.keeps_data,
    ),
    Fault(Kind("server-stop-shortly", SERVERS, 0.1, 0.6, 1.5), _on_server(STOP), suits=has_servers),
    Fault(Kind("server-stop-long", SERVERS, 1.2, 2.5, 2.5), _on_server(STOP), suits=has_servers),
    Fault(Kind("leader-kill", SERVERS, 1.5, 3.0, 2.5, brief=0.3), _on_server(KILL, leader=True), suits=_is_one_of_many),
    Fault(Kind("leader-stop", SERVERS, 1.5, 3.0, 2.5, brief=0.9), _on_server(STOP, leader=True), suits=_is_one_of_many),
    Fault(Kind("isolate-leader", SERVERS, 1.0, 4.0, 2.5, brief=0.5), _isolate(leader=True), suits=_is_one_of_many),
    Fault(Kind("isolate-server", SERVERS, 1.0, 3.0, 2.5), _isolate(leader=False), suits=_is_one_of_many),
    Fault(
        Kind("failover", SERVERS, 0.5, 1.5, 2.5),
        _asks("fail_over"),
        suits=lambda system: system.has_leader and not system.has_quorum,
    ),
    Fault(Kind("flush", SERVERS, 0.0, 0.1, 2.5), _asks("flush"), suits=_can_flush, weak=True),
    Fault(Kind("evict", SERVERS, 0.0, 0.1, 2.5), _asks("squeeze"), suits=_can_flush, weak=True),
    Fault(Kind("server-clock", SERVERS, 0.5, 2.0, 2.5), _server_clock, suits=has_servers, weak=True),
]
