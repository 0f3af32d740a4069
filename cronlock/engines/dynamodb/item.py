"""What DynamoDB keeps of a key: the attributes of its item, and the rules that are judged by it.

Times are epoch seconds by AWS's clock, as far as the writer knew it. Attributes of the item: ``v`` (1, the
layout), ``rev`` (another number after every change), ``fence`` (the highest granted, if any was), ``lapse`` and
``hold`` (ends of lease and hold), ``run`` (granted the key last, and has not ended by its own word), ``last`` (the
last that has), ``gone`` (who gave the key back last), ``kept`` and ``kept_run`` (a hold that the present run was
told to ignore, and the run that it replaced if that died), ``success`` (the last success, unless that is ``last``),
``past`` (runs that are not in items of their own yet), ``mark`` (of ``strict=yes``: a ``rev``, and since when it
has been seen).

A write is paid for by the size of the whole item, in steps of 1 KB. So past runs go to items beside it, eight a
key with four runs each, when there would be no room for them any more.
"""

from __future__ import annotations

import binascii
import hashlib

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import CANCELLED, ENDED, HELD, HISTORY, HOLD, Conflict, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.vocabulary import Claim, Ending

    #: An item as the protocol has it: name -> {kind: value}.
    Item = dict[str, dict[str, Any]]

#: The item's key.
KEY = "cronlock"
#: How long a lease or a hold counts as on after its end, in seconds: clocks may differ so much.
SLACK = 2.0
#: Past runs that are kept beside the item, by fence: more than are shown, since who gives up has a fence as well.
RING = HISTORY + 12
PAGE = 4
PAGES = RING // PAGE
#: Bytes of an item by which its writes are paid for.
UNIT = 1024
# What the take of a key adds beside the run itself: names, and times.
_TAKEN = 40
_REMEMBERED = 8
# Bytes; a host or a program of such a length makes an item cost more, and no run fail.
_LONGEST_TEXT = 255
_VERSION = "1"
_RUN_FIELDS = (
    *("owner", "host", "pid", "program", "started_at", "ttl", "fence", "ended_at", "outcome", "status"),
    *("stands_for", "took_over"),
)
_TIMES = ("lapse", "hold", "kept")
_RUNS = ("run", "last", "kept_run", "success")


