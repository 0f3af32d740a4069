"""The queue of a key and the token in it: names, texts and limits, as pure functions.

Every key has its own FIFO queue with one message, the *token*: the run that received it has the key until its
visibility timeout ends. All tokens are in one message group, of which SQS delivers none while another is in flight: so
a second token is harmless, and may be sent whenever the queue may have none.
"""

from __future__ import annotations

from ...errors import ConfigError, ForeignValue
from ...keys import escape
from ...value import Value, digits
from ..wire.hashes import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...lease.vocabulary import Claim

#: Seconds from its receipt for which SQS lets a message be in flight, whatever the renewals.
FLIGHT = 12 * 3600.0
#: The longest ttl and hold: less than that, since requests take time.
LONGEST = FLIGHT - 60.0
#: The server counts whole seconds, and may begin to count within one.
SLACK = 1.0
#: For how long the queue must keep its messages, in seconds: what SQS allows at most.
RETENTION = 14 * 86400
#: A token of this age is replaced by the run that receives it, so that none expires while in flight.
WORN = 2 * 86400.0
#: A queue that was in use so long ago has not lost its token by age.
SURELY_KEPT = RETENTION - WORN - 2 * FLIGHT
#: The message group of all tokens.
GROUP = "token"
#: How a token begins that was sent since there was none, and one that took the place of a worn one.
SEED, HEIR = "cronlock token 1 seed", "cronlock token 1 heir"
#: The attributes of a new queue.
ATTRIBUTES = {"FifoQueue": "true", "MessageRetentionPeriod": str(RETENTION)}

#: Bytes of a queue's name, the ending included.
_LONGEST_NAME = 80
_ENDING = ".fifo"
LONGEST_BASE = 24
_BASE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_PLAIN = _BASE - {"_"} | {"-"}
_LONGEST_ATTEMPT = 128
# The times at which a token may seem younger than it is: the server's date has whole seconds.
_COARSE = 2.0


class Message(Value):
    """A token as it was received: ours for as long as its visibility timeout lasts."""

    #: The receipt handle, which every change of the message needs.
    handle: str
    #: The message's id, the same for each receipt.
    id: str
    #: Whether it took the place of an earlier token.
    heir: bool
    #: Seconds since it was sent, by the server's clock.
    age: float


def check_base(text: str, base: str) -> None:
    """Raise ConfigError unless `base` can begin the names of queues; `text` begins the message."""
    if not 1 <= len(base) <= LONGEST_BASE or not set(base) <= _BASE:
        raise ConfigError(
            f"{text}: QUEUE is what the names of the keys' queues begin with: use 1 to {LONGEST_BASE} letters, "
            "digits or '_', without '-' and '.fifo'"
        )


def queue_name(base: str, key: str) -> str:
    """Return the name of the queue of `key`: no two keys, nor two bases, give the same.

    Other characters than letters, digits and '-' become _XX of their UTF-8 bytes. What is too long keeps its
    beginning and ends in "__" and a digest, which never come of that.
    """
    name = "".join(chr(byte) if chr(byte) in _PLAIN else f"_{byte:02X}" for byte in key.encode())
    room = _LONGEST_NAME - len(base) - 1 - len(_ENDING)
    if len(name) > room:
        import base64

        digest = base64.urlsafe_b64encode(sha256(key.encode()).digest()).decode().rstrip("=")
        name = f"{name[: room - len(digest) - 2]}__{digest}"
    return f"{base}-{name}{_ENDING}"


def attempt_id(owner: str, number: int) -> str:
    """Return what names the n-th way of asking for a token by `owner`: the end of its id is what is random."""
    return f"{escape(owner)}.{number}"[-_LONGEST_ATTEMPT:]


def read_message(message: Mapping[str, object], now: float) -> Message:
    """Return the token that SQS says it delivered; `now` is the server's time, since the epoch.

    Raises ForeignValue for a foreign message, and ValueError for a malformed one.
    """
    handle, identity, body = message.get("ReceiptHandle"), message.get("MessageId"), message.get("Body")
    attributes = message.get("Attributes")
    sent = attributes.get("SentTimestamp") if isinstance(attributes, dict) else None
    if not isinstance(handle, str) or not isinstance(identity, str) or not isinstance(body, str):
        raise ValueError("a message without a handle, an id or a body")
    if not body.startswith((SEED, HEIR)):
        raise ForeignValue("a message that is not cronlock's")
    sent_at = digits(sent) if isinstance(sent, str) else None
    if sent_at is None:
        raise ValueError("a message without the time when it was sent")
    return Message(handle, identity, heir=body.startswith(HEIR), age=now - sent_at / 1000)


def seconds(duration: float) -> int:
    """Return a visibility timeout that surely lasts for `duration`; 0 for none."""
    return -int(-(duration + SLACK) // 1) if duration > 0 else 0


def quarantine(message: Message, claim: Claim) -> float:
    """Return for how many seconds a lease may go on that the queue lost with an earlier token; 0 if none can.

    If this node saw the key in use, and the token was sent after that although an unused one cannot have expired
    yet, the queue was purged or recreated: at the latest when this token was sent.
    """
    watermark = claim.watermark
    if watermark is None or message.heir or watermark.age > SURELY_KEPT or message.age > watermark.age - _COARSE:
        return 0.0
    return max(0.0, max(claim.quarantine, claim.hold) - message.age)


def check_attributes(name: str, attributes: Mapping[str, str]) -> None:
    """Raise ConfigError for a queue in which a token can get lost."""
    if attributes.get("FifoQueue") != "true":
        raise ConfigError(f"{name}: not a FIFO queue; make it with --attributes FifoQueue=true")
    if attributes.get("RedrivePolicy"):
        raise ConfigError(
            f"{name}: redrive policy: it drops the token after some runs; remove it with "
            "aws sqs set-queue-attributes --attributes RedrivePolicy="
        )
    kept = attributes.get("MessageRetentionPeriod", "?")
    if kept != str(RETENTION):
        raise ConfigError(
            f"{name}: retention of {ascii(kept[:20])[1:-1]} s is too short; set "
            f"MessageRetentionPeriod={RETENTION}, which is 14 days"
        )
