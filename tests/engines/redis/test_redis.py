"""Redis, one server: its ways in, its refusals, lost replies, lost data, and what it costs."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import pytest
import redis

import cronlock
from cronlock.engines.redis import scripts as redis_scripts
from cronlock.engines.redis.backend import RedisBackend
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue, GivenBack
from cronlock.lease.vocabulary import (
    CANCELLED,
    EXITED,
    FORGOTTEN,
    HELD,
    HOLD,
    RETENTION,
    Claim,
    Conflict,
    Ending,
    Grant,
    Sight,
)
from cronlock.testing import BackendContract, Hooks, make_claim
from labs.proxy import Proxy
from labs.servers.process import HOST, eventually, free_port
from labs.servers.redis import RedisServer
from labs.servers.tls import query, tls

if TYPE_CHECKING:
    from cronlock.engines.redis.backend import Transport
    from cronlock.engines.redis.resp import Command, Reply
    from cronlock.lease.vocabulary import Backend

PASSWORD = "Pass:w/rd%1"
ENDING = Ending(EXITED, 0, 0.0)
Answer = TypeVar("Answer")
_numbers = itertools.count(1)


def claim(
    key: str | None = None,
    *,
    ttl: float = 30.0,
    hold: float = 0.0,
    owner: str = "",
    ignore_hold: bool = False,
    sight: Sight | None = None,
) -> Claim:
    """Return a claim of a new owner, on a key of its own unless named."""
    number = next(_numbers)
    return Claim(
        key=key or f"key-{number}",
        owner=owner or f"owner-{number}",
        host="node",
        pid=number,
        program="true",
        ttl=ttl,
        hold=hold,
        ignore_hold=ignore_hold,
        sight=sight,
    )


def another(first: Claim, *, ttl: float = 30.0, sight: Sight | None = None) -> Claim:
    """Return another owner's claim on the same key."""
    return claim(first.key, ttl=ttl, sight=sight)


