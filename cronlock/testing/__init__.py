"""What a backend must keep, as tests: for cronlock's own backends, and for those of others.

Needs pytest and hypothesis (``pip install 'cronlock[testing]'``); nothing of it is imported by a run.
How a backend is written and earns these tests stands in ``docs/writing-a-backend.md``.
"""

from __future__ import annotations

import pytest

# Before they are imported: it is what makes their assertions say what they compared.
pytest.register_assert_rewrite(
    *(f"cronlock.testing.{name}" for name in ("backend_contract", "contract", "history", "hooks", "leases", "machine"))
)

from .backend_contract import BackendContract
from .contract import StoreContract
from .hooks import LONG, NASTY_KEYS, Hooks, StoreHooks, fresh_key, granted, make_claim, make_ending, refused
from .leases import LeaseContract
from .machine import run_machine
from .waiting import eventually

__all__ = [
    "LONG",
    "NASTY_KEYS",
    "BackendContract",
    "Hooks",
    "LeaseContract",
    "StoreContract",
    "StoreHooks",
    "eventually",
    "fresh_key",
    "granted",
    "make_claim",
    "make_ending",
    "refused",
    "run_machine",
]
