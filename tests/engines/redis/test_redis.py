"""Redis, one server: its ways in, what it refuses, and what it costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from cronlock.engines.redis.doctor import ACL_RULE
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, STATE_LOST, Watermark
from cronlock.testing import StoreContract, StoreHooks, fresh_key, granted, make_claim, refused
from labs.servers.process import HOST, eventually
from labs.servers.redis import RedisServer
from labs.servers.tls import query, tls

from ..faults import Costs, Doubles, StoreFaults, URLs
from .nodes import PASSWORD, PlainHooks, RedisHooks, full_cycle, opened, unavailable


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    """One server with TLS."""
    with RedisServer(tls=True, password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def closed_server() -> Iterator[RedisServer]:
    """One server with a password, and with ACL users who may do no more than needed, or less."""
    users = {
        "least": f"on >{PASSWORD} {ACL_RULE}",
        "numbered": f"on >{PASSWORD} {ACL_RULE} +select",
        "blind": f"on >{PASSWORD} {ACL_RULE} -info",
        "reader": f"on >{PASSWORD} ~* +time +exists +hmget",
        "writer": f"on >{PASSWORD} {ACL_RULE} -hset",
    }
    with RedisServer(password=PASSWORD, users=users) as running:
        yield running


class TestPlain(StoreContract, StoreFaults, Doubles, Costs, URLs):
    """The contract over redis://, and all that can go wrong on the way."""

    bad_url = (
        ("redis://", "no host"),
        ("redis://a,b", "several hosts"),
        ("redis://a/x", "must be a number"),
        ("redis://a/1/2", "must be a number"),
        ("redis://a/-1", "must be a number"),
        ("redis://user@a", "without a password"),
        ("redis://a?color=red", "unknown parameter"),
        ("redis://a?db=1", "unknown parameter"),
        ("redis://a?prefix=a:b", "prefix"),
        ("redis://a?ca=/x", "rediss://"),
        ("redis://a?min_replicas=x", "must be a number"),
        ("rediss://a?ca=/nowhere/ca.pem", "TLS files"),
        ("redis+unix://", "no path of a socket"),
        ("redis+unix://host/path", "no path of a socket"),
        ("redis+unix:///path?db=x", "must be a number"),
    )

    @pytest.fixture
    def hooks(self, server: RedisServer) -> StoreHooks:
        """The plain server, database 0."""
        return PlainHooks(server)


class TestOtherWays(StoreContract):
    """The contract over a Unix socket and in database 9, as a user with no more rights than need be, and over TLS."""

    histories = 4

    @pytest.fixture(params=["unix", "least", "tls"])
    def hooks(
        self,
        request: pytest.FixtureRequest,
        server: RedisServer,
        closed_server: RedisServer,
        tls_server: RedisServer,
    ) -> StoreHooks:
        """One way in."""
        urls = {"unix": server.unix_url(db="9"), "least": closed_server.url(user="least"), "tls": tls_server.url()}
        return RedisHooks(urls[request.param])


