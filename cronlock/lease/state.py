"""The state of a key and its text, which is the data of a store's cell.

The text is lines of printable ASCII between line ends, fields between tabs:

    cronlock=2<TAB>NONCE              the layout, and a random part, new in every text
    fence<TAB>NUMBER                  the highest fence that was ever granted
    run<TAB>...                       the run granted last, until its end is recorded
    past<TAB>...                      a past run; newest first, at most HISTORY lines
    success<TAB>...                   the last run that succeeded, if it is not among these
    paused<TAB>UNTIL<TAB>AT<TAB>USER<TAB>HOST<TAB>REASON
                                      no run may start; UNTIL is empty if only a person ends the pause
    stop<TAB>OWNER<TAB>AT<TAB>USER<TAB>HOST<TAB>TICK
                                      the run of OWNER must end; TICK is empty if it is OWNER
    made<TAB>AT                       when the record was made, if no run is on record

A run's fields stand in the order of `_FIELDS`, its end in seconds after its start. Readers skip further fields and
lines with other names. Characters other than printable ASCII, and ``%``, are written as %XX of their UTF-8 bytes.
"""

from __future__ import annotations

from ..errors import ForeignValue
from ..keys import PRINTABLE, quote, unescape
from ..system import os
from ..value import Value, digits
from .vocabulary import DIED, EXITED, HISTORY, RELEASED, Pause, Run, Stop

MAGIC = "cronlock=2"
_OLDER = b"cronlock=1"
_FIELDS = (
    *("owner", "host", "pid", "program", "started_at", "ttl", "fence"),
    *("ended_at", "outcome", "status", "stands_for", "took_over", "poll"),
)
_OUTCOME, _STATUS = _FIELDS.index("outcome"), _FIELDS.index("status")
#: The most bytes of a host's or program's name, so that two dozen runs stay small; and of a reason.
LONGEST_NAME, LONGEST_REASON = 100, 400
#: Bytes; far more than any text of cronlock.
LONGEST_TEXT = 65536


class State(Value):
    """The decoded record of a key. Immutable by convention."""

    #: The highest fence that was ever granted, 0 if none was.
    fence: int = 0
    #: The run that was granted the key last, until it reports its end; RELEASED after a release by force.
    run: Run | None = None
    #: The lines of past runs, newest first.
    past: tuple[str, ...] = ()
    #: The line of the last run that succeeded, "" without one.
    success: str = ""
    #: It may have expired: `rules.pause_left`.
    paused: Pause | None = None
    #: A stop request for the last run, ended or not, or for one before it.
    stop: Stop | None = None
    #: The epoch time at which the record was made, if there was no run on record since, else None.
    made_at: float | None = None

    @property
    def latest(self) -> Run | None:
        """The run that was granted the key last, ended or not."""
        return self.run or (run_from_line(self.past[0]) if self.past else None)

    def history(self) -> list[Run]:
        """Return the past runs, newest first, without unreadable ones."""
        return [run for run in map(readable, self.past) if run is not None]

    def last_success(self) -> Run | None:
        """Return the last run that succeeded, or None."""
        return run_from_line(self.success) if self.success else None

    def with_past(self, run: Run) -> State:
        """Return this state with `run` as the newest of the past runs."""
        line = run_to_line(run)
        success = line if run.succeeded else self.success
        return self.but(past=(line, *self.past)[:HISTORY], success=success)


def encode(state: State) -> bytes:
    """Return the text of a state, which is unique in each call."""
    lines = [f"{MAGIC}\t{os.urandom(8).hex()}", f"fence\t{state.fence}"]
    if state.run is not None:
        lines.append(f"run\t{run_to_line(state.run)}")
    lines += [f"past\t{line}" for line in state.past]
    if state.success and state.success not in state.past:
        lines.append(f"success\t{state.success}")
    if state.made_at is not None:
        lines.append(f"made\t{_decimal(state.made_at)}")
    if state.paused is not None:
        lines.append(f"paused\t{_pause_to_line(state.paused)}")
    if state.stop is not None:
        stop = state.stop
        tick = "" if stop.tick == stop.owner else stop.tick
        words = ["stop", _quote(stop.owner), _decimal(stop.at), *map(_quote, (stop.user, stop.host, tick))]
        lines.append("\t".join(words).rstrip("\t"))
    return ("\n".join(lines) + "\n").encode("ascii")


