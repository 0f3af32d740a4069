"""etcd: the contract on a real server, and what is its own: leases that move, lost and late requests, access."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cronlock.engines.etcd.backend import SLACK, Etcd
from cronlock.engines.etcd.names import lease_id
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.keys import escape
from cronlock.lease.vocabulary import CANCELLED, FORGOTTEN, HELD, HOLD, Conflict, Grant, Sight
from cronlock.testing import (
    LONG,
    BackendContract,
    Hooks,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.clocks import ManualClock
from labs.proxy import Proxy
from labs.servers.etcd import EtcdServer, text
from labs.servers.process import HOST, free_port

from ..losses import everything_twice
from ..wire.test_http import LittleServer

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

_PATIENT = 20.0
_PASSWORD = "not-to-be-shown"


@contextmanager
def opened(url: str, timeout: float = _PATIENT) -> Iterator[Backend]:
    """Open a backend and close it."""
    backend = open_backend(url, timeout)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One server for the whole file."""
    with EtcdServer() as one:
        yield one


@pytest.fixture
def node(server: EtcdServer) -> Iterator[Backend]:
    """A node on the shared server."""
    with opened(server.url()) as backend:
        yield backend


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


def lease_key(key: str) -> str:
    """Return the name of the lease's key."""
    return f"cronlock/held/{escape(key)}/lease"


def lease_of(server: EtcdServer, key: str) -> dict[str, Any]:
    """Return what the server says of the lease's key."""
    return server.keys(lease_key(key))[lease_key(key)]


def revoke(server: EtcdServer, lease: object) -> None:
    """End a lease, as the server does with one that is over."""
    server.ask("lease/revoke", ID=lease)


def full_cycle(backend: Backend, key: str) -> None:
    """Do everything once."""
    grant = granted(backend.acquire(make_claim(key, hold=LONG)))
    refused(backend.acquire(make_claim(key)), HELD)
    assert backend.renew(grant)
    assert backend.release(grant, make_ending(), keep_hold=True)
    refused(backend.acquire(make_claim(key)), HOLD)
    assert backend.read(key) is not None
    assert key in set(backend.keys())
    assert backend.force_release(key, grant.claim.owner)
    claim = make_claim(key)
    granted(backend.acquire(claim))
    backend.abandon(claim)


class EtcdHooks(Hooks):
    """Time passes at once: what the server does at the end of a lease is done by hand."""

    short_ttl = LONG
    short_hold = LONG
    forces_time = True
    tells_uptime = False

    def __init__(self, server: EtcdServer) -> None:
        self._server = server

    def open(self) -> Backend:
        """Open another connection."""
        return open_backend(self._server.url(), _PATIENT)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Revoke the lease, as the server does with one that is over."""
        revoke(self._server, lease_of(self._server, grant.claim.key)["lease"])

    def end_hold(self, node: Backend, key: str) -> None:
        """Revoke the leases of all holds."""
        for found in self._server.keys(f"cronlock/held/{escape(key)}/hold/").values():
            revoke(self._server, found["lease"])


class TestEtcd(BackendContract):
    """One server."""

    @pytest.fixture
    def hooks(self, server: EtcdServer) -> Hooks:
        """The server's hooks."""
        return EtcdHooks(server)


# What a lease is


def test_fence_is_the_revision_of_the_lease(server: EtcdServer, node: Backend, key: str) -> None:
    """Of its creation; renewals do not change it, and it goes on when all of the key was deleted."""
    first = granted(node.acquire(make_claim(key)))
    assert node.renew(first)
    assert first.fence == int(lease_of(server, key)["create_revision"])
    record = node.read(key)
    assert record is not None
    assert record.run is not None
    assert record.run.fence == first.fence
    assert node.release(first, make_ending(), keep_hold=False)
    server.delete(f"cronlock/record/{key}")
    second = granted(node.acquire(make_claim(key)))
    assert (second.fence or 0) > (first.fence or 0)


def test_a_wiped_server_counts_on(node: Backend, key: str) -> None:
    """From what a node remembers, and what was granted so is what everybody reads."""
    floor = 10**12
    grant = granted(node.acquire(make_claim(key, sight=Sight(floor, age=0.0, noticed_age=LONG))))
    assert grant.fence == floor + 1
    assert refused(node.acquire(make_claim(key)), HELD).fence == floor + 1
    assert node.release(grant, make_ending(), keep_hold=False)
    assert (granted(node.acquire(make_claim(key))).fence or 0) == floor + 2


def test_a_renewal_moves_the_key_to_a_new_lease(server: EtcdServer, node: Backend, key: str) -> None:
    """With its full time, and whatever becomes of the old one."""
    claim = make_claim(key, ttl=100.0)
    grant = granted(node.acquire(claim))
    first = lease_of(server, key)["lease"]
    assert int(first) == lease_id(claim.owner)
    assert int(server.ask("lease/timetolive", ID=first)["grantedTTL"]) == 100 + SLACK
    assert node.renew(grant)
    second = lease_of(server, key)["lease"]
    assert second != first
    assert int(server.ask("lease/timetolive", ID=second)["grantedTTL"]) == 100 + SLACK
    # As an old leader does that was deposed while it hung, once it goes on.
    revoke(server, first)
    assert node.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)


