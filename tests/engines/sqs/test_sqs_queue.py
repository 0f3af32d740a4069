"""The queue of a key and its tokens: who makes them, and who gets them."""

from __future__ import annotations

from functools import partial

import pytest

from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.queue import RETENTION, queue_name
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD, Conflict, Grant, Watermark
from cronlock.testing import LONG, NASTY_KEYS, granted, make_claim, make_ending, refused
from cronlock.testing.hooks import race
from labs.servers.aws import AwsServer
from labs.servers.aws_gate import Gate

from .sqs_nodes import NO_QUEUE, ask, free_tokens, open_node, receive, send_seed


def test_new_queue_that_is_not_there_at_once(gate: Gate, key: str) -> None:
    """A queue that AWS does not know yet, though it was just made, is asked for again until it does."""
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}&create=yes")
    gate.answers_to = {"SendMessage": [(400, NO_QUEUE)] * 3, "ReceiveMessage": [(400, NO_QUEUE)] * 2}
    granted(node.acquire(make_claim(key)))
    assert gate.actions.count("CreateQueue") == 1
    node.close()


def test_new_queue_that_is_not_there_in_time(gate: Gate, key: str) -> None:
    """One that AWS does not know within the time limit is not ready yet."""
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}&create=yes", timeout=4.0)
    gate.answers_to = {"SendMessage": [(400, NO_QUEUE)] * 100}
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
    before = free_tokens(node, key)
    monkeypatch.setattr(sqs_queue, "WORN", -10.0)
    grant = granted(node.acquire(make_claim(key)))
    refused(other.acquire(make_claim(key)), HELD)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    after = free_tokens(node, key)
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
