"""Hashes by the interpreter's own modules, and by `hashlib`, which stands in for them."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.engines.wire import hashes


def _compare(key: bytes, text: bytes) -> None:
    assert hashes.sha1(text).digest() == hashlib.sha1(text).digest()
    assert hashes.sha256(text).hexdigest() == hashlib.sha256(text).hexdigest()
    assert hashes.hmac_sha256(key, text) == hmac.digest(key, text, "sha256")


@given(key=st.binary(max_size=150), text=st.binary(max_size=150))
def test_the_same_as_hashlibs(key: bytes, text: bytes) -> None:
    """They give what `hashlib` and `hmac` give."""
    _compare(key, text)


def test_python_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter lacks them `hashlib` has them."""
    for name in ("_sha1", "_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, name, None)
    try:
        assert importlib.reload(hashes).sha1.__module__ == "_hashlib"
        _compare(b"k" * 65, b"text")
    finally:
        monkeypatch.undo()
        importlib.reload(hashes)
