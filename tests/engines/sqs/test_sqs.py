"""SQS on two emulators: the contract, what it does not support, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, OK, WARNING
from cronlock.engines.sqs import doctor as sqs_doctor
from cronlock.engines.sqs import queue as sqs_queue
from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.doctor import examine_queue
from cronlock.engines.sqs.queue import RETENTION
from cronlock.engines.url import URL
from cronlock.errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.vocabulary import HELD
from cronlock.testing import Hooks, LeaseContract, granted, make_claim, make_ending, refused
from labs.servers.aws import AwsServer
from labs.servers.aws_gate import Gate

from ..faults import URLs
from .sqs_nodes import NO_QUEUE, SqsHooks, ask, free_tokens, open_node

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
    gate.answers_to = {"GetQueueAttributes": [(400, NO_QUEUE)] * 3}
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
    """A foreign message is returned to the queue, nothing runs, and what it says is not repeated."""
    node.queues.create(key, node.queues.service.deadline())
    ask(node, "SendMessage", key, MessageBody="order 66", MessageGroupId="x", MessageDeduplicationId="x")
    with pytest.raises(ForeignValue, match="a message that is not cronlock's; delete it") as caught:
        node.acquire(make_claim(key))
    assert "66" not in str(caught.value).replace(key, "")
    assert [text for _, text in free_tokens(node, key)] == ["order 66"]


def test_denied_actions_are_named(gate: Gate, key: str) -> None:
    """A request that the policy does not allow is reported with its action."""
    gate.refuse("AccessDeniedException", "not authorized")
    node = open_node(f"sqs://cronlock?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable, match="no permission for sqs:ReceiveMessage"):
        node.acquire(make_claim(key))
    node.close()
