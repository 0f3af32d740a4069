"""The machines of a torture run: nodes with their agents, servers, the wires between them."""

from __future__ import annotations

import compileall
import contextlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from labs.installation import copy_with_byte_code
from labs.machines import SHARED, Machine
from labs.servers.process import Server

from . import history
from .plan import Shot
from .systems import System
from .systems.files import DISK
from .wires import Wires

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = f"{SHARED}/program"
_COMMAND = f"{SHARED}/command.py"
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: The first of the users that the runs belong to, one for each machine: the system limits processes by user.
_USER = 20000
# As the packages start it: without the interpreter's site, which costs more than a run, with its bundle, and with
# what it depends on.
_START = f"""
import sys
sys.path += {[_PROGRAM, str(Path(click.__file__).parents[1])]!r}
from cronlock import bundle
bundle.use()
from cronlock.__main__ import main
main()
"""
# Moves the wall clock of cronlock alone. Not by faketime(1): under that even time.sleep() fails.
_CLOCK = "TORTURE_CLOCK"
_MOVED_CLOCK = f"""
import posix, time  # Not os, which a run does without.
real = time.time
def moved():
    with open(posix.environ[b"{_CLOCK}"]) as file:
        return real() + float(file.read())
time.time = moved
"""
# Lets others through a folder such as /root, on this machine only.
_OPEN_FOLDER = """
mountpoint -q "$1" && exit
layers=$(mktemp -d /run/layers-XXXXXX)
mkdir "$layers/upper" "$layers/work"
mount -t overlay -o "lowerdir=$1,upperdir=$layers/upper,workdir=$layers/work" overlay "$1"
chmod o+x "$1"
"""
# Retry: an open file keeps it from becoming read-only.
_READ_ONLY = """
for try in $(seq 100); do
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" 2>/dev/null && exit
    umount -l "$1"
    sleep 0.02
done
exit 1
"""
_WARM_UPS = 3
#: What a command never returns.
SKIPPED = 99


