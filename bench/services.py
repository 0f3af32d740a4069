"""The servers on loopback."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

from labs.servers.aws import ENVIRON, DynamoDBServer, S3Server, SQSServer
from labs.servers.aws_gate import Gate
from labs.servers.creating import create
from labs.servers.etcd import EtcdServer
from labs.servers.mariadb import MariadbServer
from labs.servers.memcached import MemcachedServer
from labs.servers.postgresql import PostgresqlServer
from labs.servers.process import HOST, Server, ask, free_port
from labs.servers.redis import RedisServer
from labs.servers.tls import tls
from labs.servers.zookeeper import ZooKeeperServer

from .watch import SentHTTP, SentMySQL, SentPostgreSQL, Watch

#: What the rivals come from, which are optional here.
RIVALS = {"etcdctl": "etcd-client", "consul": "consul", "flock": "util-linux"}

_SYSTEMS_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class EtcdOnDisk(EtcdServer):
    """One etcd that waits for the disk at each write, as those that matter do; also of ``etcdctl lock``."""

    syncs = False


class ConsulServer(Server):
    """One Consul, the server of ``consul lock``."""

    def command(self) -> list[str]:
        """Return the command line of an agent that keeps everything in memory."""
        names = ("-server-port", "-serf-lan-port", "-serf-wan-port")
        ports = [f"{name}={free_port()}" for name in names]
        off = [f"{name}=-1" for name in ("-dns-port", "-grpc-port", "-grpc-tls-port", "-https-port")]
        return ["consul", "agent", "-dev", f"-bind={HOST}", f"-client={HOST}", f"-http-port={self.port}", *ports, *off]

    def is_ready(self) -> bool:
        """Return True if it has a leader."""
        return f'"{HOST}:'.encode() in ask(self.port, b"GET /v1/status/leader HTTP/1.0\r\n\r\n")

    @property
    def address(self) -> str:
        """The URL of its clients."""
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
        self.etcd = EtcdOnDisk()
        self.postgresql = PostgresqlServer()
        self.mysql = MariadbServer()
        self.dynamodb = DynamoDBServer()
        self.s3 = S3Server()
        self.sqs = SQSServer()
        self.consul = ConsulServer() if shutil.which("consul") else None
        #: What stands before those that do not count what they are asked, started with them.
        self.watches = {
            "etcd": Watch(self.etcd.port, SentHTTP),
            "postgresql": Watch(self.postgresql.port, SentPostgreSQL),
            "mysql": Watch(self.mysql.port, SentMySQL),
            "dynamodb": Watch(self.dynamodb.port, SentHTTP),
            "s3": Watch(self.s3.port, SentHTTP),
            "sqs": Watch(self.sqs.port, SentHTTP),
        }
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls().cert, tls().key)
        #: The way to DynamoDB over TLS, as AWS is asked.
        self.secure = Gate(self.dynamodb.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], tls=self._context)
        #: Variables by which the tests' authority is one of the system's, in both forms in which Debian has them.
        self.authorities = _authorities(tls().ca.with_name("authorities"))
        self._stack = ExitStack()

    def __enter__(self) -> Services:
        """Start them all at once and wait."""
        servers = [self.redis, self.redis_password, self.redis_tls, self.memcached, self.zookeeper]
        servers += [self.etcd, self.postgresql, self.mysql, self.dynamodb, self.s3, self.sqs]
        servers += [self.consul] if self.consul is not None else []
        with ExitStack() as stack:
            for server in servers:
                stack.callback(server.close)
                server.launch()
            for server in servers:
                server.wait_ready()
            for watch in self.watches.values():
                stack.enter_context(watch)
            stack.enter_context(self.secure)
            for made in (self.dynamodb, self.s3, self.sqs):
                create(made.url(), made.environ)
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


def _authorities(directory: Path) -> dict[str, str]:
    """Make a directory with the system's authorities and the tests' one, and a bundle; return their variables."""
    directory.mkdir(exist_ok=True)
    bundle = directory / "bundle.crt"
    shutil.copy(tls().ca, directory / "tests.pem")
    for path in _SYSTEMS_BUNDLE.parent.glob("*.pem"):
        shutil.copy(path, directory)
    subprocess.run(["openssl", "rehash", str(directory)], check=True, capture_output=True)
    system = _SYSTEMS_BUNDLE.read_text() if _SYSTEMS_BUNDLE.exists() else ""
    bundle.write_text(system + tls().ca.read_text())
    return {"SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": str(directory)}
