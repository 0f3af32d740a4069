"""Redis behind Sentinel and Redis Cluster: finding the master, losing it, and slots that move."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from cronlock.engines.redis.doctor import ACL_RULE
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, STATE_LOST, Watermark
from cronlock.testing import StoreContract, StoreHooks, fresh_key, granted, make_claim, make_ending, refused
from labs.impostors import listening
from labs.servers.process import HOST, Server, eventually, free_port, need
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer
from labs.servers.tls import query, tls

from ..faults import URLs
from .nodes import PASSWORD, RedisHooks, full_cycle, opened, unavailable
from .test_resp import saying, written


@pytest.fixture(scope="module")
def sentinel() -> Iterator[RedisSentinel]:
    """A master with two replicas and three sentinels."""
    with RedisSentinel(password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three masters."""
    with RedisCluster() as running:
        yield running


class TestContract(StoreContract):
    """The contract over redis+sentinel:// and redis+cluster://."""

    histories = 4

    @pytest.fixture(params=["sentinel", "cluster"])
    def hooks(self, request: pytest.FixtureRequest) -> StoreHooks:
        """The sentinels, or the nodes, each with its slots."""
        return RedisHooks(request.getfixturevalue(request.param).url())


class TestSentinel:
    """redis+sentinel://: the master is whoever the sentinels say."""

    def test_full_cycle(self, sentinel: RedisSentinel) -> None:
        """Every step works on the master, in any database, and counts replicas."""
        full_cycle(opened(sentinel.url()))
        full_cycle(opened(sentinel.url(5, prefix="five")))
        full_cycle(opened(sentinel.url(min_replicas="2")))
        with sentinel.master().client(db=5) as client:
            assert client.keys("five:*")

    def test_first_sentinel_down_or_hung(self, sentinel: RedisSentinel) -> None:
        """A sentinel that is missing or hangs costs its share of the time, not the answer."""
        first = sentinel.sentinels[0]
        url = sentinel.url()
        full_cycle(opened(url.replace(f":{first.port},", f":{free_port()},")))
        with first.paused():
            full_cycle(opened(url, timeout=5))

    def test_unknown_service(self, sentinel: RedisSentinel) -> None:
        """A service that no sentinel knows is named as such."""
        assert "no service 'jbos'" in unavailable(opened(sentinel.url().replace("/jobs", "/jbos")))

    def test_not_a_sentinel(self, sentinel: RedisSentinel) -> None:
        """A plain Redis where a sentinel should be is no sentinel."""
        port = sentinel.master().port
        text = unavailable(opened(f"redis+sentinel://{HOST}:{port}/jobs?sentinel_password={quote(PASSWORD, safe='')}"))
        assert "not a Sentinel; use redis://, or check the port" in text

    def test_no_server(self) -> None:
        """No sentinel at all is unavailable, and the reason is the last one's."""
        url = f"redis+sentinel://{HOST}:{free_port()},{HOST}:{free_port()}/jobs"
        assert "Connection refused" in unavailable(opened(url))

    def test_failover(self) -> None:
        """After a failover the next request finds the new master; what it forgot is noticed; fences grow."""
        with RedisSentinel() as group:
            backend = opened(group.url(), timeout=20)
            ours = make_claim(fresh_key(), ttl=120)
            grant = granted(backend.acquire(ours))
            kept = group.master()
            with kept.client() as client:
                client.wait(2, 10000)
                # The replicas miss every grant from here on: nothing is even in flight to them.
                for node in group.nodes:
                    if node is not kept:
                        node.pause()
                client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            forgotten = granted(backend.acquire(make_claim(fresh_key(), ttl=5)))
            kept.pause()
            for node in group.nodes:
                if node is not kept:
                    node.resume()
            hasty = opened(group.url(), timeout=1)
            with pytest.raises(BackendUnavailable):
                hasty.renew(grant)
            group.wait_new_master(kept)
            assert opened(group.url()).renew(grant), "the new master knows the lease that was replicated"
            watermark = Watermark(forgotten.fence or 0, 0, None)
            again = make_claim(forgotten.claim.key, ttl=5, watermark=watermark)
            refused(opened(group.url()).acquire(again), STATE_LOST)
            watermark.loss_noticed_ago = 5
            later = granted(opened(group.url()).acquire(again))
            assert (later.fence or 0) > (forgotten.fence or 0)
            refused(opened(group.url()).acquire(make_claim(ours.key)), HELD)
            kept.resume()
            # As a sentinel makes it, ten seconds later.
            with kept.client() as client:
                client.replicaof(HOST, group.master().port)
            with pytest.raises(BackendUnavailable, match="read-only replica"):
                backend.renew(grant)
            assert backend.renew(grant), "the backend of before asks for the master anew"
            assert backend.release(grant, make_ending(), keep_hold=False)


