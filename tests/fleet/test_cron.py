"""The main job with Debian's cron: the same crontab on three machines, every tick run by one of them.

A tick is a minute, so this takes its time. `CRONLOCK_CRON_TICKS` says how many ticks there are with
all machines, and how many after one was killed: 1 unless set. With more than one there are, too, a
tick while Redis does not answer, and one after that.
"""

from __future__ import annotations

import email
import email.message
import os
import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from labs.machines import SHARED, Fleet, Machine
from labs.servers.process import eventually, need

_TICKS = int(os.environ.get("CRONLOCK_CRON_TICKS", "1"))
_MINUTE = 60
# How long after the start of a minute cron and the jobs may take on a machine that has much to do.
_LIMIT = 90.0

_KEYS = ("report", "tick")

# By the key of the run. What is printed is mailed: the last line shows that it is.
_LINES = {
    "report": "cronlock run --key report --ttl 30 -- report",
    "tick": "cronlock run --key tick --every 1m --ttl 30 -- tick",
    "printing": "echo printed on $(hostname)",
}

_CRONTAB = f"""\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
MAILTO=root
* * * * * root {_LINES["report"]}
* * * * * root {_LINES["tick"]}
* * * * * root {_LINES["printing"]}
"""

# Each run is one line, written at once, so that the machines' lines do not mix.
_JOB = f"""\
#!/bin/sh
note() {{
    read -r uptime rest </proc/uptime
    echo "$1 $CRONLOCK_KEY $(date +%s) $uptime $(hostname) $CRONLOCK_FENCE $CRONLOCK_OWNER" >>{SHARED}/log
}}
note start
"""
_SLOW_JOB = _JOB + "sleep 2\nnote end\n"

_SENDMAIL = f"""\
#!/bin/sh
mail=$(mktemp {SHARED}/.mail-XXXXXX) && cat >"$mail" && mv "$mail" "{SHARED}/mail/$(hostname)-${{mail##*-}}"
"""


class Run(NamedTuple):
    """One line of the jobs' log."""

    what: str
    key: str
    #: The start of the minute that cron fired it for, in seconds of the epoch.
    tick: int
    #: Seconds since boot.
    at: float
    host: str
    fence: int
    owner: str


