"""memcached: one item for each key, and every change of it one compare-and-swap.

The item holds all that is known of the key: the run, the last ended run, the highest fence, who
gave up, and for how long *from its own writing* lease and hold last. It is written to be kept for
`_KEPT` seconds, so what it has left tells how long ago, by the server's clock, it was written:
that is the clock that leases and holds are judged by. Memcached has no scripts; the judging is
done here, on what was read, and takes effect only if the item is still the one that was read.
So a request that arrives late finds another CAS and does nothing.

Taking a key is therefore two round trips, a read and a swap; being refused is one, and so are a
renewal and a release, which know the CAS from before. An `add` that takes the key blindly would
save one, but a node would learn that the server forgot (its uptime tells) only once others had
seen the key held by a run that may not start; and lease, hold, fence and record would lie in
several items that no single step changes together.

The server counts whole seconds, and its second may end at any moment: n of its seconds are at
least n - 2 of ours. `_SLACK` makes up for that, so a lease never ends early, and up to three
seconds late.
"""

from __future__ import annotations

import time

from .. import record
from ..clock import SystemClock
from ..errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from ..keys import bounded
from ..lease import (
    CANCELLED,
    FORGOTTEN,
    HELD,
    HOLD,
    RETENTION,
    Claim,
    Conflict,
    Ending,
    Grant,
    Record,
    Run,
    Sight,
    Traits,
)
from .meta import Connection
from .network import TLS_PARAMS, Stream, tls_context
from .url import URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    _T = TypeVar("_T")

PORT = 11211
_LONGEST_NAME = 250
#: Seconds; more than 30 days would be taken for a date.
_KEPT = int(RETENTION)
_SLACK = 2.0
#: What memcached gives as its uptime as soon as it runs.
_FIRST_UPTIME = 2
#: How long a server that goes on after a pause may take to set its clock, in seconds.
_SETTLING = 0.05
#: How many owners that ended or gave up an item remembers.
_REMEMBERED = 16
#: Bytes; with every name of such a length an item still fits what is read of it.
_LONGEST_TEXT = 500


def open_backend(url: URL, timeout: float) -> MemcachedBackend:
    """Return the backend of a ``memcached://`` or ``memcacheds://`` URL; raise ConfigError for a bad one."""
    secure = url.scheme == "memcacheds"
    params = url.take_params(("prefix", *TLS_PARAMS) if secure else ("prefix",))
    if url.user is not None or url.password is not None:
        raise ConfigError(f"{url}: takes no user and password; protect memcached by TLS certificates or the network")
    if url.path not in ("", "/"):
        raise ConfigError(f"{url}: takes no path; keys are kept apart by ?prefix=NAME")
    hosts = url.need_hosts(PORT)
    context = tls_context(str(url), params) if secure else None
    return MemcachedBackend(url.scheme, hosts, url.prefix(), timeout, context)


class _State:
    """What an item says. `lease` and `hold` are seconds from now on the server's clock, slack included."""

    __slots__ = ("fence", "gone", "hold", "kept", "kept_run", "last", "lease", "run")

    def __init__(
        self,
        *,
        fence: int = 0,
        run: Run | None = None,
        last: Run | None = None,
        lease: float = 0.0,
        hold: float = 0.0,
        kept: float = 0.0,
        kept_run: Run | None = None,
        gone: tuple[str, ...] = (),
    ) -> None:
        #: The highest fence that was ever granted.
        self.fence = fence
        #: The run that was granted the key last and did not say that it ended.
        self.run = run
        self.last = last
        self.lease = lease
        self.hold = hold
        #: The rest of a hold that `run` was told to ignore, and the run that left it, if that died.
        self.kept = kept
        self.kept_run = kept_run
        #: Owners that ended or gave up: no request of theirs takes the key again.
        self.gone = gone

    @classmethod
    def decode(cls, data: bytes) -> _State:
        """Undo `encode`; raise ForeignValue for anything else."""
        fields = record.decode(data)
        numbers = [fields.get("fence", ""), fields.get("lease", ""), fields.get("hold", ""), fields.get("kept", "0")]
        if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
            raise ForeignValue("not a record of cronlock: a number is missing or bad")
        fence, lease, hold, kept = (int(number) for number in numbers)
        gone = tuple(owner for owner in fields.get("gone", "").split("\n") if owner)
        run, last, kept_run = (record.run_from_fields(fields, prefix) for prefix in ("run.", "last.", "kept."))
        return cls(fence=fence, run=run, last=last, lease=lease, hold=hold, kept=kept, kept_run=kept_run, gone=gone)

    def encode(self) -> bytes:
        """Return the item's text; times are rounded up to the server's whole seconds."""
        fields = {"fence": str(self.fence), "lease": str(_ceil(self.lease)), "hold": str(_ceil(self.hold))}
        if self.kept:
            fields["kept"] = str(_ceil(self.kept))
        for prefix, run in (("run.", self.run), ("last.", self.last), ("kept.", self.kept_run)):
            if run is not None:
                fields.update(record.run_to_fields(run, prefix))
        fields["gone"] = "\n".join(self.gone)
        return record.encode(fields)

    def but(self, **changes: Any) -> _State:
        """Return this state with `changes`."""
        return _State(**{**{name: getattr(self, name) for name in self.__slots__}, **changes})

    def after(self, seconds: float) -> _State:
        """Return this state as it is so much later."""
        left = {name: max(0.0, getattr(self, name) - seconds) for name in ("lease", "hold", "kept")}
        return self.but(**left)

    def freed(self, owner: str, **changes: Any) -> _State:
        """Return this state once its run, of `owner`, is over, with no more hold than there was before it."""
        over: dict[str, Any] = {"run": None, "lease": 0.0, "hold": self.kept, "gone": self.without(owner)}
        return self.but(**{**over, "kept": 0.0, "kept_run": None, **changes})

    def without(self, owner: str) -> tuple[str, ...]:
        """Return who is gone when `owner` is too."""
        return (*self.gone, owner)[-_REMEMBERED:]

    def is_run_of(self, owner: str) -> bool:
        """Whether the key is `owner`'s, who has neither ended nor given up nor been forced out."""
        return self.run is not None and self.run.owner == owner and owner not in self.gone


