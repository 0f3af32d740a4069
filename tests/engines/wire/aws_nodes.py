"""Helpers of the tests on AWS's services: nodes, wrong clocks, and proxies before the emulators."""

from __future__ import annotations

import math
import os
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from cronlock.engines.registry import open_backend
from cronlock.engines.wire.aws_signature import parse_date
from cronlock.engines.wire.dated import SLACK, DatedStore
from cronlock.lease.clock import SystemClock
from cronlock.lease.leases import Leases
from labs.proxy import Proxy
from labs.servers.aws import ENVIRON, MotoServer

from ..hooks import PATIENT, FaultHooks

if TYPE_CHECKING:
    from labs.servers.aws import AwsServer


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


class Later(Proxy):
    """Lets the answers say a later time: what an emulator knows of time is in its answers' dates alone."""

    ahead = 0.0

    def _downward(self, connection: Any, data: bytes) -> None:
        super()._downward(connection, re.sub(rb"(?<=\r\nDate: )[^\r]+", self._moved, data, flags=re.IGNORECASE))

    def _moved(self, date: re.Match[bytes]) -> bytes:
        return formatdate((parse_date(date[0].decode()) or 0.0) + self.ahead, usegmt=True).encode()


class DatedHooks(FaultHooks):
    """Time passes by moving the clocks of nodes and answers where these come by way of `later`, else by itself."""

    def __init__(self, server: AwsServer | None, url: str, later: Later | None = None) -> None:
        super().__init__(server)
        #: Of the place, for looks behind the nodes' backs too.
        self.url = url
        self.keeps_connections = not isinstance(server, MotoServer)
        self._later, self._clock = later, WrongClock()

    def open_store(self) -> DatedStore:
        """Return one more node's store."""
        if self._later is None:
            return open_dated(self.url)
        return open_dated(self.url_at(self._later.port), clock=self._clock)

    def pass_time(self, seconds: float) -> None:
        """Let the slack pass as well, and so much that every node knows it: none knows AWS's time to the second."""
        seconds = math.ceil(seconds + SLACK + 3.4)  # In whole seconds, as dates are.
        if self._later is None:
            time.sleep(seconds)
        else:
            self._later.ahead += seconds
            self._clock.ahead += seconds
            self._clock.lost -= seconds

    def lapse(self, key: str) -> None:
        """Let a short lease be over."""
        self.pass_time(self.short_ttl)

    def end_hold(self, key: str) -> None:
        """Let a short hold be over."""
        self.pass_time(self.short_hold)


def use_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give clients the emulators' credentials, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
