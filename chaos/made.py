"""Histories that tests make by hand."""

from __future__ import annotations

from itertools import count
from typing import Any

from . import check
from .history import gather

TTL, HOLD = 10.0, 4.0
SKIP = 99


class Made:
    """A history in the making."""

    def __init__(self, backend: str = "redis") -> None:
        self.events: list[dict[str, Any]] = [
            {"t": 0.0, "what": "plan", "backend": backend, "seed": 1, "ttl": TTL, "hold": HOLD, "nodes": ["a", "b"]}
        ]
        self._numbers = count(1)

    def add(self, t: float, what: str, **fields: object) -> None:
        """Add an event."""
        self.events.append({"t": t, "what": what, **fields})

    def tick(self, t: float, tick: str, *healthy: str, key: str = "k") -> None:
        """Add a tick that is due."""
        self.add(t, "tick", key=key, tick=tick, healthy=healthy or ("a", "b"), unhealthy=())

    def spawn(self, t: float, node: str = "a", tick: str | None = None, key: str = "k", **options: object) -> str:
        """Add a cronlock process; return its run."""
        run = f"r{next(self._numbers)}"
        fields = {"run": run, "node": node, "key": key, "tick": tick, "pid": 1, "ttl": TTL, "hold": HOLD}
        self.add(t, "spawn", **{**fields, "skip_status": SKIP, **options})
        return run

    def exit(self, t: float, run: str, status: int, stderr: str = "") -> None:
        """Add its end."""
        self.add(t, "exit", run=run, status=status, stderr=stderr)

    def start(self, t: float, run: str, fence: int | None = None, *, takeover: bool = False) -> None:
        """Add its command's start; the fence is the time unless given."""
        fence = int(t * 1000) if fence is None else fence
        self.add(t, "start", run=run, pid=2, owner=run, fence=fence, takeover=takeover)

    def beat(self, t: float, run: str, pid: int = 2) -> None:
        """Add a sign of life of its command, or of a child of it."""
        self.add(t, "beat", run=run, pid=pid)

    def end(self, t: float, run: str, status: int = 0, why: str = "done") -> None:
        """Add its command's end."""
        self.add(t, "end", run=run, pid=2, status=status, why=why)

    def fault(self, begin: float, end: float | None, name: str = "fault", **more: object) -> None:
        """Add a fault."""
        fault = f"f{next(self._numbers)}"
        self.add(begin, "fault", fault=fault, name=name, target="it", **more)
        if end is not None:
            self.add(end, "healed", fault=fault)

    def begun(self, t: float, node: str = "a", tick: str | None = None, **options: Any) -> str:
        """Add a cronlock process and the start of its command; return its run."""
        run = self.spawn(t, node, tick, **options)
        self.start(t + 0.1, run)
        return run

    def kill(self, t: float, run: str, status: int = -9, name: str = "fault") -> None:
        """Add that a run's wrapper is killed."""
        self.fault(t, t, name, run=run, process="wrapper", signal=9)
        self.exit(t, run, status)

    def run(self, begin: float, end: float, node: str = "a", tick: str | None = None, **options: Any) -> str:
        """Add a whole run without trouble."""
        run = self.begun(begin, node, tick, **options)
        self.end(end - 0.1, run)
        self.exit(end, run, 0)
        return run

    def skip(self, begin: float, node: str = "b", tick: str | None = None) -> str:
        """Add a skip."""
        run = self.spawn(begin, node, tick)
        self.exit(begin + 0.2, run, SKIP, "cronlock: k: skipped")
        return run

    def verdict(self) -> check.Verdict:
        """Return what the oracle says."""
        return check.check(gather(self.events))

    def kinds(self) -> list[str]:
        """Return the kinds of the violations."""
        return [finding.kind for finding in self.verdict().violations()]
