"""Find calls of ``cronlock run`` in a command, and the parts of the command outside the lock."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from ..config import arguments
from ..errors import UsageError
from . import per_host
from .shell import POSIX_SHELLS, Command, commands, word_set

# They only print or search for their arguments.
_QUOTING = word_set("echo egrep fgrep grep logger pgrep pkill printf")
# Harmless outside the lock: they change only this shell.
_HARMLESS = word_set(": . [ [[ cd export false hash pwd read return set sleep source test true type ulimit umask unset")
#: The commands of cronlock. Another program of that name (kvz/cronlock) takes a command instead.
OWN_COMMANDS = word_set("run status history check pause resume release doctor wrap forget stop board")
# Levels of `sh -c '... sh -c "..."'`.
_DEEPEST = 5


@dataclass
class Call:
    """One ``cronlock run`` of a line."""

    #: The options by their Python names, except those in `expands`.
    options: dict[str, str | bool] = field(default_factory=dict)
    #: The names of options whose value the shell expands.
    expands: set[str] = field(default_factory=set)
    command: list[str] = field(default_factory=list)
    #: Remarks on what runs outside the lock.
    outside: list[str] = field(default_factory=list)
    #: The word that calls cronlock.
    program: str = ""
    #: The key as written, if any.
    key: str | None = None
    #: The longest random sleep in front of the call, in seconds.
    sleep: float = 0.0
    #: Why the options are invalid, or None.
    problem: str | None = None
    #: Whether the command leaves background processes, which run without the lock.
    backgrounds: bool = False


def find(text: str, programs: frozenset[str], depth: int = 0) -> list[Call]:
    """Return the calls in the shell command `text`; `programs` are the names of cronlock."""
    found: list[Call] = []
    parts = commands(text)
    for index, part in enumerate(parts):
        calls = _of_command(part, programs, depth)
        for call in calls:
            call.outside += _outside(parts, index)
            call.sleep = max(call.sleep, *(per_host.random_sleep(part) or 0.0 for part in [Command(), *parts[:index]]))
        found += calls
    return found


def is_background(text: str) -> bool:
    """Return whether the shell command `text` leaves a background process (``&`` without ``wait``)."""
    parts = commands(text)
    if not any(part.after == "&" for part in parts):
        return False
    return not any(part.program == "wait" for part in parts)


def _of_command(part: Command, programs: frozenset[str], depth: int) -> list[Call]:
    found: list[Call] = []
    for word in part.words:
        for inner in word.inner:
            if depth < _DEEPEST:
                found += find(inner, programs, depth + 1)
    if part.program in _QUOTING:
        return found
    words = part.arguments
    values = [word.value for word in words]
    for position, value in enumerate(values):
        following = values[position + 1 : position + 2]
        if following == ["run"] and posixpath.basename(value) in programs:
            dynamic = [word.value for word in words[position + 2 :] if word.expands]
            call = _read(values[position + 2 :], dynamic)
            call.program = value
            return [*found, call]
        if value == "-c" and position and posixpath.basename(values[position - 1]) in POSIX_SHELLS:
            if following and depth < _DEEPEST:
                found += find(following[0], programs, depth + 1)
            return found
    return found


def _read(words: list[str], dynamic: list[str]) -> Call:
    try:
        read = arguments.read_run(words)
    except UsageError as error:
        return Call(problem=str(error))
    if read is None:
        return Call(problem="invalid options; see cronlock run --help")
    given, command = read
    expands = {name for name, value in given.items() if any(f"={word}".endswith(f"={value}") for word in dynamic)}
    call = Call({name: value for name, value in given.items() if name not in expands}, expands, command)
    key = given.get("key")
    call.key = key if isinstance(key, str) else None
    if len(call.command) >= 3 and posixpath.basename(call.command[0]) in POSIX_SHELLS and call.command[1] == "-c":
        call.backgrounds = is_background(call.command[2])
    return call


def _outside(parts: list[Command], index: int) -> list[str]:
    """Return remarks on what every machine does beside the call in `parts[index]`."""
    others = [part for other, part in enumerate(parts) if other != index and not _is_harmless(part)]
    outside = [f"`{part.text[:60]}` runs outside the lock" for part in others]
    for part in parts:
        # The shell empties a file before it starts anything.
        outside += [
            f"`{operator} {target}` empties the file on each skip"
            for operator, target in part.redirections
            if operator in (">", ">|", "&>") and not target.startswith("/dev/")
        ]
    return outside


def _is_harmless(part: Command) -> bool:
    if part.before == "||" and part.program == "exit":
        return True
    # The right side of a pipe runs with empty input on each machine that skips.
    if part.before in ("|", "|&"):
        return False
    return not part.arguments or part.program in _HARMLESS or per_host.random_sleep(part) is not None