def opened(url: str, timeout: float = 20.0) -> RedisBackend:
    """Open `url`; the limit is generous, since the machine may be busy."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, RedisBackend)
    return backend


def granted(answer: Grant | Conflict) -> Grant:
    """Return the grant that `answer` must be."""
    assert isinstance(answer, Grant), answer.why
    return answer


def refused(answer: Grant | Conflict) -> Conflict:
    """Return the conflict that `answer` must be."""
    assert isinstance(answer, Conflict)
    return answer


def unavailable(backend: RedisBackend) -> str:
    """Return why an acquire fails, in one line without any password."""
    with pytest.raises(BackendUnavailable) as caught:
        backend.acquire(claim())
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert "Pass" not in text
    return text


def full_cycle(backend: RedisBackend) -> None:
    """Go once through everything that a lease is for."""
    ours = claim(hold=20)
    grant = granted(backend.acquire(ours))
    assert refused(backend.acquire(another(ours))).why == HELD
    assert backend.renew(grant)
    assert backend.release(grant, ENDING, keep_hold=True)
    conflict = refused(backend.acquire(another(ours)))
    assert (conflict.why, conflict.run and conflict.run.owner) == (HOLD, ours.owner)
    assert backend.force_release(ours.key, ours.owner)
    theirs = another(ours)
    later = granted(backend.acquire(theirs))
    assert (later.fence or 0) > (grant.fence or 0)
    backend.abandon(theirs)
    record = backend.read(ours.key)
    assert record is not None
    assert record.run is None
    assert record.last is not None
    assert record.last.owner == ours.owner
    assert ours.key in list(backend.keys())
    backend.close()


class RedisHooks(Hooks):
    """Any Redis: `client_of` returns redis-py's client of the server that has the key of a name."""

    forces_time = True

    def __init__(self, url: str, client_of: Callable[[str], redis.Redis]) -> None:
        self._url = url
        self._client_of = client_of

    def open(self) -> RedisBackend:
        """Return one more node's backend."""
        return opened(self._url)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Put the end of the lease into the past."""
        self._set(grant.claim.key, lapse="1")

    def end_hold(self, node: Backend, key: str) -> None:
        """Put the end of the hold into the past."""
        self._set(key, hold="1", kept="1")

    def _set(self, key: str, **fields: str) -> None:
        with self._client_of(f"cronlock:{key}") as client:
            client.hset(f"cronlock:{key}", mapping=fields)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One plain server for all tests that do not harm it, with quick complaints about slow scripts."""
    with RedisServer(unix=True, extra=["--lua-time-limit", "100"]) as running:
        yield running


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    """One server with TLS."""
    with RedisServer(tls=True, password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def closed_server() -> Iterator[RedisServer]:
    """One server with a password, and with an ACL user who may do no more than needed."""
    rule = redis_scripts.ACL_RULE
    users = {
        "least": f"on >{PASSWORD} {rule}",
        "numbered": f"on >{PASSWORD} {rule} +select",
        "blind": f"on >{PASSWORD} {rule} -info",
        "reader": f"on >{PASSWORD} ~* +eval +hmget",
    }
    with RedisServer(password=PASSWORD, users=users) as running:
        yield running


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    """The plain server's backend."""
    made = opened(server.url())
    yield made
    made.close()


class TestPlain(BackendContract):
    """The contract over redis://."""

    @pytest.fixture
    def hooks(self, server: RedisServer) -> Hooks:
        """The plain server, database 0."""
        return RedisHooks(server.url(), lambda _: server.client())


class TestUnixSocket(BackendContract):
    """The contract over redis+unix:// and in a database with a number."""

    @pytest.fixture
    def hooks(self, server: RedisServer) -> Hooks:
        """The plain server's socket, database 9."""
        return RedisHooks(server.unix_url(db="9"), lambda _: server.client(db=9))


class TestLeastUser(BackendContract):
    """The contract for a user with a password and no more rights than the manual says."""

    @pytest.fixture
    def hooks(self, closed_server: RedisServer) -> Hooks:
        """The closed server, as that user."""
        return RedisHooks(closed_server.url(user="least"), lambda _: closed_server.client())


class TestTLS(BackendContract):
    """The contract over rediss:// with a password."""

    @pytest.fixture
    def hooks(self, tls_server: RedisServer) -> Hooks:
        """The server with TLS."""
        return RedisHooks(tls_server.url(), lambda _: tls_server.client())


class TestWaysIn:
    """Each kind of URL reaches its server, and a wrong one says what to do."""

    def test_plain(self, server: RedisServer) -> None:
        """redis://HOST:PORT."""
        full_cycle(opened(server.url()))

    def test_database(self, server: RedisServer) -> None:
        """A path is the number of the database, and nothing lands in another."""
        full_cycle(opened(server.url(7, prefix="seven")))
        with server.client() as other, server.client(db=7) as client:
            assert not other.keys("seven:*")
            assert client.keys("seven:*")

    def test_database_that_is_not_there(self, server: RedisServer) -> None:
        """A refused number is unavailable, and database 0 is left alone."""
        assert "no database of this number" in unavailable(opened(server.url(99, prefix="ninety")))
        with server.client() as client:
            assert not client.keys("ninety:*")

    def test_unix_socket(self, server: RedisServer) -> None:
        """redis+unix:///PATH, with the database as a parameter."""
        full_cycle(opened(server.unix_url()))
        full_cycle(opened(server.unix_url(db="3", prefix="three")))
        with server.client(db=3) as client:
            assert client.keys("three:*")

    def test_password(self, closed_server: RedisServer) -> None:
        """:PASSWORD@ logs the default user in."""
        full_cycle(opened(closed_server.url()))

    def test_least_user(self, closed_server: RedisServer) -> None:
        """USER:PASSWORD@ with no more rights than the manual says, also where the data may be lost."""
        backend = opened(closed_server.url(user="least"))
        full_cycle(backend)
        # For longer than the server is up, however slow the tests are.
        assert refused(backend.acquire(claim(ttl=86400, sight=Sight(1, 1e6, None)))).why == FORGOTTEN
        full_cycle(opened(closed_server.url(2, user="numbered")))

    def test_user_without_info(self, closed_server: RedisServer) -> None:
        """Where the uptime cannot be known, the time since the loss was noticed counts."""
        backend = opened(closed_server.url(user="blind"))
        full_cycle(backend)
        assert refused(backend.acquire(claim(ttl=10, sight=Sight(1, 1e6, 4)))).remaining == pytest.approx(6)
        granted(backend.acquire(claim(ttl=10, sight=Sight(1, 1e6, 11))))

    def test_user_with_too_few_rights(self, closed_server: RedisServer) -> None:
        """A right that is missing points at the manual's rule."""
        assert "ACL rule" in unavailable(opened(closed_server.url(user="reader")))

    @pytest.mark.parametrize("user", ["", "least", "nobody"])
    def test_wrong_password(self, closed_server: RedisServer, user: str) -> None:
        """A refused login says where to look, not what was sent."""
        text = unavailable(opened(closed_server.url(user=user, password="Passwrong")))
        assert "authentication failed: check user and password" in text

    def test_no_password(self, closed_server: RedisServer) -> None:
        """A server that wants a password says so."""
        assert "wants a password" in unavailable(opened(f"redis://{HOST}:{closed_server.port}"))

    def test_password_that_nobody_wants(self, server: RedisServer) -> None:
        """A password for a server without one is a mistake worth an error."""
        assert "authentication failed" in unavailable(opened(server.url(password=PASSWORD)))

    def test_tls(self, tls_server: RedisServer) -> None:
        """rediss:// with the authority that signed the server's certificate, and one's own certificate."""
        full_cycle(opened(tls_server.url()))
        place = f"rediss://:{quote(PASSWORD, safe='')}@{HOST}:{tls_server.port}"
        full_cycle(opened(place + query(tls().params(client=True))))

    def test_tls_of_a_stranger(self, tls_server: RedisServer) -> None:
        """A server whose certificate nobody vouches for is not spoken to."""
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

    def test_nobody_listens(self, tmp_path: Path) -> None:
        """A refused connection names the server."""
        port = free_port()
        assert f"redis://{HOST}:{port}: connection refused: check host and port" in unavailable(
            opened(f"redis://{HOST}:{port}")
        )
        assert "there is no socket" in unavailable(opened(f"redis+unix://{tmp_path}/none"))

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("redis://", "names no host"),
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
            ("redis+unix://", "names no socket"),
            ("redis+unix://host/path", "names no socket"),
            ("redis+unix:///path?db=x", "must be a number"),
        ],
    )
    def test_bad_url(self, url: str, reason: str) -> None:
        """A bad URL is refused before anything is asked."""
        with pytest.raises(ConfigError, match=reason):
            open_backend(url, 1)


