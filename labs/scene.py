"""Ten machines that share a key on a server of one kind: the one that has it may die, and another takes over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from .installation import ROOT
from .machines import SHARED, Fleet, Machine
from .servers.kinds import MAKERS
from .servers.process import Site, eventually

NODES = 10
#: How long leases last, and the job takes, in seconds.
TTL, JOB = 6, 3.0
#: The exit status of a skip.
SKIP = 99

#: Those on which a run can stand by.
SERVERS = {kind: make for kind, make in MAKERS.items() if kind != "sqs"}

# A line is written at once. The last thing that the job does is to say that it is done.
WORK = f"""
import os, socket, sys, time
log_name = f"{SHARED}/log-{{sys.argv[1]}}"
def note(what):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = f"{{what}} {{now}} {{socket.gethostname()}} {{os.environ.get('CRONLOCK_TAKEOVER', 0)}}\\n"
    os.write(log, line.encode())
log = os.open(log_name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
note("start")
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.005)
note("done")
"""


class Line(NamedTuple):
    """A line that a job, or a node after its run, noted."""

    what: str
    #: On the one machine's boot clock.
    at: float
    host: str
    #: Of a job: 1 for a takeover; of a node: the exit status.
    number: int


class Scene:
    """A server of one kind, and machines that share a key; a context manager.

    `program` is what runs cronlock's `run` there, as arguments of the interpreter.
    """

    def __init__(self, kind: str, directory: Path, program: Sequence[str] = ("-m", "cronlock")) -> None:
        self._kind = kind
        self._fleet = Fleet(directory)
        self._program = list(program)
        self._count = 0
        self.server: Any = None
        self._environ: dict[str, str] = {}
        self.url = f"file://{SHARED}/leases"
        self.nodes: list[Machine] = []

    def __enter__(self) -> Scene:
        self._fleet.__enter__()
        try:
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.server is not None:
                self.server.close()
        finally:
            self._fleet.__exit__(kind, error, trace)

    def _begin(self) -> None:
        if self._kind in SERVERS:
            home = self._fleet.machine("server")
            self.server = SERVERS[self._kind](site=Site(home.address, home.way_in))
            self.server.launch()
            self.url, self._environ = self.server.url(), getattr(self.server, "environ", {})
        self.replace()
        # Less than 2: all that it needs is there.
        script = '"$@" >/dev/null 2>&1; [ $? -ge 2 ] || echo yes'
        look = ["sh", "-c", script, "sh", *self._cronlock("doctor", "--create")]
        eventually(lambda: "yes" in self.nodes[0].run(*look), f"{self._kind} answers", 90)

    def race(self, key: str, *options: str, work: str = WORK) -> None:
        """Let each node run the job of `key`, standing by if another does it."""
        words = ["--key", key, "--ttl", str(TTL), "--kill-after", "0.2", "--min-hold", "600"]
        words += ["--standby", "60s", "--skip-status", str(SKIP)]
        job = [*options, "--", sys.executable, "-I", "-S", "-c", work, key, str(JOB)]
        note = f'echo "exit $now $(hostname) $status" >>{SHARED}/log-{key}'
        script = f'"$@"; status=$?; read -r now rest </proc/uptime; {note}'
        for node in self.nodes:
            state = f"CRONLOCK_STATE_DIR=/run/state-{node.name}"
            node.start("env", state, "sh", "-c", script, "sh", *self._cronlock("run", *words, *job))

    @property
    def shared(self) -> Path:
        """The directory that all machines see as `SHARED`."""
        return self._fleet.shared

    def lines(self, key: str, what: str) -> list[Line]:
        """Return what was noted of `key`."""
        found = []
        log = self.shared / f"log-{key}"
        for text in log.read_text().splitlines() if log.exists() else ():
            kind, at, host, number = text.split()
            if kind == what:
                found.append(Line(kind, float(at), host, int(number)))
        return found

    def ask(self, command: str, *words: str) -> str:
        """Return what a command prints on the first node, whatever its status."""
        return self.nodes[0].run("sh", "-c", '"$@" || :', "sh", *self._cronlock(command, *words))

    def kill(self, host: str) -> None:
        """Cut the power of the machine `host`."""
        (machine,) = [node for node in self.nodes if node.name == host]
        machine.kill()
        self.nodes.remove(machine)

    def replace(self) -> None:
        """Put new machines in the place of dead ones."""
        while len(self.nodes) < NODES:
            self._count += 1
            self.nodes.append(self._fleet.machine(f"node{self._count}"))

    def story(self) -> str:
        """Return what all said, for a failed test."""
        logs = "".join(f"{log.name}\n{log.read_text()}" for log in sorted(self.shared.glob("log-*")))
        return logs + "\n".join(f"--- {node.name}\n{node.output()}" for node in self.nodes)

    def _cronlock(self, command: str, *words: str) -> list[str]:
        environ = [f"{name}={value}" for name, value in self._environ.items()]
        program = self._program if command == "run" else ["-m", "cronlock"]
        start = ["env", f"PYTHONPATH={ROOT}", *environ, sys.executable, *program]
        return [*start, command, "--backend", self.url, *words]
