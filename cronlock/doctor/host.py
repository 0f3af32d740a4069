"""The checks of ``cronlock doctor`` on this machine: the system, the configuration, directories."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import time
from typing import TYPE_CHECKING

from .. import __version__
from ..config import file as config_file
from ..process import linux
from ..process.command import UNKILLABLE_AFTER
from .findings import BAD, NOTE, OK, WARNING, Finding, judge_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..config.settings import Settings

_CLOCK = "a clock that counts suspension: a machine that wakes up may stop a command late"
_PROC = (
    "/proc: only the command's process group can be stopped,"
    f" and stopping waits up to {UNKILLABLE_AFTER:.0f} s for what left it"
)
_SUBREAPERS = "child subreapers: what leaves the command's process group outlives it"


def machine() -> Iterator[Finding]:
    """Check the program, and what the guard needs of the system."""
    system = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("program", OK, f"cronlock {__version__}, Python {python}, as {_user()}")
    lacking, remedies = [], []
    for is_there, what, remedy in (
        (hasattr(time, "CLOCK_BOOTTIME"), _CLOCK, "run it by a Python for Linux"),
        (linux.has_proc(), _PROC, "mount /proc, in the pid namespace that this runs in"),
        (linux.can_adopt(), _SUBREAPERS, "allow prctl(PR_SET_CHILD_SUBREAPER) here, which Linux has since 3.4"),
    ):
        if not is_there:
            lacking.append(what)
            remedies.append(remedy)
    name = f"{system.sysname} {system.release}"
    if lacking:
        remedy = "; ".join(remedies) if system.sysname == "Linux" else "Linux has it"
        yield Finding("system", WARNING, f"{name} without {'; without '.join(lacking)}", remedy)
    else:
        yield Finding("system", OK, f"{name} has what the guard needs")


def configuration(given: Mapping[str, object], environ: Mapping[str, str], chosen: Settings) -> Iterator[Finding]:
    """Check the configuration file, and report where each setting comes from."""
    named = given.get("config") or environ.get("CRONLOCK_CONFIG")
    path = str(named or config_file.DEFAULT_PATH)
    if os.path.exists(path):
        yield _configuration_file(path)
    else:
        yield Finding("configuration", NOTE, f"there is no {path}")
    # Without the variable's name, which repeats the setting's.
    sources = [
        f"{name.replace('_', '-')} from {where.partition(': CRONLOCK_')[0]}"
        for name, where in sorted(chosen.sources.items())
        if name != "config"
    ]
    yield Finding("settings", OK, ", ".join([*sources, "the rest" if sources else "all"]) + " by default")
    if chosen.sources.get("backend", "").startswith("--") and _has_secret(chosen.backend or ""):
        remedy = f"write it into {config_file.DEFAULT_PATH}, with mode 600"
        yield Finding(
            "password", WARNING, "is on the command line, where every user of this machine can read it", remedy
        )


def key_file(path: str) -> Iterator[Finding]:
    """Check the mode of a TLS key, if it exists."""
    if not os.path.exists(path):
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield Finding("TLS key", WARNING, f"{path}, mode {mode:o}: every user can read it", f"chmod o-rw {path}")
    else:
        yield Finding("TLS key", OK, f"{path}, mode {mode:o}")


def state_directory(chosen: Settings) -> Iterator[Finding]:
    """Check that watermarks can be stored there."""
    directory = chosen.state_dir
    consequence = "a server that lost its leases goes unnoticed"
    if directory is None:
        yield Finding("state directory", WARNING, f"there is no HOME for one: {consequence}", "set --state-dir")
        return
    remedy = "let this user write there, or name another with --state-dir"
    path = os.path.join(directory, "watermarks")
    # A missing directory will be made, by a user who may write to its parent.
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    problem = None
    if not os.path.isdir(path):
        problem = "is no directory"
    elif os.statvfs(path).f_flag & os.ST_RDONLY:
        problem = "is on a read-only file system"
    elif not os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        problem = f"cannot be written by {_user()}"
    if problem is not None:
        text = f"{directory} cannot be used, since {path} {problem}: {consequence}"
        yield Finding("state directory", WARNING, text, remedy)
        return
    if os.path.isdir(directory):
        yield directory_modes("state directory", directory)
    else:
        yield Finding("state directory", OK, f"{directory}, made when it is needed")
    yield from free_space("state space", path)


def directory_modes(name: str, directory: str) -> Finding:
    """Judge the owner and mode of one of cronlock's directories."""
    found = os.stat(directory)
    mode = stat.S_IMODE(found.st_mode)
    text = f"{directory}, mode {mode:o}"
    if found.st_uid not in (0, os.geteuid()):
        return Finding(name, WARNING, f"{text}, belongs to another user", f"chown {_user()} {directory}")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return Finding(name, BAD, f"{text}: everybody can remove files there", f"chmod go-w {directory}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(name, WARNING, f"{text}: others can put files there", f"chmod go-w {directory}")
    return Finding(name, OK, text)


def free_space(name: str, directory: str) -> Iterator[Finding]:
    """Judge the free space at `directory`."""
    try:
        room = os.statvfs(directory)
    except OSError as error:
        yield Finding(name, NOTE, f"cannot tell what is free at {directory}: {error.strerror}")
        return
    yield judge_space(name, directory, room.f_bavail * room.f_frsize, room.f_files, room.f_favail)


def _configuration_file(path: str) -> Finding:
    found = os.stat(path)
    mode = stat.S_IMODE(found.st_mode)
    text = f"{path}, mode {mode:o}"
    if not stat.S_ISREG(found.st_mode):
        return Finding("configuration", OK, path)
    if found.st_uid not in (0, os.geteuid()) or mode & (stat.S_IWGRP | stat.S_IWOTH):
        remedy = f"chown root {path} && chmod go-w {path}"
        return Finding("configuration", WARNING, f"{text}: others can change it, and so whose jobs run", remedy)
    if mode & stat.S_IROTH and _holds_password(path):
        remedy = f"chmod o-r {path} (chgrp it to those whose jobs use it)"
        return Finding("configuration", WARNING, f"{text}: it holds a password, and every user can read it", remedy)
    return Finding("configuration", OK, text)


def _holds_password(path: str) -> bool:
    """Return True if the file sets a backend with a password, even if another source overrides it."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            lines = file.read(1 << 16).split("\n")
    except OSError:
        return False
    pairs = [line.partition("=") for line in lines]
    values = [value.strip().strip("'\"") for name, _, value in pairs if name.strip() == "CRONLOCK_BACKEND"]
    return any(map(_has_secret, values))


def _has_secret(text: str) -> bool:
    """Return True if a backend's URL holds a password, even if the URL is bad."""
    credentials, at, _ = text.rpartition("@")
    is_file = text.lower().startswith("file:")
    return "sentinel_password=" in text or (bool(at) and not is_file and ":" in credentials.replace("://", "", 1))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