class State:
    """What an item says; `rev` is 0 where there is none."""

    __slots__ = (
        *("fence", "gone", "hold", "kept", "kept_run", "lapse", "last", "mark", "past", "rev", "run", "success"),
    )

    def __init__(
        self,
        *,
        rev: int = 0,
        fence: int = 0,
        run: Run | None = None,
        last: Run | None = None,
        lapse: float = 0.0,
        hold: float = 0.0,
        kept: float = 0.0,
        kept_run: Run | None = None,
        gone: tuple[str, ...] = (),
        success: Run | None = None,
        past: tuple[Run, ...] = (),
        mark: str = "",
    ) -> None:
        self.rev = rev
        self.fence = fence
        self.run = run
        self.last = last
        self.lapse = lapse
        self.hold = hold
        self.kept = kept
        self.kept_run = kept_run
        #: By `digest`.
        self.gone = gone
        self.success = success
        self.past = past
        self.mark = mark

    @classmethod
    def decode(cls, item: Item) -> State:
        """Undo `encode`; raise ForeignValue for anything else."""
        try:
            if item["v"]["N"] != _VERSION:
                raise ValueError("v")
            rev, fence = _whole(item["rev"]["N"]), _whole(item["fence"]["N"]) if "fence" in item else 0
            lapse, hold, kept = (_time(item[name]["N"]) if name in item else 0.0 for name in _TIMES)
            run, last, kept_run, success = (
                run_from_text(_text(item[name])) if name in item else None for name in _RUNS
            )
            past = run_texts(_text(item["past"])) if "past" in item else ()
            gone, mark = _text(item["gone"]).split(), _text(item["mark"]) if "mark" in item else ""
        except (KeyError, ValueError, TypeError, AttributeError, ForeignValue) as error:
            raise ForeignValue(f"not a record of cronlock: {error}") from None
        if run is not None and run.fence is None:
            run.fence = fence
        if last is not None and last.succeeded:
            success = last
        return cls(
            rev=rev,
            fence=fence,
            run=run,
            last=last,
            lapse=lapse,
            hold=hold,
            kept=kept,
            kept_run=kept_run,
            gone=tuple(gone),
            success=success,
            past=past,
            mark=mark,
        )

    def encode(self) -> Item:
        """Return the item's attributes, without its key."""
        item: Item = {"v": {"N": _VERSION}, "rev": {"N": str(self.rev)}}
        if self.fence:
            # Nothing is granted yet where there is none: the first grant begins as that of a new item does.
            item["fence"] = {"N": str(self.fence)}
        for name in _TIMES:
            if getattr(self, name):
                item[name] = number(getattr(self, name))
        for name in _RUNS:
            run = getattr(self, name)
            if run is not None and not (name == "success" and self.last is not None and self.last.succeeded):
                # That of the highest fence is written in the step that finds out which that is.
                item[name] = {"S": run_to_text(run, but_fence=self.fence if name == "run" else None)}
        if self.past:
            item["past"] = {"S": "\n".join(map(run_to_text, self.past))}
        if self.mark:
            item["mark"] = {"S": self.mark}
        item["gone"] = {"S": gone_to_text(self.gone)}
        return item

    def size(self, name: str) -> int:
        """Return about how many bytes the item called `name` has, once there is a run in it such as the last one."""
        size = len(KEY) + len(name.encode())
        size += sum(len(name) + len(next(iter(value.values())).encode()) for name, value in self.encode().items())
        before = self.last or (self.past[-1] if self.past else None)
        if self.run is None and before is not None:
            size += _TAKEN + len(run_to_text(before).encode())
        return size

    def but(self, **changes: Any) -> State:
        """Return this state with `changes`."""
        return State(**{**{name: getattr(self, name) for name in self.__slots__}, **changes})

    def without(self, owner: str) -> tuple[str, ...]:
        """Return who is gone when `owner` is too."""
        kept = digest(self.run.owner) if self.run is not None and self.forced_out else None
        return record.gone_with(self.gone, digest(owner), _REMEMBERED, kept=kept)

    def is_gone(self, owner: str) -> bool:
        """Whether `owner` ended, gave up or was forced out."""
        return digest(owner) in self.gone

    def is_run_of(self, owner: str) -> bool:
        """Whether the key is `owner`'s, who has neither ended nor given up nor been forced out."""
        return self.run is not None and self.run.owner == owner and not self.is_gone(owner)

    @property
    def latest(self) -> Run | None:
        """The run that was granted the key last, ended or not."""
        return self.run or self.last

    @property
    def forced_out(self) -> bool:
        """Whether the lease was taken from the run that did not end by its own word."""
        return self.run is not None and self.is_gone(self.run.owner)

    def leased(self, now: float) -> bool:
        """Whether a run has the key at `now`, or may believe so."""
        return self.run is not None and is_on(self.lapse, now)

    def freed(self, owner: str, **changes: Any) -> State:
        """Return this state once its run, of `owner`, is over, with no more hold than there was before it."""
        over = {"run": None, "lapse": 0.0, "hold": self.kept, "gone": self.without(owner), "mark": ""}
        return self.but(**{**over, "kept": 0.0, "kept_run": None, **changes})

    def forced(self, owner: str) -> State:
        """Return this state once lease and hold were taken from `owner`."""
        return self.but(lapse=0.0, hold=0.0, kept=0.0, kept_run=None, gone=self.without(owner), mark="")

    def ended(self, ending: Ending, now: float, *, keep_hold: bool) -> State:
        """Return this state once its run ended so at `now`."""
        assert self.run is not None
        values = {name: getattr(self.run, name) for name in Run._fields}
        values.update(ended_at=max(now, self.run.started_at), outcome=ending.outcome, status=ending.status)
        last = Run(**values)
        more: dict[str, Any] = {"hold": self.hold} if keep_hold else {}
        if self.last is not None:
            more["past"] = (*self.past, self.last)
        return self.freed(last.owner, last=last, success=last if last.succeeded else self.success, **more)

    def restarted(self, claim: Claim, now: float) -> State:
        """Return this state, whose lease is the claim's own, as if it had been granted at `now`."""
        assert self.run is not None
        hold = max(now + claim.hold if claim.hold > 0 else 0.0, self.kept)
        run = new_run(claim, now, self.run.fence, self.run.took_over)
        return self.but(lapse=now + claim.ttl, hold=hold, run=run)

    def taken(self, claim: Claim, now: float, judged: float) -> State:
        """Return the state after a grant at `now`, of a key that is free at `judged`."""
        again = self.is_run_of(claim.owner)
        past, kept, kept_run, took_over = self.past, self.kept, self.kept_run, None
        own_hold = self.hold if again else 0.0
        # Its own lease may have lapsed before it heard of it: what that left is not another's.
        if again:
            took_over = self.run.took_over if self.run is not None else None
        else:
            holds = is_on(self.hold, judged)
            kept = self.hold if holds else 0.0
            kept_run = self.run if holds or claim.standby_for is not None else None
            if self.run is not None:
                past = (*past, record.cut_off(self.run, by_force=self.forced_out))
            if claim.standby_for is not None and self.latest is not None:
                took_over = self.latest.fence
        floor = claim.sight.floor if claim.sight is not None else 0
        fence = max(self.fence or int(now), floor) + 1
        asked = now + claim.hold if claim.hold > 0 else 0.0
        return self.but(
            fence=fence,
            run=new_run(claim, now, fence, took_over),
            lapse=now + claim.ttl,
            hold=max(kept, asked, own_hold),
            kept=kept,
            kept_run=kept_run,
            past=past,
            mark="",
        )


