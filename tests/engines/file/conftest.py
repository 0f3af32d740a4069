"""Fixtures of the file engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronlock.lease.leases import Leases

from .support import node_on


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "locks"


@pytest.fixture
def node(directory: Path) -> Leases:
    """A node on it, which waits shortly."""
    return node_on(directory)
