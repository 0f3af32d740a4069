"""A Redis without room for another client: asked again, within the limit, and only then called unavailable."""

from __future__ import annotations

import threading
import time

import pytest

from cronlock.engines.redis.resp import Server
from cronlock.engines.wire.stream import ServerBusy
from labs.servers.process import HOST
from labs.servers.redis import RedisServer

from ..hooks import turned_away

#: Long enough for any request on a loaded machine, in seconds.
LIMIT = 8.0


@pytest.mark.parametrize("password", [None, "secret"])
def test_redis_without_room(password: str | None) -> None:
    """Whoever is turned away asks again until there is room, and says so when there never is."""
    with RedisServer(extra=("--maxclients", "2"), password=password) as server:
        address = (HOST, server.port)
        known = None if password is None else (None, password)
        first, second, third = (Server("name", address, credentials=known) for _ in range(3))
        for other in (first, second):
            assert other.ask([[b"PING"]], time.monotonic() + LIMIT) == [b"PONG"]
        turned_away(
            lambda: third.ask([[b"PING"]], time.monotonic() + 1.0), "no room for another client", kind=ServerBusy
        )
        threading.Timer(0.5, first.close).start()
        assert third.ask([[b"PING"]], time.monotonic() + LIMIT) == [b"PONG"]
