"""DynamoDB, S3 and SQS on two emulators that nobody's account pays for: moto and MiniStack.

They differ from AWS, and from each other; where that matters the tests say so:

- neither looks at signatures, their time, or permissions: `Gate` stands in front and does;
- moto is made to do one request at a time, since its tables have no lock: conditional updates that come
  together would all succeed;
- moto closes the connection after each answer, MiniStack keeps it;
- neither throttles, nor bills.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from .process import HOST, LOOPBACK, ROOT, Server, Site, ask, need

#: What a client needs in its environment; neither emulator looks at it.
ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "an-example", "AWS_REGION": "eu-west-1"}

_LOCAL = ROOT / "package/emulator"

# One request at a time: see above.
_MOTO = """
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with lock:
        return list(moto(environ, start_response))
run_simple(sys.argv[1], int(sys.argv[2]), one_at_a_time, threaded=True)
"""


class AwsServer(Server):
    """An emulator of AWS: any number of services on one port."""

    #: Where its readiness is asked for.
    health = "/"
    #: The Python package that it is, if it is one.
    package = ""

    def __init__(self, site: Site = LOOPBACK) -> None:
        if self.package and importlib.util.find_spec(self.package) is None:
            text = f"the package {self.package} is missing: pip install -e '.[test,emulators]'"
            pytest.fail(text, pytrace=False)
        super().__init__(site)

    @property
    def environ(self) -> dict[str, str]:
        """What its clients need in their environment."""
        return dict(ENVIRON)

    @property
    def endpoint(self) -> str:
        """The URL that clients are to ask in place of AWS."""
        return f"http://{self.site.host}:{self.port}"

    def is_ready(self) -> bool:
        """Ask for its health page."""
        request = f"GET {self.health} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode()
        return b" 200 " in ask(self.port, request, host=self.site.host).partition(b"\r\n")[0]

    def url(self, *, prefix: str | None = None, port: int | None = None, **params: str) -> str:
        """Return the URL of a table that is made by `doctor --create`, through a proxy on `port` if there is one."""
        return _url("dynamodb://cronlock", self, port, {**({"prefix": prefix} if prefix else {}), **params})

    def queue_url(self, *, prefix: str | None = None, port: int | None = None, **params: str) -> str:
        """Return the URL of queues that are made by the first run of each key, through a proxy on `port` if any."""
        return _url(f"sqs://{prefix or 'cronlock'}", self, port, {"create": "yes", **params})

    def bucket_url(self, *, prefix: str | None = None, port: int | None = None, **params: str) -> str:
        """Return the URL of a bucket that is made by `doctor --create`, through a proxy on `port` if there is one."""
        return _url(f"s3://cronlock{f'/{prefix}' if prefix else ''}", self, port, params)


def _url(start: str, server: AwsServer, port: int | None, params: dict[str, str]) -> str:
    endpoint = f"http://{server.site.host}:{port or server.port}"
    return "&".join((f"{start}?endpoint={endpoint}", *(f"{name}={value}" for name, value in params.items())))


class MotoServer(AwsServer):
    """moto, of the package of that name."""

    health = "/moto-api/data.json"
    package = "moto"

    def command(self) -> list[str]:
        """Run its application, one request at a time."""
        return [sys.executable, "-c", _MOTO, self.site.host, str(self.port)]


class MinistackServer(AwsServer):
    """MiniStack, which would listen on all addresses if it were not told."""

    health = "/_ministack/health"
    package = "ministack"

    def command(self) -> list[str]:
        """Run it with the three services only, and nothing kept on disk."""
        settings = {
            "BIND_HOST": self.site.host,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "dynamodb,s3,sqs",
            "TMPDIR": str(self.directory),
            "MINISTACK_REGION": ENVIRON["AWS_REGION"],
        }
        program = str(Path(sys.executable).with_name("ministack"))
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), sys.executable, program]


class DynamoDBLocalServer(AwsServer):
    """AWS's own emulator, where `labs.versions` unpacked it; it listens on all addresses."""

    def command(self) -> list[str]:
        """Run it with nothing kept on disk."""
        java = [
            "-Xmx256m",
            f"-Djava.library.path={_LOCAL / 'DynamoDBLocal_lib'}",
            "-jar",
            str(_LOCAL / "DynamoDBLocal.jar"),
        ]
        return [need("java", "default-jre-headless"), *java, "-inMemory", "-port", str(self.port)]

    def is_ready(self) -> bool:
        """Return True if it answers at all: it has no page for that."""
        return b"HTTP/1.1" in ask(self.port, f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode(), host=self.site.host)


class DynamoDBServer(MinistackServer):
    """What tests take that want DynamoDB and do not care which."""


class _Bucket(AwsServer):
    """An emulator that is used as S3."""

    def url(self, *, prefix: str | None = None, port: int | None = None, **params: str) -> str:
        """Return the bucket's URL."""
        return self.bucket_url(prefix=prefix, port=port, **params)


class S3Server(_Bucket, MinistackServer):
    """What tests take that want S3 and do not care which."""


class S3MotoServer(_Bucket, MotoServer):
    """The other S3."""


class SQSServer(MinistackServer):
    """What tests take that want SQS and do not care which."""

    def url(self, *, prefix: str | None = None, port: int | None = None, **params: str) -> str:
        """Return the queue's URL."""
        return self.queue_url(prefix=prefix, port=port, **params)


#: By the name that tests show.
EMULATORS: dict[str, type[AwsServer]] = {"moto": MotoServer, "ministack": MinistackServer}
#: The same for DynamoDB alone.
DYNAMODB_EMULATORS = {"dynamodb-local": DynamoDBLocalServer} if _LOCAL.exists() else EMULATORS
