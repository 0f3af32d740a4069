"""The contract on the backend in memory: what tests the contract and the state machine themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import FORGOTTEN, HELD, Claim, Conflict, Grant, Sight
from cronlock.testing import BackendContract, Hooks, fresh_key, granted, make_claim, make_ending, refused, run_machine
from labs.clocks import ManualClock
from tests.engines.memory import MemoryBackend, MemoryServer

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class MemoryHooks(Hooks):
    """Time passes when told."""

    forces_time = True

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.server = MemoryServer(self.clock)

    def open(self) -> MemoryBackend:
        """Return another node."""
        return MemoryBackend(self.server)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """End the lease now."""
        self.server.entries[grant.claim.key].lapse = self.clock.now()

    def end_hold(self, node: Backend, key: str) -> None:
        """End the hold now."""
        entry = self.server.entries[key]
        entry.hold_until, entry.kept = self.clock.now(), (0.0, None)


class TestMemory(BackendContract):
    """All of the contract."""

    @pytest.fixture
    def hooks(self) -> MemoryHooks:
        """A server of its own for each test."""
        return MemoryHooks()

    def test_restarted_server_waits_a_ttl_of_uptime(self, hooks: Hooks, a: Backend, key: str) -> None:
        """A server that lost all grants nothing to who remembers, until it is up for the ttl."""
        assert isinstance(hooks, MemoryHooks)
        first = granted(a.acquire(make_claim(key, ttl=300.0)))
        hooks.clock.advance(10)
        hooks.server.restart(lose=True)
        hooks.clock.advance(50)
        sight = Sight(first.fence or 0, age=60.0, noticed_age=None)
        assert refused(a.acquire(make_claim(key, ttl=300.0, sight=sight)), FORGOTTEN).remaining == 250
        hooks.clock.advance(250)
        sight = Sight(first.fence or 0, age=310.0, noticed_age=None)
        assert (granted(a.acquire(make_claim(key, ttl=300.0, sight=sight))).fence or 0) > sight.floor


def test_time_lapses_leases_and_holds() -> None:
    """The clock alone ends a lease after its ttl and a hold after its own time."""
    hooks, key = MemoryHooks(), fresh_key()
    node = hooks.open()
    granted(node.acquire(make_claim(key, ttl=30, hold=60)))
    hooks.clock.advance(29.9)
    answer = node.acquire(make_claim(key))
    assert isinstance(answer, Conflict)
    assert (answer.why, round(answer.remaining, 3)) == ("held", 0.1)
    hooks.clock.advance(0.1)
    assert refused(node.acquire(make_claim(key)), "hold").remaining == 30
    hooks.clock.advance(30)
    granted(node.acquire(make_claim(key)))


def test_lost_reply_leaves_the_request_done() -> None:
    """With replies lost the key is taken all the same; unreachable, nothing arrives."""
    hooks, claim = MemoryHooks(), make_claim(fresh_key())
    node = hooks.open()
    hooks.server.unreachable = True
    with pytest.raises(BackendUnavailable):
        node.acquire(claim)
    hooks.server.unreachable, hooks.server.loses_replies = False, True
    assert not hooks.server.entries
    with pytest.raises(BackendUnavailable):
        node.acquire(claim)
    hooks.server.loses_replies = False
    assert hooks.server.entries[claim.key].run is not None
    grant = granted(node.acquire(claim))
    assert node.release(grant, make_ending(), keep_hold=False)


class _TwoHolders(MemoryBackend):
    """Grants a held key to whoever ignores the hold: the mistake of a careless backend."""

    def _refusal(self, claim):  # type: ignore[no-untyped-def]
        refusal = super()._refusal(claim)
        return None if refusal is not None and refusal.why == HELD and claim.ignore_hold else refusal


class _AnyoneRenews(MemoryBackend):
    """Renews without asking whose lease it is."""

    def renew(self, grant: Grant) -> bool:
        """Say yes."""
        return True


class _HoldDiesWithLease(MemoryBackend):
    """Drops the hold on every release."""

    def release(self, grant, ending, *, keep_hold):  # type: ignore[no-untyped-def]
        """Forget that the hold was to be kept."""
        return super().release(grant, ending, keep_hold=False)


class _IgnoredHoldEnds(MemoryBackend):
    """Takes a hold that was ignored for one that is over."""

    def _grant(self, claim: Claim) -> Grant:
        if claim.key in self.server.entries:
            self.server.entries[claim.key].hold_until = 0.0
        return super()._grant(claim)


@pytest.mark.parametrize("broken", [_TwoHolders, _AnyoneRenews, _HoldDiesWithLease, _IgnoredHoldEnds])
def test_machine_finds_a_broken_backend(broken: type[MemoryBackend]) -> None:
    """The state machine fails on backends that break a rule."""

    class BrokenHooks(MemoryHooks):
        def open(self) -> MemoryBackend:
            return broken(self.server)

    with pytest.raises(AssertionError):
        run_machine(BrokenHooks(), examples=200, steps=30, shrink=False)
