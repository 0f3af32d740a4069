"""How the tests on etcd reach a server: by leases, by their store, through a proxy, and behind their back."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cronlock.engines.etcd.cell import EtcdCell
from cronlock.engines.etcd.store import EtcdStore, open_store
from cronlock.engines.registry import open_backend
from cronlock.engines.url import URL
from cronlock.keys import escape
from cronlock.lease.leases import Leases
from cronlock.lease.state import MAGIC
from cronlock.lease.store import Cell
from cronlock.testing import StoreHooks
from labs.proxy import Proxy
from labs.servers.etcd import EtcdServer

PATIENT = 20.0


@contextmanager
def opened(url: str, timeout: float = PATIENT) -> Iterator[Leases]:
    """Open leases on a store, and close them."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, Leases)
    try:
        yield backend
    finally:
        backend.close()


class Cells:
    """One key of the store under some leases, read and swapped with time limits that suffice."""

    def __init__(self, node: Leases, key: str) -> None:
        assert isinstance(node.store, EtcdStore)
        self.store = node.store
        self.key = key

    def read(self, *, exact: bool = False) -> EtcdCell:
        """Return the cell."""
        return self.store.read(self.key, time.monotonic() + PATIENT, exact=exact)

    def swap(
        self, seen: Cell, data: bytes | None = None, *, lease: float | None = None, hold: float | Cell = 0.0
    ) -> tuple[bool, EtcdCell]:
        """Return what a swap of `seen` does, for fresh data unless some is given."""
        data = a_text() if data is None else data
        return self.store.swap(self.key, seen, data, lease=lease, hold=hold, deadline=time.monotonic() + PATIENT)

    def write(self, **more: Any) -> EtcdCell:
        """Swap what is there, which must be done, and return the cell then."""
        done, cell = self.swap(self.read(), **more)
        assert done
        return cell


def a_text() -> bytes:
    """Return a record, another one each time."""
    return f"{MAGIC}\t{os.urandom(8).hex()}\nfence\t1\n".encode()


def held(server: EtcdServer, key: str, what: str = "") -> dict[str, dict[str, Any]]:
    """Return what the server has below ``held/`` of a key: the key "lease", and those that begin with "hold/"."""
    return server.keys(f"cronlock/held/{escape(key)}/{what}")


def lease_of(server: EtcdServer, key: str) -> dict[str, Any]:
    """Return what the server says of the lease's key."""
    (found,) = held(server, key, "lease").values()
    return found


def left(server: EtcdServer, lease: object) -> int:
    """Return the seconds that a lease of the server's lasts; -1 if there is none."""
    return int(server.ask("lease/timetolive", ID=lease)["TTL"])


def leases(server: EtcdServer) -> int:
    """Return how many leases the server has."""
    return len(server.ask("lease/leases").get("leases", []))


def revoke(server: EtcdServer, lease: object) -> None:
    """End a lease, as the server does with one that is over."""
    server.ask("lease/revoke", ID=lease)


class EtcdHooks(StoreHooks):
    """Leases and holds end at once: what the server does at their end is done by hand."""

    def __init__(self, server: EtcdServer, url: str = "") -> None:
        self._server = server
        self._url = url or server.url()

    def open_store(self) -> EtcdStore:
        """Open another connection."""
        return open_store(URL(self._url), PATIENT)

    def lapse(self, key: str) -> None:
        """Revoke the lease, as the server does with one that is over."""
        revoke(self._server, lease_of(self._server, key)["lease"])

    def end_hold(self, key: str) -> None:
        """Revoke the leases of all holds."""
        for found in held(self._server, key, "hold/").values():
            revoke(self._server, found["lease"])


class Wire(Proxy):
    """A proxy that loses, holds or doubles requests from one of a number on.

    A client whose request or reply was lost is hung up on, so that nobody waits for a time limit.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._at = 0
        self._act: Callable[[], None] = self.pass_all
        self._lost = ""

    def on(self, number: int, act: Callable[[], None]) -> None:
        """Do `act` at the request that is `number` requests from now."""
        self._at, self._act = self.requests + number, act

    def lose_requests(self) -> None:
        """Hang up on whoever asks something, which does not reach the server."""
        self._lost = "request"

    def lose_replies(self) -> None:
        """Hang up on whoever is answered, once the server did what was asked."""
        self._lost = "reply"

    def pass_all(self) -> None:
        """Lose nothing from now on."""
        super().pass_all()
        self._lost = ""

    def _upward(self, connection: Any, data: bytes) -> None:
        if self.requests + 1 == self._at:
            self._at = 0  # Before the client can hear of it, and ask again.
            self._act()
        if self._lost == "request":
            self.requests += 1
            connection.close()
            return
        super()._upward(connection, data)
        if connection.held:
            connection.client.shutdown(socket.SHUT_WR)

    def _downward(self, connection: Any, data: bytes) -> None:
        if self._lost == "reply":
            connection.close()
        else:
            super()._downward(connection, data)
