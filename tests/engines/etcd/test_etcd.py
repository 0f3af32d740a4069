"""etcd as a store: leases that move, holds beside each other, what of others' lies in its place, whole servers."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cronlock.engines.etcd.store import SLACK
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD
from cronlock.lease.vocabulary import HELD, HOLD, STATE_LOST, Grant, Watermark
from cronlock.testing import LONG, StoreContract, eventually, fresh_key, granted, make_claim, make_ending
from cronlock.testing import refused as refused_for
from cronlock.testing.simulated import SimulatedClock
from labs.impostors import http_answers
from labs.servers.etcd import EtcdServer, text

from ..faults import TLS, Costs, Doubles, Impostors, StoreFaults, URLs
from ..hooks import Wire, opened
from .support import Cells, EtcdHooks, held, lease_of, leases, left, revoke


@pytest.fixture
def hooks(server: EtcdServer) -> EtcdHooks:
    """The server's hooks."""
    return EtcdHooks(server)


class TestEtcd(StoreContract):
    """One server."""


_HEADER = {"revision": "5", "member_id": "1", "raft_term": "2"}
_KEY = "Y3JvbmxvY2s="
#: Replies that are not etcd's, and replies to another request.
_NONSENSE: list[Any] = [
    *(b"hello", [], 7, b"[" * 100_000, b'{"ID": ' + b"9" * 5000 + b"}", {}, {"header": _HEADER}, {"header": [1]}),
    *({"error": [1, 2]}, {"error": 5, "message": 5, "code": "x"}),
    {"header": _HEADER, "responses": "x"},
    {"header": _HEADER, "responses": ["x", "y"]},
    {"header": _HEADER, "responses": [{}]},
    *(
        {"header": _HEADER, "responses": [{"response_range": {"kvs": [found]}}, {}]}
        for found in ({"key": "?"}, {"key": 5}, {"key": _KEY, "mod_revision": "many"})
    ),
]


class TestFaults(StoreFaults, Doubles, Costs, TLS, Impostors, URLs):
    """The same server by a wire, and what is not cronlock's on it."""

    nonsense: ClassVar[list[bytes]] = [answer for said in _NONSENSE for answer in http_answers(said)]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("etcd://", "no host"),
        ("etcd://user@host", "give user and password"),
        ("etcd://:secret@host", "give user and password"),
        ("etcd://host?ca=x", "go with etcds://"),
        ("etcd://host?cert=x", "go with etcds://"),
        ("etcd://host?timeout=5", "unknown parameter"),
        ("etcd://host/a//b", "an empty part"),
        ("etcd://host/a%00b", "a control character"),
        ("etcd://host?prefix=a/b", "prefix='a/b'"),
        ("etcd://host:0", "bad port"),
        ("etcds://host?ca=/does/not/exist", "ca=/does/not/exist"),
        ("etcds://host?key=x", "without cert="),
    ]


# Leases


def test_a_renewal_moves_the_key_to_a_new_lease(server: EtcdServer, node: Leases, key: str) -> None:
    """With its full time, and whatever becomes of the old one."""
    cells = Cells(node, key)
    began = time.monotonic()
    cell = cells.write(lease=100.0)
    first = lease_of(server, key)["lease"]
    # The server tells whole seconds, rounded down.
    assert 0 <= 100 + SLACK - left(server, first) <= time.monotonic() - began + 1
    done, cell = cells.swap(cell, lease=100.0)
    assert done
    second = lease_of(server, key)["lease"]
    assert second != first
    # As an old leader does that was deposed while it hung, once it goes on.
    revoke(server, first)
    assert cells.read().lease == cell.lease == 100.0


def test_whole_seconds(server: EtcdServer, node: Leases, key: str) -> None:
    """A lease is never shorter than was asked for."""
    assert Cells(node, key).write(lease=2.5, hold=0.5).lease == 2.5
    assert int(server.ask("lease/timetolive", ID=lease_of(server, key)["lease"])["grantedTTL"]) == 3 + SLACK
    (hold,) = held(server, key, "hold/").values()
    assert int(server.ask("lease/timetolive", ID=hold["lease"])["grantedTTL"]) == 3  # 2.5 with the slack.


def test_nothing_ends_early(server: EtcdServer, key: str) -> None:
    """In real time: a lease lasts its ttl from its last renewal, and a hold from its grant."""
    with opened(server.url()) as a, opened(server.url()) as b:
        grant = granted(a.acquire(make_claim(key, ttl=5.0)))
        time.sleep(1.0)
        renewed = time.monotonic()
        assert a.renew(grant)
        asked = time.monotonic()
        kept = granted(a.acquire(make_claim(key + "-held", hold=3.0)))
        assert a.release(kept, make_ending(), keep_hold=True)
        eventually(lambda: isinstance(b.acquire(make_claim(key)), Grant), "the lease lapsed")
        assert time.monotonic() - renewed >= 5.0
        eventually(lambda: isinstance(b.acquire(make_claim(key + "-held")), Grant), "the hold ended")
        assert time.monotonic() - asked >= 3.0
        assert not a.renew(grant)


