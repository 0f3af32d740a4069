"""Lost, late and doubled requests to SQS, and receipts that are over.

The emulator does not know the attempts by which SQS answers a request again: there a lost token lapses. It is
MiniStack, which refuses a receipt that is over as SQS does; moto takes it for a good one, which is why nothing is
asked with a receipt that can be over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.aws import AwsServer

from .sqs_nodes import SetClock, knowing_attempts, open_node, receive, take_in_the_end

if TYPE_CHECKING:
    from cronlock.engines.sqs.backend import SqsBackend

_LOSSES = pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])
#: A ttl that tests wait for.
_SHORT = 4.0


@pytest.fixture(scope="module")
def kind() -> str:
    """The emulator that is asked."""
    return "ministack"


@pytest.fixture
def far(server: AwsServer, proxy: Proxy) -> Iterator[SqsBackend]:
    """A node that reaches the server through the proxy."""
    backend = open_node(server.queue_url(port=proxy.port))
    yield backend
    backend.close()


@pytest.fixture
def key(node: SqsBackend) -> str:
    """A key whose queue has its token."""
    name = fresh_key()
    assert node.release(granted(node.acquire(make_claim(name))), make_ending(), keep_hold=False)
    return name


def _lose(far: SqsBackend, proxy: Proxy, loss: str, ask: Callable[[], object]) -> None:
    """Ask without patience while something is lost, and let everything pass afterwards."""
    getattr(proxy, loss)()
    patience, far.limit = far.limit, 1.0
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        ask()
    far.limit = patience
    proxy.pass_all()


@_LOSSES
def test_acquire(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, loss: str) -> None:
    """A token whose delivery was lost lapses; until then no run has it, not even the one that asked."""
    claim = make_claim(key, ttl=_SHORT)
    _lose(far, proxy, loss, lambda: far.acquire(claim))
    if loss == "drop_replies":
        refused(node.acquire(make_claim(key)), HELD)
        refused(far.acquire(claim), HELD)
        far.abandon(claim)
    else:
        grant = granted(far.acquire(claim))
        refused(node.acquire(make_claim(key)), HELD)
        assert far.release(grant, make_ending(), keep_hold=False)
    take_in_the_end(node, make_claim(key))


@_LOSSES
def test_giving_up(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, loss: str) -> None:
    """After a lost answer and giving up the key is free once a lost token lapsed."""
    claim = make_claim(key, ttl=_SHORT)
    _lose(far, proxy, loss, lambda: far.acquire(claim))
    far.abandon(claim)
    if loss == "drop_requests":
        granted(node.acquire(make_claim(key)))
    else:
        take_in_the_end(node, make_claim(key))


@_LOSSES
def test_abandon(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, loss: str) -> None:
    """Giving up can be asked again, also once another has the key."""
    claim = make_claim(key, hold=LONG)
    granted(far.acquire(claim))
    _lose(far, proxy, loss, lambda: far.abandon(claim))
    if loss == "drop_requests":
        refused(node.acquire(make_claim(key)), HELD)
        far.abandon(claim)
    heir = granted(node.acquire(make_claim(key)))
    assert node.renew(heir)


@_LOSSES
@pytest.mark.parametrize("hold", [0.0, LONG])
def test_run(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, loss: str, hold: float) -> None:
    """A look, a renewal or a release whose answer was lost did its work or can be asked again, into the hold too."""
    _lose(far, proxy, loss, lambda: far.read(key))
    assert far.read(key) is None
    grant = granted(far.acquire(make_claim(key, hold=hold)))
    _lose(far, proxy, loss, lambda: far.renew(grant))
    assert far.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)
    _lose(far, proxy, loss, lambda: far.release(grant, make_ending(), keep_hold=True))
    if loss == "drop_requests":
        assert far.release(grant, make_ending(), keep_hold=True)
    if hold:
        refused(node.acquire(make_claim(key)), HELD)
    else:
        granted(node.acquire(make_claim(key)))


@_LOSSES
def test_acquire_of_a_held_key(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, loss: str) -> None:
    """A lost refusal has no effect."""
    grant = granted(node.acquire(make_claim(key)))
    claim = make_claim(key)
    _lose(far, proxy, loss, lambda: far.acquire(claim))
    refused(far.acquire(claim), HELD)
    far.abandon(claim)
    assert node.renew(grant)


def test_acquire_after_giving_up(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
    """An acquire that arrives after its owner gave up keeps the key from everybody, for a ttl."""
    claim = make_claim(key, ttl=_SHORT)
    _lose(far, proxy, "hold_requests", lambda: far.acquire(claim))
    far.abandon(claim)
    proxy.deliver_held()
    refused(node.acquire(make_claim(key)), HELD)
    take_in_the_end(node, make_claim(key))


def test_acquire_during_another_run(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
    """An acquire that arrives late takes nothing from the run that came first."""
    _lose(far, proxy, "hold_requests", lambda: far.acquire(make_claim(key, ttl=_SHORT)))
    grant = granted(node.acquire(make_claim(key)))
    proxy.deliver_held()
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    take_in_the_end(node, make_claim(key))


def test_acquire_after_its_release(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
    """If a run's first request arrives after its end, the key is blocked for one ttl."""
    claim = make_claim(key, ttl=_SHORT)
    _lose(far, proxy, "hold_requests", lambda: far.acquire(claim))
    assert far.release(granted(far.acquire(claim)), make_ending(), keep_hold=False)
    proxy.deliver_held()
    refused(node.acquire(make_claim(key)), HELD)
    take_in_the_end(node, make_claim(key))


