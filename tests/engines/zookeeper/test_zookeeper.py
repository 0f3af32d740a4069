"""ZooKeeper: the contract on real servers, and what is its own: sessions, quorums, access, nodes left behind."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE

from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.keys import escape
from cronlock.lease.vocabulary import CANCELLED, EXITED, FORGOTTEN, HELD, HOLD, Claim, Conflict, Ending, Grant, Sight
from cronlock.testing import BackendContract, Hooks
from labs.proxy import Proxy
from labs.servers.process import HOST, eventually
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

TTL = 2.0

_numbers = itertools.count(1)


def claim(key: str, *, ttl: float = TTL, hold: float = 0.0, **more: Any) -> Claim:
    """Return the claim of a new run."""
    number = next(_numbers)
    return Claim(
        key=key, owner=f"node:{number}:run", host="node", pid=number, program="job", ttl=ttl, hold=hold, **more
    )


def granted(answer: Grant | Conflict) -> Grant:
    """Return `answer`, which is a grant."""
    assert isinstance(answer, Grant), answer.why
    return answer


def refused(answer: Grant | Conflict) -> Conflict:
    """Return `answer`, which is a conflict."""
    assert isinstance(answer, Conflict)
    return answer


def ended(status: int = 0) -> Ending:
    """Return how a run ended that ended just now."""
    return Ending(EXITED, status, time.time())


@contextmanager
def opened(url: str, timeout: float = 10.0) -> Iterator[Backend]:
    """Open a backend and close it."""
    backend = open_backend(url, timeout)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def looking(server: ZooKeeperServer, login: str = "") -> Iterator[KazooClient]:
    """Connect kazoo's own client to the server, to look behind the backend's back."""
    client = KazooClient(f"{HOST}:{server.plain_port}", auth_data=[("digest", login)] if login else None)
    client.start(30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def leases(server: ZooKeeperServer, key: str, base: str = "/cronlock") -> list[str]:
    """Return the names of the nodes below the key's node."""
    with looking(server) as client:
        return list(client.get_children(f"{base}/{key}"))


def sessions(server: ZooKeeperServer) -> set[str]:
    """Return the sessions that the server keeps."""
    return set(re.findall("0x[0-9a-f]+", server.ask("dump").partition("ephemeral")[0]))


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    """One server with a short tick, which grants long sessions all the same."""
    with ZooKeeperServer(tick=250, settings={"maxSessionTimeout": "600000"}) as running:
        yield running


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Three servers."""
    with ZooKeeperEnsemble(3, tick=500) as running:
        yield running


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"{request.node.originalname}-{next(_numbers)}"


class ZooKeeperHooks(Hooks):
    """Time passes at once: what a session's end removes, and a hold, can be taken away behind the backend's back."""

    forces_time = True
    tells_uptime = False

    def __init__(self, server: ZooKeeperServer, client: KazooClient) -> None:
        self.server = server
        self.client = client

    def open(self) -> Backend:
        """Open a backend with sessions of its own."""
        return open_backend(self.server.url(), 20.0)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Remove the node that goes with the holder's session."""
        self.client.delete(f"/cronlock/{escape(grant.claim.key)}/{escape(grant.claim.owner)}")

    def end_hold(self, node: Backend, key: str) -> None:
        """Write a hold of nothing into the record."""
        path = f"/cronlock/{escape(key)}"
        text, _ = self.client.get(path)
        self.client.set(path, re.sub(rb"(?m)^(hold|kept)=.*$", rb"\1=0", text))


class TestZooKeeper(BackendContract):
    """One server."""

    @pytest.fixture
    def hooks(self, server: ZooKeeperServer) -> Iterator[Hooks]:
        """The server's hooks, with kazoo's own client."""
        with looking(server) as client:
            yield ZooKeeperHooks(server, client)


# What a lease is.


def test_same_owner_asking_again_gets_the_same_lease(server: ZooKeeperServer, key: str) -> None:
    """An acquire whose answer was lost is asked again, perhaps over another connection."""
    with opened(server.url()) as backend:
        ours = claim(key)
        fence = granted(backend.acquire(ours)).fence
        assert granted(backend.acquire(ours)).fence == fence
        time.sleep(1.1)  # Longer than a connection is trusted: the session goes on over a new one.
        assert granted(backend.acquire(ours)).fence == fence
        assert len(leases(server, key)) == 1


