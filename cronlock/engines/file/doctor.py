"""What ``cronlock doctor`` looks at in the directory of the file backend."""

from __future__ import annotations

import os

from ...doctor.findings import NOTE, OK, Finding
from ...doctor.host import directory_modes, free_space
from ...keys import bounded
from .slots import SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case


def reach(case: Case) -> Iterator[Finding]:
    """Say where the leases are; that they can be is for the probe."""
    directory = _directory(case)
    if os.path.lexists(directory):
        yield Finding("directory", OK, directory)
        return
    above = directory
    while not os.path.lexists(above):
        case.missing.append(above)
        above = os.path.dirname(above)
    yield Finding("directory", NOTE, f"{directory} is not there yet; it is made when it is needed")


def examine(case: Case) -> Iterator[Finding]:
    """Look at modes and free space; that it is on no network was found when the backend was opened."""
    directory = _directory(case)
    yield Finding("file system", OK, "local")
    if os.path.isdir(directory):
        if directory not in case.missing:
            yield directory_modes("modes", directory)
        yield from free_space("space", directory)


def forget(case: Case) -> None:
    """Remove the probe's file, and the directories that it made unless somebody uses them by now."""
    directory = _directory(case)
    path = os.path.join(directory, bounded(case.key, 200) + SUFFIX)
    try:
        if os.path.exists(path):
            os.unlink(path)
        for path in case.missing:
            os.rmdir(path)
    except OSError:
        pass  # Others are at it, or it cannot be written, which the probe has found.


def _directory(case: Case) -> str:
    return os.path.normpath("/" + case.url.path.lstrip("/"))
