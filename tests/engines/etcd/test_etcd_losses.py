"""etcd: requests that are lost, late or doubled, on the way to one server and to several."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD
from cronlock.lease.vocabulary import HELD, HOLD, Grant
from cronlock.testing import LONG, granted, make_claim, make_ending, refused
from labs.servers.etcd import EtcdServer
from labs.servers.process import HOST

from .support import Cells, Wire, a_text, held, left, opened, revoke

LOSSES = pytest.mark.parametrize("loss", ["lose_requests", "lose_replies", "refuse"])


def test_requests(far: Leases, wire: Wire, key: str) -> None:
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
    assert count(lambda: far.renew(grants[0])) == 2
    assert count(lambda: far.release(grants[0], make_ending(), keep_hold=True)) == 1
    assert count(lambda: refused(far.acquire(make_claim(key)), HOLD)) == 1
    assert count(lambda: far.read(key)) == 2
    assert count(lambda: far.force_release(key, grants[0].claim.owner)) == 2
    assert count(acquire) == 3
    assert count(lambda: far.release(grants[1], make_ending(), keep_hold=False)) == 1
    assert wire.connections == 1


# Lost


@LOSSES
@pytest.mark.parametrize("number", [1, 2, 3])
def test_swap_with_a_loss(far: Leases, node: Leases, wire: Wire, key: str, number: int, loss: str) -> None:
    """It is unavailable, and was done if the last request reached the server: one look tells which."""
    cells = Cells(far, key)
    seen, data = cells.write(), a_text()
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        cells.swap(seen, data, lease=60.0, hold=30.0)
    wire.pass_all()
    there = cells.read()
    if (number, loss) == (3, "lose_replies"):
        assert there.data == data
        assert there.lease > 0
        assert there.hold > 0
    else:
        assert (there.data, there.lease, there.hold) == (seen.data, 0.0, 0.0)
    assert Cells(node, key).swap(there, lease=60.0)[0]


@LOSSES
def test_look_with_a_loss(far: Leases, wire: Wire, key: str, loss: str) -> None:
    """Looking raises too, and can be repeated."""
    cells = Cells(far, key)
    cells.write(lease=60.0)
    for look in (lambda: cells.read().lease, lambda: cells.read(exact=True).lease, lambda: list(far.keys())):
        wire.on(1, getattr(wire, loss))
        with pytest.raises(BackendUnavailable):
            look()
        wire.pass_all()
        assert look()


@LOSSES
@pytest.mark.parametrize("number", [2, 3, 4])
def test_run_with_a_loss(far: Leases, node: Leases, wire: Wire, key: str, number: int, loss: str) -> None:
    """Whatever was lost, the owner that asks again has the key for its full time, its hold too, and nobody else."""
    claim = make_claim(key, hold=LONG)
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.acquire(claim)
    wire.pass_all()
    grant = granted(far.acquire(claim))
    wire.on(2, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        far.renew(grant)
    wire.pass_all()
    assert far.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)
    assert far.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > LONG / 2


# Late and twice


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("first", [True, False])
def test_swap_that_arrives_late(
    server: EtcdServer, far: Leases, node: Leases, wire: Wire, key: str, number: int, first: bool
) -> None:
    """Once somebody else wrote it changes nothing, neither lease nor hold."""
    cells, others = Cells(far, key), Cells(node, key)
    seen = cells.read() if first else cells.write(lease=60.0, hold=30.0)
    wire.on(number, wire.hold_requests)
    ends = number == 1 and not first
    with pytest.raises(BackendUnavailable):
        cells.swap(seen, lease=0.0 if ends else 60.0, hold=NO_HOLD if ends else 30.0)
    heir = others.write(lease=90.0, hold=LONG)
    before = held(server, key)
    wire.deliver_held()
    assert others.read().data == heir.data
    assert held(server, key) == before
    ended = others.write(lease=0.0, hold=NO_HOLD)
    assert others.read().data == ended.data
    assert held(server, key) == {}


def test_swap_that_arrives_when_its_lease_lapsed(server: EtcdServer, far: Leases, wire: Wire, key: str) -> None:
    """A transaction that was under way for longer than its lease lasted does nothing."""
    cells = Cells(far, key)
    seen = cells.write()
    known = {one["ID"] for one in server.ask("lease/leases").get("leases", [])}
    wire.on(2, wire.hold_requests)
    with pytest.raises(BackendUnavailable):
        cells.swap(seen, lease=60.0)
    (lease,) = {one["ID"] for one in server.ask("lease/leases")["leases"]} - known
    revoke(server, lease)
    wire.deliver_held()
    wire.pass_all()
    assert (cells.read().version, cells.read().lease) == (seen.version, 0.0)


def test_lease_that_lapses_before_it_is_used(server: EtcdServer, far: Leases, wire: Wire, key: str) -> None:
    """The swap is refused with nothing changed, so that whoever asked asks again."""
    cells = Cells(far, key)
    seen = cells.write()
    known = {one["ID"] for one in server.ask("lease/leases").get("leases", [])}

    def end_it() -> None:
        for one in server.ask("lease/leases")["leases"]:
            if one["ID"] not in known:
                revoke(server, one["ID"])

    wire.on(2, end_it)
    done, cell = cells.swap(seen, lease=60.0)
    assert (done, cell.version, cell.lease) == (False, seen.version, 0.0)
    wire.on(3, end_it)
    granted(far.acquire(make_claim(key)))


def test_everything_twice(far: Leases, wire: Wire, key: str) -> None:
    """Each request comes in twice, and takes effect once: the second one is refused, and shows what the first did."""
    cells = Cells(far, key)
    cell = cells.read()
    wire.doubles = True
    for lease, hold in ((60.0, 30.0), (60.0, 0.0), (None, 30.0), (0.0, NO_HOLD)):
        data = a_text()
        done, then = cells.swap(cell, data, lease=lease, hold=hold)
        assert (done, then.data) == (False, data)
        assert isinstance(cell.version, int)
        assert then.version == then.floor - 1 > cell.version
        assert (then.lease > 0, then.hold > 0) == (lease != 0.0, lease != 0.0)
        cell = then


# Several servers


def _by_the_wire_first(server: EtcdServer, wire: Wire, key: str, work: Callable[[Cells], None]) -> None:
    """Do `work` on a key of a node that asks the wire first, and then the server itself."""
    while True:
        before = wire.requests
        with opened(f"etcd://{HOST}:{wire.port},{HOST}:{server.port}", 6.0) as two:
            cells = Cells(two, key)
            cells.write(lease=60.0)
            if wire.requests > before:  # It begins anywhere.
                work(cells)
                return


def test_swap_whose_reply_was_lost_is_asked_of_the_next(server: EtcdServer, wire: Wire, key: str) -> None:
    """That one refuses what was done already, and it counts as done, with all of its hold."""

    def work(cells: Cells) -> None:
        seen, data = cells.read(), a_text()
        wire.on(3, wire.lose_replies)
        done, cell = cells.swap(seen, data, lease=60.0, hold=30.0)
        assert (done, cell.data) == (True, data)
        assert (cell.lease, len(cell.hold_keys)) == (60.0, 1)
        assert left(server, cell.hold_keys[0].lease) >= 29
        assert cells.swap(cell, lease=0.0)[0]

    _by_the_wire_first(server, wire, key, work)


def test_swap_that_was_overtaken_is_asked_of_the_next(server: EtcdServer, node: Leases, wire: Wire, key: str) -> None:
    """What was done and undone since counts as refused, and what arrives late stays without effect."""

    def work(cells: Cells) -> None:
        seen = cells.read()

        def be_overtaken() -> None:
            Cells(node, key).write(lease=7200.0)
            wire.hold_requests()

        wire.on(2, be_overtaken)
        done, cell = cells.swap(seen, lease=7200.0)
        assert (done, cell.lease) == (False, 7200.0)
        before = held(server, key)
        wire.deliver_held()
        assert held(server, key) == before
        assert cells.swap(cell, lease=7200.0)[0]

    _by_the_wire_first(server, wire, key, work)


@pytest.mark.parametrize("loss", ["lose_requests", "lose_replies"])
def test_lease_whose_reply_was_lost_is_asked_of_the_next(server: EtcdServer, wire: Wire, key: str, loss: str) -> None:
    """One of that id is there already, or is made: either will do."""

    def work(cells: Cells) -> None:
        seen = cells.read()
        wire.on(1, getattr(wire, loss))
        done, cell = cells.swap(seen, lease=60.0)
        assert (done, cell.lease) == (True, 60.0)
        assert cell.lease_key is not None
        assert left(server, cell.lease_key.lease) >= 60

    _by_the_wire_first(server, wire, key, work)


def test_hung_server_and_another(server: EtcdServer, wire: Wire, key: str) -> None:
    """A server that does not answer at all costs its share of the time; the next one serves."""

    def work(cells: Cells) -> None:
        seen = cells.read()
        wire.on(1, wire.drop_all)
        began = time.monotonic()
        done, cell = cells.store.swap(key, seen, a_text(), lease=60.0, hold=30.0, deadline=began + 6.0)
        assert done
        assert 2.0 < time.monotonic() - began < 6.0
        assert max(left(server, one.lease) for one in cell.hold_keys) >= 29

    _by_the_wire_first(server, wire, key, work)
