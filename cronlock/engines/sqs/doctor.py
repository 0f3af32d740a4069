"""The checks of ``cronlock doctor`` on SQS: a queue of its own, and the keys' queues if it may list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at
from ...doctor.probe import PROGRAM
from ...errors import BackendUnavailable, ConfigError
from ..wire import aws_doctor
from ..wire.aws import Denied
from ..wire.doctor import judge_made, judge_server_clock
from ..wire.stream import ServerBusy
from .backend import SqsBackend
from .queue import ATTRIBUTES, RETENTION
from .wire import INVISIBLE, VISIBLE, NoQueue, Queues, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case

#: How many queues are looked at.
_MOST = 100
#: More tokens than a queue comes to have by tokens that were replaced, or sent by two at once.
_MANY_TOKENS = 20


def create(case: Case) -> Iterator[Finding]:
    """Make the doctor's own queue, unless it is there."""
    queues, key = _queues_of(case)
    name = queues.name(key)
    try:
        queues.look(key, case.deadline())
        yield judge_made(f"queue {name}", made=False)
    except NoQueue:
        queues.create(key, case.deadline())
        deadline = case.deadline()
        try:
            queues.once_there(key, lambda: queues.look(key, deadline), deadline)
        except ServerBusy:
            pass  # The next check finds out.
        yield judge_made(f"queue {name}", made=True)
    if case.url.params.get("create") != "yes":
        attributes = ",".join(f"{one}={value}" for one, value in ATTRIBUTES.items())
        text = f"write create=yes into the URL, or make {queues.name('KEY')} with {attributes}"
        yield Finding("create", NOTE, f"each key needs a queue of its own: {text}")


def reach(case: Case) -> Iterator[Finding]:
    """Ask for the doctor's own queue, which takes credentials, endpoint and permission.

    Raises BackendUnavailable, and ConfigError.
    """
    queues, key = _queues_of(case)

    def look() -> None:
        try:
            queues.look(key, case.deadline())
        except NoQueue:
            if case.url.params.get("create") != "yes":
                raise ConfigError(f"there is no queue {queues.name(key)} for doctors") from None

    yield from aws_doctor.reach(queues.service, "queue", look, make="make it: cronlock doctor --create")


def examine(case: Case) -> Iterator[Finding]:
    """Look at the queues, and at the clock."""
    text = "SQS keeps none: no fence, no standby, no forced release; it shows only whether a key is held"
    yield Finding("records", NOTE, text)
    queues, key = _queues_of(case)
    times = queues.service.times
    if times.known:
        yield judge_server_clock(times, queues.service.clock.wall(), 0.0)
    if case.url.params.get("create") == "yes":
        yield from _creating(case, queues, key)
    names = [queues.name(key)]
    try:
        names = queues.all_names(_MOST, case.deadline()) or names
    except BackendUnavailable:
        yield Finding("queues", NOTE, "cannot list them (sqs:ListQueues): only the doctor's own is looked at")
    looked_at, wrong = 0, False
    for name in names:
        try:
            attributes = queues.look_at(name, case.deadline())
        except NoQueue:
            continue  # The lease has shown why, or it was deleted just now.
        looked_at += 1
        for found in at(name, examine_queue(attributes)):
            wrong = True
            yield found
    if looked_at and not wrong:
        yield Finding("queues", OK, f"{looked_at} looked at: FIFO, messages kept for 14 days, none dropped")


def examine_queue(attributes: dict[str, str]) -> Iterator[Finding]:
    """Say what is wrong with one queue, from its attributes."""
    kept, delay, key = (
        attributes.get(name, "") for name in ("MessageRetentionPeriod", "DelaySeconds", "KmsMasterKeyId")
    )
    tokens = count(attributes, (*VISIBLE, *INVISIBLE))
    if attributes.get("FifoQueue") != "true":
        text = "not a FIFO queue: it may deliver a token twice"
        yield Finding("type", BAD, text, "recreate it with FifoQueue=true")
    if attributes.get("RedrivePolicy"):
        text = "has a redrive policy: after some runs the token is dropped"
        yield Finding("redrive policy", BAD, text, "remove it: set-queue-attributes --attributes RedrivePolicy=")
    if kept != str(RETENTION):
        text = f"keeps messages for {kept} s only: the token ends with them"
        yield Finding("retention", BAD, text, f"set MessageRetentionPeriod={RETENTION}, which is 14 days")
    if delay != "0":
        text = f"delays messages by {delay} s: a new token is not delivered until then"
        yield Finding("delay", WARNING, text, "set DelaySeconds=0")
    if tokens > _MANY_TOKENS:
        text = f"has {tokens} messages, where one token is enough: another program sends to it"
        remedy = "make sure that only cronlock uses it, and purge it while nothing runs"
        yield Finding("messages", WARNING, text, remedy)
    if key:
        yield Finding("encryption", NOTE, f"encrypted with {key}: runs need kms:Decrypt and kms:GenerateDataKey of it")


def _creating(case: Case, queues: Queues, key: str) -> Iterator[Finding]:
    """Find out whether runs may make queues, by the doctor's own: to make that again changes nothing."""
    try:
        queues.create(key, case.deadline())
    except Denied as error:
        remedy = "allow sqs:CreateQueue, or make each key's queue and leave out create=yes"
        yield Finding("create", WARNING, f"a new key's first run cannot make its queue: {error}", remedy)
    except BackendUnavailable:
        pass  # It was made with other attributes, which is allowed.


def _queues_of(case: Case) -> tuple[Queues, str]:
    """Return the backend's queues, and the key of the doctor's, which is the same on all machines.

    It stays for all of them: a deleted queue cannot be recreated for a minute.
    """
    assert isinstance(case.backend, SqsBackend)
    case.key = PROGRAM
    return case.backend.queues, PROGRAM
