"""The timed cases: runs on each backend, rivals, and the bare interpreter, which is the unit F."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from labs.installation import Installation, Package

from . import proc
from .measure import Case, Cost, finish, run, spawn
from .services import Services

F = "python3 -I -c pass"
FILE = "run -- true, file"
REDIS = "run -- true, Redis"
PASSWORD = "run -- true, Redis with password"
TLS = "run -- true, Redis with TLS and ca="
TLS_SYSTEM = "run -- true, Redis with TLS, the system's authorities"
SKIP = "a skip, Redis"
MEMCACHED = "run -- true, memcached"
ZOOKEEPER = "run -- true, ZooKeeper"
ETCD = "run -- true, etcd"
POSTGRESQL = "run -- true, PostgreSQL"
MYSQL = "run -- true, MariaDB"
DYNAMODB = "run -- true, DynamoDB"
DYNAMODB_TLS = "run -- true, DynamoDB with TLS"
S3 = "run -- true, S3"
SQS = "run -- true, SQS"
VERSION = "--version"
EXEC = "from start to the command's exec, Redis"
FLOCK = "flock FILE true"
ETCDCTL = "etcdctl lock x -- true"
CONSUL = "consul lock x true"


class Limit(NamedTuple):
    """The limits of a case."""

    #: In F; None if a client library or an emulator takes most of the time.
    starts: float | None = None
    #: In runs of `etcdctl lock x -- true`, on a local server.
    rivals: float | None = None
    #: True if wall time counts, which on an emulator is the emulator's.
    wall: bool = True


#: As packages are installed.
LIMITS = {
    FILE: Limit(1.45, 0.85),
    REDIS: Limit(1.65, 0.95),
    PASSWORD: Limit(1.65, 0.95),
    TLS: Limit(3.0),
    TLS_SYSTEM: Limit(3.0),
    SKIP: Limit(1.3, 0.75),
    MEMCACHED: Limit(1.75),
    ZOOKEEPER: Limit(3.6),
    ETCD: Limit(rivals=1.8),
    POSTGRESQL: Limit(2.6),
    MYSQL: Limit(3.2),
    DYNAMODB: Limit(3.6, wall=False),
    DYNAMODB_TLS: Limit(5.0, wall=False),
    S3: Limit(3.6, wall=False),
    SQS: Limit(wall=False),
    VERSION: Limit(1.4),
    EXEC: Limit(),
    FLOCK: Limit(),
    ETCDCTL: Limit(),
    CONSUL: Limit(),
}
#: The extra limit for a virtual environment's `site`, in F.
BY_PIP = 0.35
#: Backends whose requests are counted in transit, and by what.
WATCHED = {ETCD: "etcd", POSTGRESQL: "postgresql", MYSQL: "mysql", DYNAMODB: "dynamodb", S3: "s3", SQS: "sqs"}
_LASTING = ("sleep", "86400")


def backend(name: str) -> str:
    """Return a case's name for a table of runs."""
    return name.removeprefix("run -- true, ")


