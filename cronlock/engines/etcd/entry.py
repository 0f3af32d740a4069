"""What etcd keeps of a key, the rules that are judged by it, and what to put in its place."""

from __future__ import annotations

import time

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HISTORY, HOLD, Conflict, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.vocabulary import Claim, Ending
    from .api import KeyValue

#: Keys for past runs, which are written in turn: some more than are shown, since who gave up a takeover
#: wrote down the death of a run that the next one writes down again.
RING = HISTORY + 4
# How many owners that ended or gave up a record remembers.
_REMEMBERED = 16
# Bytes of a host's or a program's name.
_LONGEST_TEXT = 255


class Hold:
    """One hold that is not over: a key that goes with a lease of the hold's length."""

    __slots__ = ("key", "lease", "length", "modified", "until_at")

    def __init__(self, key: bytes, lease: int, length: float, until_at: float, modified: int) -> None:
        self.key = key
        self.lease = lease
        self.length = length
        #: By the clock of the machine that asked for it, to tell people; the server's lease decides.
        self.until_at = until_at
        #: The revision at which it was written last.
        self.modified = modified

    @property
    def remaining(self) -> float:
        """Seconds until it is over, as far as two machines' clocks can tell."""
        return min(max(1.0, self.until_at - time.time()), max(1.0, self.length))


