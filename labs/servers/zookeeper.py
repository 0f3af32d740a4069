"""ZooKeeper, alone and as an ensemble."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import LOOPBACK, ROOT, Ensemble, Server, Site, ask, free_port, need
from .tls import query, tls

_PACKAGE = "zookeeper"
_JARS = ROOT / "usr/share/java"
_MAIN_JAR = _JARS / "zookeeper.jar"
# The main jar names what it needs, but for a logger, without which a failed start says nothing,
# and for two parts of netty, which it needs to serve TLS.
_MORE_JARS = ("slf4j-simple", "netty-codec", "netty-resolver")


class ZooKeeperServer(Server):
    """One ZooKeeper server, which keeps its data over restarts.

    `tick` is its tick in milliseconds: sessions last from 2 to 20 of them. With `tls` it serves
    TLS on `port`. `settings` are more lines of its configuration.
    """

    keeps_data = True

    def __init__(
        self,
        *,
        tick: int = 500,
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
        site: Site = LOOPBACK,
    ) -> None:
        super().__init__(site)
        self.tls = tls
        #: Serves without TLS, to look at the server behind a backend's back.
        self.plain_port = free_port() if tls else self.port
        self.number = 1
        self.peer_port, self.election_port = free_port(), free_port()
        #: The servers of its ensemble; none when it is alone.
        self.peers: Sequence[ZooKeeperServer] = ()
        self._settings = {
            "tickTime": str(tick),
            "initLimit": "40",
            "syncLimit": "10",
            "dataDir": str(self.data),
            "clientPort": str(self.plain_port),
            "clientPortAddress": site.host,
            "maxClientCnxns": "0",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            **(self._tls_settings() if tls else {}),
            **(settings or {}),
        }

    def command(self) -> list[str]:
        """Write the configuration and return the command of a small virtual machine."""
        java = need("java", "default-jre-headless")
        if not _MAIN_JAR.exists():
            need("zkServer.sh", _PACKAGE)
        lines = [f"{name}={value}" for name, value in self._settings.items()]
        lines += [f"server.{peer.number}={peer.site.host}:{peer.peer_port}:{peer.election_port}" for peer in self.peers]
        configuration = self.directory / "zoo.cfg"
        configuration.write_text("\n".join(lines) + "\n")
        (self.data / "myid").write_text(f"{self.number}\n")
        machine = ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"]
        machine += ["-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        # Debian's jars name each other by where they are installed: of another root all are named here.
        jars = [_JARS / "*"] if Path("/") != ROOT else [_MAIN_JAR, *(_JARS / f"{name}.jar" for name in _MORE_JARS)]
        path = ":".join(map(str, jars))
        return [java, *machine, "-cp", path, main, str(configuration)]

    def is_ready(self) -> bool:
        """Return True if it serves clients: a server of an ensemble does so once there is a leader."""
        if self.tls:
            # Opened after the plain port.
            socket.create_connection((self.site.host, self.port), timeout=5).close()
        return self.mode() in ("standalone", "leader", "follower")

    def mode(self) -> str:
        """Return ``standalone``, ``leader``, ``follower`` or, while it does not serve, an empty text."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:]
        return ""

    def ask(self, word: str) -> str:
        """Return the answer to a four-letter word such as ``srvr``, ``cons`` or ``wchp``."""
        return ask(self.plain_port, word.encode(), host=self.site.host).decode()

    def url(self, path: str = "", *, login: str = "", port: int = 0, **params: str) -> str:
        """Return the backend's URL.

        `path` is a chroot, `login` is ``user:password``, `port` another way to the server, such
        as a proxy's.
        """
        if self.tls:
            params = {**tls().params(client=True), **params}
        scheme = "zookeepers" if self.tls else "zookeeper"
        return f"{scheme}://{login + '@' if login else ''}{self.site.host}:{port or self.port}{path}{query(params)}"

    def _tls_settings(self) -> dict[str, str]:
        files = tls()
        return {
            "secureClientPort": str(self.port),
            "secureClientPortAddress": self.site.host,
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": str(files.chain),
            "ssl.keyStore.type": "PEM",
            "ssl.trustStore.location": str(files.ca),
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "want",
        }


class ZooKeeperEnsemble(Ensemble[ZooKeeperServer]):
    """Several servers with a leader."""

    def __init__(
        self,
        number: int = 3,
        *,
        tick: int = 500,
        settings: Mapping[str, str] | None = None,
        sites: Sequence[Site] = (),
    ) -> None:
        nodes = [ZooKeeperServer(tick=tick, settings=settings, site=site) for site in sites or [LOOPBACK] * number]
        super().__init__(nodes)
        for position, node in enumerate(self.nodes, 1):
            node.number, node.peers = position, self.nodes

    def url(self, path: str = "", *, login: str = "", **params: str) -> str:
        """Return the backend's URL, which names all servers; `path` is a chroot."""
        return f"zookeeper://{login + '@' if login else ''}{self.endpoints}{path}{query(params)}"

    def leaders(self) -> list[ZooKeeperServer]:
        """Return the nodes that call themselves the leader."""
        return [node for node in self.nodes if self._mode_of(node) == "leader"]

    def is_whole(self) -> bool:
        """Return True if all nodes serve, and one of them leads; may raise OSError while they do not."""
        return sorted(node.mode() for node in self.nodes) == [*["follower"] * (len(self.nodes) - 1), "leader"]

    def _mode_of(self, node: ZooKeeperServer) -> str:
        try:
            return node.mode()
        except OSError:
            return ""
