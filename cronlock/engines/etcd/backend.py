"""etcd v3: the lease is a key that goes with a lease of the server's, so that it ends when nobody keeps that alive.

Under the prefix each cronlock key has a record, and while there are any, below ``held/`` the key of its
lease and one for each hold that is not over; past runs lie below ``history/``, one a key, written in turn.
Whatever changes something is one transaction that names the revision of the record that it was decided on,
and writes the record. So of several that decide on the same revision one is carried out, and what arrives
late, or twice, is refused.

Being refused is one request. A run is four of them and a fifth for its end: a look, a lease for the hold (if one
is asked for), a lease for the run, and the transaction that takes the key. A lease that was granted to who
then came too late lapses by itself; so does that of a run that ended, whose keys its last transaction
removed. Only where that takes very long it is revoked, in one request more.

The fence is the revision at which the key of the lease was created. It is one more than every fence before
and than what this node remembers, should that be larger: a server restored from a backup counts from there.

A renewal is two requests: a new lease, and a transaction that moves the key onto it. It does not keep the
old lease alive, since that is answered by the server that believes to lead, alone. One that was deposed while it
hung, or was cut off, answers for a while (https://github.com/etcd-io/etcd/issues/15247), and once it goes on it
has leases revoked that others kept alive since (https://github.com/etcd-io/etcd/issues/12528): so does Debian's
3.4.23, later releases hardly. A new lease needs a majority, and no server ever believed that it ends earlier.
The transaction names the revision of the lease's key, so that one which comes late does not move it back onto
an older lease. And all leases, those of holds too, are asked for `SLACK` seconds more than is made use of.

The leader counts whole seconds, on a clock of its own that nobody sets. A new leader gives every lease its
full time again, so leases and holds end late, never early.
"""

from __future__ import annotations

import os
import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...lease import record
from ...lease.clock import SystemClock
from ...lease.vocabulary import HELD, Claim, Conflict, Ending, Grant, Record, Traits
from .api import Cluster, KeyValue, Refusal, behind, created, delete, get, put, says, text_of, unchanged
from .entry import Entry, hold_text, lease_text
from .names import Names, base, key_of, lease_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...lease.clock import Clock
    from ...lease.vocabulary import Run
    from ..url import URL
    from .api import Answer

#: Seconds that a lease is asked for beyond what its run makes use of.
SLACK = 2
#: The longest lease that etcd grants, in seconds.
_LONGEST = 9_000_000_000
#: Leases that go on for longer once nobody needs them are revoked.
_LINGERING = 3600.0
#: Keys that are listed in one answer.
_PAGE = 500
# Characters of a key of etcd's in a message: a longest one of cronlock's has more, and nobody reads that.
_LONGEST_SHOWN = 300


def open_backend(url: URL, timeout: float) -> Etcd:
    """Return the backend for an etcd:// or etcds:// URL; raise ConfigError for a bad one."""
    return Etcd(url, timeout)


