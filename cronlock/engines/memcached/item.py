"""What memcached keeps of a key: the text of its item, and the rules that are judged by it.

Past runs lie in items of their own beside it, one a run, so that who only wants to know whether
the key is free need not read them. Such an item is written once its run is past for good, at the
next grant: until then the key's own item has the run, so a write that fails costs no more than
one run of the history, and not the newest.
"""

from __future__ import annotations

import time

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import CANCELLED, ENDED, HELD, HISTORY, HOLD, Conflict, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.vocabulary import Claim, Ending

#: Seconds that a lease or a hold is made longer by, for the server's whole seconds.
SLACK = 2.0
#: Items for past runs, by fence: some more than are shown, since who gives up has a fence as well.
RING = HISTORY + 12
# How many owners that ended or gave up an item remembers.
_REMEMBERED = 16
# Bytes; with every name of such a length an item still fits what is read of it.
_LONGEST_TEXT = 255


class State:
    """What an item says. `lease` and `hold` are seconds from now on the server's clock, slack included."""

    __slots__ = ("fence", "gone", "hold", "kept", "kept_run", "last", "lease", "past", "run", "success")

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
        success: Run | None = None,
        past: tuple[Run, ...] = (),
    ) -> None:
        #: The highest fence that was ever granted.
        self.fence = fence
        #: The run that was granted the key last and did not say that it ended.
        self.run = run
        self.last = last
        self.lease = lease
        self.hold = hold
        #: The rest of a hold that `run` was told to ignore, and the run that it replaced, if that died.
        self.kept = kept
        self.kept_run = kept_run
        #: Owners that ended or gave up: no request of theirs takes the key again.
        self.gone = gone
        #: The last run that succeeded.
        self.success = success
        #: Runs that may not be in items of their own yet; not in the item's text.
        self.past = past

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Undo `encode`; raise ForeignValue for anything else."""
        fields = record.decode(data)
        numbers = [fields.get("fence", ""), fields.get("lease", ""), fields.get("hold", ""), fields.get("kept", "0")]
        if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
            raise ForeignValue("not a record of cronlock: a number is missing or bad")
        fence, lease, hold, kept = (int(number) for number in numbers)
        gone = tuple(owner for owner in fields.get("gone", "").split("\n") if owner)
        run, last, kept_run = (record.run_from_fields(fields, prefix) for prefix in ("run.", "last.", "kept."))
        ended = last is not None and last.succeeded
        return cls(
            fence=fence,
            run=run,
            last=last,
            lease=lease,
            hold=hold,
            kept=kept,
            kept_run=kept_run,
            gone=gone,
            success=last if ended else record.run_from_line(fields.get("success", "")),
            past=() if last is None else (last,),
        )

    def encode(self) -> bytes:
        """Return the item's text; times are rounded up to the server's whole seconds."""
        fields = {"fence": str(self.fence), "lease": str(_ceil(self.lease)), "hold": str(_ceil(self.hold))}
        if self.kept:
            fields["kept"] = str(_ceil(self.kept))
        for prefix, run in (("run.", self.run), ("last.", self.last), ("kept.", self.kept_run)):
            if run is not None:
                fields.update(record.run_to_fields(run, prefix))
        if self.success is not None and not (self.last is not None and self.last.succeeded):
            fields["success"] = record.run_to_line(self.success)
        fields["gone"] = "\n".join(self.gone)
        return record.encode(fields)

    def but(self, **changes: Any) -> State:
        """Return this state with `changes`."""
        return State(**{**{name: getattr(self, name) for name in self.__slots__}, **changes})

    def after(self, seconds: float) -> State:
        """Return this state as it is so much later."""
        left = {name: max(0.0, getattr(self, name) - seconds) for name in ("lease", "hold", "kept")}
        return self.but(**left)

    def freed(self, owner: str, **changes: Any) -> State:
        """Return this state once its run, of `owner`, is over, with no more hold than there was before it."""
        over: dict[str, Any] = {"run": None, "lease": 0.0, "hold": self.kept, "gone": self.without(owner)}
        return self.but(**{**over, "kept": 0.0, "kept_run": None, **changes})

    def without(self, owner: str) -> tuple[str, ...]:
        """Return who is gone when `owner` is too."""
        kept = self.run.owner if self.run is not None and self.forced_out else None
        return record.gone_with(self.gone, owner, _REMEMBERED, kept=kept)

    def is_run_of(self, owner: str) -> bool:
        """Whether the key is `owner`'s, who has neither ended nor given up nor been forced out."""
        return self.run is not None and self.run.owner == owner and owner not in self.gone

    @property
    def latest(self) -> Run | None:
        """The run that was granted the key last, ended or not."""
        return self.run or self.last

    @property
    def forced_out(self) -> bool:
        """Whether the lease was taken from the run that did not end by its own word."""
        return self.run is not None and self.run.owner in self.gone

    def ended(self, ending: Ending, *, keep_hold: bool) -> State:
        """Return this state once its run ended so."""
        assert self.run is not None
        values = {name: getattr(self.run, name) for name in Run._fields}
        values.update(ended_at=ending.ended_at, outcome=ending.outcome, status=ending.status)
        last = Run(**values)
        more = {"hold": self.hold} if keep_hold else {}
        return self.freed(last.owner, last=last, success=last if last.succeeded else self.success, **more)

    def taken(self, claim: Claim) -> State:
        """Return the state after the grant of a free key."""
        again = self.is_run_of(claim.owner)
        past, kept, kept_run, took_over = self.past, self.kept, self.kept_run, None
        # Its own lease may have lapsed before it heard of it: what that left is not another's.
        if again:
            took_over = self.run.took_over if self.run is not None else None
        else:
            kept, kept_run = self.hold, self.run if self.hold or claim.standby_for is not None else None
            if self.run is not None:
                past = (*past, record.cut_off(self.run, by_force=self.forced_out))
            if claim.standby_for is not None and self.latest is not None:
                took_over = self.latest.fence
        asked = max(claim.hold + SLACK if claim.hold > 0 else 0.0, self.hold if again else 0.0)
        run = self._new_run(claim, took_over)
        return self.but(
            fence=run.fence,
            run=run,
            lease=claim.ttl + SLACK,
            hold=max(kept, asked),
            kept=kept,
            kept_run=kept_run,
            past=past,
        )

    def _new_run(self, claim: Claim, took_over: int | None) -> Run:
        # Without an item this node's clock stands in: later than any fence that ever began so.
        last_fence = self.fence or int(time.time() * 1e6)
        return Run(
            owner=claim.owner,
            host=_clean(claim.host),
            pid=claim.pid,
            program=_clean(claim.program),
            started_at=time.time(),
            ttl=claim.ttl,
            fence=max(last_fence, claim.sight.floor if claim.sight else 0) + 1,
            stands_for=claim.standby_for,
            took_over=took_over,
        )


