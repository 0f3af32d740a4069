"""What a key's node in ZooKeeper says, and what to put in its place."""

from __future__ import annotations

from ...errors import ForeignValue
from ...keys import escape
from ...lease import record
from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HOLD, Conflict, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.vocabulary import Claim, Ending
    from .history import History
    from .session import Session

# Characters of a host's or a program's name that are kept, so that a history stays small.
_LONGEST_TEXT = 100


class Entry:
    """A key's record as it was at one version of its node; texts are what to put in its place."""

    __slots__ = (
        *("changed", "fence", "forced", "gone", "granted", "history", "hold", "kept", "kept_run", "last"),
        *("live", "now", "run", "session", "timeout", "version", "zxid"),
    )

    def __init__(self, text: bytes, names: list[str], stat: Any, *, now: int, zxid: int) -> None:
        """Read a node; raise ForeignValue if it or one of the nodes below it is not cronlock's."""
        self.version: int = stat.version
        #: When the node was written, and when it was looked at: the leader's clock, milliseconds.
        self.changed: int = stat.mtime
        self.now = now
        self.zxid = zxid
        self.read_text(text)
        #: The runs before now, where they were asked for.
        self.history: History | None = None
        #: Whether the lease of `run` is there.
        self.live = bool(names)
        if self.live and names != [escape(self.owner)]:
            raise ForeignValue(f"the parent of nodes that are not cronlock's, such as {names[0]!r}")

    def read_text(self, text: bytes) -> None:
        """Take the fields of a node's text."""
        fields = record.decode(text)
        try:
            #: The highest fence granted.
            self.fence = int(fields["fence"])
            #: The last owner that gave up: it gets nothing more.
            self.gone = fields.get("gone", "")
            #: The last owner that lost lease or hold by force: neither does it.
            self.forced = fields.get("forced", "")
            #: Seconds of hold from the grant on, and when that was if not at the last change.
            self.hold = float(fields.get("hold", "0"))
            self.granted = int(fields["granted"]) if "granted" in fields else None
            #: When a hold ends that is not `run`'s own: the leader's clock, milliseconds; else 0.
            self.kept = int(fields.get("kept", "0"))
            #: The session of the lease, and how many seconds it lasts.
            self.session = int(fields.get("session", "0"), 16)
            self.timeout = float(fields.get("timeout", "0"))
            # Nonsense that could not be counted with.
            if not all(abs(number) < 1e15 for number in (self.hold, self.granted or 0, self.kept, self.timeout)):
                raise ValueError
        except (KeyError, ValueError):
            raise ForeignValue("not a record of cronlock: a field is missing or of the wrong kind") from None
        self.run = record.run_from_fields(fields, "run.")
        self.last = record.run_from_fields(fields, "last.")
        #: The run that left that hold, or that `run` took over from, if it died.
        self.kept_run = record.run_from_fields(fields, "kept.")

    @property
    def owner(self) -> str:
        """The owner of the run granted last, until it ended."""
        return self.run.owner if self.run is not None else ""

    @property
    def latest(self) -> Run | None:
        """The run granted last, ended or not."""
        return self.run or self.last

    @property
    def forced_out(self) -> bool:
        """Whether `run` is there no more since somebody took its lease or hold from it."""
        return self.run is not None and self.run.owner == self.forced

    def hold_left(self) -> float:
        """Return the seconds until the hold is over, 0 when it is."""
        return max(0.0, self.hold - (self.now - self._granted()) / 1000) if self.hold else 0.0

    def lease_left(self, stat: Any, now: float) -> float:
        """Return the seconds that the lease lasts unless it is renewed; `stat` is its node's, `now` in milliseconds."""
        # The leader rounds up to its tick: a lease that is due may be there for a moment.
        idle: float = (now - stat.mtime) / 1000
        return max(0.1, self.timeout - idle)

    def ours(self, claim: Claim, session: Session) -> bool:
        """Whether the lease there is the claim's own, in this session."""
        return self.live and self.owner == claim.owner and self.session == session.id

    def conflict(self, claim: Claim) -> Conflict | None:
        """Return why the claim is not to be granted, None if it is; `remaining` of a lease is left open."""
        if claim.owner in (self.gone, self.forced) or (self.last is not None and self.last.owner == claim.owner):
            return Conflict(CANCELLED, remaining=0.0, run=self.run, fence=self.fence)
        if claim.standby_for is not None and not self._to_be_done(claim.standby_for):
            return Conflict(ENDED, remaining=0.0, run=self.latest, fence=self.fence)
        if self.live:
            return Conflict(HELD, remaining=0.0, run=self.run, fence=self.fence)
        left = self.hold_left()
        # A hold of its own: it was granted, did not hear of it, and its session ended.
        heeds = not claim.ignore_hold and claim.standby_for is None and self.owner != claim.owner
        if left and heeds:
            return Conflict(HOLD, remaining=left, run=self.latest, fence=self.fence)
        sight = claim.sight
        if sight is not None and self.fence < sight.floor:
            noticed_age = sight.noticed_age or 0.0
            if sight.noticed_age is None or noticed_age < claim.doubt:
                return Conflict(FORGOTTEN, remaining=claim.doubt - noticed_age, run=self.run, fence=self.fence)
        return None

    def _to_be_done(self, tick: str) -> bool:
        """Whether the last run is of `tick`, and goes on or may be taken over."""
        run = self.latest
        return run is not None and run.tick == tick and run.undone and not self.forced_out

    def granted_run(self, claim: Claim, session: Session) -> Run:
        """Return the run that is granted the key by `claim`."""
        latest = self.latest
        took_over = None
        if claim.standby_for is not None and latest is not None:
            took_over = latest.took_over if self.owner == claim.owner else latest.fence
        return Run(
            owner=claim.owner,
            host=_short(claim.host),
            pid=claim.pid,
            program=_short(claim.program),
            started_at=self.now / 1000,
            ttl=min(claim.ttl, session.timeout),
            fence=max(self.zxid, self.fence + 1, claim.sight.floor + 1 if claim.sight is not None else 0),
            stands_for=claim.standby_for,
            took_over=took_over,
        )

    def text(self, **changes: Any) -> bytes:
        """Return the record with `changes`; `granted` None means when this text is written."""
        names = ("fence", "gone", "forced", "hold", "kept", "session", "timeout", "run", "last", "kept_run")
        values = {name: getattr(self, name) for name in names}
        values["granted"] = self._granted()
        values.update(changes)
        fields = {
            "fence": str(values["fence"]),
            "gone": values["gone"],
            "hold": f"{values['hold']:.3f}",
            "session": f"{values['session']:x}",
            "timeout": f"{values['timeout']:.3f}",
        }
        if values["granted"] is not None:
            fields["granted"] = str(values["granted"])
        if values["forced"]:
            fields["forced"] = values["forced"]
        if values["kept"]:
            fields["kept"] = str(values["kept"])
        for name, prefix in (("run", "run."), ("last", "last."), ("kept_run", "kept.")):
            if values[name] is not None:
                fields.update(record.run_to_fields(values[name], prefix))
        return record.encode(fields)

    def after_grant(self, run: Run, session: Session, hold: float) -> bytes:
        """Return the record once `run` has the lease; a hold that it ignores goes on if it is the longer one."""
        kept, kept_run = self.kept, self.kept_run
        # Its own session may have ended before it heard of its grant: that is not another's hold.
        if self.owner != run.owner:
            left = self.hold_left()
            kept = self._granted() + round(self.hold * 1000) if left else 0
            kept_run = self.run if left or run.stands_for is not None else None
        else:
            hold = max(hold, self.hold_left())
        return self.text(
            run=run,
            fence=run.fence,
            hold=max(hold, (kept - self.now) / 1000),
            granted=None,
            kept=kept,
            kept_run=kept_run,
            session=session.id,
            timeout=session.timeout,
        )

    def after_abandon(self, owner: str) -> bytes:
        """Return the record once `owner` has given up, as it was before its grant if it had one."""
        if self.owner != owner:
            return self.text(gone=owner)
        return self.text(gone=owner, run=self.kept_run, hold=self._hold_before(), kept=0, kept_run=None)

    def after_force(self) -> bytes:
        """Return the record once the lease and every hold of the last run are over, by force."""
        return self.text(hold=0.0, kept=0, kept_run=None, forced=self.latest.owner if self.latest is not None else "")

    def after_release(self, ending: Ending, ended_at: float, keep_hold: bool) -> bytes:
        """Return the record once `run` has ended."""
        run = self.run
        assert run is not None
        run.ended_at, run.outcome, run.status = ended_at, ending.outcome, ending.status
        hold = self.hold if keep_hold else self._hold_before()
        return self.text(run=None, last=run, hold=hold, kept=0, kept_run=None)

    def _hold_before(self) -> float:
        """Return the hold that was there before the run, in seconds from the run's grant on."""
        return max(0.0, (self.kept - self._granted()) / 1000)

    def _granted(self) -> int:
        return self.changed if self.granted is None else self.granted


def _short(text: str) -> str:
    """Cut `text`, and make it one that is UTF-8, so that whoever reads it can print it."""
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
