"""``cronlock wrap``: convert a crontab, or check one."""

from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

import click

from .. import errors
from ..crontab import calls, files, findings, naming, user_field
from ..crontab.checking import check
from ..crontab.dialects import DIALECTS, detect
from ..crontab.lines import Crontab, CrontabError, parse
from ..crontab.shell import plain_words
from ..crontab.wrapping import Options, wrap
from ..errors import ConfigError, UsageError
from . import common

if TYPE_CHECKING:
    from ..crontab.lines import Job, Remark

_STDIN = "standard input"
_FINDINGS = 1
_LONGEST_PREFIX = 100
# cron's PATH if the crontab sets none.
_CRONS_PATH = "/usr/bin:/bin"
# Common file names of crontabs, useless as a prefix.
_COMMON_NAMES = frozenset(("", "cron", "crontab", "tab"))
# Names made by `crontab -e` and mktemp(1), different on each machine.

_TEMPORARY = re.compile(r"(crontab|cron|tmp)\.?[A-Za-z0-9_]{6,}")
_MANIFEST = re.compile(r"^kind:[ \t]*[\"']?CronJob\b", re.MULTILINE)
_ENDING = re.compile(r"\.(cron|crontab|tab|txt|in)$")


@click.command(
    short_help="Put cronlock run in front of the commands of a crontab.",
    epilog="""Exit status:

\b
0   Success; with --check: no findings.
1   --check has findings.
64  Usage error.
78  The crontab cannot be read or written, or cron could read no line of it.
""",
)
@click.argument("file", default="-", metavar="[FILE]", shell_complete=common.files)
@click.option(
    "--system/--user",
    default=None,
    help="Read lines with, or without, a user name before the command. Default: with one in /etc/crontab and in a "
    "directory cron.d; else judged by the lines.",
)
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    metavar="CRON",
    help="Read FILE as this cron does (%, users, names and more differ). Default: as both Debian's cron and cronie, "
    f"unless only another cron can read it. One of: {', '.join(DIALECTS)}.",
)
@click.option("-t", "--ttl", metavar="DURATION", help="Add this --ttl to the lines. Default: none.")
@click.option(
    "--every",
    metavar="PERIOD",
    default="1h",
    show_default=True,
    help="Add --every PERIOD to the lines, or the shortest time between two ticks if that is shorter.",
)
@click.option(
    "--key-prefix",
    metavar="PREFIX",
    help="Begin keys with PREFIX and a dot. Default: the name of the file, or of the user if the file's name is "
    "standard input, crontab or temporary.",
)
@click.option(
    "--cronlock",
    "program",
    metavar="PATH",
    default="cronlock",
    show_default=True,
    shell_complete=common.files,
    help="Call cronlock by PATH in the lines.",
)
@click.option(
    "--replace-locks",
    "replaces",
    is_flag=True,
    help="Replace flock, consul lock and similar locks instead of wrapping them.",
)
@click.option("--check", "checks", is_flag=True, help="Report problems of FILE instead of printing a crontab.")
@click.option("--diff", "diffs", is_flag=True, help="Print a diff instead of the crontab.")
@click.option("-i", "--in-place", is_flag=True, help="Change FILE and keep the original as FILE~.")
def command(
    file: str,
    system: bool | None,
    dialect: str | None,
    ttl: str | None,
    every: str,
    key_prefix: str | None,
    program: str,
    replaces: bool,
    checks: bool,
    diffs: bool,
    in_place: bool,
) -> int:
    """Print the crontab FILE, or standard input, with `cronlock run` in front of each command.

    Each line gets a key made from the names of file, application and program, stable across releases, or the NAME
    of a comment "# key: NAME" directly above it. A command with shell syntax becomes one argument of sh -c, so all
    of it runs under the lock. Wrapped lines, @reboot lines and lines below a comment "# cronlock: off" are left as
    they are. Remarks go to standard error.

    --check reports lines that are not wrapped, run partly outside the lock, share a key, have a key that differs
    between machines, have a hold or ttl that does not fit the schedule, or that cron reads differently than meant.
    """
    _check_usage(file, checks, diffs, in_place)
    text = files.read(None if file == "-" else file)
    crontab, is_system = _read(file, text, system, dialect)
    options = _options(file, is_system, ttl, every, key_prefix, program)
    options.replaces = replaces
    place = [] if file == "-" else findings.of_place(file, crontab.dialect)
    if checks:
        _say_if_not_found(crontab, [(job, call.program) for job in crontab.jobs for call in _calls(job, options)])
        return _report(place + check(crontab, options), crontab)
    wrapped = wrap(crontab, options)
    for remark in place + wrapped.remarks:
        _say(f"{crontab.name}:{remark.number}: {remark.text}")
    _say_if_not_found(crontab, [(job, program.split()[0]) for job in wrapped.jobs])
    if diffs:
        _print(_difference(crontab.name, text, wrapped.text))
    elif not in_place:
        _print(wrapped.text)
    if in_place and text != wrapped.text:
        backup, count = files.replace(file, wrapped.text), len(wrapped.jobs)
        _say(f"{file}: {count} line{'s' * (count != 1)} wrapped; the original is {backup}")
    return 0