def _is_up(backend: Leases) -> bool:
    try:
        backend.acquire(make_claim(fresh_key()))
    except BackendUnavailable:
        return False
    return True


class GuardedSentinel(Server):
    """One sentinel with TLS, a user and a password of its own, for one master."""

    def __init__(self, master: RedisServer, password: str) -> None:
        super().__init__()
        files = tls()
        self._configuration = self.directory / "sentinel.conf"
        self._configuration.write_text(
            f"bind {HOST}\nport 0\ntls-port {self.port}\ndir {self.directory}\ntls-replication yes\n"
            f"tls-cert-file {files.cert}\ntls-key-file {files.key}\ntls-ca-cert-file {files.ca}\n"
            f"tls-auth-clients optional\nuser asker on >{password} +sentinel|masters\nuser default off\n"
            f"sentinel monitor jobs {HOST} {master.port} 1\n"
        )
        self._password = password

    def command(self) -> list[str]:
        """Return the command line of redis-sentinel."""
        return [need("redis-sentinel", "redis-sentinel"), str(self._configuration)]

    def is_ready(self) -> bool:
        """Whether it names its master."""
        try:
            with redis.Redis(
                HOST, self.port, username="asker", password=self._password, ssl=True, ssl_ca_certs=str(tls().ca)
            ) as client:
                return bool(client.sentinel_masters())
        except redis.RedisError:
            return False


class TestGuardedSentinel:
    """Sentinels that want TLS and a login of their own."""

    def test_all_of_it(self) -> None:
        """tls=1 counts for sentinels and master; sentinel_user and sentinel_password for the former.

        The sentinels' user needs to list the masters and no more.
        """
        with RedisServer(tls=True) as master, GuardedSentinel(master, "sentinel-secret") as sentinel:
            address = f"redis+sentinel://{HOST}:{sentinel.port}/jobs"
            params = {"tls": "1", **tls().params()}
            login = {"sentinel_user": "asker", "sentinel_password": "sentinel-secret"}
            full_cycle(opened(address + query({**params, **login})))
            text = unavailable(opened(address + query({**params, **login, "sentinel_password": "sentinel-wrong"})))
            assert "authentication failed" in text
            assert "sentinel-wrong" not in text
            assert "wants a password" in unavailable(opened(address + query(params)))
            assert "add tls=1" in unavailable(opened(address))
            strangers = {"tls": "1", **login}
            assert "certificate" in unavailable(opened(address + query(strangers))).lower()
            with RedisServer() as plain:
                address = f"redis+sentinel://{HOST}:{plain.port}/jobs"
                assert "leave out tls=1" in unavailable(opened(address + query(params), timeout=2))


