"""Keys made from what a line runs: readable, the same on every machine, one for each line."""

from __future__ import annotations

import hashlib
import posixpath
import re

from .lines import Job
from .shell import POSIX_SHELLS, Word, commands, word_set

_LONGEST = 40
_DIGITS = 6
# What goes before the program that a line is about.
_PREPARATIONS = word_set(
    ". : [ [[ cd echo exit export false hash printf pwd read return set sleep source test true ulimit umask unset"
)
_CARRIERS = POSIX_SHELLS | word_set(
    "chronic command env exec ionice nice nohup perl php python python3 ruby setsid stdbuf sudo time timeout"
)
_NUMBER = re.compile(r"[0-9.]+[smhd]?")
_SCRIPT_ENDINGS = re.compile(r"\.(sh|bash|py|pl|rb|php)$")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def derive(job: Job, prefix: str, taken: set[str]) -> str:
    """Return a key for `job` that is not in `taken`, of letters, digits, ``-`` and one ``.`` only."""
    name = _describe(job)
    key = _join(prefix, name)
    if key not in taken:
        return key
    # The line's own content tells it from others, so that neither order nor other lines matter.
    content = f"{job.schedule.text} {job.user or ''} {job.command.strip()}{job.stdin}"
    key = _join(prefix, f"{name}-{_digest(content)}")
    count = 1
    while key in taken:
        count += 1
        key = _join(prefix, f"{name}-{_digest(f'{content} {count}')}")
    return key


def slug(text: str) -> str:
    """Return `text` in small letters and digits, everything else as single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().encode("ascii", "replace").decode()).strip("-")


def _join(prefix: str, name: str) -> str:
    # A file named after its job; no key of another file has neither another prefix nor none.
    return name if prefix in ("", name) else f"{prefix}.{name}"


def _describe(job: Job) -> str:
    """Return the program and its arguments in a few words; what is cut off leaves a digest of the command."""
    command = job.text
    words = _main_words(command)
    parts = [_SCRIPT_ENDINGS.sub("", posixpath.basename(words[0].value))] if words else []
    for word in words[1:]:
        if not word.expands:
            parts.append(posixpath.basename(word.value) if word.value.startswith("/") else word.value)
    text = slug(" ".join(parts)) or "job"
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - _DIGITS - 1].rstrip('-')}-{_digest(command.strip())}"


def _main_words(command: str) -> list[Word]:
    """Return the words of the command that the line is about, without what carries it."""
    parts = [part for part in commands(command) if part.arguments]
    main = next((part for part in parts if part.program not in _PREPARATIONS), parts[0] if parts else None)
    if main is None:
        return []
    words = main.arguments
    for position, word in enumerate(words):
        is_argument = word.value.startswith("-") or _ASSIGNMENT.match(word.value) or _NUMBER.fullmatch(word.value)
        if posixpath.basename(word.value) not in _CARRIERS and not (position and is_argument):
            return words[position:]
    return words


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
