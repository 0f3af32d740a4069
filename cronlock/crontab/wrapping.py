"""``wrap``: put ``cronlock run`` in front of the commands of a crontab."""

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

#: The longest --every. Half of it exceeds any difference of clocks; a longer hold would only hinder runs by hand.
LONGEST_PERIOD = 3600.0
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")
# They make a shell read a file at its start, as zsh always does, which may define functions.
_START_FILES = ("BASH_ENV", "ENV")


#: The derived keys of jobs without one in a comment, by line number.
Names = Mapping[int, naming.Name]


@dataclass
class Options:
    """Options of ``wrap``."""

    #: The beginning of keys.
    prefix: str = ""
    #: The plain words that call cronlock.
    program: str = "cronlock"
    #: --ttl as written; None: none.
    ttl: str | None = None
    #: The longest --every, in seconds.
    period: float = LONGEST_PERIOD
    #: Whether cronlock replaces flock and similar locks.
    replaces: bool = False

    @property
    def programs(self) -> frozenset[str]:
        """Return the names of the cronlock program."""
        return frozenset(("cronlock", "cronlock.pyz", posixpath.basename(self.program.split()[-1])))


@dataclass
class Wrapped:
    """A wrapped crontab, the jobs that were wrapped, and remarks."""

    text: str
    jobs: list[Job]
    remarks: list[Remark]


def wrap(crontab: Crontab, options: Options) -> Wrapped:
    """Return the crontab with its jobs wrapped, except those that are wrapped already or cannot be."""
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
    """Return remarks on the key of a job and on the guards that it has."""
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
    """Return the command with its lock replaced by cronlock, or None without a replaceable lock."""
    found = guards.replace(job, naming.reading_of(job, options.programs)[0])
    if found is None:
        return None
    others = [naming.reading_of(other, options.programs)[0] for other in crontab.jobs if other is not job]
    if found.path and any(guards.path_of(other) == found.path for other in others):
        return None  # The lock excludes two jobs from each other.
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
    """Return why the key in the comment above `job` is invalid, or None."""
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
    """Return the keys in comments and in wrapped lines of the file."""
    taken = {job.key for job in crontab.jobs if job.key is not None}
    for job in crontab.jobs:
        taken.update(str(call.options.get("key", "")) for call in calls.find(job.text, options.programs))
    return taken


def _inner(job: Job) -> str | None:
    """Return the command if its words need no shell, else None."""
    # zsh sources ~/.zshenv, so even a plain name may be a function.
    if posixpath.basename(job.shell) == "zsh" or any(name in job.variables for name in _START_FILES):
        return None
    return job.command if plain_words(job.text) is not None else None


def _wrap_job(job: Job, key: str, options: Options, others: Sequence[str] = ()) -> str:
    # A key that begins with a minus needs the form with =.
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
    """Return remarks that apply to a job before and after it is wrapped."""
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
