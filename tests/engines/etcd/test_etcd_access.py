"""etcd: ways in, users and TLS, several servers, and servers of another kind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cronlock.engines.etcd.store import SLACK
from cronlock.errors import BackendUnavailable
from cronlock.testing import granted, make_claim, make_ending
from labs.servers.etcd import EtcdServer
from labs.servers.process import HOST, free_port

from ..hooks import full_cycle, opened
from ..wire.little_server import LittleServer

_PASSWORD = "not-to-be-shown"


def test_paths_and_prefixes_keep_keys_apart(server: EtcdServer, key: str) -> None:
    """Both are parts of the names on the server."""
    urls = [server.url(), server.url("/team"), server.url("/team/a/"), server.url(prefix="jobs")]
    for url in urls:
        with opened(url) as backend:
            granted(backend.acquire(make_claim(key)))
    names = [name for name in server.keys("") if name.endswith(f"record/{key}")]
    assert sorted(names) == sorted(
        f"{base}/record/{key}" for base in ("cronlock", "jobs", "team/a/cronlock", "team/cronlock")
    )


@pytest.fixture(scope="module")
def closed_server() -> Iterator[EtcdServer]:
    """A server with users, one of whom may use the keys of ``ours``, and one nothing."""
    with EtcdServer(password=_PASSWORD) as one:
        one.add_user("ann", _PASSWORD, "ours/")
        one.add_user("bob", _PASSWORD)
        yield one


def test_user_with_the_least_permissions(closed_server: EtcdServer, key: str) -> None:
    """Reading and writing all that begins with the prefix suffices."""
    with opened(closed_server.url(login=f"ann:{_PASSWORD}", prefix="ours")) as backend:
        full_cycle(backend, key)


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("", "wants a user"),
        ("ann:wrong-not-to-be-shown", "check user and password"),
        ("nobody:not-to-be-shown", "check user and password"),
        ("bob:not-to-be-shown", "read and write all keys under the prefix"),
    ],
)
def test_refused_users(closed_server: EtcdServer, key: str, login: str, said: str) -> None:
    """Each error names its cause, without the password."""
    with opened(closed_server.url(login=login, prefix="ours")) as backend:
        for call in (
            lambda: backend.acquire(make_claim(key)),
            lambda: backend.read(key),
            lambda: list(backend.keys()),
        ):
            with pytest.raises(BackendUnavailable, match=said) as caught:
                call()
            assert "not-to-be-shown" not in str(caught.value)


def test_token_that_ended(closed_server: EtcdServer, key: str) -> None:
    """A token ends with a restart or a change of users: the client logs in again."""
    with opened(closed_server.url(login=f"ann:{_PASSWORD}", prefix="ours")) as backend:
        grant = granted(backend.acquire(make_claim(key)))
        closed_server.restart(keep_data=True)
        assert backend.renew(grant)
        closed_server.add_user(f"user-{key}", "x")
        assert backend.renew(grant)
        assert backend.release(grant, make_ending(), keep_hold=False)


def test_users_that_are_asked_for_from_now_on(key: str) -> None:
    """A run that began before goes on."""
    with EtcdServer() as own:
        own.ask("auth/user/add", name="root", password=_PASSWORD)
        own.ask("auth/user/grant", user="root", role="root")
        with opened(own.url(login=f"root:{_PASSWORD}")) as backend:
            grant = granted(backend.acquire(make_claim(key)))
            own.ask("auth/enable")
            own.password = _PASSWORD
            assert backend.renew(grant)


def test_user_without_authentication_enabled(server: EtcdServer, key: str) -> None:
    """As etcd's own clients do, it goes on: an operator may turn authentication off for a while."""
    with opened(server.url(login="ann:secret")) as backend:
        full_cycle(backend, key)


