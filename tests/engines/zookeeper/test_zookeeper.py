"""ZooKeeper: the contract on real servers, and what is its own: sessions, quorums, access, nodes left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import pytest
from kazoo.security import OPEN_ACL_UNSAFE

from cronlock.engines.url import URL
from cronlock.engines.zookeeper import session as zksession
from cronlock.engines.zookeeper.cell import NodeCell
from cronlock.engines.zookeeper.store import ZooKeeperStore
from cronlock.engines.zookeeper.tree import LASTING
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.keys import escape
from cronlock.lease.vocabulary import HISTORY
from cronlock.testing import LONG, StoreContract, eventually, granted, make_claim, make_ending
from cronlock.testing.cells import read, refused, swap, try_swap
from labs.impostors import impostor
from labs.proxy import Proxy
from labs.servers.process import HOST
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from ..faults import PATIENT, TLS, FaultHooks, Impostors, StoreFaults, Strangers, URLs
from .support import leasing, looking, opened, remove_lease, sessions, take

if TYPE_CHECKING:
    pass

TTL = 2.0


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Three servers."""
    with ZooKeeperEnsemble(3, tick=500) as running:
        yield running


class LookingStore(ZooKeeperStore):
    """Looks at the leader's clock in each read: a glance does not tell that a hold is over while there is a lease."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> NodeCell:
        """Return the cell as it is now."""
        return super().read(key, deadline, exact=True)


class ZooKeeperHooks(FaultHooks):
    """A lease lapses at once: what a session's end removes can be taken away behind the store's back."""

    acquire, swap, renew, release = 5, 2, 2, 2
    # One that hangs up while a session is opened is called busy.
    hasty = 1.0

    def open_store(self) -> ZooKeeperStore:
        """Open a store with sessions of its own."""
        return LookingStore(URL(self.server.url()), PATIENT)

    def lapse(self, key: str) -> None:
        """Remove the node that goes with the holder's session."""
        with looking(self.server) as client:
            remove_lease(client, f"/cronlock/{escape(key)}")

    def put(self, key: str, value: bytes) -> None:
        """Make the key's node."""
        with looking(self.server) as client:
            client.create(f"/cronlock/{key}", value, makepath=True)

    def kept(self, key: str) -> object:
        """Return the node's text, how often it was written, and what is below it."""
        with looking(self.server) as client:
            text, stat = client.get(f"/cronlock/{key}")
            return text, stat.version, client.get_children(f"/cronlock/{key}")


@pytest.fixture
def hooks(server: ZooKeeperServer) -> ZooKeeperHooks:
    """The server's hooks."""
    return ZooKeeperHooks(server)


class TestZooKeeper(StoreContract):
    """One server."""


_HEAD = b"cronlock-node\t%s\t0\t0\t0\t0\ncronlock=2\tx\nfence\t1\n"
_SESSION = b"\x00\x00\x0f\xa0" + b"\x01" * 8 + b"\x00\x00\x00\x10" + b"p" * 16


class TestFaults(StoreFaults, Strangers, TLS, Impostors, URLs):
    """The same server by a wire, and what is not cronlock's on it."""

    foreign: ClassVar[list[tuple[bytes, str]]] = [
        (b"cronlock=1\nfence=1\n", "a record of an older, unreleased layout"),
        *(
            (data, "not cronlock's")
            for data in (
                *(b"", b"garbage", b"\xff\xfe", b"cronlock=2\tx\nfence\t1\n", b"cronlock-node"),
                *(b"cronlock-node\t\t\t%s\t0\t0\n" % number for number in (b"", b"inf", b"-1", b"1e3", b"9" * 400)),
                *(_HEAD % name for name in (b"a/b", b"..", b"\xc3\xa4")),
            )
        ),
    ]
    nonsense: ClassVar[list[bytes]] = [
        *(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"", b"\x00\x00\x00\x00"),
        *(b"\x00\x00\x00\x04\xff\xff\xff\xff", b"\x7f\xff\xff\xff" + b"x" * 4096, b"\xff\xff\xff\xff"),
        b"\x00\x00\x00\x24\x00\x00\x00\x00" + _SESSION,
        # A session, and then a reply to nothing that was asked.
        *(
            b"\x00\x00\x00\x25\x00\x00\x00\x00" + _SESSION + b"\x00" + reply
            for reply in (
                b"\x00\x00\x00\x10" + b"\x00" * 16,
                b"\x00\x00\x00\x10\x00\x00\x00\x01" + b"\x00" * 12,
                b"\x00\x00\x00\x02ab",
            )
        ),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("zookeeper://", "no host"),
        ("zookeeper://user@host", "give user and password"),
        ("zookeeper://host?ca=x", "go with zookeepers://"),
        *((f"zookeeper://host/{path}", "make the path") for path in ("a//b", "a/../b", "a%00b", "zookeeper")),
        *((f"zookeeper://host?prefix={prefix}", "make the path") for prefix in ("zookeeper", "..")),
        ("zookeepers://host?ca=/does/not/exist", "ca=/does/not/exist"),
    ]


