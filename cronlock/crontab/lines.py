"""Parse a crontab into lines as cron does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..value import digits
from . import schedule
from .dialects import CRON, Dialect
from .schedule import Schedule

# What isspace(3) of the C locale takes for white space.
_SPACE = " \t\n\v\f\r"
_FIELDS = re.compile(r"((?:[^ \t]+[ \t]+){4}[^ \t]+)[ \t]*")
_WORD = re.compile(r"([^ \t]+)[ \t]*")
_EVERY = re.compile(r"(@every[ \t]+[^ \t]+)[ \t]*")
_KEY_COMMENT = re.compile(r"#+[ \t]*key:[ \t]*(.*?)[ \t\r]*$", re.IGNORECASE)
_OFF_COMMENT = re.compile(r"#+[ \t]*cronlock:[ \t]*off[ \t\r]*$", re.IGNORECASE)
# cronie and BSD's cron read options in front of the command.
_OPTION = re.compile(r"-([nqs]{1,3})[ \t]+(?=[^ \t])")
_EMPTY_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*[ \t]*=[ \t\r]*$")


class CrontabError(ConfigError):
    """A crontab that cannot be read; the text begins with ``FILE:LINE:``."""


@dataclass
class Remark:
    """A remark on a line."""

    number: int
    text: str


@dataclass
class Job:
    """A line that starts a command; texts are as in the file."""

    #: Its line number, from 1.
    number: int
    #: The line up to the command, including blanks and cron's options.
    head: str
    schedule: Schedule
    #: None in a crontab without a user field.
    user: str | None
    #: The command; its ``%`` are escaped as in the file.
    command: str
    #: The first unescaped ``%`` and what follows, the command's standard input; or empty.
    stdin: str
    #: The variables set above the line.
    variables: Mapping[str, str]
    #: From a comment ``# key: NAME`` directly above.
    key: str | None = None
    #: Whether a comment ``# cronlock: off`` stands directly above.
    off: bool = False
    #: The letters of the options in front of the command.
    options: str = ""
    #: Which cron reads it.
    dialect: Dialect = CRON

    @property
    def text(self) -> str:
        r"""Return the command as the shell gets it: with ``%`` for ``\%`` if the dialect has that."""
        return unescape(self.command) if self.dialect.percent else self.command

    @property
    def shell(self) -> str:
        """Return the shell that cron runs the command with."""
        return self.variables.get("SHELL", "/bin/sh")

    @property
    def delay(self) -> float:
        """Return the longest random delay by cronie (RANDOM_DELAY), in seconds."""
        minutes = self.variables.get("RANDOM_DELAY", "") if self.dialect.has_delay else ""
        return (digits(minutes, 5) or 0) * 60.0


@dataclass
class Crontab:
    """The lines of a crontab, its jobs and what else was found."""

    #: Its name in messages.
    name: str
    #: The lines without their newline.
    lines: list[str]
    ends_with_newline: bool
    jobs: list[Job] = field(default_factory=list)
    #: Numbers of ``# key:`` comments that are not directly above a job.
    stray_keys: list[int] = field(default_factory=list)
    #: The lines that cron cannot read, with the reason.
    unreadable: list[Remark] = field(default_factory=list)
    #: (line number, name) of each variable.
    variables: list[tuple[int, str]] = field(default_factory=list)
    dialect: Dialect = CRON


def parse(text: str, name: str, *, system: bool, dialect: Dialect = CRON) -> Crontab:
    """Return the crontab `text`; with `system` its jobs have a user field.

    Raises CrontabError if there is no job and a line cannot be read.
    """
    ended = text.endswith("\n") or not text
    crontab = Crontab(name, text.split("\n")[: -1 if ended else None], ended, dialect=dialect)
    variables: dict[str, str] = {}
    comment: tuple[str | None, bool] = (None, False)
    for number, written in enumerate(crontab.lines, 1):
        line = written if dialect.keeps_return else written.removesuffix("\r")
        above, comment = comment, (None, False)
        stripped = line.lstrip(" \t")
        if not stripped or stripped.startswith("#"):
            comment = _read_comment(stripped)
        else:
            variable = read_variable(stripped)
            if variable is None:
                try:
                    job = _read_job(line, number, system, variables, dialect)
                    job.key, job.off = above
                    crontab.jobs.append(job)
                    continue
                except ValueError as error:
                    crontab.unreadable.append(Remark(number, str(error)))
            else:
                crontab.variables.append((number, variable[0]))
                if dialect.variables is None or variable[0] in dialect.variables:
                    variables = {**variables, variable[0]: variable[1]}
        if above[0] is not None:
            crontab.stray_keys.append(number - 1)
    if comment[0] is not None:
        crontab.stray_keys.append(len(crontab.lines))
    if dialect.seconds:
        # supercronic gives all jobs the last value.
        for job in crontab.jobs:
            job.variables = variables
    if crontab.unreadable and not crontab.jobs:
        raise CrontabError(f"{name}:{crontab.unreadable[0].number}: {crontab.unreadable[0].text}")
    return crontab


def end_of_command(text: str) -> int:
    """Return the position of the first unescaped ``%``, or the end of `text`."""
    escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "%":
            return position
    return len(text)


def unescape(command: str) -> str:
    r"""Return `command` with ``%`` for ``\%``. Debian's cron, unlike cronie, also unescapes ``\\``."""
    return re.sub(r"\\(.)", lambda pair: "%" if pair[1] == "%" else pair[0], command, flags=re.DOTALL)


