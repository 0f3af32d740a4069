"""``cronlock doctor`` from outside, on every backend: findings on real servers, and no trace left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from cronlock.engines.redis.doctor import ACL_RULE
from labs.impostors import impostor
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import HOST
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer
from labs.servers.tls import tls
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from .backends import RECORDING, VARIOUS, WITH_SERVER, Backend, on
from .looking import call, shown
from .support import Node
from .test_commands import end_run, hold

_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "doctor.schema.json").read_text())
_PASSWORD = "not-to-be-shown"
_STATUSES = {"ok": 0, "warning": 1, "bad": 2}


class Report:
    """The doctor's JSON, checked against the schema."""

    def __init__(self, node: Node, *words: object) -> None:
        self.status, self.out, err = call(node, "doctor", "--json", *words)
        assert err == ""
        self.document: dict[str, Any] = json.loads(self.out)
        jsonschema.validate(self.document, _SCHEMA)
        assert self.status == _STATUSES[self.document["level"]]
        self.findings: list[dict[str, Any]] = self.document["findings"]
        assert _PASSWORD not in self.out

    def one(self, name: str) -> dict[str, Any]:
        """Return the one finding of this name."""
        (found,) = self.all(name)
        return found

    def all(self, name: str) -> list[dict[str, Any]]:
        """Return the findings of this name, one for each server."""
        return [finding for finding in self.findings if finding["name"] == name]

    def level(self, name: str) -> str:
        """Return the level of the one finding of this name."""
        return str(self.one(name)["level"])

    def bad(self) -> list[str]:
        """Return the names of WRONG findings."""
        return [finding["name"] for finding in self.findings if finding["level"] == "bad"]

    def warnings(self) -> list[str]:
        """Return the names of warnings."""
        return [finding["name"] for finding in self.findings if finding["level"] == "warning"]


def node_on(tmp_path: Path, url: str) -> Node:
    """Return a node whose backend is named in a configuration file for this user alone."""
    node = Node(tmp_path, url)
    path = tmp_path / "cronlock.conf"
    path.touch(0o600)
    path.write_text(f"CRONLOCK_BACKEND={url}\n")
    node.environ["CRONLOCK_CONFIG"] = str(path)
    del node.environ["CRONLOCK_BACKEND"]
    return node


# On every backend.


@RECORDING
def test_a_healthy_backend(backend: Backend) -> None:
    """The smoke test passes, nothing is wrong, and other keys and the list of keys do not change."""
    node = backend.node
    assert node.run("--min-hold", 600, "--", "true", key="mine").status == 0
    holder = hold(node)
    before = shown(node, "mine", "job")
    report = Report(node)
    after = shown(node, "mine", "job")
    assert report.bad() == []
    assert report.level("lease") == "ok"
    assert report.document["backend"].startswith(report.document["backend"].partition(":")[0] + "://")
    assert "prefix" not in report.document["backend"]
    for key in ("mine", "job"):
        assert {name: before[key][name] for name in ("state", "run", "last")} == {
            name: after[key][name] for name in ("state", "run", "last")
        }
    end_run(node, holder)
    status, out, _ = call(node, "status")
    assert status == 64 or {line.split()[0] for line in out.splitlines()[1:]} == {"job", "mine"}


@VARIOUS
def test_lines_for_people(backend: Backend) -> None:
    """Each finding is a line with its remedy below, the last line sums up, and a pipe gets no colors."""
    status, out, err = call(backend.node, "doctor", "--ttl", "2s")
    lines = out.splitlines()
    assert (status, err) == (1, "")
    assert all(line.startswith(("ok ", "note ", "WARNING ", " ")) for line in lines[:-1])
    (number,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["WARNING", "kill-after"]]
    assert lines[number + 1].split()[:3] == ["do:", "set", "--kill-after"]
    warnings = sum(line.startswith("WARNING ") for line in lines)
    assert lines[-1] == f"{warnings} warnings"
    assert "\x1b" not in out


@VARIOUS
def test_a_ttl_that_the_backend_cannot_keep(backend: Backend) -> None:
    """It is WRONG and names the range; the other checks run anyway."""
    report = Report(backend.node, "--ttl", "0.5s")
    assert report.level("ttl") == "bad"
    assert report.one("ttl")["remedy"].startswith("set --ttl to ")
    assert report.level("lease") == "ok"


@on("sqs")
def test_a_backend_without_records(backend: Backend) -> None:
    """The smoke test passes without records, and does not disturb a run in progress."""
    node = backend.node
    holder = hold(node)
    report = Report(node)
    assert (report.bad(), report.level("lease"), report.level("records")) == ([], "ok", "note")
    assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
    end_run(node, holder)


