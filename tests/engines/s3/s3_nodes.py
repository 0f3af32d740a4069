"""Helpers of the tests on S3: a bucket, and direct access to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from cronlock.engines.s3.objects import Objects
from cronlock.engines.s3.store import S3Store, object_name
from cronlock.engines.wire.dated import DatedStore

from ..hooks import PATIENT
from ..wire.aws_nodes import DatedHooks, open_dated, use_examples
from ..wire.aws_suite import Suite


def a_store(url: str, timeout: float = PATIENT) -> S3Store:
    """Return a node's store."""
    store = open_dated(url, timeout)
    assert isinstance(store, S3Store)
    return store


@contextmanager
def bucket(url: str) -> Iterator[Objects]:
    """Give the objects of a URL."""
    store = a_store(url)
    try:
        yield store.objects
    finally:
        store.close()


def content(url: str, key: str) -> bytes | None:
    """Return the content of a key's object, or None."""
    with bucket(url) as objects:
        found = objects.get(object_name(key), time.monotonic() + PATIENT)
        return found[0] if found else None


def overwrite(url: str, key: str, data: bytes) -> None:
    """Write a key's object, whatever is there."""
    with bucket(url) as objects:
        name, deadline = object_name(key), time.monotonic() + PATIENT
        found = objects.get(name, deadline)
        assert objects.put(name, data, found[1] if found else None, deadline) is not None


class S3Hooks(DatedHooks):
    """One bucket."""

    first = 1

    def url_at(self, port: int = 0) -> str:
        """Return the bucket's URL, by `port` if that is not 0."""
        return str(self.server.bucket_url(port=port or self.server.port))

    def put(self, key: str, value: bytes) -> None:
        """Write the key's object."""
        overwrite(self.url, key, value)

    def kept(self, key: str) -> object:
        """Return the key's object."""
        return content(self.url, key)


class S3Suite(Suite):
    """A bucket."""

    service: ClassVar[str] = "s3"
    what: ClassVar[str] = "bucket"
    writing: ClassVar[str] = "PutObject"
    listing: ClassVar[str] = "ListBucket"
    needed: ClassVar[frozenset[str]] = frozenset({"GetObject", "PutObject"})
    variable: ClassVar[str] = "CRONLOCK_TEST_S3"
    hooks: ClassVar[type[DatedHooks]] = S3Hooks

    @classmethod
    def make(cls, url: str) -> None:
        """Make the bucket, and try its conditions."""
        super().make(url)
        with pytest.MonkeyPatch.context() as patch:
            use_examples(patch)
            with bucket(url) as objects:
                objects.trust(objects.deadline())

    @classmethod
    def prefixed(cls, url: str, name: str) -> str:
        """Return the URL of a prefix below the one that `url` names."""
        start, _, params = url.partition("?")
        return f"{start}{'' if start.count('/') > 2 else '/cronlock'}/{name}?{params}"

    @classmethod
    def delete(cls, store: DatedStore, key: str) -> None:
        """Delete the key's object."""
        assert isinstance(store, S3Store)
        assert store.objects.delete(object_name(key), None, store.objects.deadline())
