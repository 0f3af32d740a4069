"""``cronlock doctor`` on real servers of each engine that are set up badly: Redis, memcached, ZooKeeper, files."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from cronlock.engines.redis.doctor import ACL_RULE
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import HOST
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer
from labs.servers.tls import tls
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from .reports import PASSWORD, Report, node_on
from .support import Node

# Redis.


def test_redis_without_persistence(node: Node) -> None:
    """It warns of that alone; with snapshots it says which."""
    report = Report(node)
    assert report.warnings() == ["persistence"]
    with RedisServer(extra=["--save", "3600 1"]) as server:
        text = Report(node_on(node.directory, server.url())).one("persistence")["text"]
    assert text.startswith("snapshots only (save 3600 1)")


def test_redis_that_could_not_save(tmp_path: Path) -> None:
    """The last save failed: wrong."""
    with RedisServer() as server:
        node = node_on(tmp_path, server.url())
        with server.client() as client:
            shutil.rmtree(server.data)
            client.set("x", "1")
            client.bgsave()
            limit = time.monotonic() + 30
            while client.info("persistence")["rdb_last_bgsave_status"] == "ok" and time.monotonic() < limit:
                time.sleep(0.05)
        assert Report(node).level("persistence") == "bad"


def test_redis_that_evicts(tmp_path: Path) -> None:
    """The policy warns, and so do evictions seen and memory that is almost full."""
    with RedisServer(persistent=True, extra=["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]) as server:
        node = node_on(tmp_path, server.url())
        assert Report(node).warnings() == ["eviction policy"]
        with server.client() as client:
            for number in range(80):
                client.set(f"filler{number}", "x" * 100_000)
        assert {"eviction policy", "evictions"} <= set(Report(node).warnings())
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        assert Report(node).level("eviction policy") == "ok"
        with server.client() as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
        assert "memory" in Report(node).warnings()


@pytest.mark.parametrize("secret", ["wrong", None, ""])
def test_redis_with_a_wrong_password(tmp_path: Path, secret: str | None) -> None:
    """Wrong credentials, or none where some are needed."""
    with RedisServer(password=PASSWORD) as server:
        url = f"redis://{f':{secret}@' if secret is not None else ''}{HOST}:{server.port}"
        report = Report(node_on(tmp_path, url))
    assert report.bad() == ["credentials"]


class _Managed(RedisServer):
    """A Redis with users; `client` is of one who may do everything."""

    def __init__(self, **rules: str) -> None:
        users = {name: f"on >{PASSWORD} {rule}" for name, rule in rules.items()}
        super().__init__(users={**users, "root": "on >root ~* &* +@all", "default": "off"}, persistent=True)

    def client(self, **options: Any) -> Any:
        """Return redis-py's client."""
        return super().client(**{"username": "root", "password": "root", **options})


def test_redis_users(tmp_path: Path) -> None:
    """The manual's ACL rule suffices; a missing right is named."""
    without = {name: ACL_RULE.replace(f" +{name}", "") for name in ("hset", "time", "eval", "pexpire", "publish")}
    keys = ACL_RULE.replace("~cronlock:*", "~other:*")
    with _Managed(least=ACL_RULE, keys=keys, **without) as server:
        report = Report(node_on(tmp_path, server.url(user="least", password=PASSWORD)))
        assert (report.status, report.bad()) == (0, [])
        assert report.level("credentials") == "ok"
        assert report.all("notifications") == []
        del without["publish"]
        report = Report(node_on(tmp_path, server.url(user="publish", password=PASSWORD)))
        assert (report.bad(), report.level("notifications")) == ([], "note")
        for name in without:
            report = Report(node_on(tmp_path, server.url(user=name, password=PASSWORD)))
            assert report.bad() == ["permissions"]
            assert report.one("permissions")["text"] == f"this user lacks +{name}"
            assert report.one("permissions")["remedy"].endswith(ACL_RULE)
        report = Report(node_on(tmp_path, server.url(user="keys", password=PASSWORD)))
        assert "keys" in report.one("permissions")["text"]
        report = Report(node_on(tmp_path, server.url(3, user="least", password=PASSWORD)))
        assert report.one("permissions")["text"] == "this user lacks +select"
        with server.client() as client:
            assert client.keys("*") == []