class Nodes:
    """Three machines that run cron, and one that runs Redis."""

    def __init__(self, fleet: Fleet) -> None:
        self._shared = fleet.shared
        (fleet.shared / "mail").mkdir()
        (fleet.shared / "log").touch()
        self.redis = fleet.machine("redis")
        self._start_redis()
        self.all = [fleet.machine(name) for name in ("alpha", "beta", "gamma")]
        for node in self.all:
            self._install(node)

    @property
    def alive(self) -> list[Machine]:
        """Those that were not killed."""
        return [node for node in self.all if node.is_alive]

    def start_cron(self) -> int:
        """Start cron everywhere and return the first tick that all of them take part in."""
        for node in self.all:
            node.start("cron", "-f", "-L", "15")
        for node in self.all:
            eventually(partial(_runs_cron, node), f"cron runs on {node.name}")
        return _next_tick()

    def runs(self, what: str = "start") -> list[Run]:
        """Return the starts, or the ends, of jobs that the log shows."""
        found = []
        for line in (self._shared / "log").read_text().splitlines():
            kind, key, second, uptime, host, fence, owner = line.split()
            tick = int(second) // _MINUTE * _MINUTE
            found.append(Run(kind, key, tick, float(uptime), host, int(fence), owner))
        return [run for run in found if run.what == what]

    def mails(self, node: Machine) -> list[email.message.Message]:
        """Return what cron has mailed on `node`."""
        return [email.message_from_bytes(file.read_bytes()) for file in self._shared.glob(f"mail/{node.name}-*")]

    def wait_started(self, tick: int) -> None:
        """Wait until both jobs of `tick` have been started somewhere."""
        limit = max(0.0, tick - time.time()) + _LIMIT
        eventually(lambda: {run.key for run in self.runs() if run.tick == tick} == set(_KEYS), "the jobs run", limit)

    def fired(self, node: Machine, key: str) -> list[int]:
        """Return the ticks at which cron on `node` started the line of `key`, as cron's log has them."""
        line = f"{_LINES[key]})"
        said = [(at, message) for at, message in node.syslog() if "(root) CMD (" in message]
        return [int(at) // _MINUTE * _MINUTE for at, message in said if message.endswith(line)]

    def has_fired(self, node: Machine, key: str, tick: int) -> bool:
        """Whether cron on `node` has started the line of `key` for `tick`."""
        return tick in self.fired(node, key)

    def wait_over(self, tick: int) -> None:
        """Wait until cron has fired all of `tick` on each machine alive, and all that it started has ended."""
        limit = max(0.0, tick - time.time()) + _LIMIT
        for node in self.alive:
            for key in _LINES:
                eventually(partial(self.has_fired, node, key, tick), f"cron fired {key} on {node.name}", limit)
            eventually(partial(_is_idle, node), f"all jobs ended on {node.name}", _LIMIT)

    def pause_redis(self) -> None:
        """Stop Redis where it is: it takes connections and does not answer."""
        self.redis.run("kill", "-STOP", self._redis_pid())

    def resume_redis(self) -> None:
        """Let Redis go on."""
        self.redis.run("kill", "-CONT", self._redis_pid())

    def story(self) -> str:
        """Return what the machines have to say, for a failed test."""
        parts = [f"--- log of the jobs\n{(self._shared / 'log').read_text()}"]
        for machine in (self.redis, *self.all):
            parts.append(f"--- {machine.name} printed\n{machine.output()}")
            parts.append(
                f"--- {machine.name} syslog\n" + "\n".join(f"{at:.3f} {message}" for at, message in machine.syslog())
            )
            parts.extend(f"--- {machine.name} mail\n{mail}" for mail in self.mails(machine))
        return "\n".join(parts)

    def _start_redis(self) -> None:
        options = ["--bind", self.redis.address, "--save", "", "--dir", "/run", "--pidfile", "/run/redis.pid"]
        self.redis.start("redis-server", "--protected-mode", "no", *options)
        ping = ["redis-cli", "-h", self.redis.address, "ping"]
        eventually(lambda: "PONG" in self.redis.run("sh", "-c", '"$@" 2>&1; :', "sh", *ping), "Redis answers")

    def _redis_pid(self) -> str:
        return self.redis.run("cat", "/run/redis.pid").strip()

    def _install(self, node: Machine) -> None:
        # Setting the login id takes a capability that containers do not have.
        node.run("sh", "-c", "cp -r /etc/pam.d /run && sed -i /pam_loginuid/d /run/pam.d/cron")
        node.run("mount", "--bind", "/run/pam.d", "/etc/pam.d")
        node.write("/usr/sbin/sendmail", _SENDMAIL, "755")
        node.write("/usr/local/bin/cronlock", _cronlock(late=node.name == "gamma"), "755")
        node.write("/usr/local/bin/report", _SLOW_JOB, "755")
        node.write("/usr/local/bin/tick", _JOB, "755")
        node.write("/etc/cronlock.conf", f"CRONLOCK_BACKEND=redis://{self.redis.address}\n")
        node.write("/etc/crontab", _CRONTAB)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Machines with all installed and cron not yet started."""
    for program, package in (("cron", "cron"), ("redis-server", "redis-server"), ("redis-cli", "redis-tools")):
        need(program, f"{package} iproute2")
    with Fleet(tmp_path / "fleet") as fleet:
        if not fleet.has_users:
            pytest.skip("cron changes users: needs root, or newuidmap and a range of ids in /etc/subuid")
        nodes = Nodes(fleet)
        try:
            yield nodes
        finally:
            # Shown by pytest when the test failed.
            print(nodes.story())


def test_each_tick_runs_on_one_machine(nodes: Nodes) -> None:
    """Of three crons one runs each job at each tick, also after a machine was killed; skips are silent."""
    first = nodes.start_cron()
    last_of_three = _follow(nodes, first, _TICKS - 1)
    nodes.wait_started(last_of_three)
    # Now, while the longer of its jobs still runs.
    killed = _runner(nodes, "report", last_of_three)
    killed.kill()
    nodes.wait_over(last_of_three)
    end = _follow(nodes, last_of_three + _MINUTE, _TICKS)
    ticks = list(range(first, end, _MINUTE))
    failed: list[int] = []

    if _TICKS > 1:
        nodes.pause_redis()
        failed = [_next_tick()]
        nodes.wait_over(failed[0])
        nodes.resume_redis()
        after = _next_tick()
        _follow(nodes, after, 1)
        ticks.append(after)

    _check_runs(nodes, first, ticks)
    unfinished = {run.fence for run in nodes.runs() if run.key == "report"} - {run.fence for run in nodes.runs("end")}
    assert unfinished <= {run.fence for run in nodes.runs() if run.tick == last_of_three}
    later = {run.host for run in nodes.runs() if run.tick > last_of_three}
    assert later <= {node.name for node in nodes.alive}
    for node in nodes.alive:
        assert [tick for tick in nodes.fired(node, "tick") if tick >= first] == sorted(ticks + failed)
        _check_mails(nodes, node, failures=len(_KEYS) * len(failed))
    assert {_body(mail) for mail in nodes.mails(killed)} <= {f"printed on {killed.name}\n"}


if _TICKS > 1:

    def test_check_alarms_after_the_line_was_removed(nodes: Nodes) -> None:
        """Without the line on any machine ``cronlock check`` turns critical by itself, and OK again with it."""
        first = nodes.start_cron()
        nodes.wait_started(first)
        nodes.wait_over(first)
        limit = 2 * _MINUTE
        assert _check(nodes).startswith("0 CRONLOCK OK - report: succeeded ")
        for node in nodes.all:
            node.write("/etc/crontab", "")
        eventually(lambda: _check(nodes).startswith("2 CRONLOCK CRITICAL - report: "), "the alarm", limit + _LIMIT)
        for node in nodes.all:
            node.write("/etc/crontab", _CRONTAB)
        eventually(lambda: _check(nodes).startswith("0 CRONLOCK OK - report: "), "the end of the alarm", limit + _LIMIT)


def _check(nodes: Nodes) -> str:
    """Return status and output of ``cronlock check`` on one machine."""
    words = ["check", "report", "--max-age", "90s", "--backend", f"redis://{nodes.redis.address}"]
    line = [sys.executable, "-m", "cronlock", *words]
    return nodes.all[0].run("sh", "-c", 'out=$("$@"); echo "$? $out"', "sh", *line)


def _cronlock(late: bool) -> str:
    """Return the program; a machine whose clock is `late` starts a tick when the others have done its short job."""
    # -I: cron's current directory is HOME, where the checkout may stand under the package's name.
    return f'#!/bin/sh\n{"sleep 2; " if late else ""}exec {shlex.quote(sys.executable)} -I -m cronlock "$@"\n'


def _next_tick() -> int:
    return (int(time.time()) // _MINUTE + 1) * _MINUTE


def _runs_cron(node: Machine) -> bool:
    return any("Running @reboot jobs" in message for _, message in node.syslog())


def _is_idle(node: Machine) -> bool:
    # Each job has a process of cron's as its parent, which also mails what the job printed.
    return node.programs().count("cron") == 1


def _follow(nodes: Nodes, tick: int, count: int) -> int:
    """Wait until `count` ticks from `tick` on have passed everywhere, and return the tick after them."""
    for each in range(tick, tick + count * _MINUTE, _MINUTE):
        nodes.wait_started(each)
        nodes.wait_over(each)
    return tick + count * _MINUTE


def _runner(nodes: Nodes, key: str, tick: int) -> Machine:
    """Return the machine that ran `key` at `tick`."""
    hosts = [run.host for run in nodes.runs() if (run.key, run.tick) == (key, tick)]
    assert len(hosts) == 1
    return next(node for node in nodes.all if node.name == hosts[0])


def _check_runs(nodes: Nodes, first: int, ticks: list[int]) -> None:
    """Each job ran once at each of `ticks` and at no other since `first`, with its owner in the environment."""
    for key in _KEYS:
        runs = [run for run in nodes.runs() if run.key == key]
        assert [run.tick for run in runs if run.tick >= first] == ticks
        assert [run.owner.split(":")[0] for run in runs] == [run.host for run in runs]
        fences = [run.fence for run in runs]
        assert fences == sorted(set(fences)), "fences do not increase"


def _check_mails(nodes: Nodes, node: Machine, failures: int) -> None:
    """`node` mailed the output of its jobs, `failures` lines of cronlock about Redis, and nothing else."""
    bodies = [_body(mail) for mail in nodes.mails(node)]
    printed = f"printed on {node.name}\n"
    assert bodies.count(printed) == len(nodes.fired(node, "printing"))
    others = [body for body in bodies if body != printed]
    assert len(others) == failures
    for body in others:
        assert body.startswith("cronlock: ")
        assert body.count("\n") == 1
        assert nodes.redis.address in body
    statuses = [message for _, message in node.syslog() if "failed with exit status" in message]
    assert len(statuses) == failures
    assert all("exit status 69" in message for message in statuses)


def _body(mail: email.message.Message) -> str:
    body = mail.get_payload(decode=True)  # Of Debian's cron from 13 on it is quoted-printable.
    assert isinstance(body, bytes)
    return body.decode()