# The lease and its session.


def lease_names(server: ZooKeeperServer, key: str, base: str = "/cronlock") -> list[str]:
    """Return the names of the nodes below the key's node."""
    with looking(server) as client:
        return list(client.get_children(f"{base}/{key}"))


@pytest.mark.parametrize("ttl", [LASTING, TTL])
@pytest.mark.parametrize("late", [False, True])
def test_a_lease_starts_by_opening_its_session(server: ZooKeeperServer, key: str, ttl: float, late: bool) -> None:
    """Only that counts at the leader, so it was just before; from a renewal on no connection is kept."""
    with Proxy(server.port) as proxy, opened(server.url(port=proxy.port)) as store:
        seen = read(store, key)
        time.sleep(1.1 if late else 0)
        cell = swap(store, key, seen, lease=ttl)
        assert cell.lease == ttl
        first = 1 if ttl == LASTING and not late else 2
        assert proxy.connections == first
        for count in (first + 1, first + 2):
            later = swap(store, key, cell, lease=ttl)
            assert (proxy.connections, later.lease_name, later.session) == (count, cell.lease_name, cell.session)
            assert not store._leases[key].resume(time.monotonic() + 1)
            cell = later
        assert lease_names(server, key) == [cell.lease_name]


def test_losers_leave_nothing_behind(server: ZooKeeperServer, key: str) -> None:
    """A refused try has no node, and one session for all of them, which ends when the store is closed."""
    with opened(server.url()) as holder, opened(server.url()) as loser:
        before = sessions(server)
        late = read(loser, key)
        cell = take(holder, key, 300)
        for _ in range(3):
            assert refused(loser, key, late, lease=300).lease == 300
            assert read(loser, key).lease == 300
        assert lease_names(server, key) == [cell.lease_name]
        eventually(lambda: len(sessions(server) - before) == 2, "the holder's session and the loser's are left")
        loser.close()
        eventually(lambda: len(sessions(server) - before) == 1, "only the holder's session is left")
        swap(holder, key, cell, lease=0.0)
        assert lease_names(server, key) == []
        eventually(lambda: not sessions(server) - before, "all sessions ended")


def test_racing_runs_of_a_new_place(server: ZooKeeperServer, key: str) -> None:
    """Many runs start at once where not even the parents of the key's node are there: one gets it."""
    answers: list[bool] = []
    start = threading.Barrier(12)

    def run() -> None:
        with opened(server.url(f"/race/{key}"), timeout=30) as store:
            seen = read(store, key)
            start.wait()
            answers.append(try_swap(store, key, seen, lease=60)[0])

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 11 + [True]


def test_close_leaves_the_lease_to_lapse(server: ZooKeeperServer, key: str) -> None:
    """Without an end the key is not free before its time, whatever happens to the connection."""
    with opened(server.url()) as store, opened(server.url()) as other:
        take(store, key, TTL)
        sent = time.monotonic()
        store.close()
        assert read(other, key).lease == TTL
        eventually(lambda: not read(other, key).lease, "the lease lapsed")
        assert time.monotonic() - sent >= TTL - 0.5