class TestRefusals:
    """What the server will not do is unavailable, with a reason; what is not ours stays."""

    @pytest.mark.parametrize(
        "command",
        [
            "SET {} text",
            "RPUSH {} a b",
            "HSET {} field value",
            "HSET {} cronlock 2 owner x",
            "HSET {} cronlock 1 fence inf",
            "HSET {} cronlock 1 fence 99999999999999999",
            "HSET {} cronlock 1 fence 5 lapse soon",
            "HSET {} cronlock 1 fence 5 hold 0x10",
            "HSET {} cronlock 1 fence 5 owner x pid one",
        ],
    )
    def test_foreign_value(self, server: RedisServer, backend: RedisBackend, command: str) -> None:
        """What somebody else keeps under our name is reported and not touched by anything."""
        ours = claim()
        grant = Grant(ours, fence=1, ttl=30)
        name = f"cronlock:{ours.key}"
        # DUMP is no text.
        with server.client(encoding_errors="replace") as client:
            client.execute_command(*command.format(name).split())
            before = client.dump(name)
            for step in (
                lambda: backend.acquire(ours),
                lambda: backend.renew(grant),
                lambda: backend.release(grant, ENDING, keep_hold=True),
                lambda: backend.abandon(ours),
                lambda: backend.force_release(ours.key, "x"),
                lambda: backend.read(ours.key),
            ):
                with pytest.raises(ForeignValue, match=name):
                    step()
            assert (client.dump(name), client.ttl(name)) == (before, -1)
            client.delete(name)

    def test_full(self) -> None:
        """A server without room refuses, and the lease of before is kept and can be released."""
        with RedisServer() as server, server.client() as client:
            backend = opened(server.url())
            grant = granted(backend.acquire(claim()))
            client.config_set("maxmemory", 1)
            assert "maxmemory" in unavailable(backend)
            client.config_set("maxmemory", 0)
            assert backend.renew(grant)

    def test_read_only_replica(self, server: RedisServer) -> None:
        """A replica is no place for leases."""
        with RedisServer(extra=["--replicaof", HOST, str(server.port)]) as replica:
            with replica.client() as client:
                eventually(lambda: client.info("replication")["master_link_status"] == "up", "replica in step")
            assert "read-only replica" in unavailable(opened(replica.url()))

    def test_busy(self, server: RedisServer, backend: RedisBackend) -> None:
        """A slow script of somebody else is an answer, not a wait."""
        with server.client() as client, server.client(socket_timeout=60) as slow:

            def run_for_ever() -> None:
                try:
                    slow.eval("while true do end", 0)
                except Exception:
                    pass

            thread = threading.Thread(target=run_for_ever)
            thread.start()
            try:
                # Before the threshold, requests wait; ask until the server complains.
                eventually(lambda: _is_busy(client), "the server calls itself busy")
                assert "busy with a slow script" in unavailable(backend)
            finally:
                client.script_kill()
                thread.join()
        granted(backend.acquire(claim()))

    def test_paused(self) -> None:
        """A server that hangs is unavailable when the time is over, and of use again afterwards."""
        with RedisServer() as server:
            backend = opened(server.url(), timeout=0.7)
            ours = claim()
            grant = granted(_patiently(lambda: backend.acquire(ours)))
            server.pause()
            asked = time.monotonic()
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                backend.renew(grant)
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                backend.read(ours.key)
            assert time.monotonic() - asked > 1.3
            server.resume()
            assert _patiently(lambda: backend.renew(grant))


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.get("x")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def _patiently(step: Callable[[], Answer]) -> Answer:
    """Ask again while a busy machine makes a short time limit too short."""
    end = time.monotonic() + 30
    while True:
        try:
            return step()
        except BackendUnavailable:
            if time.monotonic() > end:
                raise