def test_long_leases_are_revoked(server: EtcdServer, node: Backend, key: str) -> None:
    """One that would be there for a day is not left to lapse when its run ended or was given up."""
    before = len(server.ask("lease/leases").get("leases", []))
    grant = granted(node.acquire(make_claim(key, ttl=86400.0)))
    assert len(server.ask("lease/leases")["leases"]) == before + 1
    assert node.release(grant, make_ending(), keep_hold=False)
    assert len(server.ask("lease/leases").get("leases", [])) == before
    claim = make_claim(key, ttl=86400.0)
    granted(node.acquire(claim))
    node.abandon(claim)
    assert len(server.ask("lease/leases").get("leases", [])) == before


def test_nothing_ends_early(server: EtcdServer, key: str) -> None:
    """In real time: a lease lasts its ttl from its last renewal, and a hold from its grant."""
    with opened(server.url()) as a, opened(server.url()) as b:
        grant = granted(a.acquire(make_claim(key, ttl=5.0)))
        time.sleep(1.0)
        renewed = time.monotonic()
        assert a.renew(grant)
        asked = time.monotonic()
        held = granted(a.acquire(make_claim(key + "-held", hold=3.0)))
        assert a.release(held, make_ending(), keep_hold=True)
        eventually(lambda: isinstance(b.acquire(make_claim(key)), Grant), "the lease lapsed")
        assert time.monotonic() - renewed >= 5.0
        eventually(lambda: isinstance(b.acquire(make_claim(key + "-held")), Grant), "the hold ended")
        assert time.monotonic() - asked >= 3.0
        assert not a.renew(grant)


@pytest.mark.parametrize("number", [3, 4])
def test_hold_of_a_slow_grant(server: EtcdServer, far: Backend, wire: Wire, key: str, number: int) -> None:
    """A hold begins with the run, also where that came long after its lease was asked for."""
    wire.on(number, lambda: time.sleep(SLACK + 0.5))
    granted(far.acquire(make_claim(key, hold=30.0)))
    (hold,) = server.keys(f"cronlock/held/{key}/hold/").values()
    assert int(server.ask("lease/timetolive", ID=hold["lease"])["TTL"]) >= 30


def test_hold_of_a_grant_that_slept(far: Backend, wire: Wire, key: str) -> None:
    """A machine that is suspended while it is granted the key has its whole hold all the same, by the boot clock."""
    assert isinstance(far, Etcd)
    clock = far._clock = ManualClock()
    asked = wire.requests
    wire.on(4, lambda: clock.advance(SLACK + 0.5))
    granted(far.acquire(make_claim(key, hold=30.0)))
    # To look, for two leases, to take the key; and for a later lease, and to move the hold onto it.
    assert wire.requests - asked == 6


def test_hold_of_a_grant_that_was_not_heard_of(server: EtcdServer, node: Backend, key: str) -> None:
    """It begins when the owner, who asked again, hears of its grant."""
    claim = make_claim(key, hold=30.0)
    granted(node.acquire(claim))
    time.sleep(SLACK + 1.1)
    granted(node.acquire(claim))
    (hold,) = server.keys(f"cronlock/held/{key}/hold/").values()
    assert int(server.ask("lease/timetolive", ID=hold["lease"])["TTL"]) >= 30


def test_short_hold_that_was_over_before_its_owner_heard(server: EtcdServer, node: Backend, key: str) -> None:
    """It begins when the owner, who asked again, hears of its grant: else the tick could run once more."""
    claim = make_claim(key, hold=LONG)
    granted(node.acquire(claim))
    EtcdHooks(server).end_hold(node, key)
    grant = granted(node.acquire(claim))
    assert node.release(grant, make_ending(), keep_hold=True)
    refused(node.acquire(make_claim(key)), HOLD)


