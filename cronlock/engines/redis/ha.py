"""Redis behind Sentinel, and Redis Cluster.

    redis+sentinel://[user:password@]HOST[:26379],HOST.../SERVICE[/DATABASE]
    redis+cluster://[user:password@]HOST[:6379],HOST...

Parameters beside those of `cronlock.engines.redis.backend`: ``tls=1`` (with ``ca``, ``cert``, ``key``), for
Sentinel also ``sentinel_user`` and ``sentinel_password``. Certificates must name what the sentinels or
the nodes announce: their addresses, unless they announce host names.

redis-py finds the master, on the first request and again after every failure; its connections are
closed by then. A request itself goes over a connection of our own to one server only, and never a
second time unless that server said that it did nothing with it. Replication is asynchronous: a
failover can forget a lease that was just granted (see min_replicas).

A sentinel or node that is gone or hangs costs its share of the request's time. redis-py limits each
single wait, not their sum, nor what it reads: one that keeps sending a little, or a lot, is listened to
beyond the deadline, and only then is the request given up.
"""

from __future__ import annotations

import socket
import ssl
import time

from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, NodesManager
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from ...errors import BackendUnavailable, ConfigError, CronlockError
from ..wire.stream import TLS_PARAMS, tls_context
from .backend import RedisBackend, credentials, number
from .resp import ReplyError, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..url import URL
    from .resp import Command, Reply

    Credentials = tuple[str | None, str] | None
    Place = tuple[str, int]
    Found = TypeVar("Found")

_SLOTS = 16384
# Masters that one request may be sent on to, while a slot is being moved.
_MOVES = 4
# What redis-py takes off the texts of these errors.
_CODES = ((redis_errors.NoPermissionError, "NOPERM"), (redis_errors.BusyLoadingError, "LOADING"))
# How the text ends when a server that speaks TLS was spoken to without.
_HUNG_UP = ("reset by peer", "closed the connection")


def open_backend(url: URL, timeout: float) -> RedisBackend:
    """Return the backend for a Sentinel or Cluster URL; raise ConfigError for a bad one."""
    common = ("prefix", "min_replicas", "tls", *TLS_PARAMS)
    if url.scheme == "redis+cluster":
        url.take_params(common)
        if url.path.strip("/"):
            raise ConfigError(f"{url}: a cluster has no databases; write no path")
        return RedisBackend(Cluster(url, _tls(url)), url, timeout)
    params = url.take_params((*common, "sentinel_user", "sentinel_password"))
    service, _, database = url.path[1:].partition("/")
    if not service:
        raise ConfigError(f"{url}: names no service; write {url.scheme}://HOST,HOST/SERVICE")
    login: Credentials = None
    if "sentinel_password" in params:
        login = params.get("sentinel_user"), params["sentinel_password"]
    elif "sentinel_user" in params:
        raise ConfigError(f"{url}: has sentinel_user= without sentinel_password=")
    transport = Sentinels(url, service, _tls(url), login)
    return RedisBackend(transport, url, timeout, database=number(url, "the database", database or "0"))


def _tls(url: URL) -> ssl.SSLContext | None:
    wanted = url.params.get("tls", "0")
    if wanted not in ("0", "1"):
        raise ConfigError(f"{url}: tls={wanted!r}: write tls=1 or leave it out")
    if wanted == "0" and any(name in url.params for name in TLS_PARAMS):
        raise ConfigError(f"{url}: ca, cert and key are for TLS; add tls=1")
    return tls_context(str(url), url.params) if wanted == "1" else None


