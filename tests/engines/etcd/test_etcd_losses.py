"""etcd: requests that are lost, late or doubled, on the way to one server and to several."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cronlock.engines.etcd.store import SLACK
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.testing import granted, make_claim
from cronlock.testing.cells import a_text
from labs.servers.etcd import EtcdServer
from labs.servers.process import HOST

from ..hooks import Wire, opened
from .support import Cells, held, left, revoke


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


def test_swap_whose_reply_was_lost_goes_to_the_next_server(server: EtcdServer, wire: Wire, key: str) -> None:
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
    """A swap that was done and undone since counts as refused, and a late request has no effect."""

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
def test_lease_whose_reply_was_lost_goes_to_the_next_server(
    server: EtcdServer, wire: Wire, key: str, loss: str
) -> None:
    """One of that id is there already, or is made: either will do."""

    def work(cells: Cells) -> None:
        seen, began = cells.read(), time.monotonic()
        wire.on(1, getattr(wire, loss))
        done, cell = cells.swap(seen, lease=60.0)
        assert (done, cell.lease) == (True, 60.0)
        assert cell.lease_key is not None
        assert left(server, cell.lease_key.lease) >= 60 + SLACK - 1 - (time.monotonic() - began)

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
