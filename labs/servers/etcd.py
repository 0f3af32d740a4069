"""etcd 3, alone and as an ensemble."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from .process import LOOPBACK, Ensemble, Server, Site, eventually, free_port, need
from .tls import query, tls

_PACKAGE = "etcd-server"
_LIMIT = 10.0


class EtcdServer(Server):
    """One etcd, which keeps its data over restarts.

    With `password` it asks for users, of whom root has that password; `tls` is for its clients, and
    `client_auth` asks them for a certificate; `extra` is more of the command line.
    """

    keeps_data = True
    syncs = True

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: bool = False,
        client_auth: bool = False,
        extra: Sequence[str] = (),
        site: Site = LOOPBACK,
    ) -> None:
        super().__init__(site)
        self.tls = tls
        self.password = password
        self.peer_port = free_port()
        self.name = "one"
        #: The servers of its ensemble; none when it is alone.
        self.peers: Sequence[EtcdServer] = ()
        #: True if it joins servers that made their ensemble before.
        self.joins = False
        self._client_auth = client_auth
        self._extra = list(extra)

    def command(self) -> list[str]:
        """Return the command line of etcd."""
        peers = self.peers or [self]
        command = [need("etcd", _PACKAGE), "--name", self.name, "--data-dir", str(self.data)]
        command += ["--listen-client-urls", self.address, "--advertise-client-urls", self.address]
        command += ["--listen-peer-urls", self.peer_address, "--initial-advertise-peer-urls", self.peer_address]
        command += ["--initial-cluster", ",".join(f"{peer.name}={peer.peer_address}" for peer in peers)]
        command += ["--initial-cluster-state", "existing" if self.joins else "new"]
        # It would wait for seconds before it lets a server be replaced.
        command += ["--strict-reconfig-check=false"]
        command += ["--logger", "zap", "--log-level", "error", "--log-outputs", "stderr"]
        return [*command, *(self._tls_options() if self.tls else []), *self._extra]

    def is_ready(self) -> bool:
        """Return True if it calls itself healthy: a server of an ensemble does so once there is a leader."""
        with urlopen(f"{self.address}/health", timeout=_LIMIT, context=self._context()) as answer:
            return bool(json.load(answer)["health"] == "true")

    def wait_ready(self) -> None:
        """Wait until it serves, and have it ask for users if it is to and does not yet."""
        super().wait_ready()
        if self.password is not None:
            self.ask_for_users()

    def ask_for_users(self) -> None:
        """Make the user root, and refuse who is none, unless that was done before."""
        try:
            self.ask("auth/user/add", name="root", password=self.password)
        except HTTPError:
            return  # It knows users already.
        self.ask("auth/user/grant", user="root", role="root")
        self.ask("auth/enable")

    def add_user(self, name: str, password: str, prefix: str = "") -> None:
        """Add a user who may read and write all keys that begin with `prefix`, and none if that is empty."""
        self.ask("auth/user/add", name=name, password=password)
        self.ask("auth/role/add", name=name)
        if prefix:
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            permission = {"permType": "READWRITE", "key": text(prefix), "range_end": text(end)}
            self.ask("auth/role/grant", name=name, perm=permission)
        self.ask("auth/user/grant", user=name, role=name)

    def ask(self, method: str, limit: float = _LIMIT, **fields: object) -> dict[str, Any]:
        """Return the answer of the gateway to ``/v3/METHOD``, to look at the server behind a backend's back.

        As root where there are users. Raises HTTPError for a refusal, OSError when it is not there or does not
        answer within `limit` seconds.
        """
        headers = {"Content-Type": "application/json"}
        if self.password is not None and method != "auth/authenticate":
            try:
                headers["Authorization"] = self.ask("auth/authenticate", name="root", password=self.password)["token"]
            except HTTPError:
                pass  # It has no users yet.
        request = Request(f"{self.address}/v3/{method}", json.dumps(fields).encode(), headers)
        with urlopen(request, timeout=limit, context=self._context()) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def keys(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """Return what it stores, by key: value, lease, create_revision, mod_revision, version."""
        start = text(prefix or "\0")
        end = text(prefix[:-1] + chr(ord(prefix[-1]) + 1)) if prefix else text("\0")
        found = self.ask("kv/range", key=start, range_end=end).get("kvs", [])
        return {base64.b64decode(entry["key"]).decode(): entry for entry in found}

    def put(self, key: str, value: str) -> None:
        """Store a key."""
        self.ask("kv/put", key=text(key), value=text(value))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.ask("kv/deleterange", key=text(key))

    def member(self) -> tuple[int, int]:
        """Return its own id, and that of the leader that it knows: 0 for none."""
        status = self.ask("maintenance/status", limit=1)
        return int(status["header"]["member_id"]), int(status.get("leader", 0))

    @property
    def address(self) -> str:
        """The URL of its clients."""
        return f"{'https' if self.tls else 'http'}://{self.site.host}:{self.port}"

    @property
    def peer_address(self) -> str:
        """The URL of its peers."""
        return f"http://{self.site.host}:{self.peer_port}"

    def url(self, path: str = "", *, login: str | None = None, port: int = 0, **params: str) -> str:
        """Return the backend's URL.

        `path` is a prefix of the keys, `login` is ``user:password``, root's unless it is given, `port` another
        way to the server, such as a proxy's.
        """
        if login is None:
            login = f"root:{quote(self.password, safe='')}" if self.password is not None else ""
        if self.tls:
            params = {**tls().params(client=self._client_auth), **params}
        scheme = "etcds" if self.tls else "etcd"
        return f"{scheme}://{login + '@' if login else ''}{self.site.host}:{port or self.port}{path}{query(params)}"

    def _context(self) -> Any:
        return tls().context() if self.tls else None

    def _tls_options(self) -> list[str]:
        files = tls()
        options = ["--cert-file", str(files.cert), "--key-file", str(files.key)]
        return [*options, "--client-cert-auth", "--trusted-ca-file", str(files.ca)] if self._client_auth else options


class EtcdEnsemble(Ensemble[EtcdServer]):
    """Several servers with a leader."""

    def __init__(self, number: int = 3, *, password: str | None = None, sites: Sequence[Site] = ()) -> None:
        super().__init__([EtcdServer(site=site) for site in sites or [LOOPBACK] * number])
        for position, node in enumerate(self.nodes, 1):
            node.name, node.peers = f"node{position}", self.nodes
        self._password = password

    def wait_ready(self) -> None:
        """Wait for each of them, and have them ask for users if they are to."""
        super().wait_ready()
        if self._password is not None:
            for node in self.nodes:
                node.password = self._password
            self.nodes[0].ask_for_users()

    def url(self, path: str = "", *, login: str | None = None, **params: str) -> str:
        """Return the backend's URL, which names all servers; `path` is a prefix of the keys."""
        if login is None:
            login = f"root:{quote(self._password, safe='')}" if self._password is not None else ""
        return f"etcd://{login + '@' if login else ''}{self.endpoints}{path}{query(params)}"

    def is_whole(self) -> bool:
        """Return True if all servers serve and agree on the leader; may raise OSError while they do not."""
        return super().is_whole() and len({node.member()[1] for node in self.nodes}) == 1

    def replace(self, node: EtcdServer) -> None:
        """Put a new server without data in the place of one that was stopped: to be started then."""
        others = [other for other in self.nodes if other is not node]
        members = others[0].ask("cluster/member/list")["members"]
        (old,) = [member["ID"] for member in members if member["peerURLs"] == [node.peer_address]]
        others[0].ask("cluster/member/remove", ID=old)
        eventually(lambda: others[0].ask("cluster/member/add", peerURLs=[node.peer_address]), "a new member")
        node.joins = True

    def leaders(self) -> list[EtcdServer]:
        """Return the nodes that most of them know as the leader."""
        told = {}
        for node in self.nodes:
            try:
                told[node] = node.member()
            except OSError:
                continue  # It is down, or cut off.
        known = [leader for _, leader in told.values()]
        return [node for node, (own, _) in told.items() if own and known.count(own) * 2 > len(self.nodes)]


def text(value: str) -> str:
    """Return `value` as the gateway has bytes."""
    return base64.b64encode(value.encode()).decode()
