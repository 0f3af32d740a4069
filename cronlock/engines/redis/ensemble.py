"""Redis behind Sentinel, and Redis Cluster.

    redis+sentinel://[user:password@]HOST[:26379],HOST.../SERVICE[/DATABASE]
    redis+cluster://[user:password@]HOST[:6379],HOST...

Parameters beside those of `cronlock.engines.redis.store`: ``tls=1`` (with ``ca``, ``cert``, ``key``), for
Sentinel also ``sentinel_user`` and ``sentinel_password``. Certificates must name what the sentinels or
the nodes announce: their addresses, unless they announce host names.

redis-py finds the master, on the first request and again after every failure; then its connections
are closed. The request itself goes over a connection of our own to one server only, and is repeated
only if that server replied that it did not execute it. Replication is asynchronous: a failover can
lose a lease that was just granted (see min_replicas).
"""

from __future__ import annotations

import time

from redis import Redis
from redis import exceptions as redis_errors
from redis.cluster import ClusterNode, NodesManager
from redis.crc import key_slot
from redis.sentinel import MasterNotFoundError, Sentinel

from ...errors import BackendUnavailable, ConfigError
from ...value import digits
from ..wire.stream import TLS_PARAMS, tls_context
from .address import credentials
from .discovery import Discovery
from .resp import ReplyError, Server
from .store import RedisStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..url import URL
    from ..wire.tls import Context
    from .discovery import Address, Credentials
    from .resp import Command, Reply

_SLOTS = 16384
# The most servers that one request may be sent to, while a slot is being moved.
_MOST_REDIRECTS = 4


def open_store(url: URL, timeout: float) -> RedisStore:
    """Return the store of a Sentinel or Cluster URL; raise ConfigError for a bad one."""
    common = ("prefix", "min_replicas", "tls", *TLS_PARAMS)
    if url.scheme == "redis+cluster":
        url.take_params(common)
        if url.path.strip("/"):
            raise ConfigError(f"{url}: a cluster has no databases; leave out the path")
        return RedisStore(Cluster(url, _tls(url)), url, timeout)
    params = url.take_params((*common, "sentinel_user", "sentinel_password"))
    service = url.path[1:].partition("/")[0]
    if not service:
        raise ConfigError(f"{url}: no service; write {url.scheme}://HOST,HOST/SERVICE")
    login: Credentials = None
    if "sentinel_password" in params:
        login = params.get("sentinel_user"), params["sentinel_password"]
    elif "sentinel_user" in params:
        raise ConfigError(f"{url}: sentinel_user= without sentinel_password=")
    return RedisStore(Sentinels(url, service, _tls(url), login), url, timeout)


def _tls(url: URL) -> Context | None:
    wanted = url.params.get("tls", "0")
    if wanted not in ("0", "1"):
        raise ConfigError(f"{url}: tls={wanted!r}: write tls=1 or leave it out")
    if wanted == "0" and any(name in url.params for name in TLS_PARAMS):
        raise ConfigError(f"{url}: ca, cert and key are for TLS; add tls=1")
    return tls_context(str(url), url.params) if wanted == "1" else None


class _Ensemble:
    """Servers whose addresses discovery nodes know."""

    def __init__(self, url: URL, tls: Context | None, discovery: Discovery) -> None:
        self.name = str(url)
        self._discovery = discovery
        self._tls = tls
        self._credentials = credentials(url)
        self._servers: dict[Address, Server] = {}

    def ask(self, commands: list[Command], deadline: float, key: bytes = b"") -> list[Reply]:
        """Send `commands`, which are about `key` only, to its master."""
        try:
            return self._ask(commands, deadline, key)
        except BackendUnavailable:
            # Another may have it by now.
            self.close()
            raise

    def close(self) -> None:
        """Close all connections and forget the addresses; raises nothing."""
        for server in self._servers.values():
            server.close()
        self._servers = {}

    def _ask(self, commands: list[Command], deadline: float, key: bytes) -> list[Reply]:
        raise NotImplementedError

    def _server(self, kind: str, address: Address) -> Server:
        if address not in self._servers:
            name = f"{self.name}: {kind} {address[0]}:{address[1]}"
            self._servers[address] = Server(name, address, credentials=self._credentials, tls=self._tls)
        return self._servers[address]


