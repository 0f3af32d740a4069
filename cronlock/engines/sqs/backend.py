"""Amazon SQS: one FIFO queue for each key with one message in it; the run that received the message has the key.

Acquiring is receiving, with the ttl (or the hold, if that is longer) as visibility timeout. Renewing and releasing
change that timeout: to the ttl, to what is left of the hold, or to nothing. SQS knows neither the holder, nor since
when, nor how the last run ended. So there is no fence, no record and no standby, and a hold looks like a lease. A run
takes two requests, a skip two (the second checks that there is a token at all), and a worn token five, every two days.

A receipt handle is the only proof that a token is ours. Careless servers (moto) accept one that has expired, to the
next holder's harm: so no request uses a handle that can have expired, by this node's boot clock from before the receive
request.

If the reply to a receive request is lost, the token stays with a run that does not know of it. For five minutes SQS
delivers it to the same run again (``ReceiveRequestAttemptId``). On a server without that the lease lapses, and until
then the key's runs are skipped, as they are if a request arrives after its run gave up. Two runs never have the key.
"""

from __future__ import annotations

import time

from ...errors import BackendError, BackendUnavailable, ConfigError, UsageError
from ...lease.clock import SystemClock
from ...lease.vocabulary import HELD, STATE_LOST, Claim, Conflict, Ending, Grant, Pause, Record, Stop, Traits
from ...value import Value, digits
from ..wire import aws, aws_json
from . import queue
from .queue import FLIGHT, LONGEST
from .wire import INVISIBLE, VISIBLE, Asking, NoQueue, Queues, count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.clock import Clock
    from ..url import URL
    from .queue import Message

#: For how long a token is asked for that is to be given back at once, in seconds.
_UNDOING = 10
#: How long a request may take to arrive, in seconds, within the 12 hours that SQS counts.
_ON_ITS_WAY = 30.0


def open_backend(url: URL, timeout: float) -> SqsBackend:
    """Return the backend of an ``sqs://`` URL; raise ConfigError for a bad one."""
    params = url.take_params((*aws.PARAMS, "account", "create"))
    url.forbid_credentials("credentials are found as the AWS tools find them")
    url.forbid_path("write sqs://QUEUE")
    base = url.need_name("exactly one queue is needed; write sqs://QUEUE")
    queue.check_base(str(url), base)
    account = params.get("account", "")
    if account and (len(account) != 12 or digits(account) is None):
        raise ConfigError(f"{url}: account={account}: write the 12 digits of the account that has the queues")
    create = url.flag("create")
    service = aws_json.JsonService(url, "sqs", "AmazonSQS", timeout)
    return SqsBackend(str(url), service, base, account=account, create=create)


class Token(Value):
    """The key's token, as a grant has it; times are of the boot clock."""

    claim: Claim
    handle: str
    #: When it was asked for: SQS counts its 12 hours from later.
    received: float
    #: The end of its visibility timeout.
    until: float
    #: Until when the key must not be free again.
    held_until: float


