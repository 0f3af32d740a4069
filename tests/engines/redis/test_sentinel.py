"""Redis behind Sentinel: finding the master, losing it, and sentinels that guard themselves."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import redis

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD, STATE_LOST, Watermark
from cronlock.testing import fresh_key, granted, make_claim, make_ending, refused
from labs.servers.process import HOST, Server, free_port, need
from labs.servers.redis import RedisSentinel, RedisServer
from labs.servers.tls import query, tls

from .nodes import PASSWORD, full_cycle, opened, unavailable


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
        assert "connection refused" in unavailable(opened(url))

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
                backend.acquire(make_claim(fresh_key()))
            assert backend.renew(grant), "the backend of before asks for the master anew"
            assert backend.release(grant, make_ending(), keep_hold=False)

    def test_a_former_master_that_does_not_know(self) -> None:
        """A renewal goes to the master that is named now, which has not got the lease."""
        with RedisSentinel() as group, RedisServer() as other:
            backend = opened(group.url(), timeout=20)
            grant = granted(backend.acquire(make_claim(fresh_key(), ttl=120)))
            assert backend.renew(grant)
            for sentinel in group.sentinels:
                with sentinel.client() as client:
                    client.execute_command("SENTINEL", "REMOVE", "jobs")
                    client.execute_command("SENTINEL", "MONITOR", "jobs", HOST, other.port, 1)
            assert group.nodes[0].replication()["role"] == "master"
            assert not backend.renew(grant)

    def test_no_sentinel_at_a_renewal(self, sentinel: RedisSentinel) -> None:
        """Then the master is the one of before."""
        backend = opened(sentinel.url(), timeout=8)
        grant = granted(backend.acquire(make_claim(fresh_key(), ttl=120)))
        for one in sentinel.sentinels:
            one.pause()
        try:
            assert backend.renew(grant)
        finally:
            for one in sentinel.sentinels:
                one.resume()
        assert backend.release(grant, make_ending(), keep_hold=False)

    def test_no_sentinel_and_no_replicas_at_a_renewal(self) -> None:
        """What the sentinels took of the time is not waited for replicas in: the reason is theirs."""
        with RedisSentinel() as group:
            backend = opened(group.url(min_replicas="2"), timeout=12)
            grant = granted(backend.acquire(make_claim(fresh_key(), ttl=120)))
            for one in (*group.sentinels, *group.nodes[1:]):
                one.pause()
            try:
                with pytest.raises(BackendUnavailable, match="fewer than min_replicas=2"):
                    backend.renew(grant)
            finally:
                for one in (*group.sentinels, *group.nodes[1:]):
                    one.resume()


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