@VARIOUS
def test_two_at_once(backend: Backend) -> None:
    """Two doctors on one machine do not report each other's lease."""
    words = [sys.executable, "-m", "cronlock", "doctor", "--json"]
    assert backend.node.run("--", "true").status == 0
    both = [backend.node.spawn(words) for _ in range(2)]
    for started in both:
        assert started.wait() in (0, 1)
        levels = {finding["name"]: finding["level"] for finding in json.loads(started.out)["findings"]}
        assert levels["lease"] == "ok"


@WITH_SERVER
def test_a_server_that_hangs(backend: Backend) -> None:
    """One finding after the time limit of a request, and no further requests."""
    with backend.server.paused():
        began = time.monotonic()
        report = Report(backend.node, "--backend-timeout", "1s")
        took = time.monotonic() - began
    assert report.bad() == ["answer"]
    assert "no answer in time" in report.one("answer")["text"]
    # Each further request would have cost another second of it.
    assert took < 30


# Schemes whose URL needs a user or a table have their own tests.
@pytest.mark.parametrize("scheme", ["redis", "memcached", "zookeeper", "redis+sentinel", "redis+cluster", "etcd"])
def test_no_server(tmp_path: Path, scheme: str) -> None:
    """A refused connection and an unknown name are reported with the address."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        address = f"{HOST}:{listener.getsockname()[1]}"
        report = Report(node_on(tmp_path, f"{scheme}://{address}/service"[: None if "sent" in scheme else -8]))
    assert report.bad() == ["reachable"]
    assert address in report.one("reachable")["text"]
    report = Report(node_on(tmp_path, f"{scheme}://no-such-host.invalid{'/service' * ('sent' in scheme)}"))
    assert report.bad() == ["reachable"]
    assert "no-such-host.invalid" in report.one("reachable")["text"]


@pytest.fixture
def web_server() -> Iterator[int]:
    """Give the port of a server that answers everything as a web server does, and then hangs up."""
    with impostor(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", hangs_up=True) as port:
        yield port


@pytest.mark.parametrize("scheme", ["redis", "memcached", "zookeeper", "redis+sentinel", "redis+cluster", "rediss"])
def test_a_server_with_another_protocol(tmp_path: Path, web_server: int, scheme: str) -> None:
    """The wrong port is one finding, not a traceback."""
    path = "/service" if scheme == "redis+sentinel" else ""
    report = Report(node_on(tmp_path, f"{scheme}://{HOST}:{web_server}{path}"), "--backend-timeout", "2s")
    assert report.bad() in (["answer"], ["certificate"])


# The configuration.


def test_no_backend_is_configured(tmp_path: Path) -> None:
    """The default guards this machine only: the doctor warns, and tests it."""
    node = Node(tmp_path, "")
    del node.environ["CRONLOCK_BACKEND"]
    report = Report(node)
    assert (report.status, report.warnings()) == (1, ["backend"])
    assert "this machine only" in report.one("backend")["text"]
    assert not node.state.exists(), "the directory was not there before"


@pytest.mark.parametrize(
    "url", ["redis://h/0?nope=1", "carrier-pigeon://h", "file://h/x", f"redis://u:{_PASSWORD}@h:1/?x=@", "nonsense"]
)
def test_a_bad_backend_url(tmp_path: Path, url: str) -> None:
    """A bad URL is WRONG, with file and line."""
    node = node_on(tmp_path, url)
    report = Report(node)
    assert report.bad() == ["backend"]
    text = report.one("backend")["text"]
    assert url.startswith(("file://h", "nonsense")) or "://" in text


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    """A bad line is a finding with status 2; a bad option is a usage error."""
    node = node_on(tmp_path, "redis://h")
    Path(node.environ["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BAKEND=redis://h\n")
    report = Report(node)
    assert report.bad() == ["configuration"]
    assert "cronlock.conf:1: " in report.one("configuration")["text"]
    assert report.document["backend"] is None
    Path(node.environ["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BACKEND=redis://h\n")
    for words in (["--ttl", "soon"], ["--nonsense"], ["KEY"]):
        status, out, err = call(node, "doctor", *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)


def test_a_password_that_others_can_read(tmp_path: Path) -> None:
    """In a file for everyone, or on the command line; the password itself is never shown."""
    with RedisServer(password=_PASSWORD, persistent=True) as server:
        node = node_on(tmp_path, server.url())
        report = Report(node)
        assert (report.status, report.warnings()) == (0, [])
        Path(node.environ["CRONLOCK_CONFIG"]).chmod(0o644)
        assert Report(node).warnings() == ["configuration"]
        node.environ["CRONLOCK_CONFIG"] = os.devnull
        assert Report(node, "--backend", server.url()).warnings() == ["password"]
        status, out, err = call(node, "doctor", "--backend", server.url())
        assert status == 1
        assert _PASSWORD not in out + err


def test_sources_of_settings(place_on_redis: Node) -> None:
    """Each setting is named with its source."""
    place_on_redis.environ["CRONLOCK_KILL_AFTER"] = "3s"
    text = Report(place_on_redis, "--ttl", "60").one("settings")["text"]
    assert "backend from CRONLOCK_BACKEND" in text
    assert "kill-after from CRONLOCK_KILL_AFTER" in text
    assert "ttl from --ttl" in text


@pytest.fixture
def place_on_redis(node: Node) -> Node:
    """Give a node on a Redis without persistence."""
    return node


def test_a_state_directory_that_cannot_be_written(node: Node) -> None:
    """The rule about state loss is off: it warns."""
    node.state.write_text("not a directory")
    report = Report(node)
    assert report.level("state directory") == "warning"
    assert "unnoticed" in report.one("state directory")["text"]
    node.state.unlink()
    node.state.mkdir(0o777)
    node.state.chmod(0o777)
    assert Report(node).level("state directory") == "bad"


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
    with RedisServer(password=_PASSWORD) as server:
        url = f"redis://{f':{secret}@' if secret is not None else ''}{HOST}:{server.port}"
        report = Report(node_on(tmp_path, url))
    assert report.bad() == ["credentials"]


class _Managed(RedisServer):
    """A Redis with users; `client` is of one who may do everything."""

    def __init__(self, **rules: str) -> None:
        users = {name: f"on >{_PASSWORD} {rule}" for name, rule in rules.items()}
        super().__init__(users={**users, "root": "on >root ~* &* +@all", "default": "off"}, persistent=True)

    def client(self, **options: Any) -> Any:
        """Return redis-py's client."""
        return super().client(**{"username": "root", "password": "root", **options})


