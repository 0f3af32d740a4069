"""The agent on each node of a torture run: it starts ``cronlock run``, hits its processes, and finds what they leave.

    python -m chaos.agent HISTORY

It reads lines of JSON on standard input, and notes in the history what it does:

    {"do": "run", "at": T, "run": ID, "argv": [...], "env": {...}, "spawn": {...}
     [, "user": UID, "files": N, "processes": N, "strike": STRIKE]}
                                    start a cronlock process at boot time T; see history.Writer.spawn. With
                                    STRIKE, an order as below, hit it ``after`` seconds
    {"do": "strike", "fault": ID, "name": NAME, "process": PROCESS, "signal": N, "within": S, "for": S, "pick": P}
                                    send signal N to PROCESS of a run that lives (the one that P, from 0 to 1,
                                    picks), as soon as there is one, and CONT after `for` seconds
    {"do": "finish"}                continue what is stopped, wait for all, and end

PROCESS is wrapper, guard, both or command.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cronlock.process import linux

from . import history
from .findings import DOUBLE, HOLD, LEFT, OUTLIVE, OVERLAP

#: Process names of the guard and of its parent, the backup guard.
_GUARD, _BACKUP_GUARD = "cronlock-guard", "cronlock-backup"
#: Seconds after the end of a run's last lease, for a busy machine.
_LATE = 1.0
#: A run that would start so many seconds late is left out: a machine that falls behind would never catch up.
_TOO_LATE = 1.0


def guards(wrapper: int) -> list[int]:
    """Return the pids of the processes between a wrapper and its command, outermost first."""
    # By name: the command's process has the guard's name until exec.
    for pid in linux.children(wrapper):
        if _name(pid) == _GUARD:
            return [pid]
        if _name(pid) == _BACKUP_GUARD:
            return [pid, *(child for child in linux.children(pid) if _name(child) == _GUARD)]
    return []


def command(wrapper: int) -> int | None:
    """Return the pid of a wrapper's command, None without one."""
    between = guards(wrapper)
    # A guard that was just forked still has the backup guard's name.
    if not between or _name(between[-1]) != _GUARD:
        return None
    return next(iter(linux.children(between[-1])), None)


class Run:
    """A cronlock process of this node that may have processes."""

    def __init__(self, order: dict[str, Any], process: subprocess.Popen[bytes], said: int) -> None:
        self.id: str = order["run"]
        self.order = order
        self.process = process
        #: The reading end of its and its command's standard error.
        self.said = said

    @property
    def has_family(self) -> bool:
        """True if its command starts processes with a heartbeat, which only cronlock may kill."""
        return bool(self.order.get("family"))

    def pids(self, process: str) -> list[int]:
        """Return the pids of `process` (wrapper, guard, both or command); empty if one is missing."""
        if process == history.WRAPPER:
            return [self.process.pid]
        if process == history.COMMAND:
            pid = command(self.process.pid)
            return [pid] if pid and not self.has_family else []
        hit = guards(self.process.pid)
        if hit:
            hit = [random.choice(hit)]  # Any one of them; what all of them guard against is less.
        # Before the guard exists, both means the wrapper.
        return hit if process == history.GUARD else [self.process.pid, *hit]


