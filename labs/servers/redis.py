"""Redis as one server, as a Sentinel group and as a Cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import redis

from .process import LOOPBACK, Group, Server, Site, eventually, free_port, need
from .tls import query, tls

_PACKAGE = "redis-server"


class RedisServer(Server):
    """One redis-server on TCP, and on a Unix socket or with TLS if asked.

    `users` maps the names of ACL users to their rules (``"on >secret ~* +@all"``); `persistent`
    keeps every write through a crash; `extra` is more of the command line.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        unix: bool = False,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        persistent: bool = False,
        extra: Sequence[str] = (),
        site: Site = LOOPBACK,
    ) -> None:
        super().__init__(site)
        self.tls = tls
        self.socket = self.directory / "socket" if unix else None
        self.password = password
        self.keeps_data = persistent
        self._users = dict(users or {})
        self._extra = list(extra)

    def command(self) -> list[str]:
        """Return the command line of redis-server, without a configuration file."""
        command = [need("redis-server", _PACKAGE), "--bind", self.site.host, "--dir", str(self.data), "--save", ""]
        command += ["--repl-diskless-sync-delay", "0"]
        # Beyond loopback, who has no password is refused otherwise.
        command += ["--protected-mode", "no"]
        command += ["--appendonly", "yes", "--appendfsync", "always"] if self.keeps_data else ["--appendonly", "no"]
        command += self._tls_options() if self.tls else ["--port", str(self.port)]
        if self.socket is not None:
            command += ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        if self.password is not None:
            command += ["--requirepass", self.password]
        for name, rules in self._users.items():
            command += ["--user", name, *rules.split()]
        return command + self._extra

    def is_ready(self) -> bool:
        """Return True if it answers a ping: it does so only once its data is loaded."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        """Return redis-py's client, to look at the server behind a backend's back."""
        if self.tls:
            files = tls()
            options.update(ssl=True, ssl_ca_certs=str(files.ca))
        settings: dict[str, Any] = {"password": self.password, "socket_timeout": 10, **options}
        return redis.Redis(self.site.host, self.port, decode_responses=True, **settings)

    def replication(self) -> dict[str, Any]:
        """Return what it says of masters and replicas."""
        with self.client() as client:
            state: dict[str, Any] = client.info("replication")
        return state

    def url(
        self, db: int | None = None, *, user: str = "", password: str | None = None, port: int = 0, **params: str
    ) -> str:
        """Return the backend's URL for this server.

        With the server's own password unless another is given; `port` is another way to it,
        such as a proxy's.
        """
        secret = self.password if password is None else password
        login = f"{quote(user)}:{quote(secret, safe='')}@" if secret is not None else ""
        path = "" if db is None else f"/{db}"
        if self.tls:
            params = {**tls().params(), **params}
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{login}{self.site.host}:{port or self.port}{path}{query(params)}"

    def unix_url(self, **params: str) -> str:
        """Return the backend's URL for its Unix socket."""
        assert self.socket is not None
        login = f":{quote(self.password, safe='')}@" if self.password is not None else ""
        return f"redis+unix://{login}{self.socket}{query(params)}"

    def _tls_options(self) -> list[str]:
        files = tls()
        options = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "optional"]
        options += ["--tls-cert-file", str(files.cert), "--tls-key-file", str(files.key)]
        return [*options, "--tls-ca-cert-file", str(files.ca)]


class _Sentinel(RedisServer):
    """One redis-sentinel, which knows the master and finds the rest by itself."""

    def __init__(self, service: str, master: RedisServer, quorum: int, site: Site) -> None:
        super().__init__(site=site)
        self._service = service
        login = f"sentinel auth-pass {service} {master.password}\n" if master.password else ""
        # Sentinels write down in this file what they learn.
        self._configuration = self.directory / "sentinel.conf"
        self._configuration.write_text(
            f"bind {site.host}\nprotected-mode no\nport {self.port}\ndir {self.directory}\n"
            f"sentinel monitor {service} {master.site.host} {master.port} {quorum}\n{login}"
            f"sentinel down-after-milliseconds {service} 1500\n"
            f"sentinel failover-timeout {service} 5000\n"
        )

    def command(self) -> list[str]:
        """Return the command line of redis-sentinel."""
        return [need("redis-sentinel", "redis-sentinel"), str(self._configuration)]

    def master(self) -> dict[str, Any]:
        """Return what it knows of the master."""
        with self.client(protocol=2) as client:
            # Word by word: redis-py's sentinel_master() fails in 7.0.
            answer: Any = client.execute_command("SENTINEL", "MASTER", self._service)
            return dict(zip(answer[::2], answer[1::2]))


