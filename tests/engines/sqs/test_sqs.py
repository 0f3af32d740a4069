"""SQS on two emulators: the contract, the queue and its tokens, twelve hours, lost tokens, refusals, the doctor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, OK, WARNING
from cronlock.engines.sqs import doctor as sqs_doctor
from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.doctor import examine_queue
from cronlock.engines.sqs.queue import LONGEST, RETENTION, SURELY_KEPT, queue_name
from cronlock.engines.url import URL
from cronlock.errors import BackendError, BackendUnavailable, ConfigError, CronlockError, ForeignValue, UsageError
from cronlock.lease.vocabulary import HELD, STATE_LOST, Conflict, Grant, Watermark
from cronlock.testing import (
    LONG,
    NASTY_KEYS,
    Hooks,
    LeaseContract,
    eventually,
    granted,
    make_claim,
    make_ending,
    refused,
)
from cronlock.testing.hooks import race
from labs.proxy import Proxy
from labs.servers.aws import AwsServer
from labs.servers.aws_gate import Gate

from ..faults import URLs
from .sqs_nodes import SetClock, SqsHooks, ask, open_node, receive, send_seed, take_in_the_end

#: The URL of real queues that the contract is to be tried on as well, by whoever has an account.
_REAL = os.environ.get("CRONLOCK_TEST_SQS")
_FIFO = {"FifoQueue": "true"}


class TestSqs(LeaseContract):
    """The rules of a lease; there is no record on SQS."""

    @pytest.fixture
    def hooks(self, server: AwsServer) -> Hooks:
        """Hooks on one of the emulators."""
        return SqsHooks(server.queue_url())


def _need_test_queues(url: str) -> str:
    """Return `url` if its queues are surely for tests: all of them are deleted."""
    if not URL(url).hosts[0][0].startswith("test"):
        pytest.fail(f"CRONLOCK_TEST_SQS={url}: write sqs://testNAME; all its queues are deleted", pytrace=False)
    return url


def test_real_queues_have_to_be_the_tests_own() -> None:
    """Queues that are not called so are not deleted."""
    assert _need_test_queues("sqs://test_me?create=yes") == "sqs://test_me?create=yes"
    with pytest.raises(pytest.fail.Exception, match="all its queues are deleted"):
        _need_test_queues("sqs://cronlock?create=yes")


if _REAL is not None:

    class TestRealSqs(LeaseContract):
        """The same on AWS, with the credentials that this machine has; all queues of the URL are deleted."""

        real = True

        @pytest.fixture
        def hooks(self) -> Iterator[Hooks]:
            """Hooks on the queues of the URL."""
            assert _REAL is not None
            url = _need_test_queues(_REAL)
            yield SqsHooks(url)
            node = open_node(url)
            service = node.queues.service
            for name in node.queues.all_names(1000, service.deadline()):
                service.call("DeleteQueue", {"QueueUrl": name}, service.deadline())
            node.close()


# The queue and its tokens

_NO_QUEUE = json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}).encode()


def test_new_queue_that_is_not_there_at_once(gate: Gate, key: str) -> None:
    """A queue that AWS does not know yet, though it was just made, is asked for again until it does."""
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}&create=yes")
    gate.answers_to = {"SendMessage": [(400, _NO_QUEUE)] * 3, "ReceiveMessage": [(400, _NO_QUEUE)] * 2}
    granted(node.acquire(make_claim(key)))
    assert gate.actions.count("CreateQueue") == 1
    node.close()


def test_new_queue_that_is_not_there_in_time(gate: Gate, key: str) -> None:
    """One that AWS does not know within the time limit is not ready yet."""
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}&create=yes", timeout=4.0)
    gate.answers_to = {"SendMessage": [(400, _NO_QUEUE)] * 100}
    with pytest.raises(BackendUnavailable, match="was made just now and is not ready yet"):
        node.acquire(make_claim(key))
    assert 2 <= gate.actions.count("SendMessage") <= 17
    node.close()


def test_no_two_keys_have_one_queue() -> None:
    """Names are what SQS allows, and different for all keys and for all beginnings."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    bases = ["c", "cronlock", "c_", "c__", "c_2D", "a" * 24]
    keys = [*NASTY_KEYS, "-", "--", "b-c", "_", "__", "_2D", "a__b", "A" * 50, "A" * 69]
    names = [queue_name(base, key) for base in bases for key in keys]
    assert len(set(names)) == len(bases) * len(set(keys))
    for name in names:
        assert len(name) <= 80
        assert name.endswith(".fifo")
        assert set(name[:-5]) <= allowed
    assert queue_name("cronlock", "nightly-backup") == "cronlock-nightly-backup.fifo"


