"""A measured server, and its figures for a tick: counts, CPU, memory, records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import proc
from labs.servers.creating import create
from labs.servers.process import Server

#: The name under which servers count connections; all other counts are requests.
CONNECTIONS = "connections"


def nothing() -> dict[str, int]:
    """Count nothing, for a server that does not count."""
    return {}


@dataclass(frozen=True)
class Target:
    """A measured server."""

    name: str
    server: Server
    url: str
    #: The number of its records.
    records: Callable[[], int]
    version: Callable[[], str]
    #: Begins to count, and returns what gives {what: how often} since then, connections included.
    count: Callable[[], Callable[[], dict[str, int]]] = lambda: nothing
    #: What clients need in their environment.
    environ: dict[str, str] = field(default_factory=dict)
    #: What stands before the server.
    before: tuple[AbstractContextManager[object], ...] = ()
    #: True if `cronlock doctor --create` makes what it needs.
    created: bool = False
    #: True if each connection is a process of the server's.
    forks: bool = False
    #: The most nodes that it is asked by.
    most: int = 10_000

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have it run, with what it needs."""
        with ExitStack() as stack:
            stack.enter_context(self.server)
            for before in self.before:
                stack.enter_context(before)
            if self.created:
                create(self.url, self.environ)
            yield

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        return proc.tree_cpu(self.server.pid) if self.forks else proc.cpu(self.server.pid)

    def peak(self) -> float:
        """Return the peak of its resident memory in MB since `watch`; 0.0 where it is that of many processes."""
        return 0.0 if self.forks else _memory(self.server.pid, "VmHWM")

    def watch(self) -> None:
        """Let the peak of the resident memory start anew; see proc(5)."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")


class Watch:
    """What a server does between `begin` and `end`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        # Records count from here on.
        self._records = target.records()

    def begin(self) -> None:
        """Begin to count."""
        self._count = self._target.count()
        self._target.watch()
        self._cpu = self._target.cpu()

    def end(self) -> None:
        """End it."""
        self.cpu = self._target.cpu() - self._cpu
        self.memory = self._target.peak()
        #: {what: how often} of what clients did.
        self.counts = self._count()
        self.records = self._target.records() - self._records


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return _memory(pid, "VmRSS")


def descriptors(pid: int) -> int:
    """Return the number of a process's open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _memory(pid: int, wanted: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == wanted:
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit(f"the kernel does not tell {wanted}")