class TestCluster:
    """redis+cluster://: each key on the master of its slot."""

    def test_full_cycle(self, cluster: RedisCluster) -> None:
        """Every step works for keys of all masters."""
        backend = opened(cluster.url(prefix="cycle"))
        keys = [f"job-{number}" for number in range(12)]
        assert len({cluster.node_of(f"cycle:{key}").port for key in keys}) == 3
        grants = [granted(backend.acquire(make_claim(key))) for key in keys]
        assert all(backend.renew(grant) for grant in grants)
        assert sorted(backend.keys()) == sorted(keys)
        assert all(backend.release(grant, make_ending(), keep_hold=False) for grant in grants)
        full_cycle(backend)

    def test_braces(self, cluster: RedisCluster) -> None:
        """Keys with braces find the slot that the servers find."""
        backend = opened(cluster.url(prefix="braces"))
        for key in ("{}a", "{a}b", "}{", "{{a}}", "a{b", "{"):
            granted(backend.acquire(make_claim(key)))
            with cluster.node_of(f"braces:{key}").client() as client:
                assert client.exists(f"braces:{key}")

    def test_one_seed_is_enough(self, cluster: RedisCluster) -> None:
        """One node of the cluster leads to the others, past those that are not there."""
        url = f"redis+cluster://{HOST}:{free_port()},{HOST}:{cluster.nodes[2].port}"
        full_cycle(opened(url))

    def test_hung_seed(self, cluster: RedisCluster) -> None:
        """A node that hangs costs its share of the time; keys of others are served."""
        key = next(f"k{n}" for n in range(99) if cluster.node_of(f"cronlock:k{n}") is cluster.nodes[2])
        with cluster.nodes[0].paused():
            granted(opened(cluster.url(), timeout=5).acquire(make_claim(key)))

    def test_moved_slot(self, cluster: RedisCluster) -> None:
        """A slot that moves takes its leases along, also in the middle of it."""
        backend = opened(cluster.url(prefix="moved"))
        ours = make_claim(fresh_key())
        grant = granted(backend.acquire(ours))
        name = f"moved:{ours.key}"
        old = cluster.node_of(name)
        new = next(node for node in cluster.nodes if node is not old)
        slot = key_slot(name.encode())
        with old.client() as source, new.client() as target:
            names = {client: client.execute_command("CLUSTER MYID") for client in (source, target)}
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
            source.execute_command("MIGRATE", HOST, new.port, name, 0, 10000)
            refused(backend.acquire(make_claim(ours.key)), HELD)
            assert backend.renew(grant), "the old node says ASK"
            for client in (target, source):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])
            assert backend.renew(grant), "the old node says MOVED"
            assert backend.release(grant, make_ending(), keep_hold=False)
            assert target.exists(name)

    def test_plain_url(self, cluster: RedisCluster) -> None:
        """A plain URL for a node of a cluster says which one to use."""
        texts = []
        for number in range(12):
            backend = opened(f"redis://{HOST}:{cluster.nodes[0].port}")
            try:
                backend.acquire(make_claim(f"plain-{number}"))
            except BackendUnavailable as error:
                texts.append(str(error))
        assert texts
        assert all("use redis+cluster://" in text for text in texts)

    def test_no_cluster(self) -> None:
        """A server without cluster mode is reported as such."""
        with RedisServer() as server:
            assert "cluster support disabled" in unavailable(opened(f"redis+cluster://{HOST}:{server.port}"))

    def test_guarded_cluster(self) -> None:
        """A node with TLS and a user who may do no more than the manual says; a cluster that is down."""
        users = {"least": f"on >{PASSWORD} {ACL_RULE} +cluster|slots +asking +wait"}
        extra = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port())]
        with RedisServer(tls=True, users=users, extra=extra) as server:
            login = f"least:{quote(PASSWORD, safe='')}"
            url = f"redis+cluster://{login}@{HOST}:{server.port}" + query({"tls": "1", **tls().params()})
            assert "no slots yet" in unavailable(opened(url))
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8000)
                assert "cluster is down" in unavailable(opened(url))
                client.execute_command("CLUSTER ADDSLOTSRANGE", 8001, 16383)
                eventually(lambda: _is_up(opened(url)), "the cluster is up")
            full_cycle(opened(url))


def discovery_node(said: Callable[[], bytes]) -> Callable[[socket.socket], None]:
    """Return a server that lets everyone in and tells whoever asks for the others what `said` returns."""

    def serve(connection: socket.socket) -> None:
        while request := connection.recv(65536):
            if b"MASTERS" in request or b"SLOTS" in request:
                connection.sendall(said())
                return
            # An older redis-py asks for INFO before; all send CLIENT SETINFO.
            connection.sendall(written(b"cluster_enabled:1") if b"\nINFO\r" in request else b"+OK\r\n")

    return serve


DISCOVERY = {"redis+sentinel": "/jobs", "redis+cluster": ""}
HOSTS = st.sampled_from([HOST.encode(), b"", b"?", b"\0", b"x" * 80, b"a..b", b"\xff", b"\x1b[2J", None])
PORTS = st.sampled_from([0, 1, -1, 16383, 70000, 2**40, b"1", b"x", None])
PARTS = st.recursive(HOSTS | PORTS, lambda inner: st.lists(inner, max_size=4), max_leaves=10)
SLOTS = st.lists(st.tuples(PORTS, PORTS, st.tuples(HOSTS, PORTS).map(list)).map(list), max_size=3)
WHOLE = st.tuples(HOSTS, PORTS).map(lambda address: [[0, 16383, list(address)]])
MASTERS = st.tuples(HOSTS, PORTS, st.sampled_from([b"master", b"slave", b"s_down,master", b""])).map(
    lambda told: [[b"name", b"jobs", b"ip", told[0], b"port", told[1], b"flags", told[2], b"num-other-sentinels", b"2"]]
)


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_hostile_guide(scheme: str) -> None:
    """Whatever a sentinel or a node says of the others, an acquire is unavailable at worst."""
    said = b""

    @settings(max_examples=200)
    @given(PARTS | SLOTS | WHOLE | MASTERS)
    def play(answer: object) -> None:
        nonlocal said
        said = written(answer)
        assert unavailable(opened(f"{scheme}://{HOST}:{port}{DISCOVERY[scheme]}", timeout=10)).isprintable()

    with listening(discovery_node(lambda: said)) as port:
        play()


