"""memcached servers that stop, forget or are full, and several of them."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from cronlock.engines.wire.stream import ServerBusy
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD, STATE_LOST, Grant, Watermark
from cronlock.testing import LONG, granted, make_claim, make_ending, refused
from cronlock.testing.cells import read, swap
from cronlock.testing.cells import refused as refused_swap
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import HOST, eventually

from ..hooks import PATIENT, node_at, why_unavailable
from .support import Connection, memcached_at, name_of


def test_stale_cas_after_a_restart(own_server: MemcachedServer, key: str) -> None:
    """The CAS of before the restart, which another owner's item has now, overwrites nothing."""
    first, second = memcached_at(own_server.url()), memcached_at(own_server.url())
    lost = swap(first, key, read(first, key), lease=LONG)
    own_server.restart(keep_data=False)
    heir = swap(second, key, read(second, key), lease=LONG)
    assert lost.cas == heir.cas
    with pytest.raises(BackendUnavailable):
        swap(first, key, lost, lease=LONG)
    refused_swap(first, key, lost, lease=LONG)
    swap(second, key, heir, lease=LONG)


def test_restart_is_noticed(own_server: MemcachedServer, key: str) -> None:
    """A node that saw the key before the restart waits for the ttl; another gets a fence above the lost one."""
    node = node_at(own_server.url())
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    own_server.stop()
    begun = time.monotonic()
    own_server.start()
    node.close()
    watermark = Watermark(grant.fence, 60.0, None)
    later = granted(node.acquire(make_claim(key)))
    assert later.fence is not None
    assert later.fence > grant.fence
    with Connection(own_server.port) as wire:
        assert wire.say(b"md " + name_of(key)) == b"HD"
    claim = make_claim(key, ttl=2.0, watermark=watermark)
    assert 0 < refused(node.acquire(make_claim(key, ttl=60.0, watermark=watermark)), STATE_LOST).remaining <= 60
    # It tells an uptime of 2 s as it starts, which is no present of a second.
    eventually(lambda: isinstance(node.acquire(claim), Grant), "the server is up for the ttl")
    assert time.monotonic() - begun >= 2.0


def test_flush_drops_the_lease(own_server: MemcachedServer, key: str) -> None:
    """After flush_all the next renewal finds the lease gone."""
    node = node_at(own_server.url())
    grant = granted(node.acquire(make_claim(key)))
    assert own_server.ask("flush_all").startswith("OK")
    eventually(lambda: node.read(key) is None, "the item is gone")
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=True)


def test_eviction_drops_the_lease(key: str) -> None:
    """When others fill the cache, an evicted lease is found gone."""
    with MemcachedServer(extra=["-m", "2"]) as server:
        node = node_at(server.url())
        grant = granted(node.acquire(make_claim(key)))
        with Connection(server.port) as wire:

            def is_gone() -> bool:
                wire.fill()
                # Looking would otherwise keep it.
                return wire.say(b"mg %b t u" % name_of(key)) == b"EN"

            eventually(is_gone, "the item was evicted")
        assert not node.renew(grant)
        node.close()


def test_full_server_is_unavailable(key: str) -> None:
    """A server that may not evict and is full grants nothing, and says why."""
    with MemcachedServer(extra=["-m", "2", "-M"]) as server:
        node = node_at(server.url())
        with Connection(server.port) as wire:

            def is_full() -> bool:
                wire.fill()
                return "out of memory" in why_unavailable(node)

            eventually(is_full, "a refusal for want of memory")
        assert node.read(key) is None
        node.close()


def test_server_without_room() -> None:
    """Whoever is turned away asks again until there is room, and says so when there never is."""
    with MemcachedServer(extra=("-c", "100")) as server:
        url = server.url()
        others = [socket.create_connection((HOST, server.port)) for _ in range(120)]
        try:
            backend = node_at(url, 3.0)

            def is_busy() -> bool:
                try:
                    backend.read("job")
                except ServerBusy as error:
                    return re.search(r"no room for another connection.*-c", str(error)) is not None
                except BackendUnavailable:
                    pass  # The machine is, and the last try was too late to be answered.
                return False

            eventually(is_busy, "a refusal")
            patient = node_at(url, PATIENT)
            for other in others[:50]:
                threading.Timer(0.5, other.close).start()
            assert patient.read("job") is None
            patient.close()
        finally:
            for other in others:
                other.close()


def test_several_servers(key: str) -> None:
    """Keys spread over the servers, in whatever order these are listed; a dead one takes its keys along."""
    with MemcachedServers(3) as servers:
        node = node_at(servers.url())
        ports = [server.port for server in servers.nodes]
        reverse = node_at("memcached://" + ",".join(f"{HOST}:{port}" for port in reversed(ports)))
        keys = [f"{key}-{number}" for number in range(30)]
        grants = [granted(node.acquire(make_claim(name))) for name in keys]
        for name in keys:
            refused(reverse.acquire(make_claim(name)), HELD)
        assert all("STAT curr_items 0" not in server.ask("stats", "END\r\n") for server in servers.nodes)
        servers.nodes[0].kill()
        dead: list[Grant] = []
        alive: list[Grant] = []
        for grant in grants:
            try:
                (alive if node.renew(grant) else dead).append(grant)
            except BackendUnavailable:
                dead.append(grant)
        assert dead
        assert alive
        for grant in dead:
            with pytest.raises(BackendUnavailable, match=str(ports[0])):
                node.acquire(make_claim(grant.claim.key))
            assert str(ports[0]) in node.store.location(grant.claim.key)