class World:
    """Everything that a torture run stands on. Use it as a context manager."""

    def __init__(
        self,
        directory: Path,
        system: type[System],
        *,
        nodes: int,
        ttl: float,
        package: Path = ROOT,
        node_clocks: bool = False,
        server_clocks: bool = False,
        parameters: str = "",
    ) -> None:
        """Be in `directory`, with `nodes` nodes that run the cronlock of `package`.

        Clocks can be moved where they are asked for: that costs time at every start of a program.
        `parameters` are added to the backend's URL.
        """
        self.fleet = Wires(directory)
        self.ttl = ttl
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.system: System
        self.limits: dict[str, dict[str, int]] = {node: {} for node in self.nodes}
        self.history_path = self.fleet.shared / "history"
        self.note: history.Writer
        self._kind = system
        self._package = package
        self._node_clocks = node_clocks
        self._server_clock = directory / "server.clock" if server_clocks else None
        self._parameters = parameters
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._machines: dict[str, Machine] = {}
        self._users: dict[str, int | None] = {}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> World:
        try:
            self._closing.enter_context(self.fleet)
            self._open()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _open(self) -> None:
        shared = self.fleet.shared
        shared.chmod(0o755)
        self.note = history.Writer(self.history_path)
        self.history_path.chmod(0o666)  # The commands are other users'.
        # Not the files of the checkout, which somebody may be working on.
        program = shared / "program" / "cronlock"
        copy_with_byte_code(self._package / "cronlock", program)
        compileall.compile_dir(program, quiet=2)
        subprocess.run([sys.executable, "-IS", f"{program}/bundle_writer.py"], check=True)
        (shared / "start.py").write_text((_MOVED_CLOCK if self._node_clocks else "") + _START)
        shutil.copy(Path(__file__).with_name("command.py"), shared)
        (shared / "empty.conf").touch()
        self._open_servers()
        self._open_nodes()

    def _open_servers(self) -> None:
        if self._server_clock is not None:
            self._server_clock.write_text("+0\n")
        machines = [self.fleet.machine(f"s{number + 1}") for number in range(self._kind.hosts)]
        self.system = self._kind(machines, self._server_clock)
        self._closing.callback(self.system.close)
        self.system.start()

    def _open_nodes(self) -> None:
        names = self.nodes[:1] if self.system.local else self.nodes
        machines = [self.fleet.machine(name) for name in names]
        for number, node in enumerate(self.nodes):
            index = min(number, len(machines) - 1)
            machine = self._machines[node] = machines[index]
            if self.system.local and number == 0:
                machine.run("mkdir", "-p", DISK)
                machine.run("mount", "-t", "tmpfs", "-o", "size=32m,mode=1777", "tmpfs", DISK)
            self._users[node] = self._user_of(machine, _USER + index)
            self.set_node_clock(node, 0)
            state = self._state_dir(node)
            machine.run("install", "-d", "-m", "755", "-o", str(self._users[node] or 0), state)
            python = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "chaos.agent"]
            self._agents[node] = machine.start(*python, f"{SHARED}/history", stdin=subprocess.PIPE)
        self._warm_up()

    def _warm_up(self) -> None:
        """Run something from each node, since the first requests of a cold server take longer than a run waits."""
        for node in self.nodes * _WARM_UPS:
            order = self.run_order(node, "-", f"warm-up-{node}", None, ["--min-hold=0"], [])
            ours = order["argv"][: order["argv"].index("--") + 1]
            env = [f"{name}={value}" for name, value in order["env"].items()]
            user = self._users[node]
            change = [] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups"]
            self._machines[node].run(
                "sh", "-c", 'timeout 10 "$@" || :', "sh", *change, "env", "-i", *env, *ours, "true"
            )

    def _user_of(self, machine: Machine, user: int) -> int | None:
        """Return `user` if the runs can belong to it; None if the interpreter cannot be run by everybody."""
        for path in (Path(sys.base_prefix), Path(sys.prefix)):
            for folder in [*reversed(path.parents), path]:
                if not folder.stat().st_mode & stat.S_IXOTH:
                    machine.run("sh", "-euc", _OPEN_FOLDER, "sh", str(folder))
        test = "import subprocess, sys; print(subprocess.call([sys.executable, '-c', ''], user=int(sys.argv[1])))"
        return user if machine.run(sys.executable, "-c", test, str(user)) == "0\n" else None

    @property
    def hosts(self) -> list[str]:
        """The names of the servers' machines."""
        return [machine.name for machine in self.system.machines]

    @property
    def limits_processes(self) -> bool:
        """True if the runs belong to users whose processes can be limited."""
        return all(user is not None for user in self._users.values())

    # Runs.

    def order(self, node: str, order: Mapping[str, Any]) -> None:
        """Tell the agent of a node what to do; see agent.py."""
        stdin = self._agents[node].stdin
        assert stdin is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()

    def run_order(
        self, node: str, run: str, key: str, tick: str | None, options: Sequence[str], job: Sequence[str]
    ) -> dict[str, Any]:
        """Return the order to start ``cronlock run`` on `node`, without what is particular."""
        url = self.system.url() + self._parameters
        line = [sys.executable, "-IS", f"{SHARED}/start.py", "run", f"--key={key}", f"--backend={url}"]
        line += [f"--state-dir={self._state_dir(node)}", f"--skip-status={SKIPPED}", *options, "--"]
        command = [sys.executable, "-I", "-S", _COMMAND, f"{SHARED}/history", run, node, tick or "-", *job]
        env = {"PATH": _PATH, "CRONLOCK_CONFIG": f"{SHARED}/empty.conf", "LC_ALL": "C.UTF-8"}
        env.update(self.system.environ())
        if self._node_clocks:
            env[_CLOCK] = f"{SHARED}/{node}.clock"
        user = self._users[node]
        return {
            "do": "run",
            "run": run,
            "argv": [*line, *command],
            "env": env,
            **self.limits[node],
            **({} if user is None else {"user": user}),
        }

    def finish(self, limit: float) -> None:
        """Let the agents end what they do, and wait for them."""
        for node in self.nodes:
            self.order(node, {"do": "finish"})
        for node, agent in self._agents.items():
            try:
                status = agent.wait(limit)
            except subprocess.TimeoutExpired:
                status = -1
            if status:
                output = self._machines[node].output()[-3000:]
                self.note.note("harness", text=f"the agent of {node} ended with {status}: {output}")

    def _state_dir(self, node: str) -> str:
        return f"{DISK}/state-{node}" if self.system.local else f"/var/lib/state-{node}"

    # What can be broken.

    def pick_node(self, shot: Shot) -> str:
        """Return the node that a shot is meant for."""
        return self.nodes[int((shot.pick if shot.node is None else shot.node) * len(self.nodes))]

    def pick_server(self, shot: Shot) -> Server:
        """Return the server that a shot is meant for."""
        return self.system.servers[int(shot.pick * len(self.system.servers))]

    def set_node_clock(self, node: str, jump: float) -> None:
        """Move a node's wall clock away from the machine's."""
        if self._node_clocks:
            _write(self.fleet.shared / f"{node}.clock", jump)

    def set_server_clock(self, jump: float) -> None:
        """Move the servers' wall clock away from the machine's."""
        assert self._server_clock is not None
        _write(self._server_clock, jump)

    def spoil_disk(self, how: str) -> None:
        """Make the disk of the file backend full, or read-only for whoever opens a file from now on."""
        machine = self._machines[self.nodes[0]]
        if how == "full":
            machine.run("sh", "-c", f"cat /dev/zero >{DISK}/ballast 2>/dev/null; :")
        else:
            machine.run("sh", "-c", _READ_ONLY, "sh", DISK)

    def mend_disk(self) -> None:
        """Undo it."""
        machine = self._machines[self.nodes[0]]
        machine.run("sh", "-c", f"if [ -e {DISK}/ballast ]; then rm {DISK}/ballast; else umount -l {DISK}; fi")


def _write(path: Path, jump: float) -> None:
    # In one piece: readers come at any time.
    new = path.with_suffix(".new")
    new.write_text(f"{jump:+.0f}\n")
    new.replace(path)
