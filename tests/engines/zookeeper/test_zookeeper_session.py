"""A lease on ZooKeeper and its session: who opens it, what keeps it, and what ends it."""

from __future__ import annotations

import threading
import time

import pytest

from cronlock.engines.zookeeper import session as zksession
from cronlock.engines.zookeeper.tree import LASTING
from cronlock.lease.vocabulary import HISTORY
from cronlock.testing import LONG, eventually, granted, make_claim, make_ending
from cronlock.testing.cells import read, refused, swap, try_swap
from labs.proxy import Proxy
from labs.servers.zookeeper import ZooKeeperServer

from .support import TTL, lease_names, leasing, looking, opened, remove_lease, sessions, take


@pytest.mark.parametrize("ttl", [LASTING, TTL])
@pytest.mark.parametrize("late", [False, True])
def test_a_lease_starts_by_opening_its_session(
    server: ZooKeeperServer, key: str, ttl: float, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that counts at the leader, so it was just before; from a renewal on no connection is kept."""
    if not late:
        monkeypatch.setattr(zksession, "FRESH", 600.0)
    with looking(server) as client, Proxy(server.port) as proxy, opened(server.url(port=proxy.port)) as store:
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
        assert client.get_children(f"/cronlock/{key}") == [cell.lease_name]


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
    with opened(server.url()) as store, opened(server.url()) as other, looking(server) as client:
        old = take(store, key, TTL)
        eventually(lambda: not read(other, key).lease, "the lease lapsed")
        new = swap(store, key, old, lease=TTL)
        assert new.session != old.session
        assert client.get_children(f"/cronlock/{key}") == [new.lease_name]
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
    with opened(server.url()) as first, opened(server.url()) as second, looking(server) as client:
        old = take(first, key, LONG)
        new = swap(second, key, read(second, key), lease=TTL)
        assert client.get_children(f"/cronlock/{key}") == [new.lease_name]
        assert refused(first, key, old, lease=LONG).session == new.session
        eventually(lambda: not read(first, key).lease, "closing nothing, the new session is over", pause=0.3)


def test_hold_is_measured_from_the_write_by_the_leader(server: ZooKeeperServer, key: str) -> None:
    """To the millisecond; others' writes in between change nothing about it."""
    with opened(server.url()) as store, looking(server) as client:
        for hold in (30.25, 60.5):
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
