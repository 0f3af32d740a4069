"""Requests as servers count them."""

from __future__ import annotations

from labs.servers.memcached import MemcachedServer
from labs.servers.redis import RedisServer

_CONNECTIONS = "total_connections"
#: Commands that clients send; INFO counts those of scripts as well.
_SENT = ("auth", "client", "eval", "evalsha", "hello", "ping", "select", "wait")


class _Count:
    """Requests of clients since this object was made, without its own."""

    def __init__(self) -> None:
        before = self._read()
        self._before = self._read()
        self._look = {name: number - before.get(name, 0) for name, number in self._before.items()}

    def since(self) -> tuple[dict[str, int], int]:
        """Return {command: times} and the number of connections."""
        now = self._read()
        grown = {name: now[name] - self._before.get(name, 0) - self._look.get(name, 0) for name in now}
        connections = grown.pop(_CONNECTIONS)
        return {name: number for name, number in grown.items() if number}, connections

    def _read(self) -> dict[str, int]:
        raise NotImplementedError


class RedisCount(_Count):
    """Requests that clients sent to a Redis; a look is three plain commands, counted as ``look``."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        super().__init__()

    def _read(self) -> dict[str, int]:
        with self._server.client() as client:
            told = client.info("commandstats")
            counts = {_CONNECTIONS: int(client.info("stats")["total_connections_received"])}
        calls: dict[str, int] = {}
        for name, numbers in told.items():
            command = name.partition("_")[2].partition("|")[0]
            calls[command] = calls.get(command, 0) + int(numbers["calls"])
        counts.update({name: number for name, number in calls.items() if name in _SENT})
        # Each look and each script asks for the time once.
        counts["look"] = calls.get("time", 0) - calls.get("eval", 0)
        return counts


class MemcachedCount(_Count):
    """Commands that clients sent to a memcached, by its counters."""

    def __init__(self, server: MemcachedServer) -> None:
        self._server = server
        super().__init__()

    def _read(self) -> dict[str, int]:
        words = [line.split() for line in self._server.ask("stats", "END\r\n").splitlines()]
        wanted = ("cmd_get", "cmd_set", "cmd_meta", "cmd_touch", _CONNECTIONS)
        return {word[1]: int(word[2]) for word in words if len(word) == 3 and word[1] in wanted}