def new_run(claim: Claim, now: float, fence: int | None, took_over: int | None = None) -> Run:
    """Return the run of `claim` that starts at `now`."""
    return Run(
        owner=claim.owner,
        host=_clean(claim.host),
        pid=claim.pid,
        program=_clean(claim.program),
        started_at=now,
        ttl=claim.ttl,
        fence=fence,
        stands_for=claim.standby_for,
        took_over=took_over,
    )


def is_on(end: float, now: float) -> bool:
    """Whether a lease or a hold that ends at `end` counts as on at `now`."""
    return end > 0 and end + SLACK > now


def remaining(end: float, judged: float, now: float) -> float:
    """Return for how many seconds from `now` on, never 0 while it counts as on at `judged`."""
    return max(1.0, end - now) if is_on(end, judged) else 0.0


def refusal(state: State, claim: Claim, judged: float, now: float, latest: float) -> Conflict | None:
    """Return why the key is not free for `claim`, if it is not.

    It surely is `judged` by AWS's time, surely not later than `latest`, and likely `now`.
    """
    fence = state.fence or None
    if state.is_gone(claim.owner):
        return Conflict(CANCELLED, remaining=0.0, run=state.run, fence=fence)
    if state.is_run_of(claim.owner):
        return None
    run = state.run
    # Every run that finds a key free starts behind its hold; a grant that stands, no more than SLACK after AWS's time.
    ahead = run is not None and max(state.kept, latest) + SLACK < run.started_at
    if ahead and is_on(state.kept, judged) and not claim.ignore_hold:
        # Taken by a clock that is ahead, and not undone yet: its run never begins, and stands for no tick.
        return Conflict(HOLD, remaining=remaining(state.kept, judged, now), run=state.last, fence=fence)
    if claim.standby_for is not None and not _awaits(state, claim.standby_for):
        return Conflict(ENDED, remaining=0.0, run=state.latest, fence=fence)
    if state.run is not None and state.leased(judged):
        left = min(remaining(state.lapse, judged, now), max(state.run.ttl, 1.0))
        return Conflict(HELD, remaining=left, run=state.run, fence=fence)
    if is_on(state.hold, judged) and not (claim.ignore_hold or claim.standby_for is not None):
        return Conflict(HOLD, remaining=remaining(state.hold, judged, now), run=state.latest, fence=fence)
    return None


