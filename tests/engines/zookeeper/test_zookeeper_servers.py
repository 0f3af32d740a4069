"""ZooKeeper servers that stop, restart, or make an ensemble."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.testing import eventually
from cronlock.testing.cells import read, refused, swap, try_swap
from labs.impostors import impostor
from labs.servers.process import HOST
from labs.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

from .support import opened, take


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Three servers."""
    with ZooKeeperEnsemble(3, tick=500) as running:
        yield running


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
        cell = take(store, key, 6)
        time.sleep(2.5)
        sent = time.monotonic()
        swap(store, key, cell, lease=6)
        follower.kill()
        try:
            eventually(lambda: not read(other, key).lease, "the lease lapsed")
            assert time.monotonic() - sent >= 6
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
