"""Machines on which the documents' commands are run as a reader would: typed at a terminal."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT
from labs.machines import Fleet, Machine
from labs.servers.process import eventually, need
from tests.packaging.support import Root

_HOME = "/root/here"
_ENVIRONMENT = (
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM=xterm",
)
_LIMIT = 120

# Programs that stand in for the reader's own: each notes that it ran, on which machine, and with what.
_PROGRAM = f"""#!/bin/sh
{{ printf %s "${{0##*/}}"; [ $# = 0 ] || printf ' %s' "$@"; echo; }} >>{_HOME}/ran
[ -t 0 ] || cat >>{_HOME}/stdin
[ -z "${{PACE:-}}" ] || sleep "$PACE"
case ${{0##*/}} in make-report | dump-shop) echo lines ;; esac
"""
PROGRAMS = (
    *(
        "backup",
        "billing",
        "certbot",
        "dump-shop",
        "mail-queue",
        "mail-report",
        "mail_customers.sh",
        "make-report",
        "mirror",
    ),
    *("rotate-logs", "sync-files", "write-note"),
)
_SUDO = '#!/bin/sh\nexec env "$@"\n'

_NORMAL = (
    (re.compile(r"\r|\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\bstatus (\d+)"), r"status <\1>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"(?<![\w<.-])(?:\d+(?:\.\d+)?(?:ms|[dhms]))+(?!\w)"), "SPAN"),
    (re.compile(r":[0-9a-f]{6,16}\b"), ":HEX"),
    (re.compile(r"(?<![\w<.-])\d+(?:\.\d+)?(?![\w>.])"), "NUMBER"),
    (re.compile(r"(?<=:)\d+(?=:)"), "NUMBER"),
    (re.compile(r"[ \t]+"), " "),
)


class Typed:
    """What came of a command."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        #: Both streams, as the terminal showed them.
        self.output = output


class Bare:
    """A machine with a root directory of its own, where every change is its own, and nothing of cronlock's."""

    def __init__(self, machine: Machine, redis: str, origin: Path = Path("/")) -> None:
        """Have the files of `origin`, unchanged, as the root of `machine`; `redis` is the address of Redis."""
        self.machine = machine
        self.root = Root(machine, origin)
        self.root.run("mkdir", "-p", _HOME, "/run/lock")
        self.write("/usr/local/bin/sudo", _SUDO, "755")
        self.sh("rm -rf /etc/cron.d/* /etc/crontab /etc/cronlock.conf /var/lib/cronlock")
        self.sh(f"echo {redis} redis.internal locks-1 locks-2 >>/etc/hosts")

    def sh(self, script: str) -> str:
        """Run a script in the reader's directory, away from a terminal; fail if it fails."""
        return self.root.sh(f"cd {_HOME}\n{script}")

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Make the file `path` contain `text`; a relative one lies in the reader's directory."""
        path = path if path.startswith("/") else f"{_HOME}/{path}"
        self.root.run("sh", "-c", 'rm -f "$1" && cat >"$1" && chmod "$2" "$1"', "sh", path, mode, stdin=text)

    def take(self, *files: Path) -> None:
        """Have copies of the test's `files` in the reader's directory."""
        self.machine.run("cp", *map(str, files), f"{self.root.path}{_HOME}/")

    def words(self, script: str) -> list[str]:
        """Return a command for the machine that runs `script` here, as a person who has just logged in."""
        return ["chroot", self.root.path, "/usr/bin/env", "-i", *_ENVIRONMENT, "sh", "-c", f"cd {_HOME}\n{script}"]

    def type(self, command: str, before: int = 0, answers: str = "") -> Typed:
        """Run `command` as typed at a terminal, where ``$?`` is `before`, and then `answers`."""
        shown = f"script -qec {shlex.quote(f'(exit {before}); {command}')} /dev/null"
        done = subprocess.run(
            [*self.machine.way_in, *self.words(shown)],
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
        )
        return Typed(done.returncode, done.stdout)

    def start_cron(self) -> None:
        """Start the real cron, whose mail goes to a file."""
        if not self.root.has("/usr/sbin/cron"):
            self.sh("apt-get -qq -y --no-install-recommends install cron")
        # Setting the login id takes a capability that containers do not have.
        self.sh("sed -i /pam_loginuid/d /etc/pam.d/cron")
        self.write("/usr/sbin/sendmail", "#!/bin/sh\ncat >>/root/mail\n", "755")
        self.machine.start(*self.words("exec cron -f"))
        eventually(lambda: "cron" in self.machine.programs(), f"cron runs on {self.machine.name}")

    def mail(self) -> str:
        """Return what cron has mailed."""
        return self.sh("[ ! -e /root/mail ] || cat /root/mail")


class Node(Bare):
    """A machine with cronlock, set up for the fleet's Redis, and with the programs that the documents mention."""

    def __init__(self, machine: Machine, redis: str) -> None:
        super().__init__(machine, redis)
        # The interpreter and the checkout, wherever they lie. The system's own directories are in the root already, and
        # what is written there below must not get into this machine's.
        for place in dict.fromkeys((str(ROOT), sys.prefix, sys.base_prefix)):
            if any(Path(own).is_relative_to(place) for own in ("/usr/bin", "/usr/local/bin")):
                continue
            script = 'mkdir -p "$1$2" && mount --bind "$2" "$1$2"'
            machine.run("sh", "-c", script, "sh", self.root.path, place)
        # Where the packages put it, so that cron finds it.
        self.write("/usr/bin/cronlock", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cronlock "$@"\n', "755")
        for name in PROGRAMS:
            self.write(f"{'/srv' if name.endswith('.sh') else '/usr/local/bin'}/{name}", _PROGRAM, "755")
        self.sh("mkdir -p /srv/shop /var/lib/node_exporter")
        self.fresh()

    def fresh(self) -> None:
        """Forget what earlier commands did: as after the installation, with the fleet's Redis configured."""
        self.root.sh(
            f"cd /; rm -rf /var/lib/cronlock /etc/cronlock.conf /etc/cron.d/* /srv/report.txt {_HOME}; mkdir {_HOME}\n"
            "umask 077; echo CRONLOCK_BACKEND=redis://redis.internal >/etc/cronlock.conf"
        )

    def ran(self) -> list[str]:
        """Return which of the programs ran here, with their arguments, since the last time this was asked."""
        return self.sh("[ ! -e ran ] || cat ran; rm -f ran").splitlines()


class Redis:
    """A machine of a fleet with a Redis on its usual port."""

    def __init__(self, fleet: Fleet) -> None:
        need("redis-server", "redis-server"), need("redis-cli", "redis-tools"), need("script", "bsdutils")
        self._machine = fleet.machine("redis")
        self.address = self._machine.address
        self._machine.start(
            "redis-server", "--bind", self.address, "--save", "", "--protected-mode", "no", "--dir", "/run"
        )
        eventually(lambda: "PONG" in self.ask("ping || :"), "Redis answers")

    def ask(self, command: str) -> str:
        """Return the answer to a command."""
        return self._machine.run("sh", "-c", f"redis-cli -h {self.address} {command} 2>&1")


class Stage:
    """A fleet with Redis, and nodes that appear when they are named."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._nodes: dict[str, Node] = {}
        self._used: set[str] = set()
        self.redis = Redis(fleet)

    def node(self, name: str) -> Node:
        """Return the machine `name`."""
        self._used.add(name)
        if name not in self._nodes:
            self._nodes[name] = Node(self._fleet.machine(name), self.redis.address)
        return self._nodes[name]

    def fresh(self) -> None:
        """Let no earlier command matter."""
        self.redis.ask("flushall")
        self.redis.ask("config set maxmemory-policy noeviction")
        for name in self._used:
            self._nodes[name].fresh()
        self._used.clear()


def same(sample: str, output: str) -> bool:
    """Whether `output` is like `sample` but for times, numbers and the width of columns.

    A line of three dots stands for any number of lines.
    """
    lines = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in normal(sample))
    return re.fullmatch(lines, "".join(f"{line}\n" for line in normal(output))) is not None


def normal(text: str) -> list[str]:
    """Return the lines of `text` without what differs from one time to the next."""
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return [line.strip() for line in text.strip().split("\n")]


def complain(where: str, command: str, sample: str, got: Typed) -> None:
    """Fail, showing what was expected."""
    pytest.fail(
        f"{where}: $ {command}\n--- status {got.status}, printed\n{got.output}\n--- in the document\n{sample}"
        f"\n--- compared\n{normal(got.output)}\n{normal(sample)}",
        pytrace=False,
    )
