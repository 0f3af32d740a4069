"""What a torture run needs to know of the servers that it breaks."""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.machines import Machine
from labs.servers.process import Ensemble, Group, Server, Site, eventually, need

_LIMIT = 90.0


class System:
    """Servers on machines of their own, and what a backend promises on them."""

    #: For --backend.
    name = ""
    #: How many machines it stands on.
    hosts = 1
    #: True if its leases live on the nodes' own machine, without servers.
    local = False
    #: True if a server that is started again has its data.
    keeps_data = False
    #: True if it forgets leases under pressure of memory, and can be told to forget all.
    can_flush = False
    #: True if one server leads and another can take over from it.
    has_leader = False
    #: True if a lease that was granted is on a majority of servers.
    has_quorum = False
    #: True if it serves one request at a time, so that few keys are all that it bears.
    is_slow = False
    #: True if servers end and are started again.
    restarts = True
    #: True if a request that arrives after its run gave up takes the key from all, until its lease would be over.
    late_requests_take = False
    #: True if a run can stand by for another.
    can_stand_by = True
    #: True if something must be made on servers without data before the first run: it says so until then.
    is_furnished = False
    #: True if its leases end by the wall clock of a server.
    goes_by_wall_clock = False
    #: The class of its server, where `make` needs nothing else.
    kind: type[Server]

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        """Be on `machines`; with `clock`, by as many seconds as that file says is the servers' wall clock moved."""
        self.machines = list(machines)
        self.sites = [Site(machine.address, _enter(machine, clock)) for machine in machines]
        self.service = self.make()

    def make(self) -> Server | Group[Any] | None:
        """Return what serves the nodes, not started yet."""
        return self.kind(site=self.sites[0])

    @property
    def servers(self) -> Sequence[Server]:
        """All that can be killed."""
        if self.service is None:
            return []
        return self.service.nodes if isinstance(self.service, Group) else [self.service]

    def start(self) -> None:
        """Start all of it and wait until it serves."""
        if self.service is not None:
            self.service.start()

    def close(self) -> None:
        """End all of it."""
        if self.service is not None:
            self.service.close()

    def url(self) -> str:
        """Return the URL for the nodes."""
        assert self.service is not None
        return self.service.url()

    def environ(self) -> Mapping[str, str]:
        """Return what the nodes need in their environment."""
        return {}

    def leader(self) -> Server:
        """Return the server that leads now."""
        assert isinstance(self.service, Ensemble)
        leader: Server = self.service.leader()
        return leader

    def machine_of(self, server: Server) -> Machine:
        """Return the machine that a server is on."""
        return next(machine for machine in self.machines if machine.address == server.site.host)

    def serves(self) -> bool:
        """Return True if all servers are up and in step; may raise OSError or redis.RedisError while not."""
        if isinstance(self.service, Group):
            return self.service.is_whole()
        return all(server.is_ready() for server in self.servers)

    def wait_well(self) -> None:
        """Wait until it serves with all of its servers."""
        eventually(self._serves_well, f"{self.name} serves again", _LIMIT, 0.1)

    def _serves_well(self) -> bool:
        try:
            return self.serves()
        except Exception:  # Each client library has its own for a server that is not there yet.
            return False

    def wipe(self, server: Server) -> None:
        """Remove the data of a server that does not run."""
        shutil.rmtree(server.data)

    def fail_over(self) -> None:
        """Ask in an orderly way for another leader."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let all servers forget everything."""
        raise NotImplementedError

    def squeeze(self) -> None:
        """Let the servers evict what they have."""
        raise NotImplementedError

    def hit(self, server: Server, number: int) -> None:
        """Send a signal to a server's process."""
        if number == signal.SIGKILL:
            server.kill()
        elif number == signal.SIGSTOP:
            server.pause()
        else:
            server.stop()


def _enter(machine: Machine, clock: Path | None) -> tuple[str, ...]:
    enter = ("nsenter", "--target", str(machine.pid), "--net", "--")
    return enter if clock is None else (*enter, "env", f"LD_PRELOAD={_clock_library()}", f"TORTURE_CLOCK={clock}")


@functools.lru_cache
def _clock_library() -> Path:
    """Return the library that moves a program's wall clock, made anew."""
    library = Path(tempfile.mkdtemp(prefix="torture-")) / "clock.so"
    atexit.register(shutil.rmtree, library.parent, ignore_errors=True)
    source = Path(__file__).with_name("clock.c")
    subprocess.run([need("gcc", "gcc"), "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library
