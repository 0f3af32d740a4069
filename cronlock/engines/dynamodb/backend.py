"""DynamoDB: one item for each key, and every change of it one conditional update.

Taking a key that is free is one request, which knows nothing beforehand: its condition says what a free item
looks like. A refusal brings the item along in the same round trip. Everything else is judged here, on the item
as it was read or written last, and takes effect only if its ``rev`` is still that one; so a request that comes
late finds another ``rev`` and does nothing.

The item is never deleted, for the fence lives in it.

AWS judges no time of ours, so the clock is this machine's, bounded by the `Date` of AWS's answers
(`aws.ServerTime`). The first request of a run has no answer to go by yet, and writes its times by the wall
clock. The answer tells whether that was right: to within `_AHEAD` and `_BEHIND` the grant stands. Otherwise
it is judged again by AWS's time, and put right, or undone, before anything runs. Whoever takes over from the
dead does so by the least that AWS's time can be, and two seconds after the stored end: a holder's clock that was
behind unnoticed wrote an end that is early by less than that.
"""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError
from ...lease import record
from ...lease.vocabulary import FORGOTTEN, HELD, HOLD, Claim, Conflict, Ending, Grant, Record, Run, Traits
from ..wire import aws
from .item import PAGES, SLACK, State, is_on, refusal, remaining, runs_of_page
from .table import NoTable, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..url import URL

#: Seconds by which the wall clock may be behind AWS's, or ahead, for a grant to stand as it was written.
_BEHIND = 1.5
_AHEAD = SLACK
_LONGEST_TABLE = 255
_TABLE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def open_backend(url: URL, timeout: float) -> DynamoDBBackend:
    """Return the backend of a ``dynamodb://TABLE`` URL; raise ConfigError for a bad one."""
    url.take_params((*aws.PARAMS, "prefix", "create", "strict"))
    if url.user is not None or url.password is not None:
        raise ConfigError(
            f"{url}: takes no user and password; credentials come from the environment, a profile or a role"
        )
    if url.path not in ("", "/"):
        raise ConfigError(f"{url}: takes no path; keys are kept apart by ?prefix=NAME")
    if len(url.hosts) != 1 or url.hosts[0][1] is not None:
        raise ConfigError(f"{url}: name one table: {url.scheme}://TABLE")
    table = url.hosts[0][0]
    if not (3 <= len(table) <= _LONGEST_TABLE and set(table) <= _TABLE_CHARACTERS):
        raise ConfigError(f"{url}: a table's name has 3 to 255 letters, digits, '-', '_' or '.'")
    flags = {name: _flag(url, name) for name in ("create", "strict")}
    service = aws.Service(url, "dynamodb", "DynamoDB_20120810", timeout)
    return DynamoDBBackend(service, str(url), table, url.prefix(), **flags)


def _flag(url: URL, name: str) -> bool:
    value = url.params.get(name, "no")
    if value not in ("yes", "no"):
        raise ConfigError(f"{url}: {name}={value!r}: write {name}=yes or {name}=no")
    return value == "yes"


class _Held:
    """What a grant remembers of its item, to change it without reading it first."""

    __slots__ = ("key", "state")

    def __init__(self, key: str, state: State) -> None:
        self.key = key
        self.state = state


