"""memcached on real servers: the contract, connections, lost replies, names and sizes, TLS, refusals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import pytest

from cronlock.engines.memcached import servers
from cronlock.engines.memcached.meta import LONGEST_VALUE
from cronlock.engines.memcached.servers import Servers
from cronlock.engines.memcached.store import MemcachedStore
from cronlock.errors import BackendUnavailable
from cronlock.lease.state import LONGEST_NAME, State, decode, encode
from cronlock.lease.vocabulary import HISTORY, LOST, Run
from cronlock.testing import LONG, NASTY_KEYS, StoreContract, granted, make_claim
from cronlock.testing.cells import read, swap
from cronlock.testing.cells import refused as refused_swap
from cronlock.testing.simulated import SimulatedClock
from labs.servers.memcached import MemcachedServer
from labs.servers.process import HOST, eventually
from labs.servers.tls import query, tls

from ..faults import TLS, Costs, Doubles, StoreFaults, Strangers, URLs
from ..hooks import PATIENT, Wire, node_at
from .support import memcached_at


class TestMemcached(StoreContract):
    """One server, plain."""


_STRANGE, _OLDER = "not a record of cronlock", b"cronlock=1\nfence=3\nlease=0\nhold=0\ngone=\n"


class TestFaults(StoreFaults, Strangers, Doubles, Costs, TLS, URLs):
    """The same server by a wire, and what is not cronlock's on it."""

    foreign: ClassVar[list[tuple[tuple[bytes, int], str]]] = [
        ((b"hello", 1000), _STRANGE),
        ((b"", 1000), _STRANGE),
        ((b"\xff\xfe", 1000), _STRANGE),
        ((b"lease=1 hold=x swap=0\n", 1000), _STRANGE),
        ((b"lease=1 hold=1\n", 1000), _STRANGE),
        ((_OLDER, 1000), "a record of an older, unreleased layout"),
        ((b"x" * (LONGEST_VALUE + 1), 1000), "65537 bytes"),
        # It tells no time, so it is not judged.
        ((b"lease=1 hold=1 swap=0\ncronlock=2\t0\nfence\t3\n", 0), "an item that never expires"),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("memcached://", "no host"),
        ("memcached:///", "no host"),
        ("memcached://user:secret@host", "user and password are not supported"),
        ("memcached://host/0", "a path is not supported"),
        ("memcached://host?ca=x", "go with memcacheds://"),
        ("memcached://host?prefix=a:b", "prefix='a:b'"),
        ("memcacheds://host?ca=/nonexistent", "ca=/nonexistent"),
        ("memcacheds://host?key=/nonexistent", "without cert="),
    ]

    @pytest.fixture(autouse=True)
    def _no_pause(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """While requests are counted, no connection is too old, whatever the machine does."""
        if request.function.__name__ == "test_requests":
            monkeypatch.setattr(servers, "_MOMENT", 60.0)


# Connections, and lost replies


def test_a_read_begins_on_a_new_connection(server: MemcachedServer, wire: Wire, key: str) -> None:
    """An old connection shows nothing that a grant rests on, unless the server answered a moment ago."""
    store = memcached_at(server.url(wire.port))
    clock = store.servers.clock = SimulatedClock()
    cell = read(store, key)
    cell = swap(store, key, read(store, key), lease=LONG)
    assert wire.connections == 1
    clock.advance(0.6)
    # A renewal has an item of its own to see whether the clock was set.
    swap(store, key, cell, lease=LONG)
    assert wire.connections == 1
    clock.advance(0.6)
    read(store, key)
    assert wire.connections == 2
    store.close()


def test_cas_of_another_connection(server: MemcachedServer, wire: Wire, key: str) -> None:
    """A cell that another connection showed is read again; where that shows the same it is swapped."""
    store = memcached_at(server.url(wire.port))
    cell = swap(store, key, read(store, key), lease=LONG, hold=LONG)
    store.close()
    asked = wire.requests
    cell = swap(store, key, cell)
    assert (wire.requests - asked, cell.lease > 0, cell.hold > 0) == (2, True, True)
    store.close()
    other = memcached_at(server.url())
    swap(other, key, read(other, key))
    asked = wire.requests
    refused_swap(store, key, cell)
    assert wire.requests - asked == 1
    for one in (store, other):
        one.close()


# Names and sizes


def test_no_two_items_have_one_name() -> None:
    """No key's item is another key's, and all names fit."""
    plain = ["x" * count for count in range(1, 201)]
    wide = ["x" * (200 - count) + "\U0001f512" * count for count in range(1, 30)]
    edges = ["-" * count + "%" * 60 for count in range(141)]
    keys = {*NASTY_KEYS, *plain, *wide, *edges, "x:1", "x%3A1"}
    for prefix in ("p", "p" * 64):
        store = MemcachedStore(Servers("memcached", [(HOST, 1)], None), prefix, 1.0)
        names = [store.name(key) for key in keys]
        assert len(set(names)) == len(names)
        assert max(map(len, names)) <= 250
        assert not any(set(name) & set(b" \t\r\n\0") for name in names)


@pytest.mark.parametrize("character", ["x", "%", "\U0001f512"])
def test_longest_record_fits(store: MemcachedStore, key: str, character: str) -> None:
    """With the longest names everywhere, a record is still no longer than what is read of an item."""
    name = character * (LONGEST_NAME // len(character.encode()))
    owner = f"{name}:4194304:{'0' * 16}"
    run = Run(
        owner=owner,
        host=name,
        pid=4194304,
        program=name,
        started_at=1.7e9,
        ttl=LONG,
        fence=1 << 62,
        ended_at=1.7e9,
        outcome=LOST,
        status=255,
        stands_for=owner,
        took_over=1 << 62,
    )
    state = State(fence=1 << 62, run=run).with_past(run.but(outcome="exited", status=0))
    for _ in range(HISTORY):
        state = state.with_past(run)
    data = encode(state)
    seen = read(store, key)
    assert store.swap(key, seen, data, lease=LONG, hold=0.0, deadline=time.monotonic() + PATIENT)[0]
    assert decode(read(store, key).data) == state
    assert len(data) < LONGEST_VALUE / 2
    with pytest.raises(BackendUnavailable, match="the record is too long"):
        store.swap(key, seen, b"x" * LONGEST_VALUE, lease=None, hold=0.0, deadline=time.monotonic() + PATIENT)


# TLS


def test_tls_with_client_certificates(key: str) -> None:
    """A server that wants a client's certificate gets it, and turns others away."""
    files = tls()
    # The server's own client in the tests shows its certificate; mode 2 requires one.
    with MemcachedServer(tls=True, extra=["-o", "ssl_verify_mode=2"]) as server:
        place = f"memcacheds://{HOST}:{server.port}"
        granted(node_at(place + query(files.params(client=True))).acquire(make_claim(key)))
        with pytest.raises(BackendUnavailable):
            node_at(place + query(files.params())).read(key)


@pytest.mark.parametrize(
    ("extra", "said"),
    [(["-B", "binary"], "text protocol"), (["-C"], "without -C"), (["-Y", "{users}"], "without -Y")],
)
def test_servers_that_cannot_serve(extra: list[str], said: str, key: str, tmp_path: Path) -> None:
    """A server without the text protocol, without CAS, or with users is refused with the remedy."""
    users = tmp_path / "users"
    users.write_text("somebody:secret\n")
    server = MemcachedServer(extra=[word.format(users=users) for word in extra])
    try:
        server.launch()
        node = node_at(server.url(), timeout=2.0)

        def refuses() -> bool:
            with pytest.raises(BackendUnavailable) as failure:
                node.acquire(make_claim(key))
            return said in str(failure.value)

        eventually(refuses, f"a refusal that says {said!r}")
    finally:
        server.close()


def test_prefixes_keep_keys_apart(server: MemcachedServer, key: str) -> None:
    """The same key under another prefix is another key."""
    granted(node_at(server.url()).acquire(make_claim(key)))
    granted(node_at(server.url(prefix="other")).acquire(make_claim(key)))