class TestLostReplies:
    """The network loses a request or its reply, or delivers it late; nobody is left holding the key."""

    @pytest.fixture
    def proxy(self, server: RedisServer) -> Iterator[Proxy]:
        """A proxy before the plain server."""
        with Proxy(server.port) as running:
            yield running

    @pytest.fixture
    def far(self, server: RedisServer, proxy: Proxy) -> Iterator[RedisBackend]:
        """A backend behind the proxy with a short time limit."""
        made = opened(server.url(port=proxy.port), timeout=0.25)
        yield made
        made.close()

    @pytest.mark.parametrize("lose", ["requests", "replies"])
    def test_acquire_asked_again(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy, lose: str) -> None:
        """Asking again under the same owner finds the lease ours, with the same fence."""
        ours = claim()
        getattr(proxy, f"drop_{lose}")()
        with pytest.raises(BackendUnavailable):
            far.acquire(ours)
        proxy.pass_all()
        record = backend.read(ours.key)
        assert (record is not None) == (lose == "replies")
        grant = granted(_patiently(lambda: far.acquire(ours)))
        if record is not None:
            assert record.run is not None
            assert grant.fence == record.run.fence
        assert far.release(grant, ENDING, keep_hold=False)

    @pytest.mark.parametrize("lose", ["requests", "replies"])
    def test_acquire_given_up(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy, lose: str) -> None:
        """After giving up, nobody holds the key, and the owner does not come back."""
        ours = claim(hold=20)
        getattr(proxy, f"drop_{lose}")()
        with pytest.raises(BackendUnavailable):
            far.acquire(ours)
        proxy.pass_all()
        _patiently(lambda: far.abandon(ours))
        assert refused(backend.acquire(ours)).why == CANCELLED
        granted(backend.acquire(another(ours)))

    @pytest.mark.parametrize("after", ["abandon", "next run"])
    def test_late_acquire(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy, after: str) -> None:
        """An acquire that arrives after its owner gave up takes nothing, also when others ran since."""
        ours = claim(hold=20)
        proxy.hold_requests()
        with pytest.raises(BackendUnavailable):
            far.acquire(ours)
        backend.abandon(ours)
        if after == "next run":
            assert backend.release(granted(backend.acquire(another(ours))), ENDING, keep_hold=False)
        assert proxy.held
        proxy.deliver_held()
        record = backend.read(ours.key)
        assert record is None or record.run is None
        granted(backend.acquire(another(ours)))

    def test_lapsed_unheard(self, far: RedisBackend, server: RedisServer, backend: RedisBackend, proxy: Proxy) -> None:
        """A grant whose answer was lost and whose lease lapsed since is granted anew, whatever hold it left."""
        ours = claim(hold=20)
        proxy.drop_replies()
        with pytest.raises(BackendUnavailable):
            far.acquire(ours)
        proxy.pass_all()
        with server.client() as client:
            client.hset(f"cronlock:{ours.key}", "lapse", "1")
        assert refused(backend.acquire(another(ours))).why == HOLD
        grant = granted(_patiently(lambda: far.acquire(ours)))
        assert far.release(grant, ENDING, keep_hold=True)

    def test_late_duplicate_after_release(self, server: RedisServer, backend: RedisBackend, proxy: Proxy) -> None:
        """A duplicate of an acquire that arrives after the run ended takes nothing."""
        ours = claim()
        far = opened(server.url(port=proxy.port), timeout=0.25)
        proxy.hold_requests()
        with pytest.raises(BackendUnavailable):
            far.acquire(ours)
        assert backend.release(granted(backend.acquire(ours)), ENDING, keep_hold=False)
        proxy.deliver_held()
        granted(backend.acquire(another(ours)))

    @pytest.mark.parametrize("lose", ["requests", "replies"])
    def test_renew(self, far: RedisBackend, proxy: Proxy, lose: str) -> None:
        """A renewal without an answer is no answer; asked again it is one."""
        grant = granted(_patiently(lambda: far.acquire(claim())))
        getattr(proxy, f"drop_{lose}")()
        with pytest.raises(BackendUnavailable):
            far.renew(grant)
        proxy.pass_all()
        assert _patiently(lambda: far.renew(grant))

    @pytest.mark.parametrize("after", ["release", "next run"])
    def test_late_renewal(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy, after: str) -> None:
        """A renewal that arrives after the release renews nothing."""
        ours = claim()
        grant = granted(_patiently(lambda: far.acquire(ours)))
        proxy.hold_requests()
        with pytest.raises(BackendUnavailable):
            far.renew(grant)
        assert backend.release(grant, ENDING, keep_hold=False)
        theirs = another(ours, ttl=60)
        if after == "next run":
            granted(backend.acquire(theirs))
        proxy.deliver_held()
        record = backend.read(ours.key)
        assert record is not None
        assert (record.run and record.run.owner) == (theirs.owner if after == "next run" else None)

    @pytest.mark.parametrize("lose", ["requests", "replies"])
    def test_release(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy, lose: str) -> None:
        """A release without an answer can be followed by an abandon: the key is free, the run recorded once."""
        ours = claim()
        grant = granted(_patiently(lambda: far.acquire(ours)))
        getattr(proxy, f"drop_{lose}")()
        with pytest.raises(BackendUnavailable):
            far.release(grant, ENDING, keep_hold=False)
        proxy.pass_all()
        assert _patiently(lambda: far.release(grant, ENDING, keep_hold=False)) in (True, False)
        record = backend.read(ours.key)
        assert record is not None
        assert record.run is None
        assert record.last is not None
        assert record.last.owner == ours.owner
        granted(backend.acquire(another(ours)))

    def test_late_release(self, far: RedisBackend, backend: RedisBackend, proxy: Proxy) -> None:
        """A release that arrives when another holds the key changes nothing of theirs."""
        ours = claim(ttl=1)
        grant = granted(_patiently(lambda: far.acquire(ours)))
        proxy.hold_requests()
        with pytest.raises(BackendUnavailable):
            far.release(grant, ENDING, keep_hold=False)
        theirs = another(ours)
        eventually(lambda: isinstance(backend.acquire(theirs), Grant), "the lease lapsed")
        proxy.deliver_held()
        record = backend.read(ours.key)
        assert record is not None
        assert record.run is not None
        assert record.run.owner == theirs.owner
        assert record.last is None

    def test_connection_lost_while_idle(self, server: RedisServer, backend: RedisBackend) -> None:
        """A connection that the server closed between two requests costs no failed request."""
        grant = granted(backend.acquire(claim()))
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert backend.renew(grant)


