"""What tests of all engines share: a key, and the cases that a class names for the tests that it inherits."""

from __future__ import annotations

import pytest

from cronlock.testing import fresh_key


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run an inherited test once for each of the class's cases: `foreign`, `bad_url`, `nonsense`."""
    for name in ("foreign", "bad_url", "nonsense"):
        if metafunc.cls is not None and name in metafunc.fixturenames:
            metafunc.parametrize(name, getattr(metafunc.cls, name), ids=lambda case: repr(case)[:60])