class TestWaysIn:
    """Each kind of URL reaches its server, and a wrong one says what to do."""

    def test_database(self, server: RedisServer) -> None:
        """A path is the number of the database, and nothing lands in another."""
        full_cycle(opened(server.url(7, prefix="seven")))
        full_cycle(opened(server.unix_url(db="3", prefix="three")))
        for number, prefix in ((7, "seven"), (3, "three")):
            with server.client() as other, server.client(db=number) as client:
                assert not other.keys(f"{prefix}:*")
                assert client.keys(f"{prefix}:*")

    def test_password(self, closed_server: RedisServer) -> None:
        """:PASSWORD@ logs the default user in, USER:PASSWORD@ another."""
        full_cycle(opened(closed_server.url()))
        full_cycle(opened(closed_server.url(user="least")))
        full_cycle(opened(closed_server.url(2, user="numbered")))

    def test_where_data_may_be_lost(self, closed_server: RedisServer) -> None:
        """The least user may ask for the uptime; where that is refused, the time since the loss was noticed counts."""
        least, blind = (opened(closed_server.url(user=user)) for user in ("least", "blind"))
        key = fresh_key()
        # For longer than the server is up, however slow the tests are.
        refused(least.acquire(make_claim(key, ttl=86400, watermark=Watermark(1, 1e6, None))), STATE_LOST)
        full_cycle(blind)
        waits = refused(blind.acquire(make_claim(key, ttl=10, watermark=Watermark(1, 1e6, 4))), STATE_LOST)
        assert waits.remaining == pytest.approx(6)
        granted(blind.acquire(make_claim(key, ttl=10, watermark=Watermark(1, 1e6, 11))))

    @pytest.mark.parametrize("user", ["reader", "writer"])
    def test_user_with_too_few_rights(self, closed_server: RedisServer, user: str) -> None:
        """A right that is missing points at the manual's rule, be it for the swap or for a command of it."""
        assert "ACL rule" in unavailable(opened(closed_server.url(user=user)))

    @pytest.mark.parametrize("user", ["", "least", "nobody"])
    def test_wrong_password(self, closed_server: RedisServer, user: str) -> None:
        """A refused login says where to look, not what was sent."""
        text = unavailable(opened(closed_server.url(user=user, password="Passwrong")))
        assert "authentication failed: check user and password" in text

    def test_no_password(self, closed_server: RedisServer) -> None:
        """A server that wants a password says so."""
        assert "wants a password" in unavailable(opened(f"redis://{HOST}:{closed_server.port}"))

    def test_password_without_need(self, server: RedisServer) -> None:
        """A password for a server without one is a mistake worth an error."""
        assert "authentication failed" in unavailable(opened(server.url(password=PASSWORD)))

    def test_tls(self, tls_server: RedisServer) -> None:
        """rediss:// with the authority that signed the server's certificate, and one's own certificate."""
        full_cycle(opened(tls_server.url()))
        address = f"rediss://:{quote(PASSWORD, safe='')}@{HOST}:{tls_server.port}"
        full_cycle(opened(address + query(tls().params(client=True))))

    def test_tls_of_an_untrusted_server(self, tls_server: RedisServer) -> None:
        """A server with an untrusted certificate is refused."""
        text = unavailable(opened(f"rediss://{HOST}:{tls_server.port}"))
        assert "no TLS with the server" in text
        assert "redis://" not in text.replace("rediss://", "")

    def test_plain_to_tls(self, tls_server: RedisServer) -> None:
        """Plain words to a TLS port are answered with a hint, or with silence."""
        text = unavailable(opened(f"redis://{HOST}:{tls_server.port}"))
        assert "rediss://" in text

    def test_tls_to_plain(self, server: RedisServer) -> None:
        """TLS to a plain port is answered with a hint."""
        url = f"rediss://{HOST}:{server.port}{query(tls().params())}"
        assert "use redis://" in unavailable(opened(url, timeout=1))

    def test_web_server(self) -> None:
        """A web server on the port is called one."""
        with HTTPServer((HOST, 0), BaseHTTPRequestHandler) as web:
            thread = threading.Thread(target=web.handle_request)
            thread.start()
            assert "web server" in unavailable(opened(f"redis://{HOST}:{web.server_port}"))
            thread.join()

    def test_missing_socket(self, tmp_path: Path) -> None:
        """A socket that is not there is named."""
        assert "no socket at" in unavailable(opened(f"redis+unix://{tmp_path}/none"))


class TestRefusals:
    """A refusal of the server's is unavailable, with a reason."""

    def test_full(self) -> None:
        """A server without room refuses, and the lease of before is kept and can be released."""
        with RedisServer() as server, server.client() as client:
            backend = opened(server.url())
            grant = granted(backend.acquire(make_claim(fresh_key())))
            client.config_set("maxmemory", 1)
            assert "maxmemory" in unavailable(backend)
            refused(backend.acquire(make_claim(grant.claim.key)), HELD)
            client.config_set("maxmemory", 0)
            assert backend.renew(grant)

    def test_read_only_replica(self, replica: RedisServer) -> None:
        """A replica is no address for leases."""
        assert "read-only replica" in unavailable(opened(replica.url()))

    def test_busy(self, server: RedisServer, backend: Leases) -> None:
        """A slow script of another client gives an error at once."""
        with server.client() as client, server.client(socket_timeout=60) as slow:

            def run_for_ever() -> None:
                try:
                    slow.eval("while true do end", 0)
                except Exception:
                    pass

            # For this test only: a script of cronlock takes as long on a machine that is busy.
            client.config_set("lua-time-limit", 100)
            thread = threading.Thread(target=run_for_ever)
            thread.start()
            try:
                # Before the threshold, requests wait; ask until the server complains.
                eventually(lambda: _is_busy(client), "the server calls itself busy")
                assert "busy with a slow script" in unavailable(backend)
            finally:
                client.script_kill()
                thread.join()
                client.config_set("lua-time-limit", 5000)
        granted(backend.acquire(make_claim(fresh_key())))


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.get("x")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False
