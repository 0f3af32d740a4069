"""memcached counts in seconds of its own: leases and holds never end early, not even after a pause."""

from __future__ import annotations

import threading
import time

import pytest

from cronlock.engines.memcached.item import KEPT, SLACK, ItemCell, times
from cronlock.engines.memcached.store import MemcachedStore
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD
from cronlock.lease.vocabulary import HOLD
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, record_of, refused
from cronlock.testing.cells import read, swap
from labs.servers.memcached import MemcachedServer
from labs.servers.process import eventually

from ..hooks import PATIENT, node_at
from .support import memcached_at


def test_nothing_ends_early(server: MemcachedServer) -> None:
    """Wherever in the server's second they begin, lease and hold last for as long as asked for.

    So they do if other nodes wrote meanwhile, which know only what they read.
    """
    early: list[str] = []

    def watch(number: int) -> None:
        store, key, asked = memcached_at(server.url()), fresh_key(), 2.0
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