def _awaits(state: State, tick: str) -> bool:
    """Whether a standby for `tick` may have the key once it is not leased."""
    latest = state.latest
    return latest is not None and latest.tick == tick and latest.undone and not state.forced_out


def digest(owner: str) -> str:
    """Return what stands for an owner: six bytes of its hash, as text without a space."""
    data = hashlib.sha256(owner.encode("utf-8", "surrogateescape")).digest()[:6]
    return binascii.b2a_base64(data, newline=False).decode()


def gone_to_text(gone: tuple[str, ...]) -> str:
    """Return the owners of `digest` as one text, never empty: some servers take no empty one."""
    return " ".join(gone) or " "


def number(value: float) -> dict[str, str]:
    """Return a time as an attribute."""
    return {"N": f"{value:.3f}"}


def run_to_text(run: Run, but_fence: int | None = None) -> str:
    """Return a run as one line: its fields between tabs, and no fence if that is `but_fence`.

    What an owner repeats of host and pid is left out.
    """
    words = []
    start = f"{run.host}:{run.pid}:"
    for name in _RUN_FIELDS:
        value = getattr(run, name)
        if name == "owner" and value.startswith(start):
            value = value[len(start) - 1 :]
        if value is None or (name == "fence" and value == but_fence):
            words.append("")
        elif isinstance(value, float):
            words.append(f"{value:.3f}")
        else:
            words.append(str(value).replace("%", "%25").replace("\n", "%0A").replace("\t", "%09"))
    return "\t".join(words).rstrip("\t").encode("utf-8", "backslashreplace").decode()


def run_from_text(text: str) -> Run:
    """Undo `run_to_text`; raise ForeignValue for another text."""
    words = [word.replace("%09", "\t").replace("%0A", "\n").replace("%25", "%") for word in text.split("\t")]
    # What a newer program wrote behind is passed over.
    run = record.run_from_fields({name: word for name, word in zip(_RUN_FIELDS, words) if word})
    if run is None:
        raise ForeignValue("a run without an owner")
    if run.owner.startswith(":"):
        run.owner = f"{run.host}:{run.pid}{run.owner}"
    return run


def run_texts(text: str) -> tuple[Run, ...]:
    """Return the runs of several lines, without what is none."""
    runs = []
    for line in text.split("\n"):
        try:
            runs.append(run_from_text(line))
        except ForeignValue:
            continue
    return tuple(runs)


def slot_of(run: Run) -> tuple[int, int]:
    """Return on which page a past run is kept, and in which slot."""
    place = (run.fence or 0) % RING
    return place // PAGE, place % PAGE


def runs_of_page(item: Item) -> list[Run]:
    """Return the runs of a page; what is none is passed over."""
    runs: list[Run] = []
    for slot in range(PAGE):
        try:
            runs += run_texts(_text(item[f"h{slot}"]))
        except (KeyError, ValueError, TypeError):
            continue
    return runs


def _text(attribute: dict[str, Any]) -> str:
    """Return an attribute's text; raise KeyError, TypeError or ValueError where it has none that UTF-8 can tell."""
    text = attribute["S"]
    if not isinstance(text, str):
        raise TypeError("no text")
    # JSON can say halves of characters, DynamoDB cannot keep them.
    text.encode()
    return text


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"no whole number: {text[:20]!r}")
    return int(text)


def _time(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise ValueError(f"no time: {text[:20]!r}")
    return value


def _clean(text: str) -> str:
    """Return text that is sure to be read again: bounded, and without bytes that were not UTF-8."""
    return text.encode("utf-8", "backslashreplace")[:_LONGEST_TEXT].decode("utf-8", "ignore")