@pytest.mark.parametrize("client_auth", [False, True])
def test_tls(key: str, client_auth: bool) -> None:
    """A whole run over TLS; to a plain port, or without trust in the server, it is unavailable."""
    with EtcdServer(tls=True, client_auth=client_auth, password=None if client_auth else _PASSWORD) as secure:
        with opened(secure.url()) as backend:
            full_cycle(backend, key)
        for scheme, said in (("etcds", "no TLS"), ("etcd", "write etcds://")):
            with opened(f"{scheme}://{HOST}:{secure.port}") as other, pytest.raises(BackendUnavailable, match=said):
                other.acquire(make_claim(key))


def test_named_certificate_and_user(key: str) -> None:
    """Together they are refused by the gateway, which is said."""
    with (
        EtcdServer(tls=True, client_auth=True, password=_PASSWORD) as secure,
        opened(secure.url()) as backend,
        pytest.raises(BackendUnavailable, match="CommonName"),
    ):
        backend.acquire(make_claim(key))


def test_several_servers(server: EtcdServer, key: str) -> None:
    """The first that serves is asked, within the limit, whatever the others do."""
    hung = LittleServer(lambda _: time.sleep(60))
    nonsense = LittleServer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    leaderless = LittleServer(
        b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 47\r\n\r\n{"message":"etcdserver: no leader","code":14}  '
    )
    # The error of a leader that was cut off before a majority agreed.
    alone = LittleServer(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 48\r\n\r\n"
        b'{"message":"context deadline exceeded","code":2}'
    )
    # As etcd says it since 3.5, of a new member that is no voter yet.
    refusal = b'{"message":"etcdserver: rpc not supported for learner","code":9}'
    learner = LittleServer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
    ports = [free_port(), hung.port, nonsense.port, leaderless.port, alone.port, learner.port, server.port]
    try:
        for _ in range(3):  # It begins anywhere.
            with opened("etcd://" + ",".join(f"{HOST}:{port}" for port in ports), 6.0) as backend:
                grant = granted(backend.acquire(make_claim(key)))
                assert backend.renew(grant)
                assert backend.release(grant, make_ending(), keep_hold=False)
        with opened(f"etcd://{HOST}:{learner.port}", 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
            backend.acquire(make_claim(key))
        assert "take learners out of the URL" in str(caught.value)
        # When none serves, each is named.
        down = f"etcd://{HOST}:{ports[0]},{HOST}:{leaderless.port}"
        with opened(down, 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
            backend.acquire(make_claim(key))
        assert all(f":{port}: " in str(caught.value) for port in (ports[0], leaderless.port))
    finally:
        for one in (hung, nonsense, leaderless, alone, learner):
            one.close()


# Servers of another kind

_HEADER = {"revision": "5", "member_id": "1", "raft_term": "2"}


def test_server_that_grants_other_leases(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shorter one than was asked for, or another's, is no lease."""
    monkeypatch.setattr(
        "cronlock.engines.etcd.held.os", SimpleNamespace(urandom=lambda size: b"\x0e".rjust(size, b"\0"))
    )
    looked = {"header": _HEADER, "responses": [{"response_range": {}}, {"response_range": {}}]}
    shorter = {"ID": "7", "TTL": str(600 + SLACK - 1)}
    for granted_lease in ({"ID": "8", "TTL": "700"}, {"TTL": "700"}, {"ID": "x", "TTL": "700"}, shorter):
        answers = []
        for said in (looked, {"header": _HEADER, **granted_lease}):
            body = json.dumps(said).encode()
            answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        server = LittleServer(*answers)
        try:
            with opened(f"etcd://{HOST}:{server.port}", 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
                backend.acquire(make_claim(key, ttl=600.0))
            assert ("granted another lease" in str(caught.value)) == (granted_lease.get("ID") != "x")
        finally:
            server.close()


def test_old_gateway(key: str) -> None:
    """A server that does not know the paths is reported as no etcd."""
    server = LittleServer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nNot Found\n")
    try:
        with (
            opened(f"etcd://{HOST}:{server.port}", 5.0) as backend,
            pytest.raises(BackendUnavailable, match=r"etcd 3\.4 or later"),
        ):
            backend.acquire(make_claim(key))
    finally:
        server.close()