class Agent:
    """Carries out the driver's orders, each at its time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._note = history.Writer(path)
        self._runs: dict[int, Run] = {}
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._strikes: list[dict[str, Any]] = []
        self._stopped: dict[str, tuple[list[int], Run]] = {}
        self._gone: dict[str, float] = {}
        self._finishing = False
        self._said = b""
        # The agent adopts orphans, like the node's init process.
        linux.become_subreaper()
        self._wake, writer = os.pipe()
        for end in (self._wake, writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # Ends poll by the descriptor.

    def live(self) -> None:
        """Carry out orders until the last one has ended."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        self._look_for_left()
        while not (self._finishing and not self._runs and not self._gone and not self._pending()):
            wait = max(0.0, self._due[0][0] - history.now()) if self._due else 5.0
            for descriptor, _ in poll.poll(wait * 1000 + 1):
                if descriptor == 0 and not self._read_orders():
                    poll.unregister(0)
                elif descriptor == self._wake:
                    os.read(self._wake, 4096)
            self._collect()
            while self._due and self._due[0][0] <= history.now():
                heapq.heappop(self._due)[2]()
            self._strike_those_that_can()

    def _pending(self) -> bool:
        return bool(self._stopped) or any(isinstance(what, partial) for _, _, what in self._due)

    def _later(self, at: float, what: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._due, (at, self._count, what))

    def _read_orders(self) -> bool:
        data = os.read(0, 1 << 20)
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "run":
                self._later(order["at"], partial(self._start, order))
            elif order["do"] == "strike":
                order["until"] = history.now() + order["within"]
                self._strikes.append(order)
            else:
                self._finishing = True
        if not data:
            self._finishing = True
        return bool(data)

    # Runs.

    def _start(self, order: dict[str, Any]) -> None:
        if history.now() - order["at"] > _TOO_LATE:
            self._note.note("late", run=order["run"])
            return
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        at = history.now()
        limits = {resource.RLIMIT_NOFILE: order.get("files"), resource.RLIMIT_NPROC: self._process_limit(order)}
        limited = {what: limit for what, limit in limits.items() if limit is not None}
        try:
            process = subprocess.Popen(
                order["argv"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=writer,
                env=order["env"],
                cwd="/",
                start_new_session=True,
                user=order.get("user"),
                preexec_fn=partial(_limit, limited) if limited else None,  # noqa: PLW1509 - no thread here
            )
        except (OSError, subprocess.SubprocessError) as error:
            # The limit prevents even its start, so there is no run.
            if not limited:
                self._note.note("harness", text=f"{order['run']} could not be started: {error}")
            os.close(reader)
            return
        finally:
            os.close(writer)
        run = self._runs[process.pid] = Run(order, process, reader)
        self._note.spawn(t=at, run=run.id, pid=process.pid, **order["spawn"])
        if order.get("strike"):
            self._later(at + order["strike"]["after"], partial(self._strike_run, order["strike"], run))

    def _process_limit(self, order: dict[str, Any]) -> int | None:
        """Return the process limit of the node's user that leaves `processes` for the run."""
        if order.get("processes") is None:
            return None
        count = 0
        for entry in os.listdir("/proc"):
            try:
                count += entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == order["user"]
            except OSError:
                pass  # It ended meanwhile.
        return count + int(order["processes"])

    def _collect(self) -> None:
        """Reap runs and orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self._runs.pop(pid, None)
            if run is not None:
                run.process.returncode = code = os.waitstatus_to_exitcode(status)
                try:
                    said = os.read(run.said, 65536)
                except BlockingIOError:
                    said = b""  # What its command started has it open still.
                os.close(run.said)
                self._note.exit(run.id, code, said.decode(errors="replace"))
                self._gone[run.id] = history.now() + run.order["spawn"]["ttl"] + _LATE

    # Faults.

    def _strike_those_that_can(self) -> None:
        for strike in list(self._strikes):
            if history.now() > strike["until"] or self._finishing:
                self._strikes.remove(strike)
                continue
            struck = {run.id for _, run in self._stopped.values()}
            able = [run for run in self._runs.values() if run.id not in struck and run.pids(strike["process"])]
            if able:
                self._strikes.remove(strike)
                # At varying points of a run's life.
                pause = strike["pick"] * 997 % 1.0 * 0.2
                self._later(
                    history.now() + pause, partial(self._strike_run, strike, able[int(strike["pick"] * len(able))])
                )

    def _strike_run(self, strike: dict[str, Any], run: Run) -> None:
        pids = run.pids(strike["process"]) if run.process.returncode is None else []
        if not pids:
            if "until" in strike:
                self._strikes.append(strike)  # Too late for this one: another one.
            return
        number = strike["signal"]
        self._note.fault(
            strike["fault"],
            strike["name"],
            run.order["spawn"]["node"],
            nodes=[run.order["spawn"]["node"]],
            run=run.id,
            process=strike["process"],
            signal=number,
            grants=[*strike["grants"], *_left_alone(run, strike)],
        )
        for pid in pids:
            _kill(pid, number)
        if strike["for"]:
            self._stopped[strike["fault"]] = (pids, run)
            self._later(history.now() + strike["for"], partial(self._continue, strike["fault"]))
        else:
            self._note.healed(strike["fault"])

    def _continue(self, fault: str) -> None:
        pids, _ = self._stopped.pop(fault)
        for pid in pids:
            _kill(pid, signal.SIGCONT)
        self._note.healed(fault)

    # Leftovers.

    def _look_for_left(self) -> None:
        """Record and kill processes that runs should not have left."""
        due = [run for run, at in self._gone.items() if at <= history.now()]
        if due:
            found = _processes_of(due)
            for run in due:
                del self._gone[run]
                if run in found:
                    self._note.left(run, [pid for pid, _ in found[run]], "; ".join(text for _, text in found[run]))
                    for pid, _ in found[run]:
                        _kill(pid, signal.SIGKILL)
        self._later(history.now() + 0.5, self._look_for_left)


def _left_alone(run: Run, strike: dict[str, Any]) -> list[dict[str, str]]:
    """Return the excuses if wrapper and guards of a command with children are all killed at once.

    The kernel ends only the command then. Where there is a backup guard, one of three is left to end all.
    """
    everybody = (
        strike["process"] == history.BOTH and strike["signal"] == signal.SIGKILL and len(guards(run.process.pid)) == 1
    )
    if not (everybody and run.has_family):
        return []
    return [{"finding": kind} for kind in (OVERLAP, OUTLIVE, LEFT, DOUBLE, HOLD)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # It ended meanwhile.


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # It was faster.


def _limit(limits: dict[int, int]) -> None:
    for what, limit in limits.items():
        resource.setrlimit(what, (limit, limit))


def _processes_of(runs: list[str]) -> dict[str, list[tuple[int, str]]]:
    """Return (pid, state and command line) of the live processes of each of `runs`."""
    marks = {run.encode(): run for run in runs}
    found: dict[str, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            run = next((marks[word] for word in words if word in marks), None)
            if run is not None:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    state = file.read().rpartition(b")")[2].split()[0].decode()
                if state not in "ZX":
                    text = b" ".join(words).decode(errors="replace")
                    found.setdefault(run, []).append((int(entry), f"{state} {text}"))
        except OSError:
            pass  # It ended meanwhile.
    return found


if __name__ == "__main__":
    Agent(Path(sys.argv[1])).live()