def test_redis_users(tmp_path: Path) -> None:
    """The manual's ACL rule suffices; a missing right is named."""
    without = {name: ACL_RULE.replace(f" +{name}", "") for name in ("hset", "time", "eval", "pexpire", "publish")}
    keys = ACL_RULE.replace("~cronlock:*", "~other:*")
    with _Managed(least=ACL_RULE, keys=keys, **without) as server:
        report = Report(node_on(tmp_path, server.url(user="least", password=_PASSWORD)))
        assert (report.status, report.bad()) == (0, [])
        assert report.level("credentials") == "ok"
        assert report.all("notifications") == []
        del without["publish"]
        report = Report(node_on(tmp_path, server.url(user="publish", password=_PASSWORD)))
        assert (report.bad(), report.level("notifications")) == ([], "note")
        for name in without:
            report = Report(node_on(tmp_path, server.url(user=name, password=_PASSWORD)))
            assert report.bad() == ["permissions"]
            assert report.one("permissions")["text"] == f"this user lacks +{name}"
            assert report.one("permissions")["remedy"].endswith(ACL_RULE)
        report = Report(node_on(tmp_path, server.url(user="keys", password=_PASSWORD)))
        assert "keys" in report.one("permissions")["text"]
        report = Report(node_on(tmp_path, server.url(3, user="least", password=_PASSWORD)))
        assert report.one("permissions")["text"] == "this user lacks +select"
        with server.client() as client:
            assert client.keys("*") == []


def test_redis_as_a_managed_service(tmp_path: Path) -> None:
    """Without INFO, CONFIG, SCAN and PING there are notes, and one warning about the list of keys."""
    rule = "~* +@all -info -config -scan -ping -time"
    with _Managed(app=f"{rule} +time") as server:
        node = node_on(tmp_path, server.url(user="app", password=_PASSWORD))
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
        group.sentinels[0].kill()
        report = Report(node)
        assert report.bad() == []
        assert {"reachable", "sentinels"} <= set(report.warnings())


def test_redis_cluster(tmp_path: Path) -> None:
    """Each master is checked, and the state of the slots."""
    with RedisCluster() as cluster:
        report = Report(node_on(tmp_path, cluster.url()))
    assert (report.bad(), report.level("cluster"), report.level("lease")) == ([], "ok", "ok")
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
        client.create("/cronlock", acl=[make_digest_acl("bob", _PASSWORD, all=True)])
        client.stop()
        client.close()
        report = Report(node_on(tmp_path, server.url(login="bob:wrong")))
        assert report.bad() == ["lease"]
        assert "check user and password" in report.one("lease")["text"]
        assert Report(node_on(tmp_path, server.url(login=f"bob:{_PASSWORD}"))).bad() == []


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


def test_run_does_not_import_the_doctor(node: Node) -> None:
    """A run does not import the doctor."""
    line = [sys.executable, "-X", "importtime", *node.line("--", "true")[1:]]
    done = subprocess.run(line, env=node.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "cronlock.run.job" in done.stderr
    for name in ("doctor", "cronlock.doctor.findings", "cronlock.doctor.probe", "cronlock.doctor.host", "reaching"):
        assert name not in done.stderr
