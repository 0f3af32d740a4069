"""memcached: one item for each key, and every change of it one compare-and-swap.

The item holds all that is known of the key but its history, which lies beside it (see
`memcached_item`): the run, the last ended run, the highest fence, who gave up, and for how long
*from its own writing* lease and hold last. It is written to be kept for `_KEPT` seconds, so what
it has left tells how long ago, by the server's clock, it was written: that is the clock that
leases and holds are judged by. Memcached has no scripts; the judging is done here, on what was
read, and takes effect only if the item is still the one that was read. So a request that arrives
late finds another CAS and does nothing.

Taking a key is therefore two round trips, a read and a swap; being refused is one, and so are a
renewal and a release, which know the CAS from before. An `add` that takes the key blindly would
save one, but a node would learn that the server forgot (its uptime tells) only once others had
seen the key held by a run that may not start; and lease, hold, fence and record would lie in
several items that no single step changes together.

The server counts whole seconds, and its second may end at any moment: n of its seconds are at
least n - 2 of ours. `SLACK` makes up for that, so a lease never ends early, and up to three
seconds late.
"""

from __future__ import annotations

import time

from ...errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from ...keys import bounded
from ...lease import record
from ...lease.clock import SystemClock
from ...lease.vocabulary import FORGOTTEN, RETENTION, Claim, Conflict, Ending, Grant, Record, Run, Sight, Traits
from ..url import URL
from ..wire.stream import TLS_PARAMS, Stream, patiently, tls_context
from .item import RING, SLACK, State, refusal, remaining, run_from_item, run_to_item
from .meta import Connection, Item

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
#: How long past runs are kept, in seconds; the items of a weekly job have to last for months.
_HISTORY_KEPT = 365 * 86400
#: What memcached gives as its uptime as soon as it runs.
_FIRST_UPTIME = 2
#: How long a server that goes on after a pause may take to set its clock, in seconds.
_SETTLING = 0.05


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


