"""ZooKeeper: an ensemble of three."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from labs.machines import Machine
from labs.servers.process import Server
from labs.servers.zookeeper import ZooKeeperEnsemble

from .base import System

#: Milliseconds: a lease of three seconds is six of them.
_TICK = 500


class Ensemble(System):
    """Three servers, of which two are a majority."""

    name = "zookeeper"
    hosts = 3
    keeps_data = True
    has_leader = True
    has_quorum = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.group = ZooKeeperEnsemble(tick=_TICK, places=self.places)
        self.service = self.group
        self.servers = list(self.group.nodes)

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.group.url()

    def leader(self) -> Server:
        """Return the leader."""
        return self.group.leader()

    def serves(self) -> bool:
        """Whether all servers serve, and one of them leads."""
        return sorted(node.mode() for node in self.group.nodes) == ["follower", "follower", "leader"]

    def wipe(self, server: Server) -> None:
        """Remove the log and the snapshots."""
        shutil.rmtree(server.data)
