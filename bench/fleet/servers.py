"""The servers as Debian ships them, and their figures for a tick: counts, CPU, memory, records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import proc
from bench.counts import MemcachedCount, RedisCount
from labs.servers.memcached import MemcachedServer
from labs.servers.process import Server
from labs.servers.redis import RedisServer
from labs.servers.zookeeper import ZooKeeperServer

#: The names under which servers count connections; all other counts are requests.
CONNECTIONS = "connections"
#: Writes that a quorum of an ensemble must confirm.
WRITES = "quorum writes"


class _ZooKeeper(ZooKeeperServer):
    """One ZooKeeper with the limits and the virtual machine that the package gives it."""

    def __init__(self, **settings: str) -> None:
        # The package's zoo.cfg names no limit: 60 connections of one address.
        super().__init__(tick=2000, settings={"maxClientCnxns": "60", **settings})

    def command(self) -> list[str]:
        """Return the command without what makes the tests' virtual machine small."""
        command = super().command()
        small = ("-Xmx", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel")
        return [word for word in command if not word.startswith(small)]


@dataclass(frozen=True)
class Target:
    """A measured server."""

    name: str
    server: Server
    url: str
    #: Begins to count, and returns what gives {what: how often} since then, connections included.
    count: Callable[[], Callable[[], dict[str, int]]]
    #: The number of its records.
    records: Callable[[], int]
    version: Callable[[], str]


def redis() -> Target:
    """Return a Redis, which takes clients from all of loopback."""
    server = RedisServer(extra=("--protected-mode", "no"))

    def records() -> int:
        with server.client() as client:
            return int(client.dbsize())

    def version() -> str:
        with server.client() as client:
            return f"Redis {client.info('server')['redis_version']}"

    return Target("Redis", server, server.url(), lambda: _both(RedisCount(server)), records, version)


def memcached() -> Target:
    """Return a memcached."""
    server = MemcachedServer(extra=("-m", "64", "-t", "4"))

    def stat(name: str) -> str:
        found = re.search(rf"STAT {name} (\S+)", server.ask("stats", "END\r\n"))
        assert found is not None
        return found[1]

    return Target(
        "memcached",
        server,
        server.url(),
        lambda: _both(MemcachedCount(server)),
        lambda: int(stat("curr_items")),
        lambda: f"memcached {stat('version')}",
    )


def zookeeper(**settings: str) -> Target:
    """Return a ZooKeeper that is alone, with more `settings` than the package's."""
    server = _ZooKeeper(**settings)
    asked = 0

    def ask(word: str) -> str:
        nonlocal asked
        asked += 1
        return server.ask(word)

    def number(name: str) -> int:
        found = re.search(rf"^zk_{name}\t(\d+)$", ask("mntr"), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def found(pattern: str) -> str:
        match = re.search(pattern, ask("srvr"))
        assert match is not None
        return match[1]

    def counts() -> dict[str, int]:
        return {
            CONNECTIONS: number("connection_request_count"),
            # The questions asked here are packets too.
            "packets": number("packets_received") - asked,
            WRITES: int(found("Zxid: 0x([0-9a-f]+)"), 16) & 0xFFFFFFFF,
        }

    def version() -> str:
        return f"ZooKeeper {found('version: ([0-9.]+)')}"

    def count() -> Callable[[], dict[str, int]]:
        before = counts()
        return lambda: {name: now - before[name] for name, now in counts().items()}

    return Target("ZooKeeper", server, server.url(), count, lambda: number("znode_count"), version)


#: All servers that can be measured, by the name that the command takes.
TARGETS: dict[str, Callable[[], Target]] = {"redis": redis, "memcached": memcached, "zookeeper": zookeeper}
#: The same where a run may last longer than a third of a session, and not show by a renewal.
PATIENT: dict[str, Callable[[], Target]] = {
    **TARGETS,
    "zookeeper": lambda: zookeeper(maxSessionTimeout="600000", maxClientCnxns="0"),
}


def _both(counter: RedisCount | MemcachedCount) -> Callable[[], dict[str, int]]:
    def since() -> dict[str, int]:
        commands, connections = counter.since()
        return {**commands, CONNECTIONS: connections}

    return since


class Watch:
    """What a server does between `begin` and `end`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pid = target.server.pid
        # Records count from here on.
        self._records = target.records()

    def begin(self) -> None:
        """Begin to count."""
        self._count = self._target.count()
        # The peak of the resident set starts anew; see proc(5).
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        self._cpu = proc.cpu(self._pid)

    def end(self) -> None:
        """End it."""
        self.cpu = proc.cpu(self._pid) - self._cpu
        self.memory = _memory(self._pid, "VmHWM")
        #: {what: how often} of what clients did.
        self.counts = self._count()
        self.records = self._target.records() - self._records


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return _memory(pid, "VmRSS")


def descriptors(pid: int) -> int:
    """Return the number of a process's open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _memory(pid: int, wanted: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == wanted:
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit(f"the kernel does not tell {wanted}")