def test_asking_again_starts_the_time_anew(server: ZooKeeperServer, key: str) -> None:
    """Its caller may count from when it asked, so the session is reopened although there is a connection."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port)) as backend:
        ours = claim(key)
        granted(backend.acquire(ours))
        before = proxy.connections
        granted(backend.acquire(ours))
        assert proxy.connections == before + 1


def test_its_own_hold_is_no_conflict(server: ZooKeeperServer, key: str) -> None:
    """Granted without hearing of it, and asking again only when the session is over: a new grant."""
    with opened(server.url()) as backend, opened(server.url()) as other:
        ours = claim(key, hold=60)
        first = granted(backend.acquire(ours))
        eventually(lambda: refused(other.acquire(claim(key))).why == HOLD, "the lease lapsed")
        assert (granted(backend.acquire(ours)).fence or 0) > (first.fence or 0)


def test_losers_leave_nothing_behind(server: ZooKeeperServer, key: str) -> None:
    """A failed try has no node, and its session ends with the next one or with its end, not by its timeout."""
    with opened(server.url()) as holder, opened(server.url()) as loser:
        before = sessions(server)
        grant = granted(holder.acquire(claim(key, ttl=300)))
        conflict = refused(loser.acquire(claim(key, ttl=300)))
        assert conflict.why == HELD
        assert 0 < conflict.remaining <= 300
        assert conflict.run is not None
        assert conflict.run.owner == grant.claim.owner
        assert leases(server, key) == [grant.claim.owner.replace(":", "%3A")]
        refused(loser.acquire(claim(key, ttl=300)))
        eventually(lambda: len(sessions(server) - before) == 2, "the holder's session and the loser's last are left")
        loser.close()
        eventually(lambda: len(sessions(server) - before) == 1, "only the holder's session is left")
        assert holder.release(grant, ended(), keep_hold=False)
        assert leases(server, key) == []
        holder.read(key)
        eventually(lambda: not sessions(server) - before, "all sessions ended")


def test_racing_runs_of_a_new_key(server: ZooKeeperServer, key: str) -> None:
    """Many runs start at once where not even the parents of the key's node are there: one gets it."""
    answers: list[Grant | Conflict] = []
    start = threading.Barrier(12)

    def run() -> None:
        with opened(server.url(f"/race/{key}"), timeout=30) as backend:
            start.wait()
            answers.append(backend.acquire(claim(key, hold=60)))

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Grant) for answer in answers) == 1
    assert len(answers) == 12


def test_close_leaves_the_lease_to_lapse(server: ZooKeeperServer, key: str) -> None:
    """Without a release the key is not free before its time, whatever happens to the connection."""
    backend = open_backend(server.url(), 10.0)
    sent = time.monotonic()
    granted(backend.acquire(claim(key)))
    backend.close()
    with opened(server.url()) as other:
        assert refused(other.acquire(claim(key))).why == HELD
        eventually(lambda: isinstance(other.acquire(claim(key)), Grant), "the lease lapsed")
    assert time.monotonic() - sent >= TTL


def test_a_session_that_expired_is_a_loss(server: ZooKeeperServer, key: str) -> None:
    """Then the lease is gone, and a renewal must not start another session for it."""
    with opened(server.url()) as backend, opened(server.url()) as other:
        lost = granted(backend.acquire(claim(key)))
        eventually(lambda: isinstance(other.acquire(claim(key)), Grant), "the lease lapsed")
        before = sessions(server)
        assert backend.renew(lost) is False
        assert not sessions(server) - before
        assert backend.release(lost, ended(), keep_hold=False) is False
        assert len(leases(server, key)) == 1


def test_a_lease_of_another_session_is_not_ours(server: ZooKeeperServer, key: str) -> None:
    """The same owner in a new session could not keep it: it would be told of a lease that lapses."""
    ours = claim(key)
    with opened(server.url()) as first, opened(server.url()) as second:
        granted(first.acquire(ours))
        assert refused(second.acquire(ours)).why == HELD


