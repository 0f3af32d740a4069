"""The ``wrap`` command: a crontab in, the same with ``cronlock run`` before its commands out."""

from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import sys
import tempfile

import click

from .. import errors
from ..crontab import calls, files, findings, naming, userfield
from ..crontab.checking import check
from ..crontab.dialects import DIALECTS, detect
from ..crontab.lines import Crontab, CrontabError, parse
from ..crontab.shell import plain_words
from ..crontab.wrapping import Options, wrap
from ..errors import ConfigError, UsageError
from . import common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..crontab.lines import Job, Remark

_STDIN = "standard input"
_FINDINGS = 1
_LONGEST_PREFIX = 100
# What cron searches when the crontab does not set PATH.
_CRONS_PATH = "/usr/bin:/bin"
# Names that many users give their crontab, so that it does not tell one from another.
_COMMON_NAMES = frozenset(("", "cron", "crontab", "tab"))
# What `crontab -e` and mktemp(1) make up, another on each machine.
_TEMPORARY = re.compile(r"(crontab|cron|tmp)\.?[A-Za-z0-9_]{6,}")
_MANIFEST = re.compile(r"^kind:[ \t]*[\"']?CronJob\b", re.MULTILINE)
_ENDING = re.compile(r"\.(cron|crontab|tab|txt|in)$")


@click.command(
    short_help="Put cronlock run before the commands of a crontab.",
    epilog="""Exit status:

\b
0   Done; with --check: nothing to report.
1   --check has something to report.
64  Usage: bad option.
78  The crontab cannot be read or written, or no line of it is one for cron.
""",
)
@click.argument("file", default="-", metavar="[FILE]", shell_complete=common.files)
@click.option(
    "--system/--user",
    default=None,
    help="Whether lines have a user's name before the command. Default: as for cron, they do in /etc/crontab and in "
    "a directory cron.d; elsewhere the lines themselves tell.",
)
@click.option(
    "--dialect",
    type=click.Choice(list(DIALECTS)),
    metavar="CRON",
    help="Whose crontab it is: what %, users, names, and other things in a line mean. Default: what Debian's cron and "
    "cronie make of it, unless the file can only be another's. One of: "
    f"{', '.join(DIALECTS)}.",
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
    shell_complete=common.files,
    help="How the lines call cronlock.",
)
@click.option(
    "--replace-locks",
    "replaces",
    is_flag=True,
    help="Put cronlock in the place of flock, consul lock and the like, instead of around them.",
)
@click.option("--check", "checks", is_flag=True, help="Write no crontab, but report what is wrong in FILE.")
@click.option("--diff", "diffs", is_flag=True, help="Show the difference instead of the crontab.")
@click.option("-i", "--in-place", is_flag=True, help="Change FILE; what it was becomes FILE~.")
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
    """Read a crontab from FILE, or standard input, and print it with `cronlock run` before each command.

    Each line gets a key made from the names of file, application and program, which the next release does not
    change, or the NAME of a comment "# key: NAME" directly above it. Commands with shell syntax go into
    sh -c '...' as a whole, so that all of them runs under the lock. What is wrapped already stays as it is, as do
    @reboot lines and a line below a comment "# cronlock: off". Remarks go to standard error.

    --check reports lines that are not wrapped, that run partly outside of the lock, that share a key, whose key
    differs between machines, whose hold or ttl does not fit their schedule, or that cron does not read as meant.
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
        _say(f"{file}: {count} line{'s' * (count != 1)} wrapped; {backup} is what it was")
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


def _read(file: str, text: str, system: bool | None, named: str | None) -> tuple[Crontab, bool]:
    """Return the crontab `text`, and whether its lines have a user; says so, and whose it is, if it had to guess."""
    name = _STDIN if file == "-" else file
    if _MANIFEST.search(text):
        raise CrontabError(
            f"{name}: is a manifest of Kubernetes, no crontab; put cronlock run --key NAME -- before the container's "
            "command"
        )
    dialect, reason = (DIALECTS[named], None) if named else detect(text, file)
    if reason is not None:
        _say(f"{name}: read as a crontab of {dialect.title}, {reason}; if it is none: --dialect")
    if system and not dialect.has_users:
        raise UsageError(f"--system: {dialect.title} knows no users in its lines")
    if system is None and dialect.has_users and not _is_system(file):
        crontab, note = userfield.read(text, name, dialect)
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
    """Say so if cron would not find the first of `programs` here, each with its line."""
    for job, program in programs:
        path = job.variables.get("PATH", _CRONS_PATH)
        if program and "/" not in program and shutil.which(program, path=path) is None:
            _say(
                f"{crontab.name}:{job.number}: no {program} here in cron's PATH, {path}; if so on your machines: "
                "--cronlock PATH"
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
