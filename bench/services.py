"""The servers on loopback."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

from tests.servers.memcached import MemcachedServer
from tests.servers.process import HOST, Server, ask, free_port
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

#: What each server comes from, where it is optional here.
RIVALS = {"etcd": "etcd-server", "etcdctl": "etcd-client", "consul": "consul", "flock": "util-linux"}


class EtcdServer(Server):
    """One etcd, the server of ``etcdctl lock``."""

    def command(self) -> list[str]:
        """Return the command line of etcd 3."""
        peer = f"http://{HOST}:{free_port()}"
        urls = ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        urls += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"]
        return ["etcd", "--name", "one", "--data-dir", str(self.data), "--log-level", "error", *urls]

    def is_ready(self) -> bool:
        """Whether it calls itself healthy."""
        return b'"true"' in ask(self.port, b"GET /health HTTP/1.0\r\n\r\n")

    @property
    def url(self) -> str:
        """The address of its clients."""
        return f"http://{HOST}:{self.port}"


class ConsulServer(Server):
    """One Consul, the server of ``consul lock``."""

    def command(self) -> list[str]:
        """Return the command line of an agent that keeps everything in memory."""
        names = ("-server-port", "-serf-lan-port", "-serf-wan-port")
        ports = [f"{name}={free_port()}" for name in names]
        off = [f"{name}=-1" for name in ("-dns-port", "-grpc-port", "-grpc-tls-port", "-https-port")]
        return ["consul", "agent", "-dev", f"-bind={HOST}", f"-client={HOST}", f"-http-port={self.port}", *ports, *off]

    def is_ready(self) -> bool:
        """Whether it has a leader."""
        return f'"{HOST}:'.encode() in ask(self.port, b"GET /v1/status/leader HTTP/1.0\r\n\r\n")

    @property
    def url(self) -> str:
        """The address of its clients."""
        return f"http://{HOST}:{self.port}"


class Services:
    """All servers, started by ``with``."""

    def __init__(self) -> None:
        self.redis = RedisServer()
        self.redis_password = RedisServer(password="bench-secret")
        self.redis_tls = RedisServer(tls=True)
        self.memcached = MemcachedServer()
        # The tick of its documentation, which sets how long its sessions last.
        self.zookeeper = ZooKeeperServer(tick=2000)
        self.etcd = EtcdServer() if shutil.which("etcd") and shutil.which("etcdctl") else None
        self.consul = ConsulServer() if shutil.which("consul") else None
        self._stack = ExitStack()

    def __enter__(self) -> Services:
        """Start them all at once and wait."""
        servers = (self.redis, self.redis_password, self.redis_tls, self.memcached, self.zookeeper)
        with ExitStack() as stack:
            for server in (*servers, self.etcd, self.consul):
                if server is not None:
                    stack.callback(server.close)
                    server.launch()
            for server in (*servers, self.etcd, self.consul):
                if server is not None:
                    server.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def missing(self) -> list[str]:
        """Say what cannot be compared with, one line each."""
        return [
            f"{program} (Debian's package {package}) is not installed"
            for program, package in RIVALS.items()
            if shutil.which(program) is None
        ]
