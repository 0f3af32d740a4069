"""Starts cronlock as cron would, and counts what that takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from labs.installation import ROOT
from labs.servers.aws import DynamoDBServer, S3Server, SQSServer
from labs.servers.creating import create
from labs.servers.etcd import EtcdServer
from labs.servers.mariadb import MariadbServer
from labs.servers.memcached import MemcachedServer
from labs.servers.postgresql import PostgresqlServer
from labs.servers.process import Service, need
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer
from labs.servers.zookeeper import ZooKeeperServer

LAUNCHER = ROOT / "bin/cronlock"
TRUE = shutil.which("true") or "/bin/true"


#: Additional imports of engines, with their own imports: clients, and modules for AWS's signatures.
CLIENTS = {
    "etcd": "_json, binascii",
    "dynamodb": "_json",
    "s3": "_json",
    "sqs": "_json",
}


class Servers:
    """The servers of the URLs, started on first use."""

    def __init__(self, directory: Path) -> None:
        self.redis = RedisServer()
        self.rediss = RedisServer(tls=True)
        self.redis_password = RedisServer(password="secret")
        self.sentinel = RedisSentinel()
        self.cluster = RedisCluster()
        self.memcached = MemcachedServer()
        self.zookeeper = ZooKeeperServer()
        self.etcd = EtcdServer()
        self.postgresql = PostgresqlServer()
        self.mysql = MariadbServer()
        self.dynamodb = DynamoDBServer()
        self.s3 = S3Server()
        self.sqs = SQSServer()
        self.all: tuple[Service, ...] = (
            *(
                self.redis,
                self.rediss,
                self.redis_password,
                self.sentinel,
                self.cluster,
                self.memcached,
                self.zookeeper,
            ),
            *(self.etcd, self.postgresql, self.mysql, self.dynamodb, self.s3, self.sqs),
        )
        self._directory = directory

    def start(self) -> None:
        """Start all servers, and create what they need."""
        for server in self.all:
            server.launch()
        for server in self.all:
            server.wait_ready()
        for made in (self.dynamodb, self.s3, self.sqs):
            create(made.url(), made.environ)

    def url(self, backend: str, **options: Any) -> str:
        """Return the URL of a backend by its name in these tests."""
        if backend == "file":
            return f"file://{self._directory}"
        return str(getattr(self, backend).url(**options))


class Starter:
    """Start cronlock without site packages, since an environment's .pth files may import modules."""

    def __init__(self, servers: Servers, directory: Path) -> None:
        self._servers = servers
        self._paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        self.environ = {
            "PATH": os.environ["PATH"],
            "CRONLOCK_STATE_DIR": str(directory / "state"),
            "CRONLOCK_CONFIG": os.devnull,
            **servers.dynamodb.environ,
        }

    def line(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        """Return the command line of ``cronlock`` with `words`; `options` are the interpreter's."""
        number = len(self._paths)
        code = (
            f"import sys; sys.path[:0] = sys.argv[1:{number + 1}]; del sys.argv[:{number + 1}];"
            " exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'))"
        )
        return [sys.executable, "-I", "-S", *options, "-c", code, *self._paths, str(LAUNCHER), *words]

    def words(self, backend: str, key: str = "job", *more: str, **options: Any) -> list[str]:
        """Return the words of a run of ``true`` on `backend`, by a URL with `options`, or of ``--version``."""
        if backend == "version":
            return ["--version"]
        return ["run", "--key", key, "--backend", self._servers.url(backend, **options), *more, "--", TRUE]

    def run(self, command: list[str]) -> str:
        """Run `command`, which must end with status 0, and return its standard error."""
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def modules(self, backend: str, key: str = "job") -> set[str]:
        """Return the imports of all processes, except those in `CLIENTS`."""
        told = self.run(self.line(*self.words(backend, key), options=("-X", "importtime")))
        return imported_by(told) - self.brought(f"os, {CLIENTS[backend]}" if backend in CLIENTS else "os")

    def brought(self, names: str) -> set[str]:
        """Return the modules that importing `names` imports."""
        code = f"import sys; sys.path[:0] = {self._paths!r}; import {names}"
        return imported_by(self.run([sys.executable, "-I", "-S", "-X", "importtime", "-c", code]))

    def calls(self, backend: str, log: Path, key: str = "job") -> dict[str, int]:
        """Return the counts of relevant system calls in all processes."""
        calls = "execve,connect,clone,clone3,fork,vfork"
        told = ["-f", "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", "signal=none"]
        self.run([need("strace", "strace"), *told, "--", *self.line(*self.words(backend, key))])
        # A call that another interrupts has a second line, "<... clone resumed>".
        text = log.read_text()
        found = re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE)
        forks = sum(found.count(name) for name in ("clone", "clone3", "fork", "vfork"))
        # Network only: a client that looks up the user's name may ask a daemon of this machine.
        connections = len(re.findall(r"^\d+ +connect\(\d+, \{sa_family=AF_INET", text, re.MULTILINE))
        return {"execve": found.count("execve"), "connect": connections, "fork": forks}


def imported_by(told: str) -> set[str]:
    """Return the modules of what -X importtime tells."""
    return {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}


def random_key() -> str:
    """Return a key that was never used."""
    return f"job-{os.urandom(8).hex()}"
