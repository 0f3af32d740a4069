"""AWS services of a URL, a metadata service, and secrets that no message may show."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cronlock.engines.url import URL
from cronlock.engines.wire import aws_credentials
from cronlock.engines.wire.aws_credentials import Credentials
from cronlock.engines.wire.aws_json import JsonService as Service
from labs.servers.aws import ENVIRON, MinistackServer
from labs.servers.process import HOST, free_port

#: Secrets that no message may show.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN=="
#: How long a run waits for an answer of the metadata service, in seconds.
METADATA_LIMIT = aws_credentials._METADATA_LIMIT


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own: no variable, no file, and no metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{HOST}:{free_port()}/")


@pytest.fixture(name="keys")
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[MinistackServer]:
    """One emulator."""
    with MinistackServer() as running:
        yield running


def service_of(text: str = "dynamodb://table", timeout: float = 20.0) -> Service:
    """Return the service of a URL."""
    return Service(URL(text), "dynamodb", "DynamoDB_20120810", timeout)


def credentials_of(text: str = "dynamodb://table", timeout: float = 20.0) -> tuple[Service, Credentials]:
    """Return the service of a URL, and the credentials that it finds."""
    service = service_of(text, timeout)
    return service, service._need_credentials(service.deadline())


def write_profile(home: Path, text: str, name: str = "config") -> None:
    """Write one of the shared files of AWS's tools."""
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / name).write_text(text)


class Metadata:
    """A metadata service, of an instance or of a container, as AWS describes them."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.role = b"cron-role"
        self.token_status = 200
        #: Of the role's name and of the region.
        self.status = self.region_status = 200
        #: Whether answers with a token get lost on their way, as on one that is too long.
        self.far = False
        self.delay = 0.0
        self.authorization: str | None = None
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                if service.far:
                    time.sleep(30.0)
                self._answer(service.token_status, b"a-session")

            def do_GET(self) -> None:
                service.authorization = self.headers["Authorization"]
                far = service.far or service.delay or not self.path.startswith("/latest")
                if service.token_status == 200 and not far:
                    assert self.headers["X-aws-ec2-metadata-token"] == "a-session"
                if self.path in ("/latest/meta-data/iam/security-credentials/", "/role-name"):
                    self._answer(service.status if service.role else 404, service.role)
                elif self.path == "/latest/meta-data/placement/region":
                    self._answer(service.region_status, b"eu-south-1")
                else:
                    self._answer(200, json.dumps(service.credentials()).encode())

            def _answer(self, status: int, data: bytes) -> None:
                service.paths.append(f"{self.command} {self.path}")
                time.sleep(service.delay)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://{HOST}:{self._server.server_address[1]}"

    def credentials(self) -> dict[str, str]:
        """Return credentials that last so long."""
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600.0))
        secret = {"AccessKeyId": "AKID", "SecretAccessKey": SECRET, "Token": TOKEN}
        return {"Code": "Success", "Expiration": expires, **secret}

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(name="metadata")
def _metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """A metadata service of this instance, which is waited for as long as a busy machine takes."""
    monkeypatch.setattr(aws_credentials, "_METADATA_LIMIT", 10.0)
    service = Metadata()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    yield service
    service.close()
