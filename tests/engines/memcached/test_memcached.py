"""memcached on real servers: the contract, its clock, lost replies, lost items, several servers, TLS, refusals."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from cronlock.engines.memcached.item import KEPT, SLACK, ItemCell, times
from cronlock.engines.memcached.meta import LONGEST_VALUE
from cronlock.engines.memcached.servers import Servers
from cronlock.engines.memcached.store import MemcachedStore, open_store
from cronlock.engines.url import URL
from cronlock.engines.wire.stream import ServerBusy
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.state import LONGEST_NAME, State, decode, encode
from cronlock.lease.store import NO_HOLD
from cronlock.lease.vocabulary import HELD, HISTORY, HOLD, LOST, STATE_LOST, Grant, Run, Watermark
from cronlock.testing import (
    LONG,
    NASTY_KEYS,
    StoreContract,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    record_of,
    refused,
)
from cronlock.testing.cells import read, swap
from cronlock.testing.cells import refused as refused_swap
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import HOST, eventually
from labs.servers.tls import query, tls

from ..faults import (
    PATIENT,
    TLS,
    Costs,
    Doubles,
    FaultHooks,
    StoreFaults,
    Strangers,
    URLs,
    Wire,
    node_at,
    why_unavailable,
)


def _store(url: str) -> MemcachedStore:
    return open_store(URL(url), PATIENT)


class _Wire:
    """A connection to the server behind the backend's back."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=PATIENT)
        self._file = self._socket.makefile("rb")
        self._numbers = itertools.count()

    def __enter__(self) -> _Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def say(self, command: bytes) -> bytes:
        """Send a command and return the first line of its answer."""
        self._socket.sendall(command + b"\r\n")
        return self._file.readline().rstrip()

    def get(self, name: bytes) -> tuple[bytes, int] | None:
        """Return an item's value, and what it has left."""
        words = self.say(b"mg %b v t" % name).split()
        if words[0] == b"EN":
            return None
        return self._file.read(int(words[1]) + 2)[:-2], int(words[2][1:])

    def set(self, name: bytes, value: bytes, seconds: int = 0) -> None:
        """Put a value in a name's place."""
        assert self.say(b"set %b 0 %d %d\r\n%b" % (name, seconds, len(value), value)) == b"STORED"

    def fill(self) -> None:
        """Put some thousand items of about a record's size: memcached evicts among items of a size."""
        junk = b"".join(
            b"ms junk-%d-%d %d q\r\n%b\r\n" % (next(self._numbers), size, size, b"x" * size)
            for size in range(200, 500, 20)
            for _ in range(200)
        )
        self._socket.sendall(junk + b"mn\r\n")
        while self._file.readline() != b"MN\r\n":
            pass


def _name(key: str) -> bytes:
    return b"cronlock:" + key.encode()


class _Hooks(FaultHooks):
    """Time passes as it does."""

    def put(self, key: str, value: tuple[bytes, int]) -> None:
        """Set an item, to last for so many seconds."""
        with _Wire(self.server.port) as wire:
            wire.set(_name(key), *value)

    def kept(self, key: str) -> object:
        """Return the item's text."""
        with _Wire(self.server.port) as wire:
            return (wire.get(_name(key)) or [None])[0]


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    """One memcached for all tests that do not harm it."""
    with MemcachedServer() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[MemcachedServer]:
    """A memcached of the test's own."""
    with MemcachedServer() as running:
        yield running


@pytest.fixture
def hooks(server: MemcachedServer) -> _Hooks:
    """The shared server's hooks."""
    return _Hooks(server)


class TestMemcached(StoreContract):
    """One server, plain."""


_STRANGE, _OLDER = "not a record of cronlock", b"cronlock=1\nfence=3\nlease=0\nhold=0\ngone=\n"


