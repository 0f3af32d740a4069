"""Shared by the commands that access the backend: their options, how they open it, choose keys and read records."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from .. import durations, keys
from ..config import settings
from ..config.options import OPTIONS
from ..config.settings import Settings
from ..engines import registry
from ..engines.url import URL
from ..errors import BackendError, ForeignValue, UsageError, nearest
from ..lease.vocabulary import Record

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

_F = TypeVar("_F", bound=Callable[..., Any])

#: By their Python names.
SHARED = ("backend", "backend_timeout", "state_dir", "config")


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of files."""
    return [CompletionItem(incomplete, type="file")]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of directories."""
    return [CompletionItem(incomplete, type="dir")]


#: Completers of option values, by the options' Python names.
COMPLETERS = {"config": files, "state_dir": directories}


def backend_options(function: _F) -> _F:
    """Add the options in SHARED to a command."""
    for option in reversed(OPTIONS):
        if option.name in SHARED:
            completer = COMPLETERS.get(option.name)
            function = click.option(
                option.long, metavar=option.metavar, help=option.full_help, shell_complete=completer
            )(function)
    return function


def read_settings(values: dict[str, str | None]) -> Settings:
    """Return the settings for the options `values`. Raises ConfigError or UsageError."""
    given: dict[str, str | bool] = {name: value for name, value in values.items() if value is not None}
    return settings.load_readonly(given, os.environ)


@contextlib.contextmanager
def opened(chosen: Settings) -> Iterator[Backend]:
    """Open the configured backend, and close it at the end. Raises ConfigError for a bad URL."""
    backend = registry.open_configured(chosen)
    try:
        yield backend
    finally:
        backend.close()


def name_of(chosen: Settings) -> str:
    """Return the backend's URL without its credentials."""
    return str(URL(chosen.backend_url))


def duration(option: str, text: str) -> float:
    """Return the duration `text` in seconds. Raises UsageError, which names `option`."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def check_keys(names: tuple[str, ...]) -> list[str]:
    """Return the keys without duplicates, in the given order. Raises UsageError for an invalid one."""
    return list(dict.fromkeys(keys.check(name) for name in names))


def need_records(backend: Backend, command: str) -> None:
    """Raise UsageError if the backend keeps no records, which `command` shows or changes."""
    if not backend.traits.records:
        raise UsageError(f"{command}: not supported by this backend, which keeps no records; see cronlock-backends(7)")


def keys_to_show(backend: Backend, names: tuple[str, ...], command: str) -> list[str]:
    """Return the keys `names`, with patterns expanded; all keys of the backend if `names` is empty.

    Raises UsageError for a pattern without a match, and if the backend cannot list keys.
    """
    named = [name for name in names if not is_pattern(name)]
    found = check_keys(tuple(named))
    if names and len(named) == len(names):
        return found
    if not backend.traits.lists_keys:
        raise UsageError(f"{command}: this backend cannot list keys; name them: cronlock {command} KEY...")
    known = sorted(backend.keys())
    for pattern in names:
        if is_pattern(pattern):
            matched = matching(pattern, known)
            if not matched:
                raise UsageError(f"{pattern!r}: no key matches; see cronlock status")
            found += matched
    return list(dict.fromkeys(found)) if names else known


def no_such_key(name: str, known: Iterable[str]) -> str:
    """Return the words for a key `name` that is not `known`: it is probably a typo."""
    likely = nearest(name, known)
    return "no such key; " + ("see cronlock status" if likely is None else f"did you mean {likely!r}?")


def warn_of_typo(backend: Backend, key: str, record: Record | None) -> None:
    """Say on standard error that `key`, for which there was nothing to do, is unknown, unless it has a record."""
    if record is None:
        said = no_such_key(key, backend.keys()) if backend.traits.lists_keys else "no such key"
        click.echo(f"cronlock: {key!r}: {said}", err=True)


def matching(pattern: str, known: list[str]) -> list[str]:
    """Return the keys that match a pattern (`fnmatch`) or equal it."""
    return [key for key in known if key == pattern or fnmatch.fnmatchcase(key, pattern)]


def read_records(backend: Backend, names: list[str]) -> tuple[list[tuple[str, Record]], BackendError | None]:
    """Return the records of the keys, and the first error of one whose record is not cronlock's; the rest is read."""
    records, failure = [], None
    for key in names:
        try:
            records.append((key, backend.read(key) or Record()))
        except ForeignValue as error:
            failure = failure or error
    return records, failure


def confirmed(question: str, *words: str) -> bool:
    """Ask for confirmation. Raises UsageError without a terminal, which names the command of `words` with --force."""
    if not sys.stdin.isatty():
        forced = shlex.join(("cronlock", words[0], "--force", *words[1:]))
        raise UsageError(f"not a terminal, cannot ask for confirmation; to skip it: {forced}")
    answers = {"y": True, "yes": True, "n": False, "no": False, "": False}
    while True:
        click.echo(f"{question} [y/N]: ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            click.echo(err=True)
            return False
        answer = answers.get(line.strip().lower())
        if answer is not None:
            return answer
        click.echo("cronlock: confirmation: answer y or n", err=True)


def is_pattern(name: str) -> bool:
    """Return whether `name` is a shell pattern."""
    return any(letter in name for letter in "*?[")


def table_width() -> int | None:
    """Return the width of the terminal; None if standard output is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def matching_keys(backend: Backend, names: tuple[str, ...], command: str, *, all_keys: bool) -> list[str]:
    """Return the keys that `command` changes: `names` with patterns expanded, or all. Raises UsageError."""
    if all_keys == bool(names):
        raise UsageError(f"{command}: give either keys or --all")
    return keys_to_show(backend, names, command)


def asker() -> tuple[str, str]:
    """Return the user (under sudo(8), the one who called it) and the host."""
    try:
        user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return user, os.uname().nodename


def replace_file(path: str, text: str) -> None:
    """Replace the file `path` atomically. Raises UsageError."""
    # The node exporter reads *.prom, so this name must not end so.
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except OSError as error:
        try:
            os.unlink(partial)
        except OSError:
            pass  # It was not created.
        raise UsageError(f"--output: cannot write {path}: {error.strerror}; name a writable file") from None


def colored() -> bool | None:
    """Return click's `color`: False with NO_COLOR (https://no-color.org), else None, which asks the terminal."""

    return False if os.environ.get("NO_COLOR") else None
