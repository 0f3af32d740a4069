"""What a fault of a torture run is: how it is injected, and what it excuses."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .plan import Kind, Shot
from .systems import System

if TYPE_CHECKING:
    from .world import World


KILL, STOP, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM


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


def has_servers(system: type[System]) -> bool:
    return not system.local


def taken_late(world: World) -> Grants:
    """Return the excuses for requests that take effect after their runs gave up."""
    return [{"finding": finding} for finding in ("lost", "stuck")] if world.system.late_requests_take else []
