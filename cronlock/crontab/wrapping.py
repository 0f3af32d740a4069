"""Putting ``cronlock run`` before the commands of a crontab."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .. import keys
from ..errors import UsageError
from . import calls, exclusions, findings, guards, naming, per_host
from .lines import Crontab, Job, Remark
from .shell import POSIX_SHELLS, plain_words, quote, quote_if_needed

#: The most that is given as --every. Half of it, half an hour, is more than clocks ever differ by; a
#: longer hold would only be in the way of whoever runs the job again by hand.
LONGEST_PERIOD = 3600.0
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")
# zsh reads a file at its start that may define functions; these make others do so.
_START_FILES = ("BASH_ENV", "ENV")


#: The keys of the jobs without a comment that gives one, by their lines' numbers.
Names = Mapping[int, naming.Name]


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
    #: Whether cronlock takes the place of flock and the like, instead of standing around it.
    replaces: bool = False

    @property
    def programs(self) -> frozenset[str]:
        """Return the names that cronlock goes by."""
        return frozenset(("cronlock", "cronlock.pyz", posixpath.basename(self.program.split()[-1])))


@dataclass
class Wrapped:
    """What became of a crontab, which of its jobs were wrapped, and what there is to say about some lines."""

    text: str
    jobs: list[Job]
    remarks: list[Remark]


def wrap(crontab: Crontab, options: Options) -> Wrapped:
    """Return the crontab with its jobs wrapped; those that are already, or cannot be, are left as they are."""
    lines, done = list(crontab.lines), []
    remarks = findings.of_crontab(crontab)
    names = naming.derive(crontab, options.prefix, options.programs, keys_given(crontab, options))
    for job in crontab.jobs:
        if job.off or calls.find(job.text, options.programs):
            continue
        reason = why_left(crontab, job, names, options)
        if reason is not None:
            remarks.append(Remark(job.number, f"left as it is: {reason}"))
            continue
        done.append(job)
        converted = _convert(crontab, job, names, options) if options.replaces else None
        lines[job.number - 1] = job.head + (converted or _wrap_job(job, _key(job, names), options))
        texts = oddities(job, options) + guarded(crontab, job, names, options)
        remarks += [Remark(job.number, text) for text in texts]
    remarks.sort(key=lambda remark: remark.number)
    return Wrapped("".join(f"{line}\n" for line in lines), done, remarks)


def why_left(crontab: Crontab, job: Job, names: Names, options: Options) -> str | None:
    """Return why `job` is left as it is, or None."""
    reason = key_problem(job) or _cannot_wrap(job, _key(job, names), options)
    if reason or job.key is not None:
        return reason
    converted = _convert(crontab, job, names, options)
    return exclusions.why_left(naming.reading_of(job, options.programs)[0], converted, replaces=options.replaces)


def guarded(crontab: Crontab, job: Job, names: Names, options: Options) -> list[str]:
    """Return what to know of the key that a job gets, and of the guards that it has already."""
    reading = naming.reading_of(job, options.programs)[0]
    if job.key is not None:
        return []
    found = names[job.number].remarks + guards.remarks(job, reading) + guards.hints(reading)
    converted = None if options.replaces else _convert(crontab, job, names, options)
    lock = guards.local_lock(reading)
    if lock is not None and converted is not None:
        found.append(f"{lock.name} guards this machine only; {exclusions.offer(converted)}")
    return found


def _convert(crontab: Crontab, job: Job, names: Names, options: Options) -> str | None:
    """Return the command with cronlock in the place of the lock that it has, or None if it has none to be replaced."""
    found = guards.replace(job, naming.reading_of(job, options.programs)[0])
    if found is None:
        return None
    others = [naming.reading_of(other, options.programs)[0] for other in crontab.jobs if other is not job]
    if found.path and any(guards.path_of(other) == found.path for other in others):
        return None  # It keeps two jobs from running at once.
    without = replace(job, command=found.command)
    key = _key(job, names)
    if job.key is None and found.key and key_problem(replace(job, key=found.key)) is None:
        key = found.key
    return None if _cannot_wrap(without, key, options) else _wrap_job(without, key, options, found.options)


def _key(job: Job, names: Names) -> str:
    return job.key if job.key is not None else names[job.number].key


def _cannot_wrap(job: Job, key: str, options: Options) -> str | None:
    """Return why `job` is left as it is, or None."""
    if job.schedule.reboot:
        return "@reboot fires on each machine when it boots"
    if job.schedule.random:
        return "each machine picks its own random time, so no hold fits; write a fixed time"
    if findings.is_cut(job):
        return findings.CUT
    known = posixpath.basename(job.shell) in POSIX_SHELLS and _PLAIN_PATH.fullmatch(job.shell)
    if _inner(job) is None and not known:
        return f"SHELL is {job.shell}, which quotes differently from sh; move the command into a script"
    longest = job.dialect.longest
    if longest is not None and _length(_wrap_job(job, key, options)) > longest:
        return f"over {longest} bytes when wrapped, too long for cron; move the command into a script"
    return None


def key_problem(job: Job) -> str | None:
    """Return why the comment above `job`, if it gives a key, gives none that can be one; else None."""
    if job.key is None:
        return None
    try:
        keys.check(job.key)
    except UsageError as error:
        return str(error).replace("--key:", "the key in the comment above:", 1)
    if "\\" in job.key:
        return f"the key in the comment above: {job.key!r} has a backslash, which crons read differently"
    return None


def compact(seconds: float) -> str:
    """Return `seconds`, a whole number, as a duration: ``90s``, ``5m``, ``1h``, ``1h30m``."""
    left, text = round(seconds), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size:
            text += f"{left // size}{unit}"
            left %= size
    return text or "0"


def keys_given(crontab: Crontab, options: Options) -> set[str]:
    """Return the keys that the file has already, in comments and in wrapped lines."""
    taken = {job.key for job in crontab.jobs if job.key is not None}
    for job in crontab.jobs:
        taken.update(str(call.options.get("key", "")) for call in calls.find(job.text, options.programs))
    return taken


def _inner(job: Job) -> str | None:
    """Return the words of the command, if they may stay as they are; else None."""
    # A zsh sources ~/.zshenv, so that even a plain name may be a function.
    if posixpath.basename(job.shell) == "zsh" or any(name in job.variables for name in _START_FILES):
        return None
    return job.command if plain_words(job.text) is not None else None


def _wrap_job(job: Job, key: str, options: Options, others: Sequence[str] = ()) -> str:
    # The form with = also for a key that looks like an option.
    flag = "--key=" if key.startswith("-") else "--key "
    quoted = quote_if_needed(key)
    words = [options.program, "run", flag + (quoted.replace("%", "\\%") if job.dialect.percent else quoted)]
    if options.ttl is not None and "--ttl" not in others:
        words += ["--ttl", options.ttl]
    words += [*others, "--every", compact(_period(job, options)), "--"]
    inner = _inner(job)
    if inner is None:
        inner = f"{job.shell} -c {quote(job.command)}"
    return f"{' '.join(words)} {inner}{job.stdin}"


def _period(job: Job, options: Options) -> float:
    gap = job.schedule.gap
    return options.period if gap is None else min(gap, options.period)


def oddities(job: Job, options: Options) -> list[str]:
    """Return what the user should know about a job that is not wrapped yet, before or after it is."""
    found = findings.of_job(job)
    if job.delay >= _period(job, options) / 2:
        found.append(
            f"RANDOM_DELAY spreads the machines over {compact(job.delay)}, longer than the key stays held: "
            "a tick may run twice; use a shorter one, or none"
        )
    if calls.is_background(job.text):
        found.append("a command is left running with &, outside the lock; remove the &")
    if job.key is not None and (part := per_host.in_key(job.key)):
        found.append(findings.of_machine(part))
    return found


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
