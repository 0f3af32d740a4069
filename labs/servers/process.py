"""What every server of the tests shares: ports, temporary directories, start, readiness, end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import pytest

from cronlock.testing.waiting import eventually as eventually

_Self = TypeVar("_Self", bound="Service")
_Node = TypeVar("_Node", bound="Server")

HOST = "127.0.0.1"
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/share/zookeeper/bin")
#: Where servers of other versions were unpacked (`labs.versions`), in place of the machine's own; else the root.
ROOT = Path(os.environ.get("CRONLOCK_TEST_ROOT") or "/")
_BLOCK = 100
#: Ports of the blocks that this process claimed, which nobody listened on; and the sockets that claim them.
_ports: list[int] = []
_claims: list[socket.socket] = []
#: A file system in memory, and the room that data of a server may need there.
_MEMORY = "/dev/shm"
_ROOM = 1 << 30


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses, and that no other process of a test is given.

    Below the range that the kernel takes for outgoing connections, so that no client sits on
    it while its server is being restarted.
    """
    while True:
        if not _ports:
            _ports.extend(_claim_block())
        port = _ports.pop()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def _claim_block() -> range:
    """Return ports that are this process's until it ends: a name in the network's namespace stands for them."""
    chance = random.SystemRandom()  # Tests seed the other one, all alike.
    while True:
        first = chance.randrange(10000, 32000, _BLOCK)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0cronlock-tests-ports-{first}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return range(first, first + _BLOCK)


def need(program: str, package: str) -> str:
    """Return the path of `program`; fail the test, naming what to install, when it is missing."""
    others = [str(ROOT / "usr" / name) for name in ("bin", "sbin")] if Path("/") != ROOT else []
    path = os.pathsep.join((*others, os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))
    found = shutil.which(program, path=path)
    if found is None:
        pytest.fail(f"{program} is missing: apt-get install {package}", pytrace=False)
    return found


def ask(
    port: int, request: bytes, *, end: bytes | None = None, tls: ssl.SSLContext | None = None, host: str = HOST
) -> bytes:
    """Send `request` to a server, on loopback unless `host` says where, and return its answer.

    The answer ends with `end`, or where the server closes the connection when that is None.
    Raises OSError when the server is not there.
    """
    with socket.create_connection((host, port), timeout=5) as plain:
        stream = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        stream.sendall(request)
        answer = b""
        while end is None or not answer.endswith(end):
            data = stream.recv(65536)
            if not data:
                break
            answer += data
        return answer


def _memory_directory() -> Path:
    """Return a new directory, in memory if there is room."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return Path(tempfile.mkdtemp(prefix="cl-", dir=_MEMORY if roomy else "/tmp"))


class Site(NamedTuple):
    """Where a server runs."""

    #: Its address there.
    host: str = HOST
    #: The start of a command that is to run there; it becomes the command by exec.
    enter: tuple[str, ...] = ()


LOOPBACK = Site()


class Service:
    """Something of one or more processes that is started, asked for readiness and ended."""

    def launch(self) -> None:
        """Start without waiting."""
        raise NotImplementedError

    def wait_ready(self) -> None:
        """Wait until all of it answers."""
        raise NotImplementedError

    def close(self) -> None:
        """End it and remove its files."""
        raise NotImplementedError

    def url(self) -> str:
        """Return the backend's URL."""
        raise NotImplementedError

    def start(self: _Self) -> _Self:
        """Start and wait until it answers."""
        self.launch()
        self.wait_ready()
        return self

    def __enter__(self: _Self) -> _Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class Server(Service):
    """One server process, in a directory of its own with a short path."""

    #: True if data may outlive the process.
    keeps_data = False
    #: True if it waits for the disk at each write: then its data is in memory where there is room.
    syncs = False

    def __init__(self, site: Site = LOOPBACK) -> None:
        self.site = site
        self.directory = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
        self.data = (_memory_directory() if self.syncs else self.directory) / "data"
        self.log = self.directory / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command that starts the server in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Ask the server itself whether it serves; may raise OSError while it does not."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def launch(self) -> None:
        """Start the process, which the kernel kills when this one dies."""
        assert self._process is None, "the server runs already"
        self.data.mkdir(exist_ok=True)
        leash = shutil.which("setpriv")
        command = [*self.site.enter, *self.command()]
        if leash is not None:
            command = [leash, "--pdeathsig", "SIGKILL", "--", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )

    def wait_ready(self) -> None:
        """Wait until the server answers; fail with its output when it ends or never does."""
        end = time.monotonic() + 90
        while not self._asks_well():
            assert self._process is not None
            status = self._process.poll()
            if status is not None or time.monotonic() > end:
                name = type(self).__name__
                why = f"ended with status {status}" if status is not None else "does not answer"
                output = self.log.read_text(errors="replace")[-4000:]
                self.kill()
                pytest.fail(f"{name} on port {self.port} {why}; its output:\n{output}")
            time.sleep(0.03)

    def stop(self) -> None:
        """End the server in an orderly way, by force if it takes longer than 15 seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process where it is: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal reaches threads one by one; wait until the last one stands.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the server, and resume it at the end."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def restart(self, *, keep_data: bool) -> None:
        """Stop and start again on the same port, with its data or as a new one."""
        assert self.keeps_data or not keep_data, "this server keeps its data in memory only"
        self.stop()
        if not keep_data:
            shutil.rmtree(self.data)
        self.start()

    def close(self) -> None:
        """Kill the server and remove its directory."""
        self.kill()
        for directory in {self.directory, self.data.parent}:
            shutil.rmtree(directory, ignore_errors=True)

    def _asks_well(self) -> bool:
        try:
            return self.is_ready()
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        # A paused process acts on nothing but KILL until it goes on.
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Group(Service, Generic[_Node]):
    """Several servers that make one service: its nodes, and perhaps others beside them."""

    def __init__(self, nodes: Sequence[_Node], others: Sequence[Server] = ()) -> None:
        self.nodes = list(nodes)
        self._all: list[Server] = [*nodes, *others]

    @property
    def endpoints(self) -> str:
        """The nodes' endpoints, as URLs have them."""
        return ",".join(f"{node.site.host}:{node.port}" for node in self.nodes)

    def launch(self) -> None:
        """Start all of them at once: some wait for each other."""
        for server in self._all:
            server.launch()

    def wait_ready(self) -> None:
        """Wait for each of them."""
        for server in self._all:
            server.wait_ready()

    def is_whole(self) -> bool:
        """Return True if all nodes serve, and work together; may raise OSError while they do not."""
        return all(node.is_ready() for node in self.nodes)

    def close(self) -> None:
        """End all of them."""
        for server in self._all:
            server.close()


class Ensemble(Group[_Node]):
    """Several servers with a leader."""

    def leaders(self) -> list[_Node]:
        """Return the nodes that lead, as far as can be told now."""
        raise NotImplementedError

    def leader(self) -> _Node:
        """Wait until there is a leader and return it."""
        found: list[_Node] = []

        def look() -> bool:
            found[:] = self.leaders()
            return len(found) == 1

        eventually(look, "a leader", limit=120)
        return found[0]

    def follower(self) -> _Node:
        """Return a server that is not the leader."""
        leader = self.leader()
        return next(node for node in self.nodes if node is not leader)
