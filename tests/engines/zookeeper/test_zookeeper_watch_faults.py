"""ZooKeeper: a watch on a connection that breaks, hangs, or leads to a server that dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.zookeeper.store import ZooKeeperStore
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import ENDED, HELD, Claim, Grant
from cronlock.testing import eventually, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from ..hooks import PATIENT
from .support import LONG_SESSIONS, leasing, readable, sessions, standing_by, take_over, watched

if TYPE_CHECKING:
    from cronlock.lease.leases import Leases


BREAKS: dict[str, Callable[[Proxy], None]] = {"cut": Proxy.cut, "refused": Proxy.refuse}


@pytest.mark.parametrize("broken", list(BREAKS))
def test_a_broken_connection_wakes(server: ZooKeeperServer, key: str, broken: str) -> None:
    """The next look finds another way, and stands by again from there."""
    with leasing(server.url()) as holder, Proxy(server.port) as proxy:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(server.url(port=proxy.port), held, timeout=5.0) as (backend, first):
            BREAKS[broken](proxy)
            assert readable(first, 60)
            if broken == "refused":
                with pytest.raises(BackendUnavailable):
                    backend.acquire(take_over(held))
                proxy.pass_all()
            refused(backend.acquire(take_over(held)), HELD)
            descriptor = watched(backend, held)
            assert not readable(descriptor)
            assert holder.release(held, make_ending(), keep_hold=False)
            assert readable(descriptor, 60)


def test_a_hung_server(server: ZooKeeperServer, key: str) -> None:
    """Neither a look nor a watch takes longer than one request may, and no look is taken for an answer."""
    with leasing(server.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(server.url(), held) as (backend, _), leasing(server.url()) as late:
            refused(late.acquire(make_claim(key)), HELD)
            for node in (backend, late):
                _limit(node, 1.0)
            with server.paused():
                for call in (lambda: backend.acquire(take_over(held)), lambda: late.watch(key)):
                    began = time.monotonic()
                    with pytest.raises(BackendUnavailable, match="no answer in time"):
                        call()
                    assert time.monotonic() - began >= 0.9
            _limit(backend, PATIENT)
            eventually(lambda: _answers(backend, held), "the server answers")
            assert not readable(watched(backend, held))


def _limit(node: Leases, seconds: float) -> None:
    """Let requests of a node take so long at the most, those of a watch too."""
    assert isinstance(node.store, ZooKeeperStore)
    node.limit = node.store._tree.timeout = seconds


def _answers(backend: Leases, held: Grant) -> bool:
    try:
        refused(backend.acquire(take_over(held)), HELD)
    except BackendUnavailable:
        return False
    return True


def test_a_standby_that_overslept(key: str) -> None:
    """Its own session is over as well: it is woken, and takes over through another one."""
    with ZooKeeperServer(tick=250, settings={"maxSessionTimeout": "5000"}) as own, leasing(own.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(own.url(), held) as (backend, descriptor):
            eventually(lambda: not sessions(own), "all sessions are over")
            assert readable(descriptor, 60)
            assert granted(backend.acquire(take_over(held))).took_over == held.fence


def test_a_server_that_was_wiped(key: str) -> None:
    """No record says that the run died, so no standby takes over."""
    with ZooKeeperServer(settings=LONG_SESSIONS) as own, leasing(own.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(own.url(), held) as (backend, descriptor):
            own.restart(keep_data=False)
            assert readable(descriptor, 60)
            refused(backend.acquire(take_over(held)), ENDED)
            assert backend.read(key) is None


def test_through_a_follower_that_dies(key: str) -> None:
    """A follower tells of what happens at the leader; when it dies, the watch moves to another server."""
    with ZooKeeperEnsemble(3, tick=500) as ensemble, leasing(ensemble.leader().url()) as holder:
        follower = ensemble.follower()
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(follower.url(), held) as (one, first):
            assert holder.release(held, make_ending(), keep_hold=False)
            assert readable(first, 60)
            refused(one.acquire(take_over(held)), ENDED)
        held = granted(holder.acquire(make_claim(key)))
        with _standing_by_at(ensemble, follower, holder, held) as (two, second):
            follower.kill()
            assert readable(second, 60)
            assert holder.renew(held)
            refused(two.acquire(take_over(held)), HELD)
            third = watched(two, held)
            holder.close()
            assert readable(third, 60)
            # The servers that are left may have found each other only just now, and hang up for that.
            claim, grants = take_over(held), list[Grant]()
            eventually(lambda: _acquires(two, claim, grants), "it takes over")
            assert grants[0].took_over == held.fence


def _acquires(backend: Leases, claim: Claim, grants: list[Grant]) -> bool:
    """Ask once, as a standby does again and again; what comes of it is a grant, if anything comes."""
    try:
        grants.append(granted(backend.acquire(claim)))
    except BackendUnavailable:
        return False
    return True


@contextmanager
def _standing_by_at(
    ensemble: ZooKeeperEnsemble, server: ZooKeeperServer, holder: Leases, held: Grant
) -> Iterator[tuple[Leases, int]]:
    """Give a node that knows all servers and stands by at this one, which is the first by chance."""
    while True:
        assert holder.renew(held)
        with standing_by(ensemble.url(), held) as (backend, descriptor):
            if "zk_watch_count\t1\n" in server.ask("mntr"):
                yield backend, descriptor
                return
