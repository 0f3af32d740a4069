"""etcd: an ensemble of three."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from labs.machines import Machine
from labs.servers.etcd import EtcdEnsemble, EtcdServer
from labs.servers.process import Server

from .base import System


class EtcdThree(System):
    """Three servers, of which two are a majority."""

    name = "etcd"
    hosts = 3
    keeps_data = True
    has_leader = True
    has_quorum = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.group = EtcdEnsemble(places=self.places)
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
        return self.group.is_whole()

    def wipe(self, server: Server) -> None:
        """Put a server without data in its place, as its administrator has to."""
        assert isinstance(server, EtcdServer)
        shutil.rmtree(server.data)
        self.group.replace(server)
