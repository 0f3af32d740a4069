"""Lost, late and doubled requests of every kind, for backends whose requests a `Proxy` can lose.

A test class of an engine subclasses `LostReplies` and brings its fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import CANCELLED, HELD, HOLD
from cronlock.testing import LONG, Hooks, fresh_key, granted, make_claim, make_ending, refused
from labs.proxy import Proxy

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

_LOSSES = pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])


def _lose(proxy: Proxy, loss: str, ask: Callable[[], object]) -> None:
    """Ask while something is lost, and let everything pass afterwards."""
    getattr(proxy, loss)()
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        ask()
    proxy.pass_all()


class LostReplies:
    """What follows when a request or its answer does not arrive, arrives late, or twice."""

    @pytest.fixture
    def hooks(self) -> Hooks:
        """How time passes on the server."""
        raise NotImplementedError

    @pytest.fixture
    def proxy(self) -> Proxy:
        """A proxy before the server."""
        raise NotImplementedError

    @pytest.fixture
    def far(self) -> Backend:
        """A node that reaches the server through `proxy`, is connected, and gives up soon."""
        raise NotImplementedError

    @pytest.fixture
    def node(self) -> Backend:
        """A node that reaches it without."""
        raise NotImplementedError

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody used."""
        return fresh_key()

    @_LOSSES
    def test_acquire(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """Whatever was lost, the owner that asks again has the key, and nobody else."""
        # The first run ever may take more than one request.
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
        claim = make_claim(key)
        _lose(proxy, loss, lambda: far.acquire(claim))
        if loss == "drop_replies":
            refused(node.acquire(make_claim(key)), HELD)
        grant = granted(far.acquire(claim))
        refused(node.acquire(make_claim(key)), HELD)
        assert far.renew(grant)
        assert far.release(grant, make_ending(), keep_hold=False)

    @_LOSSES
    def test_giving_up(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """After a lost answer and giving up, the key is free and that owner stays out."""
        claim = make_claim(key, hold=LONG)
        _lose(proxy, loss, lambda: far.acquire(claim))
        far.abandon(claim)
        refused(far.acquire(claim), CANCELLED)
        granted(node.acquire(make_claim(key)))

    @_LOSSES
    def test_abandon(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """Giving up can be asked again, also once another has the key."""
        claim = make_claim(key, hold=LONG)
        granted(far.acquire(claim))
        _lose(proxy, loss, lambda: far.abandon(claim))
        if loss == "drop_requests":
            refused(node.acquire(make_claim(key)), HELD)
            far.abandon(claim)
        heir = granted(node.acquire(make_claim(key)))
        far.abandon(claim)
        assert node.renew(heir)

    @_LOSSES
    def test_renewal(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """A renewal whose answer was lost is asked again on a new connection."""
        grant = granted(far.acquire(make_claim(key)))
        _lose(proxy, loss, lambda: far.renew(grant))
        assert far.renew(grant)
        refused(node.acquire(make_claim(key)), HELD)

    @_LOSSES
    def test_release(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """A release whose answer was lost did its work or can be asked again."""
        grant = granted(far.acquire(make_claim(key)))
        _lose(proxy, loss, lambda: far.release(grant, make_ending(5), keep_hold=False))
        assert far.release(grant, make_ending(5), keep_hold=False) == (loss == "drop_requests")
        record = node.read(key)
        assert record is not None
        assert record.last is not None
        assert record.last.status == 5
        assert len(record.history) == 1
        granted(node.acquire(make_claim(key)))

    @_LOSSES
    def test_forced_release(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """A forced release whose answer was lost did its work or can be asked again."""
        grant = granted(node.acquire(make_claim(key)))
        _lose(proxy, loss, lambda: far.force_release(key, grant.claim.owner))
        assert far.force_release(key, grant.claim.owner) == (loss == "drop_requests")
        assert not node.renew(grant)
        granted(node.acquire(make_claim(key)))

    @_LOSSES
    def test_reading(self, far: Backend, node: Backend, proxy: Proxy, key: str, loss: str) -> None:
        """A read whose answer was lost is answered when it is asked again."""
        grant = granted(node.acquire(make_claim(key)))
        _lose(proxy, loss, lambda: far.read(key))
        record = far.read(key)
        assert record is not None
        assert record.run is not None
        assert record.run.owner == grant.claim.owner
        _lose(proxy, loss, lambda: list(far.keys()))
        assert key in set(far.keys())

    @pytest.mark.parametrize("used", [False, True])
    def test_acquire_after_giving_up(self, far: Backend, node: Backend, proxy: Proxy, key: str, used: bool) -> None:
        """An acquire that arrives after its owner gave up does nothing."""
        if used:
            assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
        claim = make_claim(key)
        _lose(proxy, "hold_requests", lambda: far.acquire(claim))
        node.abandon(claim)
        proxy.deliver_held()
        record = node.read(key)
        assert record is None or record.remaining == 0
        granted(node.acquire(make_claim(key)))

    def test_acquire_during_another_run(self, far: Backend, node: Backend, proxy: Proxy, key: str) -> None:
        """An acquire that arrives late takes nothing from the run that came first."""
        _lose(proxy, "hold_requests", lambda: far.acquire(make_claim(key)))
        grant = granted(node.acquire(make_claim(key)))
        proxy.deliver_held()
        assert node.renew(grant)

    def test_acquire_after_its_release(self, far: Backend, node: Backend, proxy: Proxy, key: str) -> None:
        """The owner asked again, ran and ended; then its first request arrives."""
        claim = make_claim(key)
        _lose(proxy, "hold_requests", lambda: far.acquire(claim))
        assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=False)
        proxy.deliver_held()
        granted(node.acquire(make_claim(key)))

    @pytest.mark.parametrize("what", ["renew", "release", "abandon", "force_release"])
    def test_after_the_ttl(self, far: Backend, node: Backend, hooks: Hooks, proxy: Proxy, key: str, what: str) -> None:
        """Whatever of a dead run arrives once the key went to another takes nothing from that."""
        claim = make_claim(key)
        grant = granted(far.acquire(claim))
        requests: dict[str, Callable[[], object]] = {
            "renew": lambda: far.renew(grant),
            "release": lambda: far.release(grant, make_ending(), keep_hold=False),
            "abandon": lambda: far.abandon(claim),
            "force_release": lambda: far.force_release(key, claim.owner),
        }
        _lose(proxy, "hold_requests", requests[what])
        hooks.lapse(node, grant)
        heir = granted(node.acquire(make_claim(key, hold=LONG)))
        proxy.deliver_held()
        assert node.renew(heir)
        record = node.read(key)
        assert record is not None
        assert record.run is not None
        assert record.run.owner == heir.claim.owner
        assert record.hold_remaining > LONG / 2

    def test_duplicates(self, node: Backend, key: str) -> None:
        """What arrives twice has the effect of once."""
        claim = make_claim(key, hold=LONG)
        grants = [granted(node.acquire(claim)) for _ in range(2)]
        assert grants[0].fence == grants[1].fence
        assert [node.renew(grants[0]) for _ in range(2)] == [True, True]
        assert [node.release(grants[0], make_ending(3), keep_hold=True) for _ in range(2)] == [True, False]
        assert refused(node.acquire(make_claim(key)), HOLD).remaining > LONG / 2
        assert [node.force_release(key, claim.owner) for _ in range(2)] == [True, False]
        other = make_claim(key)
        granted(node.acquire(other))
        node.abandon(other)
        node.abandon(other)
        record = node.read(key)
        assert record is not None
        assert [(run.owner, run.status) for run in record.history] == [(claim.owner, 3)]


def everything_twice(far: Backend, node: Backend, proxy: Proxy, key: str) -> None:
    """Do everything by `far`, whose requests through `proxy` all come in twice: it is as if they had come once."""
    proxy.doubles = True
    first = granted(far.acquire(make_claim(key, hold=LONG)))
    assert far.renew(first)
    assert far.renew(first)
    refused(far.acquire(make_claim(key)), HELD)
    assert far.release(first, make_ending(4), keep_hold=True)
    refused(far.acquire(make_claim(key)), HOLD)
    second = granted(far.acquire(make_claim(key, ignore_hold=True)))
    far.abandon(second.claim)
    assert far.force_release(key, first.claim.owner)
    third = granted(far.acquire(make_claim(key)))
    record = node.read(key)
    assert record is not None
    assert record.run is not None
    assert (record.run.owner, [run.status for run in record.history]) == (third.claim.owner, [4])
    fences = [grant.fence or 0 for grant in (first, second, third)]
    assert fences == sorted(set(fences))
