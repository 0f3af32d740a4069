"""Putting ``cronlock run`` before the commands of a crontab."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from .. import keys
from ..errors import UsageError
from . import calls, names
from .lines import Crontab, CrontabError, Job, unescape
from .shell import POSIX_SHELLS, plain_words, quote, quote_if_needed

#: The most that is given as --every. Half of it, half an hour, is more than clocks ever differ by; a
#: longer hold would only be in the way of whoever runs the job again by hand.
LONGEST_PERIOD = 3600.0
# Debian's cron refuses longer commands.
_LONGEST_COMMAND = 998
_TOO_LONG = f"wrapped it has over {_LONGEST_COMMAND} bytes, too long for cron; move the command into a script"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")
# zsh reads a file at its start that may define functions; these make others do so.
_START_FILES = ("BASH_ENV", "ENV")


@dataclass
class Options:
    """How to wrap."""

    #: What the keys begin with.
    prefix: str = ""
    #: How the lines call cronlock: plain words.
    program: str = "cronlock"
    #: As the user wrote it; None leaves it to the program.
    ttl: str | None = None
    #: The most to give as --every, in seconds.
    period: float = LONGEST_PERIOD

    @property
    def programs(self) -> frozenset[str]:
        """Return the names that cronlock goes by."""
        return frozenset(("cronlock", "cronlock.pyz", posixpath.basename(self.program.split()[-1])))


@dataclass
class Remark:
    """What there is to say about a line."""

    number: int
    text: str


@dataclass
class Wrapped:
    """What became of a crontab, which of its jobs were wrapped, and what there is to say about some lines."""

    text: str
    jobs: list[Job]
    remarks: list[Remark]


def wrap(crontab: Crontab, options: Options) -> Wrapped:
    """Return the crontab with its jobs wrapped; those that are already, or cannot be, are left as they are.

    Raises CrontabError for a ``# key:`` that cannot be one.
    """
    lines, done = list(crontab.lines), []
    remarks = [Remark(number, "this key is not used: no job in the line below it") for number in crontab.stray_keys]
    taken = _keys_given(crontab, options)
    for job in crontab.jobs:
        if job.off or calls.find(unescape(job.command), options.programs):
            continue
        reason = cannot_wrap(job)
        if reason is None:
            key = job.key or names.derive(job, options.prefix, taken)
            wrapped = _wrap_job(job, key, options)
            if _length(wrapped) <= _LONGEST_COMMAND:
                taken.add(key)
                done.append(job)
                lines[job.number - 1] = job.head + wrapped
                remarks += [Remark(job.number, text) for text in _oddities(job, options)]
                continue
            reason = _TOO_LONG
        remarks.append(Remark(job.number, f"left as it is: {reason}"))
    if not crontab.ends_with_newline:
        remarks.append(Remark(len(lines), "newline added at the end: cron does not read a file without it"))
    remarks.sort(key=lambda remark: remark.number)
    return Wrapped("".join(f"{line}\n" for line in lines), done, remarks)


def cannot_wrap(job: Job) -> str | None:
    """Return why `job` is left as it is, or None."""
    if job.schedule.reboot:
        return "@reboot is about one machine, at a time of its own"
    if job.schedule.random:
        return "with ~ every machine picks a time of its own, so that no hold fits; write a fixed time"
    known = posixpath.basename(job.shell) in POSIX_SHELLS and _PLAIN_PATH.fullmatch(job.shell)
    if _inner(job) is None and not known:
        return f"SHELL is {job.shell}, whose quoting is not that of sh; move the command into a script"
    return None


def check_key(crontab: Crontab, job: Job) -> None:
    """Raise CrontabError if the comment above `job` gives a key that cannot be one."""
    assert job.key is not None
    try:
        keys.check(job.key)
        if "\\" in job.key:
            raise UsageError(f"--key {job.key!r} has a backslash, which crons read differently")
    except UsageError as error:
        raise CrontabError(f"{crontab.name}:{job.number - 1}: {str(error).replace('--key', 'the key', 1)}") from None


def compact(seconds: float) -> str:
    """Return `seconds`, a whole number, as a duration: ``90s``, ``5m``, ``1h``, ``1h30m``."""
    left, text = round(seconds), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size:
            text += f"{left // size}{unit}"
            left %= size
    return text or "0"


def _keys_given(crontab: Crontab, options: Options) -> set[str]:
    """Return the keys that the file has already, in comments and in wrapped lines."""
    taken: set[str] = set()
    for job in crontab.jobs:
        if job.key is not None:
            check_key(crontab, job)
            taken.add(job.key)
        for call in calls.find(unescape(job.command), options.programs):
            taken.add(str(call.options.get("key", "")))
    return taken


def _inner(job: Job) -> str | None:
    """Return the words of the command, if they may stay as they are; else None."""
    # A zsh sources ~/.zshenv, so that even a plain name may be a function.
    if posixpath.basename(job.shell) == "zsh" or any(name in job.variables for name in _START_FILES):
        return None
    text = unescape(job.command)
    return job.command if plain_words(text) is not None else None


def _wrap_job(job: Job, key: str, options: Options) -> str:
    # The form with = also for a key that looks like an option.
    flag = "--key=" if key.startswith("-") else "--key "
    words = [options.program, "run", flag + quote_if_needed(key).replace("%", "\\%")]
    if options.ttl is not None:
        words += ["--ttl", options.ttl]
    words += ["--every", compact(_period(job, options)), "--"]
    inner = _inner(job)
    if inner is None:
        inner = f"{job.shell} -c {quote(job.command)}"
    return f"{' '.join(words)} {inner}{job.stdin}"


def _period(job: Job, options: Options) -> float:
    gap = job.schedule.gap
    return options.period if gap is None else min(gap, options.period)


def _oddities(job: Job, options: Options) -> list[str]:
    """Return what the user should know about a job that was wrapped."""
    found = []
    if job.delay >= _period(job, options) / 2:
        found.append(
            f"RANDOM_DELAY spreads the machines over {compact(job.delay)}, longer than the key stays held: "
            "a tick may run twice; use a shorter one, or none"
        )
    if job.command.endswith("\r") or job.stdin.endswith("\r"):
        found.append("ends in a carriage return, which cron takes for a part of it; remove it: sed -i 's/\\r$//' FILE")
    if calls.is_background(unescape(job.command)):
        found.append("leaves something running with &, which the lock does not cover; remove the &")
    return found


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