def test_queue_is_made_with_its_token(node: SqsBackend, key: str) -> None:
    """The first run makes a FIFO queue that keeps messages for 14 days, and one token."""
    granted(node.acquire(make_claim(key)))
    told = ask(node, "GetQueueAttributes", key, AttributeNames=["All"])["Attributes"]
    assert told["FifoQueue"] == "true"
    assert told["MessageRetentionPeriod"] == str(RETENTION)
    assert told["ApproximateNumberOfMessages"] == "0"
    assert told["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_second_token_does_no_harm(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """No token is delivered while another one is in flight, for a lease or a hold: so how many there are is all one."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    send_seed(other, key)
    refused(other.acquire(make_claim(key)), HELD)
    assert receive(other, key, 1) is None
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=True)
    refused(other.acquire(make_claim(key)), HELD)
    assert other.read(key) is not None


def test_two_tokens_are_free_one_after_the_other(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """Even with two tokens there is one holder at a time, run after run."""
    granted(node.acquire(make_claim(key)))
    node.abandon(make_claim(key))
    send_seed(node, key)
    for holder, rival in ((node, other), (other, node)) * 2:
        taken = holder.tokens.get(key)
        if taken is not None:
            holder.abandon(taken.claim)
        else:
            rival.abandon(rival.tokens[key].claim)
        grant = granted(holder.acquire(make_claim(key)))
        refused(rival.acquire(make_claim(key)), HELD)
        assert holder.renew(grant)


def test_worn_token_is_replaced(node: SqsBackend, other: SqsBackend, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that comes near its end is replaced before anybody holds it, by another one that is no younger lease."""
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    before = _tokens(node, key)
    monkeypatch.setattr(sqs_queue, "WORN", -10.0)
    grant = granted(node.acquire(make_claim(key)))
    refused(other.acquire(make_claim(key)), HELD)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    after = _tokens(node, key)
    assert len(before) == len(after) == 1
    assert before != after
    assert after[0][1].startswith(sqs_queue.HEIR)


def test_replaced_token_raises_no_quarantine(node: SqsBackend, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that saw the key before its token was replaced takes it at once."""
    granted(node.acquire(make_claim(key)))
    node.abandon(node.tokens[key].claim)
    monkeypatch.setattr(sqs_queue, "WORN", -10.0)
    granted(node.acquire(make_claim(key, watermark=Watermark(0, age=LONG, loss_noticed_ago=None))))


def test_races_for_a_worn_token(server: AwsServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that find a worn token at once one gets its heir, and no token is lost."""
    monkeypatch.setattr(sqs_queue, "WORN", -10.0)
    _race(server, key, racers=8, rounds=3)


def test_fifty_racers_round_after_round(server: AwsServer, key: str) -> None:
    """Of fifty that ask at once one gets the key, from the first run on."""
    _race(server, key, racers=50, rounds=3)


def _race(server: AwsServer, key: str, *, racers: int, rounds: int) -> None:
    """Let nodes race for a key: one wins each round."""
    nodes = [open_node(server.queue_url(), timeout=60.0) for _ in range(racers)]
    for _ in range(rounds):
        answers = race([partial(node.acquire, make_claim(key)) for node in nodes])
        ((node, grant),) = [(node, one) for node, one in zip(nodes, answers) if isinstance(one, Grant)]
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
        assert node.release(grant, make_ending(), keep_hold=False)
    for node in nodes:
        node.close()


def _tokens(node: SqsBackend, key: str) -> list[tuple[str, str]]:
    """Return (id, text) of the tokens that are free, and leave them so."""
    found = ask(node, "ReceiveMessage", key, VisibilityTimeout=30, MaxNumberOfMessages=10).get("Messages", [])
    for one in found:
        ask(node, "ChangeMessageVisibility", key, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0)
    return [(one["MessageId"], one["Body"]) for one in found]


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


# Unsupported


def test_no_forced_release(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """A forced release is refused, and the holder goes on."""
    grant = granted(node.acquire(make_claim(key)))
    with pytest.raises(BackendError, match="a forced release is not supported"):
        other.force_release(key, grant.claim.owner)
    assert node.renew(grant)


def test_conflict_names_no_run(node: SqsBackend, other: SqsBackend, key: str) -> None:
    """A refusal names no holder, and a remaining time of one ttl at most."""
    granted(node.acquire(make_claim(key)))
    conflict = refused(other.acquire(make_claim(key, ttl=30.0)), HELD)
    assert (conflict.run, conflict.fence, conflict.remaining) == (None, None, 30.0)


# Lost tokens


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


# Refusals


class TestURLs(URLs):
    """URLs that are refused."""

    bad_url = (
        ("sqs://", "exactly one queue is needed"),
        ("sqs://a,b", "exactly one queue is needed"),
        ("sqs://queue:1", "exactly one queue is needed"),
        ("sqs://with-hyphen", "without '-'"),
        ("sqs://queue.fifo", "and '.fifo'"),
        ("sqs://" + "a" * 25, "1 to 24 letters"),
        ("sqs://user:secret@queue", "user and password are not supported"),
        ("sqs://queue/path", "a path is not supported"),
        ("sqs://queue?prefix=a", "unknown parameter 'prefix'"),
        ("sqs://queue?create=maybe", "write create=yes"),
        ("sqs://queue?account=12", "write the 12 digits"),
        ("sqs://queue?endpoint=nonsense", "endpoint 'nonsense'"),
        ("sqs://queue?region=no%20region", "is no region"),
    )


def test_queue_of_an_account(server: AwsServer, node: SqsBackend, key: str) -> None:
    """A queue can be named with its account, and is the same one then."""
    place = ask(node, "CreateQueue", key, QueueName=node.queues.name(key), Attributes=sqs_queue.ATTRIBUTES)["QueueUrl"]
    named = open_node(server.queue_url(account=place.split("/")[-2]))
    grant = granted(named.acquire(make_claim(key)))
    refused(node.acquire(make_claim(key)), HELD)
    assert named.release(grant, make_ending(), keep_hold=False)
    granted(node.acquire(make_claim(key)))
    named.close()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, "retention of 345600 s is too short"),
        ({"MessageRetentionPeriod": "60"}, "retention of 60 s is too short"),
        (None, "redrive policy"),
    ],
)
def test_queue_that_loses_tokens(node: SqsBackend, key: str, attributes: dict[str, str] | None, said: str) -> None:
    """A queue made by hand in which a token gets lost is refused, and so does the doctor."""
    if attributes is None:
        dead = f"dead-{key}.fifo"
        ask(node, "CreateQueue", key, QueueName=dead, Attributes=_FIFO)
        arn = node.queues.look_at(dead, node.queues.service.deadline())["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
        attributes = {"MessageRetentionPeriod": str(RETENTION), "RedrivePolicy": policy}
    ask(node, "CreateQueue", key, QueueName=node.queues.name(key), Attributes={**_FIFO, **attributes})
    with pytest.raises(ConfigError, match=said):
        node.acquire(make_claim(key))
    told = node.queues.look_at(node.queues.name(key), node.queues.service.deadline())
    assert [finding.level for finding in examine_queue(told)] == [BAD]


def test_doctor_waits_for_its_queue(gate: Gate) -> None:
    """The doctor waits until AWS knows the queue that it made."""
    url = f"sqs://test{os.urandom(4).hex()}?endpoint={gate.endpoint}"
    node = open_node(url)
    case = probe.Case(URL(url), node, timeout=20.0, ttl=300.0, hold=45.0)
    gate.answers_to = {"GetQueueAttributes": [(400, _NO_QUEUE)] * 3}
    assert next(iter(sqs_doctor.create(case))).text.startswith("made queue")
    assert {one.level for one in sqs_doctor.reach(case)} == {OK}
    node.close()


def test_doctor_knows_other_faults() -> None:
    """A queue of another type, one that delays, one that is full of messages, one that is encrypted."""
    good = {"FifoQueue": "true", "MessageRetentionPeriod": str(RETENTION), "DelaySeconds": "0"}
    assert [*examine_queue(good)] == []
    faults: list[tuple[dict[str, str], str, str]] = [
        ({"FifoQueue": "false"}, "type", BAD),
        ({"DelaySeconds": "5"}, "delay", WARNING),
        ({"ApproximateNumberOfMessages": "500"}, "messages", WARNING),
        ({"KmsMasterKeyId": "alias/mine"}, "encryption", NOTE),
    ]
    for fault, name, level in faults:
        assert [(found.name, found.level) for found in examine_queue({**good, **fault})] == [(name, level)]


def test_foreign_message_is_left_alone(node: SqsBackend, key: str) -> None:
    """A foreign message is returned to the queue, and nothing runs."""
    node.queues.create(key, node.queues.service.deadline())
    ask(node, "SendMessage", key, MessageBody="order 66", MessageGroupId="x", MessageDeduplicationId="x")
    with pytest.raises(ForeignValue, match="order 66"):
        node.acquire(make_claim(key))
    assert [text for _, text in _tokens(node, key)] == ["order 66"]


def test_denied_actions_are_named(gate: Gate, key: str) -> None:
    """A request that the policy does not allow is reported with its action."""
    gate.refuse("AccessDeniedException", "not authorized")
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable, match="no permission for sqs:ReceiveMessage"):
        node.acquire(make_claim(key))
    node.close()
