"""ZooKeeper: where the history lies, and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from cronlock.engines.zookeeper import session as zksession
from cronlock.lease.vocabulary import HISTORY, HOLD
from cronlock.testing import LONG, granted, make_claim, make_ending, refused
from labs.proxy import Proxy, _Connection
from labs.servers.zookeeper import ZooKeeperServer
from tests.engines.zookeeper.test_zookeeper import looking, opened

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    """One server."""
    with ZooKeeperServer(settings={"maxSessionTimeout": "600000"}) as running:
        yield running


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"past-{next(_numbers)}"


class CountingProxy(Proxy):
    """Counts what the server answers, too."""

    #: Bytes.
    answered = 0

    def __enter__(self) -> CountingProxy:
        super().__enter__()
        return self

    def _downward(self, connection: _Connection, data: bytes) -> None:
        self.answered += len(data)
        super()._downward(connection, data)


def run(url: str, key: str, status: int = 0, *, hold: float = 0.0, program: str = "job") -> None:
    """Take the key and release it, as one run does."""
    with opened(url) as backend:
        grant = granted(backend.acquire(make_claim(key, hold=hold, program=program)))
        assert backend.release(grant, make_ending(status), keep_hold=True)


def test_what_a_loser_reads_does_not_grow(server: ZooKeeperServer, key: str) -> None:
    """A skip is answered by as many bytes after many runs as after one."""
    answered = []
    for runs in (1, HISTORY + 2):
        for _ in range(runs):
            run(server.url(), key)
        with looking(server) as client:
            text, _ = client.get(f"/cronlock/{key}")
            client.set(f"/cronlock/{key}", text.replace(b"hold=0.000", b"hold=600"))
        with CountingProxy(server.port) as proxy, opened(server.url(port=proxy.port)) as backend:
            refused(backend.acquire(make_claim(key)), HOLD)
            answered.append(proxy.answered)
        with opened(server.url()) as backend:
            record = backend.read(key)
            assert record is not None
            assert record.last is not None
            assert backend.force_release(key, record.last.owner)
    # Numbers have more digits, and somebody forced a hold.
    assert answered[1] < answered[0] + 100


def test_a_run_asks_as_often_as_ever(server: ZooKeeperServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history comes with the answer to the grant, and goes with the release: no exchange is for it."""
    monkeypatch.setattr(zksession, "FRESH", 600.0)
    with opened(server.url()) as backend:
        backend.abandon(make_claim(key))  # Makes the key's node.
    asked = []
    for _ in range(HISTORY + 2):
        with Proxy(server.port) as proxy, opened(server.url(port=proxy.port)) as backend:
            grant = granted(backend.acquire(make_claim(key)))
            to_begin = proxy.requests
            # Its session's end is sent too, and not waited for.
            monkeypatch.setattr(zksession.Session, "end", zksession.Session.drop)
            assert backend.release(grant, make_ending(), keep_hold=False)
            asked.append((to_begin, proxy.requests - to_begin, proxy.connections))
    assert asked == [(asked[0][0], 1, 1)] * len(asked)


def test_history_stays_small(server: ZooKeeperServer, key: str) -> None:
    """However long the program's name: a node may have a megabyte at most."""
    for status in range(HISTORY + 2):
        run(server.url(), key, status, program="\udcff" + "%\n" * 40_000)
    with looking(server) as client:
        assert len(client.get(f"/cronlock/~history.{key}")[0]) < 64_000
    with opened(server.url()) as backend:
        record = backend.read(key)
        assert record is not None
        assert [run.status for run in record.history] == list(range(HISTORY + 1, 1, -1))
        assert record.success is not None
        assert record.success.status == 0


@pytest.mark.parametrize(
    "text", [b"", b"garbage", b"cronlock=2\n", b"cronlock=1\nruns=x%0Aowner=a\tpid=b\nsuccess=?\n"]
)
def test_an_unreadable_history_costs_no_run(server: ZooKeeperServer, key: str, text: bytes) -> None:
    """Whatever became of it, the key works on, and the history begins anew."""
    run(server.url(), key)
    with looking(server) as client:
        client.set(f"/cronlock/~history.{key}", text)
    run(server.url(), key, 7)
    with opened(server.url()) as backend:
        record = backend.read(key)
        assert record is not None
        assert [run.status for run in record.history] == [7, 0]
        assert record.success is not None


def test_history_removed_during_the_run(server: ZooKeeperServer, key: str) -> None:
    """An operator cleans up while a run goes on: its release is recorded all the same."""
    run(server.url(), key)
    with looking(server) as client, opened(server.url()) as backend:
        grant = granted(backend.acquire(make_claim(key)))
        client.delete(f"/cronlock/~history.{key}")
        assert backend.release(grant, make_ending(3), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert record.run is None
        # The last run was in the record, too.
        assert [run.status for run in record.history] == [3, 0]
        assert client.get_children(f"/cronlock/{key}") == []


def test_asked_again_it_still_has_the_history(server: ZooKeeperServer, key: str) -> None:
    """A run whose grant was asked for twice adds to the history at its end."""
    run(server.url(), key, 1)
    with opened(server.url()) as backend:
        claim = make_claim(key)
        granted(backend.acquire(claim))
        assert backend.release(granted(backend.acquire(claim)), make_ending(2), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert [run.status for run in record.history] == [2, 1]


def test_release_asked_for_twice_is_one_run(server: ZooKeeperServer, key: str) -> None:
    """A release whose answer was lost is in the history once."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 1.0) as backend:
        grant = granted(backend.acquire(make_claim(key)))
        proxy.drop_replies()
        with pytest.raises(Exception, match="no answer in time"):
            backend.release(grant, make_ending(5), keep_hold=False)
        proxy.pass_all()
        proxy.cut()
        assert backend.release(grant, make_ending(5), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert [run.status for run in record.history] == [5]


def test_history_is_no_key(server: ZooKeeperServer) -> None:
    """Nodes of histories are not listed; a key may be called like one."""
    with opened(server.url("/listed")) as backend:
        for key in ("a", "~history.a"):
            run(server.url("/listed"), key)
        assert sorted(backend.keys()) == ["a", "~history.a"]


def test_history_is_its_creators(server: ZooKeeperServer, key: str) -> None:
    """With credentials nobody else reads it."""
    run(server.url("/own", login="ann:secret"), key)
    with looking(server, "ann:secret") as client:
        for path in (f"/own/cronlock/{key}", f"/own/cronlock/~history.{key}"):
            assert [acl.id.scheme for acl in client.get_acls(path)[0]] == ["digest"]


def test_death_is_written_with_the_next_grant(server: ZooKeeperServer, key: str) -> None:
    """Not before, and not if the grant was refused at last."""
    with looking(server) as client, opened(server.url()) as backend:
        dead = granted(backend.acquire(make_claim(key, hold=LONG)))
        client.delete(f"/cronlock/{key}/{dead.claim.owner}")
        refused(backend.acquire(make_claim(key)), HOLD)
        assert client.exists(f"/cronlock/~history.{key}") is None
        granted(backend.acquire(make_claim(key, standby_for=dead.claim.owner)))
        record, past = (client.get(path)[1] for path in (f"/cronlock/{key}", f"/cronlock/~history.{key}"))
        assert record.mzxid == past.mzxid
