"""The network of a torture run: every machine, and the harness itself, on the switch that loses what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from labs.machines import Fleet, Machine

from .switch import mac

#: The harness's own address, from which it looks after servers.
_HARNESS = "10.77.0.250"
_NAME = "harness"
_PROGRAM = Path(__file__).with_name("switch.py")


class Wires(Fleet):
    """A fleet on a switch in user space. The caller must be in a network namespace of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._ports = 0
        self._process: subprocess.Popen[str] | None = None
        #: The rules of each fault, oldest first.
        self._rules: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> Wires:
        super().__enter__()
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-I", "-S", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        number = self._new_port(_NAME)
        _ip("link", "set", "lo", "up")
        _ip("link", "set", _NAME, "address", mac(number), "up")
        _ip("address", "add", f"{_HARNESS}/24", "dev", _NAME)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def connect(self, machine: Machine) -> None:
        """Give `machine` the interface eth0, with a wire to the switch."""
        number = self._new_port(machine.name)
        _ip("link", "set", "dev", machine.name, "netns", str(machine.pid))
        machine.run("ip", "link", "set", "dev", machine.name, "name", "eth0", "address", mac(number))

    def break_wires(self, fault: str, rules: Iterable[dict[str, Any]]) -> None:
        """Let `rules` of switch.py hold until the fault is mended."""
        self._rules[fault] = list(rules)
        self._tell_rules()

    def mend_wires(self, fault: str) -> None:
        """Let the rules of a fault hold no longer."""
        del self._rules[fault]
        self._tell_rules()

    def _tell_rules(self) -> None:
        self._tell({"rules": [rule for rules in self._rules.values() for rule in rules]})

    def _new_port(self, name: str) -> int:
        self._tell({"port": name})
        self._ports += 1
        return self._ports

    def _tell(self, order: dict[str, Any]) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        if process.stdout.readline() != "ok\n":
            raise RuntimeError(f"the switch failed: status {process.wait()}")


def in_network() -> list[str]:
    """Return the start of a command that is to be in a network namespace of its own, as root at least in there."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
    return ["unshare", *user, "--net", "--"]


def drop(source: Sequence[str], target: Sequence[str]) -> dict[str, Any]:
    """Return the rule that loses what machines `source` send to machines `target`."""
    return {"from": list(source), "to": list(target), "do": "drop"}


def delay(source: Sequence[str], target: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return the rule that keeps back what `source` sends to `target`."""
    return {"from": list(source), "to": list(target), "do": "delay", "seconds": seconds}


def lose(source: Sequence[str], target: Sequence[str], chance: float, seed: int) -> dict[str, Any]:
    """Return the rule that loses single operations between `source` and `target`; see switch.py."""
    return {"from": list(source), "to": list(target), "do": "lose", "chance": chance, "seed": seed}


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