def test_redis_as_a_managed_service(tmp_path: Path) -> None:
    """Without INFO, CONFIG, SCAN and PING there are notes, and one warning about the list of keys."""
    rule = "~* +@all -info -config -scan -ping -time"
    with _Managed(app=f"{rule} +time") as server:
        node = node_on(tmp_path, server.url(user="app", password=PASSWORD))
        report = Report(node)
        assert (report.bad(), report.warnings()) == ([], ["listing"])
        assert (report.level("server"), report.level("lease")) == ("note", "ok")
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "+info", "+scan")
        report = Report(node)
        assert report.status == 0
        assert report.level("persistence") == "ok"


def test_redis_replicas(tmp_path: Path) -> None:
    """min_replicas counts those that are connected, and a replica itself is no place for leases."""
    with RedisServer(persistent=True) as master:
        report = Report(node_on(tmp_path, master.url(min_replicas="1")), "--backend-timeout", "1s")
        assert {"lease", "replicas"} == set(report.bad())
        with RedisServer(extra=["--replicaof", f"{HOST} {master.port}"]) as replica:
            assert {"lease", "replicas"} == set(Report(node_on(tmp_path, replica.url())).bad())


def test_redis_over_tls(tmp_path: Path) -> None:
    """The expiry of a certificate is reported; an unknown authority, or TLS on one side only, is WRONG."""
    with RedisServer(tls=True, persistent=True) as server:
        report = Report(node_on(tmp_path, server.url()))
        assert (report.status, report.level("certificate")) == (0, "ok")
        left = report.one("certificate")["values"]["ends_at"] - time.time()
        assert 0 < left < 3 * 86400
        report = Report(node_on(tmp_path, server.url().partition("?")[0]))
        assert report.bad() == ["certificate"]
        report = Report(node_on(tmp_path, f"redis://{HOST}:{server.port}"))
        assert report.bad() == ["answer"]
        assert "rediss://" in report.one("answer")["text"]
    with RedisServer() as server:
        report = Report(node_on(tmp_path, f"rediss://{HOST}:{server.port}?ca={tls().ca}"), "--backend-timeout", "2s")
        assert report.bad() == ["certificate"]


def test_redis_on_a_unix_socket(tmp_path: Path) -> None:
    """The socket's path is reported as reachable."""
    with RedisServer(unix=True, persistent=True) as server:
        node = node_on(tmp_path, server.unix_url(db="2"))
        report = Report(node)
        assert (report.status, report.level("reachable")) == (0, "ok")
        with server.client(db=2) as client:
            assert client.keys("*") == []
    assert Report(node).bad() == ["answer"]


def test_redis_behind_sentinels(tmp_path: Path) -> None:
    """Sentinels, quorum, master and replicas; with sentinels gone it warns, without a quorum more."""
    with RedisSentinel(persistent=True) as group:
        node = node_on(tmp_path, group.url(min_replicas="1"))
        report = Report(node)
        assert (report.status, report.bad(), report.warnings()) == (0, [], [])
        assert report.one("sentinels")["text"].startswith("3 of 3")
        assert report.one("clock")["place"] == f"{HOST}:{group.nodes[0].port}"
        assert report.one("replicas")["text"].startswith("2 connected")
        assert report.one("client")["text"].endswith("names the same masters")
        group.sentinels[0].kill()
        report = Report(node)
        assert report.bad() == []
        assert {"reachable", "sentinels"} <= set(report.warnings())


def test_redis_cluster(tmp_path: Path) -> None:
    """Each master is checked, and the state of the slots."""
    with RedisCluster() as cluster:
        report = Report(node_on(tmp_path, cluster.url()))
    assert (report.bad(), report.level("cluster"), report.level("lease")) == ([], "ok", "ok")
    assert report.one("client")["text"].endswith("names the same masters")
    masters = {f"{HOST}:{node.port}" for node in cluster.nodes[:3]}
    assert {finding["place"] for finding in report.all("clock")} == masters


# memcached.


def test_memcached_that_evicts(tmp_path: Path) -> None:
    """Evictions are a warning; -M is reported."""
    with MemcachedServer() as server:
        node = node_on(tmp_path, server.url())
        report = Report(node)
        assert (report.status, report.level("eviction policy"), report.level("evictions")) == (0, "note", "ok")
        assert "STAT curr_items 0\r\n" in server.ask("stats", end="END\r\n")
        item = b"x" * 900_000
        with socket.create_connection((HOST, server.port), timeout=30) as peer:
            for number in range(60):
                peer.sendall(b"set filler%d 0 0 %d noreply\r\n%b\r\n" % (number, len(item), item))
            peer.sendall(b"mn\r\n")
            assert peer.recv(10) == b"MN\r\n"
        report = Report(node)
        assert {"evictions", "memory"} & set(report.warnings())
        assert report.one("evictions")["values"]["evictions"] > 0
    with MemcachedServer(extra=["-M"]) as server:
        assert Report(node_on(tmp_path, server.url())).level("eviction policy") == "ok"


