"""Fixtures: leases on the simulated store, and real guards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cronlock.process import linux

from .guards import Guards
from .leases_bench import Bench

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


@pytest.fixture
def bench() -> Bench:
    """A server of its own."""
    return Bench()


@pytest.fixture
def a(bench: Bench) -> Backend:
    """One node."""
    return bench.a


@pytest.fixture
def b(bench: Bench) -> Backend:
    """Another node."""
    return bench.b


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Guards]:
    """Give a starter of guards, of which nothing is left behind."""
    started = Guards(tmp_path)
    linux.become_subreaper()
    yield started
    started.close()
    linux.can_adopt()  # It ends that.
