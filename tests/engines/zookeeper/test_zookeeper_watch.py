"""ZooKeeper: standing by with a watch, what wakes it, and what it costs."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from cronlock.lease.vocabulary import ENDED, HELD, HOLD
from cronlock.testing import LONG, eventually, granted, make_claim, make_ending, refused
from labs.proxy import Proxy, _Connection
from labs.servers.zookeeper import ZooKeeperServer

from .support import LONG_SESSIONS, leasing, looking, readable, remove_lease, sessions, standing_by, take_over, watched


@pytest.mark.parametrize("how", ["release", "forced release"])
def test_end_wakes(server: ZooKeeperServer, key: str, how: str) -> None:
    """Once the run ends, or its lease is released, every standby is notified and leaves."""
    with leasing(server.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(server.url(), held) as (backend, descriptor):
            assert not readable(descriptor)
            if how == "release":
                assert holder.release(held, make_ending(), keep_hold=True)
            else:
                assert holder.force_release(key, held.claim.owner)
            assert readable(descriptor, 60)
            refused(backend.acquire(take_over(held)), ENDED)


def test_lapse_wakes(server: ZooKeeperServer, key: str) -> None:
    """The holder's session ended without a release: its lease is taken over, once."""
    with leasing(server.url()) as holder, looking(server) as client:
        held = granted(holder.acquire(make_claim(key, hold=LONG)))
        with (
            standing_by(server.url(), held) as (one, first),
            standing_by(server.url(), held) as (two, second),
        ):
            remove_lease(client, f"/cronlock/{key}")
            assert readable(first, 60)
            assert readable(second, 60)
            assert granted(one.acquire(take_over(held))).took_over == held.fence
            assert refused(two.acquire(take_over(held)), HELD).remaining > 0
            assert not readable(watched(two, held))


def test_end_of_a_hold_wakes(server: ZooKeeperServer, key: str) -> None:
    """A standby that was refused for a hold is notified when that ends."""
    with leasing(server.url()) as holder, leasing(server.url()) as backend:
        held = granted(holder.acquire(make_claim(key, hold=LONG)))
        assert holder.release(held, make_ending(), keep_hold=True)
        refused(backend.acquire(make_claim(key)), HOLD)
        descriptor = watched(backend, held)
        assert not readable(descriptor)
        assert holder.force_release(key, held.claim.owner)
        assert readable(descriptor, 60)
        granted(backend.acquire(make_claim(key)))


@pytest.mark.parametrize("another", [False, True])
def test_change_before_the_watch(server: ZooKeeperServer, key: str, another: bool) -> None:
    """The watch is readable at once if the key changed since the refusal, even by a later run's lease."""
    with leasing(server.url()) as holder, leasing(server.url()) as backend:
        held = granted(holder.acquire(make_claim(key)))
        refused(backend.acquire(make_claim(key)), HELD)
        assert holder.release(held, make_ending(), keep_hold=False)
        if another:
            granted(holder.acquire(make_claim(key)))
        assert readable(watched(backend, held))
        refused(backend.acquire(take_over(held)), ENDED)


