"""The commands of a line without their launchers, and which of them is its main job."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import launchers
from .launchers import Launcher
from .shell import Command, Word, commands, word_set

# Levels of `sh -c 'flock f sh -c "..."'`.
_DEEPEST = 8
#: They prepare the job or report on it.
_ASIDES = word_set(
    """
    ! . : [ [[ ]] break case cd command continue date declare done echo esac exit export false fi for function getopts
    hash hostname if in local popd printf pushd pwd read readonly return select set shift shopt sleep source test trap
    true type typeset ulimit umask unset usleep wait which
    """
)
#: Likewise, unless the line has nothing else.
_LESSER = word_set(
    """
    cat chgrp chmod chown cp cut dotlockfile flock gzip head install kill ln lockfile lockfile-check lockfile-create
    lockfile-remove lockfile-touch logger lckdo mail mailx mkdir mktemp mutt mv pgrep pidof pkill ps rm rmdir s-nail
    sed sendmail service shlock sort sync systemctl tail tee touch tr ts uniq xargs xz zstd bzip2 grep egrep awk
    """
)
#: Sources of a pipe whose main command comes later.
_SOURCES = word_set("cat date echo false grep head printf seq sleep tail true yes")
_RANDOM = re.compile(r"RANDOM|rand|shuf|\$\$|\bod\b|\bjot\b|cksum|md5sum|urandom|%N")
_SLEEPING = re.compile(r"\bsleep\b")
_PING = re.compile(
    r"https?://[^/]*(?:healthchecks?|hc-ping|cronitor|snitch|nosnch|betteruptime|betterstack|uptimerobot|cronhub"
    r"|pushgateway|kuma)|/(?:ping|heartbeat|push|hc)/|/metrics/job/"
)


@dataclass
class Invocation:
    """One command of a line, without its launchers."""

    words: list[Word]
    #: Outermost first.
    launchers: list[Launcher]
    #: Its variables, such as ``FOO=bar``.
    assignments: list[Word]
    #: (operator, target) such as (">", "/dev/null").
    redirections: list[tuple[str, str]]
    #: The operator in front of it.
    before: str
    #: The target of the last ``cd`` before it.
    directory: str = ""
    after: str = ""

    @property
    def program(self) -> str:
        """Return the program's name without directories; empty if the shell expands it."""
        name = launchers.program_of(self.words[0]) if self.words else ""
        return "" if "$" in name or "`" in name else name

    @property
    def values(self) -> list[str]:
        """Return the words after the program."""
        return [word.value for word in self.words[1:]]

    @property
    def sleeps_randomly(self) -> bool:
        """Return whether it sleeps for a random time."""
        return _SLEEPING.search(self.text) is not None and has_random(self.text)

    @property
    def text(self) -> str:
        """Return its words as written, the program without directories."""
        return " ".join([self.program, *(word.text for word in self.words[1:])])

    @property
    def is_punctuation(self) -> bool:
        """Return whether it is a ``:``, or no command at all."""
        return not self.words or not re.search(r"[0-9A-Za-z$`]", self.words[0].value)

    @property
    def rank(self) -> int:
        """Return 2 for a job, 1 for a job if there is no better one, 0 for preparation or report, -1 for nothing."""
        program = self.program
        context = self.launchers[-1] if self.launchers and not self.words else None
        if not program:
            return 2 if self.words or (context is not None and context.names_context) else -1
        if self.sleeps_randomly or self.pings or program in _ASIDES:
            return 0
        return 1 if program in _LESSER else 2

    @property
    def is_job(self) -> bool:
        """Return whether it can be the main job of a line."""
        return self.rank == 2

    @property
    def pings(self) -> bool:
        """Return whether it reports the job to a monitor."""
        return self.program in ("curl", "wget") and any(_PING.search(value) for value in self.values)


@dataclass
class Reading:
    """The commands of a line."""

    invocations: list[Invocation]
    #: The main job of the line, or None.
    main: Invocation | None = None
    #: All launchers in the line, in order.
    launchers: list[Launcher] = field(default_factory=list)


def has_random(text: str) -> bool:
    """Return whether `text` contains a random number."""
    return _RANDOM.search(text) is not None


@functools.lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """Return the commands in the shell command `text`."""
    return _reading(list(_read(text, [], "", "", 0)))


@functools.lru_cache(maxsize=4096)
def read_words(values: tuple[str, ...]) -> Reading:
    """Return the commands in a command of these words, which no shell reads."""
    words = [Word(value, value) for value in values]
    return _reading(list(_launched(Command(words=words), words, [], "", "", 0)))


def _reading(invocations: list[Invocation]) -> Reading:
    seen: list[Launcher] = []
    for invocation in invocations:
        seen += [launcher for launcher in invocation.launchers if not any(launcher is each for each in seen)]
    return Reading(invocations, _main(invocations), seen)


def _read(text: str, outer: list[Launcher], before: str, directory: str, depth: int) -> Iterator[Invocation]:
    for index, part in enumerate(commands(text)):
        words = part.arguments
        first = before if index == 0 and part.before == "" else part.before
        for invocation in _launched(part, words, outer, first, directory, depth):
            yield invocation
            if invocation.program in ("cd", "pushd") and invocation.values:
                directory = posixpath.join(directory, invocation.values[-1])


def _launched(
    part: Command, words: list[Word], outer: list[Launcher], before: str, directory: str, depth: int
) -> Iterator[Invocation]:
    """Yield the invocations of a command: those of its script for a shell, or the one that it launches."""
    inside = list(outer)
    assignments = part.words[: len(part.words) - len(part.arguments)] if part.arguments else list(part.words)
    redirections = list(part.redirections)
    while words:
        launcher = launchers.read(words)
        if launcher is None:
            break
        inside.append(launcher)
        assignments += launcher.assignments
        if launcher.script is not None and depth < _DEEPEST:
            # An invocation without words keeps the assignments and redirections around the script.
            if assignments or redirections:
                yield Invocation([], [], assignments, redirections, before, directory)
            yield from _read(launcher.script, inside, before, directory, depth + 1)
            return
        words = launcher.command
    yield Invocation(words, inside, assignments, redirections, before, directory, part.after)


def _main(invocations: list[Invocation]) -> Invocation | None:
    """Return the last job that is not a filter, or the best of the others."""
    best: dict[int, Invocation] = {}
    last_rank = 0
    for invocation in invocations:
        rank = invocation.rank
        if invocation.before in ("|", "|&"):
            # A filter, unless its input is only a text.
            rank = rank if last_rank < 0 else min(rank, 1)
        elif invocation.before == "||" and rank == 2 and 2 in best:
            break  # It handles a failure of the job.
        # A shell function, a pattern of case, or a source of text is less likely the job than what follows.
        last_rank = -1 if invocation.program in _SOURCES and invocation.before not in ("|", "|&") else rank
        if rank > 0 or (rank == 0 and rank not in best):
            best[rank] = invocation
    return best.get(2) or best.get(1) or best.get(0)
