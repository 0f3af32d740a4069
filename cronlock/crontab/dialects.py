"""How the dialects of cron differ.

Sources: the code of Debian's cron 3.0pl1, cronie 1.7, busybox 1.37, supercronic 0.2 and systemd-cron 2.5; the manuals
of FreeBSD's and OpenBSD's cron, Kubernetes and Jenkins.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Dialect:
    """One cron, or the common part of several."""

    name: str
    #: Its name in messages.
    title: str
    #: Whether an unescaped ``%`` ends the command, and what follows is its stdin.
    percent: bool = True
    #: Whether its system crontabs have a user field.
    has_users: bool = True
    #: The variables that the file can set, or None for any.
    variables: tuple[str, ...] | None = None
    #: Letters of the options that it reads in front of a command; it takes any other option for the command.
    options: str = ""
    #: The longest command in bytes, or None.
    longest: int | None = None
    #: Whether it ignores a last line without a newline.
    needs_newline: bool = False
    #: Whether a carriage return at the end of a line reaches the command.
    keeps_return: bool = True
    #: Whether ``#`` ends the command, in quotes too.
    comments: bool = False
    #: Whether CRON_TZ sets the zone of the schedule, and RANDOM_DELAY delays the start.
    has_zones: bool = False
    has_delay: bool = False
    #: What happens if it cannot read a line.
    on_error: str = "that line never fires"
    #: Whether it reads a sixth time field (years), a seventh (seconds, in front) and full names of months.
    seconds: bool = False
    #: Additional shortcuts, as five fields, and common ones that it lacks.
    shortcuts: tuple[tuple[str, str], ...] = ()
    lacks: tuple[str, ...] = ()
    #: Additional syntax of time fields: ``~``, ``H``, ``L`` (with ``W`` and ``#``), ``?``, ``/`` (as in ``5/15``).
    signs: str = ""
    #: Whether a range of days may end on Sunday (``fri-sun``), and whether any range may wrap around (``22-4``).
    to_sunday: bool = False
    backwards: bool = False
    #: The last day of the week: 7 if that is Sunday like 0.
    last_day: int = 7
    #: A regular expression for lines that only it reads.
    only: str = ""


CRON = Dialect(
    "cron",
    "cron",
    longest=998,
    needs_newline=True,
    has_delay=True,
    on_error="Debian's cron ignores the whole file",
    signs="~",
)
_FIELD = "[A-Za-z0-9*?/,#-]"
_REBOOT = ("@reboot",)
_HALVES = ("@semi-annually", "@semiannually", "@bi-annually", "@biannually")
DIALECTS = {
    dialect.name: dialect
    for dialect in (
        CRON,
        replace(CRON, name="debian", title="Debian's cron", has_delay=False),
        replace(
            CRON,
            name="cronie",
            title="cronie",
            options="n",
            has_zones=True,
            on_error="that line never fires",
            to_sunday=True,
        ),
        replace(
            CRON,
            name="bsd",
            title="BSD's cron",
            options="nqs",
            has_delay=False,
            on_error="that line never fires",
            shortcuts=(("@every_minute", "* * * * *"),),
            only=r"@every_(minute|second)\b|@[0-9]+[ \t]|(\S+[ \t]+){5,6}-n?[qs]+[ \t]",
        ),
        Dialect(
            "busybox",
            "busybox's crond",
            percent=False,
            has_users=False,
            variables=("MAILTO", "SHELL"),
            comments=True,
            on_error="the line fires at other times, or never",
            backwards=True,
            last_day=6,
        ),
        Dialect(
            "supercronic",
            "supercronic",
            percent=False,
            has_users=False,
            keeps_return=False,
            has_zones=True,
            on_error="supercronic does not start",
            seconds=True,
            lacks=("@midnight", "@reboot"),
            signs="L?/",
            only=rf"({_FIELD}+[ \t]+){{5}}({_FIELD}+[ \t]+\*|({_FIELD}+[ \t]+)?20[0-9][0-9])[ \t]+\S",
        ),
        Dialect(
            "systemd",
            "systemd-cron",
            has_zones=True,
            has_delay=True,
            shortcuts=(("@quarterly", "0 0 1 1,4,7,10 *"), *((name, "0 0 1 1,7 *") for name in _HALVES)),
            signs="~",
            to_sunday=True,
            only=r"@(quarterly|(semi|bi)-?annually)\b|(PERSISTENT|BATCH|CRON_(BATCH|UNIQUE|MAIL)_\w+)[ \t]*=",
        ),
        Dialect(
            "kubernetes",
            "Kubernetes",
            percent=False,
            has_users=False,
            on_error="Kubernetes refuses it",
            lacks=_REBOOT,
            signs="?/",
            last_day=6,
        ),
        Dialect(
            "jenkins",
            "Jenkins",
            percent=False,
            has_users=False,
            on_error="Jenkins refuses it",
            lacks=_REBOOT,
            signs="H",
            only=r"(\S+[ \t]+){0,4}H(\(\d+-\d+\))?(/\d+)?[ \t]",
        ),
    )
}


def detect(text: str, path: str) -> tuple[Dialect, str | None]:
    """Return the dialect of the crontab `text` at `path` and the reason; (CRON, None) by default."""
    directory, _ = posixpath.split(posixpath.abspath(path))
    if directory.endswith("/etc/crontabs"):
        return DIALECTS["busybox"], "because of its directory"
    found: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        for dialect in DIALECTS.values():
            if dialect.only and re.match(dialect.only, line.lstrip(" \t")):
                found.setdefault(dialect.name, number)
    if len(found) != 1:
        return CRON, None
    ((name, number),) = found.items()
    return DIALECTS[name], f"because of line {number}"
