"""What the shells offer on Tab, besides the names of options and commands that click knows: keys, choices, programs."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from ..errors import CronlockError
from . import common
from .views.state import CONDITIONS

#: How long Tab may take for the backend, in seconds.
_PATIENCE = "1"


def keys(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the keys that begin so, where the backend can be asked and can list them; else none."""
    values = {name: context.params.get(name) or None for name in common.SHARED}
    try:
        with common.opened(common.read_settings({**values, "backend_timeout": _PATIENCE})) as backend:
            found = sorted(backend.keys()) if backend.traits.lists_keys else []
    except CronlockError:
        return []  # Tab is no place for messages.
    return [CompletionItem(key) for key in found if key.startswith(incomplete)]


def conditions(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the states that the last word of a list can become."""
    before, comma, begun = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{one}") for one in CONDITIONS if one.startswith(begun)]


def command(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return programs for the first word of a command, and files for those after it."""
    if context.params.get("command") or "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    found = set()
    for directory in os.get_exec_path():
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # PATH may name what is not there.
        found |= {name for name in names if name.startswith(incomplete)}
    return [CompletionItem(name) for name in sorted(found)]