def refusal(state: State, claim: Claim) -> Conflict | None:
    """Return why the key is not free for `claim`, if it is not."""
    fence = state.fence or None
    if claim.owner in state.gone:
        return Conflict(CANCELLED, remaining=0.0, run=state.run, fence=fence)
    if claim.standby_for is not None and not _awaits(state, claim.standby_for):
        return Conflict(ENDED, remaining=0.0, run=state.latest, fence=fence)
    if state.run is not None and state.lease:
        return Conflict(HELD, remaining=remaining(state.lease), run=state.run, fence=fence)
    # A lease of our own that lapsed in the meantime leaves a hold of our own.
    if state.hold and not (claim.ignore_hold or claim.standby_for is not None or state.is_run_of(claim.owner)):
        return Conflict(HOLD, remaining=remaining(state.hold), run=state.latest, fence=fence)
    return None


def _awaits(state: State, tick: str) -> bool:
    """Whether a standby for `tick` may have the key once it is not leased."""
    latest = state.latest
    return latest is not None and latest.tick == tick and latest.undone and not state.forced_out


def run_to_item(run: Run) -> tuple[int, bytes]:
    """Return which of the items for past runs is that of `run`, and its text."""
    return (run.fence or 0) % RING, record.encode(record.run_to_fields(run))


def run_from_item(data: bytes) -> Run | None:
    """Return the run that an item for past runs has; None for what is not one, which is passed over."""
    try:
        return record.run_from_fields(record.decode(data))
    except ForeignValue:
        return None


def remaining(seconds: float) -> float:
    """Return seconds without the slack, which is for safety, but never 0 while they last."""
    return max(1.0, seconds - SLACK) if seconds else 0.0


def _ceil(seconds: float) -> int:
    return -int(-seconds // 1)


def _clean(text: str) -> str:
    """Return text that is sure to be read again: bounded, and without bytes that were not UTF-8."""
    return text.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT].decode("utf-8", "ignore")
