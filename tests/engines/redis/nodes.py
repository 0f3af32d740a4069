"""Helpers of the tests on Redis: nodes on a server, direct access to it, and refusals."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cronlock.engines.redis.store import RedisStore
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.testing import StoreHooks, fresh_key, make_claim

from ..hooks import FaultHooks, node_at
from ..hooks import full_cycle as go_through

PASSWORD = "Pass:w/rd%1"


opened = node_at


class RedisHooks(StoreHooks):
    """Any Redis: half a second is long enough for its clock."""

    short_ttl = short_hold = 0.5

    def __init__(self, url: str) -> None:
        self._url = url

    def open_store(self) -> RedisStore:
        """Return one more node's store."""
        return store_of(self._url)


class PlainHooks(FaultHooks):
    """One plain server."""

    short_ttl = short_hold = 0.5

    def kept(self, key: str) -> Any:
        """Return the hash, and whether it lapses."""
        with self.server.client() as client:
            return client.hgetall(f"cronlock:{key}"), client.ttl(f"cronlock:{key}") > 0


def store_of(url: str, timeout: float = 20.0) -> RedisStore:
    """Return the store of `url`."""
    store = opened(url, timeout).store
    assert isinstance(store, RedisStore)
    return store


def full_cycle(backend: Leases) -> None:
    """Go once through everything that a lease is for."""
    go_through(backend, fresh_key())
    backend.close()


def soon(seconds: float = 20.0) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def unavailable(backend: Leases) -> str:
    """Return why an acquire fails, in one line without any password."""
    with pytest.raises(BackendUnavailable) as caught:
        backend.acquire(make_claim(fresh_key()))
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert "Pass" not in text
    return text


def is_up(backend: Leases) -> bool:
    """Return True if a key is granted."""
    try:
        backend.acquire(make_claim(fresh_key()))
    except BackendUnavailable:
        return False
    return True
