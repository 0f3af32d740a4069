"""Machines on which tests type the documents' commands at a terminal, as a reader would."""

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

# Stand-ins for the reader's programs. Each records that it ran, its arguments and its input; by a single write, since
# the programs of a pipe run at the same time.
_PROGRAM = f"""#!/bin/sh
printf '%s\\n' "${{0##*/}}${{*:+ $*}}" >>{_HOME}/ran
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
    # With a date after midnight.
    (re.compile(r"(?:\b\d{4}-\d\d-\d\d )?\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"(?<![\w<.-])(?:\d+(?:\.\d+)?(?:ms|[dhms]))+(?!\w)"), "SPAN"),
    # A run listens for notifications only once it has lasted for a second.
    (re.compile(r"at once, or (within SPAN) if the notification is lost"), r"\1"),
    (re.compile(r":[0-9a-f]{6,16}\b"), ":HEX"),
    (re.compile(r"(?<![\w<.-])\d+(?:\.\d+)?(?![\w>.])"), "NUMBER"),
    (re.compile(r"(?<=:)\d+(?=:)"), "NUMBER"),
    (re.compile(r"[ \t]+"), " "),
)


class Typed:
    """The result of a command."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        #: Standard output and error, as the terminal showed them.
        self.output = output


class Bare:
    """A machine without cronlock. Changes to its file system stay in it."""

    def __init__(self, machine: Machine, redis: str, origin: Path = Path("/")) -> None:
        """Lay the root of `machine` over the files of `origin`; `redis` is the address of Redis."""
        self.machine = machine
        self.root = Root(machine, origin)
        self.root.run("mkdir", "-p", _HOME, "/run/lock")
        self.write("/usr/local/bin/sudo", _SUDO, "755")
        self.sh("rm -rf /etc/cron.d/* /etc/crontab")
        self.sh(f"echo {redis} redis.internal locks-1 locks-2 >>/etc/hosts")

    def sh(self, script: str) -> str:
        """Run a script in the reader's directory, without a terminal. Fail the test if the script fails."""
        return self.root.sh(f"cd {_HOME}\n{script}")

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write `text` into the file `path`, relative to the reader's directory."""
        path = path if path.startswith("/") else f"{_HOME}/{path}"
        self.root.run("sh", "-c", 'rm -f "$1" && cat >"$1" && chmod "$2" "$1"', "sh", path, mode, stdin=text)

    def take(self, *files: Path) -> None:
        """Copy `files` of the test into the reader's directory."""
        self.machine.run("cp", *map(str, files), f"{self.root.path}{_HOME}/")

    def words(self, script: str) -> list[str]:
        """Return the command that runs `script` on the machine, in the environment of a fresh login."""
        return ["chroot", self.root.path, "/usr/bin/env", "-i", *_ENVIRONMENT, "sh", "-c", f"cd {_HOME}\n{script}"]

    def type(self, command: str, before: int = 0, answers: str = "") -> Typed:
        """Type `command` at a terminal where ``$?`` is `before`, and then `answers`."""
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
        # Containers lack the capability to set the login id.
        self.sh("sed -i /pam_loginuid/d /etc/pam.d/cron")
        self.write("/usr/sbin/sendmail", "#!/bin/sh\ncat >>/root/mail\n", "755")
        self.machine.start(*self.words("exec cron -f"))
        eventually(lambda: "cron" in self.machine.programs(), f"cron runs on {self.machine.name}")

    def mail(self) -> str:
        """Return the mail that cron sent."""
        return self.sh("[ ! -e /root/mail ] || cat /root/mail")


