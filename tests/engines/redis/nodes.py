"""What Redis's tests do with a server: open it as a node does, go once through everything, and be refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from cronlock.engines.redis.store import RedisStore
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, HOLD
from cronlock.testing import StoreHooks, fresh_key, granted, make_claim, make_ending, refused

PASSWORD = "Pass:w/rd%1"
Answer = TypeVar("Answer")


class RedisHooks(StoreHooks):
    """Any Redis: half a second is long enough for its clock."""

    short_ttl = short_hold = 0.5

    def __init__(self, url: str) -> None:
        self._url = url

    def open_store(self) -> RedisStore:
        """Return one more node's store."""
        return store_of(self._url)


def opened(url: str, timeout: float = 20.0) -> Leases:
    """Open `url`; the limit is generous, since the machine may be busy."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, Leases)
    return backend


def store_of(url: str, timeout: float = 20.0) -> RedisStore:
    """Return the store of `url`."""
    store = opened(url, timeout).store
    assert isinstance(store, RedisStore)
    return store


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


def patiently(step: Callable[[], Answer]) -> Answer:
    """Ask again while a busy machine makes a short time limit too short."""
    end = soon(30)
    while True:
        try:
            return step()
        except BackendUnavailable:
            if time.monotonic() > end:
                raise


def full_cycle(backend: Leases) -> None:
    """Go once through everything that a lease is for."""
    key = fresh_key()
    ours = make_claim(key, hold=20)
    grant = granted(backend.acquire(ours))
    refused(backend.acquire(make_claim(key)), HELD)
    assert backend.renew(grant)
    assert backend.release(grant, make_ending(), keep_hold=True)
    conflict = refused(backend.acquire(make_claim(key)), HOLD)
    assert conflict.run is not None
    assert conflict.run.owner == ours.owner
    assert backend.force_release(key, ours.owner)
    theirs = make_claim(key)
    assert (granted(backend.acquire(theirs)).fence or 0) > (grant.fence or 0)
    backend.abandon(theirs)
    record = backend.read(key)
    assert record is not None
    assert record.run is None
    assert record.last is not None
    assert record.last.owner == ours.owner
    assert key in list(backend.keys())
    backend.close()