def test_renewal_after_the_release(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
    """A renewal that arrives within the hold leaves it no shorter."""
    grant = granted(far.acquire(make_claim(key, ttl=_SHORT, hold=LONG)))
    _lose(far, proxy, "hold_requests", lambda: far.renew(grant))
    assert far.release(grant, make_ending(), keep_hold=True)
    proxy.deliver_held()
    refused(node.acquire(make_claim(key)), HELD)
    assert receive(node, key, 1) is None


@pytest.mark.parametrize("what", ["renew", "release", "abandon"])
def test_what_arrives_after_the_ttl(
    far: SqsBackend, node: SqsBackend, other: SqsBackend, proxy: Proxy, key: str, what: str
) -> None:
    """A dead run's request that arrives once another has the key is refused."""
    claim = make_claim(key, ttl=_SHORT)
    grant = granted(far.acquire(claim))
    requests: dict[str, Callable[[], object]] = {
        "renew": lambda: far.renew(grant),
        "release": lambda: far.release(grant, make_ending(), keep_hold=False),
        "abandon": lambda: far.abandon(claim),
    }
    _lose(far, proxy, "hold_requests", requests[what])
    heir = take_in_the_end(node, make_claim(key))
    proxy.deliver_held()
    refused(other.acquire(make_claim(key)), HELD)
    assert node.renew(heir)


@pytest.mark.parametrize("hold", [0.0, 30.0])
def test_nothing_is_asked_with_a_receipt_that_is_over(
    far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, hold: float
) -> None:
    """Once lease and hold can be over by its own clock, a node does not touch the token, whatever it is asked."""
    clock = SetClock()
    far.use_clock(clock)
    claim = make_claim(key, ttl=10.0, hold=hold)
    grant = granted(far.acquire(claim))
    before = proxy.requests
    clock.ahead = max(10.0, hold) - 1.0
    assert far.renew(grant)
    assert proxy.requests == before + 1
    clock.ahead = 60.0
    assert not far.renew(grant)
    assert not far.release(grant, make_ending(), keep_hold=True)
    far.abandon(claim)
    assert proxy.requests == before + 1
    refused(node.acquire(make_claim(key)), HELD)


def test_lost_renewal_is_not_counted_on(far: SqsBackend, proxy: Proxy, key: str) -> None:
    """A renewal without an answer moves nothing: the receipt is over when it was before."""
    clock = SetClock()
    far.use_clock(clock)
    grant = granted(far.acquire(make_claim(key, ttl=10.0)))
    clock.ahead = 8.0
    _lose(far, proxy, "drop_requests", lambda: far.renew(grant))
    before = proxy.requests
    clock.ahead = 12.0
    assert not far.renew(grant)
    assert proxy.requests == before


def test_everything_twice(far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
    """If the server does not support attempts, a doubled request blocks the key until the lease lapses."""
    proxy.doubles = True
    refused(far.acquire(make_claim(key, ttl=_SHORT)), HELD)
    refused(node.acquire(make_claim(key)), HELD)
    take_in_the_end(node, make_claim(key))


class TestAttempts:
    """As SQS answers an attempt that is repeated."""

    @pytest.fixture
    def proxy(self, server: AwsServer) -> Iterator[Proxy]:
        """A proxy before what knows attempts, before the server."""
        with knowing_attempts(server.port) as port, Proxy(port) as running:
            yield running

    def test_acquire(self, far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
        """The owner that asks again is given the token whose delivery was lost."""
        claim = make_claim(key)
        _lose(far, proxy, "drop_replies", lambda: far.acquire(claim))
        refused(node.acquire(make_claim(key)), HELD)
        grant = granted(far.acquire(claim))
        assert far.renew(grant)
        assert far.release(grant, make_ending(), keep_hold=False)
        granted(node.acquire(make_claim(key)))

    def test_everything_twice(self, far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
        """Each request comes in twice, and all is as if it had come once."""
        proxy.doubles = True
        grant = granted(far.acquire(make_claim(key)))
        refused(node.acquire(make_claim(key)), HELD)
        assert [far.renew(grant) for _ in range(2)] == [True, True]
        assert far.release(grant, make_ending(), keep_hold=False)
        heir = granted(node.acquire(make_claim(key)))
        assert not far.renew(grant)
        assert node.renew(heir)

    def test_validity_counts_from_the_first_request(self, far: SqsBackend, proxy: Proxy, key: str) -> None:
        """The receipt of a token that was given again is over a ttl after it was asked for first."""
        clock = SetClock()
        far.use_clock(clock)
        claim = make_claim(key, ttl=20.0)
        _lose(far, proxy, "drop_replies", lambda: far.acquire(claim))
        clock.ahead = 15.0
        grant = granted(far.acquire(claim))
        before = proxy.requests
        clock.ahead = 22.0
        assert not far.renew(grant)
        assert proxy.requests == before

    def test_giving_up(self, far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str) -> None:
        """Giving up finds the token whose delivery was lost, and returns it."""
        claim = make_claim(key)
        _lose(far, proxy, "drop_replies", lambda: far.acquire(claim))
        far.abandon(claim)
        granted(node.acquire(make_claim(key)))

    @pytest.mark.parametrize("runs", [False, True])
    def test_acquire_that_arrives_late(
        self, far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str, runs: bool
    ) -> None:
        """It takes nothing once its owner gave up, or asked again, ran and ended."""
        claim = make_claim(key)
        _lose(far, proxy, "hold_requests", lambda: far.acquire(claim))
        if runs:
            assert far.release(granted(far.acquire(claim)), make_ending(), keep_hold=False)
        else:
            far.abandon(claim)
        proxy.deliver_held()
        granted(node.acquire(make_claim(key)))

    def test_attempt_that_is_not_valid_any_more(
        self, far: SqsBackend, node: SqsBackend, proxy: Proxy, key: str
    ) -> None:
        """A lost token that lapsed, was another's and is free again is asked for in another way."""
        claim = make_claim(key)
        _lose(far, proxy, "drop_replies", lambda: far.acquire(claim))
        stranger = open_node(f"sqs://cronlock?endpoint=http://127.0.0.1:{proxy.port}")
        far_again = stranger.queues.receive(far.asking, 5, stranger.queues.service.deadline())  # type: ignore[arg-type]
        assert far_again is not None
        assert stranger.queues.change(key, far_again.handle, 0, stranger.queues.service.deadline())
        grant = granted(far.acquire(claim))
        refused(node.acquire(make_claim(key)), HELD)
        assert far.renew(grant)