class Etcd:
    """Leases on etcd."""

    traits = Traits(fencing=True, shortest_ttl=2.0, longest_ttl=365 * 86400.0)

    def __init__(self, url: URL, timeout: float) -> None:
        self.notices: list[str] = []
        self._cluster = Cluster(url)
        self._base = base(url)
        self._timeout = timeout
        self._clock: Clock = SystemClock()

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `cronlock.lease.vocabulary.Backend`.

        Raises ConfigError for a hold that is longer than a lease can be.
        """
        if claim.hold > _LONGEST:
            raise ConfigError(f"--min-hold {claim.hold:.0f} is longer than etcd can keep: at most {_LONGEST} s")
        deadline, names = self._deadline(), Names(self._base, claim.key)
        asked = False
        while True:
            entry = self._look(names, deadline)
            if entry.is_of(claim.owner) and claim.owner not in entry.gone:
                entry.restore_run(claim)
                if claim.hold > 0:
                    revisions = [hold.modified for hold in entry.holds if hold.key == names.hold_of(claim.owner)]
                    if not self._begin_hold(names, claim, entry, max(revisions, default=0), deadline):
                        continue
                return _granted(claim, entry)
            conflict = entry.conflict(claim)
            if conflict is not None:
                if conflict.why == HELD and claim.standby_for is not None:
                    # It asks again when the lease can have lapsed.
                    conflict.remaining = self._left(entry.lease, deadline) - SLACK
                    conflict.remaining = max(0.1, conflict.remaining)
                if asked:
                    # Not before: one that arrives late would end the lease if its id was asked for again.
                    self._forget(claim, lease_id(claim.owner), deadline)
                return conflict
            previous = None if entry.run is not None and entry.run.owner == claim.owner else entry.latest
            began = self._clock.now()
            asked = True
            taken = self._take(names, claim, entry, deadline)
            if taken is not None:
                if (
                    claim.hold > 0
                    and self._clock.now() - began > SLACK
                    and not self._begin_hold(names, claim, taken, taken.created, deadline)
                ):
                    continue
                return _granted(claim, taken, previous)

    def renew(self, grant: Grant) -> bool:
        """Let the key go with a new lease, if it is still ours; see `cronlock.lease.vocabulary.Backend`."""
        claim, token, deadline = grant.claim, _token(grant), self._deadline()
        if token is None or token.released:
            return False
        names = Names(self._base, claim.key)
        # Another id each time: the time of a lease that an earlier renewal asked for counts from then.
        lease = self._grant(lease_id(os.urandom(16).hex()), _ceil(grant.ttl) + SLACK, deadline)
        text = lease_text(claim.owner)
        parts = [put(names.lease, text, lease)]
        while True:
            conditions = [unchanged(names.lease, token.modified), says(names.lease, text)]
            answer = self._transaction(conditions, parts, deadline, [get(names.lease)])
            if answer.truth("succeeded"):
                token.modified, token.entry.lease = answer.revision, lease
                return True
            found = [one for one in answer.ranges(1)[0] if (one.created, one.value) == (token.entry.created, text)]
            if not found:
                return False
            # An earlier renewal was done, and its answer lost; or this one, by a server that was asked before.
            token.modified, token.entry.lease = found[0].modified, found[0].lease
            if token.entry.lease == lease:
                return True

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; see `cronlock.lease.vocabulary.Backend`."""
        claim, token, deadline = grant.claim, _token(grant), self._deadline()
        names, owner = Names(self._base, claim.key), claim.owner
        if token is None or token.released:
            return False
        entry: Entry | None = token.entry
        while True:
            if entry is None:
                entry = self._look(names, deadline)
                if not entry.is_of(owner):
                    # Perhaps released already, and only the answer was lost.
                    done = entry.last is not None and entry.last.owner == owner
                    break
                entry.stand_in(token.entry)
            if self._end(names, entry, owner, ending, keep_hold=keep_hold, deadline=deadline):
                done = True
                break
            entry = None
        token.released = True
        self._forget(claim, token.entry.lease, deadline)
        return done

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came; see `cronlock.lease.vocabulary.Backend`."""
        deadline, names = self._deadline(), Names(self._base, claim.key)
        while True:
            entry = self._look(names, deadline)
            if claim.owner in entry.gone:
                break
            parts = [put(names.record, entry.after_abandon(claim.owner)), delete(names.hold_of(claim.owner))]
            if entry.is_of(claim.owner):
                parts.append(delete(names.lease))
            # Writing also moves the revision on, so that a transaction still under way is refused.
            if self._change(names, entry, parts, deadline) is not None:
                break
        self._forget(claim, lease_id(claim.owner), deadline)

    def read(self, key: str) -> Record | None:
        """Return what is known of the key; see `cronlock.lease.vocabulary.Backend`."""
        deadline, names = self._deadline(), Names(self._base, key)
        parts = [get(names.record), get(names.held, below=True), get(names.history, below=True)]
        records, held, past = self._transaction([], parts, deadline).ranges(3)
        entry = _entry(names, records, held)
        if entry.latest is None:
            return None
        kept = [record.run_from_line(one.value.decode("utf-8", "surrogateescape")) for one in past] + [entry.success]
        history, success = record.put_together([run for run in kept if run], run=entry.run, last=entry.last)
        holds = [min(max(1.0, self._left(hold.lease, deadline)), max(1.0, hold.length)) for hold in entry.holds]
        return Record(
            run=record.released(entry.run, by_force=entry.forced_out),
            remaining=max(1.0, self._left(entry.lease, deadline) - SLACK) if entry.holders_run else 0.0,
            hold_remaining=max(holds, default=0.0),
            last=entry.last,
            history=history,
            success=success,
        )

    def watch(self, key: str) -> None:
        """Return None: nothing is kept open to be told of changes."""

    def keys(self) -> Iterator[str]:
        """List the keys that have a record."""
        prefix = f"{self._base}/record/".encode()
        first, end, listed = prefix, behind(prefix), []
        while True:
            message = {"key": text_of(first), "range_end": text_of(end), "limit": str(_PAGE), "keys_only": True}
            found = self._cluster.ask("/v3/kv/range", message, self._deadline()).found()
            listed += [key for key in (key_of(one.key[len(prefix) :]) for one in found) if key]
            if len(found) < _PAGE:
                return iter(listed)
            if not first <= found[-1].key < end:
                # It would never come to an end.
                raise BackendUnavailable(f"{self._cluster.name}: lists other keys than it was asked for")
            first = found[-1].key + b"\0"

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; see `cronlock.lease.vocabulary.Backend`."""
        deadline, names = self._deadline(), Names(self._base, key)
        taken = False
        while True:
            entry = self._look(names, deadline)
            theirs = entry.latest is not None and entry.latest.owner == owner
            out = theirs and bool(entry.lease or entry.holds)
            if not out and not (theirs and entry.run is not None and not entry.forced_out):
                return taken
            taken = taken or out
            # Also if nothing is left to take: a standby must not take over what somebody let go.
            parts = [put(names.record, entry.after_force(owner)), delete(names.held, below=True)]
            if self._change(names, entry, parts, deadline) is not None:
                return taken

    def close(self) -> None:
        """Close the connection."""
        self._cluster.close()

    # Steps.

    def _look(self, names: Names, deadline: float) -> Entry:
        """Return the key as a majority has it now."""
        parts = [get(names.record), get(names.held, below=True)]
        return _entry(names, *self._transaction([], parts, deadline).ranges(2))

    def _take(self, names: Names, claim: Claim, entry: Entry, deadline: float) -> Entry | None:
        """Grant the key to `claim` if it is still as `entry` says; return the key as it is then, else None."""
        run, dead = entry.granted_run(claim), entry.dead_run(claim.owner)
        parts = []
        if claim.hold > 0:
            # First, since it is the lease of the run whose time is short.
            parts.append(self._hold(names, claim, deadline))
        lease = self._grant(lease_id(claim.owner), _ceil(claim.ttl) + SLACK, deadline)
        text = entry.after_grant(run, claim)
        parts += [put(names.record, text), put(names.lease, lease_text(claim.owner), lease)]
        if dead is not None:
            parts.append(put(names.past(entry.past), _line(dead)))
        try:
            revision = self._change(names, entry, parts, deadline, [unchanged(names.lease, 0)])
        except Refusal as error:
            if not error.lease_gone:
                raise
            return None  # The lease was one of an earlier try, and lapsed just now.
        if revision is None:
            return None
        taken = Entry()
        taken.read(text, revision)
        taken.holder, taken.lease, taken.created, taken.renewed = claim.owner, lease, revision, revision
        return taken

    def _hold(self, names: Names, claim: Claim, deadline: float) -> dict[str, Any]:
        """Return the part that writes the hold of `claim`, with a lease whose id is the server's choice."""
        lease = self._grant(0, _ceil(claim.hold) + SLACK, deadline)
        return put(names.hold_of(claim.owner), hold_text(claim.hold), lease)

    def _begin_hold(self, names: Names, claim: Claim, entry: Entry, modified: int, deadline: float) -> bool:
        """Let the hold of `claim`, which has the lease, begin now: its own is older than the slack makes up for.

        Returns False if the hold was written since revision `modified`, or the lease is lost.
        """
        place, lease = names.hold_of(claim.owner), self._grant(0, _ceil(claim.hold) + SLACK, deadline)
        conditions = [*_ours(names, entry, claim.owner), unchanged(place, modified)]
        part = put(place, hold_text(claim.hold), lease)
        answer = self._transaction(conditions, [part], deadline, [get(place)])
        # Or this very one was done, by a server that was asked before.
        return answer.truth("succeeded") or any(one.lease == lease for one in answer.ranges(1)[0])

    def _end(self, names: Names, entry: Entry, owner: str, ending: Ending, *, keep_hold: bool, deadline: float) -> bool:
        """Record the end of the run of `owner` and remove its lease, if the key is still as `entry` says."""
        ended = entry.ended_run(ending)
        parts = [put(names.record, entry.after_release(ended)), put(names.past(entry.past), _line(ended))]
        parts.append(delete(names.lease))
        if not keep_hold:
            parts.append(delete(names.hold_of(owner)))
        return self._change(names, entry, parts, deadline, _ours(names, entry, owner)) is not None

    def _change(
        self,
        names: Names,
        entry: Entry,
        parts: list[dict[str, Any]],
        deadline: float,
        conditions: list[dict[str, Any]] | None = None,
    ) -> int | None:
        """Carry out `parts` if the record is still the one of `entry`; return the revision then, else None."""
        conditions = [unchanged(names.record, entry.modified), *(conditions or [])]
        answer = self._transaction(conditions, parts, deadline)
        return answer.revision if answer.truth("succeeded") else None

    def _transaction(
        self,
        conditions: list[dict[str, Any]],
        parts: list[dict[str, Any]],
        deadline: float,
        otherwise: list[dict[str, Any]] | None = None,
    ) -> Answer:
        message = {"compare": conditions, "success": parts, "failure": otherwise or []}
        return self._cluster.ask("/v3/kv/txn", message, deadline)

    def _grant(self, lease: int, seconds: int, deadline: float) -> int:
        """Let the server make a lease of that id, or of one that it chooses; return its id.

        One that is there already was made by an earlier try of the same owner, whose time counts from then.
        """
        try:
            answer = self._cluster.ask("/v3/lease/grant", {"ID": str(lease), "TTL": str(seconds)}, deadline)
        except Refusal as error:
            if not error.lease_exists:
                raise
            return lease
        given = answer.number("ID")
        if given <= 0 or (lease and given != lease) or answer.number("TTL") < seconds:
            raise BackendUnavailable(f"{self._cluster.name}: granted another lease than was asked for")
        return given

    def _left(self, lease: int, deadline: float) -> float:
        """Return how many seconds a lease lasts unless it is kept alive, negative if it is over."""
        return self._cluster.ask("/v3/lease/timetolive", {"ID": str(lease)}, deadline).number("TTL")

    def _forget(self, claim: Claim, lease: int, deadline: float) -> None:
        """Revoke a lease of a claim that needs it no more, where it would go on for long."""
        if claim.ttl > _LINGERING:
            try:
                self._cluster.ask("/v3/lease/revoke", {"ID": str(lease)}, deadline)
            except BackendUnavailable:
                pass  # Then it lapses, with nothing left that goes with it.

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout


