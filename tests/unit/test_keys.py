"""Keys: what is allowed, and names that never meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock import keys
from cronlock.errors import UsageError

KEYS = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=keys.LONGEST)


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "a\0b", "\x7f", "a\x85b", "a\u2028b", "\udcff"])
def test_refused(key: str) -> None:
    """Empty, over-long, with control characters, or no text at all."""
    with pytest.raises(UsageError, match="--key"):
        keys.check(key)


@given(KEYS)
def test_allowed_keys_come_back_and_fit(key: str) -> None:
    """Everything else is a key, and its name can be undone or is bounded."""
    assert keys.check(key) == key
    name = keys.escape(key)
    assert keys.unescape(name) == key
    assert name.isascii()
    assert not name.startswith(".")
    assert "/" not in name
    bounded = keys.bounded(key, 200)
    assert len(bounded) <= 200
    assert bounded == name or "~" in bounded


@pytest.mark.parametrize(("one", "other"), [("a/b", "a%2Fb"), ("é" * 200, "é" * 199 + "e"), ("A", "a"), (".", "..")])
def test_look_alikes_stay_apart(one: str, other: str) -> None:
    """Keys that a careless mapping would confuse have different names."""
    assert keys.bounded(one, 80) != keys.bounded(other, 80)


@pytest.mark.parametrize("name", ["%", "%4", "%zz", "a%", "%FF"])
def test_what_escape_cannot_have_made_is_refused(name: str) -> None:
    """A bad escape is an error, not a guess."""
    with pytest.raises(ValueError, match=r".*"):
        keys.unescape(name)