def test_several_memcached(tmp_path: Path) -> None:
    """The smoke test runs on each; a server that is down is WRONG, since its keys are unavailable."""
    with MemcachedServers(2) as group:
        node = node_on(tmp_path, group.url())
        report = Report(node)
        assert report.status == 0
        places = {f"{HOST}:{server.port}" for server in group.nodes}
        assert {finding["place"] for finding in report.all("lease")} == {None, *places}
        assert [server.ask("stats", end="END\r\n").count("STAT curr_items 0\r\n") for server in group.nodes] == [1, 1]
        group.nodes[1].kill()
        report = Report(node)
        assert report.bad() == ["reachable"]
        assert str(group.nodes[1].port) in report.one("reachable")["text"]


# ZooKeeper.


def _nodes_of(server: ZooKeeperServer, path: str = "/") -> list[str]:
    client = KazooClient(f"{HOST}:{server.port}")
    client.start(30)
    try:
        return sorted(client.get_children(path))
    finally:
        client.stop()
        client.close()


def test_zookeeper_alone(tmp_path: Path) -> None:
    """A single server is a warning; its sessions limit the ttl; the doctor leaves no node behind."""
    with ZooKeeperServer(tick=2000) as server:
        node = node_on(tmp_path, server.url("/some/where"))
        report = Report(node)
        assert (report.bad(), report.warnings()) == ([], ["ensemble"])
        assert report.one("ttl")["values"] == {"ttl": 300, "kept": 40}
        assert report.level("ttl") == "note"
        assert _nodes_of(server) == ["zookeeper"]
        assert Report(node, "--ttl", "60").level("ttl") == "warning"
        assert Report(node, "--ttl", "40").level("ttl") == "ok"
        assert node.run("--ttl", "30", "--", "true").status == 0
        assert Report(node).bad() == []
        assert _nodes_of(server, "/some/where/cronlock") == ["job", "~clock"]


def test_zookeeper_with_a_wrong_password(tmp_path: Path) -> None:
    """Nodes of another user are WRONG, with a remedy."""
    with ZooKeeperServer() as server:
        client = KazooClient(f"{HOST}:{server.port}")
        client.start(30)
        client.create("/cronlock", acl=[make_digest_acl("bob", PASSWORD, all=True)])
        client.stop()
        client.close()
        report = Report(node_on(tmp_path, server.url(login="bob:wrong")))
        assert report.bad() == ["lease"]
        assert "check user and password" in report.one("lease")["text"]
        assert Report(node_on(tmp_path, server.url(login=f"bob:{PASSWORD}"))).bad() == []


def test_zookeeper_ensemble(tmp_path: Path) -> None:
    """Leader and followers are reported; a missing one is a warning."""
    with ZooKeeperEnsemble() as ensemble:
        node = node_on(tmp_path, ensemble.url())
        node.environ["CRONLOCK_KILL_AFTER"] = "3"
        report = Report(node, "--ttl", "10", "--backend-timeout", "3")
        assert report.status == 0
        assert report.one("ensemble")["text"].count("follower") == 2
        ensemble.follower().kill()
        report = Report(node)
        assert (report.bad(), {"reachable", "ensemble"} <= set(report.warnings())) == ([], True)


# Files.


def test_impossible_directories(tmp_path: Path) -> None:
    """A file in the directory's place, and a directory where everyone can remove files."""
    (tmp_path / "leases").write_text("a file")
    assert Report(node_on(tmp_path, f"file://{tmp_path}/leases")).bad() == ["lease"]
    wide = tmp_path / "wide"
    wide.mkdir()
    wide.chmod(0o777)
    assert {"lease", "modes"} == set(Report(node_on(tmp_path, f"file://{wide}")).bad())


def test_files_leave_no_trace(tmp_path: Path) -> None:
    """The directory does not change, and is not created."""
    node = node_on(tmp_path, f"file://{tmp_path}/new/leases")
    assert Report(node).status == 0
    assert not (tmp_path / "new").exists()
    assert node.run("--", "true").status == 0
    assert Report(node).status == 0
    assert sorted(path.name for path in (tmp_path / "new" / "leases").iterdir()) == ["job.lock"]