def test_a_lease_that_lapsed_is_taken_up_again(server: ZooKeeperServer, key: str) -> None:
    """A lapsed lease is renewed by a new session if nobody else wrote, and the old connection is closed."""
    with opened(server.url()) as store, opened(server.url()) as other:
        old = take(store, key, TTL)
        eventually(lambda: not read(other, key).lease, "the lease lapsed")
        new = swap(store, key, old, lease=TTL)
        assert new.session != old.session
        assert lease_names(server, key) == [new.lease_name]
        assert read(other, key).lease
        eventually(lambda: not read(other, key).lease, "the lease lapsed")
        swap(other, key, read(other, key), lease=LONG)
        other.close()
        before = sessions(server)
        refused(store, key, new, lease=TTL)
        store.close()
        eventually(lambda: not sessions(server) - before, "the session that was opened in vain ended")


def test_a_lease_whose_node_was_removed(server: ZooKeeperServer, key: str) -> None:
    """Its session goes on, and so does the lease, by another node; where it is to end, it has."""
    with opened(server.url()) as store, looking(server) as client:
        cell = take(store, key, LONG)
        for lease in (LONG, 0.0):
            remove_lease(client, f"/cronlock/{key}")
            cell = swap(store, key, cell, lease=lease)
            assert client.get_children(f"/cronlock/{key}") == ([cell.lease_name] if lease else [])


def test_a_lease_of_another_session_is_replaced(server: ZooKeeperServer, key: str) -> None:
    """Whoever may have it, by the version, has it in a session of its own; the other one finds out."""
    with opened(server.url()) as first, opened(server.url()) as second:
        old = take(first, key, LONG)
        new = swap(second, key, read(second, key), lease=TTL)
        assert lease_names(server, key) == [new.lease_name]
        assert refused(first, key, old, lease=LONG).session == new.session
        eventually(lambda: not read(first, key).lease, "closing nothing, the new session is over", pause=0.3)


def test_hold_is_measured_from_the_write_by_the_leader(server: ZooKeeperServer, key: str) -> None:
    """To the millisecond; others' writes in between change nothing about it."""
    with opened(server.url()) as store, looking(server) as client:
        for hold in (0.25, 2.5):
            cell = swap(store, key, read(store, key), hold=hold)
            until = client.get(f"/cronlock/{key}")[1].mtime + round(1000 * hold)
            assert read(store, key).hold_until == cell.hold_until == until
            for more in (0.0, 0.1):
                cell = swap(store, key, cell, hold=more)
                assert read(store, key).hold_until == until


def test_a_glance_writes_nothing(server: ZooKeeperServer, key: str) -> None:
    """A read shows the most that lease and hold can last; an exact one asks the leader's clock."""
    with opened(server.url()) as store, opened(server.url()) as other, looking(server) as client:
        take(store, key, LONG, hold=1.0)

        def written() -> list[int]:
            return [client.get(path)[1].mzxid for path in (f"/cronlock/{key}", "/cronlock/~clock")]

        before = written()
        time.sleep(1.1)
        cell = read(other, key)
        assert (cell.lease, cell.hold, cell.time) == (LONG, 1.0, None)
        assert written() == before
        cell = read(other, key, exact=True)
        assert LONG - 60 < cell.lease <= LONG - 1
        assert cell.hold == 0.0
        assert written() > before


