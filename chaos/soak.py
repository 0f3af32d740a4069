"""Runs that renew for long: wrapper and guard must not grow.

    python -m chaos.soak [--backend NAME,...] [--seconds N] [--ttl N] [--out DIR]

One run on each backend at the same time, with a short ttl, so that it renews about every ttl/3. Sampled
are the memory of wrapper and guard (the anonymous pages that they have mapped; of files, pages
come and go with who else uses them) and their open descriptors. Both are compared between the first and the
last third of the samples, by the median, since single samples may lie.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labs.servers.creating import create
from labs.servers.kinds import CREATED, MAKERS
from labs.servers.process import eventually
from labs.servers.redis import RedisCluster, RedisSentinel

from .agent import command, guards
from .choice import add_backends, chosen_backends

_SERVERS: dict[str, Callable[..., Any]] = {
    **MAKERS,
    "redis-sentinel": RedisSentinel,
    "redis-cluster": RedisCluster,
}
BACKENDS = ("file", *_SERVERS)
#: MB by which memory may differ: an hour of renewals that each keep 40 bytes exceeds it.
TOLERANCE = 0.125
#: Renewals after which everything that is needed has been loaded.
_WARM_AFTER = 3
_SAMPLES = 300


@dataclass
class Samples:
    """What was seen of one process: MB, and open descriptors."""

    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def take(self, pid: int) -> None:
        """Look at the process once."""
        self.memory.append(memory(pid))
        self.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))

    def grew(self) -> str | None:
        """Say what grew, or return None."""
        told = self.to_json()
        if told["last_mb"] - told["first_mb"] > TOLERANCE:
            return f"memory grew from {told['first_mb']:.3f} to {told['last_mb']:.3f} MB"
        if told["last_descriptors"] > told["first_descriptors"]:
            return f"descriptors grew from {told['first_descriptors']} to {told['last_descriptors']}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the medians of the first and of the last third."""
        third = max(1, len(self.memory) // 3)
        return {
            "first_mb": round(statistics.median(self.memory[:third]), 3),
            "last_mb": round(statistics.median(self.memory[-third:]), 3),
            "first_descriptors": int(statistics.median(self.descriptors[:third])),
            "last_descriptors": int(statistics.median(self.descriptors[-third:])),
        }


class Soak:
    """A run on one backend, and what was seen of it."""

    def __init__(self, backend: str, url: str, environ: Mapping[str, str], ttl: float, room: Path) -> None:
        room.mkdir()
        self.backend = backend
        self._said = room / "said"
        own = {"CRONLOCK_CONFIG": os.devnull, "CRONLOCK_STATE_DIR": str(room / "state")}
        known = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
        line = [sys.executable, "-m", "cronlock", "run", "--key=job", f"--backend={url}", f"--ttl={ttl:g}"]
        with self._said.open("wb") as said:
            self._run = subprocess.Popen(
                [*line, "--", "sleep", "1000000"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**known, **own, **environ},
                start_new_session=True,
            )
        self._began = time.monotonic()
        eventually(lambda: command(self._run.pid), f"a command on {backend}")
        self.guard = guards(self._run.pid)[-1]
        self._before = self.renewals()
        self.samples = {"wrapper": Samples(), "guard": Samples()}

    def renewals(self) -> int:
        """Return how often the guard was told a new deadline: it reads nothing else."""
        for line in Path(f"/proc/{self.guard}/io").read_text().splitlines():
            name, _, value = line.partition(": ")
            if name == "syscr":
                return int(value)
        raise AssertionError("the kernel does not count reads")

    def warm_up(self) -> None:
        """Wait for the first renewals."""
        eventually(lambda: self.renewals() >= self._before + _WARM_AFTER, f"renewals on {self.backend}", 300)
        self._before = self.renewals()
        self._began = time.monotonic()

    def sample(self) -> None:
        """Look at both processes; AssertionError if the run is over."""
        assert self._run.poll() is None, f"{self.backend}: the run ended: {self._said.read_text(errors='replace')}"
        self.samples["wrapper"].take(self._run.pid)
        self.samples["guard"].take(self.guard)

    def end(self) -> dict[str, Any]:
        """End the run and return its summary."""
        summary = {
            "kind": "soak",
            "backend": self.backend,
            "seconds": round(time.monotonic() - self._began, 1),
            "renewals": self.renewals() - self._before,
            **{name: samples.to_json() for name, samples in self.samples.items()},
            "grew": [f"{name}: {grew}" for name, samples in self.samples.items() if (grew := samples.grew())],
        }
        self.stop()
        return summary

    def stop(self) -> None:
        """Let the run end, if it has not."""
        self._run.terminate()
        self._run.wait(120)


def memory(pid: int) -> float:
    """Return the MB of anonymous memory that a process has mapped."""
    # Of /proc/PID/status the same number is only near the truth: the kernel keeps it by processor.
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Anonymous":
            return int(value.split()[0]) * 1024 / 1e6
    raise AssertionError("the kernel does not tell anonymous memory")


def soak(backends: Sequence[str], seconds: float, ttl: float, room: Path) -> list[dict[str, Any]]:
    """Return the summaries of runs on `backends`, all of them at once, for so many seconds after warming up."""
    with ExitStack() as stack:
        soaks = []
        for backend in backends:
            url, environ = f"file://{room}/leases", dict[str, str]()
            if backend in _SERVERS:
                server = stack.enter_context(_SERVERS[backend]())
                url, environ = server.url(), getattr(server, "environ", {})
            if backend in CREATED:
                create(url, environ)
            soaks.append(Soak(backend, url, environ, ttl, room / backend))
            stack.callback(soaks[-1].stop)
        for one in soaks:
            one.warm_up()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for one in soaks:
                one.sample()
            time.sleep(max(0.1, min(seconds / _SAMPLES, end - time.monotonic())))
        return [one.end() for one in soaks]


def main(arguments: Sequence[str]) -> int:
    """Soak, say what came of it, and return 0 if nothing grew."""
    parser = argparse.ArgumentParser(prog="python -m chaos.soak", description=__doc__.splitlines()[0])
    add_backends(parser, BACKENDS)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--out", type=Path, help="where to write a summary of each run")
    options = parser.parse_args(arguments)
    backends = chosen_backends(parser, options.backend, BACKENDS)
    with tempfile.TemporaryDirectory(prefix="cronlock-soak-") as room:
        summaries = soak(backends, options.seconds, options.ttl, Path(room))
    for summary in summaries:
        name = summary["backend"]
        print(f"{name}: {summary['renewals']} renewals in {summary['seconds']:g} s: ", end="")
        print("; ".join(summary["grew"]) or "nothing grew", summary["wrapper"], summary["guard"])
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"soak-{name}.summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return 1 if any(summary["grew"] for summary in summaries) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
