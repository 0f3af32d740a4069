"""The ``wrap`` command: a crontab in, the same with ``cronlock run`` before its commands out."""

from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import sys

import click

from .. import errors
from ..crontab import files, names
from ..crontab.checking import check
from ..crontab.lines import Crontab, CrontabError, parse
from ..crontab.shell import plain_words
from ..crontab.wrapping import Options, Wrapped, wrap
from ..errors import ConfigError, UsageError
from . import common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..crontab.wrapping import Remark

_STDIN = "standard input"
_FINDINGS = 1
_LONGEST_PREFIX = 100
# What cron searches when the crontab does not set PATH.
_CRONS_PATH = "/usr/bin:/bin"
# Names that many users give their crontab, so that it does not tell one from another.
_COMMON_NAMES = frozenset(("", "cron", "crontab", "tab"))
_ENDING = re.compile(r"\.(cron|crontab|tab|txt|in)$")


@click.command(
    short_help="Put cronlock run before the commands of a crontab.",
    epilog="""Exit status:

\b
0   Done; with --check: nothing to report.
1   --check has something to report.
64  Usage: bad option.
78  The crontab cannot be read or written, or is none for cron.
""",
)
@click.argument("file", default="-", metavar="[FILE]")
@click.option(
    "--system/--user",
    default=None,
    help="Whether lines have a user's name before the command. Default: as for cron, they do in /etc/crontab and in "
    "a directory cron.d.",
)
@click.option("-t", "--ttl", metavar="DURATION", help="Write this --ttl into the lines. Default: none is written.")
@click.option(
    "--every",
    metavar="PERIOD",
    default="1h",
    show_default=True,
    help="The longest --every to write. A line whose ticks come closer gets their smallest distance.",
)
@click.option(
    "--key-prefix",
    metavar="PREFIX",
    help="What the keys begin with, before a dot. Default: the file's name, or the user's for a crontab with no name "
    "of its own.",
)
@click.option(
    "--cronlock",
    "program",
    metavar="PATH",
    default="cronlock",
    show_default=True,
    help="How the lines call cronlock.",
)
@click.option("--check", "checks", is_flag=True, help="Write no crontab, but report what is wrong in FILE.")
@click.option("--diff", "diffs", is_flag=True, help="Show the difference instead of the crontab.")
@click.option("-i", "--in-place", is_flag=True, help="Change FILE; what it was becomes FILE~.")
def command(
    file: str,
    system: bool | None,
    ttl: str | None,
    every: str,
    key_prefix: str | None,
    program: str,
    checks: bool,
    diffs: bool,
    in_place: bool,
) -> int:
    """Read a crontab from FILE, or standard input, and print it with `cronlock run` before each command.

    Each line gets a key made from the names of file and program, or the NAME of a comment "# key: NAME"
    directly above it. Commands with shell syntax go into sh -c '...' as a whole, so that all of them runs
    under the lock. What is wrapped already stays as it is, as do @reboot lines and a line below a comment
    "# cronlock: off". Remarks go to standard error.

    --check reports lines that are not wrapped, that run partly outside of the lock, that share a key, or
    whose hold or ttl does not fit their schedule.
    """
    _check_usage(file, checks, diffs, in_place)
    crontab, text = _read(file, system)
    options = _options(file, _is_system(file, system), ttl, every, key_prefix, program)
    if checks:
        return _report(check(crontab, options), crontab)
    wrapped = wrap(crontab, options)
    _say(crontab, wrapped, program)
    if diffs:
        _print(_difference(crontab.name, text, wrapped.text))
    elif not in_place:
        _print(wrapped.text)
    if in_place and text != wrapped.text:
        backup, count = files.replace(file, wrapped.text), len(wrapped.jobs)
        click.echo(f"cronlock: {file}: {count} line{'s' * (count != 1)} wrapped; {backup} is what it was", err=True)
    return 0


def _check_usage(file: str, checks: bool, diffs: bool, in_place: bool) -> None:
    if checks and (diffs or in_place):
        raise UsageError("--check writes nothing; it goes with neither --diff nor --in-place")
    if in_place and file == "-":
        raise UsageError("--in-place needs the name of a FILE")
    if in_place and os.path.realpath(file).startswith("/var/spool/cron/"):
        raise UsageError(
            f"{file} is cron's own copy; do: crontab -l >FILE, cronlock wrap --in-place FILE, crontab FILE"
        )


def _read(file: str, system: bool | None) -> tuple[Crontab, str]:
    """Return the crontab in `file`, and its text."""
    name = _STDIN if file == "-" else file
    text = files.read(None if file == "-" else file)
    crontab = parse(text, name, system=_is_system(file, system))
    if system is None and not _is_system(file, system):
        for job in crontab.jobs:
            if re.match(r"root[ \t]+\S", job.command):
                raise CrontabError(
                    f"{name}:{job.number}: the command is 'root ...'; give --system if lines have a user's name, "
                    "else --user"
                )
    return crontab, text


def _is_system(file: str, system: bool | None) -> bool:
    if system is not None or file == "-":
        return bool(system)
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
        raise UsageError(f"--key-prefix {prefix!r}: letters, digits, '.', '_' and '-' only, at most {_LONGEST_PREFIX}")
    if plain_words(program) is None or "%" in program:
        raise UsageError(f"--cronlock {program!r}: write a path, such as /usr/local/bin/cronlock")
    return Options(prefix=prefix, program=program, ttl=ttl, period=period)


def _duration(option: str, text: str) -> float:
    seconds = common.duration(option, text)
    if seconds < 1:
        raise UsageError(f"{option}: {text!r} is less than a second")
    return seconds


def _default_prefix(file: str, system: bool) -> str:
    name = "" if file == "-" else names.slug(_ENDING.sub("", os.path.basename(file)))[:_LONGEST_PREFIX]
    if system:
        return name or "crontab"
    if name not in _COMMON_NAMES:
        return name
    try:
        return names.slug(pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return "crontab"


def _report(remarks: list[Remark], crontab: Crontab) -> int:
    _print("".join(f"{crontab.name}:{remark.number}: {remark.text}\n" for remark in remarks))
    return _FINDINGS if remarks else 0


def _say(crontab: Crontab, wrapped: Wrapped, program: str) -> None:
    for remark in wrapped.remarks:
        click.echo(f"cronlock: {crontab.name}:{remark.number}: {_printable(remark.text)}", err=True)
    first = program.split()[0]
    for job in wrapped.jobs:
        path = job.variables.get("PATH", _CRONS_PATH)
        if "/" not in first and shutil.which(first, path=path) is None:
            click.echo(
                f"cronlock: {crontab.name}:{job.number}: no {first} here in cron's PATH, {_printable(path)}; "
                "if so on your machines: --cronlock PATH",
                err=True,
            )
            return


def _print(text: str) -> None:
    """Write `text` with the bytes that it was read with; raises ConfigError."""
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except OSError as error:
        # What the interpreter would try to write at its end has nowhere to go.
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
