"""Decide from all lines of a crontab whether they have a user name before the command."""

from __future__ import annotations

import pwd
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from .dialects import Dialect
from .lines import Crontab, CrontabError, Job, parse
from .shell import BUILTINS, POSIX_SHELLS, word_set

_NAME = re.compile(r"[a-z_][a-z0-9_.-]*\$?(:[a-z_][a-z0-9_-]*)?")
# Users of distributions, images and services whose name no program has.
_USERS = word_set(
    "root daemon nobody www-data www ubuntu debian ec2-user centos fedora rocky vagrant pi apache nginx httpd "
    "postgres tomcat jenkins gitlab-runner zabbix nagios icinga munin prometheus grafana elasticsearch rabbitmq _apt"
)
# Names of both users and programs or scripts.
_BOTH = word_set("backup bin games git list lp mail man mysql news proxy redis sync sys uucp deploy app admin")
_PROGRAMS = (
    POSIX_SHELLS
    | BUILTINS
    | word_set(
        "awk bundle cat chronic curl docker env find flock ionice java logger make mysqldump nice node npm perl php "
        "pg_dump psql python python2 python3 rm rsync ruby run-parts setlock sed ssh sudo su systemctl tar timeout wget"
    )
)
_COMMAND = re.compile(r"/(.*/)?(s?bin|libexec)/.+|[/~].*\.(sh|bash|py|pl|rb|php)")

_TAKEN = "read as a system crontab, with a user's name before each command ({}); if wrong, give --user"
_NOT_TAKEN = "read as a user's crontab; if line {} begins with a user's name, {!r}, give --system"
# How certain it is that a line has a user name.
_CERTAIN, _LIKELY, _UNCLEAR, _NONE = "certainly", "likely", "unclear", "no"


@dataclass
class Machine:
    """Lookups on this machine."""

    is_user: Callable[[str], bool]
    is_program: Callable[[str], bool]


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


HERE = Machine(_is_user, lambda name: shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") is not None)


def read(text: str, name: str, dialect: Dialect, here: Machine = HERE) -> tuple[Crontab, str | None]:
    """Return the crontab in `text`, parsed with or without users, and a note about the choice, if any.

    Raises CrontabError if some lines certainly have a user and others certainly have none.
    """
    plain = parse(text, name, system=False, dialect=dialect)
    seen: dict[str, list[Job]] = {}
    for job in plain.jobs:
        seen.setdefault(_has_user(job.command, here), []).append(job)
    certain, without = seen.get(_CERTAIN, []), seen.get(_NONE, [])
    if certain and without:
        raise CrontabError(
            f"{name}:{certain[0].number}: begins with a user's name, {certain[0].command.split()[0]!r}, but line "
            f"{without[0].number} does not; correct one of them, or give --system or --user"
        )
    likely = [*certain, *seen.get(_LIKELY, [])]
    if likely and not without:
        users = ", ".join(sorted({job.command.split()[0] for job in likely}))
        return parse(text, name, system=True, dialect=dialect), _TAKEN.format(users)
    unclear = [*likely, *seen.get(_UNCLEAR, [])]
    if unclear and not without:
        return plain, _NOT_TAKEN.format(unclear[0].number, unclear[0].command.split()[0])
    return plain, None


def _has_user(command: str, here: Machine) -> str:
    """Return how certain it is that `command` begins with a user name."""
    words = command.split(None, 2)
    if len(words) < 2 or not _NAME.fullmatch(words[0]):
        return _NONE
    first = words[0].partition(":")[0]
    if first in _USERS or (first not in _BOTH and first not in _PROGRAMS and here.is_user(first)):
        return _CERTAIN
    if first not in _BOTH and (first in _PROGRAMS or here.is_program(first)):
        return _NONE
    second = words[1].strip("\"'")
    if _COMMAND.fullmatch(second) or second in _PROGRAMS or (_NAME.fullmatch(second) and here.is_program(second)):
        return _LIKELY
    return _UNCLEAR if second.startswith("/") else _NONE
