"""The contract of a store, as tests: for cronlock's own engines, and for those of others.

Needs pytest (the extra ``testing``); nothing of it is imported by a run.
How a store is written and earns these tests stands in ``docs/writing-a-backend.md``.
"""

from __future__ import annotations

import pytest

# Before they are imported: it is what makes their assertions say what they compared.
pytest.register_assert_rewrite(
    *(f"cronlock.testing.{name}" for name in ("backend_contract", "contract", "history", "hooks", "leases", "machine"))
)

from .contract import StoreContract
from .hooks import (
    LONG,
    NASTY_KEYS,
    Hooks,
    StoreHooks,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    record_of,
    refused,
    run_of,
)
from .leases import LeaseContract
from .waiting import eventually

__all__ = [
    "LONG",
    "NASTY_KEYS",
    "Hooks",
    "LeaseContract",
    "StoreContract",
    "StoreHooks",
    "eventually",
    "fresh_key",
    "granted",
    "make_claim",
    "make_ending",
    "record_of",
    "refused",
    "run_of",
]
