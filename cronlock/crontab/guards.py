"""Guards that a line already has, such as locks and tests of the host: keep, replace or refuse them, with remarks.

Priorities, time limits, other users, mail and logs stay inside without a remark.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from ..durations import parse
from .invocations import Invocation, Reading
from .launchers import Launcher
from .lines import Job
from .shell import Word, is_plain, quote_if_needed, word_set

_LOCAL = word_set("flock lockf setlock lockrun run-one run-this-one solo runlock with-lock-ex")
_SHARED = frozenset(("consul lock", "etcdctl lock", "zk-flock", "kvz/cronlock"))
# Locks that remain when their holder is killed.
_LEFT_BEHIND = word_set("dotlockfile lockfile lockfile-create shlock")
_LOCKFILE = re.compile(r"\S*(?:\.lock|\.lck|/lock)")
#: Likely names of programs that take a lock.
_LOCK_NAME = re.compile(
    r"(?:.*[-_.])?(?:[a-z0-9]{0,8}lock(?:er|ed|run|ing|exec)?|mutex|semaphore|leader|leader-?elect(?:ion|or)?|singleton"
    r"|only-?one|run-?once|lease)(?:[-_.](?:run|exec|do|with|[a-z]{1,3}))?",
    re.IGNORECASE,
)
_NO_LOCK = re.compile(r"(?i).*(?:unlock|block|clock|deadlock|lockfile|flock|stock|padlock|sherlock|gridlock)")
#: Tests of which machine this is.
_TESTS = word_set("[ [[ test case grep egrep expr hostname")
_MACHINE = re.compile(
    r"\b(?:hostname|host|leader|master|primary|isMaster|is_active|keepalived|pg_is_in_recovery|vrrp|vip)\b|uname -n",
    re.IGNORECASE,
)
_AM_I = re.compile(
    r"(?:is|am|if|check|on)[-_]?(?:i[-_]?)?(?:the[-_]?)?\w*(?:leader|master|primary|active|vip)", re.IGNORECASE
)
#: They return before their command ends: unless they have one of the options (+), or if they have one (-).
_DETACHING = {
    "systemd-run": ("+", "t", "P", "--wait", "--scope", "--pty", "--pipe"),
    "docker run": ("-", "d", "d", "--detach"),
    "docker exec": ("-", "d", "d", "--detach"),
    "compose run": ("-", "d", "d", "--detach"),
    "compose exec": ("-", "d", "d", "--detach"),
    "setsid": ("-", "f", "f", "--fork"),
    "ssh": ("-", "f", "f"),
}
_DETACHED = re.compile(
    r"(?:screen .*-d?m?d\S*|tmux new\S* .*-d|start-stop-daemon .*(?:--background|-b)|daemonize|at|batch"
    r"|(?:kubectl|oc) create job)(?= |$)"
)
_ELSEWHERE = word_set("ssh")
_EXECS = frozenset(("docker exec", "compose exec", "kubectl exec", "lxc exec"))
_OTHER_USER = word_set("sudo doas su runuser gosu")


@dataclass
class Replacement:
    """A line without its lock: the command, and the equivalent options of cronlock."""

    name: str
    command: str
    options: list[str]
    #: The key from the lock's name, or None.
    key: str | None = None
    #: The lock file, or None.
    path: str | None = None


def why_left(reading: Reading) -> str | None:
    """Return why a line with a guard should not be wrapped, or None."""
    for invocation in reading.invocations:
        if invocation is reading.main:
            break
        is_test = invocation.program in _TESTS and _MACHINE.search(invocation.text)
        if is_test or _AM_I.match(invocation.program):
            return (
                "a test decides which machine runs it; wrapped, a machine that fails it may get the key and run nothing"
            )
    shared = _shared(reading)
    if shared is not None:
        return f"{shared} already guards it"
    for invocation in reading.invocations:
        if _is_lock(invocation):
            return f"{invocation.program} looks like a lock"
    return None


def remarks(job: Job, reading: Reading) -> list[str]:
    """Return problems of guards inside the lock."""
    found = []
    names = [launcher.name for launcher in reading.launchers]
    for invocation in reading.invocations:
        program, values = invocation.program, invocation.values
        takes = program in ("mkdir", "touch") and any(_LOCKFILE.fullmatch(value) for value in values)
        if program in _LEFT_BEHIND or takes:
            found.append(f"the lock of {program} remains if the command is killed; remove it, the key replaces it")
        if _DETACHED.match(invocation.text):
            found.append(_leaves(program))
    found += [_leaves(launcher.name) for launcher in reading.launchers if _detaches(launcher)]
    if job.user not in (None, "root") and any(name in _OTHER_USER for name in names):
        found.append(
            f"if the lease is lost, {job.user} cannot stop processes of another user; move the line to that user's "
            "crontab or root's"
        )
    return list(dict.fromkeys(found))


def hints(reading: Reading) -> list[str]:
    """Return remarks on launchers that stay inside the lock."""
    found = []
    for name in dict.fromkeys(launcher.name for launcher in reading.launchers):
        if name in _EXECS or name in _ELSEWHERE:
            where = "on the other machine" if name in _ELSEWHERE else "in the container"
            found.append(f"{name}: if the lease is lost, cronlock stops the client here, but not the process {where}")
    return found


def local_lock(reading: Reading) -> Launcher | None:
    """Return the line's lock of this machine, or None."""
    return next((launcher for launcher in reading.launchers if launcher.name in _LOCAL), None)


