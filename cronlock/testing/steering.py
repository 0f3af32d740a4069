"""Pauses and stops, on any store; see `cronlock.lease.rules`."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING
from unittest import mock

from cronlock.lease import leases
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import ENDED, LOST, PAUSED, STOPPED, Grant, Pause, Stop

from .hooks import LONG, Nodes, StoreHooks, granted, make_claim, make_ending, record_of, refused
from .waiting import eventually

if TYPE_CHECKING:
    from cronlock.lease.store import Store


class SteeringContract(Nodes):
    """Part of the `StoreContract`."""

    def test_pause(self, hooks: StoreHooks, a: Store, b: Store, key: str) -> None:
        """No run starts until the pause is over, of an unused key or of a held one, whose run goes on.

        It is over by the server's clock where that has one, else by this machine's with some slack, left out here.
        """
        nodes = Leases(a), Leases(b)
        nodes[0].pause(key, Pause("alice", "h", "why not"), None)
        for node in nodes:
            assert refused(node.acquire(make_claim(key, ignore_hold=True)), PAUSED).remaining > LONG
            record = record_of(node, key)
            assert record.pause is not None
            assert (record.pause.user, record.pause.reason, record.pause.until) == ("alice", "why not", None)
        by_hand = granted(nodes[1].acquire(make_claim(key).but(ignore_pause=True)))
        nodes[0].pause(key, Pause("bob", "h"), LONG)
        assert nodes[1].renew(by_hand)
        assert nodes[1].release(by_hand, make_ending(), keep_hold=False)
        assert LONG - 10 < refused(nodes[1].acquire(make_claim(key)), PAUSED).remaining <= LONG + 50
        resumed = nodes[1].resume(key)
        assert resumed is not None
        assert resumed.user == "bob"
        assert nodes[0].resume(key) is None
        nodes[0].pause(key, Pause("bob", "h"), 1.0)
        hooks.pass_time(1.0)
        with mock.patch.object(leases, "CLOCKS_APART", 0.0):
            eventually(lambda: isinstance(nodes[1].acquire(make_claim(key)), Grant), "the pause is over", pause=0.1)

    def test_notifications(self, a: Store, b: Store, key: str) -> None:
        """Where the engine notifies, a run hears of what others wrote, before it listened too, and not of itself."""
        nodes = Leases(a), Leases(b)
        grant = granted(nodes[0].acquire(make_claim(key, ttl=LONG)))
        listener, other = nodes[0].listener(key), nodes[1].listener(key)
        assert (listener is not None) == (other is not None) == a.traits.notifies
        if listener is None or other is None:
            return

        def heard(descriptor: int | None, seconds: float) -> bool:
            assert descriptor is not None
            return bool(select.select([descriptor], [], [], seconds)[0]) and listener.heard(grant)

        for _ in range(2):
            descriptor, changed = listener.listen(grant)
            assert not changed
            assert not heard(descriptor, 0.1)
            assert nodes[0].renew(grant)
        descriptor, changed = listener.listen(grant)
        assert not changed
        assert nodes[1].stop(key, Stop(grant.claim.owner, "alice", "h"))
        assert other.notify()
        eventually(lambda: heard(descriptor, 1.0), "a notification")
        assert nodes[0].renew(grant)
        assert grant.stop is not None
        listener.close()
        assert nodes[1].force_release(key, grant.claim.owner)
        descriptor, changed = listener.listen(grant)
        assert changed or heard(descriptor, 60)

    def test_stop(self, a: Store, b: Store, key: str) -> None:
        """The run that has the key hears of it with its next renewal, keeps the lease, and no other takes over."""
        nodes = Leases(a), Leases(b)
        assert not nodes[1].stop(key, Stop("nobody", "alice", "h"))
        grant = granted(nodes[0].acquire(make_claim(key, hold=LONG)))
        owner = grant.claim.owner
        assert nodes[0].renew(grant)
        assert (grant.stop, nodes[0].stop_requested(grant)) == (None, False)
        assert not nodes[1].stop(key, Stop("another", "alice", "h"))
        for _ in range(2):
            assert nodes[1].stop(key, Stop(owner, "alice", "h"))
        assert nodes[0].stop_requested(grant)
        record = record_of(nodes[1], key)
        assert record.remaining > 0
        assert record.stop is not None
        assert nodes[0].renew(grant)
        assert grant.stop is not None
        assert (grant.stop.owner, grant.stop.user) == (owner, "alice")
        # Whatever it says of its end: it was stopped.
        assert nodes[0].release(grant, make_ending(75, LOST), keep_hold=True)
        record = record_of(nodes[1], key)
        assert [run.outcome for run in record.history] == [STOPPED]
        refused(nodes[1].acquire(make_claim(key, standby_for=owner)), ENDED)
        assert not nodes[1].stop(key, Stop(owner, "alice", "h"))