class Guides:
    """Servers that know where the others are, asked through redis-py until one can tell.

    Whatever goes wrong in redis-py comes out as BackendUnavailable.
    """

    def __init__(self, url: URL, kind: str, places: list[Place], login: Credentials, *, tls: bool) -> None:
        self._name = f"{url}: {kind}"
        self._places = places
        self._login = login
        self._options: dict[str, Any] = {
            "username": login[0] if login else None,
            "password": login[1] if login else None,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
        }
        if tls:
            files = (("ssl_ca_certs", "ca"), ("ssl_certfile", "cert"), ("ssl_keyfile", "key"))
            self._options.update({option: url.params.get(name) for option, name in files})
            # Off by default in redis-py 5.
            self._options.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True)

    def ask(self, question: Callable[[str, Place, dict[str, Any]], Found], deadline: float) -> Found:
        """Return what `question`, given a name, a place and redis-py's options, finds out first.

        Each server may take an equal share of the time that is left; one share more is for what
        comes next.
        """
        failure = BackendUnavailable(f"{self._name}: no answer in time")
        for position, place in enumerate(self._places):
            share = (deadline - time.monotonic()) / (len(self._places) - position + 1)
            if share <= 0:
                break
            name = f"{self._name} {place[0]}:{place[1]}"
            options = {**self._options, "socket_timeout": share, "socket_connect_timeout": share}
            try:
                return question(name, place, options)
            except BackendUnavailable as error:
                failure = error
            except Exception as error:  # What a lying server can provoke in a parser has no limits.
                failure = self._failed(name, error)
        raise failure

    def _failed(self, name: str, error: BaseException | None) -> BackendUnavailable:
        # The deepest cause says most. Beyond an error of ours is what was being handled before.
        causes: list[BaseException] = []
        while error is not None and not isinstance(error, CronlockError):
            causes.append(error)
            error = error.__cause__ or error.__context__
        for cause in reversed(causes):
            if isinstance(cause, OSError):
                return BackendUnavailable(f"{name}: {self._network_trouble(cause)}")
            if isinstance(cause, UnicodeError):
                return BackendUnavailable(f"{name}: cannot find its address: not a host name")
            if isinstance(cause, (redis_errors.RedisError, redis_errors.RedisClusterException)):
                trouble = self._refusal(name, cause)
                if trouble is not None:
                    return trouble
        return BackendUnavailable(f"{name}: the server gave a senseless answer: is it Redis or Valkey?")

    def _network_trouble(self, error: OSError) -> str:
        # A server without TLS may wait for the end of what it takes for a command.
        if isinstance(error, ssl.SSLError) or "handshake" in str(error):
            hint = "" if "CERTIFICATE" in str(error) else "; if this port has no TLS, leave out tls=1"
            return f"no TLS with the server: {error}{hint}"
        # Before Python 3.10 a socket's time-out is not a TimeoutError.
        if isinstance(error, (TimeoutError, socket.timeout)):
            return "no answer in time"
        if isinstance(error, socket.gaierror):
            return f"cannot find its address: {error.strerror}"
        return self._suspect_tls(error.strerror or str(error))

    def _refusal(self, name: str, error: Exception) -> BackendUnavailable | None:
        if isinstance(error, redis_errors.AuthenticationError):
            if self._login is None:
                return ReplyError("NOAUTH", "").refusal(name)
            return BackendUnavailable(f"{name}: authentication failed: check user and password in the URL")
        if isinstance(error, redis_errors.TimeoutError):
            return BackendUnavailable(f"{name}: no answer in time")
        if isinstance(error, redis_errors.InvalidResponse):
            return BackendUnavailable(f"{name}: the server does not speak Redis's protocol: check host and port")
        text = str(error)
        if isinstance(error, redis_errors.ConnectionError) and "closed" in text:
            return BackendUnavailable(f"{name}: {self._suspect_tls('the server closed the connection')}")
        if isinstance(error, redis_errors.RedisClusterException) and "is not enabled" in text:
            return ReplyError("ERR This instance has cluster support disabled", "").refusal(name)
        # This one text is all that tells it from troubles of redis-py's own.
        if isinstance(error, (redis_errors.ResponseError, redis_errors.BusyLoadingError)) or "max number" in text:
            codes = [code for kind, code in _CODES if isinstance(error, kind)]
            return ReplyError(" ".join([*codes, text]), self._login[1] if self._login else "").refusal(name)
        return None

    def _suspect_tls(self, text: str) -> str:
        plain = "ssl" not in self._options
        return f"{text}; if this port speaks TLS, add tls=1" if plain and text.endswith(_HUNG_UP) else text


