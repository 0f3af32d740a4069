"""The findings of ``cronlock doctor``, and its rules, as pure functions of measured values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import durations
from ..errors import printable
from ..lease import timing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..lease.vocabulary import Traits

OK = "ok"
#: Nothing wrong, or not known, but worth knowing.
NOTE = "note"
WARNING = "warning"
BAD = "bad"
#: From best to worst.
LEVELS = (OK, NOTE, WARNING, BAD)

# Cron fires by the machines' own clocks; NTP keeps them within much less.
_CLOCK_WARNING = 5.0
_NEARLY_FULL = 0.9
# Bytes of one key of the file backend; bytes and files of two hundred keys and a log.
_ONE_KEY = 1 << 16
_LEAST_SPACE, _LEAST_FILES = 16 << 20, 1000
_DAY = 86400.0
# Automatic renewal of a certificate happens with a third of its time left.
_CERTIFICATE_WARNING, _CERTIFICATE_SHARE = 14 * _DAY, 0.2


@dataclass
class Finding:
    """One line of the report."""

    #: The check's name; the same each time.
    name: str
    #: OK, NOTE, WARNING or BAD.
    level: str
    text: str
    #: The remedy, or None.
    remedy: str | None = None
    #: Measured numbers by name; seconds and bytes.
    values: Mapping[str, float] = field(default_factory=dict)
    #: Which of several servers, or empty.
    place: str = ""


def decide(name: str, *cases: tuple[object, str, str, str | None]) -> Finding:
    """Return the finding of the first of `cases` whose condition holds: (condition, level, text, remedy)."""
    return next(Finding(name, level, text, remedy) for holds, level, text, remedy in cases if holds)


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst level among `findings`; a note is as good as OK."""
    level = max((finding.level for finding in findings), key=LEVELS.index, default=OK)
    return OK if level == NOTE else level


def judge_round_trip(seconds: float, timeout: float) -> Finding:
    """Judge the median time of a small request against the limit of one request."""
    text, values = f"{span(seconds)} (median)", {"round_trip": seconds}
    if seconds > timeout / 4:
        remedy = f"find out what is slow, or raise --backend-timeout ({durations.show(timeout)})"
        return Finding("round trip", WARNING, text, remedy, values)
    return Finding("round trip", OK, text, values=values)