def path_of(reading: Reading) -> str | None:
    """Return the path of the line's lock file, or None."""
    lock = local_lock(reading)
    if lock is None:
        return None
    return lock.operands[0].value if lock.operands else lock.given("--lockfile", "-L", "-f")


def replace(job: Job, reading: Reading) -> Replacement | None:
    """Return the line without its lock if cronlock can replace it, else None."""
    for launcher in reading.launchers:
        if launcher.name in _LOCAL or launcher.name in _SHARED:
            # The variables of kvz/cronlock go with it.
            given = [
                word
                for invocation in reading.invocations
                for word in invocation.assignments
                if word.value.startswith("CRONLOCK_")
            ]
            options = _options(launcher, given)
            command = _without(job.command, [*given, *launcher.head], launcher, job.shell)
            if options is None or command is None:
                return None
            keys = [word.value[13:] for word in given if word.value.startswith("CRONLOCK_KEY=")]
            keys += [word.value for word in launcher.operands[:1] if launcher.name in _SHARED]
            return Replacement(launcher.name, command, options, next(iter(keys), None), path_of(reading))
    return None


def _options(launcher: Launcher, variables: list[Word]) -> list[str] | None:
    """Return cronlock's options that are equivalent to those of a lock, or None."""
    found: list[str] = []
    if launcher.name == "flock":
        if launcher.has_flag("s", "--shared") or launcher.has_flag("u", "--unlock"):
            return None
        found += _given("--skip-status", launcher.given("-E", "--conflict-exit-code"))
        found += _duration("--wait", launcher.given("-w", "--wait", "--timeout"))
    elif launcher.name == "consul lock":
        if launcher.given("-n") not in (None, "1"):
            return None
        found += _duration("--wait", launcher.given("-timeout", "-try"))
    elif launcher.name == "etcdctl lock":
        found += _duration("--ttl", launcher.given("--ttl"))
    elif launcher.name == "kvz/cronlock":
        values = dict(word.value.split("=", 1) for word in variables)
        found += _duration("--timeout", values.get("CRONLOCK_TIMEOUT"))
    elif launcher.name in ("lockf", "runlock"):
        found += _duration("--wait", launcher.given("-t"))
    return found


def _given(option: str, value: str | None) -> list[str]:
    return [option, quote_if_needed(value)] if value else []


def _duration(option: str, value: str | None) -> list[str]:
    try:
        return [option, value] if value and parse(value) > 0 else []
    except ValueError:
        return []


def _without(text: str, words: list[Word], launcher: Launcher, shell: str) -> str | None:
    """Return `text` without the `words` of `launcher` before its command; None if `text` writes them otherwise."""
    head = r"[ \t]+".join(re.escape(word.text) for word in words)
    found = re.findall(rf"(?<![^\s;&|(]){head}[ \t]+", text)
    is_script = launcher.script is not None and len(launcher.tail) == 1 and not is_plain(launcher.script)
    if len(found) != 1 or (launcher.tail and len(launcher.tail) > 1 and launcher.name == "flock"):
        return None
    return text.replace(found[0], f"{shell} -c " if is_script else "")


def _shared(reading: Reading) -> str | None:
    for launcher in reading.launchers:
        if launcher.name in _SHARED:
            return launcher.name
    return None


def _is_lock(invocation: Invocation) -> bool:
    name = posixpath.splitext(invocation.program)[0]
    if not invocation.is_job or not _LOCK_NAME.fullmatch(name) or _NO_LOCK.match(name):
        return False
    return any(not value.startswith("-") for value in invocation.values)


def _detaches(launcher: Launcher) -> bool:
    if launcher.name not in _DETACHING:
        return False
    sign, first, second, *names = _DETACHING[launcher.name]
    has = launcher.has_flag(first, *names) or launcher.has_flag(second)
    return has if sign == "-" else not has


def _leaves(name: str) -> str:
    wait = "; add --wait or --scope" if name == "systemd-run" else "; make it wait"
    return f"{name} returns before the job ends, so the lock does not cover it{wait}"