class SqsBackend:
    """Leases on the FIFO queues of one account whose names begin with `base`."""

    def __init__(self, name: str, service: aws_json.JsonService, base: str, *, account: str, create: bool) -> None:
        self.traits = Traits(shortest_ttl=2.0, longest_ttl=LONGEST, lists_keys=False, records=False)
        self.limit = service.timeout
        self.notices: list[str] = []
        self._name = name
        self._service = service
        self.queues = Queues(name, service, base, account)
        self._create = create
        self.clock: Clock = SystemClock()
        #: This node's tokens, by key.
        self.tokens: dict[str, Token] = {}
        #: The request that was not answered yet.
        self.asking: Asking | None = None

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if its token is there: one request, or two if it is not.

        Raises UsageError for a ttl or a hold that SQS cannot keep, ConfigError for a standby or a hold ignored.
        """
        self._check(claim)
        deadline = self._deadline()
        token = self.tokens.get(claim.key)
        if token is not None and token.claim.owner == claim.owner and self._extend(token, claim.ttl, deadline):
            return Grant(claim, fence=None, ttl=claim.ttl, token=token)
        if self.asking is None or self.asking.claim.owner != claim.owner:
            self.asking = Asking(claim, self.clock.now())
        asking = self.asking
        message = self._take(asking, deadline)
        if message is not None and message.age > queue.WORN:
            message = self._replace(asking, message, deadline)
        if message is None:
            self.asking = None
            return Conflict(HELD, remaining=claim.ttl)
        quarantine = queue.quarantine(message, claim)
        if quarantine:
            # Withheld from all: a node that never saw the key would run it beside a lost lease.
            self.queues.change(claim.key, message.handle, queue.seconds(quarantine), deadline)
            self.asking = None
            return Conflict(STATE_LOST, remaining=quarantine)
        self.asking = None
        token = Token(
            claim,
            message.handle,
            received=asking.since,
            until=asking.since + queue.seconds(max(claim.ttl, claim.hold)),
            held_until=self.clock.now() + claim.hold,
        )
        self.tokens[claim.key] = token
        return Grant(claim, fence=None, ttl=claim.ttl, token=token)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on.

        Raises BackendUnavailable, without asking, when SQS would not keep it for so long: 12 hours in all.
        """
        token = self._token_of(grant)
        if token is None:
            return False
        return aws.mid_run(lambda: self._extend(token, grant.ttl, self._deadline()))

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:  # noqa: ARG002 - no place for it
        """End our lease; how the run ended is not recorded."""
        token = self._token_of(grant)
        if token is None:
            return False
        now = self.clock.now()
        rest = queue.seconds(token.held_until - now) if keep_hold else 0
        within = self._within(token, now)
        ours = aws.mid_run(lambda: self.queues.change(grant.claim.key, token.handle, rest, within))
        self._end(token)
        return ours

    def abandon(self, claim: Claim) -> None:
        """Undo an acquire without a reply.

        Repeating the receive attempt finds the token, if SQS has carried out the first request. If that is still in
        flight, or the server does not support attempts, the lease lapses.
        """
        aws.mid_run(lambda: self._undo(claim, self._deadline()))

    def read(self, key: str) -> Record | None:
        """Return None for a free key, else a record that says only that it is held."""
        try:
            attributes = self.queues.look(key, self._deadline())
        except NoQueue:
            return None
        if not count(attributes, INVISIBLE):
            return None
        return Record(opaque=True)

    def watch(self, key: str) -> None:
        """Return None: SQS tells nothing by itself."""

    def keys(self) -> Iterator[str]:
        """Raise BackendError: the queues of keys in use are not known."""
        raise BackendError(f"{self._name}: SQS cannot list its keys; name the key")

    def force_release(self, key: str, owner: str) -> bool:  # noqa: ARG002 - it is refused for all
        """Raise BackendError: only the run that received the token can return it."""
        raise BackendError(
            f"{self._name}: a forced release is not supported: only the run that received a token can return it; end"
            " that run, or wait for its ttl"
        )

    def pause(self, key: str, pause: Pause, lasts: float | None) -> None:  # noqa: ARG002 - it is refused for all
        """Raise BackendError: SQS keeps no records."""
        raise BackendError(f"{self._name}: SQS keeps no records, so no key can be paused: take the line out")

    def resume(self, key: str) -> None:  # noqa: ARG002 - it is refused for all
        """Raise BackendError: no key is paused."""
        raise BackendError(f"{self._name}: SQS keeps no records, so no key is paused")

    def stop(self, key: str, stop: Stop) -> bool:  # noqa: ARG002 - it is refused for all
        """Raise BackendError: SQS does not know which run has the key."""
        raise BackendError(f"{self._name}: SQS keeps no records, so no run can be asked to end")

    def stop_requested(self, grant: Grant) -> bool:  # noqa: ARG002 - it is the same for all
        """Return False: SQS has no stop requests."""
        return False

    def listener(self, key: str) -> None:
        """Return None: SQS tells nothing by itself."""

    def forget(self, key: str, age: float) -> bool:  # noqa: ARG002 - it is refused for all
        """Raise BackendError: there is no record."""
        raise BackendError(f"{self._name}: SQS keeps no records: delete the key's queue")

    def close(self) -> None:
        """Close the connection."""
        self._service.close()

    def use_clock(self, clock: Clock) -> None:
        """Measure by `clock` from now on; for tests."""
        self.clock = clock
        self._service.use_clock(clock)

    # The rules

    def _check(self, claim: Claim) -> None:
        if claim.standby_for is not None:
            raise ConfigError(f"{self._name}: --standby is not supported: SQS cannot tell whether a run ended or died")
        if claim.ignore_hold:
            raise ConfigError(f"{self._name}: --ignore-hold is not supported: SQS cannot tell a hold from a lease")
        for option, duration in (("--ttl", claim.ttl), ("--min-hold (or half of --every)", claim.hold)):
            if duration > LONGEST:
                raise UsageError(
                    f"{option}: {duration:.0f} s is longer than SQS can keep: at most {LONGEST:.0f} s; shorten it, or "
                    "use another backend"
                )

    def _extend(self, token: Token, ttl: float, deadline: float) -> bool:
        now = self.clock.now()
        if now >= token.until:
            self._end(token)
            return False
        wanted = queue.seconds(max(ttl, token.held_until - now))
        # SQS counts from when it received the request for the token to when it receives this one.
        room = int(token.received + FLIGHT - now - _ON_ITS_WAY)
        if room < queue.seconds(ttl):
            raise BackendUnavailable(
                f"{self._name}: SQS keeps a lease for 12 hours in all, so this one is not renewed any more; use "
                "another backend for longer runs"
            )
        until = now + min(wanted, room)
        deadline = min(deadline, self._within(token, now))
        # The shorter of both, if there is no answer.
        token.until = min(token.until, until)
        if not self.queues.change(token.claim.key, token.handle, min(wanted, room), deadline):
            self._end(token)
            return False
        token.until = until
        return True

    def _undo(self, claim: Claim, deadline: float) -> None:
        token = self.tokens.get(claim.key)
        if token is not None and token.claim.owner == claim.owner:
            now = self.clock.now()
            if now < token.until:
                self.queues.change(claim.key, token.handle, 0, self._within(token, now))
            self._end(token)
        elif self.asking is not None and self.asking.claim.owner == claim.owner:
            asking, self.asking = self.asking, None
            try:
                message = self.queues.receive(asking, _UNDOING, deadline)
            except NoQueue:
                return  # There is nothing to undo.
            if message is not None:
                self.queues.change(claim.key, message.handle, 0, deadline)

    def _token_of(self, grant: Grant) -> Token | None:
        """Return the grant's token, None if it is not its owner's, or over by our clock: given back, say."""
        token, claim = grant.token, grant.claim
        if not isinstance(token, Token) or (token.claim.owner, token.claim.key) != (claim.owner, claim.key):
            return None
        return token if self.clock.now() < token.until else None

    def _end(self, token: Token) -> None:
        """Forget a token that is not ours any more: nothing is asked with it from now on."""
        token.until = -1.0
        if self.tokens.get(token.claim.key) is token:
            del self.tokens[token.claim.key]

    def _deadline(self) -> float:
        return time.monotonic() + self.limit

    def _within(self, token: Token, now: float) -> float:
        """Return the monotonic time by which a request with the token's handle must be done."""
        return min(self._deadline(), time.monotonic() + token.until - now)

    # Taking

    def _take(self, asking: Asking, deadline: float) -> Message | None:
        """Return the key's token if it is delivered; if the queue has none, make one, and the queue if allowed."""
        try:
            message = self._receive(asking, deadline)
        except NoQueue:
            if not self._create:
                raise
            return self._begin(asking, deadline)
        if message is not None:
            return message
        key = asking.claim.key
        attributes = self.queues.look(key, deadline)
        queue.check_attributes(f"{self._name}: queue {self.queues.name(key)}", attributes)
        # A token behind one in flight is not delivered, since all have one group.
        if count(attributes, INVISIBLE):
            return None
        if not count(attributes, VISIBLE):
            self._seed(key, deadline)
        # A short poll may have overlooked it, or its holder has just returned it.
        return self._receive(asking.anew(), deadline)

    def _begin(self, asking: Asking, deadline: float) -> Message | None:
        """Make the queue and its token, and return that unless another is faster."""
        key = asking.claim.key
        self.queues.create(key, deadline)

        def take() -> Message | None:
            self._seed(key, deadline)
            return self._receive(asking.anew(), deadline)

        return self.queues.once_there(key, take, deadline)

    def _seed(self, key: str, deadline: float) -> None:
        # If several nodes find no token within a minute, SQS accepts only the first one's.
        self.queues.send(key, queue.SEED, f"seed-{int(self._service.times.now() // 60)}", deadline)

    def _replace(self, asking: Asking, worn: Message, deadline: float) -> Message | None:
        """Return a new token in place of one that is in flight for us, unless another is faster."""
        key = asking.claim.key
        self.queues.send(key, queue.HEIR, f"heir-{worn.id}", deadline)
        if not self.queues.delete_token(key, worn.handle, deadline):
            return None
        return self._receive(asking.anew(), deadline)

    def _receive(self, asking: Asking, deadline: float) -> Message | None:
        claim = asking.claim
        return self.queues.receive(asking, queue.seconds(max(claim.ttl, claim.hold)), deadline)
