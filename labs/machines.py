"""Machines made of namespaces: each with its own host name, processes, address and private files.

A fleet is a network of its own, which no other network reaches, and machines on it. A machine is a
set of network, mount, pid, host name and ipc namespaces: it sees the host's programs, but what it
writes to the directories of the system (``/etc``, ``/run``, ``/var/lib`` and some more) is its own
and gone with it. Of the host nothing is changed; should the test's process die, the kernel ends
everything here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from labs.servers.process import eventually, need

from .syslog import Syslog

#: Where every machine sees `Fleet.shared`.
SHARED = "/run/shared"

_NETWORK = "10.77.0"
# Programs on a machine get nothing of the test's environment.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
_LIMIT = 120.0

_MACHINE = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
# As root none; else a user namespace, with many user ids if the host lends them, or with root only.
_USER_NAMESPACES: list[list[str]] = [["--user", "--map-root-user", "--map-auto"], ["--user", "--map-root-user"]]

# Ends when whoever started it does, since then its stdin ends; as pid 1 it reaps orphans meanwhile.
_STAY = """
exec 3<&0
cat <&3 >/dev/null &
echo ready
wait $!
"""

_SWITCH_SETUP = "ip link add bridge type bridge && ip link set bridge up || exit" + _STAY

_MACHINE_SETUP = """
set -eu
room=$1 shared=$2 name=$3 address=$4
cd /
mount -t tmpfs -o mode=755 tmpfs "$room"
mkdir "$room/shared" "$room/lock"
mount --bind "$shared" "$room/shared"
mount --no-mtab --move "$room" /run

private() {  # The same directory, with every change kept to this machine.
    mkdir -p "/run/private$1/upper" "/run/private$1/work"
    mount -t overlay -o "lowerdir=$1,upperdir=/run/private$1/upper,workdir=/run/private$1/work" overlay "$1"
}
empty() {
    [ ! -d "$1" ] || mount -t tmpfs -o mode=755 tmpfs "$1"
}
for directory in /etc /var/lib /usr/sbin /usr/local/bin; do private "$directory"; done
for directory in /etc/cron.d /var/spool/cron /var/lib/cronlock; do empty "$directory"; done
rm -f /etc/cronlock.conf /etc/crontab

mkdir /run/dev
mount -t tmpfs -o mode=755 tmpfs /run/dev
for node in null zero full random urandom tty; do
    : >"/run/dev/$node"
    mount --bind "/dev/$node" "/run/dev/$node"
done
mkdir -m 755 /run/dev/pts
mkdir -m 1777 /run/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
ln -s /proc/self/fd /run/dev/fd
ln -s "/run/shared/.syslog-$name" /run/dev/log
mount --no-mtab --move /run/dev /dev

hostname "$name"
rm -f /etc/hostname /etc/hosts
echo "$name" >/etc/hostname
printf '127.0.0.1 localhost\\n%s %s\\n' "$address" "$name" >/etc/hosts
ip link set lo up
set +e
"""


class Fleet:
    """Machines on a network of their own, with a directory that all of them share.

    Use it as a context manager. Needs root, or a host that allows user namespaces, and skips the
    test, saying why, when the host allows neither.
    """

    def __init__(self, directory: Path) -> None:
        """Make it in `directory`, which is new or empty."""
        for program, package in (("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2")):
            need(program, package)
        self._user_namespace = _privilege()
        #: True if machines have more users than root, as programs need that change to another user.
        self.has_users = "--user" not in self._user_namespace or "--map-auto" in self._user_namespace
        self.shared = directory / "shared"
        self.shared.mkdir(parents=True)
        self._room = directory / "room"
        self._room.mkdir()
        self._machines: list[Machine] = []
        self._switch: _Stay | None = None

    def __enter__(self) -> Fleet:
        self._switch = _Stay(["unshare", *self._user_namespace, "--net", "sh", "-c", _SWITCH_SETUP])
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as closing:  # Each of them, also when one fails.
            if self._switch is not None:
                closing.callback(self._switch.end)
            for machine in self._machines:
                closing.callback(machine.close)

    def machine(self, name: str) -> Machine:
        """Return a new machine, started and connected; `name` has at most 15 letters and digits."""
        machine = Machine(self, name, f"{_NETWORK}.{len(self._machines) + 1}")
        self._machines.append(machine)
        machine.launch()
        return machine

    def connect(self, machine: Machine) -> None:
        """Give `machine`, which has no network yet, the interface eth0."""
        port = ["ip", "link", "add", machine.name, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)]
        self.on_switch(*port)
        self.on_switch("ip", "link", "set", machine.name, "master", "bridge", "up")

    def enter(self) -> list[str]:
        """Return the start of a command that is to run on the network itself."""
        assert self._switch is not None
        user = ["--user", "--preserve-credentials"] if self._user_namespace else []
        return ["nsenter", "--target", str(self._switch.pid), *user, "--net", "--"]

    def on_switch(self, *command: str) -> None:
        """Run `command` where the ports of all machines are; a machine's port has its name."""
        _run([*self.enter(), *command])

    def boot(self, machine: Machine) -> _Stay:
        """Start the first process of `machine`, its files and names in place, with no network yet."""
        arguments = [str(self._room), str(self.shared), machine.name, machine.address]
        script = ["sh", "-c", _MACHINE_SETUP + _STAY, "sh", *arguments]
        return _Stay([*self.enter(), "unshare", *_MACHINE, *script])


