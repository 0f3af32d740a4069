"""``cronlock status --watch``: refresh the table."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from ..errors import BackendError
from ..lease.describe import moment
from . import common
from .views import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ..lease.vocabulary import Record

    Records = list[tuple[str, Record]]

#: Seconds between two refreshes.
_PERIOD = 2.0


def repeat(read: Callable[[], tuple[Records, BackendError | None]], name: str) -> NoReturn:
    """Show the records from `read` until Ctrl-C; while the backend `name` does not answer, show the last ones."""
    terminal = sys.stdout.isatty()
    if terminal:
        click.clear()
    records: Records = []
    read_at: float | None = None
    while True:
        try:
            records, failure = read()
            read_at = time.time()
        except BackendError as error:
            failure = error
        size = shutil.get_terminal_size()
        lines = screen(records, failure, name, time.time(), read_at, size if terminal else None)
        if terminal:
            # Overwrite and clear to the end of each line and of the screen, which does not flicker.
            text = "\n".join(line if common.colored() is None else click.unstyle(line) for line in lines)
            sys.stdout.write("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[K\x1b[J")
        else:
            click.echo("\n".join([*lines, ""]), color=common.colored())
        sys.stdout.flush()
        time.sleep(_PERIOD)


def screen(
    records: Records,
    failure: BackendError | None,
    name: str,
    now: float,
    read_at: float | None,
    size: tuple[int, int] | None,
) -> list[str]:
    """Return the lines for `records`, read at `read_at`, cut to a terminal of `size` (columns, lines)."""
    width = None if size is None else size[0]
    counts = table.counted(records)
    when = "no answer yet" if read_at is None else f"{moment(read_at, now)}  {counts}"
    trouble = "" if failure is None else click.style(f"cronlock: {failure}", fg="red")
    head = [table.cut(f"{name}  {when}", width), table.cut(trouble, width)]
    shown, *rows = table.status_table(records, now, width) if records else [""]
    foot = [table.cut(line, width) for line in table.warnings(records, now)]
    if size is not None:
        room = max(1, size[1] - len(head) - 2)
        foot = foot[: max(0, room - len(rows))]
        if len(rows) > room:
            rows = [*rows[: room - 1], f"and {len(rows) - room + 1} more"]
    return [*head, shown, *rows, *foot]
