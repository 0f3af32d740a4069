"""Fixtures of leases on the simulated store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
