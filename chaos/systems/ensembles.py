"""ZooKeeper and etcd: ensembles of three, of which two are a majority."""

from __future__ import annotations

from labs.servers.etcd import EtcdEnsemble, EtcdServer
from labs.servers.process import Server
from labs.servers.zookeeper import ZooKeeperEnsemble

from .base import System

#: Milliseconds: a lease of three seconds is six of them.
_TICK = 500
#: A leader that was cut off for so many of them leads no longer.
_SYNC = {"syncLimit": "4"}


class _Three(System):
    hosts = 3
    keeps_data = True
    has_leader = True
    has_quorum = True


class ZooKeeper(_Three):
    """Three servers of ZooKeeper."""

    name = "zookeeper"

    def make(self) -> ZooKeeperEnsemble:
        """Return the ensemble, not started yet."""
        return ZooKeeperEnsemble(tick=_TICK, settings=_SYNC, sites=self.sites)


class Etcd(_Three):
    """Three servers of etcd."""

    name = "etcd"

    def make(self) -> EtcdEnsemble:
        """Return the ensemble, not started yet."""
        return EtcdEnsemble(sites=self.sites)

    def wipe(self, server: Server) -> None:
        """Put a server without data in its place, as its administrator has to."""
        super().wipe(server)
        assert isinstance(self.service, EtcdEnsemble)
        assert isinstance(server, EtcdServer)
        self.service.replace(server)
