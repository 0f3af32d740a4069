"""What the tests of AWS's services share: nodes, clocks that are wrong, and the way to the emulators."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.registry import open_backend
from cronlock.engines.wire.dated import SLACK, DatedStore
from cronlock.lease.clock import SystemClock
from cronlock.lease.leases import Leases
from labs.servers.aws import ENVIRON, AwsServer, MotoServer

from ..faults import PATIENT, FaultHooks

if TYPE_CHECKING:
    from cronlock.engines.wire.dated import DatedCell
    from cronlock.lease.store import Cell, Hold


class WrongClock(SystemClock):
    """A wall clock that is so many seconds ahead of the true one; boot time goes on as it does, or lost some."""

    __slots__ = ("ahead", "losing", "lost")

    def __init__(self, ahead: float = 0.0) -> None:
        super().__init__()
        self.ahead = ahead
        #: Seconds that boot time stood still, and those that it stands still each time that it is looked at.
        self.lost = self.losing = 0.0

    def now(self) -> float:
        """Seconds since boot, but for those that were lost."""
        self.lost += self.losing
        return super().now() - self.lost

    def wall(self) -> float:
        """Seconds since the epoch, wrongly."""
        return time.time() + self.ahead


def open_dated(url: str, timeout: float = PATIENT, *, clock: WrongClock | None = None) -> DatedStore:
    """Return a node's store, by a clock of its own if need be."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, Leases)
    assert isinstance(backend.store, DatedStore)
    if clock is not None:
        backend.store.service.use_clock(clock)
    return backend.store


def a_node(url: str, timeout: float = PATIENT, *, ahead: float = 0.0) -> Leases:
    """Return a node whose clock is `ahead` of the true time."""
    return Leases(open_dated(url, timeout, clock=WrongClock(ahead) if ahead else None))


def with_params(url: str, params: str) -> str:
    """Return the URL with more parameters."""
    return f"{url}{'&' if '?' in url else '?'}{params}"


class DatedHooks(FaultHooks):
    """Time passes by itself: what was seen before has ends in it, too."""

    def __init__(self, server: AwsServer | None, url: str) -> None:
        super().__init__(server)
        self.url = url
        self.keeps_connections = not isinstance(server, MotoServer)

    def open_store(self) -> DatedStore:
        """Return one more node's store."""
        return open_dated(self.url)

    def pass_time(self, seconds: float) -> None:
        """Wait also for the slack, and as no node knows AWS's time to the second."""
        super().pass_time(seconds + SLACK + 2.2)

    def lapse(self, key: str) -> None:
        """Wait until every node knows that the lease is over."""
        super().lapse(key)
        time.sleep(1.2)

    def end_hold(self, key: str) -> None:
        """Wait until every node knows that the hold is over."""
        super().end_hold(key)
        time.sleep(1.2)


def read(store: DatedStore, key: str) -> DatedCell:
    """Return the cell as it is now."""
    return store.read(key, time.monotonic() + store.timeout)


def swap(
    store: DatedStore, key: str, seen: Cell, data: bytes, *, lease: float | None = None, hold: Hold = 0.0
) -> tuple[bool, DatedCell]:
    """Swap within the store's time limit."""
    return store.swap(key, seen, data, lease=lease, hold=hold, deadline=time.monotonic() + store.timeout)


def use_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give clients the emulators' credentials, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
