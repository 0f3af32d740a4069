"""The machines that other tests stand on do what those take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.machines import SHARED, Fleet, Machine
from labs.servers.process import eventually

_PORT = 7000
_SERVE = f"""
import socket
server = socket.create_server(("", {_PORT}))
while True:
    server.accept()[0].close()
"""
_CONNECT = f"""
import socket
try:
    socket.create_connection((%r, {_PORT}), timeout=1).close()
except OSError as error:
    print(error)
else:
    print("connected")
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with no machines yet."""
    with Fleet(tmp_path / "fleet") as fleet:
        yield fleet


def test_cable(fleet: Fleet) -> None:
    """Machines reach each other, but not over a cut cable, and again over a healed one."""
    server, client = fleet.machine("server"), fleet.machine("client")
    server.start(sys.executable, "-c", _SERVE)
    eventually(lambda: _connects(client, server), "the server is reached")
    for end in (server, client):
        end.cut()
        assert not _connects(client, server)
        end.heal()
        eventually(lambda: _connects(client, server), "the server is reached again")


def test_kill(fleet: Fleet) -> None:
    """A killed machine leaves no process, and its neighbour does not notice."""
    killed, neighbour = fleet.machine("killed"), fleet.machine("neighbour")
    processes = [machine.start("setsid", "sleep", "1000") for machine in (killed, neighbour)]
    eventually(lambda: "sleep" in killed.programs() and "sleep" in neighbour.programs(), "both sleep")
    space = os.readlink(f"/proc/{killed.pid}/ns/pid")
    killed.kill()
    assert not killed.is_alive
    assert processes[0].poll() is not None
    assert processes[1].poll() is None
    assert space not in _pid_spaces()


def test_kill_with_a_stopped_program(fleet: Fleet) -> None:
    """A machine can be killed while a program on it is stopped."""
    machine = fleet.machine("killed")
    process = machine.start("sh", "-c", "kill -STOP $$; sleep 1000")
    eventually(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T", "it stopped")
    machine.kill()
    assert process.poll() is not None


def test_private(fleet: Fleet) -> None:
    """Names and files of a machine are its own; only the shared directory is everybody's."""
    first, second = fleet.machine("first"), fleet.machine("second")
    paths = ("/etc/cronlock.conf", "/etc/crontab", "/run/crond.pid", "/var/lib/cronlock/file")

    def outside() -> list[object]:
        """Return the host's name and files; what else is in its directories, others may change meanwhile."""
        times = [os.stat(path).st_mtime_ns if os.path.exists(path) else None for path in paths]
        return [os.uname().nodename, *times]

    before = outside()
    first.run("mkdir", "-p", "/var/lib/cronlock")
    for path in paths:
        first.write(path, first.name)
        assert first.run("cat", path) == first.name
        assert second.run("sh", "-c", f"[ ! -e {path} ] || cat {path}") == ""
    first.write(f"{SHARED}/file", "for all")
    assert second.run("cat", f"{SHARED}/file") == (fleet.shared / "file").read_text() == "for all"
    assert [machine.run("hostname").strip() for machine in (first, second)] == ["first", "second"]
    assert outside() == before


@pytest.mark.usefixtures("fleet")  # which skips where machines cannot be made
def test_owner_dies(tmp_path: Path) -> None:
    """When the test's own process is killed, its machines end with it."""
    script = f"""
import os, pathlib, sys
sys.path[:0] = {sys.path!r}
from labs.machines import Fleet
with Fleet(pathlib.Path({str(tmp_path / "other")!r})) as fleet:
    machine = fleet.machine("orphan")
    print(os.readlink(f"/proc/{{machine.pid}}/ns/pid"), flush=True)
    sys.stdin.read()
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdin is not None
    space = owner.stdout.readline().strip()
    assert space in _pid_spaces()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    eventually(lambda: space not in _pid_spaces(), "the machine ends")


def _connects(client: Machine, server: Machine) -> bool:
    return client.run(sys.executable, "-c", _CONNECT % server.address) == "connected\n"


def _pid_spaces() -> set[str]:
    """Return the pid namespaces of all processes of the host."""
    spaces = set()
    for entry in os.listdir("/proc"):
        try:
            spaces.add(os.readlink(f"/proc/{entry}/ns/pid"))
        except OSError:
            pass  # No process, or gone by now, or another user's.
    return spaces