def read_variable(text: str) -> tuple[str, str] | None:
    """Return (name, value) if cron reads `text`, without leading blanks, as a variable; else None."""
    name, position = _read_part(text, 0, "=" + _SPACE)
    if name is None:
        return None
    position = _skip(text, position)
    if text[position : position + 1] != "=":
        return None
    position = _skip(text, position + 1)
    if position == len(text):
        return None  # `NAME=`: only Debian's cron from 13 on takes it without quotes.
    if text[position] in "\"'":
        value, position = _read_part(text, position, "")
        return (name, value) if value is not None and _skip(text, position) == len(text) else None
    return name, text[position:].rstrip(_SPACE)


def _read_part(text: str, position: int, ends: str) -> tuple[str | None, int]:
    """Read a quoted text, or one up to a character of `ends`; return None if it is not closed."""
    if text[position] in "\"'":
        end = text.find(text[position], position + 1)
        part = text[position + 1 : end]
        return (None, position) if end < 0 or (ends and "=" in part) else (part, end + 1)
    end = position
    while end < len(text) and text[end] not in ends:
        end += 1
    return text[position:end], end


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _read_comment(text: str) -> tuple[str | None, bool]:
    key = _KEY_COMMENT.match(text)
    return (key[1] if key else None), _OFF_COMMENT.match(text) is not None


def _read_job(line: str, number: int, system: bool, variables: Mapping[str, str], dialect: Dialect) -> Job:
    """Return the job of `line`; raises ValueError with a reason."""
    if "\0" in line:
        raise ValueError("has a NUL byte, which ends the line for cron")
    if line.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark, which cron refuses; save the file without it")
    start = len(line) - len(line.lstrip(" \t"))
    # cronie: a minus before the schedule keeps the job out of the log.
    if line.startswith("-", start):
        start += 1
    when, position = _read_schedule(line, start, dialect)
    user = None
    if system:
        name = _WORD.match(line, position)
        if name is None:
            raise ValueError("has neither a user nor a command")
        user, position = name[1], name.end()
        if "/" in user or "*" in user:
            raise ValueError(f"{user!r} is not a user name; if lines have no users, give --user")
    if line.startswith("*", position):
        raise ValueError("the command begins with '*': one time field too many")
    options = ""
    while dialect.percent and (option := _OPTION.match(line, position)):
        options += option[1]
        position = option.end()
    end = position + (end_of_command(line[position:]) if dialect.percent else len(line))
    if not line[position:end].strip(_SPACE):
        raise ValueError("has no command")
    return Job(
        number,
        line[:position],
        when,
        user,
        line[position:end],
        line[end:],
        variables,
        options=options,
        dialect=dialect,
    )


def _read_schedule(line: str, start: int, dialect: Dialect) -> tuple[Schedule, int]:
    """Return the schedule at `start` of `line` and the position after it; raises ValueError with a reason."""
    shortcut = (_EVERY if line.startswith("@every", start) and dialect.name == "kubernetes" else _WORD).match(
        line, start
    )
    match = shortcut if line.startswith("@", start) else _FIELDS.match(line, start)
    if match is None:
        raise ValueError(_no_fields(line))
    if dialect.seconds and match is not shortcut:
        # As supercronic, which tries the most fields first.
        for count in ("6", "5"):
            longer = re.compile(rf"((?:[^ \t]+[ \t]+){{{count}}}[^ \t]+)[ \t]+(?=[^ \t])").match(line, start)
            if longer is not None:
                try:
                    return schedule.read(longer[1], dialect), longer.end()
                except ValueError:
                    pass
    return schedule.read(match[1], dialect), match.end()


def _no_fields(line: str) -> str:
    if not line.strip(_SPACE):
        return "has a carriage return, so cron does not take it for a blank line; remove it: sed -i 's/\\r$//' FILE"
    if _EMPTY_VARIABLE.match(line.lstrip(" \t")):
        return 'sets a variable to nothing, which most crons refuse; write NAME=""'
    return "not a comment, NAME=value, or five time fields (or @daily and the like) and a command"