class Sentinels:
    """The master of a service, by the word of the first sentinel that sees it up."""

    def __init__(self, url: URL, service: str, tls: ssl.SSLContext | None, login: Credentials) -> None:
        self.name = str(url)
        self._service = service
        self._tls = tls
        self._credentials = credentials(url)
        self._sentinels = Guides(url, "sentinel", url.need_hosts(26379), login, tls=tls is not None)
        self._master: Server | None = None

    def ask(self, commands: list[Command], deadline: float) -> list[Reply]:
        """Send `commands` to the master."""
        try:
            return self.masters(deadline)[0].ask(commands, deadline)
        except BackendUnavailable:
            # Another may be the master by now.
            self.close()
            raise

    def masters(self, deadline: float) -> list[Server]:
        """Return the one master."""
        if self._master is None:
            place = self._sentinels.ask(self._discover, deadline)
            self._master = Server(
                f"{self.name}: master {place[0]}:{place[1]}", place, credentials=self._credentials, tls=self._tls
            )
        return [self._master]

    def close(self) -> None:
        """Close the connection and forget who the master is; raises nothing."""
        if self._master is not None:
            self._master.close()
            self._master = None

    def _discover(self, name: str, place: Place, options: dict[str, Any]) -> Place:
        until = time.monotonic() + options["socket_timeout"]
        guide = Sentinel([place], sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        client = guide.sentinels[0]
        try:
            # discover_master keeps only a repr of why it could not ask; this raises what it was.
            _ping(client)
            if time.monotonic() > until:
                raise BackendUnavailable(f"{name}: no answer in time")
            host, port = guide.discover_master(self._service)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            if not str(error).endswith(repr(self._service)):
                raise BackendUnavailable(f"{name}: no answer in time") from None
            raise BackendUnavailable(
                f"{name}: knows no service {self._service!r} whose master is up: check the name in the URL"
            ) from None
        except redis_errors.ResponseError as error:
            # "unknown command 'SENTINEL', with args ...", and not what AUTH might give.
            if "unknown command" not in str(error) or "SENTINEL" not in str(error).partition(",")[0]:
                raise
            raise BackendUnavailable(f"{name}: is not a Sentinel: use redis://, or check the port") from None
        finally:
            client.connection_pool.disconnect()
        return _place(name, host, port)


def _ping(client: Redis) -> None:
    try:
        client.ping()
    except redis_errors.ResponseError:
        pass  # Who may not PING may ask all the same.


class Cluster:
    """The masters of a cluster and the slots that each of them has."""

    def __init__(self, url: URL, tls: ssl.SSLContext | None) -> None:
        self.name = str(url)
        self._tls = tls
        self._credentials = credentials(url)
        self._seeds = Guides(url, "node", url.need_hosts(6379), self._credentials, tls=tls is not None)
        self._nodes: dict[Place, Server] = {}
        self._map: NodesManager | None = None

    def ask(self, commands: list[Command], deadline: float) -> list[Reply]:
        """Send `commands`, the first an EVAL, to the master that has the slot of its key."""
        try:
            return self._follow(self._owner_of(commands[0][3], deadline), commands, deadline)
        except BackendUnavailable:
            # The slots may be elsewhere by now.
            self.close()
            raise

    def masters(self, deadline: float) -> list[Server]:
        """Return all masters."""
        return [self._node(node) for node in self._known(deadline).get_nodes_by_server_type("primary")]

    def close(self) -> None:
        """Close all connections and forget which slots are where; raises nothing."""
        for server in self._nodes.values():
            server.close()
        self._nodes, self._map = {}, None

    def _follow(self, server: Server, commands: list[Command], deadline: float) -> list[Reply]:
        ahead: list[Command] = []
        for _ in range(_MOVES):
            answers = server.ask(ahead + commands, deadline)[len(ahead) :]
            error = answers[0]
            if not isinstance(error, ReplyError):
                return answers
            # "MOVED 3999 127.0.0.1:6381"; the node did nothing but say so.
            word, _, rest = error.text.partition(" ")
            if word not in ("MOVED", "ASK"):
                return answers
            if word == "MOVED":
                self._map = None  # Ask anew next time.
            ahead = [[b"ASKING"]] if word == "ASK" else []
            host, _, port = rest.partition(" ")[2].rpartition(":")
            server = self._server(_place(server.name, host, int(port) if port.isdecimal() and len(port) < 6 else 0))
        raise BackendUnavailable(f"{self.name}: the nodes send each other's keys around in a circle")

    def _owner_of(self, name: bytes, deadline: float) -> Server:
        slot = key_slot(name)
        try:
            return self._node(self._known(deadline).get_node_from_slot(slot))
        except redis_errors.SlotNotCoveredError:
            raise BackendUnavailable(f"{self.name}: the cluster is down: no node has slot {slot}") from None

    def _known(self, deadline: float) -> NodesManager:
        if self._map is None:
            self._map = self._seeds.ask(self._discover, deadline)
        return self._map

    def _discover(self, name: str, place: Place, options: dict[str, Any]) -> NodesManager:
        def check(answer: Any) -> Any:
            return _checked_slots(answer, place[0])

        client = Redis(*place, **options)
        client.set_response_callback("CLUSTER SLOTS", check)
        seed = ClusterNode(*place, redis_connection=client)  # type: ignore[no-untyped-call]
        try:
            # What RedisCluster asks for its map. Itself it would ask the first master for all that it knows
            # of commands, which is long, needs a further permission and fails when that master hangs.
            return NodesManager([seed], require_full_coverage=False, protocol=2)
        except IndexError:
            raise BackendUnavailable(f"{name}: the cluster has no slots yet") from None
        finally:
            client.connection_pool.disconnect()

    def _node(self, node: ClusterNode) -> Server:
        return self._server(_place(self.name, node.host, node.port))

    def _server(self, place: Place) -> Server:
        if place not in self._nodes:
            name = f"{self.name}: node {place[0]}:{place[1]}"
            self._nodes[place] = Server(name, place, credentials=self._credentials, tls=self._tls)
        return self._nodes[place]


def _checked_slots(answer: Any, asked: str) -> Any:
    """Return the answer to CLUSTER SLOTS; raise ValueError for what redis-py would count through for ever.

    Each entry is a first and a last slot, then host, port and more of the master and of its replicas.
    A master without a host is the one that was asked, at `asked`.
    """
    slots = 0
    for first, last, master, *_ in answer:
        slots += last - first + 1
        if not 0 <= first <= last < _SLOTS or slots > _SLOTS:
            raise ValueError("senseless slots")
        master[0] = master[0] or asked.encode()
    return answer


def _place(name: str, host: object, port: object) -> Place:
    """Return the address that the server `name` told; raise BackendUnavailable if it is none."""
    # The host will be shown to people.
    named = isinstance(host, str) and host not in ("", "?") and len(host) < 256 and host.isprintable()
    if not named or not isinstance(port, int) or not 0 < port < 65536:
        raise BackendUnavailable(f"{name}: gave a senseless address")
    return str(host), port
