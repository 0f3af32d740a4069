"""The checks of ``cronlock doctor`` on the directory of the file backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...doctor.findings import NOTE, OK, Finding
from ...doctor.host import directory_modes, free_space
from .store import FileStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case


def reach(case: Case) -> Iterator[Finding]:
    """Say where the leases are; that they can be is for the probe."""
    directory = case.store(FileStore).directory
    if os.path.lexists(directory):
        yield Finding("directory", OK, directory)
    else:
        yield Finding("directory", NOTE, f"{directory} is not there yet; it is made when it is needed")


def examine(case: Case) -> Iterator[Finding]:
    """Look at modes and free space; that it is on no network was found when the backend was opened."""
    store = case.store(FileStore)
    yield Finding("file system", OK, "local")
    if os.path.isdir(store.directory):
        if store.directory not in store.made:
            yield directory_modes("modes", store.directory)
        yield from free_space("space", store.directory)