class DynamoDBBackend:
    """Leases in one table of one region."""

    def __init__(
        self, service: aws.Service, name: str, table: str, prefix: str, *, create: bool = False, strict: bool = False
    ) -> None:
        """`name` begins every error; see `open_backend` for the rest."""
        self.traits = Traits(fencing=True, shortest_ttl=2.0, longest_ttl=365 * 86400.0)
        self.notices: list[str] = []
        self.service = service
        self._name = name
        self._table = Table(service, name, table, prefix)
        self._create = create
        self._strict = strict
        #: Who asked last, and the boot time when that began to.
        self._asked = ("", 0.0)

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free, by one conditional update in the usual case.

        Raises ConfigError when there is no table, or there are no credentials.
        """
        deadline = self.service.deadline()
        try:
            return self._acquire(claim, deadline)
        except NoTable:
            if not self._create:
                raise
        self._table.create(deadline)
        return self._acquire(claim, deadline)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on, by one update.

        Where its answer shows that this machine's clock fell behind since the last one, by a second update.
        """
        deadline = self.service.deadline()
        for _ in range(2):
            begun, start = self.service.clock.now(), self._start()
            if not self._prolong(grant, start + grant.ttl, deadline):
                return False
            if self.service.times.latest() - (self.service.clock.now() - begun) - start <= _BEHIND + 0.1:
                return True
        raise BackendUnavailable(f"{self._name}: its clock and this machine's run apart")

    def _prolong(self, grant: Grant, lapse: float, deadline: float) -> bool:
        return self._change_held(grant, lambda state: state.but(lapse=lapse, mark=""), deadline)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended, by one update.

        Every few runs another one goes first: past runs that have no room in the item any more are put beside it.
        """
        return self._change_held(
            grant,
            lambda state: state.ended(ending, self.service.times.now(), keep_hold=keep_hold),
            self.service.deadline(),
        )

    def abandon(self, claim: Claim) -> None:
        """Undo an acquire whose answer never came.

        This writes in any case, also while the key is another's: it gives the item another ``rev``, and so an
        acquire that is still on its way finds another item than it read.
        """
        owner = claim.owner

        def forget(state: State) -> State | None:
            if state.is_gone(owner):
                return None
            if state.is_run_of(owner):
                return state.freed(owner, run=state.kept_run)
            return state.but(gone=state.without(owner))

        aws.mid_run(lambda: self._change_read(claim.key, forget))

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, past runs in the same request; None if there is no record."""
        names = [self._table.item_name(key), *(self._table.page_name(key, page) for page in range(PAGES))]
        items = self._table.get_all(names, self.service.deadline())
        state = self._table.state(key, items.pop(names[0], None))
        if state.latest is None:
            return None
        earliest, now = self.service.times.earliest(), self.service.times.now()
        kept = [*(run for item in items.values() for run in runs_of_page(item)), *state.past]
        if state.success is not None:
            kept.append(state.success)
        history, success = record.put_together(kept, run=state.run, last=state.last)
        return Record(
            run=record.released(state.run, by_force=state.forced_out),
            remaining=remaining(state.lapse, earliest, now) if state.run else 0.0,
            hold_remaining=remaining(state.hold, earliest, now),
            last=state.last,
            history=history,
            success=success,
        )

    def watch(self, key: str) -> None:
        """Return None: DynamoDB tells nothing by itself."""

    def keys(self) -> Iterator[str]:
        """List the keys with a record, by reading the whole table."""
        return self._table.keys()

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`."""

        def free(state: State) -> State | None:
            holder, judged = state.latest, self.service.times.earliest()
            if holder is None or holder.owner != owner or not (state.leased(judged) or is_on(state.hold, judged)):
                return None
            return state.forced(owner)

        return self._change_read(key, free)

    @property
    def table(self) -> Table:
        """What the doctor asks."""
        return self._table

    def close(self) -> None:
        """Close the connection."""
        self.service.close()

    # Taking a key

    def _acquire(self, claim: Claim, deadline: float) -> Grant | Conflict:
        if self._asked[0] != claim.owner:
            self._asked = (claim.owner, self.service.clock.now())
        if claim.ignore_hold or claim.standby_for is not None:
            # What they want is never a free item, and reading is cheaper than being refused.
            state = self._table.get(claim.key, deadline)
            self._need_date()
        else:
            state, taken, right = self._take_free(claim, deadline)
            if taken and right:
                return self._grant(claim, state, state.last)
            if taken:
                self._say_clock()
        while True:
            times = self.service.times
            conflict = refusal(state, claim, times.earliest(), times.now(), times.latest())
            if conflict is not None:
                return conflict
            now, judged = self._start(), self.service.times.earliest()
            previous = None if state.is_run_of(claim.owner) else state.latest
            too_early = self._taken_too_early(claim, state)
            if too_early is not None:
                changed = state.freed(claim.owner)
            elif state.is_run_of(claim.owner) and state.leased(judged):
                if self._is_right(state):
                    return self._grant(claim, state, None)
                changed = state.restarted(claim, now)
            else:
                conflict = self._forgotten(state, claim) or self._unripe(claim, state, deadline)
                if conflict is not None:
                    return conflict
                changed = state.taken(claim, now, judged)
            done, state = self._table.write(claim.key, state, changed, deadline)
            if done:
                return too_early or self._grant(claim, state, previous)

    def _take_free(self, claim: Claim, deadline: float) -> tuple[State, bool, bool]:
        """Take the key if its item is that of a free one.

        Returns the item's state, whether the key was taken, and whether by a clock that is right.
        """
        began, now, times = self.service.clock.now(), self._start(), self.service.times
        taken, state = self._table.take(claim, now, deadline)
        self._need_date()
        elapsed = self.service.clock.now() - began
        right = times.latest() - elapsed - now <= _BEHIND and now - (times.earliest() - elapsed) <= _AHEAD
        return state, taken, right

    def _need_date(self) -> None:
        if not self.service.times.known:
            raise BackendUnavailable(f"{self._name}: its answers have no Date, so no clock can be trusted")

    def _taken_too_early(self, claim: Claim, state: State) -> Conflict | None:
        """Return what `claim` should have been told that took the key by a clock that was ahead."""
        if claim.ignore_hold or claim.standby_for is not None or not state.is_run_of(claim.owner):
            return None
        earliest, now = self.service.times.earliest(), self.service.times.now()
        if not is_on(state.kept, earliest):
            return None
        return Conflict(HOLD, remaining=remaining(state.kept, earliest, now), run=state.last, fence=state.fence)

    def _is_right(self, state: State) -> bool:
        """Whether the claim's own lease, of which it never heard, was written by a clock that is right."""
        assert state.run is not None
        # It was granted between the first time that it asked, and now.
        first = self.service.times.latest() - (self.service.clock.now() - self._asked[1])
        return first - _BEHIND <= state.run.started_at <= self.service.times.latest() + _AHEAD

    @staticmethod
    def _forgotten(state: State, claim: Claim) -> Conflict | None:
        """Refuse while a lease may be out that the table held before it was restored or made anew."""
        sight = claim.sight
        if sight is None or state.fence >= max(1, sight.floor) or state.is_run_of(claim.owner):
            return None
        waited = sight.noticed_age or 0.0
        if waited >= claim.doubt:
            return None
        return Conflict(FORGOTTEN, remaining=claim.doubt - waited, fence=state.fence or None)

    def _unripe(self, claim: Claim, state: State, deadline: float) -> Conflict | None:
        """With ``strict=yes`` refuse to take over from a run until its item stayed as it is for a whole ttl.

        Since when is kept in the item itself, by AWS's time: whoever asks first begins, and the end that the dead
        run wrote counts for nothing.
        """
        run = state.run
        if not self._strict or run is None or state.forced_out or state.is_run_of(claim.owner):
            return None
        rev, _, since = state.mark.partition(" ")
        left = run.ttl + SLACK
        if rev == str(state.rev):
            try:
                left -= max(0.0, self.service.times.earliest() - float(since))
            except ValueError:
                rev = ""
        if left <= 0:
            return None
        if rev != str(state.rev):
            self._table.set_mark(claim.key, state, deadline)
        return Conflict(HELD, remaining=left, run=run, fence=state.fence)

    @staticmethod
    def _grant(claim: Claim, state: State, previous: Run | None) -> Grant:
        took_over = state.run.took_over if state.run is not None else None
        token = _Held(claim.key, state)
        return Grant(claim, fence=state.fence, ttl=claim.ttl, token=token, previous=previous, took_over=took_over)

    def _start(self) -> float:
        """Return the time that what is written now counts from: not behind AWS's by more than `_BEHIND`."""
        return max(self.service.times.now(), self.service.times.latest() - _BEHIND)

    def _say_clock(self) -> None:
        times, wall = self.service.times, self.service.clock.wall()
        ahead = wall - times.now()
        if abs(ahead) > 1.0 and not self.notices:
            way = "ahead of" if ahead > 0 else "behind"
            self.notices.append(
                f"this machine's clock is about {abs(ahead):.0f} s {way} AWS's: set it, as by NTP; AWS's is gone by"
            )

    # Changing an item

    def _change_held(self, grant: Grant, alter: Callable[[State], State], deadline: float) -> bool:
        """Change the item of a grant, without reading it first where it is known."""
        claim, held = grant.claim, grant.token
        known = isinstance(held, _Held) and held.key == claim.key and held.state.is_run_of(claim.owner)

        def work() -> bool:
            state = held.state if isinstance(held, _Held) and known else self._table.get(claim.key, deadline)
            while state.is_run_of(claim.owner):
                done, state = self._table.write(claim.key, state, alter(state), deadline)
                if done:
                    grant.token = _Held(claim.key, state)
                    return True
            return False

        return aws.mid_run(work)

    def _change_read(self, key: str, alter: Callable[[State], State | None]) -> bool:
        """Read the key's item and change it."""
        deadline = self.service.deadline()
        state = self._table.get(key, deadline)
        while True:
            changed = alter(state)
            if changed is None:
                return False
            done, state = self._table.write(key, state, changed, deadline)
            if done:
                return True
