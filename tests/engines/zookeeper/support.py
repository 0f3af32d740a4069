"""Helpers of the tests on ZooKeeper: direct access to nodes, sessions, and shorter calls."""

from __future__ import annotations

import re
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from cronlock.engines.url import URL
from cronlock.engines.zookeeper.cell import NodeCell
from cronlock.engines.zookeeper.store import ZooKeeperStore
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, Grant
from cronlock.testing import make_claim, refused
from cronlock.testing.cells import read, swap
from labs.servers.process import HOST
from labs.servers.zookeeper import ZooKeeperServer

#: Seconds of leases that tests let lapse.
TTL = 4.0
#: Of a server with short ticks that grants long sessions.
LONG_SESSIONS = {"maxSessionTimeout": "700000"}


@contextmanager
def opened(url: str, timeout: float = 10.0) -> Iterator[ZooKeeperStore]:
    """Open a store and close it."""
    store = ZooKeeperStore(URL(url), timeout)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def leasing(url: str, timeout: float = 10.0) -> Iterator[Leases]:
    """Open a store under the rules and close it."""
    with opened(url, timeout) as store:
        yield Leases(store)


@contextmanager
def looking(server: ZooKeeperServer, login: str = "") -> Iterator[KazooClient]:
    """Connect kazoo's own client to the server, to look behind the store's back."""
    client = KazooClient(f"{HOST}:{server.plain_port}", auth_data=[("digest", login)] if login else None)
    client.start(30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def remove_lease(client: KazooClient, path: str) -> None:
    """Remove what goes with the session of a lease of the key at `path`."""
    for name in client.get_children(path):
        with suppress(NoNodeError):  # The session ended by itself.
            client.delete(f"{path}/{name}")


def sessions(server: ZooKeeperServer) -> set[str]:
    """Return the sessions that the server keeps."""
    return set(re.findall("0x[0-9a-f]+", server.ask("dump").partition("ephemeral")[0]))


def take(store: ZooKeeperStore, key: str, ttl: float, hold: float = 0.0) -> NodeCell:
    """Return the cell of a key that is free, with a lease."""
    seen = read(store, key)
    assert not seen.lease
    return swap(store, key, seen, lease=ttl, hold=hold)


def lease_names(server: ZooKeeperServer, key: str, base: str = "/cronlock") -> list[str]:
    """Return the names of the nodes below the key's node."""
    with looking(server) as client:
        return list(client.get_children(f"{base}/{key}"))


@contextmanager
def standing_by(url: str, held: Grant, *, timeout: float = 20.0) -> Iterator[tuple[Leases, int]]:
    """Give a node that was refused and its descriptor."""
    with leasing(url, timeout) as backend:
        refused(backend.acquire(make_claim(held.claim.key)), HELD)
        yield backend, watched(backend, held)


def watched(backend: Leases, held: Grant) -> int:
    """Return the descriptor of a watch on the key of `held`."""
    descriptor = backend.watch(held.claim.key)
    assert descriptor is not None
    return descriptor


def readable(descriptor: int, seconds: float = 0.0) -> bool:
    """Whether the descriptor can be read within so long, for poll(2) and for select(2)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    found = any(events & select.POLLIN for _, events in poll.poll(seconds * 1000))
    assert found == bool(select.select([descriptor], [], [], 0)[0])
    return found


def take_over(held: Grant, **more: Any) -> Any:
    """Return the claim of a standby."""
    return make_claim(held.claim.key, standby_for=held.claim.owner, **more)