class _Held:
    """What a grant remembers of its item, to change it without reading it first."""

    __slots__ = ("at", "cas", "connection", "name", "state")

    def __init__(self, connection: Connection, name: bytes, state: _State, cas: int, at: float) -> None:
        self.connection = connection
        self.name = name
        self.state = state
        self.cas = cas
        #: Boot time after which nobody but this run can have written.
        self.at = at


class MemcachedBackend:
    """Leases on one memcached, or spread by key over several."""

    def __init__(
        self, scheme: str, hosts: list[tuple[str, int]], prefix: str, timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self.traits = Traits(fencing=True, shortest_ttl=2.0, longest_ttl=RETENTION - 86400.0, lists_keys=False)
        self.notices: list[str] = []
        self._scheme = scheme
        # Sorted: nodes that list the same servers in another order must agree on a key's server.
        self._hosts = sorted(set(hosts))
        self._prefix = prefix
        self._timeout = timeout
        self._tls = tls
        self._clock = SystemClock()
        self._connections: dict[tuple[str, int], Connection] = {}

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free, by a read and a swap.

        Raises ConfigError for a hold that would outlast the item that keeps it.
        """
        longest = self.traits.longest_ttl
        if claim.hold > longest:
            raise ConfigError(
                f"--min-hold {claim.hold:.0f} is longer than memcached can keep: at most {longest:.0f} s"
                f" ({longest / 86400:.0f}d); shorten it (or --every, whose half it is), or use another backend"
            )
        place, name = self._place(claim.key)
        # A server that was paused may answer an old connection before it sets its clock; a new
        # one it accepts in the thread that keeps the clock.
        self._drop(place)
        answer: Conflict | None = None

        def work(connection: Connection) -> tuple[_State, int | None, int | None]:
            def take(state: _State) -> _State | None:
                nonlocal answer
                if state.is_run_of(claim.owner) and state.lease:
                    answer = None
                    return None
                answer = _refusal(state, claim) or self._forgotten(connection, state, claim)
                return None if answer else _taken(state, claim)

            return self._change(connection, name, take)

        state, cas, _ = self._ask(place, work)
        if answer is not None:
            return answer
        held = None
        if cas is not None:
            held = _Held(self._connections[place], name, state, cas, self._clock.now())
        return Grant(claim, fence=state.fence, ttl=claim.ttl, token=held)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on, by one swap."""
        owner = grant.claim.owner

        def extend(state: _State) -> _State | None:
            return state.but(lease=grant.ttl + _SLACK) if state.is_run_of(owner) else None

        return self._change_held(grant, extend)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended, by one swap."""
        owner = grant.claim.owner

        def end(state: _State) -> _State | None:
            run = state.run
            if run is None or not state.is_run_of(owner):
                return None
            return state.freed(owner, last=_ended(run, ending), **({"hold": state.hold} if keep_hold else {}))

        return self._change_held(grant, end)

    def abandon(self, claim: Claim) -> None:
        """Undo an acquire whose answer never came.

        This writes in any case, also while the key is another's: it gives the item another CAS,
        and so an acquire that is still on its way finds another item than it read.
        """
        owner = claim.owner

        def forget(state: _State) -> _State | None:
            if owner in state.gone:
                return None
            if state.is_run_of(owner):
                return state.freed(owner, run=state.kept_run)
            return state.but(gone=state.without(owner))

        self._change_read(claim.key, forget)

    def read(self, key: str) -> Record | None:
        """Return what is known of the key; None if there is no record."""
        place, name = self._place(key)
        state, _ = self._ask(place, lambda connection: self._read(connection, name))
        if state.run is None and state.last is None:
            return None
        remaining = _remaining(state.lease) if state.run else 0.0
        return Record(run=state.run, remaining=remaining, hold_remaining=_remaining(state.hold), last=state.last)

    def keys(self) -> Iterator[str]:
        """Raise BackendError: memcached has no way to list its items."""
        raise BackendError(f"{self._scheme}://: memcached cannot list its keys; name the key")

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`."""

        def free(state: _State) -> _State | None:
            holder = state.run or state.last
            if holder is None or holder.owner != owner or not (state.lease or state.hold):
                return None
            return state.but(lease=0.0, hold=0.0, kept=0.0, gone=state.without(owner))

        return self._change_read(key, free)

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return for each server, by its URL, what its ``stats`` say.

        Among them version, uptime (seconds), evictions (items dropped early, perhaps leases),
        limit_maxbytes and curr_items.
        """
        return {self._url(place): self._ask(place, lambda connection: connection.statistics()) for place in self._hosts}

    def close(self) -> None:
        """Close all connections."""
        for place in list(self._connections):
            self._drop(place)

    # One request

    def _change_held(self, grant: Grant, alter: Callable[[_State], _State | None]) -> bool:
        """Change the item of a grant, without reading it first where its CAS is known on this connection."""
        place, name = self._place(grant.claim.key)

        def work(connection: Connection) -> bool:
            held, sent = grant.token, self._clock.now()
            if not isinstance(held, _Held) or held.connection is not connection or held.name != name:
                held = None
            known = (held.state.after(sent - held.at), held.cas) if held else None
            state, cas, left = self._change(connection, name, alter, known)
            if cas is None:
                return False
            if held and left is not None:
                cas = self._settled(connection, name, state, cas, _KEPT - left, sent - held.at)
            grant.token = _Held(connection, name, state, cas, self._clock.now())
            return True

        return self._ask(place, work)

    def _settled(self, connection: Connection, name: bytes, state: _State, cas: int, age: float, elapsed: float) -> int:
        """Return the CAS of what was written once its times count from now on the server's clock too.

        After a pause the server answers before it sets its clock: an item that it says is of
        `age` when `elapsed` seconds passed since it was written. What it wrote then ends too
        early, so it is written again. A second less may be rounding, which the slack makes up for.
        """
        if age >= elapsed - 1.0 or not (state.lease or state.hold):
            return cas
        time.sleep(_SETTLING)
        again, left = connection.swap(name, state.encode(), cas, _KEPT)
        if again is not None and left is not None and age + _KEPT - left >= elapsed - 1.0:
            return again
        if state.lease:
            raise BackendUnavailable(f"{self._scheme}://: the server's clock stood still, so the lease is in doubt")
        return again or cas

    def _change_read(self, key: str, alter: Callable[[_State], _State | None]) -> bool:
        """Read the key's item and change it."""
        place, name = self._place(key)
        return self._ask(place, lambda connection: self._change(connection, name, alter)[1] is not None)

    def _change(
        self,
        connection: Connection,
        name: bytes,
        alter: Callable[[_State], _State | None],
        known: tuple[_State, int] | None = None,
    ) -> tuple[_State, int | None, int | None]:
        """Swap the item for what `alter` makes of it, until no other is faster.

        Returns the new state, its CAS, and what a `known` item had left (None if another was in
        its place); or, where `alter` leaves it be, the state as it is and twice None.
        """
        while True:
            state, cas = known or self._read(connection, name)
            changed = alter(state)
            if changed is None:
                return state, None, None
            new_cas, left = connection.swap(name, changed.encode(), cas, _KEPT)
            if new_cas is not None:
                return changed, new_cas, left if known else None
            known = None

    def _read(self, connection: Connection, name: bytes) -> tuple[_State, int]:
        """Return the item as it is now, and its CAS; a new state and 0 where there is none."""
        item = connection.get(name)
        if item is None:
            return _State(), 0
        try:
            state = _State.decode(item.value)
            if item.left is None:
                raise ForeignValue("somebody else let the item last for ever")
        except ForeignValue as error:
            raise ForeignValue(f"{self._scheme}://: item {name.decode()}: {error}; delete it or use ?prefix=") from None
        return state.after(max(0, _KEPT - item.left)), item.cas

    def _forgotten(self, connection: Connection, state: _State, claim: Claim) -> Conflict | None:
        """Refuse while a lease may be out that the server held before it was started anew.

        Only its uptime is asked: an idle item may be evicted on any day, and would then cost
        each time a run.
        """
        sight: Sight | None = claim.sight
        if sight is None or state.fence >= max(1, sight.floor):
            return None
        uptime: int = max(0, connection.statistics()["uptime"] - _FIRST_UPTIME)
        if uptime >= min(sight.age, claim.doubt):
            return None
        return Conflict(FORGOTTEN, remaining=claim.doubt - uptime, fence=state.fence or None)

    def _ask(self, place: tuple[str, int], work: Callable[[Connection], _T]) -> _T:
        """Do `work` on the connection to `place` within the time limit; drop it after any failure."""
        deadline = time.monotonic() + self._timeout
        try:
            connection = self._connections.get(place)
            if connection is None:
                url = self._url(place)
                stream = Stream.connect_tcp(url, place[0], place[1], deadline, self._tls)
                connection = self._connections[place] = Connection(url, stream)
            connection.limit(deadline)
            return work(connection)
        except BaseException:
            # Answers may still be on their way, which the next request must not take for its own.
            self._drop(place)
            raise

    def _drop(self, place: tuple[str, int]) -> None:
        connection = self._connections.pop(place, None)
        if connection is not None:
            connection.close()

    def _place(self, key: str) -> tuple[tuple[str, int], bytes]:
        """Return the server of a key, always the same, and the item's name."""
        name = f"{self._prefix}:{bounded(key, _LONGEST_NAME - len(self._prefix) - 1)}".encode()
        if len(self._hosts) == 1:
            return self._hosts[0], name
        import binascii

        return self._hosts[binascii.crc32(name) % len(self._hosts)], name

    def _url(self, place: tuple[str, int]) -> str:
        host, port = place
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _refusal(state: _State, claim: Claim) -> Conflict | None:
    """Return why the key is not free for `claim`, if it is not."""
    fence = state.fence or None
    if claim.owner in state.gone:
        return Conflict(CANCELLED, remaining=0.0, run=state.run, fence=fence)
    if state.run is not None and state.lease:
        return Conflict(HELD, remaining=_remaining(state.lease), run=state.run, fence=fence)
    # A lease of our own that lapsed in the meantime leaves a hold of our own.
    if state.hold and not claim.ignore_hold and not state.is_run_of(claim.owner):
        return Conflict(HOLD, remaining=_remaining(state.hold), run=state.run or state.last, fence=fence)
    return None


def _taken(state: _State, claim: Claim) -> _State:
    """Return the state after the grant of a free key."""
    # Without an item this node's clock stands in: later than any fence that ever began so.
    last_fence = state.fence or int(time.time() * 1e6)
    fence = max(last_fence, claim.sight.floor if claim.sight else 0) + 1
    run = Run(
        owner=claim.owner,
        host=_clean(claim.host),
        pid=claim.pid,
        program=_clean(claim.program),
        started_at=time.time(),
        ttl=claim.ttl,
        fence=fence,
    )
    kept, kept_run = state.kept, state.kept_run
    # Its own lease may have lapsed before it heard of it: what that left is not another's hold.
    if not state.is_run_of(claim.owner):
        kept, kept_run = state.hold, state.run if state.hold else None
    hold = max(kept, claim.hold + _SLACK if claim.hold > 0 else 0.0)
    return state.but(fence=fence, run=run, lease=claim.ttl + _SLACK, hold=hold, kept=kept, kept_run=kept_run)


def _ended(run: Run, ending: Ending) -> Run:
    """Return the run as one that ended."""
    return Run(
        owner=run.owner,
        host=run.host,
        pid=run.pid,
        program=run.program,
        started_at=run.started_at,
        ttl=run.ttl,
        fence=run.fence,
        ended_at=ending.ended_at,
        outcome=ending.outcome,
        status=ending.status,
    )


def _remaining(seconds: float) -> float:
    """Return seconds without the slack, which is for safety, but never 0 while they last."""
    return max(1.0, seconds - _SLACK) if seconds else 0.0


def _ceil(seconds: float) -> int:
    return -int(-seconds // 1)


def _clean(text: str) -> str:
    """Return text that is sure to be read again: bounded, and without bytes that were not UTF-8."""
    return text.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT].decode("utf-8", "ignore")
