"""What pytest must know before it loads the tests."""

from __future__ import annotations

import pytest

# Their assertions are explained like those of the tests themselves.
pytest.register_assert_rewrite("tests.contract", "tests.hooks", "tests.machine")