class Node(Bare):
    """A machine with cronlock configured for the fleet's Redis, and with the programs that the documents mention."""

    def __init__(self, machine: Machine, redis: str) -> None:
        super().__init__(machine, redis)
        # The interpreter and the checkout, wherever they lie. The system's own directories are in the root already, and
        # what is written there below must not get into this machine's.
        for place in dict.fromkeys((str(ROOT), sys.prefix, sys.base_prefix)):
            if any(Path(own).is_relative_to(place) for own in ("/usr/bin", "/usr/local/bin")):
                continue
            script = 'mkdir -p "$1$2" && mount --bind "$2" "$1$2"'
            machine.run("sh", "-c", script, "sh", self.root.path, place)
        # The packages' path, where cron finds it.
        self.write("/usr/bin/cronlock", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cronlock "$@"\n', "755")
        for name in PROGRAMS:
            self.write(f"{'/srv' if name.endswith('.sh') else '/usr/local/bin'}/{name}", _PROGRAM, "755")
        self.sh("mkdir -p /srv/shop /var/lib/node_exporter")
        self.fresh()

    def kill_runs(self, key: str = "") -> None:
        """Kill all runs of `key`, or all, with their commands and at once, as when a machine dies."""
        # The bracket keeps pgrep from finding its own shell.
        find = f"pgrep -f '[r]un --key {key}|^/bin/sh (/srv|/usr/local/bin)/' || :; pgrep -x sleep || :"
        # Again until none is found: a command that starts meanwhile has lost the guard that would end it.
        kill = f'found=$({find}); [ -z "$found" ] || kill -KILL $found 2>/dev/null || :; echo $found'
        eventually(lambda: not self.sh(kill), f"no run of {key or 'any key'} lives")

    def fresh(self) -> None:
        """Reset the machine to the state after installation and configuration."""
        self.kill_runs()
        self.root.sh(
            f"cd /; rm -rf /var/lib/cronlock /etc/cronlock.conf /etc/cron.d/* /srv/report.txt {_HOME}; mkdir {_HOME}\n"
            "umask 077; echo CRONLOCK_BACKEND=redis://redis.internal >/etc/cronlock.conf"
        )

    def ran(self) -> list[str]:
        """Return the programs that ran here since the last call, with their arguments."""
        return self.sh("[ ! -e ran ] || cat ran; rm -f ran").splitlines()


class Redis:
    """A machine with Redis on its default port."""

    def __init__(self, fleet: Fleet) -> None:
        need("redis-server", "redis-server"), need("redis-cli", "redis-tools"), need("script", "bsdutils")
        self._machine = fleet.machine("redis")
        self.address = self._machine.address
        self._machine.start(
            "redis-server", "--bind", self.address, "--save", "", "--protected-mode", "no", "--dir", "/run"
        )
        eventually(lambda: "PONG" in self.ask("ping || :"), "Redis answers")

    def ask(self, command: str) -> str:
        """Return Redis' reply to a command."""
        return self._machine.run("sh", "-c", f"redis-cli -h {self.address} {command} 2>&1")


class Stage:
    """A fleet with Redis. Its nodes are created when a test names them."""

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
        """Undo what earlier commands did."""
        for name in self._used:
            self._nodes[name].fresh()
        self._used.clear()
        self.redis.ask("flushall")
        self.redis.ask("config set maxmemory-policy noeviction")


def same(sample: str, output: str) -> bool:
    """Return whether `output` matches `sample` except for times, numbers and the width of columns.

    A line of three dots matches any number of lines.
    """
    lines = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in normal(sample))
    return re.fullmatch(lines, "".join(f"{line}\n" for line in normal(output))) is not None


def normal(text: str) -> list[str]:
    """Return the lines of `text`, with placeholders for times and numbers."""
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return [line.strip() for line in text.strip().split("\n")]


def complain(where: str, command: str, sample: str, got: Typed) -> None:
    """Fail the test, and show the expected output."""
    pytest.fail(
        f"{where}: $ {command}\n--- status {got.status}, printed\n{got.output}\n--- in the document\n{sample}"
        f"\n--- compared\n{normal(got.output)}\n{normal(sample)}",
        pytrace=False,
    )