def test_requests(server: ZooKeeperServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests of each step do not depend on the length of the history."""
    monkeypatch.setattr(zksession, "FRESH", 600.0)
    # A session's end is sent too, and not waited for.
    monkeypatch.setattr(zksession.Session, "end", zksession.Session.drop)
    with leasing(server.url()) as node:
        grant = granted(node.acquire(make_claim(key, ttl=LASTING)))
        assert node.release(grant, make_ending(), keep_hold=False)
    for _ in range(HISTORY + 2):
        with Proxy(server.port) as proxy, leasing(server.url(port=proxy.port)) as node:
            grant = granted(node.acquire(make_claim(key, ttl=LASTING)))
            assert (proxy.requests, proxy.connections) == (4, 1)
            with Proxy(server.port) as second, leasing(server.url(port=second.port)) as loser:
                loser.acquire(make_claim(key))
                assert (second.requests, second.connections) == (2, 1)
            assert node.release(grant, make_ending(), keep_hold=False)
            assert (proxy.requests, proxy.connections) == (5, 1)


# The version.


def test_a_node_that_was_recreated(server: ZooKeeperServer, key: str) -> None:
    """Its writes are counted from 0 again: what was seen of another one counts for nothing."""
    with opened(server.url()) as store, opened(server.url()) as other, looking(server) as client:
        for lease in (None, LONG):
            old = swap(store, key, read(store, key), lease=lease)
            client.delete(f"/cronlock/{key}", recursive=True)
            new = swap(other, key, read(other, key), lease=lease)
            assert (old.node or (0, 0))[1] == (new.node or (0, 0))[1]
            assert new.floor > old.floor
            time.sleep(1.1 if lease is None else 0)
            for more in (None, LONG, 0.0):
                assert refused(store, key, old, lease=more).data == new.data
            client.delete(f"/cronlock/{key}", recursive=True)


# Names and what is in a key's place.


def test_what_is_no_key_is_not_listed(server: ZooKeeperServer) -> None:
    """Neither the clock's node nor what an older program left behind; a key may be called like these."""
    with opened(server.url("/kinds")) as store, looking(server) as client:
        for key in ("a", "~clock", "~history.a"):
            swap(store, key, read(store, key))
        client.create("/kinds/cronlock/~history.a", b"cronlock=1\n")
        assert sorted(store.keys()) == ["a", "~clock", "~history.a"]


def test_reading_makes_nothing(server: ZooKeeperServer, key: str) -> None:
    """Neither the record of a key that was never used, nor its place."""
    with opened(server.url(f"/{key}")) as store:
        for exact in (True, False):
            assert read(store, key, exact=exact).data is None
        assert list(store.keys()) == []
    with looking(server) as client:
        assert client.exists(f"/{key}") is None


def test_a_clock_that_was_removed(server: ZooKeeperServer, key: str) -> None:
    """It is made again when a key is looked at."""
    with opened(server.url(f"/{key}")) as store, looking(server) as client:
        swap(store, key, read(store, key), hold=60)
        client.delete(f"/{key}/cronlock/~clock")
        assert 50 < read(store, key).hold <= 60
        assert read(store, key).time


def test_foreign_child_is_left_alone(server: ZooKeeperServer, key: str) -> None:
    """A node below the key's that is no lease must not pass for one."""
    with looking(server) as client, opened(server.url()) as store:
        swap(store, key, read(store, key))
        client.create(f"/cronlock/{key}/else")
        with pytest.raises(ForeignValue, match="else"):
            read(store, key)


def test_ephemeral_nodes_in_the_way(server: ZooKeeperServer, key: str) -> None:
    """An ephemeral node cannot have a lease below it, and would not keep a record."""
    with looking(server) as client, opened(server.url()) as store:
        client.create(f"/cronlock/{key}", _HEAD % b"", ephemeral=True, makepath=True)
        with pytest.raises(ForeignValue, match="ephemeral"):
            read(store, key)
        client.create(f"/{key}", ephemeral=True)
        with opened(server.url(f"/{key}")) as below, pytest.raises(ForeignValue, match="ephemeral"):
            swap(below, key, read(below, key))


# Servers that stop or restart.


def test_restart_with_its_data_keeps_the_lease(key: str) -> None:
    """A restarted server extends its sessions, which are part of its data."""
    with ZooKeeperServer(tick=1000) as own, opened(own.url()) as store:
        cell = take(store, key, 20)
        own.kill()
        with pytest.raises(BackendUnavailable):
            swap(store, key, cell, lease=20)
        own.start()
        cell = swap(store, key, cell, lease=20)
        own.restart(keep_data=False)
        assert refused(store, key, cell, lease=20).data is None


def test_first_of_several_servers_is_down(server: ZooKeeperServer, key: str) -> None:
    """Or hangs: the others are asked within the limit."""
    with impostor(b"") as hung:
        url = f"zookeeper://{HOST}:1,{HOST}:{hung},{HOST}:{server.port}"
        for _ in range(3):
            with opened(url, 6.0) as store:
                swap(store, key, swap(store, key, take(store, key, 20), lease=20), lease=0.0)


# URLs and access.


def test_chroot_and_prefix_are_made(server: ZooKeeperServer, key: str) -> None:
    """Both are made on first use, and keep keys apart."""
    with opened(server.url("/team/a", prefix="jobs")) as one, opened(server.url("/team/b/", prefix="jobs")) as two:
        take(one, key, TTL)
        take(two, key, TTL)
        assert len(lease_names(server, key, "/team/a/jobs")) == 1
        assert list(two.keys()) == [key]
        assert one.location(key).endswith(f"node /team/a/jobs/{key}")


def test_credentials_keep_others_out(server: ZooKeeperServer, key: str) -> None:
    """Nodes are open to their creator only, and a wrong password is reported."""
    with opened(server.url("/ours", login="ann:secret")) as ann:
        cell = swap(ann, key, take(ann, key, 20), lease=20)
        for login in ("ann:wrong", "bob:secret", ""):
            with opened(server.url("/ours", login=login)) as other:
                for call in (
                    lambda other=other: read(other, key),
                    lambda other=other: try_swap(other, key, cell, lease=0.0),
                    lambda other=other: try_swap(other, "else", NodeCell(), lease=TTL),
                    lambda other=other: list(other.keys()),
                ):
                    with pytest.raises(BackendUnavailable, match="authentication failed") as caught:
                        call()
                    assert "secret" not in str(caught.value) + other.location(key)
                    assert "wrong" not in str(caught.value) + other.location(key)
        with looking(server, "ann:secret") as client:
            for path in ("/ours", "/ours/cronlock", f"/ours/cronlock/{key}"):
                assert client.get_acls(path)[0] != OPEN_ACL_UNSAFE
        swap(ann, key, cell, lease=0.0)


# An ensemble.


def test_an_agreed_session_bounds_the_lease(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """The servers keep sessions for 20 ticks at most, and the cell says so."""
    with opened(ensemble.url()) as store:
        cell = take(store, key, 300)
        assert cell.lease == 10
        assert read(store, key).lease == 10
        cell = swap(store, key, cell, lease=3)
        assert cell.lease == read(store, key).lease == 3


def test_renewal_through_a_follower_that_dies_counts_in_full(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """The leader itself must have heard of it: a follower tells of its sessions only now and then."""
    follower = ensemble.follower()
    with opened(follower.url()) as store, opened(ensemble.leader().url()) as other:
        cell = take(store, key, 4)
        time.sleep(2.5)
        sent = time.monotonic()
        swap(store, key, cell, lease=4)
        follower.kill()
        try:
            eventually(lambda: not read(other, key).lease, "the lease lapsed")
            assert time.monotonic() - sent >= 4
        finally:
            follower.start()


def test_no_renewal_without_a_quorum(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """A follower on its own must not make anybody believe that the lease goes on."""
    follower = ensemble.follower()
    others = [node for node in ensemble.nodes if node is not follower]
    with opened(follower.url(), 1.5) as store:
        cell = take(store, key, 10)
        for node in others:
            node.pause()
        try:
            with pytest.raises(BackendUnavailable):
                swap(store, key, cell, lease=10)
        finally:
            for node in others:
                node.resume()
    ensemble.leader()


def test_leader_dies_during_a_lease(ensemble: ZooKeeperEnsemble, key: str) -> None:
    """Renewals fail or are good until there is a new leader, and the lease is there for everybody."""
    with opened(ensemble.url(), 3.0) as store, opened(ensemble.url(), 3.0) as other:
        cell = take(store, key, 10)
        leader = ensemble.leader()
        leader.kill()
        renewed = 0
        end = time.monotonic() + 60
        try:
            while renewed < 3 and time.monotonic() < end:
                with suppress(BackendUnavailable):
                    done, cell = try_swap(store, key, cell, lease=10)
                    renewed += done
                with suppress(BackendUnavailable):
                    assert read(other, key).lease
                time.sleep(0.1)
        finally:
            leader.start()
        assert renewed == 3
        swap(store, key, cell, lease=0.0)
