"""What a run on SQS costs, and how long its tokens stay in flight."""

from __future__ import annotations

from typing import Any

import pytest

from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.queue import LONGEST
from cronlock.errors import BackendUnavailable, ConfigError, CronlockError, UsageError
from cronlock.lease.vocabulary import HELD, Conflict
from cronlock.testing import eventually, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.aws import AwsServer

from .sqs_nodes import SetClock, open_node, take_in_the_end

# Cost


def test_what_a_run_costs(server: AwsServer, node: SqsBackend, key: str) -> None:
    """Two requests a run, two a skip, one a renewal and a look, five for a run with a worn token."""
    node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    with Proxy(server.port) as proxy:
        far, seen = open_node(server.queue_url(port=proxy.port)), [0]

        def cost() -> int:
            seen.append(proxy.requests)
            return seen[-1] - seen[-2]

        grant = granted(far.acquire(make_claim(key)))
        assert cost() == 1
        assert far.renew(grant)
        assert cost() == 1
        assert far.release(grant, make_ending(), keep_hold=False)
        assert cost() == 1
        assert far.read(key) is None
        assert cost() == 1
        held = granted(node.acquire(make_claim(key)))
        refused(far.acquire(make_claim(key)), HELD)
        assert cost() == 2
        node.release(held, make_ending(), keep_hold=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqs_queue, "WORN", -10.0)
            grant = granted(far.acquire(make_claim(key)))
            assert far.release(grant, make_ending(), keep_hold=False)
        assert cost() == 5
        far.close()


# Time


def test_nothing_ends_early(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """A token is in flight for longer than was asked for, by a second at least."""
    grant = granted(node.acquire(make_claim(key, ttl=2.0)))
    clock = node.clock
    received = node.tokens[key].received
    ended: list[float] = []

    def take() -> bool:
        asked = clock.now()
        if isinstance(other.acquire(make_claim(key)), Conflict):
            return False
        ended.append(asked)
        return True

    eventually(take, "the lease lapsed", pause=0.05)
    assert clock.now() - received > grant.ttl
    assert node.tokens[key].until - received == 3.0


def test_hold_counts_from_the_start(node: SqsBackend, key: str) -> None:
    """A release into the hold keeps the token for what is left of it, and for no second less."""
    clock = SetClock()
    node.use_clock(clock)
    grant = granted(node.acquire(make_claim(key, ttl=60.0, hold=40.0)))
    asked: list[int] = []
    change = node.queues.change

    def note(key: str, handle: str, visibility: int, deadline: float) -> bool:
        asked.append(visibility)
        return change(key, handle, visibility, deadline)

    node.queues.change = note  # type: ignore[method-assign]
    clock.ahead = 20.0
    assert node.renew(grant)
    clock.ahead = 30.0
    assert node.release(grant, make_ending(), keep_hold=True)
    assert asked[0] == 61
    assert 11 <= asked[1] <= 12


@pytest.mark.parametrize("renewals", [0, 1])
def test_hold_of_a_run_that_died(node: SqsBackend, other: SqsBackend, key: str, renewals: int) -> None:
    """The hold of a run that is not heard of any more outlasts its lease, also once that was renewed."""
    clock, hold = node.clock, 5.0
    grant = granted(node.acquire(make_claim(key, ttl=2.0, hold=hold)))
    heard = clock.now()
    for _ in range(renewals):
        assert node.renew(grant)
    take_in_the_end(other, make_claim(key))
    assert clock.now() - heard > hold


def test_token_that_a_short_poll_overlooks(node: SqsBackend, key: str) -> None:
    """A token that is there by the numbers is asked for once more."""
    node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    receive, answers = node.queues.receive, [None]
    node.queues.receive = lambda *asked: answers.pop() if answers else receive(*asked)  # type: ignore[method-assign]
    granted(node.acquire(make_claim(key)))


def test_release_after_the_hold_frees_at_once(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """Nothing is left of a hold that was shorter than the run."""
    clock = SetClock()
    node.use_clock(clock)
    grant = granted(node.acquire(make_claim(key, ttl=60.0, hold=10.0)))
    clock.ahead = 11.0
    assert node.release(grant, make_ending(), keep_hold=True)
    granted(other.acquire(make_claim(key)))


def test_twelve_hours_in_all(server: AwsServer, key: str) -> None:
    """A renewal that SQS could not keep fails without a request: the lease ends as if the server did not answer."""
    with Proxy(server.port) as proxy:
        node, clock = open_node(server.queue_url(port=proxy.port)), SetClock()
        node.use_clock(clock)
        grant = granted(node.acquire(make_claim(key, ttl=3600.0)))
        for hour in range(1, 22):
            clock.ahead = hour * 1800.0
            assert node.renew(grant)
        before = proxy.requests
        clock.ahead = 11 * 3600.0
        with pytest.raises(BackendUnavailable, match="12 hours in all"):
            node.renew(grant)
        assert proxy.requests == before
        # It is still ours, and can be given back.
        assert node.release(grant, make_ending(), keep_hold=True)
        granted(node.acquire(make_claim(key)))
        node.close()


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"ttl": LONGEST + 1}, UsageError, "--ttl: 43141 s is longer"),
        ({"hold": LONGEST + 1}, UsageError, r"--min-hold \(or half of --every\): 43141 s is longer"),
        ({"standby_for": "somebody"}, ConfigError, "--standby is not supported"),
        ({"ignore_hold": True}, ConfigError, "--ignore-hold is not supported"),
    ],
)
def test_what_it_cannot_give_is_refused(
    node: SqsBackend, key: str, asked: dict[str, Any], error: type[CronlockError], said: str
) -> None:
    """A ttl or hold that SQS cannot keep is refused before any request."""
    with pytest.raises(error, match=said):
        node.acquire(make_claim(key, **asked))
    assert node.read(key) is None
    granted(node.acquire(make_claim(key, ttl=LONGEST, hold=LONGEST)))


def test_nothing_that_is_missing_ends_a_run(node: SqsBackend, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If credentials cannot be refreshed during a run, the backend counts as unavailable, not as misconfigured."""
    claim = make_claim(key)
    grant = granted(node.acquire(claim))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    node.queues.service._credentials = None
    for ask_for in (
        lambda: node.renew(grant),
        lambda: node.release(grant, make_ending(), keep_hold=True),
        lambda: node.abandon(claim),
    ):
        with pytest.raises(BackendUnavailable, match="AWS_SECRET_ACCESS_KEY is missing"):
            ask_for()


def test_giving_up_on_a_queue_that_is_not_there(server: AwsServer, key: str) -> None:
    """Where there is no queue there is nothing to undo."""
    node, claim = open_node(server.queue_url(create="no")), make_claim(key)
    with pytest.raises(ConfigError, match="there is no queue"):
        node.acquire(claim)
    node.abandon(claim)
    node.close()
