"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def eventually(condition: Callable[[], object], what: str, limit: float = 60.0, pause: float = 0.02) -> None:
    """Wait until `condition` is true; fail, saying `what` never came, after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"within {limit:g} s not: {what}")
        time.sleep(pause)