def decode(data: bytes | None) -> State:
    """Undo `encode`; None yields the empty state. Raises ForeignValue for anything else."""
    if data is None:
        return State()
    if data.startswith(_OLDER):
        raise ForeignValue("a record of an older, unreleased layout of cronlock")
    try:
        if len(data) > LONGEST_TEXT:
            raise ValueError("too long")
        first, *lines, last = data.decode("ascii").split("\n")
        if first.partition("\t")[0] != MAGIC or last:
            raise ValueError("not a record")
        fence, run, success, paused, stop, made_at = -1, None, "", None, None, None
        past = []
        for line in lines:
            name, _, value = line.partition("\t")
            if name == "past":
                past.append(value)
            elif name == "run":
                run = run_from_line(value)
            elif name == "fence":
                fence = _whole(value)
            elif name == "success":
                success = value
            elif name == "made":
                made_at = _moment(value)
            elif name == "paused":
                paused = _pause_from_line(value)
            elif name == "stop":
                stop = _stop_from_line(value)
        if fence < 0:
            raise ValueError("no fence")
        # Check lines that few callers read, too: nobody may write a record that others cannot read.
        success = success or next((line for line in past if _succeeded(line)), "")
        for line in (*past[:1], *((success,) if success else ())):
            run_from_line(line)
    except ValueError:
        # Without a word of it: it may hold what others keep secret.
        raise ForeignValue("not a record of cronlock") from None
    return State(fence=fence, run=run, past=tuple(past), success=success, paused=paused, stop=stop, made_at=made_at)


def run_to_line(run: Run) -> str:
    """Return a run as one line, with the owner shortened by the host and pid that it repeats."""
    words = []
    for name in _FIELDS:
        value = getattr(run, name)
        if value is None:
            words.append("")
        elif name == "ended_at":
            words.append(_decimal(value - run.started_at))
        elif isinstance(value, float):
            words.append(_decimal(value))
        else:
            words.append(_quote(str(value)))
    start = f"{words[1]}:{words[2]}:"
    if words[0].startswith(start):
        words[0] = words[0][len(start) - 1 :]
    return "\t".join(words).rstrip("\t")


def run_from_line(line: str) -> Run:
    """Undo `run_to_line`. Raises ValueError."""
    words = line.split("\t")[: len(_FIELDS)]
    words += [""] * (len(_FIELDS) - len(words))
    owner, host, pid, program, started_at, ttl, fence, ended_at, outcome, status, stands_for, took_over, poll = words
    if owner.startswith(":"):
        owner = f"{host}:{pid}{owner}"
    if not owner:
        raise ValueError("a run without an owner")
    began = _finite(started_at)
    return Run(
        owner=_unquote(owner),
        host=_unquote(host),
        pid=_whole(pid),
        program=_unquote(program),
        started_at=began,
        ttl=_finite(ttl),
        fence=_whole(fence) if fence else None,
        ended_at=round(began + _finite(ended_at), 3) if ended_at else None,
        outcome=_unquote(outcome) or None,
        status=int(status[:6]) if status else None,
        stands_for=_unquote(stands_for) or None,
        took_over=_whole(took_over) if took_over else None,
        poll=_finite(poll) if poll else None,
    )


def _pause_to_line(pause: Pause) -> str:
    until = "" if pause.until is None else _decimal(pause.until)
    return "\t".join([until, _decimal(pause.at), *map(_quote, (pause.user, pause.host, pause.reason))])


def _pause_from_line(line: str) -> Pause:
    until, at, user, host, reason, *_ = [*line.split("\t"), "", "", ""]
    return Pause(
        user=_unquote(user),
        host=_unquote(host),
        reason=_unquote(reason),
        at=_moment(at),
        until=_moment(until) if until else None,
    )


def _stop_from_line(line: str) -> Stop:
    owner, at, user, host, tick, *_ = [*line.split("\t"), "", "", "", ""]
    return Stop(_unquote(owner), _unquote(user), _unquote(host), _moment(at), _unquote(tick or owner))


def readable(line: str) -> Run | None:
    """Return the run of a line, None if it is not one."""
    try:
        return run_from_line(line)
    except ValueError:
        return None


def cut_off(run: Run) -> Run:
    """Return a run without a recorded end as history shows it: DIED, or RELEASED by force."""
    return run.but(outcome=RELEASED if run.outcome == RELEASED else DIED)


def bounded(text: str, longest: int = LONGEST_NAME) -> str:
    """Return the start of a text, such as a host name, in a form that survives encoding."""
    return text.encode("utf-8", "backslashreplace")[:longest].decode("utf-8", "ignore")


def _succeeded(line: str) -> bool:
    words = line.split("\t")
    return len(words) > _STATUS and words[_OUTCOME] == EXITED and words[_STATUS] == "0"


def _quote(text: str) -> str:
    plain = text.isascii() and text.isprintable() and "%" not in text
    return text if plain else quote(text, PRINTABLE)


def _unquote(text: str) -> str:
    return unescape(text, "surrogateescape")


def _decimal(value: float) -> str:
    """Return a number to the millisecond in as few characters as possible: some servers charge by the kilobyte."""
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def _whole(text: str) -> int:
    number = digits(text, 19)
    if number is None:
        raise ValueError(f"not a whole number: {text[:20]!r}")
    return number


def _moment(text: str) -> float:
    return round(_finite(text), 3)


def _finite(text: str) -> float:
    value = float(text)
    if not -1e15 < value < 1e15:
        raise ValueError(f"not a time: {text[:20]!r}")
    return value
