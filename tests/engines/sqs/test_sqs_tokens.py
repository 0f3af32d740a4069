"""Tokens of SQS that get lost, and queues that were deleted."""

from __future__ import annotations

import pytest

from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.queue import SURELY_KEPT
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.vocabulary import HELD, STATE_LOST, Conflict, Watermark
from cronlock.testing import LONG, eventually, granted, make_claim, make_ending, refused
from labs.servers.aws import AwsServer

from .sqs_nodes import SetClock, ask, open_node, send_seed, take_in_the_end


def test_purge_takes_the_lease(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """A holder whose queue was purged finds out when it renews."""
    grant = granted(node.acquire(make_claim(key)))
    ask(other, "PurgeQueue", key)
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=True)


def test_purge_is_noticed(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """A node that saw the key lately withholds a newer token from all, until a lost lease must be over."""
    lost = granted(node.acquire(make_claim(key, ttl=60.0)))
    ask(other, "PurgeQueue", key)
    send_seed(other, key)
    watermark = Watermark(0, age=LONG, loss_noticed_ago=None, ttl=60.0)
    conflict = refused(other.acquire(make_claim(key, ttl=30.0, watermark=watermark)), STATE_LOST)
    assert 50.0 < conflict.remaining <= 61.0
    refused(node.acquire(make_claim(key)), HELD)
    refused(other.acquire(make_claim(key, watermark=watermark)), HELD)
    assert not node.renew(lost)


def test_quarantine_outlasts_a_lost_hold(node: SqsBackend, key: str) -> None:
    """A hold may be lost with a token too."""
    granted(node.acquire(make_claim(key, ttl=20.0, hold=200.0)))
    ask(node, "PurgeQueue", key)
    send_seed(node, key)
    watermark = Watermark(0, age=LONG, loss_noticed_ago=None, ttl=20.0)
    assert (
        refused(node.acquire(make_claim(key, ttl=20.0, hold=200.0, watermark=watermark)), STATE_LOST).remaining > 150.0
    )


def test_quarantine_is_over_in_time(node: SqsBackend, key: str) -> None:
    """A new token is trusted once it is older than any lease that was lost with the one before."""
    granted(node.acquire(make_claim(key, ttl=2.0)))
    ask(node, "PurgeQueue", key)
    send_seed(node, key)
    watermark = Watermark(0, age=LONG, loss_noticed_ago=None, ttl=2.0)
    refused(node.acquire(make_claim(key, ttl=2.0, watermark=watermark)), STATE_LOST)
    take_in_the_end(node, make_claim(key, ttl=2.0, watermark=watermark))


@pytest.mark.parametrize(
    ("age", "why"),
    [(0.5, "it was seen after the token was sent"), (SURELY_KEPT + 1, "an unused token may have ended since")],
)
def test_new_token_is_no_wonder(node: SqsBackend, key: str, age: float, why: str) -> None:
    """A token may be new to a node for other reasons than a purge."""
    grant = granted(node.acquire(make_claim(key, watermark=Watermark(0, age=age, loss_noticed_ago=None))))
    assert node.renew(grant), why


def test_token_that_was_sent_twice_within_a_minute(node: SqsBackend, key: str) -> None:
    """After a purge SQS may drop a new token as a duplicate: then no run gets the key for a minute."""
    node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    ask(node, "PurgeQueue", key)
    answer = node.acquire(make_claim(key))
    if isinstance(answer, Conflict):  # Else another minute has just begun.
        assert answer.why == HELD
        send_seed(node, key)
        answer = node.acquire(make_claim(key))
    granted(answer)


def test_server_that_restarts(server: AwsServer, key: str) -> None:
    """If all queues were deleted, a node that saw the key waits; without create=yes no node runs, with a remedy."""
    with type(server)() as own:
        node, other = open_node(own.queue_url()), open_node(own.queue_url(create="no"))
        grant = granted(node.acquire(make_claim(key)))
        own.kill()
        with pytest.raises(BackendUnavailable, match="refused"):
            node.renew(grant)
        own.start()
        assert not node.renew(grant)
        with pytest.raises(ConfigError, match=r"there is no queue cronlock-.*create=yes.*create-queue --queue-name"):
            other.acquire(make_claim(key))
        watermark = Watermark(0, age=LONG, loss_noticed_ago=None, ttl=LONG)
        refused(node.acquire(make_claim(key, watermark=watermark)), STATE_LOST)
        node.close()
        other.close()


def test_server_that_hangs(server: AwsServer, key: str) -> None:
    """A server that hangs is unavailable, and a lease that it kept meanwhile is not touched once it can be over."""
    with type(server)() as own:
        node = open_node(own.queue_url())
        clock = SetClock()
        node.use_clock(clock)
        grant = granted(node.acquire(make_claim(key, ttl=20.0)))
        node.limit = 1.0  # A server that has just started is slower: that is not counted.
        own.pause()
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            node.renew(grant)
        own.resume()

        def renewed() -> bool:
            try:
                return node.renew(grant)
            except BackendUnavailable:
                return False  # It has a second, on a busy machine.

        eventually(renewed, "it is renewed once the server goes on")
        clock.ahead = 25.0
        assert not node.renew(grant)
        node.close()