@pytest.mark.parametrize("scheme", DISCOVERY)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unexpected reply"),
        (b"", "closed the connection; if this port speaks TLS"),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'secret'\r\n", "does not know the command"),
        (b"-WRONGPASS secret is wrong\r\n", "authentication failed: check user and password"),
        (b"-DENIED Redis is running in protected mode because\r\n", "protected mode"),
        (b"+OK\r\n-NOAUTH Authentication required.\r\n", "authentication failed: check user and password"),
        (b"-LOADING Redis is loading the dataset in memory\r\n" * 9, "still loading"),
        (b"-ERR max number of clients reached\r\n", "maxclients"),
        (b"+OK\r\n" * 9, "unexpected reply"),
        (b"*1\r\n" * 100_000, ""),
        (b"$99999999999999999999\r\n", ""),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_guide_of_another_kind(scheme: str, answer: bytes, expected: str) -> None:
    """A malformed reply of a sentinel or node is reported in one line, without passwords and control characters."""
    login = ":secret@" if scheme == "redis+cluster" else ""
    params = "" if login else "?sentinel_password=secret"
    with listening(saying(answer)) as port:
        text = unavailable(opened(f"{scheme}://{login}{HOST}:{port}{DISCOVERY[scheme]}{params}"))
    assert expected in text
    assert f"{HOST}:{port}" in text
    assert "secret" not in text
    assert text.isprintable()


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_refused_guidance(scheme: str) -> None:
    """A discovery node that lets in but does not tell is quoted, but for the password and control characters."""
    login = ":secret@" if scheme == "redis+cluster" else ""
    path = DISCOVERY[scheme] + ("" if login else "?sentinel_password=secret")
    said = b""
    with listening(discovery_node(lambda: said)) as port:
        said = b"-NOPERM User secret\x1b[2J has no permissions\r\n"
        text = unavailable(opened(f"{scheme}://{login}{HOST}:{port}{path}"))
        assert "see the ACL rule" in text
        assert text.endswith("(NOPERM User ***?[2J has no permissions)")
        said = b"-ERR secret\x1b[2J\r\n"
        assert unavailable(opened(f"{scheme}://{login}{HOST}:{port}{path}")).endswith("the server refused: ***?[2J")


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_no_request_is_sent_twice(scheme: str) -> None:
    """Three discovery that hang are given up one after the other, within the request's time."""
    asked: list[bytes] = []

    def hang(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.recv(65536)

    with listening(hang) as port:
        addresses = ",".join([f"{HOST}:{port}"] * 3)
        assert "no answer in time" in unavailable(opened(f"{scheme}://{addresses}{DISCOVERY[scheme]}", timeout=3))
    assert len(asked) == 3


STAYS = """
import os, sys, threading
from cronlock.engines.registry import open_backend
from cronlock.lease.vocabulary import Claim

backend = open_backend(sys.argv[1], 20)
counts = [len(os.listdir("/proc/self/fd"))]
backend.acquire(Claim(key="stays", owner="o", host="h", pid=1, program="true", ttl=10, hold=0))
counts.append(len(os.listdir("/proc/self/fd")))
backend.close()
counts.append(len(os.listdir("/proc/self/fd")))
print(threading.active_count(), *[count - counts[0] for count in counts])
"""


def test_nothing_stays_behind(sentinel: RedisSentinel, cluster: RedisCluster) -> None:
    """Once the master is found, no connection but ours to it stays, and no thread."""
    for url in (sentinel.url(), cluster.url()):
        told = subprocess.run([sys.executable, "-c", STAYS, url], stdout=subprocess.PIPE, text=True, check=True)
        assert told.stdout.split() == ["1", "0", "1", "0"]


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_without_the_package(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py these URLs, and no others, are refused in one line that names it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in ("ensemble", "discovery"):
        monkeypatch.delitem(sys.modules, f"cronlock.engines.redis.{name}", raising=False)
    with pytest.raises(ConfigError, match="pip install redis"):
        open_backend(f"{scheme}://{HOST}{DISCOVERY[scheme]}", 1)
    open_backend(f"redis://{HOST}", 1)


class TestURLs(URLs):
    """URLs that are refused."""

    bad_url = (
        ("redis+sentinel:///jobs", "no host"),
        ("redis+sentinel://a", "no service"),
        ("redis+sentinel://a/", "no service"),
        ("redis+sentinel://a/jobs/x", "must be a number"),
        ("redis+sentinel://a/jobs?sentinel_user=x", "sentinel_password"),
        ("redis+sentinel://a/jobs?tls=yes", "tls=1"),
        ("redis+sentinel://a/jobs?ca=/x", "add tls=1"),
        ("redis+sentinel://a/jobs?x=1", "unknown parameter"),
        ("redis+cluster://", "no host"),
        ("redis+cluster://a/1", "no databases"),
        ("redis+cluster://a?sentinel_password=x", "unknown parameter"),
        ("redis+cluster://user@a", "without a password"),
    )