class Sentinels(_Ensemble):
    """The master of a service, as the first sentinel that answers reports it."""

    def __init__(self, url: URL, service: str, tls: Context | None, login: Credentials) -> None:
        super().__init__(url, tls, Discovery(url, "sentinel", url.need_hosts(26379), login, tls=tls is not None))
        self._service = service

    def masters(self, deadline: float) -> list[Server]:
        """Return the one master."""
        return list(self._servers.values()) or [self._server("master", self._discovery.ask(self._discover, deadline))]

    def server_of(self, key: bytes, deadline: float) -> Server:  # noqa: ARG002 (it is the same for all)
        """Return the one master."""
        return self.masters(deadline)[0]

    def _ask(self, commands: list[Command], deadline: float, key: bytes) -> list[Reply]:
        return self.server_of(key, deadline).ask(commands, deadline)

    def _discover(self, name: str, address: Address, options: dict[str, Any]) -> Address:
        until = time.monotonic() + options["socket_timeout"]
        sentinel = Sentinel([address], sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        client = sentinel.sentinels[0]
        try:
            # discover_master raises only a repr of a failed connection; this raises the error itself.
            _ping(client)
            if time.monotonic() > until:
                raise BackendUnavailable(f"{name}: no answer in time")
            host, port = sentinel.discover_master(self._service)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            if not str(error).endswith(repr(self._service)):
                raise BackendUnavailable(f"{name}: no answer in time") from None
            raise BackendUnavailable(
                f"{name}: no service {self._service!r} with a running master; check the name in the URL"
            ) from None
        except redis_errors.ResponseError as error:
            # "unknown command 'SENTINEL', with args ...", and not what AUTH might give.
            if "unknown command" not in str(error) or "SENTINEL" not in str(error).partition(",")[0]:
                raise
            raise BackendUnavailable(f"{name}: not a Sentinel; use redis://, or check the port") from None
        finally:
            client.connection_pool.disconnect()
        return _address(name, host, port)


def _ping(client: Redis) -> None:
    try:
        client.ping()
    except redis_errors.ResponseError:
        pass  # A user who may not PING may still ask the sentinel.


class Cluster(_Ensemble):
    """The masters of a cluster and the slots that each of them has."""

    def __init__(self, url: URL, tls: Context | None) -> None:
        discovery = Discovery(url, "node", url.need_hosts(6379), credentials(url), tls=tls is not None)
        super().__init__(url, tls, discovery)
        self._map: NodesManager | None = None

    def masters(self, deadline: float) -> list[Server]:
        """Return all masters."""
        return [self._node(node) for node in self._slot_map(deadline).get_nodes_by_server_type("primary")]

    def close(self) -> None:
        """Close all connections and forget the slots; raises nothing."""
        super().close()
        self._map = None

    def _ask(self, commands: list[Command], deadline: float, key: bytes) -> list[Reply]:
        server, asking = self.server_of(key, deadline), False
        for _ in range(_MOST_REDIRECTS):
            # ASKING applies to one command.
            asked = [one for command in commands for one in ([b"ASKING"], command)] if asking else commands
            answers = server.ask(asked, deadline)[1 if asking else 0 :: 2 if asking else 1]
            error = next((answer for answer in answers if isinstance(answer, ReplyError)), None)
            # "MOVED 3999 127.0.0.1:6381". A node that replies this has executed no write.
            word, _, rest = error.text.partition(" ") if error is not None else ("", "", "")
            if word not in ("MOVED", "ASK"):
                return answers
            if word == "MOVED":
                self._map = None  # Discover again next time.
            asking = word == "ASK"
            host, _, port = rest.partition(" ")[2].rpartition(":")
            address = _address(server.name, host, digits(port, 5))
            server = self._server("node", address)
        raise BackendUnavailable(f"{self.name}: redirect loop: cluster nodes disagree about this slot")

    def server_of(self, key: bytes, deadline: float) -> Server:
        """Return the master of the slot of `key`."""
        slot = key_slot(key)
        try:
            return self._node(self._slot_map(deadline).get_node_from_slot(slot))
        except redis_errors.SlotNotCoveredError:
            raise BackendUnavailable(f"{self.name}: the cluster is down: no node has slot {slot}") from None

    def _slot_map(self, deadline: float) -> NodesManager:
        if self._map is None:
            self._map = self._discovery.ask(self._discover, deadline)
        return self._map

    def _discover(self, name: str, address: Address, options: dict[str, Any]) -> NodesManager:
        def check(answer: Any) -> Any:
            return _checked_slots(answer, address[0])

        client = Redis(*address, **options)
        client.set_response_callback("CLUSTER SLOTS", check)
        seed = ClusterNode(*address, redis_connection=client)  # type: ignore[no-untyped-call]
        try:
            # The map of RedisCluster. That class would also send COMMAND to the first master, whose
            # reply is long, needs a further permission and never comes if that master hangs.
            return NodesManager([seed], require_full_coverage=False, protocol=2)
        except IndexError:
            raise BackendUnavailable(f"{name}: the cluster has no slots yet") from None
        finally:
            client.connection_pool.disconnect()

    def _node(self, node: ClusterNode) -> Server:
        return self._server("node", _address(self.name, node.host, node.port))


def _checked_slots(answer: Any, asked: str) -> Any:
    """Return the answer to CLUSTER SLOTS; raise ValueError for ranges that redis-py would never finish.

    Each entry is a first and a last slot, then host, port and more of the master and of its replicas.
    A master without a host is the one that was asked, at `asked`.
    """
    slots = 0
    for first, last, master, *_ in answer:
        slots += last - first + 1
        if not 0 <= first <= last < _SLOTS or slots > _SLOTS:
            raise ValueError("malformed slots")
        master[0] = master[0] or asked.encode()
    return answer


def _address(name: str, host: object, port: object) -> Address:
    """Return the address that the server `name` reported; raise BackendUnavailable for an invalid one."""
    # The host will be shown to people.
    named = isinstance(host, str) and host not in ("", "?") and len(host) < 256 and host.isprintable()
    if not named or not isinstance(port, int) or not 0 < port < 65536:
        raise BackendUnavailable(f"{name}: reported an invalid address")
    return str(host), port