def at(place: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield `findings` as those of the server at `place`."""
    for finding in findings:
        finding.place = place
        yield finding


def judge_clock(offset: float, bound: float, hold: float) -> Finding:
    """Judge the offset of the server's clock from this one, known to within `bound`.

    `hold` is the time from a run's start until its key is free: machines whose clocks differ by more run the same
    tick twice.
    """
    side = "behind" if offset >= 0 else "ahead of"
    text = f"this machine is {span(abs(offset))} {side} the server, give or take {span(bound)}"
    if abs(offset) <= bound:
        text = f"agrees with the server's, give or take {span(bound)}"
    surely = abs(offset) - bound
    remedy = "synchronize the clocks of all machines by NTP"
    twice = f"{text}; more than the hold of {durations.show(hold)}, so that a tick can run twice"
    finding = decide(
        "clock",
        (hold and surely > hold, BAD, twice, remedy),
        (surely > _CLOCK_WARNING, WARNING, text, remedy),
        (True, OK, text, None),
    )
    finding.values = {"offset": offset, "bound": bound}
    return finding


def judge_ttl(ttl: float, traits: Traits) -> Finding | None:
    """Judge a ttl against the backend's range; None within it, where the server may keep less (`judge_kept`)."""
    if traits.shortest_ttl <= ttl <= traits.longest_ttl:
        return None
    shortest, longest = durations.show(traits.shortest_ttl), durations.show(traits.longest_ttl)
    text = f"{durations.show(ttl)} is out of range for this backend"
    return Finding("ttl", BAD, text, f"set --ttl to {shortest} to {longest}", {"ttl": ttl})


def judge_kept(ttl: float, kept: float, *, chosen: bool) -> Finding:
    """Judge how much of a ttl the server keeps; `chosen` is whether a user set it."""
    values = {"ttl": ttl, "kept": kept}
    if kept < ttl:
        text = f"the server keeps a lease for {durations.show(kept)} at most, not for {durations.show(ttl)}"
        if chosen:
            return Finding("ttl", WARNING, text, f"set --ttl {_tenths(kept)}, or let the server keep more", values)
        return Finding("ttl", NOTE, text + ": that is the ttl", values=values)
    return Finding("ttl", OK, f"{durations.show(ttl)}, which the backend keeps", values=values)


def judge_timing(ttl: float, backend_timeout: float, kill_after: float) -> Iterable[Finding]:
    """Judge the settings that have to fit into the ttl that the server keeps."""
    third = durations.show(ttl / 3)
    text = f"{durations.show(backend_timeout)}, against a renewal every {third}"
    if backend_timeout > ttl / 3:
        remedy = f"set --backend-timeout to at most {_tenths(ttl / 3)}: one request that hangs costs a whole renewal"
        yield Finding("backend-timeout", WARNING, text, remedy)
    else:
        yield Finding("backend-timeout", OK, text)
    grace = timing.grace(kill_after, ttl)
    if grace < kill_after:
        text = f"{durations.show(kill_after)}, cut to {durations.show(grace)}: a third of the ttl"
        yield Finding("kill-after", WARNING, text, f"set --kill-after {_tenths(grace)}, or a longer --ttl")
    else:
        yield Finding("kill-after", OK, f"{durations.show(kill_after)}, against a ttl of {durations.show(ttl)}")


def judge_share(name: str, used: float, limit: float, what: str, remedy: str) -> Finding:
    """Judge how much of a limit is used up; `what` follows the numbers."""
    text = f"{used:.0f} of {limit:.0f}{what}" if what else f"{size(used)} of {size(limit)}"
    full = limit > 0 and used > limit * _NEARLY_FULL
    return Finding(name, WARNING if full else OK, text, remedy if full else None, {"used": used, "limit": limit})


def judge_evictions(number: float, remedy: str) -> Finding:
    """Judge how many items the server dropped for want of room since its start."""
    text = f"{number:.0f} since the server's start" + ("; a lease may have been among them" if number else "")
    return Finding("evictions", WARNING if number else OK, text, remedy if number else None, {"evictions": number})


def judge_space(name: str, directory: str, free_bytes: int, files: int, free_files: int) -> Finding:
    """Judge the free space on a file system with at most `files` files (0: no such limit)."""
    text = f"{size(free_bytes)} free at {directory}" + (f", room for {free_files} files" if files else "")
    values: dict[str, float] = {"free_bytes": free_bytes}
    if free_bytes < _ONE_KEY or (files and free_files < 2):
        return Finding(name, BAD, text, "free some space there", values)
    if free_bytes < _LEAST_SPACE or (files and free_files < _LEAST_FILES):
        return Finding(name, WARNING, text, "free some space there", values)
    return Finding(name, OK, text, values=values)


def judge_certificate(begins_at: float, ends_at: float, now: float, place: str) -> Finding:
    """Judge until when the server's certificate is good; times are since the epoch."""
    left = ends_at - now
    text = f"{place}: good for another {durations.show(max(0.0, left))}"
    if left < min(_CERTIFICATE_WARNING, (ends_at - begins_at) * _CERTIFICATE_SHARE):
        return Finding("certificate", WARNING, text, "renew it", {"ends_at": ends_at})
    return Finding("certificate", OK, text, values={"ends_at": ends_at})


def span(seconds: float) -> str:
    """Return a short time for people, down to the hundredth of a millisecond."""
    if seconds < 0.001:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return durations.show(seconds)


def number(text: object) -> float:
    """Return the number in a server's `text`, 0.0 for any other text."""
    try:
        value = float(str(text or 0))
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def plain(value: object) -> str:
    """Return the start of a server's text, printable."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str("" if value is None else value)
    return printable(text[:200])


def _tenths(seconds: float) -> str:
    """Return `seconds` for an option, rounded down to tenths."""
    return f"{int(seconds * 10) / 10:g}"


def size(number: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