class _Held:
    """What a grant remembers of its item, to change it without reading it first."""

    __slots__ = ("at", "cas", "connection", "name", "state")

    def __init__(self, connection: Connection, name: bytes, state: State, cas: int, at: float) -> None:
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
        previous: Run | None = None

        def work(connection: Connection) -> tuple[State, int | None, int | None]:
            def take(state: State) -> State | None:
                nonlocal answer, previous
                if state.is_run_of(claim.owner) and state.lease:
                    answer = previous = None
                    return None
                answer = refusal(state, claim) or self._forgotten(connection, state, claim)
                previous = None if state.is_run_of(claim.owner) else state.latest
                return None if answer else state.taken(claim)

            return self._change(connection, claim.key, take)

        state, cas, _ = self._ask(place, work)
        if answer is not None:
            return answer
        held = None
        if cas is not None:
            held = _Held(self._connections[place], name, state, cas, self._clock.now())
        took_over = state.run.took_over if state.run is not None else None
        return Grant(claim, fence=state.fence, ttl=claim.ttl, token=held, previous=previous, took_over=took_over)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on, by one swap."""
        owner = grant.claim.owner

        def extend(state: State) -> State | None:
            return state.but(lease=grant.ttl + SLACK) if state.is_run_of(owner) else None

        return self._change_held(grant, extend)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended, by one swap."""
        owner = grant.claim.owner

        def end(state: State) -> State | None:
            return state.ended(ending, keep_hold=keep_hold) if state.is_run_of(owner) else None

        return self._change_held(grant, end)

    def abandon(self, claim: Claim) -> None:
        """Undo an acquire whose answer never came.

        This writes in any case, also while the key is another's: it gives the item another CAS,
        and so an acquire that is still on its way finds another item than it read.
        """
        owner = claim.owner

        def forget(state: State) -> State | None:
            if owner in state.gone:
                return None
            if state.is_run_of(owner):
                return state.freed(owner, run=state.kept_run)
            return state.but(gone=state.without(owner))

        self._change_read(claim.key, forget)

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, past runs in the same packet; None if there is no record."""
        place, name = self._place(key)
        beside = [self._beside(key, number) for number in range(RING)]
        item, *items = self._ask(place, lambda connection: connection.get_all([name, *beside]))
        state, _ = self._state(name, item)
        if state.latest is None:
            return None
        kept = [run_from_item(one.value) for one in items if one is not None] + [state.success]
        history, success = record.put_together([run for run in kept if run], run=state.run, last=state.last)
        return Record(
            run=record.released(state.run, by_force=state.forced_out),
            remaining=remaining(state.lease) if state.run else 0.0,
            hold_remaining=remaining(state.hold),
            last=state.last,
            history=history,
            success=success,
        )

    def watch(self, key: str) -> None:
        """Return None: memcached tells nothing by itself."""

    def keys(self) -> Iterator[str]:
        """Raise BackendError: memcached has no way to list its items."""
        raise BackendError(f"{self._scheme}://: memcached cannot list its keys; name the key")

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`."""

        def free(state: State) -> State | None:
            holder = state.latest
            if holder is None or holder.owner != owner or not (state.lease or state.hold):
                return None
            return state.but(lease=0.0, hold=0.0, kept=0.0, kept_run=None, gone=state.without(owner))

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

    def _change_held(self, grant: Grant, alter: Callable[[State], State | None]) -> bool:
        """Change the item of a grant, without reading it first where its CAS is known on this connection."""
        place, name = self._place(grant.claim.key)

        def work(connection: Connection) -> bool:
            held, sent = grant.token, self._clock.now()
            if not isinstance(held, _Held) or held.connection is not connection or held.name != name:
                held = None
            known = (held.state.after(sent - held.at), held.cas) if held else None
            state, cas, left = self._change(connection, grant.claim.key, alter, known)
            if cas is None:
                return False
            if held and left is not None:
                cas = self._settled(connection, name, state, cas, _KEPT - left, sent - held.at)
            grant.token = _Held(connection, name, state, cas, self._clock.now())
            return True

        return self._ask(place, work)

    def _settled(self, connection: Connection, name: bytes, state: State, cas: int, age: float, elapsed: float) -> int:
        """Return the CAS of what was written once its times count from now on the server's clock too.

        After a pause the server answers before it sets its clock: an item that it says is of
        `age` when `elapsed` seconds passed since it was written. What it wrote then ends too
        early, so it is written again. A second less may be rounding, which the slack makes up for.
        """
        if age >= elapsed - 1.0 or not (state.lease or state.hold):
            return cas
        time.sleep(_SETTLING)
        again, left, _ = connection.swap(name, state.encode(), cas, _KEPT)
        if again is not None and left is not None and age + _KEPT - left >= elapsed - 1.0:
            return again
        if state.lease:
            raise BackendUnavailable(f"{self._scheme}://: the server's clock stood still, so the lease is in doubt")
        return again or cas

    def _change_read(self, key: str, alter: Callable[[State], State | None]) -> bool:
        """Read the key's item and change it."""
        place, _ = self._place(key)
        return self._ask(place, lambda connection: self._change(connection, key, alter)[1] is not None)

    def _change(
        self,
        connection: Connection,
        key: str,
        alter: Callable[[State], State | None],
        known: tuple[State, int] | None = None,
    ) -> tuple[State, int | None, int | None]:
        """Swap the item for what `alter` makes of it, until no other is faster.

        Returns the new state, its CAS, and what a `known` item had left (None if another was in
        its place); or, where `alter` leaves it be, the state as it is and twice None.

        Past runs go along in the same packet. They are past whether the swap is done or not, and
        a run that turns out to be alive after all is known by the key's own item.
        """
        _, name = self._place(key)
        while True:
            state, cas = known or self._state(name, connection.get(name))
            changed = alter(state)
            if changed is None:
                return state, None, None
            beside = [self._past_item(key, run) for run in changed.past]
            new_cas, left, stored = connection.swap(name, changed.encode(), cas, _KEPT, beside)
            if new_cas is not None:
                return changed.but(past=()) if stored else changed, new_cas, left if known else None
            known = None

    def _past_item(self, key: str, run: Run) -> tuple[bytes, bytes, int]:
        number, value = run_to_item(run)
        return self._beside(key, number), value, int(time.time()) + _HISTORY_KEPT

    def _state(self, name: bytes, item: Item | None) -> tuple[State, int]:
        """Return what an item says as it is now, and its CAS; a new state and 0 where there is none."""
        if item is None:
            return State(), 0
        try:
            state = State.decode(item.value)
            if item.left is None:
                raise ForeignValue("somebody else let the item last for ever")
        except ForeignValue as error:
            raise ForeignValue(f"{self._scheme}://: item {name.decode()}: {error}; delete it or use ?prefix=") from None
        return state.after(max(0, _KEPT - item.left)), item.cas

    def _forgotten(self, connection: Connection, state: State, claim: Claim) -> Conflict | None:
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
        return patiently(deadline, lambda: self._ask_once(place, work, deadline))

    def _ask_once(self, place: tuple[str, int], work: Callable[[Connection], _T], deadline: float) -> _T:
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

    def _beside(self, key: str, number: int) -> bytes:
        """Return the name of one of the items for past runs; ``:`` comes in no name of a key."""
        room = _LONGEST_NAME - len(self._prefix) - len("::31")
        return f"{self._prefix}:{bounded(key, room)}:{number}".encode()

    def _url(self, place: tuple[str, int]) -> str:
        host, port = place
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"
