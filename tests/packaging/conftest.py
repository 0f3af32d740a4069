"""Build each package once for all tests, from a copy of the checkout.

Tests that install packages on clean systems take minutes: only `make package-test` collects them.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from labs.installation import ROOT

from .support import Build, fetch_wheels

if not os.environ.get("CRONLOCK_PACKAGE_ROOTS"):
    collect_ignore = ["test_roots.py", "test_roots_cron.py", "test_roots_machines.py", "test_dist.py"]


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Return a directory that all workers of the session share."""
    directory = factory.getbasetemp()
    return directory.parent if "PYTEST_XDIST_WORKER" in os.environ else directory


def _locked(directory: Path, build: Build, origin: Path) -> Build:
    with (directory / "lock").open("w") as lock:
        # The first worker copies the sources, the others find them.
        fcntl.flock(lock, fcntl.LOCK_EX)
        build.make_sources(origin)
    return build


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give a copy of the checkout, where each package is built on first use."""
    directory = _shared(tmp_path_factory) / "build"
    directory.mkdir(exist_ok=True)
    fetch_wheels()
    return _locked(directory, Build(directory), ROOT)


@pytest.fixture(scope="session")
def other_build(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give another copy: in another directory, with another umask, time zone, locale and hash seed."""
    habits = {"umask": "077", "TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "7"}
    directory = _shared(tmp_path_factory) / "another/directory/of/sources"
    directory.mkdir(parents=True, exist_ok=True)
    return _locked(directory, Build(directory, **habits), build.sources)
