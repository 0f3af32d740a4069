"""Where there can be no machines on a switch, what needs them is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.machines import Fleet


@pytest.fixture
def machines(tmp_path: Path) -> None:
    """Skip the test, saying why, where there can be none."""
    Fleet(tmp_path / "probe")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/net/tun, which a container may lack or keep to root")