def test_hold_that_arrives_late(server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """One of a slow grant, whose owner asked again meanwhile, does not put an older lease in the newer's place."""

    def be_slow() -> None:
        time.sleep(SLACK + 0.5)
        wire.on(3, wire.hold_requests)

    wire.on(4, be_slow)
    claim = make_claim(key, hold=30.0)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    grant = granted(node.acquire(claim))
    before = server.keys(f"cronlock/held/{key}/hold/")
    wire.deliver_held()
    assert server.keys(f"cronlock/held/{key}/hold/") == before
    assert node.renew(grant)


def test_hold_that_arrives_after_giving_up(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """It holds nothing."""
    claim = make_claim(key, hold=LONG)
    granted(node.acquire(claim))
    wire.on(3, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    node.abandon(claim)
    wire.deliver_held()
    granted(node.acquire(make_claim(key)))


def test_whole_seconds(server: EtcdServer, node: Backend, key: str) -> None:
    """A lease is never shorter than was asked for."""
    granted(node.acquire(make_claim(key, ttl=2.5)))
    lease = lease_of(server, key)["lease"]
    assert int(server.ask("lease/timetolive", ID=lease)["grantedTTL"]) == 3 + SLACK


def test_the_remaining_time_for_a_standby(node: Backend, key: str) -> None:
    """Who stands by is told when the lease can lapse; who is refused, the most that it can be."""
    grant = granted(node.acquire(make_claim(key, ttl=60.0)))
    time.sleep(2.1)
    assert refused(node.acquire(make_claim(key)), HELD).remaining == 60.0
    assert 20.0 < refused(node.acquire(make_claim(key, standby_for=grant.claim.owner)), HELD).remaining <= 59.0


def test_a_hold_that_etcd_cannot_keep(node: Backend, key: str) -> None:
    """It is refused by name."""
    with pytest.raises(ConfigError, match="--min-hold"):
        node.acquire(make_claim(key, hold=1e10))
    assert node.read(key) is None


def test_many_keys_are_listed(server: EtcdServer) -> None:
    """In several answers; what is not cronlock's is passed over."""
    with opened(server.url(prefix="many")) as backend:
        for first in range(0, 1203, 100):
            puts = [
                {"requestPut": {"key": text(f"many/record/key-{number}"), "value": "eA=="}}
                for number in range(first, min(first + 100, 1203))
            ]
            server.ask("kv/txn", success=puts)
        server.put("many/record/%2", "x")
        server.put("many/record/not%20escaped so", "x")
        listed = list(backend.keys())
        assert len(listed) == 1203
        assert set(listed) == {f"key-{number}" for number in range(1203)}


# Races


def test_fifty_racers_round_after_round(server: EtcdServer, key: str) -> None:
    """Of fifty nodes exactly one gets the key, whether it is new, ended, held back, or its holder died."""
    nodes = [open_backend(server.url(), 60.0) for _ in range(50)]
    hooks = EtcdHooks(server)
    fence = 0
    for number in range(6):
        answers: list[Grant | Conflict] = []
        barrier = threading.Barrier(len(nodes))

        def race(racer: Backend, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
            start.wait()
            into.append(racer.acquire(make_claim(key, hold=LONG, ignore_hold=True)))

        threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(nodes)
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
        assert grant.fence is not None
        assert grant.fence > fence
        fence = grant.fence
        if number % 2:
            hooks.lapse(nodes[0], grant)
        else:
            assert nodes[0].release(grant, make_ending(), keep_hold=bool(number % 4))
    for racer in nodes:
        racer.close()


# Lost, late and doubled requests


class Wire(Proxy):
    """A proxy that loses, holds or doubles requests from one of a number on.

    A client whose request or reply was lost is hung up on, so that nobody waits for a time limit.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._at = 0
        self._act: Callable[[], None] = self.pass_all
        self._lost = ""

    def on(self, number: int, act: Callable[[], None]) -> None:
        """Do `act` at the request that is `number` requests from now."""
        self._at, self._act = self.requests + number, act

    def lose_requests(self) -> None:
        """Hang up on whoever asks something, which does not reach the server."""
        self._lost = "request"

    def lose_replies(self) -> None:
        """Hang up on whoever is answered, once the server did what was asked."""
        self._lost = "reply"

    def pass_all(self) -> None:
        """Lose nothing from now on."""
        super().pass_all()
        self._lost = ""

    def _upward(self, connection: Any, data: bytes) -> None:
        if self.requests + 1 == self._at:
            self._at = 0  # Before the client can hear of it, and ask again.
            self._act()
        if self._lost == "request":
            self.requests += 1
            connection.close()
            return
        super()._upward(connection, data)
        if connection.held:
            connection.client.shutdown(socket.SHUT_WR)

    def _downward(self, connection: Any, data: bytes) -> None:
        if self._lost == "reply":
            connection.close()
        else:
            super()._downward(connection, data)


@pytest.fixture
def wire(server: EtcdServer) -> Iterator[Wire]:
    """A proxy before the shared server."""
    proxy = Wire(server.port)
    with proxy:
        yield proxy


@pytest.fixture
def far(server: EtcdServer, wire: Wire) -> Iterator[Backend]:
    """A node that reaches the server through the proxy."""
    with opened(server.url(port=wire.port)) as backend:
        yield backend


losses = pytest.mark.parametrize("loss", ["lose_requests", "lose_replies", "refuse"])


def test_requests(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """A skip is one request, a run five, with no hold four, a renewal two; all over one connection."""

    def count(step: Callable[[], Any]) -> int:
        before = wire.requests
        assert step() is not False
        return wire.requests - before

    grants: list[Grant] = []

    def acquire(**more: Any) -> None:
        grants.append(granted(far.acquire(make_claim(key, **more))))

    assert count(lambda: acquire(hold=LONG)) == 4
    assert count(lambda: refused(far.acquire(make_claim(key)), HELD)) == 1
    assert count(lambda: granted(far.acquire(grants[0].claim))) == 3
    assert count(lambda: far.renew(grants[0])) == 2
    assert count(lambda: far.release(grants[0], make_ending(), keep_hold=True)) == 1
    assert count(lambda: refused(far.acquire(make_claim(key)), HOLD)) == 1
    assert count(lambda: far.read(key)) == 2
    assert node.force_release(key, grants[0].claim.owner)
    assert count(acquire) == 3
    assert count(lambda: far.release(grants[1], make_ending(), keep_hold=False)) == 1
    assert wire.connections == 1


@losses
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_acquire_with_a_loss(far: Backend, node: Backend, wire: Wire, key: str, number: int, loss: str) -> None:
    """Whatever was lost, the owner that asks again has the key, and nobody else."""
    claim = make_claim(key, hold=LONG)
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    if (number, loss) == (4, "lose_replies"):
        refused(node.acquire(make_claim(key)), HELD)
    wire.pass_all()
    grant = granted(far.acquire(claim))
    refused(node.acquire(make_claim(key)), HELD)
    assert far.renew(grant)
    assert far.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > LONG / 2


@losses
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_giving_up_after_a_loss(far: Backend, node: Backend, wire: Wire, key: str, number: int, loss: str) -> None:
    """After a lost answer and giving up, the key is free and that owner stays out."""
    claim = make_claim(key, hold=LONG)
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    wire.pass_all()
    far.abandon(claim)
    refused(far.acquire(claim), CANCELLED)
    granted(node.acquire(make_claim(key)))


@losses
@pytest.mark.parametrize("number", [1, 2])
def test_renewal_with_a_loss(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str, number: int, loss: str
) -> None:
    """The next one is answered, and leaves the key on the newest lease."""
    grant = granted(far.acquire(make_claim(key)))
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    wire.pass_all()
    before = lease_of(server, key)["lease"]
    assert far.renew(grant)
    assert lease_of(server, key)["lease"] != before
    assert far.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)
    assert far.release(grant, make_ending(), keep_hold=False)


@losses
@pytest.mark.parametrize("keep_hold", [True, False])
def test_release_with_a_loss(far: Backend, node: Backend, wire: Wire, key: str, loss: str, keep_hold: bool) -> None:
    """Asked again it says that the run was recorded, also if it had been the first time."""
    grant = granted(far.acquire(make_claim(key, hold=LONG)))
    wire.on(1, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.release(grant, make_ending(5), keep_hold=keep_hold)
    wire.pass_all()
    assert far.release(grant, make_ending(5), keep_hold=keep_hold)
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert (record.run, record.last.status) == (None, 5)
    assert [run.status for run in record.history] == [5]
    assert (record.hold_remaining > 0) == keep_hold


@losses
def test_forced_release_with_a_loss(far: Backend, node: Backend, wire: Wire, key: str, loss: str) -> None:
    """Asked again it takes what the first one left, and the next holder is spared."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    wire.on(2, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.force_release(key, grant.claim.owner)
    wire.pass_all()
    assert far.force_release(key, grant.claim.owner) == (loss != "lose_replies")
    heir = granted(node.acquire(make_claim(key)))
    assert not far.force_release(key, grant.claim.owner)
    assert node.renew(heir)


@losses
def test_a_list_with_a_loss(far: Backend, node: Backend, wire: Wire, key: str, loss: str) -> None:
    """Looking raises too, and can be repeated."""
    granted(node.acquire(make_claim(key)))
    for look in (lambda: far.read(key), lambda: list(far.keys())):
        wire.on(1, getattr(wire, loss))
        with pytest.raises(BackendUnavailable):
            look()
        wire.pass_all()
        assert look()


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("used", [False, True])
def test_acquire_that_arrives_after_giving_up(
    far: Backend, node: Backend, wire: Wire, key: str, used: bool, number: int
) -> None:
    """A request of a claim that gave up meanwhile takes nothing."""
    if used:
        node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    claim = make_claim(key, hold=LONG)
    wire.on(number, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    node.abandon(claim)
    wire.deliver_held()
    record = node.read(key)
    assert record is None or record.remaining == record.hold_remaining == 0
    granted(node.acquire(make_claim(key)))


def test_acquire_that_arrives_during_another_run(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """It takes nothing from the run that came first, nor from the one after that."""
    wire.on(4, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(make_claim(key, hold=LONG))
    grant = granted(node.acquire(make_claim(key)))
    wire.deliver_held()
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=True)
    granted(node.acquire(make_claim(key)))


def test_acquire_that_arrives_after_its_release(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """The owner asked again, ran and ended; then its first request arrives."""
    claim = make_claim(key, hold=LONG)
    wire.on(4, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=False)
    wire.deliver_held()
    granted(node.acquire(make_claim(key)))


def test_acquire_that_arrives_when_its_lease_lapsed(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str
) -> None:
    """A transaction that was under way for longer than its lease lasted does nothing."""
    claim = make_claim(key, ttl=2.0)
    wire.on(3, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    eventually(lambda: "grantedTTL" not in server.ask("lease/timetolive", ID=lease_id(claim.owner)), "it lapsed")
    wire.deliver_held()
    assert node.read(key) is None


def test_lease_that_lapses_before_it_is_used(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str
) -> None:
    """An earlier try asked for it; it is asked for anew."""
    claim = make_claim(key)
    wire.on(3, lambda: revoke(server, lease_id(claim.owner)))
    grant = granted(far.acquire(claim))
    refused(node.acquire(make_claim(key)), HELD)
    assert far.renew(grant)


def test_acquire_that_arrives_when_the_record_was_deleted(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str
) -> None:
    """It finds the record as it knew it, that is none, and takes nothing from who has the lease."""
    wire.on(4, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.acquire(make_claim(key, hold=LONG))
    grant = granted(node.acquire(make_claim(key)))
    server.delete(f"cronlock/record/{key}")
    wire.deliver_held()
    assert node.renew(grant)


def test_lease_that_is_revoked_late(server: EtcdServer, node: Backend, wire: Wire, key: str) -> None:
    """A run whose first try was in vain keeps what its second got, though its lease is of the same id."""

    def be_overtaken() -> None:
        node.abandon(make_claim(key))
        wire.on(2, wire.hold_requests)

    wire.on(3, be_overtaken)
    places = f"{HOST}:{wire.port},{HOST}:{server.port}"
    while True:
        with opened(f"etcd://{places}", 4.0) as two:
            claim = make_claim(key, ttl=7200.0)
            grant = granted(two.acquire(claim))
            if not wire.requests:  # It began with the other.
                assert two.release(grant, make_ending(), keep_hold=False)
                continue
            wire.pass_all()
            wire.deliver_held()
            refused(node.acquire(make_claim(key)), HELD)
            assert two.renew(grant)
            return


def test_release_of_what_lapsed(server: EtcdServer, node: Backend, key: str) -> None:
    """It was not ours any more, also if nobody took the key since: a standby may."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    revoke(server, lease_of(server, key)["lease"])
    assert not node.release(grant, make_ending(), keep_hold=False)
    assert refused(node.acquire(make_claim(key)), HOLD).run is not None
    granted(node.acquire(make_claim(key, standby_for=grant.claim.owner)))


def test_first_lease_of_an_earlier_try_is_used(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str
) -> None:
    """Its id is the owner's, so asking again finds it, and its time counts from the first try."""
    claim = make_claim(key)
    wire.on(2, wire.lose_replies)
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    assert node.read(key) is None
    granted(node.acquire(claim))
    assert int(lease_of(server, key)["lease"]) == lease_id(claim.owner)


@pytest.mark.parametrize("number", [1, 2])
def test_renewal_that_arrives_late(far: Backend, node: Backend, wire: Wire, key: str, number: int) -> None:
    """A renewal that arrives after the key went to another does nothing."""
    grant = granted(far.acquire(make_claim(key)))
    wire.on(number, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    assert node.force_release(key, grant.claim.owner)
    heir = granted(node.acquire(make_claim(key)))
    wire.deliver_held()
    assert node.renew(heir)
    assert not node.renew(grant)


def test_renewal_that_arrives_after_a_later_one(
    server: EtcdServer, far: Backend, node: Backend, wire: Wire, key: str
) -> None:
    """It does not move the key back onto its lease, which ends earlier."""
    grant = granted(far.acquire(make_claim(key)))
    wire.on(2, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    assert node.renew(grant)
    newest = lease_of(server, key)["lease"]
    wire.deliver_held()
    assert lease_of(server, key)["lease"] == newest
    assert node.renew(grant)


def test_release_that_arrives_late(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """A release that arrives when the key is another's records nothing and frees nothing."""
    grant = granted(far.acquire(make_claim(key)))
    wire.on(1, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.release(grant, make_ending(), keep_hold=False)
    assert node.force_release(key, grant.claim.owner)
    heir = granted(node.acquire(make_claim(key)))
    wire.deliver_held()
    assert node.renew(heir)
    record = node.read(key)
    assert record is not None
    assert record.last is None


def test_late_giving_up(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """One that was decided on before another's grant takes nothing from that."""
    claim = make_claim(key)
    granted(node.acquire(claim))
    wire.on(2, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        far.abandon(claim)
    node.abandon(claim)
    heir = granted(node.acquire(make_claim(key)))
    wire.deliver_held()
    assert node.renew(heir)


def test_everything_twice(far: Backend, node: Backend, wire: Wire, key: str) -> None:
    """Each request comes in twice, and all is as if it had come once."""
    everything_twice(far, node, wire, key)


def test_slow_way(far: Backend, wire: Wire, key: str) -> None:
    """What is delayed, but in time, is as good as ever."""
    wire.delay(0.15)
    full_cycle(far, key)


# Servers that stop, start anew, are full, or are none


def test_hung_server_is_unavailable_within_the_limit(key: str) -> None:
    """Its kernel takes connections while the process stands still, for longer than the ttl."""
    with EtcdServer() as own, opened(own.url(), 0.7) as backend, opened(own.url()) as other:
        grant = granted(other.acquire(make_claim(key, ttl=2.0)))
        own.pause()
        began = time.monotonic()
        try:
            for call in (
                lambda: backend.acquire(make_claim(key)),
                lambda: backend.renew(Grant(grant.claim, fence=grant.fence, ttl=2.0, token=grant.token)),
                lambda: backend.release(grant, make_ending(), keep_hold=True),
                lambda: backend.read(key),
                lambda: backend.abandon(make_claim(key)),
            ):
                sent = time.monotonic()
                with pytest.raises(BackendUnavailable, match="no answer in time"):
                    call()
                assert time.monotonic() - sent >= 0.6
            time.sleep(max(0.0, began + 2.5 - time.monotonic()))
        finally:
            own.resume()
        # What hung may be done yet: whatever it was, there is one holder at the most.
        answers = [granted_to for granted_to in (other.read(key),) if granted_to is not None]
        assert len(answers) == 1
        eventually(lambda: isinstance(other.acquire(make_claim(key, ignore_hold=True)), Grant), "the lease lapsed")


def test_restart_with_its_data(key: str) -> None:
    """Leases are part of the data, and start anew when the server does; without it, the node notices."""
    with EtcdServer() as own, opened(own.url()) as backend:
        grant = granted(backend.acquire(make_claim(key, ttl=30.0, hold=LONG)))
        own.kill()
        with pytest.raises(BackendUnavailable, match="refused"):
            backend.renew(grant)
        own.start()
        assert backend.renew(grant)
        refused(backend.acquire(make_claim(key)), HELD)
        assert backend.release(grant, make_ending(), keep_hold=True)
        refused(backend.acquire(make_claim(key)), HOLD)
        own.restart(keep_data=False)
        sight = Sight(grant.fence or 0, age=1.0, noticed_age=None, ttl=30.0)
        refused(backend.acquire(make_claim(key, ttl=10.0, sight=sight)), FORGOTTEN)
        assert not backend.renew(grant)
        sight.noticed_age = 15.0
        refused(backend.acquire(make_claim(key, ttl=10.0, sight=sight)), FORGOTTEN)
        sight.noticed_age = 30.0
        again = granted(backend.acquire(make_claim(key, ttl=10.0, sight=sight)))
        assert (again.fence or 0) > (grant.fence or 0)


@pytest.mark.parametrize("renews", [True, False])
def test_wiped_server_that_counts_as_before(key: str, renews: bool) -> None:
    """Revisions are given again, on a quiet server the very same: the lease of another is not taken for ours."""
    with EtcdServer() as own, opened(own.url()) as a, opened(own.url()) as b:
        first = granted(a.acquire(make_claim(key)))
        own.restart(keep_data=False)
        second = granted(b.acquire(make_claim(key)))
        assert second.fence == first.fence  # This node had seen nothing yet.
        if renews:
            assert not a.renew(first)
        assert not a.release(first, make_ending(), keep_hold=False)
        refused(a.acquire(make_claim(key)), HELD)
        assert b.renew(second)


def test_full_server(key: str) -> None:
    """It is unavailable, also for renewals and ends of runs, says what to do, and still refuses."""
    with EtcdServer(extra=["--quota-backend-bytes", str(1 << 20)]) as own, opened(own.url()) as backend:
        grant = granted(backend.acquire(make_claim(key)))
        for number in range(40):
            try:
                own.put(f"fill/{number}", "x" * 100_000)
            except OSError:
                break
        with pytest.raises(BackendUnavailable, match=r"space exceeded.*alarm disarm"):
            backend.acquire(make_claim(fresh_key()))
        refused(backend.acquire(make_claim(key)), HELD)
        with pytest.raises(BackendUnavailable, match="space exceeded"):
            backend.renew(grant)
        with pytest.raises(BackendUnavailable, match="space exceeded"):
            backend.release(grant, make_ending(), keep_hold=True)


def test_compacted_server(server: EtcdServer, node: Backend, key: str) -> None:
    """What is read is what is there now: nothing depends on old revisions."""
    grant = granted(node.acquire(make_claim(key)))
    revision = int(server.ask("kv/range", key="AA==")["header"]["revision"])
    server.ask("kv/compaction", revision=str(revision), physical=True)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)


HEADER = {"revision": "5", "member_id": "1", "raft_term": "2"}
_KEY = "Y3JvbmxvY2s="
NONSENSE: dict[str, Any] = {
    "no JSON": b"hello",
    "a list": [],
    "a number": 7,
    "deep": b"[" * 100_000,
    "a long number": b'{"ID": ' + b"9" * 5000 + b"}",
    "nothing": {},
    "header only": {"header": HEADER},
    "header of a list": {"header": [1]},
    "responses of a text": {"header": HEADER, "responses": "x"},
    "responses of texts": {"header": HEADER, "responses": ["x", "y"]},
    "one response": {"header": HEADER, "responses": [{}]},
    "no base64": {"header": HEADER, "responses": [{"response_range": {"kvs": [{"key": "?"}]}}, {}]},
    "key of a number": {"header": HEADER, "responses": [{"response_range": {"kvs": [{"key": 5}]}}, {}]},
    "revision in words": {
        "header": HEADER,
        "responses": [{"response_range": {"kvs": [{"key": _KEY, "mod_revision": "many"}]}}, {}],
    },
    "error of a list": {"error": [1, 2]},
    "error of a number": {"error": 5, "message": 5, "code": "x"},
}


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("status", [200, 500])
def test_server_of_another_kind(name: str, status: int, key: str) -> None:
    """Whatever it says: unavailable, in one line, and nothing else."""
    said = NONSENSE[name]
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    server = LittleServer(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
    try:
        with opened(f"etcd://{HOST}:{server.port}", 5.0) as backend:
            for call in (
                lambda: backend.acquire(make_claim(key)),
                lambda: backend.read(key),
                lambda: backend.abandon(make_claim(key)),
            ):
                with pytest.raises(BackendUnavailable) as caught:
                    call()
                assert "\n" not in str(caught.value)
                assert len(str(caught.value)) < 400
    finally:
        server.close()


def test_server_that_grants_other_leases(key: str) -> None:
    """A shorter one than was asked for, or another's, is no lease."""
    looked = {"header": HEADER, "responses": [{"response_range": {}}, {"response_range": {}}]}
    claim = make_claim(key, ttl=600.0)
    shorter = {"ID": str(lease_id(claim.owner)), "TTL": str(600 + SLACK - 1)}
    for granted_lease in ({"ID": "7", "TTL": "700"}, {"TTL": "700"}, {"ID": "x", "TTL": "700"}, shorter):
        answers = []
        for said in (looked, {"header": HEADER, **granted_lease}):
            body = json.dumps(said).encode()
            answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        server = LittleServer(*answers)
        try:
            with opened(f"etcd://{HOST}:{server.port}", 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
                backend.acquire(claim)
            assert ("granted another lease" in str(caught.value)) == (granted_lease.get("ID") != "x")
        finally:
            server.close()


def test_old_gateway(key: str) -> None:
    """A server that does not know the paths is told as such."""
    server = LittleServer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nNot Found\n")
    try:
        with (
            opened(f"etcd://{HOST}:{server.port}", 5.0) as backend,
            pytest.raises(BackendUnavailable, match=r"etcd 3\.4 or later"),
        ):
            backend.acquire(make_claim(key))
    finally:
        server.close()


# Data of others


@pytest.mark.parametrize("value", ["", "garbage", "cronlock=1\nfence=x\n", "cronlock=1\nfence=-5\n", "cronlock=2\n"])
def test_foreign_record_is_left_alone(server: EtcdServer, node: Backend, key: str, value: str) -> None:
    """A value in the record's place that is not cronlock's is reported and not overwritten."""
    server.put(f"cronlock/record/{key}", value)
    before = server.keys(f"cronlock/record/{key}")
    for call in (
        lambda: node.acquire(make_claim(key)),
        lambda: node.read(key),
        lambda: node.abandon(make_claim(key)),
        lambda: node.force_release(key, "x"),
    ):
        with pytest.raises(ForeignValue, match=key):
            call()
    assert server.keys(f"cronlock/record/{key}") == before


@pytest.mark.parametrize("name", ["lease", "hold/x", "else", "hold"])
@pytest.mark.parametrize("value", ["x", "cronlock=1\nowner=me\nlength=5\nuntil_at=5\n"])
def test_foreign_lease_is_left_alone(server: EtcdServer, node: Backend, key: str, name: str, value: str) -> None:
    """A key among the leases that nobody's lease ends is not taken for one."""
    server.put(f"cronlock/held/{key}/{name}", value)
    with pytest.raises(ForeignValue, match=key):
        node.acquire(make_claim(key))


def test_foreign_history_is_passed_over(server: EtcdServer, node: Backend, key: str) -> None:
    """What cannot be read there costs no run."""
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    server.put(f"cronlock/history/{key}/17", "x\udcff".encode("utf-8", "replace").decode())
    record = node.read(key)
    assert record is not None
    assert len(record.history) == 1


@pytest.mark.parametrize("asks_again", [True, False])
def test_record_that_was_deleted_during_a_run(server: EtcdServer, node: Backend, key: str, asks_again: bool) -> None:
    """The lease is respected all the same, and the run's end is recorded; fences go on."""
    claim = make_claim(key)
    grant = granted(node.acquire(claim))
    server.delete(f"cronlock/record/{key}")
    assert refused(node.acquire(make_claim(key)), HELD).run is None
    again = granted(node.acquire(claim))
    assert again.fence == grant.fence
    assert node.renew(grant)
    assert node.release(again if asks_again else grant, make_ending(3), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert (record.last.status, record.last.fence) == (3, grant.fence)
    assert (granted(node.acquire(make_claim(key))).fence or 0) > (grant.fence or 0)


# Ways in


@pytest.mark.parametrize(
    "url",
    [
        "etcd://",
        "etcd://user@host",
        "etcd://:password@host",
        "etcd://host?ca=x",
        "etcd://host?cert=x",
        "etcd://host?timeout=5",
        "etcd://host/a//b",
        "etcd://host/a%00b",
        "etcd://host?prefix=a/b",
        "etcd://host:0",
        "etcds://host?ca=/does/not/exist",
        "etcds://host?key=x",
    ],
)
def test_bad_urls(url: str) -> None:
    """Each is refused before anything is asked."""
    with pytest.raises(ConfigError):
        open_backend(url, 1.0)


def test_paths_and_prefixes_keep_keys_apart(server: EtcdServer, key: str) -> None:
    """Both are parts of the names on the server."""
    urls = [server.url(), server.url("/team"), server.url("/team/a/"), server.url(prefix="jobs")]
    for url in urls:
        with opened(url) as backend:
            granted(backend.acquire(make_claim(key)))
    names = [name for name in server.keys("") if name.endswith(f"record/{key}")]
    assert sorted(names) == sorted(
        f"{base}/record/{key}" for base in ("cronlock", "jobs", "team/a/cronlock", "team/cronlock")
    )


@pytest.fixture(scope="module")
def closed_server() -> Iterator[EtcdServer]:
    """A server with users, one of whom may use the keys of ``ours``, and one nothing."""
    with EtcdServer(password=_PASSWORD) as one:
        one.add_user("ann", _PASSWORD, "ours/")
        one.add_user("bob", _PASSWORD)
        yield one


def test_user_who_may_do_no_more_than_needed(closed_server: EtcdServer, key: str) -> None:
    """Reading and writing all that begins with the prefix suffices."""
    with opened(closed_server.url(login=f"ann:{_PASSWORD}", prefix="ours")) as backend:
        full_cycle(backend, key)
        granted(backend.acquire(make_claim(fresh_key(), ttl=86400.0)))


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("", "wants a user"),
        ("ann:wrong-not-to-be-shown", "check user and password"),
        ("nobody:not-to-be-shown", "check user and password"),
        ("bob:not-to-be-shown", "read and write all keys under the prefix"),
    ],
)
def test_refused_users(closed_server: EtcdServer, key: str, login: str, said: str) -> None:
    """Each is told what is wrong, without the password."""
    with opened(closed_server.url(login=login, prefix="ours")) as backend:
        for call in (
            lambda: backend.acquire(make_claim(key)),
            lambda: backend.read(key),
            lambda: list(backend.keys()),
        ):
            with pytest.raises(BackendUnavailable, match=said) as caught:
                call()
            assert "not-to-be-shown" not in str(caught.value)


def test_token_that_ended(closed_server: EtcdServer, key: str) -> None:
    """A server that was started anew knows no tokens, and a change of users makes them old: another is asked for."""
    with opened(closed_server.url(login=f"ann:{_PASSWORD}", prefix="ours")) as backend:
        grant = granted(backend.acquire(make_claim(key)))
        closed_server.restart(keep_data=True)
        assert backend.renew(grant)
        closed_server.add_user(f"user-{key}", "x")
        assert backend.renew(grant)
        assert backend.release(grant, make_ending(), keep_hold=False)


def test_users_that_are_asked_for_from_now_on(key: str) -> None:
    """A run that began before goes on."""
    with EtcdServer() as own:
        own.ask("auth/user/add", name="root", password=_PASSWORD)
        own.ask("auth/user/grant", user="root", role="root")
        with opened(own.url(login=f"root:{_PASSWORD}")) as backend:
            grant = granted(backend.acquire(make_claim(key)))
            own.ask("auth/enable")
            own.password = _PASSWORD
            assert backend.renew(grant)


def test_user_where_none_is_asked_for(server: EtcdServer, key: str) -> None:
    """As etcd's own clients do, it goes on: an operator may turn authentication off for a while."""
    with opened(server.url(login="ann:secret")) as backend:
        full_cycle(backend, key)


@pytest.mark.parametrize("client_auth", [False, True])
def test_tls(key: str, client_auth: bool) -> None:
    """A whole run over TLS; to a plain port, or without trust in the server, it is unavailable."""
    with EtcdServer(tls=True, client_auth=client_auth, password=None if client_auth else _PASSWORD) as secure:
        with opened(secure.url()) as backend:
            full_cycle(backend, key)
        for scheme, said in (("etcds", "no TLS"), ("etcd", "write etcds://")):
            with opened(f"{scheme}://{HOST}:{secure.port}") as other, pytest.raises(BackendUnavailable, match=said):
                other.acquire(make_claim(key))


def test_named_certificate_and_user(key: str) -> None:
    """Together they are refused by the gateway, which is said."""
    with (
        EtcdServer(tls=True, client_auth=True, password=_PASSWORD) as secure,
        opened(secure.url()) as backend,
        pytest.raises(BackendUnavailable, match="CommonName"),
    ):
        backend.acquire(make_claim(key))


def test_tls_to_a_plain_port(server: EtcdServer, key: str) -> None:
    """It says that there is no TLS."""
    with opened(f"etcds://{HOST}:{server.port}", 5.0) as backend, pytest.raises(BackendUnavailable, match="no TLS"):
        backend.acquire(make_claim(key))


def test_several_servers(server: EtcdServer, key: str) -> None:
    """The first that serves is asked, within the limit, whatever the others do."""
    hung = LittleServer(lambda _: time.sleep(60))
    nonsense = LittleServer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    leaderless = LittleServer(
        b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 47\r\n\r\n{"message":"etcdserver: no leader","code":14}  '
    )
    # What a leader that was cut off says of a proposal to which nobody agreed.
    alone = LittleServer(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 48\r\n\r\n"
        b'{"message":"context deadline exceeded","code":2}'
    )
    # As etcd says it since 3.5, of a new member that is no voter yet.
    refusal = b'{"message":"etcdserver: rpc not supported for learner","code":9}'
    learner = LittleServer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
    ports = [free_port(), hung.port, nonsense.port, leaderless.port, alone.port, learner.port, server.port]
    try:
        for _ in range(3):  # It begins anywhere.
            with opened("etcd://" + ",".join(f"{HOST}:{port}" for port in ports), 6.0) as backend:
                grant = granted(backend.acquire(make_claim(key)))
                assert backend.renew(grant)
                assert backend.release(grant, make_ending(), keep_hold=False)
        with opened(f"etcd://{HOST}:{learner.port}", 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
            backend.acquire(make_claim(key))
        assert "take learners out of the URL" in str(caught.value)
        # When none serves, each is named.
        down = f"etcd://{HOST}:{ports[0]},{HOST}:{leaderless.port}"
        with opened(down, 5.0) as backend, pytest.raises(BackendUnavailable) as caught:
            backend.acquire(make_claim(key))
        assert all(f":{port}: " in str(caught.value) for port in (ports[0], leaderless.port))
    finally:
        for one in (hung, nonsense, leaderless, alone, learner):
            one.close()


def test_a_run_imports_little(server: EtcdServer, key: str) -> None:
    """No client of etcd's, and nothing of HTTP but h11."""
    code = (
        "import sys\n"
        "from cronlock.engines.registry import open_backend\n"
        "from cronlock.testing.hooks import make_claim, make_ending\n"
        "before = set(sys.modules)\n"
        f"backend = open_backend({server.url()!r}, 20.0)\n"
        f"grant = backend.acquire(make_claim({key!r}))\n"
        "assert backend.renew(grant) and backend.release(grant, make_ending(), keep_hold=True)\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert "cronlock.engines.etcd.backend" in names
    assert not names & {"http.client", "urllib.request", "urllib3", "requests", "grpc", "ssl", "asyncio", "hashlib"}