def test_forced_release(server: ZooKeeperServer, key: str) -> None:
    """Its run finds out at its renewal, and does not remove the next holder's node."""
    with opened(server.url()) as backend, opened(server.url()) as other:
        lost = granted(backend.acquire(claim(key, hold=60)))
        assert other.force_release(key, "somebody else") is False
        assert other.force_release(key, lost.claim.owner) is True
        next_grant = granted(other.acquire(claim(key)))
        assert backend.renew(lost) is False
        assert backend.release(lost, ended(), keep_hold=True) is False
        assert other.renew(next_grant) is True
        assert (next_grant.fence or 0) > (lost.fence or 0)
        assert refused(backend.acquire(lost.claim)).why in (HELD, CANCELLED)


def test_hold_is_measured_from_the_grant_by_the_server(server: ZooKeeperServer, key: str) -> None:
    """Somebody else's writing to the record in between changes nothing about it."""
    with opened(server.url()) as backend:
        sent = time.monotonic()
        grant = granted(backend.acquire(claim(key, hold=2.5)))
        time.sleep(0.7)
        backend.abandon(claim(key))
        time.sleep(0.7)
        assert backend.release(grant, ended(3), keep_hold=True)
        conflict = refused(backend.acquire(claim(key)))
        assert conflict.why == HOLD
        assert conflict.run is not None
        assert conflict.run.status == 3
        assert conflict.remaining <= 1.2
        eventually(lambda: isinstance(backend.acquire(claim(key)), Grant), "the hold was over")
        assert time.monotonic() - sent >= 2.5


def test_a_hold_outlives_a_lease_that_lapsed(server: ZooKeeperServer, key: str) -> None:
    """A holder died: its lease ends with its session, its hold stays, and can be overridden."""
    with opened(server.url()) as backend:
        dead = granted(backend.acquire(claim(key, hold=60)))
        eventually(lambda: refused(backend.acquire(claim(key))).why == HOLD, "only the hold is left")
        record = backend.read(key)
        assert record is not None
        assert record.run is not None
        assert record.run.owner == dead.claim.owner
        assert record.remaining == 0
        assert 50 < record.hold_remaining <= 60
        granted(backend.acquire(claim(key, ignore_hold=True)))


def test_a_wiped_server_is_noticed(server: ZooKeeperServer, key: str) -> None:
    """A lower fence than seen before means that a lease may be out; later fences are above it."""
    floor = 10**12
    with opened(server.url()) as backend:
        sight = Sight(floor=floor, age=10, noticed_age=None)
        conflict = refused(backend.acquire(claim(key, sight=sight)))
        assert (conflict.why, conflict.remaining) == (FORGOTTEN, TTL)
        sight.noticed_age = 0.5
        assert refused(backend.acquire(claim(key, sight=sight))).remaining == 1.5
        sight.noticed_age = TTL
        fence = granted(backend.acquire(claim(key, sight=sight))).fence
        assert fence is not None
        assert fence > floor


def test_fence_goes_on_when_the_node_was_deleted(server: ZooKeeperServer, key: str) -> None:
    """An operator may clean up what nobody uses."""
    with opened(server.url()) as backend:
        first = granted(backend.acquire(claim(key)))
        assert backend.release(first, ended(), keep_hold=False)
        with looking(server) as client:
            client.delete(f"/cronlock/{key}")
        assert (granted(backend.acquire(claim(key))).fence or 0) > (first.fence or 0)


def test_keys_of_every_kind_stay_distinct(server: ZooKeeperServer) -> None:
    """Keys are read back from the names of nodes."""
    keys = {"a b", "a/b", "a%2Fb", "..", ".", "{}", "ä" * 200, "\U0001f600" * 200, "~clock", "zookeeper", "a" * 200}
    with opened(server.url("/kinds")) as backend:
        for each in keys:
            granted(backend.acquire(claim(each)))
        assert set(backend.keys()) == keys


