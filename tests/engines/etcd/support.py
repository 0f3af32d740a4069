"""How the tests on etcd reach a server: by leases, by their store, through a proxy, and behind their back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from cronlock.engines.etcd.cell import EtcdCell
from cronlock.engines.etcd.store import EtcdStore
from cronlock.keys import escape
from cronlock.lease.leases import Leases
from cronlock.lease.state import State, encode
from cronlock.lease.store import Cell
from cronlock.testing import cells
from labs.servers.etcd import EtcdServer

from ..hooks import FaultHooks, node_at


class Cells:
    """One key of the store under some leases, read and swapped with time limits that suffice."""

    def __init__(self, node: Leases, key: str) -> None:
        assert isinstance(node.store, EtcdStore)
        self.store = node.store
        self.key = key

    def read(self, *, exact: bool = False) -> EtcdCell:
        """Return the cell."""
        return cells.read(self.store, self.key, exact=exact)

    def swap(self, seen: Cell, data: bytes | None = None, **more: Any) -> tuple[bool, EtcdCell]:
        """Return what a swap of `seen` does, for fresh data unless some is given."""
        data = encode(State()) if data is None else data
        return cells.try_swap(self.store, self.key, seen, data, **more)

    def write(self, **more: Any) -> EtcdCell:
        """Swap what is there, which must be done, and return the cell then."""
        done, cell = self.swap(self.read(), **more)
        assert done
        return cell


def held(server: EtcdServer, key: str, what: str = "") -> dict[str, dict[str, Any]]:
    """Return what the server has below ``held/`` of a key: the key "lease", and those that begin with "hold/"."""
    return server.keys(f"cronlock/held/{escape(key)}/{what}")


def lease_of(server: EtcdServer, key: str) -> dict[str, Any]:
    """Return what the server says of the lease's key."""
    (found,) = held(server, key, "lease").values()
    return found


def left(server: EtcdServer, lease: object) -> int:
    """Return the seconds that a lease of the server's lasts; -1 without one."""
    return int(server.ask("lease/timetolive", ID=lease)["TTL"])


def leases(server: EtcdServer) -> set[str]:
    """Return the leases that the server has. Those of earlier tests may lapse at any moment."""
    return {one["ID"] for one in server.ask("lease/leases").get("leases", [])}


def revoke(server: EtcdServer, lease: object) -> None:
    """End a lease, as the server does with one that is over, unless it did so already."""
    try:
        server.ask("lease/revoke", ID=lease)
    except HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise


class EtcdHooks(FaultHooks):
    """Leases and holds end at once: what the server does at their end is done by hand."""

    acquire, swap, renew = 4, 3, 2

    def __init__(self, server: EtcdServer, url: str = "") -> None:
        super().__init__(server)
        self._url = url

    def open_store(self) -> Any:
        """Open another connection."""
        return node_at(self._url).store if self._url else super().open_store()

    def kept(self, key: str) -> object:
        """Return the record, the lease and the holds."""
        return self.server.keys(f"cronlock/record/{key}"), held(self.server, key)

    def lapse(self, key: str) -> None:
        """Revoke the lease, if there is one."""
        for found in held(self.server, key, "lease").values():
            revoke(self.server, found["lease"])

    def end_hold(self, key: str) -> None:
        """Revoke the leases of all holds."""
        for found in held(self.server, key, "hold/").values():
            revoke(self.server, found["lease"])
