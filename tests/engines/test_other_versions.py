"""The contract on servers of other versions; `make test-servers` has all of them."""

from __future__ import annotations

import pytest

from labs.versions import QUICK, Variant, run


@pytest.mark.parametrize("variant", QUICK, ids=lambda variant: variant.engine)
def test_contract(variant: Variant) -> None:
    """Every test of the engine passes on the server of that version."""
    version, passed, failed, _ = run(variant)
    assert failed == 0, f"{variant.engine} {version}"
    assert passed > 30