class TestRetention:
    """How long the server keeps what it knows of a key."""

    def test_long_hold_outlives_short_claims(self, server: RedisServer, backend: RedisBackend) -> None:
        """A hold of a year is not cut short by a run by hand, nor by another that gives up."""
        year = 365 * 86400
        first = claim(hold=year)
        assert backend.release(granted(backend.acquire(first)), ENDING, keep_hold=True)
        by_hand = make_claim(first.key, ignore_hold=True)
        assert backend.release(granted(backend.acquire(by_hand)), ENDING, keep_hold=False)
        backend.abandon(another(first))
        with server.client() as client:
            assert client.ttl(f"cronlock:{first.key}") > year - 600


class TestLostData:
    """A server that comes back from a restart, with and without what it granted."""

    def test_with_its_data(self) -> None:
        """With its data a restart disturbs nobody."""
        with RedisServer(persistent=True) as server:
            backend = opened(server.url())
            ours = claim(hold=20)
            grant = granted(backend.acquire(ours))
            server.restart(keep_data=True)
            assert refused(backend.acquire(another(ours, sight=Sight(grant.fence or 0, 100, None)))).why == HELD
            assert backend.renew(grant)
            assert backend.release(grant, ENDING, keep_hold=True)

    def test_without_its_data(self) -> None:
        """Without it, a node that saw a lease waits until the server is up for the ttl; a new node does not."""
        with RedisServer() as server:
            backend = opened(server.url())
            lost = granted(backend.acquire(claim("lost", ttl=3)))
            seen = time.monotonic() - 100
            before_start = time.monotonic()
            server.restart(keep_data=False)
            assert backend.renew(lost) is False

            def again() -> Grant | Conflict:
                sight = Sight((lost.fence or 0) + 10**9, time.monotonic() - seen, None)
                return backend.acquire(claim("lost", ttl=3, owner="again", sight=sight))

            conflict = refused(again())
            assert (conflict.why, conflict.fence) == (FORGOTTEN, None)
            assert 0 < conflict.remaining <= 3
            granted(backend.acquire(claim("fresh", ttl=3)))
            eventually(lambda: isinstance(again(), Grant), "the server was up for the ttl")
            assert time.monotonic() - before_start > 3
            assert (granted(again()).fence or 0) > (lost.fence or 0) + 10**9

    def test_failover_or_flush(self, server: RedisServer, backend: RedisBackend) -> None:
        """A server that did not restart since and shows less is not trusted before the ttl has passed."""
        ours = claim(ttl=10)
        fence = granted(backend.acquire(ours)).fence or 0
        with server.client() as client:
            client.delete(f"cronlock:{ours.key}")
        for noticed, remaining in ((None, 10), (4, 6)):
            conflict = refused(backend.acquire(another(ours, ttl=10, sight=Sight(fence, 0, noticed))))
            assert conflict.why == FORGOTTEN
            assert conflict.remaining == pytest.approx(remaining)
        assert (granted(backend.acquire(another(ours, ttl=10, sight=Sight(fence, 0, 10)))).fence or 0) > fence

    def test_lease_goes_before_forgetting(self, backend: RedisBackend) -> None:
        """Where the server shows a live lease or hold, that is the answer."""
        ours = claim(hold=20)
        grant = granted(backend.acquire(ours))
        sight = Sight((grant.fence or 0) + 10**9, 0, None)
        assert refused(backend.acquire(another(ours, sight=sight))).why == HELD
        backend.release(grant, ENDING, keep_hold=True)
        assert refused(backend.acquire(another(ours, sight=sight))).why == HOLD

    def test_fence_survives_the_record(self, server: RedisServer, backend: RedisBackend) -> None:
        """The fence grows although the record vanished, for it follows the server's clock."""
        ours = claim()
        fence = granted(backend.acquire(ours)).fence or 0
        with server.client() as client:
            assert client.pttl(f"cronlock:{ours.key}") > RETENTION * 1000
            client.delete(f"cronlock:{ours.key}")
        assert (granted(backend.acquire(another(ours))).fence or 0) > fence

    def test_fence_ahead_of_the_clock(self, server: RedisServer, backend: RedisBackend) -> None:
        """After the server's clock was set back, the fence goes on one by one, digit for digit."""
        ours = claim()
        with server.client() as client:
            client.hset(f"cronlock:{ours.key}", mapping={"cronlock": 1, "fence": 9000000000000001})
        assert granted(backend.acquire(ours)).fence == 9000000000000002

    def test_many_gave_up(self, server: RedisServer, backend: RedisBackend) -> None:
        """The last eight owners that gave up are remembered, and no more."""
        key = claim().key
        owners = [claim(key) for _ in range(12)]
        for owner in owners:
            backend.abandon(owner)
        for owner in owners[4:]:
            assert refused(backend.acquire(owner)).why == CANCELLED
        with server.client() as client:
            assert len((client.hget(f"cronlock:{key}", "gone") or "").split()) == 8


