"""Redis behind Sentinel, and Redis Cluster.

    redis+sentinel://[user:password@]HOST[:26379],HOST.../SERVICE[/DATABASE]
    redis+cluster://[user:password@]HOST[:6379],HOST...

Parameters beside those of `cronlock.engines.redis.store`: ``tls=1`` (with ``ca``, ``cert``, ``key``), for
Sentinel also ``sentinel_user`` and ``sentinel_password``. Certificates must name what the sentinels or
the nodes announce: their addresses, unless they announce host names.

A sentinel, or a node, is asked where the masters are on the first request and again after every failure
(`cronlock.engines.redis.discovery`). A sentinel is asked before each renewal, too: until a former master is told that
it is one, it carries out whatever it is sent, beside the new one. The request itself goes to one server only, and is
repeated only if that server replied that it did not execute it. Replication is asynchronous: a failover can lose a
lease that was just granted (see min_replicas).
"""

from __future__ import annotations

from binascii import crc_hqx

from ...errors import BackendUnavailable, ConfigError
from ...value import digits
from ..wire.stream import TLS_PARAMS, tls_context
from .address import credentials
from .discovery import Discovery
from .resp import ReplyError, Server
from .store import RedisStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..url import URL
    from ..wire.tls import Context
    from .discovery import Address, Credentials
    from .resp import Command, Reply

    #: First and last slot, and the address of their master.
    Slots = list[tuple[int, int, Address]]

_SLOTS = 16384
# Flags of a master that is down: for one sentinel, for all.
_DOWN = {b"s_down", b"o_down"}
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

    def confirm(self, deadline: float) -> None:
        """Do nothing: a node of a cluster that is no master any more says so."""

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
        super().__init__(url, tls, Discovery(url, "sentinel", url.need_hosts(26379), login, tls))
        self._service = service

    def masters(self, deadline: float) -> list[Server]:
        """Return the one master."""
        if not self._servers:
            self._server("master", self._named(deadline))
        return list(self._servers.values())

    def confirm(self, deadline: float) -> None:
        """Ask a sentinel anew. Without an answer the master stays: without sentinels, none becomes one either."""
        try:
            address = self._named(deadline)
        except BackendUnavailable:
            return
        if address not in self._servers:
            self.close()
            self._server("master", address)

    def _named(self, deadline: float) -> Address:
        # Not GET-MASTER-ADDR-BY-NAME, which also names a master that is down, and needs another permission.
        return self._discovery.ask([b"SENTINEL", b"MASTERS"], self._master_of, deadline)

    def server_of(self, key: bytes, deadline: float) -> Server:  # noqa: ARG002 (it is the same for all)
        """Return the one master."""
        return self.masters(deadline)[0]

    def _ask(self, commands: list[Command], deadline: float, key: bytes) -> list[Reply]:
        return self.server_of(key, deadline).ask(commands, deadline)

    def _master_of(self, name: str, _: Address, reply: list[Reply]) -> Address:
        for fields in reply:
            if not isinstance(fields, list):
                raise ValueError("malformed masters")
            about = {key: value for key, value in zip(fields[::2], fields[1::2]) if isinstance(key, bytes)}
            flags = about.get(b"flags")
            if about.get(b"name") != self._service.encode() or not isinstance(flags, bytes):
                continue
            words, port = flags.split(b","), about.get(b"port")
            if b"master" in words and not _DOWN & {*words}:
                return _address(name, about.get(b"ip"), digits(port, 5) if isinstance(port, bytes) else None)
        raise BackendUnavailable(
            f"{name}: no service {self._service!r} with a running master; check the name in the URL"
        )


class Cluster(_Ensemble):
    """The masters of a cluster and the slots that each of them has."""

    def __init__(self, url: URL, tls: Context | None) -> None:
        super().__init__(url, tls, Discovery(url, "node", url.need_hosts(6379), credentials(url), tls))
        self._slots: Slots = []

    def masters(self, deadline: float) -> list[Server]:
        """Return all masters."""
        return [self._server("node", address) for address in dict.fromkeys(one[2] for one in self._map(deadline))]

    def close(self) -> None:
        """Close all connections and forget the slots; raises nothing."""
        super().close()
        self._slots = []

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
                self._slots = []  # Discover again next time.
            asking = word == "ASK"
            host, _, port = rest.partition(" ")[2].rpartition(":")
            address = _address(server.name, host.encode(), digits(port, 5))
            server = self._server("node", address)
        raise BackendUnavailable(f"{self.name}: redirect loop: cluster nodes disagree about this slot")

    def server_of(self, key: bytes, deadline: float) -> Server:
        """Return the master of the slot of `key`."""
        slot = slot_of(key)
        for first, last, address in self._map(deadline):
            if first <= slot <= last:
                return self._server("node", address)
        raise BackendUnavailable(f"{self.name}: the cluster is down: no node has slot {slot}")

    def _map(self, deadline: float) -> Slots:
        if not self._slots:
            self._slots = self._discovery.ask([b"CLUSTER", b"SLOTS"], slots_of, deadline)
        return self._slots


def slot_of(key: bytes) -> int:
    """Return the slot of `key`: of what is in its first braces, if there is anything."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    return crc_hqx(key[start + 1 : end] if 0 <= start < end - 1 else key, 0) % _SLOTS


def slots_of(name: str, asked: Address, reply: Sequence[Reply]) -> Slots:
    """Return the slots that the node `name` at `asked` reports; raise ValueError for a malformed reply.

    Each entry is a first and a last slot, then host, port and more of the master and of its replicas.
    A master without a host is the one that was asked.
    """
    slots: Slots = []
    for entry in reply:
        first, last, master = entry[:3] if isinstance(entry, list) and len(entry) > 2 else (None, None, None)
        if not (isinstance(first, int) and isinstance(last, int) and isinstance(master, list) and len(master) > 1):
            raise ValueError("malformed slots")
        if not 0 <= first <= last < _SLOTS:
            raise ValueError("slots that there are not")
        slots.append((first, last, _address(name, master[0] or asked[0].encode(), master[1])))
    if not slots:
        raise BackendUnavailable(f"{name}: the cluster has no slots yet")
    return slots


def _address(name: str, host: Reply, port: Reply) -> Address:
    """Return the address that the server `name` reported; raise BackendUnavailable for an invalid one."""
    text = host.decode("utf-8", "replace") if isinstance(host, bytes) else ""
    # The host will be shown to people.
    if text in ("", "?") or len(text) > 255 or not text.isprintable() or not isinstance(port, int):
        raise BackendUnavailable(f"{name}: reported an invalid address")
    if not 0 < port < 65536:
        raise BackendUnavailable(f"{name}: reported an invalid address")
    return text, port
