"""One stage for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.machines import Fleet

from .stage import Stage


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give machines and a Redis, on which earlier tests may have left something."""
    with Fleet(tmp_path_factory.mktemp("stage") / "fleet") as fleet:
        yield Stage(fleet)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """Give machines as after the installation."""
    whole_stage.fresh()
    return whole_stage
