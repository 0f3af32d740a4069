"""Leases on Redis or Valkey.

    redis://[user:password@]HOST[:6379][/DATABASE]      rediss:// the same with TLS
    redis+unix://[user:password@]/PATH                  ?db=DATABASE

Parameters: ``prefix`` (of the names of keys), ``ca``, ``cert``, ``key`` (TLS files), ``min_replicas``
(a grant or a renewal counts only when so many replicas acknowledged it). Sentinel and Cluster are in
`cronlock.engines.redis.ha`.

Tried with Redis 6.2 and 7.0 and Valkey 9.1; nothing is used that Redis 6.0 lacks. The server's clock
alone judges leases and holds. A run that gets its lease costs two requests, a skip one; the password
goes along in the first one's packet.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue, GivenBack
from ...lease.clock import SystemClock
from ...lease.record import released, run_from_fields, run_from_line, runs_from_lines
from ...lease.timing import Jumps
from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HOLD, RETENTION, Conflict, Grant, Record, Traits
from ..wire.stream import TLS_PARAMS, tls_context
from . import scripts
from .resp import ReplyError, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn, Protocol

    from ...lease.clock import Clock
    from ...lease.vocabulary import Claim, Ending, Run
    from ..url import URL
    from .resp import Command, Reply

    class Transport(Protocol):
        """Where requests go: one server, or the right one of many."""

        name: str

        def ask(self, commands: list[Command], deadline: float) -> list[Reply]:
            """Send `commands`, the first an EVAL, to the server that has its key; return the replies."""

        def masters(self, deadline: float) -> list[Server]:
            """Return the servers that hold the keys."""

        def close(self) -> None:
            """Close all connections; raises nothing."""


_CONFLICTS = (HELD, HOLD, FORGOTTEN, CANCELLED, ENDED)
# The words of each script, and how many numbers follow; the time is the first.
_ANSWERS = {scripts.ACQUIRE: {"granted": 3, **dict.fromkeys(_CONFLICTS, 3)}, scripts.READ: {"record": 3, "none": 1}}
_YES_OR_NO = {"yes": 1, "no": 1}
# Characters of a host's or a program's name that are kept, so that a history stays small.
_LONGEST_TEXT = 100
# Of a listing, so that it ends whatever the server says; a page passes over a hundred names.
_MOST_PAGES = 1_000_000


def open_backend(url: URL, timeout: float) -> RedisBackend:
    """Return the backend for a URL of one server; raise ConfigError for a bad one."""
    unix = url.scheme == "redis+unix"
    params = url.take_params(("prefix", "min_replicas", *(("db",) if unix else TLS_PARAMS)))
    if unix:
        if url.hosts or len(url.path) < 2:
            raise ConfigError(f"{url}: names no socket; write redis+unix:///PATH")
        place: tuple[str, int] | str = url.path
        database = number(url, "db", params.get("db", "0"))
    else:
        hosts = url.need_hosts(6379)
        if len(hosts) > 1:
            raise ConfigError(f"{url}: names several hosts; use redis+sentinel:// or redis+cluster:// for that")
        place = hosts[0]
        database = number(url, "the database", url.path[1:] or "0")
    tls = tls_context(str(url), params) if url.scheme == "rediss" else None
    if tls is None and any(name in params for name in TLS_PARAMS):
        raise ConfigError(f"{url}: ca, cert and key are for TLS; use rediss://")
    server = Server(str(url), place, credentials=credentials(url), tls=tls)
    return RedisBackend(server, url, timeout, database=database)


def credentials(url: URL) -> tuple[str | None, str] | None:
    """Return user (None: the default one) and password, or None; raise ConfigError for half of them."""
    if url.password is None:
        if url.user is not None:
            raise ConfigError(f"{url}: has a user without a password; write user:password@")
        return None
    return url.user, url.password


def number(url: URL, what: str, text: str) -> int:
    """Return the small number that `text` is; raise ConfigError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ConfigError(f"{url}: {what} must be a number, not {text!r}")
    return int(text)


