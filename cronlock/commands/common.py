"""What the commands that ask the backend have in common: its options, and opening it."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from .. import durations, keys
from ..config import settings
from ..config.options import OPTIONS
from ..config.settings import Settings
from ..engines import registry
from ..engines.url import URL
from ..errors import BackendError, ForeignValue, UsageError
from ..lease.vocabulary import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

_F = TypeVar("_F", bound=Callable[..., Any])

#: By their Python names.
SHARED = ("backend", "backend_timeout", "state_dir", "config")


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell offer files on Tab."""
    return [CompletionItem(incomplete, type="file")]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell offer directories."""
    return [CompletionItem(incomplete, type="dir")]


#: What completes the values of shared options, by their Python names.
COMPLETERS = {"config": files, "state_dir": directories}


def backend_options(function: _F) -> _F:
    """Add the options that say which backend is asked; the command gets their values by name."""
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
    """Open the backend that is configured, and close it. Raises ConfigError for a bad URL."""
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
    """Return the keys, each once, in the order given. Raises UsageError for what can be none."""
    return list(dict.fromkeys(keys.check(name) for name in names))


def need_records(backend: Backend, command: str) -> None:
    """Raise UsageError where the backend keeps no records, which is what `command` would show or change."""
    if not backend.traits.records:
        why = "this backend does not know who has a key, nor how runs ended; see cronlock-backends(7)"
        raise UsageError(f"{command}: {why}")


def keys_to_show(backend: Backend, names: tuple[str, ...], command: str) -> list[str]:
    """Return the keys `names`, with those that the backend knows for a pattern; all of these if there are no names.

    Raises UsageError for a pattern that no key matches, and where the backend cannot list its keys.
    """
    named = [name for name in names if not is_pattern(name)]
    found = check_keys(tuple(named))
    if names and len(named) == len(names):
        return found
    if not backend.traits.lists_keys:
        raise UsageError(f"this backend cannot list its keys; name them: cronlock {command} KEY...")
    known = sorted(backend.keys())
    for pattern in names:
        if is_pattern(pattern):
            matching = [key for key in known if key == pattern or fnmatch.fnmatchcase(key, pattern)]
            if not matching:
                raise UsageError(f"no key matches {pattern!r}; see cronlock status")
            found += matching
    return list(dict.fromkeys(found)) if names else known


def read_records(backend: Backend, names: list[str]) -> tuple[list[tuple[str, Record]], BackendError | None]:
    """Return what is known of the keys, and what is wrong with one that has no record: the others are read anyway."""
    records, failure = [], None
    for key in names:
        try:
            records.append((key, backend.read(key) or Record()))
        except ForeignValue as error:
            failure = failure or error
    return records, failure


def confirmed(question: str, forced: str) -> bool:
    """Ask at the terminal. Raises UsageError, which names the command that does not ask, if nobody is there."""
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is there to be asked; if you are sure: {forced}")
    return click.confirm(question, err=True)


def is_pattern(name: str) -> bool:
    """Return whether `name` is a pattern as the shell has them, which stands for all keys that it matches."""
    return any(letter in name for letter in "*?[")


def table_width() -> int | None:
    """Return how many cells a line may take: the terminal's; None if the table goes anywhere else."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def matching_keys(backend: Backend, names: tuple[str, ...], command: str, *, all_keys: bool) -> list[str]:
    """Return the keys that `command` is to change: those named, those that match a pattern (`fnmatch`), or all.

    Raises UsageError for none, and where the backend cannot list its keys to match them.
    """
    if all_keys == bool(names):
        raise UsageError(f"{command}: name the keys, or give --all")
    return keys_to_show(backend, names, command)


def asker() -> tuple[str, str]:
    """Return who asks, behind sudo(8) the person, and on which host."""
    try:
        user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return user, os.uname().nodename


def replace_file(path: str, text: str) -> None:
    """Put `text` in the place of the file `path`, whole. Raises UsageError."""
    # The node exporter reads *.prom: this name is none.
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
            pass  # It was not made.
        raise UsageError(f"--output: cannot write {path}: {error.strerror}; name a file that you may write") from None


def colored() -> bool | None:
    """Return whether to color: None leaves it to whether a terminal reads; see https://no-color.org."""
    return False if os.environ.get("NO_COLOR") else None
