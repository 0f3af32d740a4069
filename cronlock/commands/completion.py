"""Shell completion of keys, states and commands; click completes the names of options and commands."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from ..errors import CronlockError
from . import common
from .views.state import CONDITIONS

#: --backend-timeout of a completion.
_TIMEOUT = "1"


def keys(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete keys; none if the backend does not answer or cannot list keys."""
    values = {name: context.params.get(name) or None for name in common.SHARED}
    try:
        with common.opened(common.read_settings({**values, "backend_timeout": _TIMEOUT})) as backend:
            found = sorted(backend.keys()) if backend.traits.lists_keys else []
    except CronlockError:
        return []  # A message would garble the prompt.
    return [CompletionItem(key) for key in found if key.startswith(incomplete)]


def conditions(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last state of a list."""
    before, comma, begun = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{one}") for one in CONDITIONS if one.startswith(begun)]


def command(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete programs for the first word of a command, and files for the others."""
    if context.params.get("command") or "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    found = set()
    for directory in os.get_exec_path():
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # PATH may name missing directories.
        found |= {name for name in names if name.startswith(incomplete)}
    return [CompletionItem(name) for name in sorted(found)]
