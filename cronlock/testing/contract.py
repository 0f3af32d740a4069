"""The promises of every store, as tests for it to subclass; see `cronlock.lease.store` for the terms.

An engine's test file writes its `StoreHooks` (how to open a store, and how to let time pass on its server) and a
class::

    class TestMine(StoreContract):
        @pytest.fixture
        def hooks(self, server): return MyHooks(server)

Tests may share servers: each takes its own keys. Where an engine truly differs, its hooks say so and why.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock import keys
from cronlock.errors import BackendError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD

from .cells import CHARACTERS, a_text, read, refused, soon, swap, swapping
from .history import compare_histories
from .hooks import LONG, NASTY_KEYS, StoreHooks, fresh_key, make_claim, race
from .steering import SteeringContract
from .waiting import eventually

if TYPE_CHECKING:
    from cronlock.lease.store import Store


class StoreContract(SteeringContract):
    """The promises that the rules rely on. Two nodes, `a` and `b`, are two stores on one server."""

    #: How many histories are compared, and the seed of the first one.
    histories = int(os.environ.get("CRONLOCK_HISTORIES", "40"))
    seed = int(os.environ.get("CRONLOCK_HISTORIES_SEED", "1"))

    # The cell and its version

    def test_fresh_key_is_an_empty_cell(self, a: Store, b: Store, key: str) -> None:
        """An unused key has no record, and reading makes none."""
        for store in (a, b, a):
            cell = read(store, key)
            assert (cell.data, cell.lease, cell.hold) == (None, 0.0, 0.0)
        if a.traits.lists_keys:
            assert key not in set(a.keys())

    def test_swap_of_what_was_seen_is_done(self, a: Store, b: Store, key: str) -> None:
        """Each swap leaves its data for all to see; the cell that it returns is as good as one that is read."""
        cell = swap(a, key, read(a, key))
        cell = swap(a, key, cell)
        assert read(b, key).data == cell.data
        swap(a, key, swap(b, key, read(b, key)))
        swap(a, key, read(a, key))

    def test_swap_of_anything_else_is_refused(self, a: Store, b: Store, key: str) -> None:
        """Whoever wrote meanwhile, a swap that does not know of it changes nothing, and shows what is there."""
        first = swap(a, key, read(a, key))
        second = swap(a, key, first, lease=LONG, hold=LONG)
        for store in (a, b):
            cell = refused(store, key, first, lease=0.0, hold=NO_HOLD)
            assert cell.data == second.data
            assert cell.lease > 0
            assert cell.hold > 0
        seen = read(b, key)
        third = swap(a, key, second)
        assert refused(b, key, seen).data == third.data
        assert swap(b, key, refused(b, key, seen)).lease > 0

    def test_nothing_was_there(self, a: Store, b: Store, key: str) -> None:
        """A swap that was decided on an empty cell is refused once there is a record."""
        mine, theirs = read(a, key), read(b, key)
        cell = swap(a, key, mine)
        assert refused(a, key, mine).data == cell.data
        assert refused(b, key, theirs).data == cell.data

    def test_late_and_duplicate_swaps(self, a: Store, b: Store, key: str) -> None:
        """The same request takes effect once, and never after another."""
        empty = read(a, key)
        data = a_text()
        assert a.swap(key, empty, data, lease=LONG, hold=0.0, deadline=soon())[0]
        assert not a.swap(key, empty, data, lease=LONG, hold=0.0, deadline=soon())[0]
        seen = read(a, key)
        ended = swap(a, key, seen, lease=0.0)
        for old in (empty, seen):
            cell = refused(a, key, old, lease=LONG, hold=LONG)
            assert (cell.data, cell.lease, cell.hold) == (ended.data, 0.0, 0.0)

    def test_same_bytes_move_the_version_on(self, a: Store, key: str) -> None:
        """A swap that writes what is there is a write like any other."""
        first = swap(a, key, read(a, key))
        second = swap(a, key, first, first.data)
        assert second.version != first.version
        assert refused(a, key, first).data == first.data
        swap(a, key, second)

    def test_races_have_one_winner(self, hooks: StoreHooks, open_node: Callable[[], Store], key: str) -> None:
        """Of many that saw the same exactly one is done, round after round, and all others see what it wrote."""
        stores = [open_node() for _ in range(hooks.racers)]
        for number in range(5):
            seen = [read(store, key) for store in stores]
            answers = race([swapping(store, key, cell, f"{number}") for store, cell in zip(stores, seen)])
            winners = [index for index, (done, _) in enumerate(answers) if done]
            assert len(winners) == 1, f"{len(winners)} of {len(stores)} swaps of one version were done"
            winner = answers[winners[0]][1]
            assert {cell.data for _, cell in answers} == {winner.data}
            assert all(cell.lease > 0 for _, cell in answers)
            swap(stores[winners[0]], key, winner, lease=0.0)

    def test_cell_of_another_connection(self, a: Store, b: Store, key: str) -> None:
        """A cell that was seen before a connection ended works or is refused; what changed meanwhile is refused."""
        seen = swap(a, key, read(a, key))
        a.close()
        for store, cell in ((a, seen), (b, read(a, key))):
            done, now = store.swap(key, cell, a_text(), lease=None, hold=0.0, deadline=soon())
            assert done or now.data == read(b, key).data
            swap(store, key, now)
        old = read(a, key)
        now = swap(b, key, read(b, key))
        a.close()
        assert refused(a, key, old).data == now.data

    # Lease and hold

    def test_lease_is_on_until_it_is_ended(self, a: Store, b: Store, key: str) -> None:
        """A lease is on at once, for everybody; None leaves it, 0.0 ends it."""
        cell = swap(a, key, read(a, key), lease=LONG)
        most = LONG + a.traits.granularity + 2
        for seen in (cell, read(a, key), read(b, key)):
            assert 0 < seen.lease <= most
            assert seen.hold == 0
        cell = swap(a, key, cell, lease=None)
        assert 0 < cell.lease <= most
        cell = swap(a, key, cell, cell.data, lease=LONG)
        assert LONG / 2 < read(b, key, exact=True).lease <= most
        cell = swap(a, key, cell, lease=0.0)
        assert (cell.lease, read(a, key).lease, read(b, key).lease) == (0, 0, 0)
        assert swap(b, key, read(b, key), lease=None).lease == 0

    def test_lease_that_another_ends(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """Whoever ends a lease ends it; where that has to wait for its holder, that frees it by its next word."""
        cell = swap(a, key, read(a, key), lease=LONG, hold=LONG)
        ended = swap(b, key, read(b, key), lease=0.0, hold=NO_HOLD)
        assert ended.hold == 0
        if hooks.force_waits:
            assert read(b, key).lease > 0
        refused(a, key, cell, lease=LONG)
        for store in (a, b):
            assert (read(store, key).lease, read(store, key).hold) == (0, 0)

    def test_hold_is_the_longest_asked_for(self, a: Store, b: Store, key: str) -> None:
        """A hold lasts as long as the longest that was asked for; 0.0 leaves it, NO_HOLD ends it."""
        cell = swap(a, key, read(a, key), hold=LONG)
        assert 0 < cell.hold <= LONG + 2
        assert read(b, key).hold > 0
        assert read(b, key).lease == 0
        for hold in (0.0, LONG / 3):
            cell = swap(a, key, cell, hold=hold, lease=LONG)
            assert LONG / 2 < read(b, key, exact=True).hold <= LONG + 2
        cell = swap(a, key, cell, hold=3 * LONG, lease=0.0)
        assert 2 * LONG < read(b, key, exact=True).hold <= 3 * LONG + 2
        cell = swap(b, key, read(b, key), hold=NO_HOLD)
        assert (cell.hold, read(a, key).hold) == (0, 0)

    @pytest.mark.parametrize("node", ["same node", "another node"])
    def test_hold_as_it_was(self, a: Store, b: Store, key: str, node: str) -> None:
        """An earlier cell's hold is there again, be it none, however long another lasted in between."""
        by = a if node == "same node" else b
        none = swap(by, key, read(by, key))
        some = swap(by, key, none, hold=LONG)
        swap(a, key, read(a, key), hold=3 * LONG, lease=LONG)
        cell = swap(by, key, read(by, key), hold=some)
        assert LONG / 2 < cell.hold <= 3 * LONG + 2
        assert LONG / 2 < read(b, key, exact=True).hold <= LONG + 2
        assert cell.lease > 0
        seen = read(by, key)
        cell = swap(by, key, cell, hold=3 * LONG)
        cell = swap(by, key, cell, hold=seen)
        assert LONG / 2 < read(a, key, exact=True).hold <= LONG + 2
        cell = swap(by, key, cell, hold=none)
        assert (cell.hold, read(a, key).hold) == (0, 0)

    def test_hold_that_is_over_does_not_come_back(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """An earlier cell's hold that ended meanwhile is over."""
        some = swap(a, key, read(a, key), hold=hooks.short_hold)
        cell = swap(a, key, some, hold=LONG)
        hooks.pass_time(hooks.short_hold)
        swap(a, key, cell, hold=some)
        eventually(lambda: read(a, key).hold == read(b, key).hold == 0, "the hold is over", limit=10.0)

    def test_lease_lapses_and_stays_over(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """A lease that is not renewed ends for all nodes, and stays over; record and hold remain."""
        data = swap(a, key, read(a, key), lease=hooks.short_ttl, hold=LONG).data
        hooks.lapse(key)
        for store in (a, b, a, b):
            cell = read(store, key)
            assert (cell.data, cell.lease) == (data, 0.0)
            assert cell.hold > 0
        cell = swap(b, key, cell, lease=None)
        assert cell.lease == 0
        assert cell.hold > 0
        assert swap(b, key, cell, lease=LONG).lease > 0
        assert read(a, key).lease > 0

    def test_lapsed_lease_is_out_of_the_way(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """A run whose lease lapsed finds that another node wrote, and takes nothing from it."""
        dead = swap(a, key, read(a, key), lease=hooks.short_ttl)
        hooks.lapse(key)
        heir = swap(b, key, read(b, key), lease=LONG)
        for lease in (LONG, None, 0.0):
            cell = refused(a, key, dead, lease=lease, hold=NO_HOLD)
            assert cell.data == heir.data
            assert cell.lease > 0
        assert swap(b, key, heir, lease=LONG).lease > 0

    def test_hold_ends_and_stays_over(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """A hold ends by itself, for all, and leaves record and lease as they are."""
        cell = swap(a, key, read(a, key), lease=LONG, hold=hooks.short_hold)
        hooks.end_hold(key)
        for store in (a, b, a, b):
            seen = read(store, key)
            assert (seen.data, seen.hold) == (cell.data, 0.0)
            assert seen.lease > 0
        cell = swap(a, key, cell, lease=LONG)
        assert cell.hold == 0
        assert swap(a, key, cell, lease=0.0, hold=0.0).hold == 0
        assert read(b, key).hold == 0

    # Records and floors

    def test_data_comes_back_byte_for_byte(self, a: Store, b: Store, key: str) -> None:
        """Whatever printable ASCII, tabs and line ends there are, up to 8 KB of them."""
        cell = read(a, key)
        for size in (0, 1, 200, 1000, 3000, 8000):
            data = a_text((CHARACTERS * 100)[:size])
            cell = swap(a, key, cell, data)
            assert read(b, key).data == data

    def test_floors_never_go_back(self, a: Store, b: Store, key: str) -> None:
        """The floor of the next fence never falls, and fits into a record."""
        floors = []
        cell = read(a, key)
        for _ in range(3):
            cell = swap(a, key, cell, lease=LONG)
            floors += [cell.floor, read(a, key).floor]
        assert floors == sorted(floors)
        assert all(0 <= floor < 1 << 63 for floor in floors)
        assert (read(b, key).time or 1e12) > 1e9

    def test_nasty_keys_stay_distinct(self, a: Store, b: Store) -> None:
        """Any allowed key works, no two of them meet on the server, and each is listed as it is."""
        cells = {}
        for key in NASTY_KEYS:
            cells[key] = swap(a, keys.check(key), read(a, key), lease=LONG)
        for key, cell in cells.items():
            seen = read(b, key)
            assert seen.data == cell.data
            assert seen.lease > 0
        if a.traits.lists_keys:
            listed = list(b.keys())
            assert set(NASTY_KEYS) <= set(listed)
            assert len(listed) == len(set(listed))
        for key, cell in cells.items():
            swap(a, key, cell, lease=0.0)

    def test_keys_are_listed(self, a: Store, b: Store, key: str) -> None:
        """Every key with a record is listed once, with a lease or without; a store that cannot list says so."""
        if not a.traits.lists_keys:
            with pytest.raises(BackendError, match="cannot list"):
                a.keys()
            return
        ended = fresh_key()
        swap(a, key, read(a, key), lease=LONG)
        swap(a, ended, read(a, ended))
        listed = list(b.keys())
        assert (listed.count(key), listed.count(ended)) == (1, 1)

    def test_removed_as_if_it_had_never_been(self, a: Store, b: Store, key: str) -> None:
        """A cell is removed if it is still as seen, for all nodes; only the floor remains."""
        first = swap(a, key, read(a, key), hold=LONG)
        seen = read(b, key)
        second = swap(a, key, first, lease=LONG)
        for store, old in ((a, first), (b, seen)):
            assert not store.remove(key, old, soon())
        cell = swap(a, key, second, second.data, lease=0.0)
        last = read(b, key)
        assert last.data == cell.data
        assert b.remove(key, last, soon())
        for store, old in ((a, cell), (b, last)):
            gone = read(store, key)
            assert (gone.data, gone.lease, gone.hold) == (None, 0.0, 0.0)
            assert gone.floor >= old.floor  # By a clock, two nodes do not know it equally well.
            assert not store.traits.lists_keys or key not in set(store.keys())
            assert refused(store, key, cell, lease=LONG).data is None
            assert store.remove(key, gone, soon())
        anew = swap(b, key, read(b, key))
        assert not a.remove(key, cell, soon())
        assert read(a, key).data == anew.data

    @pytest.mark.parametrize("data", [b"cronlock=1\nfence=7\n", b"{'owner': 'somebody'}", b"\t\n"])
    def test_foreign_bytes_are_left_as_they_are(self, a: Store, b: Store, key: str, data: bytes) -> None:
        """A foreign value in a key's place is reported in one line, and never overwritten."""
        swap(a, key, read(a, key), data)
        node, claim = Leases(b), make_claim(key)
        for ask in (lambda: node.acquire(claim), lambda: node.read(key), lambda: node.force_release(key, "x")):
            with pytest.raises(ForeignValue, match=r"^[^\n]*nothing was changed[^\n]*$"):
                ask()
        assert read(a, key).data == data

    # The rest

    def test_what_a_store_has_besides_its_answers(self, a: Store, b: Store, key: str) -> None:
        """All that the program looks at is there, and makes sense; there is nothing to say yet."""
        assert a.notices == []
        assert a.timeout > 0
        assert 0 < a.traits.shortest_ttl <= a.traits.longest_ttl
        assert a.traits.granularity >= 0
        assert a.location(key) == b.location(key)
        assert "\n" not in a.location(key)
        assert (a.uptime(key, soon()) or 0.0) >= 0

    def test_a_change_is_told(self, a: Store, b: Store, key: str) -> None:
        """A store that can tell of changes does."""
        cell = swap(a, key, read(a, key), lease=LONG)
        assert read(b, key).lease > 0
        descriptor = b.watch(key)
        ended = swap(a, key, cell, lease=0.0)
        if descriptor is not None:
            assert select.select([descriptor], [], [], 60.0)[0]
        assert read(b, key).data == ended.data

    def test_closed_and_used_again(self, a: Store, open_node: Callable[[], Store], key: str) -> None:
        """Closing can be repeated, raises nothing, lets go of no lease, and ends nothing for good."""
        open_node().close()
        swap(a, key, read(a, key), lease=LONG)
        a.close()
        a.close()
        cell = read(a, key)
        assert cell.lease > 0
        swap(a, key, cell, lease=0.0)

    def test_same_answers_as_the_simulated_store(self, hooks: StoreHooks) -> None:
        """Whatever runs on three nodes do, the rules answer here as they do on the store in memory."""
        compare_histories(hooks, self.histories, self.seed)