class TestReplicas:
    """min_replicas=N: no grant and no renewal that fewer replicas know of."""

    def test_too_few(self, server: RedisServer, backend: RedisBackend) -> None:
        """Without replicas the lease is given back and nothing runs."""
        strict = opened(server.url(min_replicas="1"), timeout=1)
        ours = claim(hold=20)
        for _ in range(2):  # Whoever asks again under the same owner is told the same.
            with pytest.raises(GivenBack, match="min_replicas=1 replicas acknowledged"):
                strict.acquire(ours)
        ours = another(ours)
        grant = granted(backend.acquire(ours))
        with pytest.raises(BackendUnavailable, match="the renewal does not count"):
            strict.renew(grant)

    def test_enough(self, server: RedisServer) -> None:
        """With a replica in step it costs no more requests; without it again, renewals do not count."""
        with RedisServer(extra=["--replicaof", HOST, str(server.port)]) as replica:
            with replica.client() as client:
                eventually(lambda: client.info("replication")["master_link_status"] == "up", "replica in step")
            strict = opened(server.url(min_replicas="1"))
            ours = claim()
            grant = granted(strict.acquire(ours))
            assert strict.renew(grant)
            with replica.client() as client:
                assert client.hget(f"cronlock:{ours.key}", "owner") == ours.owner
            replica.pause()
            hasty = opened(server.url(min_replicas="1"), timeout=1)
            with pytest.raises(BackendUnavailable, match="does not count"):
                hasty.renew(grant)
            replica.resume()

    def test_asking_again_is_acknowledged_too(self, server: RedisServer, backend: RedisBackend) -> None:
        """A lease that is there already counts only if the replicas know of it."""
        with RedisServer(extra=["--replicaof", HOST, str(server.port)]) as replica:
            with replica.client() as client:
                eventually(lambda: client.info("replication")["master_link_status"] == "up", "replica in step")
            replica.pause()
            ours = claim()
            granted(backend.acquire(ours))
            with pytest.raises(GivenBack):
                opened(server.url(min_replicas="1"), timeout=1).acquire(ours)
            replica.resume()

    @pytest.mark.parametrize("lost", ["request", "reply"])
    def test_loss_while_giving_back(self, server: RedisServer, backend: RedisBackend, lost: str) -> None:
        """Where giving back could not be seen to work, asking again gives back first."""
        strict = opened(server.url(min_replicas="1"), timeout=1)
        strict._transport = LosesAbandon(strict._transport, lost)
        ours = claim()
        with pytest.raises(BackendUnavailable, match="lost"):
            strict.acquire(ours)
        with pytest.raises(GivenBack):
            strict.acquire(ours)
        granted(backend.acquire(another(ours)))