def test_a_hold_that_is_asked_for_again(
    server: EtcdServer, node: Leases, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold whose lease began too long before its swap is replaced, and that lease revoked."""
    cells, before = Cells(node, key), leases(server)
    moments = iter((0.0, 60.0, 60.0, 60.5))
    monkeypatch.setattr(node.store, "_clock", SimpleNamespace(now=lambda: next(moments)))
    assert cells.write(hold=86400.0).hold > 86390.0
    assert len(held(server, key, "hold/")) == len(leases(server) - before) == 1


def test_long_leases_are_revoked(server: EtcdServer, node: Leases, key: str) -> None:
    """One that would be there for a day is not left to lapse once nothing goes with it, or nothing ever did."""
    cells, before = Cells(node, key), leases(server)
    cell = cells.write(lease=86400.0, hold=86400.0)
    assert len(leases(server) - before) == 2
    assert not cells.swap(NO_HOLD, lease=86400.0, hold=86400.0)[0]
    assert len(leases(server) - before) == 2
    done, cell = cells.swap(cell, lease=0.0)
    assert done
    assert len(leases(server) - before) == 1
    done, cell = cells.swap(cell, hold=NO_HOLD)
    assert (done, leases(server) - before) == (True, set())
    cell = cells.write(lease=600.0)
    assert cells.swap(cell, lease=0.0)[0]
    assert len(leases(server) - before) == 1


def test_the_remaining_time(server: EtcdServer, node: Leases, key: str) -> None:
    """A plain read tells the most that it can be, an exact one what the server says; neither is 0 before its end."""
    cells = Cells(node, key)
    cells.write(lease=60.0, hold=300.0)
    time.sleep(SLACK + 1.1)
    cell = cells.read()
    assert cell.lease == 60.0
    assert 290 < cell.hold < 298
    exact = cells.read(exact=True)
    assert 50.0 < exact.lease <= 59.0
    assert 290.0 < exact.hold <= 300.0
    assert (exact.data, exact.version) == (cell.data, cell.version)
    EtcdHooks(server).lapse(key)
    assert cells.read(exact=True).lease == 0.0


# Holds


def test_holds_stand_beside_each_other(server: EtcdServer, node: Leases, key: str) -> None:
    """The hold is on while any of them is; what an earlier cell did not show is taken back."""
    cells = Cells(node, key)
    first = cells.write(hold=300.0)
    second = cells.write(hold=100.0)
    third = cells.write(hold=500.0)
    assert len(held(server, key, "hold/")) == len(third.hold_keys) == 3
    assert 490 < third.hold <= 500
    done, cell = cells.swap(third, hold=second)
    assert (done, cell.hold_keys) == (True, second.hold_keys)
    revoke(server, first.hold_keys[0].lease)
    done, cell = cells.swap(cell, hold=0.0)
    assert (done, len(cell.hold_keys)) == (True, 1)
    assert 90 < cell.hold <= 100
    done, cell = cells.swap(cell, hold=first)  # Which is over.
    assert (done, cell.hold, held(server, key)) == (True, 0.0, {})


@pytest.mark.parametrize("number", [2, 3])
def test_hold_of_a_slow_swap(server: EtcdServer, far: Leases, wire: Wire, key: str, number: int) -> None:
    """A hold begins with the swap, also where that came long after its lease was asked for."""
    cells = Cells(far, key)
    seen = cells.read()
    wire.on(number, lambda: time.sleep(SLACK + 0.5))
    done, cell = cells.swap(seen, lease=60.0, hold=30.0)
    assert done
    assert cell.data == cells.read().data
    assert max(left(server, one.lease) for one in cell.hold_keys) >= 30
    assert cell.lease == 60.0


def test_hold_of_a_swap_that_slept(far: Leases, wire: Wire, key: str) -> None:
    """A machine that was suspended keeps its whole hold, measured by the boot clock."""
    cells = Cells(far, key)
    clock = cells.store._clock = SimulatedClock()
    seen, asked = cells.read(), wire.requests
    wire.on(3, lambda: clock.advance(9 * 3600.0))
    done, cell = cells.swap(seen, lease=60.0, hold=30.0)
    # For two leases, the transaction, a later lease for the hold, and another transaction.
    assert (done, wire.requests - asked) == (True, 5)
    assert all(one.length == 30.0 for one in cell.hold_keys)
    asked = wire.requests
    assert cells.swap(cell, lease=60.0)[0]
    assert wire.requests - asked == 2


def test_hold_of_a_slow_swap_that_another_overtakes(node: Leases, far: Leases, wire: Wire, key: str) -> None:
    """A swap is refused if another node wrote in between."""
    cells = Cells(far, key)
    seen = cells.read()

    def be_slow() -> None:
        time.sleep(SLACK + 0.5)
        wire.on(2, overtake)

    def overtake() -> None:
        Cells(node, key).write(lease=0.0, hold=NO_HOLD)

    wire.on(3, be_slow)
    done, cell = cells.swap(seen, lease=60.0, hold=30.0)
    assert (done, cell.lease, cell.hold) == (False, 0.0, 0.0)


# The record


def test_fences_go_on_when_the_record_was_deleted(server: EtcdServer, node: Leases, key: str) -> None:
    """The next fence is above every revision; the lease is respected, but lost to its holder."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    assert grant.fence is not None
    server.delete(f"cronlock/record/{key}")
    assert refused_for(node.acquire(make_claim(key)), HELD).run is None
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=True)
    EtcdHooks(server).lapse(key)
    assert refused_for(node.acquire(make_claim(key)), HOLD).run is None
    assert (granted(node.acquire(make_claim(key, ignore_hold=True))).fence or 0) > grant.fence