class Machine:
    """A machine of a fleet, on which programs run, and which can lose its network or die."""

    def __init__(self, fleet: Fleet, name: str, address: str) -> None:
        self.name = name
        #: Its address, which the other machines of the fleet reach.
        self.address = address
        self._fleet = fleet
        self._boot: _Stay | None = None
        self._init = 0
        self._started: list[subprocess.Popen[bytes]] = []
        self._syslog = Syslog(fleet.shared / f".syslog-{name}")
        self._output = fleet.shared / f".output-{name}"

    def launch(self) -> None:
        """Start it and connect it to the fleet's network."""
        self._boot = self._fleet.boot(self)
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children")
        self._init = int(children.read_text())
        self._fleet.connect(self)
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *command: str, stdin: str = "") -> str:
        """Run `command` here to its end and return what it printed; fail the test if it fails."""
        return _run([*self._enter(), *command], stdin)

    def start(self, *command: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start `command` here and return without waiting; see output() for what it prints.

        `stdin` is as subprocess has it. The process returned stands for the command and ends with it, but is
        not the command: a signal to the command itself takes ``run("kill", ...)`` with its pid on this
        machine.
        """
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                # It stops when the command does, and could then not end with the test's process.
                ["setpriv", "--pdeathsig", "KILL", "--", *self._enter(), *command],
                stdin=stdin,
                stdout=output,
                stderr=output,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write `text` to the file `path` of this machine, as root."""
        self.run("sh", "-c", 'rm -f "$1" && cat >"$1" && chmod "$2" "$1"', "sh", path, mode, stdin=text)

    def programs(self) -> list[str]:
        """Return the program name of every process here."""
        # A process may end between the listing and the reading.
        return self.run("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null; :").split("\n")

    def syslog(self) -> list[tuple[float, str]]:
        """Return (time of the epoch, message) of all that the programs here have sent to syslog so far."""
        return self._syslog.messages()

    def output(self) -> str:
        """Return the output so far of all programs started here."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def cut(self) -> None:
        """Cut its network: both directions drop packets silently."""
        self._fleet.on_switch("ip", "link", "set", self.name, "down")

    def heal(self) -> None:
        """Restore its network."""
        self._fleet.on_switch("ip", "link", "set", self.name, "up")

    @property
    def pid(self) -> int:
        """The process id of its first process, as the test's process sees it."""
        return self._init

    @property
    def way_in(self) -> tuple[str, ...]:
        """The start of a command that is to run here; it becomes the command by exec."""
        return tuple(self._enter())

    @property
    def is_alive(self) -> bool:
        """True if it was started and not killed."""
        return self._boot is not None

    def kill(self) -> None:
        """Kill all its processes at once, like a power cut, and wait for their end."""
        if self._boot is None:
            return
        if self._init:
            # The kernel kills all of a pid namespace before its first process counts as gone.
            os.kill(self._init, signal.SIGKILL)
        boot, self._boot = self._boot, None
        try:
            for process in self._started:
                eventually(partial(_has_ended, process), f"all of {self.name} ends", _LIMIT)
        finally:
            boot.end()

    def close(self) -> None:
        """Kill it and close the test's descriptors for it."""
        try:
            self.kill()
        finally:
            self._syslog.close()

    def _enter(self) -> list[str]:
        assert self._boot is not None, f"{self.name} was killed"
        user = ["--user", "--preserve-credentials"] if "--user" in self._fleet.enter() else []
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        return ["nsenter", "--target", str(self._init), *user, *spaces, "--"]


class _Stay:
    """A process that makes namespaces and stays, to keep them, until it is told to end."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_ENVIRONMENT, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.end()
            pytest.fail(f"namespaces cannot be set up: {self._complaint}")

    @property
    def pid(self) -> int:
        """The process id of what `command` became."""
        return self._process.pid

    def end(self) -> None:
        """Let it end, and wait until it has."""
        try:
            _, self._complaint = self._process.communicate(timeout=_LIMIT)
        finally:
            self._process.kill()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return True if `process`, which stands for a command on a machine, has ended; it stops when that was stopped."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
    return process.poll() is not None


def _privilege() -> list[str]:
    """Return the options of unshare that a fleet needs here to be root; skip the test if nothing helps."""
    ways = [[]] if os.geteuid() == 0 else _USER_NAMESPACES
    probe = ["sh", "-c", "mount -t tmpfs tmpfs /run && ip link add name probe type bridge"]
    complaint = ""
    for way in ways:
        tried = subprocess.run(["unshare", *way, *_MACHINE, *probe], env=_ENVIRONMENT, capture_output=True, text=True)
        if tried.returncode == 0:
            return way
        complaint = " ".join(tried.stderr.split())
    pytest.skip(f"needs root with CAP_SYS_ADMIN, or unprivileged user namespaces: {complaint}")


def _run(command: list[str], stdin: str = "") -> str:
    """Run `command` and return its stdout; fail the test with its stderr if it fails."""
    done = subprocess.run(command, input=stdin, env=_ENVIRONMENT, capture_output=True, text=True, timeout=_LIMIT)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
