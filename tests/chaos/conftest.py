"""Where there can be no machines on a switch, what needs them is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import check
from chaos.made import Made
from labs.machines import Fleet


@pytest.fixture
def machines(tmp_path: Path) -> None:
    """Skip the test, saying why, where there can be none."""
    Fleet(tmp_path / "probe")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/net/tun, which a container may lack or keep to root")


@pytest.fixture
def made() -> Iterator[Made]:
    """Give a history with nothing in it, and see that the verdict can be told."""
    history = Made()
    yield history
    verdict = history.verdict()
    told = json.loads(json.dumps(check.summary(verdict)))
    assert told["good"] == verdict.is_good()
    assert len(told["violations"]) == len(verdict.violations())
    for finding in verdict.violations():
        assert finding.text in check.show(verdict)
