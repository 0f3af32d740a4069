"""libpq's connections in simulated nodes: libpq has its own sockets, and cronlock waits for them, here in the loop.

libpq cannot be told from which address to connect, so that all of these nodes have one.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sockets import Network


def install(network: Network, module: ModuleType) -> None:
    """Let `module`, cronlock's of one connection to PostgreSQL, wait in the network's loop, and count what it does."""
    loop, traffic = network.loop, network.traffic
    if not isinstance(module.pq, ModuleType):
        return  # It does already.
    pq = module.pq

    class PGconn(pq.PGconn):  # type: ignore[misc, name-defined]
        @classmethod
        def connect_start(cls, conninfo: bytes) -> Any:
            network.wait_until_due()
            traffic.begin()
            return super().connect_start(conninfo)

        def send_query_params(self, command: bytes, values: Sequence[bytes | None]) -> None:
            traffic.sends += 1
            super().send_query_params(command, values)

        def finish(self) -> None:
            traffic.open -= 1
            super().finish()

    class Libpq:
        def __getattr__(self, name: str) -> Any:
            return PGconn if name == "PGconn" else getattr(pq, name)

    def ready(descriptor: int, events: int, seconds: float) -> bool:
        poll = select.poll()
        if descriptor < 0 or seconds < 0:
            return False
        poll.register(descriptor, events)
        deadline = time.monotonic() + seconds
        while not poll.poll(0):
            if time.monotonic() >= deadline:
                return False
            try:
                loop.watch(descriptor)
            except FileExistsError:
                pass  # It was watched before.
            loop.wait(descriptor, deadline)
        return True

    module.pq, module._ready = Libpq(), ready  # type: ignore[attr-defined]