def test_renewals_wake_no_standby(server: ZooKeeperServer, key: str) -> None:
    """A holder that is alive costs those in standby nothing."""
    with leasing(server.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(server.url(), held) as (backend, descriptor):
            for _ in range(3):
                assert holder.renew(held)
            # Had there been an event, it had come before this answer.
            assert refused(backend.acquire(take_over(held)), HELD).remaining > 0
            assert watched(backend, held) == descriptor
            assert not readable(descriptor)


def test_a_renewal_shows_in_what_remains(server: ZooKeeperServer, key: str) -> None:
    """The time that remains counts from the holder's last sign of life, by the server's clock."""
    with leasing(server.url()) as holder:
        held = granted(holder.acquire(make_claim(key, ttl=LONG)))
        with standing_by(server.url(), held) as (backend, _):
            time.sleep(1.2)
            assert LONG - 100 < refused(backend.acquire(take_over(held)), HELD).remaining <= LONG - 1
            sent = time.monotonic()
            assert holder.renew(held)
            remaining = refused(backend.acquire(take_over(held)), HELD).remaining
            assert LONG - (time.monotonic() - sent) - 0.1 < remaining <= LONG + 0.001


def test_waiting_costs_one_read_a_look(server: ZooKeeperServer, key: str) -> None:
    """One session and one connection for many looks, each a single request; nothing is written."""
    with (
        leasing(server.url()) as holder,
        looking(server) as client,
        Proxy(server.port) as proxy,
    ):
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(server.url(port=proxy.port), held) as (backend, descriptor):
            known = sessions(server)

            def written() -> list[int]:
                paths = (f"/cronlock/{key}", "/cronlock/~clock", "/cronlock")
                return [number for path in paths for number in client.get(path)[1][:6]]

            before = written()
            connections, requests = proxy.connections, proxy.requests
            for _ in range(5):
                refused(backend.acquire(take_over(held)), HELD)
                assert watched(backend, held) == descriptor
            assert (proxy.connections, proxy.requests) == (connections, requests + 5)
            assert written() == before
            assert sessions(server) == known


def test_a_short_lease_does_not_need_quick_looks(server: ZooKeeperServer, key: str) -> None:
    """A standby's session lasts long, whatever the ttl."""
    with leasing(server.url()) as holder, leasing(server.url()) as backend:
        held = granted(holder.acquire(make_claim(key, ttl=5)))
        refused(backend.acquire(make_claim(key, ttl=5)), HELD)
        watched(backend, held)
        assert "to=300000" in server.ask("cons")


def test_standby_leaves_nothing_behind(server: ZooKeeperServer, key: str) -> None:
    """However it ends, its session ends with it."""
    with leasing(server.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        before = sessions(server)
        for end in ("close", "taken over"):
            with standing_by(server.url(), held) as (backend, _):
                assert len(sessions(server) - before) == 1
                if end == "taken over":
                    with looking(server) as client:
                        remove_lease(client, f"/cronlock/{key}")
                    heir = granted(backend.acquire(take_over(held)))
                    eventually(lambda: len(sessions(server) - before) == 1, "the lease's session is left")
                    assert backend.release(heir, make_ending(), keep_hold=False)
            eventually(lambda: not sessions(server) - before, "the session ended")


def test_nothing_to_watch(server: ZooKeeperServer, key: str) -> None:
    """Without a refusal before there is nothing to watch."""
    with leasing(server.url()) as holder, leasing(server.url()) as backend:
        assert backend.watch(key) is None
        held = granted(holder.acquire(make_claim(key)))
        refused(backend.acquire(make_claim(key)), HELD)
        assert backend.watch(key + "else") is None
        watched(backend, held)
        backend.close()
        assert backend.watch(key) is None


class MergingProxy(Proxy):
    """Delays a reply on request, and forwards it in one piece with the next."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.merging = False
        self.kept = b""

    def __enter__(self) -> MergingProxy:
        super().__enter__()
        return self

    def _downward(self, connection: _Connection, data: bytes) -> None:
        if self.merging and not self.kept:
            self.kept = data
            return
        kept, self.kept, self.merging = self.kept, b"", False
        super()._downward(connection, kept + data)


@pytest.mark.parametrize("call", ["watch", "look"])
def test_event_in_one_piece_with_an_answer(server: ZooKeeperServer, key: str, call: str) -> None:
    """An event that was received with an answer is not to be waited for: it is here already."""
    with leasing(server.url()) as holder, MergingProxy(server.port) as proxy, ThreadPoolExecutor() as threads:
        held = granted(holder.acquire(make_claim(key)))
        with leasing(server.url(port=proxy.port), 60) as backend:
            refused(backend.acquire(make_claim(key)), HELD)
            if call == "look":
                watched(backend, held)
            proxy.merging = True
            if call == "look":
                asking: Future[Any] = threads.submit(backend.acquire, take_over(held))
            else:
                asking = threads.submit(watched, backend, held)
            eventually(lambda: proxy.kept, "the answer")
            assert holder.release(held, make_ending(), keep_hold=False)
            if call == "look":
                refused(asking.result(), ENDED)
            else:
                assert readable(asking.result())
                refused(backend.acquire(take_over(held)), ENDED)


def test_over_tls(key: str) -> None:
    """Looks, renewals and the end, where bytes are taken from the descriptor record by record."""
    with ZooKeeperServer(tls=True, settings=LONG_SESSIONS) as secure, leasing(secure.url()) as holder:
        held = granted(holder.acquire(make_claim(key)))
        with standing_by(secure.url(), held) as (backend, _):
            for _ in range(3):
                assert holder.renew(held)
                refused(backend.acquire(take_over(held)), HELD)
                descriptor = watched(backend, held)
                assert not readable(descriptor)
            assert holder.release(held, make_ending(), keep_hold=False)
            assert readable(descriptor, 60)
            refused(backend.acquire(take_over(held)), ENDED)