class LosesAbandon:
    """A way to a real server that loses the first abandon or its reply."""

    def __init__(self, real: Transport, lost: str) -> None:
        self.name = real.name
        self.masters = real.masters
        self.close = real.close
        self._real = real
        self._lost: str | None = lost

    def ask(self, commands: list[Command], deadline: float) -> list[Reply]:
        """Ask, or not, and hear the answer, or not."""
        lost = self._lost if commands[0][1] == redis_scripts.ABANDON.encode() else None
        answers = self._real.ask(commands, deadline) if lost != "request" else []
        if lost is not None:
            self._lost = None
            raise BackendUnavailable("lost on the way")
        return answers


class MovedClock:
    """This machine's clock, which a test moves."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        """Return monotonic time and what it was moved by."""
        return time.monotonic() + self.moved

    def wall(self) -> float:
        """Return the time of day."""
        return time.time()


class TestClock:
    """The server's wall clock judges leases: when it jumps, a person should hear of it."""

    @pytest.mark.parametrize(("moved", "notice"), [(0, None), (-90, "jumped by +9"), (90, "jumped by -"), (0.5, None)])
    def test_jump(self, server: RedisServer, moved: float, notice: str | None) -> None:
        """A renewal notices that the server's clock went another way than ours."""
        clock = MovedClock()
        backend = opened(server.url())
        backend._clock = clock
        grant = granted(backend.acquire(claim()))
        clock.moved = moved
        assert backend.renew(grant)
        assert backend.renew(grant)
        assert len(backend.notices) == (notice is not None)
        assert notice is None or notice in backend.notices[0]


