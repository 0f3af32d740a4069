"""Redis Cluster: each key on the master of its slot."""

from __future__ import annotations

from urllib.parse import quote

from redis.crc import key_slot

from cronlock.engines.redis.doctor import ACL_RULE
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD
from cronlock.testing import fresh_key, granted, make_claim, make_ending, refused
from labs.servers.process import HOST, eventually, free_port
from labs.servers.redis import RedisCluster, RedisServer
from labs.servers.tls import query, tls

from .nodes import PASSWORD, full_cycle, is_up, opened, unavailable


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
                eventually(lambda: is_up(opened(url)), "the cluster is up")
            full_cycle(opened(url))
