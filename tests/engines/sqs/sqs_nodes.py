"""Nodes on SQS for its tests: hooks, looks behind a node's back, and what SQS does that no emulator does."""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cronlock.engines.registry import open_backend
from cronlock.engines.sqs.backend import SqsBackend
from cronlock.engines.sqs.queue import GROUP, SEED
from cronlock.engines.sqs.wire import Queues
from cronlock.lease.clock import SystemClock
from cronlock.lease.vocabulary import Conflict, Grant
from cronlock.testing import LONG, Hooks, eventually, granted
from labs.servers.process import HOST

if TYPE_CHECKING:
    from cronlock.engines.sqs.queue import Message
    from cronlock.engines.sqs.wire import Asking
    from cronlock.lease.vocabulary import Backend, Claim

#: Long enough for any request on a loaded machine, in seconds.
PATIENT = 20.0


def open_node(url: str, timeout: float = PATIENT) -> SqsBackend:
    """Return one more node."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, SqsBackend)
    return backend


def ask(node: SqsBackend, action: str, key: str, **fields: Any) -> dict[str, Any]:
    """Ask SQS about a key's queue behind everybody's back."""
    service = node.queues.service
    return service.call(action, {"QueueUrl": node.queues.name(key), **fields}, service.deadline()).body


def receive(node: SqsBackend, key: str, seconds: int) -> str | None:
    """Receive a key's token directly; return its handle, None if it is not delivered."""
    found = ask(node, "ReceiveMessage", key, VisibilityTimeout=seconds, WaitTimeSeconds=0).get("Messages")
    return str(found[0]["ReceiptHandle"]) if found else None


def send_seed(node: SqsBackend, key: str) -> None:
    """Send one more token, as a node does that found none."""
    ask(node, "SendMessage", key, MessageBody=SEED, MessageGroupId=GROUP, MessageDeduplicationId=uuid.uuid4().hex)


def take_in_the_end(node: SqsBackend, claim: Claim) -> Grant:
    """Ask until the key's token comes back, which it must."""
    answers: list[Grant | Conflict] = []

    def take() -> bool:
        answers.append(node.acquire(claim))
        return isinstance(answers[-1], Grant)

    eventually(take, "the token came back", pause=0.1)
    return granted(answers[-1])


class SetClock:
    """This machine's clock, which a test sets forward."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self.ahead = 0.0

    def now(self) -> float:
        """Return boot time, in seconds."""
        return self._real.now() + self.ahead

    def wall(self) -> float:
        """Return epoch time, in seconds."""
        return self._real.wall() + self.ahead


class _Watched(Queues):
    """Queues whose last handles the test knows, by key."""

    def __init__(self, queues: Queues, handles: dict[str, str]) -> None:
        self.__dict__.update(queues.__dict__)
        self._handles = handles

    def receive(self, asking: Asking, visibility: int, deadline: float) -> Message | None:
        """Receive, and tell the test."""
        message = super().receive(asking, visibility, deadline)
        if message is not None:
            self._handles[asking.claim.key] = message.handle
        return message


class SqsHooks(Hooks):
    """Time passes by setting the nodes' clocks forward, and giving the token back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._handles: dict[str, str] = {}
        #: Handles of those whose holder died, and of those whose hold is over.
        self._lapsed: set[str] = set()
        self._not_held: set[str] = set()
        self._nodes: list[tuple[SqsBackend, SetClock]] = []

    def open(self) -> Backend:
        """Return one more node, with a clock of its own."""
        node, clock = open_node(self._url), SetClock()
        node.use_clock(clock)
        node.queues = _Watched(node.queues, self._handles)
        self._nodes.append((node, clock))
        return node

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Let the node's clock say that its lease is over, and give the token back unless there is a hold."""
        clock = next(clock for one, clock in self._nodes if one is node)
        clock.ahead += grant.ttl + 3.0
        handle = self._handles[grant.claim.key]
        self._lapsed.add(handle)
        if not grant.claim.hold or handle in self._not_held:
            self._give_back(grant.claim.key)

    def end_hold(self, node: Backend, key: str) -> None:
        """Let the holder think that its hold is over; where none lives, give the token back, as late as that is."""
        handle = self._handles[key]
        self._not_held.add(handle)
        known = [one.tokens[key] for one, _ in self._nodes if key in one.tokens]
        live = [token for token in known if token.handle == handle and handle not in self._lapsed]
        for token in live:
            token.held_until = -1.0
        if not live:
            for _, clock in self._nodes:
                clock.ahead += 2 * LONG
            self._give_back(key)

    def _give_back(self, key: str) -> None:
        node, _ = self._nodes[0]
        assert node.queues.change(key, self._handles[key], 0, node.queues.service.deadline())


@contextmanager
def knowing_attempts(target: int) -> Iterator[int]:
    """Stand before an emulator as SQS does with `ReceiveRequestAttemptId`; yield the port.

    Who repeats an attempt is given the same message again, unless that was changed since: then the attempt is not
    valid any more (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html).
    """
    answers: dict[str, tuple[bytes, str]] = {}
    changed: set[str] = set()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            fields = json.loads(data)
            attempt = fields.get("ReceiveRequestAttemptId")
            with lock:
                if attempt in answers and answers[attempt][1] in changed:
                    text = (
                        f"Value {attempt} for parameter ReceiveRequestAttemptId is invalid. Reason: not valid anymore."
                    )
                    error = {"__type": "com.amazonaws.sqs#InvalidParameterValueException", "message": text}
                    return self._say(400, json.dumps(error).encode())
                if attempt in answers:
                    return self._say(200, answers[attempt][0])
                status, body = self._pass_on(data)
                messages = json.loads(body).get("Messages") if attempt else None
                if messages:
                    answers[attempt] = body, messages[0]["ReceiptHandle"]
                if "ReceiptHandle" in fields:
                    changed.add(fields["ReceiptHandle"])
            return self._say(status, body)

        def _pass_on(self, data: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(HOST, target, timeout=PATIENT)
            connection.request("POST", self.path, data, dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            return answer.status, body

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


NO_QUEUE = json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}).encode()


def free_tokens(node: SqsBackend, key: str) -> list[tuple[str, str]]:
    """Return (id, text) of the tokens that are free, and leave them so."""
    found = ask(node, "ReceiveMessage", key, VisibilityTimeout=30, MaxNumberOfMessages=10).get("Messages", [])
    for one in found:
        ask(node, "ChangeMessageVisibility", key, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0)
    return [(one["MessageId"], one["Body"]) for one in found]
