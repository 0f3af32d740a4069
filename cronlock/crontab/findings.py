"""Remarks on crontabs and their lines, wrapped or not."""

from __future__ import annotations

import os
import re

from .dialects import CRON, DIALECTS, Dialect
from .lines import Crontab, Job, Remark
from .shell import ends_inside

#: Of a line that `is_cut`.
CUT = "a % ends the command, in quotes too, and what follows is its standard input; write \\%"
_DATE = re.compile(r"(?:^|[\s;&|/])date\b[^;&|]*\+\S*$")

_PASSED = re.compile(r"[A-Za-z0-9_-]+")


def of_crontab(crontab: Crontab) -> list[Remark]:
    """Return remarks on the file and on lines that are not jobs."""
    dialect = crontab.dialect
    found = [Remark(number, "unused key: no job in the line below it") for number in crontab.stray_keys]
    for unread in crontab.unreadable:
        found.append(Remark(unread.number, f"{unread.text}; {dialect.on_error}"))
    if not crontab.ends_with_newline and dialect.needs_newline:
        text = "no newline at the end: cron ignores the line, or the whole file; add one, as wrap does"
        found.append(Remark(len(crontab.lines), text))
    for number, name in crontab.variables:
        if name.startswith("\ufeff"):
            found.append(
                Remark(
                    number, "begins with a byte order mark, which becomes part of the name; save the file without it"
                )
            )
        elif dialect.variables is not None and name not in dialect.variables:
            known = " and ".join(dialect.variables)
            found.append(Remark(number, f"{dialect.title} sets {known} only: commands do not get {name}"))
        elif name == "CRON_TZ" and not dialect.has_zones:
            others = [other for other in DIALECTS.values() if other.has_zones]
            text = (
                f"{_title(dialect)} does not read CRON_TZ and uses the machine's time zone{_read_by(dialect, others)}"
            )
            found.append(Remark(number, text))
    return found


def of_job(job: Job) -> list[str]:
    """Return problems of a line that wrapping does not change."""
    found = []
    for letter in job.options:
        if letter not in job.dialect.options:
            others = [other for other in DIALECTS.values() if letter in other.options]
            found.append(f"{_title(job.dialect)} takes -{letter} for the command{_read_by(job.dialect, others)}")
    # Wrapped, it stands before the closing quote.
    if job.dialect.keeps_return and (job.command.rstrip("'").endswith("\r") or job.stdin.endswith("\r")):
        found.append("ends in a carriage return, which becomes part of the command; remove it: sed -i 's/\\r$//' FILE")
    if is_cut(job):
        found.append(CUT)
    if job.dialect.comments and "#" in job.command:
        found.append(f"{job.dialect.title} ends the command at a #, in quotes too; move the command into a script")
    if not job.dialect.percent and re.search(r"\\%", job.command):
        found.append(f"{job.dialect.title} passes \\% on unchanged; write %")
    return found


def is_cut(job: Job) -> bool:
    """Return whether a ``%`` ends the command, certainly by mistake."""
    return bool(job.stdin) and (ends_inside(job.text) or _DATE.search(job.text) is not None)


def of_place(path: str, dialect: Dialect) -> list[Remark]:
    """Return why Debian's cron ignores the file at `path`, if it does."""
    directory, name = os.path.split(os.path.realpath(path))
    if os.path.basename(directory) != "cron.d" or _title(dialect) != "Debian's cron":
        return []
    found = []
    if not _PASSED.fullmatch(name):
        found.append("Debian's cron ignores files in cron.d whose names have characters other than A-Za-z0-9_-")
    if directory == "/etc/cron.d" and os.path.exists(path):
        status = os.stat(path)
        if status.st_uid != 0 or status.st_mode & 0o022:
            found.append("Debian's cron ignores files in cron.d that root does not own or that others can write")
    return [Remark(1, text) for text in found]


def of_machine(part: str) -> str:
    """Return the remark on a key with `part`, which is not the same everywhere."""
    return f"the key contains {part}: it differs between machines or ticks, and guards nothing"


def _title(dialect: Dialect) -> str:
    return "Debian's cron" if dialect is CRON else dialect.title


def _read_by(dialect: Dialect, others: list[Dialect]) -> str:
    if dialect is not CRON or not others:
        return ""
    return f"; {', '.join(other.title for other in others)} would read it: --dialect"