def test_reading_makes_nothing(server: ZooKeeperServer, key: str) -> None:
    """Neither the record of a key that was never used, nor its place."""
    with opened(server.url(f"/{key}")) as backend:
        assert backend.read(key) is None
        assert list(backend.keys()) == []
        assert backend.force_release(key, "nobody") is False
    with looking(server) as client:
        assert client.exists(f"/{key}") is None


# Lost requests and replies.


LOSSES: dict[str, Callable[[Proxy], None]] = {
    "request": Proxy.drop_requests,
    "reply": Proxy.drop_replies,
    "connection": Proxy.refuse,
}
losses = pytest.mark.parametrize("loss", list(LOSSES))


@losses
def test_acquire_lost(server: ZooKeeperServer, key: str, loss: str) -> None:
    """Asked again under the same claim it is granted once, with one node."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 0.5) as backend:
        LOSSES[loss](proxy)
        ours = claim(key, ttl=5)
        with pytest.raises(BackendUnavailable):
            backend.acquire(ours)
        proxy.pass_all()
        proxy.cut()
        grant = granted(backend.acquire(ours))
        assert len(leases(server, key)) == 1
        assert backend.renew(grant)


@pytest.mark.parametrize("part", range(1, 5))
def test_acquire_lost_in_the_middle(server: ZooKeeperServer, key: str, part: int) -> None:
    """Whichever of its exchanges goes unanswered: session, glance, look or transaction."""
    make_nodes(server, key)
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 1.0) as backend:
        ours = claim(key, ttl=5)
        with dropping_reply(proxy, part), pytest.raises(BackendUnavailable):
            backend.acquire(ours)
        assert len(leases(server, key)) == (1 if part == 4 else 0)
        grant = granted(backend.acquire(ours))
        assert len(leases(server, key)) == 1
        assert backend.release(grant, ended(), keep_hold=False)


@losses
def test_abandon_after_a_lost_acquire(server: ZooKeeperServer, key: str, loss: str) -> None:
    """Giving up frees the key, and the same claim gets nothing any more."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 0.5) as backend:
        ours = claim(key, ttl=5, hold=60)
        LOSSES[loss](proxy)
        with pytest.raises(BackendUnavailable):
            backend.acquire(ours)
        proxy.pass_all()
        proxy.cut()
        backend.abandon(ours)
        assert refused(backend.acquire(ours)).why == CANCELLED
        granted(backend.acquire(claim(key)))


def test_acquire_that_arrives_after_it_was_abandoned(server: ZooKeeperServer, key: str) -> None:
    """A transaction that was held up somewhere must not take the key again."""
    make_nodes(server, key)
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 1.0) as backend:
        ours = claim(key, ttl=5)
        with holding_request(proxy, 3), pytest.raises(BackendUnavailable):
            backend.acquire(ours)
        assert proxy.held
        with opened(server.url()) as direct:
            direct.abandon(ours)
            # The session goes on, so that only the record's version can refuse it.
            proxy.deliver_held()
            assert leases(server, key) == []
            granted(direct.acquire(claim(key)))