def test_swap_of_a_deleted_record(server: EtcdServer, node: Leases, key: str) -> None:
    """It finds no record, as before, and takes nothing from the holder of the lease."""
    cells = Cells(node, key)
    seen = cells.read()
    cells.write(lease=60.0)
    server.delete(f"cronlock/record/{key}")
    for lease in (60.0, 0.0, None):
        done, cell = cells.swap(seen, lease=lease)
        assert (done, cell.lease, cell.data) == (False, 60.0, None)
    assert cells.swap(cell, lease=0.0)[0]


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


@pytest.mark.parametrize("name", ["lease", "hold/x", "else", "hold"])
@pytest.mark.parametrize("value", ["x", "cronlock=2\nlength=5\nuntil_at=5\n"])
def test_foreign_lease_is_left_alone(server: EtcdServer, node: Leases, key: str, name: str, value: str) -> None:
    """A key among the leases that no lease of the server's ends is not taken for one."""
    server.put(f"cronlock/held/{key}/{name}", value)
    with pytest.raises(ForeignValue, match=f"cronlock/held/{key}/{name}.*nothing was changed"):
        node.acquire(make_claim(key))


@pytest.mark.parametrize("value", ["cronlock=1\nowner=a:1:x\n", "cronlock=2\nlength=nan\nuntil_at=5\n", "cronlock=2"])
def test_lease_of_another_layout(server: EtcdServer, node: Leases, key: str, value: str) -> None:
    """A foreign key is reported, even if it has a lease of the server's."""
    lease = server.ask("lease/grant", ID="0", TTL="600")["ID"]
    server.ask("kv/put", key=text(f"cronlock/held/{key}/lease"), value=text(value), lease=lease)
    with pytest.raises(ForeignValue, match="not a lease or a hold of cronlock"):
        node.acquire(make_claim(key))


# Servers that hang, restart, or are full


def test_restart_with_its_data(key: str) -> None:
    """A restarted server extends its leases, which are part of its data; a node notices if the data is lost."""
    with EtcdServer() as own, opened(own.url()) as backend:
        grant = granted(backend.acquire(make_claim(key, ttl=30.0, hold=LONG)))
        own.kill()
        with pytest.raises(BackendUnavailable, match="refused"):
            backend.renew(grant)
        own.start()
        assert backend.renew(grant)
        refused_for(backend.acquire(make_claim(key)), HELD)
        assert backend.release(grant, make_ending(), keep_hold=True)
        refused_for(backend.acquire(make_claim(key)), HOLD)
        own.restart(keep_data=False)
        watermark = Watermark(grant.fence or 0, age=1.0, loss_noticed_ago=None, ttl=30.0)
        refused_for(backend.acquire(make_claim(key, ttl=10.0, watermark=watermark)), STATE_LOST)
        assert not backend.renew(grant)
        watermark.loss_noticed_ago = 30.0
        again = granted(backend.acquire(make_claim(key, ttl=10.0, watermark=watermark)))
        assert (again.fence or 0) > (grant.fence or 0)


def test_wiped_server_that_counts_as_before(key: str) -> None:
    """Revisions are given again, on a quiet server the very same: the cell of another is not taken for ours."""
    with EtcdServer() as own, opened(own.url()) as a, opened(own.url()) as b:
        first = Cells(a, key).write(lease=600.0)
        own.restart(keep_data=False)
        second = Cells(b, key).write(lease=600.0)
        assert second.version == first.version
        for lease in (600.0, 0.0, None):
            done, cell = Cells(a, key).swap(first, lease=lease)
            assert (done, cell.data) == (False, second.data)
        assert Cells(b, key).swap(second, lease=600.0)[0]


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
        refused_for(backend.acquire(make_claim(key)), HELD)
        assert backend.read(key) is not None
        with pytest.raises(BackendUnavailable, match="space exceeded"):
            backend.renew(grant)
        with pytest.raises(BackendUnavailable, match="space exceeded"):
            backend.release(grant, make_ending(), keep_hold=True)


def test_compacted_server(server: EtcdServer, node: Leases, key: str) -> None:
    """A read is of the current revision, so old ones may be compacted."""
    grant = granted(node.acquire(make_claim(key)))
    revision = int(server.ask("kv/range", key="AA==")["header"]["revision"])
    server.ask("kv/compaction", revision=str(revision), physical=True)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