class Entry:
    """A key as it was at one revision."""

    __slots__ = (
        *("created", "fence", "gone", "holder", "holds", "kept_run", "last", "lease", "modified"),
        *("past", "renewed", "run", "success"),
    )

    def __init__(self) -> None:
        """Make the entry of a key that nobody used."""
        #: The revision at which the record was written last; 0 for none.
        self.modified = 0
        #: The highest fence that was ever granted.
        self.fence = 0
        #: Owners that ended or gave up, or were forced out: no request of theirs takes the key again.
        self.gone: tuple[str, ...] = ()
        #: The run that was granted the key last and did not say that it ended.
        self.run: Run | None = None
        self.last: Run | None = None
        #: The run that `run` took over from, or whose hold it ignores, if that died.
        self.kept_run: Run | None = None
        #: The last run that succeeded.
        self.success: Run | None = None
        #: How many runs were ever written into the history.
        self.past = 0
        #: Who has the lease, and the server's id of it; empty and 0 where none is out.
        self.holder = ""
        self.lease = 0
        #: The revisions at which the key of the lease was made and written last.
        self.created = self.renewed = 0
        #: The holds that are not over.
        self.holds: list[Hold] = []

    def read(self, text: bytes, modified: int) -> None:
        """Take the fields of a record that was written at revision `modified`; raise ForeignValue for no record."""
        fields = record.decode(text)
        numbers = [fields.get(name, "0") for name in ("fence", "past", "least")]
        if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
            raise ForeignValue("not a record of cronlock: a number is missing or bad")
        fence, self.past, least = (int(number) for number in numbers)
        self.modified = modified
        self.gone = tuple(owner for owner in fields.get("gone", "").split("\n") if owner)
        self.run, self.last, self.kept_run = (
            record.run_from_fields(fields, prefix) for prefix in ("run.", "last.", "kept.")
        )
        self.success = self.last
        if self.last is None or not self.last.succeeded:
            self.success = record.run_from_line(fields.get("success", ""))
        # Of a grant the fence is the revision of this very write, which nobody knew before.
        self.fence = max(least, modified) if least else fence
        if least and self.run is not None:
            self.run.fence = self.fence

    def take_lease(self, found: KeyValue) -> None:
        """Note whose lease is out; raise ForeignValue for what is none."""
        self.holder = record.decode(found.value).get("owner", "")
        self.lease, self.created, self.renewed = found.lease, found.created, found.modified
        if not self.holder or not self.lease:
            raise ForeignValue("not a lease of cronlock")

    def take_hold(self, found: KeyValue) -> None:
        """Note a hold that is not over; raise ForeignValue for what is none."""
        fields = record.decode(found.value)
        try:
            length, until_at = float(fields["length"]), float(fields["until_at"])
        except (KeyError, ValueError):
            raise ForeignValue("not a hold of cronlock") from None
        # Neither would ever be over.
        if not found.lease or not 0 <= length < 1e15 or not abs(until_at) < 1e15:
            raise ForeignValue("not a hold of cronlock")
        self.holds.append(Hold(found.key, found.lease, length, until_at, found.modified))

    def stand_in(self, earlier: Entry) -> None:
        """Take the run that has the lease from an `earlier` look, if somebody deleted its record since."""
        if self.holders_run is None:
            self.run, self.fence = earlier.run, max(self.fence, earlier.fence)

    def restore_run(self, claim: Claim) -> None:
        """Make up the run of `claim`, which has the lease, if somebody deleted its record since."""
        if self.holders_run is None:
            self.fence = max(self.fence, self.created)
            self.run = self.granted_run(claim)
            self.run.fence = self.fence

    # What it says.

    @property
    def latest(self) -> Run | None:
        """The run that was granted the key last, ended or not."""
        return self.run or self.last

    @property
    def holders_run(self) -> Run | None:
        """The run that has the lease; None if its record is gone."""
        return self.run if self.run is not None and self.run.owner == self.holder else None

    @property
    def forced_out(self) -> bool:
        """Whether `run` is there no more since somebody took its lease or hold from it."""
        return self.run is not None and self.run.owner in self.gone

    def is_of(self, owner: str) -> bool:
        """Whether `owner` has the lease."""
        return self.holder == owner

    def conflict(self, claim: Claim) -> Conflict | None:
        """Return why the claim is not to be granted, None if it is. Whether it has the lease already is not asked."""
        if claim.owner in self.gone:
            return self._refused(CANCELLED, 0.0, self.run)
        if claim.standby_for is not None and not self._to_be_done(claim.standby_for):
            return self._refused(ENDED, 0.0, self.latest)
        if self.lease:
            run = self.holders_run
            return self._refused(HELD, claim.ttl if run is None else run.ttl, run)
        # A hold of its own: it was granted, did not hear of it, and its lease lapsed.
        mine = self.run is not None and self.run.owner == claim.owner
        if self.holds and not (claim.ignore_hold or claim.standby_for is not None or mine):
            return self._refused(HOLD, max(hold.remaining for hold in self.holds), self.latest)
        sight = claim.sight
        if sight is not None and self.fence < sight.floor:
            noticed_age = sight.noticed_age or 0.0
            if sight.noticed_age is None or noticed_age < claim.doubt:
                return self._refused(FORGOTTEN, claim.doubt - noticed_age, self.run)
        return None

    def _refused(self, why: str, remaining: float, run: Run | None) -> Conflict:
        return Conflict(why, remaining=remaining, run=run, fence=self.fence or None)

    def _to_be_done(self, tick: str) -> bool:
        """Whether the last run is of `tick`, and goes on or may be taken over."""
        run = self.latest
        return run is not None and run.tick == tick and run.undone and not self.forced_out

    # What to put in its place.

    def granted_run(self, claim: Claim) -> Run:
        """Return the run that is granted the key by `claim`; the write gives it its fence."""
        latest, took_over = self.latest, None
        if claim.standby_for is not None and latest is not None:
            took_over = latest.took_over if self.run is not None and self.run.owner == claim.owner else latest.fence
        return Run(
            owner=claim.owner,
            host=_clean(claim.host),
            pid=claim.pid,
            program=_clean(claim.program),
            started_at=time.time(),
            ttl=claim.ttl,
            fence=None,
            stands_for=claim.standby_for,
            took_over=took_over,
        )

    def dead_run(self, owner: str) -> Run | None:
        """Return the run that a grant to `owner` replaces, as the history has it."""
        if self.run is None or self.run.owner == owner:
            return None
        return record.cut_off(self.run, by_force=self.forced_out)

    def after_grant(self, run: Run, claim: Claim) -> bytes:
        """Return the record once `run` has the lease."""
        kept_run, past = self.kept_run, self.past
        # Its own lease may have lapsed before it heard of its grant: what that left is not another's.
        if self.run is None or self.run.owner != run.owner:
            kept_run = self.run if self.holds or claim.standby_for is not None else None
            past += self.run is not None
        floor = claim.sight.floor if claim.sight is not None else 0
        return self._text(run=run, kept_run=kept_run, past=past, least=max(self.fence, floor) + 1)

    def after_abandon(self, owner: str) -> bytes:
        """Return the record once `owner` has given up, as it was before its grant if it had one."""
        if self.run is None or self.run.owner != owner:
            return self._text(gone=self._without(owner))
        return self._text(gone=self._without(owner), run=self.kept_run, kept_run=None)

    def after_force(self, owner: str) -> bytes:
        """Return the record once the lease and every hold of `owner` are over, by force."""
        return self._text(gone=self._without(owner), kept_run=None)

    def ended_run(self, ending: Ending) -> Run:
        """Return `run` once it ended so."""
        assert self.run is not None
        values = {name: getattr(self.run, name) for name in Run._fields}
        values.update(ended_at=ending.ended_at, outcome=ending.outcome, status=ending.status)
        return Run(**values)

    def after_release(self, ended: Run) -> bytes:
        """Return the record once `run` has ended."""
        success = ended if ended.succeeded else self.success
        gone = self._without(ended.owner)
        return self._text(run=None, last=ended, kept_run=None, success=success, past=self.past + 1, gone=gone)

    def _without(self, owner: str) -> tuple[str, ...]:
        kept = self.run.owner if self.run is not None and self.forced_out else None
        return record.gone_with(self.gone, owner, _REMEMBERED, kept=kept)

    def _text(self, **changes: Any) -> bytes:
        """Return the record with `changes`; with `least` its fence is the revision of the write, or that."""
        values = {name: getattr(self, name) for name in ("fence", "gone", "kept_run", "last", "past", "run", "success")}
        values.update(changes)
        fields = {"fence": str(values["fence"]), "past": str(values["past"])}
        if "least" in values:
            fields["least"] = str(values["least"])
        for name, prefix in (("run", "run."), ("last", "last."), ("kept_run", "kept.")):
            if values[name] is not None:
                fields.update(record.run_to_fields(values[name], prefix))
        last, success = values["last"], values["success"]
        if success is not None and not (last is not None and last.succeeded):
            fields["success"] = record.run_to_line(success)
        fields["gone"] = "\n".join(values["gone"])
        return record.encode(fields)


def lease_text(owner: str) -> bytes:
    """Return what the key of a lease says."""
    return record.encode({"owner": owner})


def hold_text(length: float) -> bytes:
    """Return what the key of a hold says that begins now."""
    return record.encode({"length": f"{length:.3f}", "until_at": f"{time.time() + length:.3f}"})


def _clean(text: str) -> str:
    """Return text that is sure to be read again: bounded, and without bytes that were not UTF-8."""
    return text.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT].decode("utf-8", "ignore")
