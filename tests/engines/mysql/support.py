"""The servers behind a node on MySQL."""

from __future__ import annotations

from cronlock.engines.mysql.servers import Servers
from cronlock.engines.mysql.store import MysqlStore
from cronlock.lease.leases import Leases


def servers_of(node: Leases) -> Servers:
    """Return the servers of a node's store."""
    assert isinstance(node.store, MysqlStore)
    return node.store.servers