class RedisBackend:
    """The rules of leases over any `Transport`."""

    def __init__(
        self, transport: Transport, url: URL, timeout: float, *, database: int = 0, clock: Clock | None = None
    ) -> None:
        self.traits = Traits(fencing=True, shortest_ttl=1.0, longest_ttl=365 * 86400.0, granularity=0.001)
        self.notices: list[str] = []
        self._transport = transport
        self._prefix = url.prefix() + ":"
        self._timeout = timeout
        self._database = str(database)
        self._min_replicas = number(url, "min_replicas", url.params.get("min_replicas", "0"))
        self._clock: Clock = clock or SystemClock()
        self._jumps = Jumps(transport.name)
        #: Whose lease was granted last and not acknowledged.
        self._unwanted: str | None = None

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `Backend.acquire`.

        Raises GivenBack when too few replicas acknowledged the grant.
        """
        deadline = self._deadline()
        if claim.owner == self._unwanted:
            # Giving it back failed, or seemed to: then the server might refuse this owner for good.
            self._give_back(claim, deadline)
        sight = claim.sight
        answer, acknowledged = self._write(
            scripts.ACQUIRE,
            claim,
            deadline,
            _microseconds(claim.ttl),
            _microseconds(claim.hold),
            "1" if claim.ignore_hold else "0",
            str(sight.floor if sight else 0),
            _microseconds(sight.age if sight else 0),
            _microseconds((sight and sight.noticed_age) or 0),
            _microseconds(claim.doubt),
            claim.host[:_LONGEST_TEXT],
            str(claim.pid),
            claim.program[:_LONGEST_TEXT],
            f"{claim.ttl:.3f}",
            *(() if claim.standby_for is None else (claim.standby_for,)),
        )
        if answer[0] in _CONFLICTS:
            run = _latest(answer[4:])
            return Conflict(answer[0], remaining=_seconds(answer[2]), run=run, fence=int(answer[3]) or None)
        if not acknowledged:
            self._give_back(claim, deadline)
        fence, took_over = int(answer[2]), int(answer[3]) or None
        return Grant(claim, fence=fence, ttl=claim.ttl, previous=_previous(answer[4:]), took_over=took_over)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on; False when it is no longer ours.

        A renewal that too few replicas acknowledged is no positive answer: BackendUnavailable.
        """
        deadline = self._deadline()
        answer, acknowledged = self._write(scripts.RENEW, grant.claim, deadline, _microseconds(grant.ttl))
        if answer[0] == "yes" and not acknowledged:
            raise BackendUnavailable(self._unacknowledged("the renewal does not count"))
        return answer[0] == "yes"

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; False when it was not ours."""
        claim = grant.claim
        status = "" if ending.status is None else str(ending.status)
        words = (_retention(claim), "1" if keep_hold else "0", ending.outcome, status)
        return self._evaluate(scripts.RELEASE, claim.key, claim.owner, self._deadline(), *words)[0][0] == "yes"

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came, and refuse one that comes late."""
        self._evaluate(scripts.ABANDON, claim.key, claim.owner, self._deadline(), _retention(claim))

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; False if it was not theirs."""
        kept = f"{RETENTION * 1000:.0f}"
        return self._evaluate(scripts.FORCE_RELEASE, key, owner, self._deadline(), kept)[0][0] == "yes"

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, changing nothing."""
        answer, _ = self._evaluate(scripts.READ, key, "", self._deadline(), "0")
        if answer[0] == "none":
            return None
        fields = _pairs(answer[4:])
        run = run_from_fields(fields)
        return Record(
            run=released(run, by_force=run is not None and fields.get("forced") == run.owner),
            remaining=_seconds(answer[2]),
            hold_remaining=_seconds(answer[3]),
            last=run_from_fields(fields, "last_"),
            history=runs_from_lines(fields.get("history", ""), but=run),
            success=run_from_line(fields.get("success", "")),
        )

    def watch(self, key: str) -> None:
        """Return None: servers tell of changes only where they were configured to."""

    def keys(self) -> Iterator[str]:
        """List the keys, in requests of about a hundred; `timeout` limits each of these."""
        listed: set[str] = set()
        for server in self._transport.masters(self._deadline()):
            cursor = b"0"
            for _ in range(_MOST_PAGES):
                before = cursor
                cursor, names = self._scan(server, cursor)
                for name in names:
                    if name not in listed:  # SCAN may show a name twice.
                        listed.add(name)
                        yield name
                if cursor == b"0":
                    break
                if cursor == before:
                    raise self._senseless()

    @property
    def transport(self) -> Transport:
        """The way to the servers, for who looks at these rather than at keys."""
        return self._transport

    def close(self) -> None:
        """Close the connections; raises nothing."""
        self._transport.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _write(self, script: str, claim: Claim, deadline: float, *words: str) -> tuple[list[str], bool]:
        """Run `script`, watch the server's clock, and say whether enough replicas acknowledged."""
        sent = self._clock.now()
        answer, replicas = self._evaluate(
            script, claim.key, claim.owner, deadline, _retention(claim), *words, wait=self._min_replicas > 0
        )
        self._compare_clocks(claim.owner, sent, _seconds(answer[1]))
        return answer, replicas >= self._min_replicas

    def _evaluate(
        self, script: str, key: str, owner: str, deadline: float, *words: str, wait: bool = False
    ) -> tuple[list[str], int]:
        """Run `script`; return its answer and how many replicas acknowledged all that was written."""
        arguments = [_bytes(word) for word in (self._prefix + key, self._database, owner, *words)]
        commands: list[Command] = [[b"EVAL", script.encode(), b"1", *arguments]]
        if wait:
            # Half of the time: the rest is for giving the lease back.
            milliseconds = max(1, int((deadline - time.monotonic()) * 500))
            commands.append([b"WAIT", b"%d" % self._min_replicas, b"%d" % milliseconds])
        answers = self._transport.ask(commands, deadline)
        for answer in answers:
            if isinstance(answer, ReplyError):
                # A read-only replica, say: another server may be the right one next time.
                self._transport.close()
                raise answer.refusal(self._transport.name)
        answer, *waited = answers
        told = [_text(word) if isinstance(word, bytes) else "" for word in answer] if isinstance(answer, list) else []
        if told[:1] == ["foreign"] and told[-1].isprintable():
            raise ForeignValue(
                f"{self._transport.name}: {self._prefix}{key} holds {told[-1][:60]}; nothing was changed:"
                " remove it, or use another key or prefix="
            )
        if not _well_formed(told, script):
            raise self._senseless()
        replicas = waited[0] if waited else 0
        return told, replicas if isinstance(replicas, int) else 0

    def _scan(self, server: Server, cursor: bytes) -> tuple[bytes, list[str]]:
        commands: list[Command] = [
            [b"SELECT", _bytes(self._database)],
            [b"SCAN", cursor, b"MATCH", _bytes(self._prefix) + b"*", b"COUNT", b"100", b"TYPE", b"hash"],
        ]
        if self._database == "0":
            del commands[0]  # The least of ACL rules does without SELECT.
        *selected, page = server.ask(commands, self._deadline())
        for answer in (*selected, page):
            if isinstance(answer, ReplyError):
                raise answer.refusal(server.name)
        if not isinstance(page, list) or len(page) != 2:
            raise self._senseless()
        following, names = page
        if not isinstance(following, bytes) or not isinstance(names, list):
            raise self._senseless()
        return following, [_text(name)[len(self._prefix) :] for name in names if isinstance(name, bytes)]

    def _compare_clocks(self, owner: str, sent: float, server: float) -> None:
        notice = self._jumps.see(owner, sent, self._clock.now(), server)
        if notice is not None:
            self.notices.append(notice)

    def _give_back(self, claim: Claim, deadline: float) -> NoReturn:
        self._unwanted = claim.owner
        self._evaluate(scripts.ABANDON, claim.key, claim.owner, deadline, _retention(claim))
        raise GivenBack(self._unacknowledged("the lease was given back"))

    def _unacknowledged(self, consequence: str) -> str:
        return (
            f"{self._transport.name}: fewer than min_replicas={self._min_replicas} replicas acknowledged in time;"
            f" {consequence}"
        )

    def _senseless(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self._transport.name}: the server gave a senseless answer: is it Redis or Valkey?")


def _bytes(text: str) -> bytes:
    # Names of programs and hosts may hold bytes that are no text.
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6


def _retention(claim: Claim) -> str:
    """Return for how many milliseconds the server keeps a hash that nobody uses."""
    return f"{(RETENTION + max(claim.ttl, claim.hold)) * 1000:.0f}"


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2]))


def _latest(words: list[str]) -> Run | None:
    """Return the run that an answer tells, be it one that ended or not."""
    fields = _pairs(words)
    return run_from_fields(fields) or run_from_fields(fields, "last_")


def _previous(words: list[str]) -> Run | None:
    """Return the run before a grant; what is wrong with its fields does not undo the grant."""
    try:
        return _latest(words)
    except ForeignValue:
        return None


def _well_formed(answer: list[str], script: str) -> bool:
    """Tell whether `answer` begins with a word that `script` gives, and the numbers that belong to it."""
    numbers = _ANSWERS.get(script, _YES_OR_NO).get(answer[0] if answer else "", 0)
    digits = answer[1 : 1 + numbers]
    return 0 < len(digits) == numbers and all(word.isascii() and word.isdigit() and len(word) < 20 for word in digits)