class _Followed(RedisServer):
    """A server that sentinels make master or replica, which it still is after a restart.

    They have it write that into its configuration file. With options alone, a master that was a replica at first
    would be one again, of a server that follows it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._configuration = self.directory / "redis.conf"

    def command(self) -> list[str]:
        """Write the configuration, unless that was done before, and return the command line of redis-server."""
        program, *options = super().command()
        if not self._configuration.exists():
            words = ["\n" + word[2:] if word.startswith("--") else _quoted(word) for word in options]
            self._configuration.write_text(" ".join(words).lstrip() + "\n")
        return [program, str(self._configuration)]


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class RedisSentinel(Group[RedisServer]):
    """A master, two replicas and three sentinels that fail over within seconds."""

    service = "jobs"

    def __init__(
        self,
        *,
        password: str | None = None,
        persistent: bool = False,
        extra: Sequence[str] = (),
        sites: Sequence[Site] = (LOOPBACK,) * 3,
    ) -> None:
        # Any of them may come to follow another.
        more = [*(["--masterauth", password] if password else []), *extra]
        first = _Followed(password=password, persistent=persistent, extra=more, site=sites[0])
        follow = ["--replicaof", first.site.host, str(first.port)]
        replicas = [
            _Followed(password=password, persistent=persistent, extra=[*follow, *more], site=site) for site in sites[1:]
        ]
        self.sentinels = [_Sentinel(self.service, first, 2, site) for site in sites]
        super().__init__([first, *replicas], self.sentinels)

    def wait_ready(self) -> None:
        """Wait until the replicas are in step and every sentinel knows all of the others."""
        super().wait_ready()
        eventually(lambda: self._replicas_of(self.nodes[0]) == 2, "two replicas in step with the master")
        eventually(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels), "sentinels know each other")

    def is_whole(self) -> bool:
        """Return True if all sentinels know one master and each other, and that has two replicas in step."""
        ports = {int(sentinel.master()["port"]) for sentinel in self.sentinels}
        return len(ports) == 1 and self._replicas_of(self.master()) == 2 and all(map(self._sees_all, self.sentinels))

    def url(self, db: int | None = None, **params: str) -> str:
        """Return the backend's URL, which names the sentinels and the service."""
        password = self.nodes[0].password
        login = f":{quote(password, safe='')}@" if password is not None else ""
        places = ",".join(f"{sentinel.site.host}:{sentinel.port}" for sentinel in self.sentinels)
        path = f"/{self.service}" + ("" if db is None else f"/{db}")
        return f"redis+sentinel://{login}{places}{path}{query(params)}"

    def master(self) -> RedisServer:
        """Return the node that most sentinels call the master."""
        ports = [int(sentinel.master()["port"]) for sentinel in self.sentinels]
        port = max(set(ports), key=ports.count)
        return next(node for node in self.nodes if node.port == port)

    def wait_new_master(self, old: RedisServer) -> RedisServer:
        """Wait until all sentinels agree on another master than `old` and it takes writes."""

        def taken_over() -> bool:
            ports = {int(sentinel.master()["port"]) for sentinel in self.sentinels}
            return len(ports) == 1 and old.port not in ports and self.master().replication()["role"] == "master"

        eventually(taken_over, "another master", limit=120)
        return self.master()

    def _replicas_of(self, node: RedisServer) -> int:
        state = node.replication()
        replicas = [value for name, value in state.items() if name.startswith("slave") and isinstance(value, dict)]
        return sum(replica["state"] == "online" for replica in replicas)

    def _sees_all(self, sentinel: _Sentinel) -> bool:
        seen = sentinel.master()
        return int(seen["num-slaves"]) == 2 and int(seen["num-other-sentinels"]) == 2


class _ClusterNode(RedisServer):
    """One node of a Cluster."""

    def __init__(self, extra: Sequence[str], site: Site, persistent: bool) -> None:
        super().__init__(extra=extra, site=site, persistent=persistent)
        self.bus_port = free_port()

    def command(self) -> list[str]:
        """Return the command line, with quick failure detection."""
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)]
        return [*super().command(), *cluster, "--cluster-node-timeout", "3000"]


class RedisCluster(Group[_ClusterNode]):
    """Three masters that share the slots evenly; the fourth node and each further one is a replica of one of them."""

    def __init__(
        self, *, extra: Sequence[str] = (), sites: Sequence[Site] = (LOOPBACK,) * 3, persistent: bool = False
    ) -> None:
        super().__init__([_ClusterNode(extra, site, persistent) for site in sites])

    def wait_ready(self) -> None:
        """Make the nodes one cluster and wait until each of them calls it whole."""
        super().wait_ready()
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
                    client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER MEET", other.site.host, other.port, other.bus_port)
        eventually(self.is_whole, "the cluster is whole")
        masters = [self._id_of(node) for node in self.nodes[:3]]
        for number, node in enumerate(self.nodes[3:]):
            with node.client() as client:
                client.execute_command("CLUSTER REPLICATE", masters[number % 3])

    def url(self, **params: str) -> str:
        """Return the backend's URL, which names all nodes."""
        return f"redis+cluster://{self.endpoints}{query(params)}"

    def node_of(self, name: str) -> RedisServer:
        """Return the node that holds the Redis key `name`."""
        with self.nodes[0].client() as client:
            slot = int(client.execute_command("CLUSTER KEYSLOT", name))
        return self.nodes[min(number for number in range(3) if slot < 16384 * (number + 1) // 3)]

    def is_whole(self) -> bool:
        """Return True if each node knows all others, and all slots are served."""
        return all(map(self._knows_all, self.nodes))

    def _knows_all(self, node: RedisServer) -> bool:
        with node.client() as client:
            state = client.execute_command("CLUSTER INFO")
        known = state if isinstance(state, dict) else dict(line.split(":", 1) for line in state.split() if ":" in line)
        return bool(known["cluster_state"] == "ok" and known["cluster_known_nodes"] == str(len(self.nodes)))

    def _id_of(self, node: RedisServer) -> str:
        with node.client() as client:
            return str(client.execute_command("CLUSTER MYID"))