def _check_usage(file: str, checks: bool, diffs: bool, in_place: bool) -> None:
    if checks and (diffs or in_place):
        raise UsageError("--check: cannot be combined with --diff or --in-place")
    if in_place and file == "-":
        raise UsageError("--in-place: needs FILE; standard input cannot be changed in place")
    if in_place and os.path.realpath(file).startswith("/var/spool/cron/"):
        raise UsageError(f"{file}: cron's own copy; use: crontab -l >FILE, cronlock wrap --in-place FILE, crontab FILE")


def _read(file: str, text: str, system: bool | None, named: str | None) -> tuple[Crontab, bool]:
    """Return the crontab `text` and whether its lines have a user; prints a note about a guessed dialect or form."""
    name = _STDIN if file == "-" else file
    if _MANIFEST.search(text):
        raise CrontabError(
            f"{name}: a Kubernetes manifest, not a crontab; put cronlock run --key NAME -- in front of the container's "
            "command"
        )
    dialect, reason = (DIALECTS[named], None) if named else detect(text, file)
    if reason is not None:
        _say(f"{name}: read as a crontab of {dialect.title}, {reason}; if wrong, give --dialect")
    if system and not dialect.has_users:
        raise UsageError(f"--system: lines of {dialect.title} have no user names")
    if system is None and dialect.has_users and not _is_system(file):
        crontab, note = user_field.read(text, name, dialect)
        if note is not None:
            _say(f"{name}: {note}")
        return crontab, any(job.user is not None for job in crontab.jobs)
    is_system = dialect.has_users and (_is_system(file) if system is None else system)
    return parse(text, name, system=is_system, dialect=dialect), is_system


def _is_system(file: str) -> bool:
    if file == "-":
        return False
    directory, name = os.path.split(os.path.abspath(file))
    parent = os.path.basename(directory)
    return parent == "cron.d" or (parent == "etc" and name == "crontab")


def _options(file: str, system: bool, ttl: str | None, every: str, prefix: str | None, program: str) -> Options:
    period = _duration("--every", every)
    if ttl is not None:
        _duration("--ttl", ttl)
    if prefix is None:
        prefix = _default_prefix(file, system)
    elif not re.fullmatch(r"[A-Za-z0-9_.-]*", prefix) or len(prefix) > _LONGEST_PREFIX:
        raise UsageError(f"--key-prefix {prefix!r}: use at most {_LONGEST_PREFIX} letters, digits, '.', '_' and '-'")
    if plain_words(program) is None or "%" in program:
        raise UsageError(f"--cronlock {program!r}: not a plain path; write one such as /usr/local/bin/cronlock")
    return Options(prefix=prefix, program=program, ttl=ttl, period=period)


def _duration(option: str, text: str) -> float:
    seconds = common.duration(option, text)
    if seconds < 1:
        raise UsageError(f"{option}: {text!r} is too short; give at least 1s")
    return seconds


def _default_prefix(file: str, system: bool) -> str:
    directory, base = os.path.split(os.path.abspath(file))
    is_made_up = directory in ("/tmp", "/var/tmp", tempfile.gettempdir()) and _TEMPORARY.fullmatch(base)
    name = "" if file == "-" or is_made_up else naming.slug(_ENDING.sub("", base))[:_LONGEST_PREFIX]
    if system:
        return name or "crontab"
    if name not in _COMMON_NAMES:
        return name
    try:
        return naming.slug(pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return "crontab"


def _report(remarks: list[Remark], crontab: Crontab) -> int:
    _print("".join(f"{crontab.name}:{remark.number}: {remark.text}\n" for remark in remarks))
    return _FINDINGS if remarks else 0


def _say(text: str) -> None:
    click.echo(f"cronlock: {_printable(text)}", err=True)


def _calls(job: Job, options: Options) -> list[calls.Call]:
    return calls.find(job.text, options.programs)


def _say_if_not_found(crontab: Crontab, programs: list[tuple[Job, str]]) -> None:
    """Warn about the first of `programs`, (job, program), that is not in cron's PATH."""
    for job, program in programs:
        path = job.variables.get("PATH", _CRONS_PATH)
        if program and "/" not in program and shutil.which(program, path=path) is None:
            text = f"{program} is not in cron's PATH, {path}; if so on all machines: --cronlock PATH"
            _say(f"{crontab.name}:{job.number}: {text}")
            return


def _print(text: str) -> None:
    """Write `text` with its original bytes. Raises ConfigError."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except OSError as error:
        # Or the interpreter would fail to flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            raise SystemExit(errors.SIGNAL_BASE + 13) from None
        raise ConfigError(f"cannot write standard output: {error.strerror}") from None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _difference(name: str, before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(_lines(before), _lines(after), name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    # Not splitlines(), which ends lines at more than a newline.
    return re.findall(r"[^\n]*\n|[^\n]+", text)
