"""memcached on real servers: the contract, lost replies, lost items, several servers, TLS, refusals."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.memcached import backend as memcached
from cronlock.engines.memcached.backend import MemcachedBackend, _Held
from cronlock.engines.memcached.item import RING, State
from cronlock.engines.memcached.meta import LONGEST_VALUE, Connection
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.keys import escape
from cronlock.lease.vocabulary import CANCELLED, EXITED, FORGOTTEN, HELD, HOLD, LOST, Claim, Conflict, Grant, Sight
from cronlock.testing import (
    LONG,
    NASTY_KEYS,
    BackendContract,
    Hooks,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.proxy import Proxy
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import HOST, eventually
from labs.servers.tls import query, tls

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

#: Long enough for any request on a loaded machine, in seconds.
_PATIENT = 20.0


def _open(url: str, timeout: float = _PATIENT) -> MemcachedBackend:
    backend = open_backend(url, timeout)
    assert isinstance(backend, MemcachedBackend)
    return backend


class _Wire:
    """A connection to the server behind the backend's back."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=_PATIENT)
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


class _MemcachedHooks(Hooks):
    """Time passes by writing the item anew, as it would be later."""

    forces_time = True
    forgets_by_uptime_only = "an idle item may be evicted on any day"

    def __init__(self, server: MemcachedServer) -> None:
        self.server = server

    def open(self) -> Backend:
        """Return one more node."""
        return _open(self.server.url())

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Age the item until its lease is over."""
        self._rewrite(grant.claim.key, lambda state: state.but(lease=0.0))

    def end_hold(self, node: Backend, key: str) -> None:
        """Take the hold out of the item."""
        self._rewrite(key, lambda state: state.but(hold=0.0, kept=0.0))

    def _rewrite(self, key: str, alter: Callable[[State], State]) -> None:
        with _Wire(self.server.port) as wire:
            found = wire.get(_name(key))
            assert found is not None
            value, left = found
            wire.set(_name(key), alter(State.decode(value)).encode(), left)


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
def node(server: MemcachedServer) -> Iterator[MemcachedBackend]:
    """A node that reaches the shared server."""
    backend = _open(server.url())
    yield backend
    backend.close()


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


class TestMemcached(BackendContract):
    """One server, plain."""

    @pytest.fixture
    def hooks(self, server: MemcachedServer) -> Hooks:
        """The shared server's hooks."""
        return _MemcachedHooks(server)


# Time


