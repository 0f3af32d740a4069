"""The machines on which the documents' commands run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.machines import Fleet

from .stage import Stage


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give machines and a Redis for all tests of a module."""
    with Fleet(tmp_path_factory.mktemp("stage") / "fleet") as fleet:
        yield Stage(fleet)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """Give the same machines, reset to the state after the installation."""
    whole_stage.fresh()
    return whole_stage
