"""Requests to SQS about a key's queue, one in each method, and their replies."""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...value import Value, digits
from ..wire.stream import ServerBusy, protocol_error, retry_while_busy
from . import queue as sqs_queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ...lease.vocabulary import Claim
    from ..wire.aws_json import JsonService, Reply
    from .queue import Message

    _T = TypeVar("_T")

#: Codes for a handle that is not, or no longer, of a message in flight.
_INVALID = ("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "InvalidParameterValueException")
_NO_QUEUE = ("QueueDoesNotExist", "NonExistentQueue")
#: The attributes that count a queue's tokens.
VISIBLE = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
INVISIBLE = ("ApproximateNumberOfMessagesNotVisible",)
#: The attributes that a run reads.
LOOKED_AT = (*VISIBLE, *INVISIBLE, "FifoQueue", "MessageRetentionPeriod", "RedrivePolicy")


class NoQueue(ConfigError):
    """There is no such queue; any request about one raises it."""


class Asking(Value):
    """A run's request for a token, however often it is repeated."""

    claim: Claim
    #: Boot time from before it was asked for first.
    since: float
    #: To SQS, repetitions of the same attempt are one request.
    attempt: int = 0

    def anew(self) -> Asking:
        """Return this request as another attempt."""
        self.attempt += 1
        return self


class Queues:
    """The queues of one account whose names begin with `base`. Of each method, see `JsonService.call`."""

    def __init__(self, name: str, service: JsonService, base: str, account: str) -> None:
        """`name` begins every error; without an `account` it is that of the credentials."""
        self._name = name
        self.service = service
        self._base = base
        self._account = account

    def receive(self, asking: Asking, visibility: int, deadline: float) -> Message | None:
        """Return the token if SQS delivers it; ask in another way once this one is not to be repeated."""
        key = asking.claim.key
        request = {
            "QueueUrl": self._queue_url(key),
            "MaxNumberOfMessages": 1,
            "VisibilityTimeout": visibility,
            "WaitTimeSeconds": 0,
            "ReceiveRequestAttemptId": sqs_queue.attempt_id(asking.claim.owner, asking.attempt),
            "AttributeNames": ["SentTimestamp"],
            "MessageSystemAttributeNames": ["SentTimestamp"],
        }
        reply = self._ask("ReceiveMessage", request, deadline, _INVALID)
        if reply.code in _INVALID and "AttemptId" in str(reply.body):
            # The message of the first such request was returned or lost since.
            request["ReceiveRequestAttemptId"] = sqs_queue.attempt_id(asking.claim.owner, asking.anew().attempt)
            reply = self._ask("ReceiveMessage", request, deadline)
        if reply.code:
            raise self._protocol_error(f"refuses to be asked for a message: {reply.says or reply.code}")
        return self._message(key, reply.body, deadline)

    def _message(self, key: str, answer: dict[str, Any], deadline: float) -> Message | None:
        """Return the token of a reply, or None; return a foreign message to the queue."""
        messages = answer.get("Messages") or []
        if not messages:
            return None
        try:
            return sqs_queue.read_message(messages[0], self.service.times.now())
        except ForeignValue as error:
            handle = messages[0]["ReceiptHandle"]
            self.change(key, handle, 0, deadline)
            raise ForeignValue(
                f"{self._name}: queue {self.name(key)}: {error}; delete it, or use another QUEUE"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._protocol_error(str(error)) from error

    def change(self, key: str, handle: str, visibility: int, deadline: float) -> bool:
        """Let a token in flight be so for `visibility` seconds more; False when it is not in flight for us."""
        request = {"QueueUrl": self._queue_url(key), "ReceiptHandle": handle, "VisibilityTimeout": visibility}
        try:
            return not self._ask("ChangeMessageVisibility", request, deadline, _INVALID).code
        except NoQueue:
            return False

    def delete_token(self, key: str, handle: str, deadline: float) -> bool:
        """Delete a token in flight; False when it is not in flight for us."""
        request = {"QueueUrl": self._queue_url(key), "ReceiptHandle": handle}
        return not self._ask("DeleteMessage", request, deadline, _INVALID).code

    def send(self, key: str, body: str, identity: str, deadline: float) -> None:
        """Send a token, unless one of that identity was sent within the last five minutes."""
        self._ask(
            "SendMessage",
            {
                "QueueUrl": self._queue_url(key),
                "MessageBody": f"{body}\nWho received this has the key {key!a}. Do not delete it.",
                "MessageGroupId": sqs_queue.GROUP,
                "MessageDeduplicationId": identity,
            },
            deadline,
        )

    def look(self, key: str, deadline: float) -> dict[str, str]:
        """Return what a run must know of the key's queue, by name."""
        return self._attributes(self._queue_url(key), LOOKED_AT, deadline)

    def look_at(self, name: str, deadline: float) -> dict[str, str]:
        """Return all that SQS tells of the queue `name`, by name."""
        return self._attributes(self._prefix() + name, ("All",), deadline)

    def _attributes(self, queue_url: str, names: tuple[str, ...], deadline: float) -> dict[str, str]:
        request = {"QueueUrl": queue_url, "AttributeNames": list(names)}
        found = self._ask("GetQueueAttributes", request, deadline).body.get("Attributes")
        if not isinstance(found, dict):
            raise self._protocol_error("no attributes")
        return {str(name): str(value) for name, value in found.items()}

    def create(self, key: str, deadline: float) -> None:
        """Make the key's queue, which may be there already."""
        self._ask("CreateQueue", {"QueueName": self.name(key), "Attributes": sqs_queue.ATTRIBUTES}, deadline)

    def all_names(self, most: int, deadline: float) -> list[str]:
        """Return the names of the queues that begin with `base`, `most` of them."""
        request = {"QueueNamePrefix": f"{self._base}-", "MaxResults": most}
        urls = self._ask("ListQueues", request, deadline).body.get("QueueUrls") or []
        if not isinstance(urls, list):
            raise self._protocol_error("no list of queues")
        return sorted(str(url).rpartition("/")[2] for url in urls)[:most]

    def once_there(self, key: str, work: Callable[[], _T], deadline: float) -> _T:
        """Do `work` again until the queue of `key`, just made, is known to all requests, for which AWS wants a second.

        Raises ServerBusy if it is not by monotonic time `deadline`.
        """

        def attempt() -> _T:
            try:
                return work()
            except NoQueue as error:
                text = f"{self._name}: queue {self.name(key)} was made just now and is not ready yet"
                raise ServerBusy(text) from error

        return retry_while_busy(deadline, attempt)

    def name(self, key: str) -> str:
        """Return the name of the key's queue."""
        return sqs_queue.queue_name(self._base, key)

    def _queue_url(self, key: str) -> str:
        """Return what requests call the key's queue: SQS takes a name for the URL of one of the asking account."""
        return self._prefix() + self.name(key)

    def _prefix(self) -> str:
        return f"{self.service.endpoint.rstrip('/')}/{self._account}/" if self._account else ""

    def _ask(self, action: str, request: dict[str, Any], deadline: float, known: tuple[str, ...] = ()) -> Reply:
        reply = self.service.call(action, request, deadline, (*known, *_NO_QUEUE))
        if reply.code in _NO_QUEUE:
            raise NoQueue(self._missing(request))
        return reply

    def _protocol_error(self, what: str) -> BackendUnavailable:
        return protocol_error(self._name, "SQS", what[:100])

    def _missing(self, request: dict[str, Any]) -> str:
        queue = str(request.get("QueueUrl")).rpartition("/")[2]
        attributes = ",".join(f"{name}={value}" for name, value in sqs_queue.ATTRIBUTES.items())
        return (
            f"{self._name}: there is no queue {queue}: runs make it with ?create=yes; or make it with: "
            f"aws sqs create-queue --queue-name {queue} --attributes {attributes}"
        )


def count(attributes: dict[str, str], names: tuple[str, ...]) -> int:
    """Return how many messages there are in the states `names`."""
    return sum(digits(attributes.get(name, "")) or 0 for name in names)