class _Token:
    """What a grant needs for its renewals and its release."""

    __slots__ = ("entry", "modified", "released")

    def __init__(self, entry: Entry) -> None:
        #: The key as the grant left it, but for its lease.
        self.entry = entry
        #: The revision at which the key of the lease was written last.
        self.modified = entry.renewed
        self.released = False


def _token(grant: Grant) -> _Token | None:
    """Return the grant's token, None if it belongs to another's grant."""
    token = grant.token
    return token if isinstance(token, _Token) and token.entry.is_of(grant.claim.owner) else None


def _granted(claim: Claim, entry: Entry, previous: Run | None = None) -> Grant:
    took_over = entry.run.took_over if entry.run is not None else None
    fence = max(entry.fence, entry.created)  # Somebody may have deleted the record meanwhile.
    return Grant(claim, fence=fence, ttl=claim.ttl, token=_Token(entry), previous=previous, took_over=took_over)


def _entry(names: Names, records: list[KeyValue], held: list[KeyValue]) -> Entry:
    """Return what these keys say; raise ForeignValue if one is not cronlock's."""
    entry = Entry()
    for found in [*records, *held]:
        try:
            if found.key == names.record:
                entry.read(found.value, found.modified)
            elif found.key == names.lease:
                entry.take_lease(found)
            elif found.key.startswith(names.hold):
                entry.take_hold(found)
            else:
                raise ForeignValue("not a key of cronlock")
        except ForeignValue as error:
            place = found.key.decode("utf-8", "replace")[:_LONGEST_SHOWN]
            raise ForeignValue(f"etcd key {place!r}: {error}; delete it or use ?prefix=") from None
    return entry


def _ours(names: Names, entry: Entry, owner: str) -> list[dict[str, Any]]:
    """Return the conditions that the lease is still the one of `entry`, which `owner` has."""
    return [created(names.lease, entry.created), says(names.lease, lease_text(owner))]


def _line(run: Run) -> bytes:
    # Owners begin with names of hosts, which may hold bytes that are no text.
    return record.run_to_line(run).encode("utf-8", "surrogateescape")


def _ceil(seconds: float) -> int:
    return -int(-seconds // 1)