@losses
def test_renewal_lost(server: ZooKeeperServer, key: str, loss: str) -> None:
    """It raises, within the limit, and the next one is answered in the same session."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 0.5) as backend:
        grant = granted(backend.acquire(claim(key, ttl=5)))
        LOSSES[loss](proxy)
        with pytest.raises(BackendUnavailable):
            backend.renew(grant)
        proxy.pass_all()
        assert backend.renew(grant)


@losses
def test_release_lost(server: ZooKeeperServer, key: str, loss: str) -> None:
    """Asked again it says that the run was recorded, also if it had been the first time."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port), 0.5) as backend:
        grant = granted(backend.acquire(claim(key, ttl=5)))
        LOSSES[loss](proxy)
        with pytest.raises(BackendUnavailable):
            backend.release(grant, ended(7), keep_hold=False)
        proxy.pass_all()
        proxy.cut()
        assert backend.release(grant, ended(7), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert record.run is None
        assert record.last is not None
        assert record.last.status == 7
        assert leases(server, key) == []


def make_nodes(server: ZooKeeperServer, key: str) -> None:
    """Let an acquire of the key be three requests: session, look and transaction."""
    with opened(server.url()) as backend:
        backend.abandon(claim(key))


@contextmanager
def dropping_reply(proxy: Proxy, number: int) -> Iterator[None]:
    """Lose the reply to the client's request of that number, counted from now, and all after it."""
    with _at_request(proxy, number, proxy.drop_replies):
        yield
    proxy.pass_all()
    proxy.cut()


@contextmanager
def holding_request(proxy: Proxy, number: int) -> Iterator[None]:
    """Hold the client's request of that number, counted from now, and all after it."""
    with _at_request(proxy, number, proxy.hold_requests):
        yield
    proxy.pass_all()


@contextmanager
def _at_request(proxy: Proxy, number: int, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` before the proxy passes on the request of that number."""
    upward = proxy._upward
    count = itertools.count(1)

    def watched(connection: Any, data: bytes) -> None:
        if next(count) == number:
            act()
        upward(connection, data)

    proxy.__dict__["_upward"] = watched
    try:
        yield
    finally:
        del proxy.__dict__["_upward"]


# Servers that stop, restart, are not ZooKeeper's or are not what they seem.


def test_hung_server_is_unavailable_within_the_limit(server: ZooKeeperServer, key: str) -> None:
    """Its kernel takes connections while the process stands still."""
    with opened(server.url(), 0.7) as backend:
        grant = granted(backend.acquire(claim(key, ttl=5)))
        server.pause()
        try:
            for call in (lambda: backend.renew(grant), lambda: backend.acquire(claim(key)), lambda: backend.read(key)):
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match="no answer in time"):
                    call()
                assert time.monotonic() - began >= 0.6
        finally:
            server.resume()


def test_restart_with_its_data_keeps_the_lease(key: str) -> None:
    """Sessions are part of the data, and start anew when the server does."""
    with ZooKeeperServer(tick=1000) as own, opened(own.url()) as backend:
        grant = granted(backend.acquire(claim(key, ttl=20)))
        own.kill()
        with pytest.raises(BackendUnavailable):
            backend.renew(grant)
        own.start()
        assert backend.renew(grant)
        assert refused(backend.acquire(claim(key))).why == HELD
        own.restart(keep_data=False)
        assert backend.renew(grant) is False


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x04\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff" + b"x" * 4096,
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x24" + b"\x00\x00\x00\x00\x00\x00\x0f\xa0" + b"\x01" * 8 + b"\x00\x00\x00\x10" + b"p" * 16,
    ],
)
@pytest.mark.parametrize("closes", [True, False])
def test_server_of_another_kind(answer: bytes, closes: bool) -> None:
    """Whatever it says, and whether it hangs up: unavailable, and nothing else."""
    with _impostor(answer, closes=closes) as port, opened(f"zookeeper://{HOST}:{port}", 0.4) as backend:
        with pytest.raises(BackendUnavailable) as caught:
            backend.acquire(claim("key"))
        assert "\n" not in str(caught.value)


def test_a_server_that_answers_nonsense_after_the_session(key: str) -> None:
    """A session was agreed on, and then comes a reply to nothing that was asked."""
    session = b"\x00\x00\x00\x25" + b"\x00\x00\x00\x00\x00\x00\x0f\xa0" + b"\x01" * 8 + b"\x00\x00\x00\x10" + b"p" * 16
    for reply in (
        b"\x00\x00\x00\x10" + b"\x00" * 16,
        b"\x00\x00\x00\x10\x00\x00\x00\x01" + b"\x00" * 12,
        b"\x00\x00\x00\x02ab",
    ):
        answer = session + b"\x00" + reply
        with _impostor(answer, closes=False) as port, opened(f"zookeeper://{HOST}:{port}", 0.4) as backend:
            _expect_unavailable(backend, key)


def _expect_unavailable(backend: Backend, key: str) -> None:
    with pytest.raises(BackendUnavailable):
        backend.acquire(claim(key))


@contextmanager
def _impostor(answer: bytes, *, closes: bool) -> Iterator[int]:
    """Give `answer` to every connection and close it or leave it open."""
    listener = socket.create_server((HOST, 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                taken.append(connection)
                with suppress(OSError):
                    connection.recv(4096)
                    connection.sendall(answer)
                    if closes:
                        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"garbage", b"cronlock=1\n", b"cronlock=1\nfence=x\n", b"\xff\xfe", b"cronlock=2\n"),
        *(b"cronlock=1\nfence=1\n%s\n" % field for field in (b"hold=inf", b"hold=nan", b"kept=1e3")),
        *(b"cronlock=1\nfence=1\n%s=%s\n" % (name, b"9" * 400) for name in (b"kept", b"granted")),
    ],
)
def test_foreign_value_is_left_alone(server: ZooKeeperServer, key: str, data: bytes) -> None:
    """A node in the key's place that is not cronlock's is reported and not overwritten."""
    with looking(server) as client, opened(server.url()) as backend:
        client.create(f"/cronlock/{key}", data, makepath=True)
        for call in (
            lambda: backend.acquire(claim(key)),
            lambda: backend.read(key),
            lambda: backend.abandon(claim(key)),
            lambda: backend.force_release(key, "x"),
        ):
            with pytest.raises(ForeignValue, match="key"):
                call()
        assert client.get(f"/cronlock/{key}")[0] == data


def test_foreign_child_is_left_alone(server: ZooKeeperServer, key: str) -> None:
    """A node below the key's that is no lease must not pass for one."""
    with looking(server) as client, opened(server.url()) as backend:
        backend.abandon(claim(key))
        client.create(f"/cronlock/{key}/else")
        with pytest.raises(ForeignValue, match="else"):
            backend.acquire(claim(key))


def test_ephemeral_node_in_the_keys_place(server: ZooKeeperServer, key: str) -> None:
    """It can have no lease below it, and is nobody's record for long."""
    with looking(server) as client, opened(server.url()) as backend:
        client.create(f"/cronlock/{key}", b"cronlock=1\nfence=0\n", ephemeral=True)
        with pytest.raises(ForeignValue, match="ephemeral"):
            backend.acquire(claim(key))


def test_first_of_several_servers_is_down(server: ZooKeeperServer, key: str) -> None:
    """Or hangs: the others are asked within the limit."""
    with _impostor(b"", closes=False) as hung:
        dead = f"{HOST}:1"
        url = f"zookeeper://{dead},{HOST}:{hung},{HOST}:{server.port}"
        for _ in range(3):
            with opened(url, 3.0) as backend:
                grant = granted(backend.acquire(claim(key)))
                assert backend.renew(grant)
                assert backend.release(grant, ended(), keep_hold=False)


# URLs and access.


@pytest.mark.parametrize(
    "url",
    [
        "zookeeper://",
        "zookeeper://user@host",
        "zookeeper://host?ca=x",
        "zookeeper://host/a//b",
        "zookeeper://host/a/../b",
        "zookeeper://host/a%00b",
        "zookeeper://host/zookeeper",
        "zookeeper://host?prefix=zookeeper",
        "zookeeper://host?prefix=..",
        "zookeepers://host?ca=/does/not/exist",
    ],
)
def test_bad_urls(url: str) -> None:
    """Each is refused before anything is asked."""
    with pytest.raises(ConfigError):
        open_backend(url, 1.0)


def test_chroot_and_prefix_are_made(server: ZooKeeperServer, key: str) -> None:
    """Both are made on first use, and keep keys apart."""
    with opened(server.url("/team/a", prefix="jobs")) as one, opened(server.url("/team/b/", prefix="jobs")) as two:
        granted(one.acquire(claim(key)))
        granted(two.acquire(claim(key)))
        assert len(leases(server, key, "/team/a/jobs")) == 1
        assert list(two.keys()) == [key]


def test_credentials_keep_others_out(server: ZooKeeperServer, key: str) -> None:
    """Nodes are open to their creator only, and a wrong password is told as such."""
    with opened(server.url("/ours", login="ann:secret")) as ann:
        grant = granted(ann.acquire(claim(key)))
        assert ann.renew(grant)
        for login in ("ann:wrong", "bob:secret", ""):
            with opened(server.url("/ours", login=login)) as other:
                for call in (
                    lambda other=other: other.read(key),
                    lambda other=other: other.acquire(claim(key)),
                    lambda other=other: other.force_release(key, grant.claim.owner),
                    lambda other=other: list(other.keys()),
                ):
                    with pytest.raises(BackendUnavailable, match="authentication failed") as caught:
                        call()
                    assert "secret" not in str(caught.value)
                    assert "wrong" not in str(caught.value)
        with looking(server, "ann:secret") as client:
            for path in ("/ours", "/ours/cronlock", f"/ours/cronlock/{key}"):
                assert client.get_acls(path)[0] != OPEN_ACL_UNSAFE
        assert ann.release(grant, ended(), keep_hold=False)


def test_tls(key: str) -> None:
    """A whole run over TLS; to a plain port, or without trust in the server, it is unavailable."""
    with ZooKeeperServer(tick=500, tls=True) as secure:
        with opened(secure.url()) as backend:
            grant = granted(backend.acquire(claim(key)))
            assert backend.renew(grant)
            assert backend.release(grant, ended(), keep_hold=False)
        with (
            opened(f"zookeepers://{HOST}:{secure.port}") as distrusting,
            pytest.raises(BackendUnavailable, match="TLS"),
        ):
            distrusting.acquire(claim(key))
        with opened(secure.url(port=secure.plain_port), 1.0) as plain, pytest.raises(BackendUnavailable):
            plain.acquire(claim(key))
        with opened(f"zookeeper://{HOST}:{secure.port}", 1.0) as clear, pytest.raises(BackendUnavailable):
            clear.acquire(claim(key))


# An ensemble.


def test_an_agreed_session_bounds_the_lease(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """The servers keep sessions for 20 ticks at most, and the grant says so."""
    with opened(ensemble.url()) as backend:
        assert granted(backend.acquire(claim(key, ttl=300))).ttl == 10
        assert granted(backend.acquire(claim(key + "2", ttl=TTL))).ttl == TTL


def test_renewal_through_a_follower_that_dies_counts_in_full(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """The leader itself must have heard of it: a follower tells of its sessions only now and then."""
    follower = ensemble.follower()
    with opened(follower.url()) as backend, opened(ensemble.leader().url()) as other:
        grant = granted(backend.acquire(claim(key, ttl=4)))
        time.sleep(2.5)
        sent = time.monotonic()
        assert backend.renew(grant)
        follower.kill()
        try:
            eventually(lambda: isinstance(other.acquire(claim(key)), Grant), "the lease lapsed")
            assert time.monotonic() - sent >= 4
        finally:
            follower.start()


def test_no_renewal_without_a_quorum(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """A follower on its own must not make anybody believe that the lease goes on."""
    follower = ensemble.follower()
    others = [node for node in ensemble.nodes if node is not follower]
    with opened(follower.url(), 1.5) as backend:
        grant = granted(backend.acquire(claim(key, ttl=10)))
        for node in others:
            node.pause()
        try:
            with pytest.raises(BackendUnavailable):
                backend.renew(grant)
        finally:
            for node in others:
                node.resume()
    ensemble.leader()


def test_leader_dies_during_a_lease(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """Renewals fail or are good until there is a new leader, and nobody else gets the key."""
    with opened(ensemble.url(), 3.0) as backend, opened(ensemble.url(), 3.0) as other:
        grant = granted(backend.acquire(claim(key, ttl=10)))
        leader = ensemble.leader()
        leader.kill()
        renewed = 0
        end = time.monotonic() + 60
        try:
            while renewed < 3 and time.monotonic() < end:
                with suppress(BackendUnavailable):
                    assert backend.renew(grant) is True
                    renewed += 1
                with suppress(BackendUnavailable):
                    assert refused(other.acquire(claim(key))).why == HELD
                time.sleep(0.1)
        finally:
            leader.start()
        assert renewed == 3
        assert backend.release(grant, ended(), keep_hold=False)