class Lab:
    """An installation, the servers, and a directory for what runs leave."""

    def __init__(self, installation: Installation | Package, services: Services, directory: Path) -> None:
        self.installation = installation
        self.services = services
        self._directory = directory
        self._keys = 0
        self._held = f"held-{installation.version}"
        # Like cron's: no locale, nothing of the caller's.
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(directory),
            "SHELL": "/bin/sh",
            "CRONLOCK_STATE_DIR": str(directory / "state"),
            "CRONLOCK_CONFIG": os.devnull,
            "ETCDCTL_API": "3",
            **services.dynamodb.environ,
            **services.authorities,
        }
        self.backends = {
            FILE: f"file://{directory}/leases",
            REDIS: services.redis.url(),
            PASSWORD: services.redis_password.url(),
            TLS: services.redis_tls.url(),
            TLS_SYSTEM: f"rediss://localhost:{services.redis_tls.port}",
            MEMCACHED: services.memcached.url(),
            ZOOKEEPER: services.zookeeper.url(),
            ETCD: services.etcd.url(),
            POSTGRESQL: services.postgresql.url(),
            MYSQL: services.mysql.url(),
            DYNAMODB: services.dynamodb.url(),
            DYNAMODB_TLS: f"dynamodb://cronlock?endpoint=https://localhost:{services.secure.port}",
            S3: services.s3.url(),
            SQS: services.sqs.url(),
        }

    def limit(self, case: str) -> Limit:
        """Return the limits of a case on this machine."""
        limit = LIMITS[case]
        if isinstance(self.installation, Package):
            return limit
        return limit._replace(starts=limit.starts and limit.starts + BY_PIP, rivals=None)

    def line(
        self,
        backend: str,
        *command: str,
        key: str | None = None,
        ttl: float = 300,
        hold: float | None = None,
        url: str | None = None,
    ) -> list[str]:
        """Return a run of `command`, by default with an unused key and the backend's own URL."""
        if key is None:
            self._keys += 1
            key = f"job-{self.installation.version}-{self._keys}"
        options = ["--key", key, "--ttl", str(ttl), "--backend", url or self.backends[backend]]
        options += [] if hold is None else ["--min-hold", str(hold)]
        return [self.installation.cronlock, "run", *options, "--", *command]

    def watched_url(self, backend: str) -> str:
        """Return the URL of one of `WATCHED` through its counter."""
        name = WATCHED[backend]
        port = self.services.watches[name].port
        return str(getattr(self.services, name).url(port=port))

    def start(self, backend: str, ttl: float = 300) -> Running:
        """Start a run that lasts until it is ended."""
        return Running(self.line(backend, *_LASTING, ttl=ttl), self.environ)

    def cases(self) -> list[Case]:
        """Return all cases of this machine, F first."""
        python, cronlock = self.installation.python, self.installation.cronlock
        cases = [self._case(F, lambda: [python, "-I", "-c", "pass"])]
        for name in self.backends:
            cases.append(self._case(name, self._run_line(name)))
        cases.append(self._case(SKIP, lambda: self.line(REDIS, "true", key=self._held)))
        cases.append(self._case(VERSION, lambda: [cronlock, "--version"]))
        cases.append(Case(EXEC, self._until_exec))
        return cases + self._rivals()

    def holder(self) -> Running:
        """Start the run that makes others skip."""
        return Running(self.line(REDIS, *_LASTING, key=self._held, ttl=86400), self.environ)

    def _case(self, name: str, line: Callable[[], list[str]]) -> Case:
        return Case(name, lambda: run(line(), self.environ))

    def _run_line(self, backend: str) -> Callable[[], list[str]]:
        return lambda: self.line(backend, "true")

    def rival(self) -> list[str] | None:
        """Return the beginning of a command of etcdctl, for the version of etcd that cronlock asks; None without it."""
        etcdctl = shutil.which("etcdctl")
        return None if etcdctl is None else [etcdctl, "--endpoints", self.services.etcd.address]

    def _rivals(self) -> list[Case]:
        found: list[Case] = []
        flock, consul = shutil.which("flock"), shutil.which("consul")
        if flock is not None:
            locked = str(self._directory / "flocked")
            found.append(self._case(FLOCK, lambda: [flock, locked, "true"]))
        rival = self.rival()
        if rival is not None:
            found.append(self._case(ETCDCTL, lambda: [*rival, "lock", "x", "--", "true"]))
        agent = self.services.consul
        if consul is not None and agent is not None:
            address = f"-http-addr={agent.address}"
            found.append(self._case(CONSUL, lambda: [consul, "lock", address, "x", "true"]))
        return found

    def _until_exec(self) -> Cost:
        """Measure until the command's first output, less the command's own time for that."""
        word = self._directory / "word"
        word.write_text("x")
        command = (shutil.which("cat") or "/bin/cat", str(word), "-")
        ours = _until_word(self.line(REDIS, *command), self.environ, proc.family)
        alone = _until_word(command, self.environ, _sleeper)
        return Cost(ours.wall - alone.wall, ours.cpu - alone.cpu)


class Running:
    """A run of cronlock that lasts, and its command."""

    def __init__(self, line: list[str], environ: dict[str, str], **streams: int) -> None:
        self._line = line
        self.pid, self._errors = spawn(line, environ, **streams)
        #: The processes that are cronlock's.
        self.ours: list[int]
        *self.ours, self.command = proc.family(self.pid)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def guard(self) -> int:
        """The guard, which is the command's parent."""
        return self.ours[-1]

    def end(self) -> None:
        """End the command, and wait for the rest."""
        os.kill(self.command, 9)
        self.wait(of_killed=True)

    def wait(self, *, of_killed: bool = False) -> None:
        """Wait for the end of all processes."""
        _, status = os.waitpid(self.pid, 0)
        if os.waitstatus_to_exitcode(status) != (128 + 9 if of_killed else 0):
            with open(self._errors, encoding="utf-8", errors="replace") as file:
                raise SystemExit(f"{' '.join(self._line)}: wait status {status}: {file.read()}")
        os.unlink(self._errors)


def _sleeper(pid: int) -> list[int]:
    proc.wait_until(lambda: proc.is_asleep(pid), "the command waits")
    return [pid]


def _until_word(command: Sequence[str], environ: dict[str, str], who: Callable[[int], list[int]]) -> Cost:
    """Measure from start to the first byte of output; CPU is that of all, read when they wait for input."""
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    began = time.perf_counter()
    pid, errors = spawn(command, environ, stdin=theirs_in, stdout=theirs_out)
    os.close(theirs_in)
    os.close(theirs_out)
    os.read(ours_out, 1)
    wall = time.perf_counter() - began
    cpu = sum(map(proc.cpu, who(pid)))
    os.close(ours_in)
    os.close(ours_out)
    finish(pid, errors, command)
    return Cost(wall, cpu)