class TestFaults(StoreFaults, Strangers, Doubles, Costs, TLS, URLs):
    """The same server by a wire, and what is not cronlock's on it."""

    foreign: ClassVar[list[tuple[tuple[bytes, int], str]]] = [
        ((b"hello", 1000), "not a record of cronlock: b'hello'"),
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


# Time


def test_nothing_ends_early(server: MemcachedServer) -> None:
    """Wherever in the server's second they begin, lease and hold last for as long as asked for.

    So they do if other nodes wrote meanwhile, which know only what they read.
    """
    early: list[str] = []

    def watch(number: int) -> None:
        store, key, asked = _store(server.url()), fresh_key(), 2.0
        time.sleep(number * 0.13)
        cell = swap(store, key, read(store, key), lease=asked, hold=asked)
        begun = time.monotonic()
        ends: dict[str, float] = {}
        while len(ends) < 2:
            now = time.monotonic() - begun
            assert now < PATIENT
            cell = read(store, key)
            if number % 2 and now < asked:
                swap(store, key, cell)
            for what, left in (("lease", cell.lease), ("hold", cell.hold)):
                if not left:
                    ends.setdefault(what, now)
            time.sleep(0.05)
        # `now` is taken before the read, so it is at most a read too small.
        early.extend(f"{number}: {what} {end}" for what, end in ends.items() if end < asked - 0.05)
        store.close()

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not early


@pytest.mark.parametrize("age", range(8))
@pytest.mark.parametrize("passed", [0.0, 0.5, 1.0, 4.0, 6.0, 8.0])
def test_what_goes_on(age: int, passed: float) -> None:
    """The next item keeps at least what is left of a lease or a hold, and nothing once it is over."""
    asked, now = 5.0, 100.0 + passed
    seen = ItemCell(age=age, at=100.0, lease_lasts=asked + SLACK, hold_lasts=asked + SLACK)
    # The server may count that much too fast.
    left = asked - max(0.0, age - SLACK) - passed
    on = left > 0 and age < asked + SLACK
    kept = left + SLACK if on else 0.0
    assert times(seen, None, 0.0, now) == (kept, kept)
    assert times(ItemCell(), 0.0, seen, now) == (0.0, kept)
    assert times(seen, None, NO_HOLD, now) == (kept, 0.0)
    assert times(seen, 60.0, 60.0, now) == (60.0 + SLACK, 60.0 + SLACK)
    assert times(seen, 0.0, 0.001, now) == (0.0, max(kept, 0.001 + SLACK))


def test_a_hold_is_not_made_longer_by_renewals(store: MemcachedStore, key: str) -> None:
    """However often the lease is renewed, the hold ends when it was to end."""
    cell = swap(store, key, read(store, key), lease=LONG, hold=1.5)

    def over() -> bool:
        nonlocal cell
        cell = swap(store, key, cell, lease=LONG)
        return cell.hold == 0

    eventually(over, "the hold ended", limit=PATIENT, pause=0.1)
    assert read(store, key).hold == 0


def test_hold_that_outlasts_the_item(node: Leases, key: str) -> None:
    """A hold longer than an item can live is refused rather than cut short."""
    longest = node.traits.longest_hold
    with pytest.raises(ConfigError, match=r"--min-hold .* at most 2505600 s \(29d\)"):
        node.acquire(make_claim(key, hold=longest + 1))
    assert node.read(key) is None
    grant = granted(node.acquire(make_claim(key, hold=longest)))
    assert node.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > longest - 600
    # Items are kept as long as memcached takes for a number of seconds.
    assert longest + SLACK < KEPT <= 30 * 86400


def test_a_clock_that_stood_still_is_noticed(store: MemcachedStore, key: str) -> None:
    """A lease that the server wrote before it set its clock after a pause does not count."""
    cell = swap(store, key, read(store, key), lease=LONG)
    cell.at -= 10.0
    with pytest.raises(BackendUnavailable, match="stood still"):
        swap(store, key, cell, lease=LONG)
    cell = swap(store, key, read(store, key), lease=LONG)
    cell.at -= 10.0
    cell = swap(store, key, cell, lease=0.0, hold=LONG)
    assert swap(store, key, cell).hold > 0


def test_nothing_ends_early_after_a_pause(own_server: MemcachedServer) -> None:
    """A request that was sent while the server was paused counts by the server's clock after the pause.

    memcached 1.6.18 answers old connections before it sets its clock, most of the times.
    """
    holder, taker, ender, reader = (node_at(own_server.url()) for _ in range(4))
    kept, taken, ended = make_claim(fresh_key()), make_claim(fresh_key()), make_claim(fresh_key(), hold=LONG)
    begun = time.monotonic()
    last = granted(ender.acquire(ended))
    grant = granted(holder.acquire(kept))
    assert taker.read(taken.key) is None
    sent: dict[str, float] = {}
    renewed: list[bool] = []

    def renew() -> None:
        sent[kept.key] = time.monotonic()
        try:
            renewed.append(holder.renew(grant))
        except BackendUnavailable:
            pass  # Asked again below, as a run does.

    def take() -> None:
        sent[taken.key] = time.monotonic()
        granted(taker.acquire(taken))

    def end() -> None:
        sent[ended.key] = begun
        assert ender.release(last, make_ending(), keep_hold=True)

    own_server.pause()
    # A clock that is behind by more than rounding to a second explains.
    time.sleep(4)
    threads = [threading.Thread(target=ask) for ask in (renew, take, end)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(sent) == 3, "all ask")
    # For their bytes to lie in the server's queue.
    time.sleep(0.3)
    own_server.resume()
    for thread in threads:
        thread.join()
    if not renewed:
        renew()
    assert renewed == [True]
    for key, when in sent.items():
        record = record_of(reader, key)
        assert record.remaining + record.hold_remaining > LONG - (time.monotonic() - when) - 1.5


# Connections, and lost replies


def test_a_read_begins_on_a_new_connection(server: MemcachedServer, wire: Wire, key: str) -> None:
    """An old connection shows nothing that a grant rests on, unless the server answered a moment ago."""
    store = _store(server.url(wire.port))
    cell = read(store, key)
    cell = swap(store, key, read(store, key), lease=LONG)
    assert wire.connections == 1
    time.sleep(0.6)
    # A renewal has an item of its own to see whether the clock was set.
    swap(store, key, cell, lease=LONG)
    assert wire.connections == 1
    time.sleep(0.6)
    read(store, key)
    assert wire.connections == 2
    store.close()


def test_cas_of_another_connection(server: MemcachedServer, wire: Wire, key: str) -> None:
    """A cell that another connection showed is read again; where that shows the same it is swapped."""
    store = _store(server.url(wire.port))
    cell = swap(store, key, read(store, key), lease=LONG, hold=LONG)
    store.close()
    asked = wire.requests
    cell = swap(store, key, cell)
    assert (wire.requests - asked, cell.lease > 0, cell.hold > 0) == (2, True, True)
    store.close()
    other = _store(server.url())
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


# Servers that stop, forget or die


def test_stale_cas_after_a_restart(own_server: MemcachedServer, key: str) -> None:
    """The CAS of before the restart, which another owner's item has now, overwrites nothing."""
    first, second = _store(own_server.url()), _store(own_server.url())
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
    with _Wire(own_server.port) as wire:
        assert wire.say(b"md " + _name(key)) == b"HD"
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
        with _Wire(server.port) as wire:

            def is_gone() -> bool:
                wire.fill()
                # Looking would otherwise keep it.
                return wire.say(b"mg %b t u" % _name(key)) == b"EN"

            eventually(is_gone, "the item was evicted")
        assert not node.renew(grant)
        node.close()


def test_full_server_is_unavailable(key: str) -> None:
    """A server that may not evict and is full grants nothing, and says why."""
    with MemcachedServer(extra=["-m", "2", "-M"]) as server:
        node = node_at(server.url())
        with _Wire(server.port) as wire:

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