class TestCost:
    """What a run costs the server and the start."""

    def test_requests(self, closed_server: RedisServer) -> None:
        """A run that gets its lease is two requests, a skip is one, each in one packet, password included."""
        ours = claim()
        with closed_server.client() as client, Proxy(closed_server.port) as proxy:

            def evals() -> int:
                return int(client.info("commandstats")["cmdstat_eval"]["calls"])

            url = closed_server.url(user="least", port=proxy.port)
            full_cycle(opened(url))  # So that the counter is there.
            before, packets = evals(), proxy.requests
            backend = opened(url)
            grant = granted(backend.acquire(ours))
            assert (evals() - before, proxy.requests - packets) == (1, 1)
            refused(opened(url).acquire(another(ours)))
            assert (evals() - before, proxy.requests - packets) == (2, 2)
            assert backend.release(grant, ENDING, keep_hold=True)
            assert (evals() - before, proxy.requests - packets) == (3, 3)

    def test_imports(self) -> None:
        """Opening a plain Redis URL imports none of the modules that cost milliseconds."""
        root = Path(cronlock.__file__).parent.parent
        code = (
            f"import sys; sys.path.insert(0, {str(root)!r}); before = set(sys.modules)\n"
            "from cronlock.engines.registry import open_backend; open_backend('redis://localhost/1', 5)\n"
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
        heavy = {"socket", "ssl", "redis", "typing", "json", "enum", "re", "functools", "collections", "hashlib"}
        assert not heavy & set(done.stdout.split())


class TestKeys:
    """Keys of any text have places of their own."""

    def test_odd_keys(self, server: RedisServer) -> None:
        """Braces, glob signs, spaces, colons, other scripts and long ones are told apart and listed."""
        backend = opened(server.url(prefix="odd"))
        keys = [
            "{}a",
            "{a}b",
            "}{",
            "*",
            "?",
            "[a-z]",
            "a b",
            "a:b",
            "a/b",
            "..",
            "%41",
            "A",
            "\u017c\u00f3\u0142w",
            "x" * 200,
        ]
        grants = [granted(backend.acquire(claim(key))) for key in keys]
        assert sorted(backend.keys()) == sorted(keys)
        assert all(backend.renew(grant) for grant in grants)

    def test_many_keys(self, server: RedisServer) -> None:
        """More keys than one page of the listing, each once, and nothing of another prefix."""
        backend = opened(server.url(prefix="many"))
        with server.client() as client:
            client.hset("many-other:1", mapping={"a": "b"})
            client.set("many:string", "text")
            for number in range(350):
                client.hset(f"many:{number}", mapping={"cronlock": 1})
        assert sorted(backend.keys()) == sorted(str(number) for number in range(350))