def test_nothing_ends_early(server: MemcachedServer) -> None:
    """Wherever in the server's second they begin, lease and hold last as long as they were asked for."""
    early: list[str] = []

    def watch(number: int, ttl: float, hold: float) -> None:
        node = _open(server.url())
        claim = make_claim(fresh_key(), ttl=ttl, hold=hold)
        time.sleep(number * 0.13)
        granted(node.acquire(claim))
        begun = time.monotonic()
        ends: dict[str, float] = {}
        while len(ends) < 2:
            asked = time.monotonic() - begun
            record = node.read(claim.key)
            assert record is not None
            if not record.remaining:
                ends.setdefault("lease", asked)
            if not record.hold_remaining:
                ends.setdefault("hold", asked)
            assert asked < _PATIENT
            time.sleep(0.01)
        # `asked` is taken before the read, so it is at most a read too small.
        early.extend(f"{what} {end} {ttl} {hold}" for what, end in ends.items() if end < min(ttl, hold) - 0.05)
        node.close()

    threads = [threading.Thread(target=watch, args=(number, 2.0, 2.0)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not early


def test_a_hold_is_not_made_longer_by_renewals(node: MemcachedBackend, key: str) -> None:
    """However often the lease is renewed, the hold ends when it was to end."""
    grant = granted(node.acquire(make_claim(key, hold=1.5)))

    def over() -> bool:
        assert node.renew(grant)
        record = node.read(key)
        assert record is not None
        return record.hold_remaining == 0

    eventually(over, "the hold ended", pause=0.1)


def test_hold_that_outlasts_the_item(node: MemcachedBackend, key: str) -> None:
    """A hold longer than an item can live is refused rather than cut short."""
    longest = node.traits.longest_ttl
    with pytest.raises(ConfigError, match=r"--min-hold .* at most 2505600 s \(29d\)"):
        node.acquire(make_claim(key, hold=longest + 1))
    assert node.read(key) is None
    grant = granted(node.acquire(make_claim(key, hold=longest)))
    assert node.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > longest - 600


def test_a_clock_that_stood_still_is_noticed(node: MemcachedBackend, key: str) -> None:
    """A renewal that the server answered before it set its clock after a pause does not count."""
    grant = granted(node.acquire(make_claim(key)))
    assert isinstance(grant.token, _Held)
    grant.token.at -= 10.0
    with pytest.raises(BackendUnavailable, match="stood still"):
        node.renew(grant)
    assert node.renew(grant)
    assert isinstance(grant.token, _Held)
    grant.token.at -= 10.0
    assert node.release(grant, make_ending(), keep_hold=True)


def test_nothing_ends_early_after_a_pause(own_server: MemcachedServer) -> None:
    """What is asked while the server is paused counts by its clock as it is after the pause.

    memcached 1.6.18 answers old connections before it sets its clock, most of the times.
    """
    holder, taker, ender, reader = (_open(own_server.url()) for _ in range(4))
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
    # What the test is about: a clock that is behind by more than a second's rounding.
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
        record = reader.read(key)
        assert record is not None
        assert record.remaining + record.hold_remaining > LONG - (time.monotonic() - when) - 1.5


# Races and lost replies


def test_fifty_racers_round_after_round(server: MemcachedServer) -> None:
    """Of fifty nodes exactly one gets the key, whether it is new, ended, or its holder died."""
    nodes = [_open(server.url()) for _ in range(50)]
    key = fresh_key()
    hooks = _MemcachedHooks(server)
    fence = 0
    for number in range(8):
        answers: list[Grant | Conflict] = []
        barrier = threading.Barrier(len(nodes))

        def race(racer: MemcachedBackend, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
            start.wait()
            into.append(racer.acquire(make_claim(key)))

        threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(nodes)
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert grant.fence is not None
        assert grant.fence > fence
        fence = grant.fence
        if number % 2:
            hooks.lapse(nodes[0], grant)
        else:
            winner = _open(server.url())
            assert winner.release(grant, make_ending(), keep_hold=False)
            winner.close()
    for racer in nodes:
        racer.close()


class _Lossy(Proxy):
    """A proxy that does something as the request of a number comes in."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.at = 0
        self.act: Callable[[], None] = self.pass_all

    def on(self, number: int, act: Callable[[], None]) -> None:
        """Do `act` at the request that is `number` requests from now."""
        self.at, self.act = self.requests + number, act

    def _upward(self, connection, data) -> None:  # type: ignore[no-untyped-def]
        if self.requests + 1 == self.at:
            self.act()
        super()._upward(connection, data)


@pytest.fixture
def lossy(server: MemcachedServer) -> Iterator[_Lossy]:
    """A proxy before the shared server."""
    proxy = _Lossy(server.port)
    with proxy:
        yield proxy


@pytest.fixture
def far(server: MemcachedServer, lossy: _Lossy) -> Iterator[MemcachedBackend]:
    """A node that reaches the server through the proxy, and is not patient."""
    backend = _open(server.url(lossy.port), timeout=1.0)
    yield backend
    backend.close()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
def test_acquire_with_a_loss(
    far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str, number: int, loss: str
) -> None:
    """Whatever was lost, the owner that asks again has the key, and nobody else."""
    claim = make_claim(key)
    lossy.on(number, getattr(lossy, loss))
    with pytest.raises(BackendUnavailable, match="in time"):
        far.acquire(claim)
    if (number, loss) == (2, "drop_replies"):
        refused(node.acquire(make_claim(key)), HELD)
    lossy.pass_all()
    grant = granted(far.acquire(claim))
    refused(node.acquire(make_claim(key)), HELD)
    assert far.renew(grant)
    assert far.release(grant, make_ending(), keep_hold=False)


@pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
def test_giving_up_after_a_loss(
    far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str, loss: str
) -> None:
    """After a lost answer and giving up, the key is free and that owner stays out."""
    claim = make_claim(key, hold=60.0)
    lossy.on(2, getattr(lossy, loss))
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    lossy.pass_all()
    far.abandon(claim)
    refused(far.acquire(claim), CANCELLED)
    granted(node.acquire(make_claim(key)))


@pytest.mark.parametrize("used", [False, True])
def test_acquire_that_arrives_after_giving_up(
    far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str, used: bool
) -> None:
    """A swap that arrives after its owner gave up finds another item than was read, and does nothing."""
    if used:
        node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    claim = make_claim(key)
    lossy.on(2, lossy.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    node.abandon(claim)
    lossy.deliver_held()
    record = node.read(key)
    assert record is None or record.remaining == 0
    granted(node.acquire(make_claim(key)))


def test_acquire_that_arrives_during_another_run(
    far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str
) -> None:
    """A swap that arrives late takes nothing from the run that came first."""
    lossy.on(2, lossy.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(make_claim(key))
    grant = granted(node.acquire(make_claim(key)))
    lossy.deliver_held()
    assert node.renew(grant)


def test_acquire_that_arrives_after_its_release(
    far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str
) -> None:
    """The owner asked again, ran and ended; then its first swap arrives."""
    claim = make_claim(key)
    lossy.on(2, lossy.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=False)
    lossy.deliver_held()
    granted(node.acquire(make_claim(key)))


@pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
def test_renewal_with_a_loss(far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str, loss: str) -> None:
    """A renewal whose answer was lost is asked again on a new connection, by a new CAS."""
    grant = granted(far.acquire(make_claim(key)))
    lossy.on(1, getattr(lossy, loss))
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    lossy.pass_all()
    assert far.renew(grant)
    assert far.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)


def test_renewal_that_arrives_late(far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str) -> None:
    """A renewal that arrives after the key went to another does nothing."""
    grant = granted(far.acquire(make_claim(key)))
    lossy.on(1, lossy.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    assert node.force_release(key, grant.claim.owner)
    heir = granted(node.acquire(make_claim(key)))
    lossy.deliver_held()
    assert node.renew(heir)


@pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
def test_release_with_a_loss(far: MemcachedBackend, node: MemcachedBackend, lossy: _Lossy, key: str, loss: str) -> None:
    """A release whose answer was lost did its work or can be asked again."""
    grant = granted(far.acquire(make_claim(key)))
    lossy.on(1, getattr(lossy, loss))
    with pytest.raises(BackendUnavailable):
        far.release(grant, make_ending(5), keep_hold=False)
    lossy.pass_all()
    assert far.release(grant, make_ending(5), keep_hold=False) == (loss == "drop_requests")
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert record.last.status == 5
    granted(node.acquire(make_claim(key)))


def test_what_a_run_costs(far: MemcachedBackend, lossy: _Lossy, key: str) -> None:
    """A run is a read, a swap and a swap on one connection, runs before it or not; a refusal is a read."""
    for number in (1, 2):
        grant = granted(far.acquire(make_claim(key, hold=60.0, ignore_hold=True)))
        assert far.release(grant, make_ending(), keep_hold=True)
        assert (lossy.connections, lossy.requests) == (number, 3 * number)
    refused(far.acquire(make_claim(key)), HOLD)
    assert lossy.requests == 7


# The history


def _past(key: str, number: int) -> bytes:
    return b"%b:%d" % (_name(key), number)


def _ran(node: MemcachedBackend, key: str, statuses: Iterable[int]) -> list[int | None]:
    """Run once for each of `statuses`, and return which statuses the history has then."""
    for status in statuses:
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(status), keep_hold=False)
    record = node.read(key)
    assert record is not None
    return [run.status for run in record.history]


def test_losers_read_no_history(node: MemcachedBackend, server: MemcachedServer, key: str) -> None:
    """However many runs there were, the item that a refused node reads is as long as after two of them."""
    with _Wire(server.port) as wire:
        sizes = []
        for count in (2, 3, 30):
            _ran(node, key, range(1, count + 1))
            found = wire.get(_name(key))
            assert found is not None
            # Owners that are gone are remembered up to a number.
            sizes.append(len(found[0].partition(b"gone=")[0]))
    assert max(sizes) - min(sizes) <= 2


def test_past_runs_outlast_a_month(node: MemcachedBackend, server: MemcachedServer, key: str) -> None:
    """The history of a job that runs each week is as long as any other's."""
    _ran(node, key, range(2))
    with _Wire(server.port) as wire:
        kept = [found[1] for found in (wire.get(_past(key, number)) for number in range(RING)) if found is not None]
    assert len(kept) == 1
    assert kept[0] > 20 * 7 * 86400


def test_eviction_of_a_past_run_costs_that_run(node: MemcachedBackend, server: MemcachedServer, key: str) -> None:
    """What the server dropped, or somebody overwrote, is missing from the history, and nothing else is."""
    _ran(node, key, range(1, 6))
    record = node.read(key)
    assert record is not None
    fences = {run.status: run.fence or 0 for run in record.history}
    with _Wire(server.port) as wire:
        assert wire.say(b"md " + _past(key, fences[2] % RING)) == b"HD"
        wire.set(_past(key, fences[3] % RING), b"{}", 1000)
        wire.set(_past(key, fences[4] % RING), b"cronlock=1\nowner=x\npid=y\n", 1000)
    assert _ran(node, key, []) == [5, 1]
    assert _ran(node, key, [6]) == [6, 5, 1]


@pytest.mark.parametrize("renews", [True, False])
def test_past_run_that_was_not_stored(
    node: MemcachedBackend, server: MemcachedServer, key: str, renews: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A past run that the server had no room for goes along again, with the renewal or the release, and once."""
    _ran(node, key, [1])
    with monkeypatch.context() as patch:
        stored = Connection._stored
        # It reads the answer, and takes it for a refusal.
        patch.setattr(Connection, "_stored", lambda connection: stored(connection) and False)
        grant = granted(node.acquire(make_claim(key)))
    name = _past(key, ((grant.fence or 0) - 1) % RING)
    with _Wire(server.port) as wire:
        assert wire.say(b"md " + name) == b"HD"
        if renews:
            assert node.renew(grant)
            assert wire.get(name) is not None
            assert wire.say(b"md " + name) == b"HD"
        assert node.release(grant, make_ending(2), keep_hold=False)
        assert (wire.get(name) is None) == renews
    assert _ran(node, key, []) == ([2] if renews else [2, 1])


def test_history_after_a_lost_reply(
    far: MemcachedBackend, node: MemcachedBackend, server: MemcachedServer, lossy: _Lossy, key: str
) -> None:
    """Who never heard whether the run before was stored stores it with its own release."""
    _ran(node, key, [1])
    claim = make_claim(key)
    lossy.on(2, lossy.drop_replies)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    lossy.pass_all()
    grant = granted(far.acquire(claim))
    with _Wire(server.port) as wire:
        assert wire.say(b"md " + _past(key, ((grant.fence or 0) - 1) % RING)) == b"HD"
    assert far.release(grant, make_ending(2), keep_hold=False)
    assert _ran(node, key, []) == [2, 1]


def test_taken_for_dead_in_a_race(
    far: MemcachedBackend, node: MemcachedBackend, server: MemcachedServer, lossy: _Lossy, key: str
) -> None:
    """A run that renewed in the moment when another took it for dead is not one that died."""
    grant = granted(node.acquire(make_claim(key)))
    _MemcachedHooks(server).lapse(node, grant)
    renewed: list[bool] = []
    lossy.on(2, lambda: renewed.append(node.renew(grant)))
    refused(far.acquire(make_claim(key)), HELD)
    assert renewed == [True]
    assert node.release(grant, make_ending(3), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert [(run.outcome, run.status) for run in record.history] == [(EXITED, 3)]
    granted(node.acquire(make_claim(key)))
    record = node.read(key)
    assert record is not None
    assert [(run.outcome, run.status) for run in record.history] == [(EXITED, 3)]


def test_no_two_items_have_one_name() -> None:
    """Neither a key's item nor those of its past runs can be another key's, and all fit."""
    plain = ["x" * count for count in range(1, 201)]
    wide = ["x" * (200 - count) + "\U0001f512" * count for count in range(1, 30)]
    edges = ["-" * count + "%" * 60 for count in range(141)]
    keys = {*NASTY_KEYS, *plain, *wide, *edges, "x:1", "x:31", "x%3A1"}
    for prefix in ("p", "p" * 64):
        node = MemcachedBackend("memcached", [(HOST, 1)], prefix, 1.0)
        names = [name for key in keys for name in (node._place(key)[1], *map(partial(node._beside, key), range(RING)))]
        assert len(set(names)) == len(names)
        assert max(map(len, names)) <= 250
        assert not any(set(name) & set(b" \t\r\n\0") for name in names)


@pytest.mark.parametrize("character", ["x", "%", "\U0001f512"])
def test_longest_item_can_be_read(node: MemcachedBackend, server: MemcachedServer, key: str, character: str) -> None:
    """With the longest names everywhere, an item is still no longer than what is read of one."""
    wide = character * 1000
    host = escape(wide.encode()[:64].decode("utf-8", "ignore"))
    hooks = _MemcachedHooks(server)
    tick = ""
    for number in range(20):
        claim = make_claim(key, owner=f"{host}:4194304:{number:016d}", host=wide, program=wide, ignore_hold=True)
        grant = granted(node.acquire(claim))
        if number < 18:
            outcome = EXITED if number == 16 else LOST
            assert node.release(grant, make_ending(0, outcome), keep_hold=False)
        else:
            hooks.lapse(node, grant)
            tick = claim.owner
    claim = make_claim(key, owner=f"{host}:4194304:takes-over", host=wide, program=wide, standby_for=tick)
    assert granted(node.acquire(claim)).took_over is not None
    with _Wire(server.port) as wire:
        found = wire.get(_name(key))
    assert found is not None
    assert all(name in found[0] for name in (b"\nsuccess=", b"\nlast.", b"\nkept.", b"\nrun.stands_for="))
    assert len(found[0]) <= LONGEST_VALUE
    record = node.read(key)
    assert record is not None
    assert record.success is not None
    assert record.success.owner == f"{host}:4194304:{16:016d}"


# Servers that stop, forget or die


def test_stale_cas_after_a_restart(own_server: MemcachedServer, key: str) -> None:
    """The CAS of before the restart, which another owner's item has now, overwrites nothing."""
    first, second = _open(own_server.url()), _open(own_server.url())
    lost = granted(first.acquire(make_claim(key)))
    own_server.restart(keep_data=False)
    heir = granted(second.acquire(make_claim(key)))
    assert isinstance(lost.token, _Held)
    assert isinstance(heir.token, _Held)
    assert lost.token.cas == heir.token.cas
    with pytest.raises(BackendUnavailable):
        first.renew(lost)
    assert not first.renew(lost)
    assert not first.release(lost, make_ending(), keep_hold=False)
    assert second.renew(heir)


def test_restart_is_noticed(own_server: MemcachedServer, key: str) -> None:
    """Who saw the key before the restart waits for the ttl; who never saw it does not."""
    node = _open(own_server.url())
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    own_server.restart(keep_data=False)
    conflict = refused(node.acquire(make_claim(key, ttl=60.0, sight=Sight(grant.fence, 60.0, None))), FORGOTTEN)
    assert 0 < conflict.remaining <= 60
    assert node.read(key) is None
    later = granted(node.acquire(make_claim(key, ttl=60.0)))
    assert later.fence is not None
    assert later.fence > grant.fence


def test_forgotten_lease_is_waited_for_in_full(own_server: MemcachedServer, key: str) -> None:
    """A server that tells an uptime of 2 s as it starts gets no second as a present."""
    own_server.stop()
    begun = time.monotonic()
    own_server.start()
    node = _open(own_server.url())
    claim = make_claim(key, ttl=2.0, sight=Sight(5, 60.0, None))
    eventually(lambda: isinstance(node.acquire(claim), Grant), "the server is up for the ttl")
    assert time.monotonic() - begun >= 2.0


def test_giving_up_does_not_hide_a_restart(own_server: MemcachedServer, key: str) -> None:
    """An item without a run, as one that gave up leaves it, is no proof that the server remembers."""
    node = _open(own_server.url())
    node.abandon(make_claim(key))
    refused(node.acquire(make_claim(key, ttl=60.0, sight=Sight(5, 60.0, None))), FORGOTTEN)


def test_flush_drops_the_lease(own_server: MemcachedServer, key: str) -> None:
    """After flush_all the next renewal finds the lease gone."""
    node = _open(own_server.url())
    grant = granted(node.acquire(make_claim(key)))
    assert own_server.ask("flush_all").startswith("OK")
    eventually(lambda: node.read(key) is None, "the item is gone")
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=True)


def test_eviction_drops_the_lease(key: str) -> None:
    """When others fill the cache, an evicted lease is found gone, and the statistics show it."""
    with MemcachedServer(extra=["-m", "2"]) as server:
        node = _open(server.url())
        grant = granted(node.acquire(make_claim(key)))
        with _Wire(server.port) as wire:

            def is_gone() -> bool:
                wire.fill()
                # Looking would otherwise keep it.
                return wire.say(b"mg %b t u" % _name(key)) == b"EN"

            eventually(is_gone, "the item was evicted")
        assert not node.renew(grant)
        (statistics,) = node.statistics().values()
        assert statistics["evictions"] > 0
        node.close()


def test_full_server_is_unavailable(key: str) -> None:
    """A server that may not evict and is full grants nothing, and says why."""
    with MemcachedServer(extra=["-m", "2", "-M"]) as server:
        node = _open(server.url())
        with _Wire(server.port) as wire:

            def is_full() -> bool:
                wire.fill()
                try:
                    node.acquire(make_claim(fresh_key()))
                except BackendUnavailable as error:
                    return "out of memory" in str(error)
                return False

            eventually(is_full, "a refusal for want of memory")
        assert node.read(key) is None
        node.close()


def test_paused_server_is_unavailable(own_server: MemcachedServer, key: str) -> None:
    """A server that does not answer costs the time limit, and all is well when it goes on."""
    node = _open(own_server.url(), timeout=0.5)
    grant = granted(node.acquire(make_claim(key)))
    own_server.pause()
    for ask in (
        lambda: node.renew(grant),
        lambda: node.acquire(make_claim(key)),
        lambda: node.release(grant, make_ending(), keep_hold=False),
        node.statistics,
    ):
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable, match="in time"):
            ask()
        assert time.monotonic() - begun < _PATIENT
    own_server.resume()
    patient = _open(own_server.url())
    assert patient.read(key) is not None


def test_several_servers(key: str) -> None:
    """Keys spread over the servers, in whatever order these are listed; a dead one takes its keys along."""
    with MemcachedServers(3) as servers:
        node = _open(servers.url())
        ports = [server.port for server in servers.nodes]
        reverse = _open("memcached://" + ",".join(f"{HOST}:{port}" for port in reversed(ports)))
        keys = [f"{key}-{number}" for number in range(30)]
        grants = [granted(node.acquire(make_claim(name))) for name in keys]
        for name in keys:
            refused(reverse.acquire(make_claim(name)), HELD)
        statistics = node.statistics()
        assert set(statistics) == {f"memcached://{HOST}:{port}" for port in ports}
        assert all(numbers["curr_items"] > 0 for numbers in statistics.values())
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


def test_statistics(node: MemcachedBackend, server: MemcachedServer) -> None:
    """The statistics have what a person needs to judge the server."""
    numbers = node.statistics()[server.url()]
    assert isinstance(numbers["version"], str)
    assert all(isinstance(numbers[name], int) for name in ("uptime", "evictions", "limit_maxbytes", "curr_items"))


# TLS


def test_tls(key: str) -> None:
    """A whole run over TLS, statistics included, and no way around its certificates."""
    with MemcachedServer(tls=True) as server:
        node = _open(server.url())
        grant = granted(node.acquire(make_claim(key, sight=Sight(1, 0.0, None))))
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)
        with pytest.raises(BackendUnavailable, match="TLS"):
            _open(f"memcacheds://{HOST}:{server.port}").read(key)
        with pytest.raises(BackendUnavailable):
            _open(f"memcached://{HOST}:{server.port}", timeout=1.0).read(key)


def test_tls_with_client_certificates(key: str) -> None:
    """A server that wants a client's certificate gets it, and turns others away."""
    files = tls()
    # The server's own client in the tests shows its certificate; mode 2 requires one.
    with MemcachedServer(tls=True, extra=["-o", "ssl_verify_mode=2"]) as server:
        place = f"memcacheds://{HOST}:{server.port}"
        granted(_open(place + query(files.params(client=True))).acquire(make_claim(key)))
        with pytest.raises(BackendUnavailable):
            _open(place + query(files.params())).read(key)


def test_tls_to_a_plain_port(server: MemcachedServer) -> None:
    """A server without TLS is unavailable under memcacheds."""
    with pytest.raises(BackendUnavailable, match=str(server.port)):
        _open(f"memcacheds://{HOST}:{server.port}", timeout=1.0).read("a")


# Refusals


@pytest.mark.parametrize("value", [b"hello", b"", b"cronlock=1\nfence=x\n", b"cronlock=1\n", b"\xff\xfe", b"{}"])
def test_foreign_value_is_left_alone(node: MemcachedBackend, server: MemcachedServer, key: str, value: bytes) -> None:
    """What is not ours is named and never written over."""
    claim = make_claim(key)
    _assert_foreign(node, server, claim, value, 1000)


def test_item_for_ever_is_foreign(node: MemcachedBackend, server: MemcachedServer, key: str) -> None:
    """An item that somebody made last for ever tells no time, so it is not judged."""
    claim = make_claim(key)
    _assert_foreign(node, server, claim, State(fence=3).encode(), 0)


def _assert_foreign(node: MemcachedBackend, server: MemcachedServer, claim: Claim, value: bytes, seconds: int) -> None:
    grant = Grant(claim, fence=1, ttl=claim.ttl)
    with _Wire(server.port) as wire:
        wire.set(_name(claim.key), value, seconds)
        for ask in (
            lambda: node.acquire(claim),
            lambda: node.renew(grant),
            lambda: node.release(grant, make_ending(), keep_hold=False),
            lambda: node.abandon(claim),
            lambda: node.read(claim.key),
            lambda: node.force_release(claim.key, claim.owner),
        ):
            with pytest.raises(ForeignValue, match="prefix"):
                ask()
        found = wire.get(_name(claim.key))
    assert found is not None
    assert found[0] == value


def test_names_that_are_not_utf8(node: MemcachedBackend, key: str) -> None:
    """A program whose name is no text leaves a record that can be read."""
    granted(node.acquire(make_claim(key, program="caf\udce9")))
    record = node.read(key)
    assert record is not None
    assert record.run is not None
    assert record.run.program == "caf\\udce9"


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
        node = _open(server.url(), timeout=2.0)

        def refuses() -> bool:
            with pytest.raises(BackendUnavailable) as failure:
                node.acquire(make_claim(key))
            return said in str(failure.value)

        eventually(refuses, f"a refusal that says {said!r}")
    finally:
        server.close()


def test_web_server_is_refused(key: str) -> None:
    """A web server in the place of memcached is unavailable, and the URL is named."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    web = HTTPServer((HOST, 0), Quiet)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with pytest.raises(BackendUnavailable, match=str(web.server_port)):
            _open(f"memcached://{HOST}:{web.server_port}", timeout=2.0).acquire(make_claim(key))
    finally:
        web.shutdown()
        web.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached:///",
        "memcached://user:secret@host",
        "memcached://host/0",
        "memcached://host?ca=x",
        "memcached://host?prefix=a:b",
        "memcacheds://host?ca=/nonexistent",
        "memcacheds://host?key=/nonexistent",
    ],
)
def test_bad_urls(url: str) -> None:
    """What memcached cannot use in a URL is refused before anything is asked, without the password."""
    with pytest.raises(ConfigError) as failure:
        open_backend(url, 1.0)
    assert "secret" not in str(failure.value)


def test_prefixes_keep_keys_apart(server: MemcachedServer, key: str) -> None:
    """The same key under another prefix is another key."""
    granted(_open(server.url()).acquire(make_claim(key)))
    granted(_open(server.url(prefix="other")).acquire(make_claim(key)))


def test_a_run_imports_little(server: MemcachedServer, key: str) -> None:
    """The way of a run loads no client library and no module that costs milliseconds."""
    heavy = ["pymemcache", "socket", "ssl", "json", "typing", "logging", "re", "enum", "random", "hashlib"]
    program = f"""
import sys
from cronlock.engines.registry import open_backend
from cronlock.lease.vocabulary import Claim, Ending
backend = open_backend({server.url()!r}, 20.0)
claim = Claim(key={key!r}, owner="o", host="h", pid=1, program="p", ttl=60.0, hold=0.0)
assert backend.release(backend.acquire(claim), Ending("exited", 0, 0.0), keep_hold=False)
print([name for name in {heavy!r} if name in sys.modules])
"""
    # Not the environment's site hooks, which load what they like.
    paths = [path for path in sys.path if path]
    start = f"import sys; sys.path[:] = {paths!r}\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", start + program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_kept_is_no_date() -> None:
    """Items are kept as long as memcached takes for a number of seconds, and leases are shorter."""
    assert memcached._KEPT <= 30 * 86400
    assert MemcachedBackend("memcached", [(HOST, 1)], "p", 1.0).traits.longest_ttl < memcached._KEPT
