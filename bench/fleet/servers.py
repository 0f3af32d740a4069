"""The servers that can be measured, as Debian ships them; of AWS's services, the emulator of the tests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import metadata
from typing import Any

from bench.counts import MemcachedCount, RedisCount
from bench.services import EtcdOnDisk
from bench.watch import Sent, SentHTTP, SentMySQL, SentPostgreSQL, Watch, WatchCount
from cronlock.engines import registry
from labs.servers.aws import DynamoDBServer, S3Server
from labs.servers.mariadb import MariadbServer
from labs.servers.memcached import MemcachedServer
from labs.servers.postgresql import PostgresqlServer
from labs.servers.redis import RedisServer
from labs.servers.zookeeper import ZooKeeperServer

from .target import CONNECTIONS, Target

#: Writes that a quorum of an ensemble must confirm.
WRITES = "quorum writes"
#: What Debian's packages set, where the tests' servers are smaller or do not wait for the disk.
_POSTGRESQL = {"fsync": "on", "shared_buffers": "128MB"}
_MARIADB = {"innodb-flush-log-at-trx-commit": "1", "innodb-buffer-pool-size": "128M"}


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


def redis() -> Target:
    """Return a Redis, which takes clients from all of loopback."""
    server = RedisServer(extra=("--protected-mode", "no"))

    def records() -> int:
        with server.client() as client:
            return int(client.dbsize())

    def version() -> str:
        with server.client() as client:
            return f"Redis {client.info('server')['redis_version']}"

    return Target("Redis", server, server.url(), records, version, lambda: _both(RedisCount(server)))


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
        lambda: int(stat("curr_items")),
        lambda: f"memcached {stat('version')}",
        lambda: _both(MemcachedCount(server)),
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

    return Target("ZooKeeper", server, server.url(), lambda: number("znode_count"), version, count)


def etcd(*, watched: bool = False) -> Target:
    """Return an etcd that is alone, on disk."""
    server = EtcdOnDisk()

    def records() -> int:
        return int(server.ask("kv/range", key="AA==", range_end="AA==", count_only=True).get("count", 0))

    def version() -> str:
        return f"etcd {server.ask('maintenance/status')['version']}"

    return _target("etcd", server, records, version, SentHTTP, watched=watched)


def postgresql(*, watched: bool = False) -> Target:
    """Return a PostgreSQL, which lets its clients in without a password."""
    server = PostgresqlServer(settings=_POSTGRESQL)

    def version() -> str:
        return f"PostgreSQL {server.run('SHOW server_version')[0][0].split()[0]}"

    return _target("PostgreSQL", server, _rows(server), version, SentPostgreSQL, watched=watched, forks=True)


def mysql(*, watched: bool = False) -> Target:
    """Return a MariaDB, which lets its clients in without a password."""
    server = MariadbServer(settings=_MARIADB)

    def version() -> str:
        return f"MariaDB {server.run('SELECT VERSION()')[0][0].partition('-')[0]}"

    return _target("MariaDB", server, _rows(server), version, SentMySQL, watched=watched)


def dynamodb(*, watched: bool = False) -> Target:
    """Return an emulator of DynamoDB."""
    return _emulator("DynamoDB", DynamoDBServer(), watched=watched)


def s3(*, watched: bool = False) -> Target:
    """Return an emulator of S3."""
    return _emulator("S3", S3Server(), watched=watched)


def _emulator(name: str, server: Any, *, watched: bool) -> Target:
    environ = server.environ

    def records() -> int:
        os.environ.update(environ)  # Of this process, which asks as cronlock does.
        with closing(registry.open_backend(server.url(), 60.0)) as backend:
            return len(list(backend.keys()))

    def version() -> str:
        return f"{name} by MiniStack {metadata.version('ministack')}"

    return _target(name, server, records, version, SentHTTP, watched=watched, environ=environ, created=True, most=1_000)


def _target(
    name: str,
    server: Any,
    records: Callable[[], int],
    version: Callable[[], str],
    sent: Callable[[], Sent],
    *,
    watched: bool,
    **more: Any,
) -> Target:
    """Return a server that does not count what it is asked; where that is `watched`, what stands before it does."""
    if not watched:
        return Target(name, server, server.url(), records, version, **more)
    watch = Watch(server.port, sent)
    url = server.url(port=watch.port)
    return Target(name, server, url, records, version, lambda: _both(WatchCount(watch)), before=(watch,), **more)


def _rows(server: PostgresqlServer | MariadbServer) -> Callable[[], int]:
    return lambda: int(server.run("SELECT count(*) FROM cronlock")[0][0])


#: All servers that can be measured, by the name that the command takes.
TARGETS: Mapping[str, Callable[[], Target]] = {
    "redis": redis,
    "memcached": memcached,
    "zookeeper": zookeeper,
    "etcd": etcd,
    "postgresql": postgresql,
    "mysql": mysql,
    "dynamodb": dynamodb,
    "s3": s3,
}
#: The same where each request is counted, and a run may last longer than a third of a session, and not show by a
#: renewal.
COUNTED: Mapping[str, Callable[[], Target]] = {
    **TARGETS,
    "zookeeper": lambda: zookeeper(maxSessionTimeout="600000", maxClientCnxns="0"),
    "etcd": lambda: etcd(watched=True),
    "postgresql": lambda: postgresql(watched=True),
    "mysql": lambda: mysql(watched=True),
    "dynamodb": lambda: dynamodb(watched=True),
    "s3": lambda: s3(watched=True),
}


def _both(counter: RedisCount | MemcachedCount | WatchCount) -> Callable[[], dict[str, int]]:
    def since() -> dict[str, int]:
        commands, connections = counter.since()
        return {**commands, CONNECTIONS: connections}

    return since
