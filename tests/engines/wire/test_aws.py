"""The code that AWS's engines share: botocore's signatures and endpoints, credentials, errors in one line."""

from __future__ import annotations

import io
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronlock.engines.url import URL
from cronlock.engines.wire import aws_botocore, spawn
from cronlock.engines.wire.aws import Denied
from cronlock.engines.wire.aws_credentials import Credentials, parse_time, split_endpoint, usual_endpoint
from cronlock.engines.wire.aws_json import JsonService as Service
from cronlock.engines.wire.aws_signature import Request, parse_date, sign
from cronlock.errors import BackendUnavailable, ConfigError, CronlockError
from labs.proc import children, is_alive
from labs.servers.aws import ENVIRON, MinistackServer, MotoServer
from labs.servers.aws_gate import Gate
from labs.servers.process import HOST, eventually, free_port, need
from labs.servers.tls import tls

#: Secrets that no message may show.
_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN=="


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own: no variable, no file, and no metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{HOST}:{free_port()}/")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server() -> Iterator[MinistackServer]:
    """One emulator."""
    with MinistackServer() as running:
        yield running


def _service(text: str = "dynamodb://table", timeout: float = 20.0) -> Service:
    return Service(URL(text), "dynamodb", "DynamoDB_20120810", timeout)


def _found(text: str = "dynamodb://table", timeout: float = 20.0) -> tuple[Service, Credentials]:
    service = _service(text, timeout)
    return service, service._need_credentials(service.deadline())


# Signatures, times and endpoints

_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@settings(max_examples=60)
@given(secret=_TEXT, token=st.none() | _TEXT, body=st.binary(max_size=200), at=st.integers(10**9, 4 * 10**9))
def test_signature_is_botocores(secret: str, token: str | None, body: bytes, at: int) -> None:
    """A signed request is what botocore would have made of it."""
    gate = Gate(1, secret)
    try:
        gate.token = token
        headers = {"Host": "dynamodb.eu-west-1.amazonaws.com", "X-Amz-Target": "A.B", "Content-Type": "x/y  z"}
        signed = sign(
            Request("POST", "/", "", body),
            headers,
            Credentials("AKID", secret, token, "here"),
            "eu-west-1",
            "dynamodb",
            at,
        )
        fields = {name.lower(): value for name, value in signed.items()}
        assert fields["authorization"] == gate.signature("POST", "/", fields, body)
        assert fields.get("x-amz-security-token") == token
    finally:
        gate._server.server_close()


def test_endpoints_are_botocores() -> None:
    """In every region of every partition that botocore knows the endpoint is botocore's."""
    session = botocore.session.Session()
    checked = 0
    for service in ("dynamodb", "sqs"):
        for partition in session.get_available_partitions():
            regions = session.get_available_regions(service, partition)
            for region in [regions[0], regions[-1]] if regions else []:
                if region.startswith("local"):
                    continue
                client = session.create_client(
                    service, region_name=region, aws_access_key_id="a", aws_secret_access_key="b"
                )
                assert usual_endpoint(service, region) == client.meta.endpoint_url.rstrip("/")
                checked += 1
    assert checked > 8


@given(st.integers(946684800, 32503680000))
def test_dates(at: int) -> None:
    """A Date header is the second that it says."""
    assert parse_date(formatdate(at, usegmt=True)) == at
    assert parse_time(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))) == at


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "Mon, 23 Nov 2026 23:28:49", "Mon, 99 Nov 2026 23:28:49 GMT", "Mon, 23 Foo 2026 23:28:49 GMT"),
        *("Mon, 23 Nov 2026 25:28:49 GMT", "Mon, 23 Nov 2026 2328 GMT", "Mon, 23 Nov 99999 23:28:49 GMT"),
        "1 2 3 4 5 6",
    ],
)
def test_bad_dates(text: str) -> None:
    """Text that is not a date gives None."""
    assert parse_date(text) is None


def test_endpoints_in_parts() -> None:
    """An endpoint is split as a URL is."""
    assert split_endpoint("http://127.0.0.1:8000") == (False, "127.0.0.1", 8000, "/")
    assert split_endpoint("https://vpce-1.example.com/path") == (True, "vpce-1.example.com", 443, "/path")
    assert split_endpoint("http://[::1]:80/") == (False, "::1", 80, "/")
    for bad in (
        "",
        "host",
        "http://",
        "http://a:b",
        "http://a b",
        "http://u@h",
        "http://h?x",
        "http://[::1",
        "ftp://h",
    ):
        with pytest.raises(ValueError, match=r"."):
            split_endpoint(bad)


# Region and endpoint


@pytest.mark.usefixtures("keys")
def test_region_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL's come first, then the environment's, then the usual ones of the region."""
    assert _service().endpoint == "https://dynamodb.eu-west-1.amazonaws.com"
    assert _service("dynamodb://table?region=cn-north-1").endpoint == "https://dynamodb.cn-north-1.amazonaws.com.cn"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    assert _service().endpoint == "https://dynamodb.us-gov-west-1.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    assert _service().endpoint == "http://localhost:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://localhost:3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:2")
    assert _service().endpoint == "http://localhost:2"
    assert _service("dynamodb://table?endpoint=http://localhost:4").endpoint == "http://localhost:4"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert _service().endpoint == "https://dynamodb.us-gov-west-1.amazonaws.com"


@pytest.mark.usefixtures("keys")
def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region nothing is asked, and it is said how to give one; a stand-in needs none."""
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ConfigError, match=r"no region: add \?region="):
        _found()
    assert _service("dynamodb://table?endpoint=http://localhost:4").region == "us-east-1"


@pytest.mark.usefixtures("keys")
def test_special_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """FIPS and dual-stack endpoints are botocore's."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert _service().endpoint == "https://dynamodb-fips.us-east-1.amazonaws.com"


# Credentials


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's credentials are taken without anything else being looked at."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY is missing"):
        _found()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", _TOKEN)
    monkeypatch.setattr(spawn, "ask", None)
    _, found = _found()
    assert (found.access_key, found.secret, found.token, found.source) == ("AKID", _SECRET, _TOKEN, "environment")
    assert _SECRET not in repr(found)


def _profile(home: Path, text: str, name: str = "config") -> None:
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / name).write_text(text)


def test_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Profiles of the shared files are found, by AWS_PROFILE too, with their region and endpoint."""
    _profile(tmp_path, f"[default]\naws_access_key_id=ONE\naws_secret_access_key={_SECRET}\n", "credentials")
    _profile(
        tmp_path,
        "[default]\nregion=eu-north-1\n[profile other]\nregion=ap-south-1\nendpoint_url=http://localhost:9\n"
        f"aws_access_key_id=TWO\naws_secret_access_key={_SECRET}\naws_session_token={_TOKEN}\n",
    )
    service, found = _found()
    assert (found.access_key, found.secret, found.token, service.region) == ("ONE", _SECRET, None, "eu-north-1")
    assert service.endpoint == "https://dynamodb.eu-north-1.amazonaws.com"
    monkeypatch.setenv("AWS_PROFILE", "other")
    service, found = _found()
    assert (found.access_key, found.token, service.region) == ("TWO", _TOKEN, "ap-south-1")
    assert service.endpoint == "http://localhost:9"
    assert "profile other" in found.source
    assert _found("dynamodb://table?region=eu-west-3")[0].region == "eu-west-3"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match=r"no AWS credentials: .*nobody"):
        _found()


@pytest.mark.usefixtures("keys")
def test_region_of_a_profile_for_the_environments_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the environment go with a region that only the profile has."""
    monkeypatch.delenv("AWS_REGION")
    _profile(tmp_path, "[default]\nregion=eu-north-1\n")
    service, found = _found()
    assert (service.region, found.access_key) == ("eu-north-1", ENVIRON["AWS_ACCESS_KEY_ID"])


def test_process(tmp_path: Path) -> None:
    """A credential_process is asked, and one that does not end costs the time limit and is ended."""
    answer = {"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": _SECRET, "SessionToken": _TOKEN}
    answer["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3000))
    (tmp_path / "answer").write_text(json.dumps(answer))
    _profile(tmp_path, f"[default]\nregion=eu-west-1\ncredential_process=cat {tmp_path}/answer\n")
    _, found = _found()
    assert (found.access_key, found.secret, found.token) == ("AKID", _SECRET, _TOKEN)
    assert time.time() + 2000 < found.expires_at < time.time() + 3100
    mark = tmp_path / "pid"
    (tmp_path / "slow").write_text(f"#!/bin/sh\necho $$ > {mark}\nexec sleep 600\n")
    (tmp_path / "slow").chmod(0o755)
    _profile(tmp_path, f"[default]\nregion=eu-west-1\ncredential_process={tmp_path}/slow\n")
    with pytest.raises(BackendUnavailable, match="no AWS credentials in time"):
        _found(timeout=5.0)
    if mark.exists():
        pid = int(mark.read_text())
        # It gets KILL with its group; whoever is its parent then may not have heard yet.
        eventually(lambda: not is_alive(pid), "it is ended", limit=30)


def test_role_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A role that a profile names is assumed by botocore, at STS."""
    with MotoServer() as moto:
        _profile(
            tmp_path,
            "[default]\nregion=eu-west-1\nrole_arn=arn:aws:iam::123456789012:role/cron\nsource_profile=base\n"
            f"[profile base]\naws_access_key_id=ONE\naws_secret_access_key={_SECRET}\n",
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.endpoint)
        _, found = _found()
        assert "assume-role" in found.source
        assert found.token
        assert found.expires_at < time.time() + 50000
        # A pod's or a build's token.
        _profile(tmp_path, "[default]\nregion=eu-west-1\n")
        (tmp_path / "token").write_text("header.payload.signature")
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cron")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        _, found = _found()
        assert "web-identity" in found.source
    with pytest.raises(BackendUnavailable, match="no AWS credentials: "):
        _found()


class _Metadata:
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
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600.0))
        secret = {"AccessKeyId": "AKID", "SecretAccessKey": _SECRET, "Token": _TOKEN}
        return {"Code": "Success", "Expiration": expires, **secret}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Metadata]:
    """A metadata service of this instance."""
    service = _Metadata()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
    yield service
    service.close()


def test_instance_role(metadata: _Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance's role is found by the second version of the metadata service, and its region."""
    monkeypatch.setattr(spawn, "ask", None)
    service, found = _found()
    assert (found.access_key, found.secret, found.token) == ("AKID", _SECRET, _TOKEN)
    assert (found.source, service.region) == ("instance role", "eu-south-1")
    assert metadata.paths == [
        "PUT /latest/api/token",
        "GET /latest/meta-data/iam/security-credentials/",
        "GET /latest/meta-data/iam/security-credentials/cron-role",
        "GET /latest/meta-data/placement/region",
    ]
    # Again only when they are about to expire.
    service._need_credentials(service.deadline())
    assert len(metadata.paths) == 4
    found.expires_at = time.time() + 30
    service._need_credentials(service.deadline())
    assert len(metadata.paths) == 7


@pytest.mark.usefixtures("metadata")
def test_same_as_botocore() -> None:
    """An instance's credentials are those that botocore finds."""
    session = botocore.session.Session()
    theirs = session.get_credentials().get_frozen_credentials()
    _, ours = _found()
    assert (ours.access_key, ours.secret, ours.token) == (theirs.access_key, theirs.secret_key, theirs.token)


def test_instance_without_a_role(metadata: _Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that has no role is misconfigured, and so is one where the service is off."""
    metadata.role = b""
    with pytest.raises(ConfigError, match="no AWS credentials: give the machine a role"):
        _found()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="no AWS credentials"):
        _found()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_metadata_that_is_busy(metadata: _Metadata, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Only a reply that there is no role is final; any other error is an outage."""
    metadata.status = status
    with pytest.raises(BackendUnavailable, match=f"instance metadata: status {status}"):
        _found()
    metadata.status, metadata.region_status = 200, status
    with pytest.raises(BackendUnavailable, match=f"instance metadata: status {status}"):
        _found()
    metadata.region_status = 404
    with pytest.raises(ConfigError, match="no region"):
        _found()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/role-name")
    metadata.status = status
    with pytest.raises(BackendUnavailable, match=f"container role: status {status}"):
        _found()


def test_metadata_whose_tokens_do_not_arrive(metadata: _Metadata) -> None:
    """It is asked without one, as the AWS tools do; where it wants one, it is said how they can arrive."""
    metadata.far = True
    assert _found()[1].source == "instance role"
    metadata.status = 401
    with pytest.raises(BackendUnavailable, match=r"status 401; in a container, .* a hop limit of 2"):
        _found()


def test_metadata_that_is_not_there() -> None:
    """Missing credentials are reported in one line with a remedy."""
    with pytest.raises(BackendUnavailable, match=r"connection refused.*no AWS credentials: give the machine a role"):
        _found()


def test_metadata_that_is_slow(metadata: _Metadata) -> None:
    """A metadata service that does not answer costs two seconds, within the limit of the request."""
    metadata.delay = 30.0
    with pytest.raises(BackendUnavailable, match="instance metadata: no answer in time"):
        _found()


def test_older_metadata_service(metadata: _Metadata) -> None:
    """Where there is only the first version, that is asked."""
    metadata.token_status = 404
    assert _found()[1].source == "instance role"


def test_container_role(metadata: _Metadata, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's role is found as ECS and EKS give it."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/v1/credentials?id=7")
    (tmp_path / "token").write_text("a-token\n")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    _, found = _found()
    assert (found.access_key, found.source) == ("AKID", "container role")
    assert (metadata.paths, metadata.authorization) == (["GET /v1/credentials?id=7"], "a-token")
    for elsewhere in ("example.com", "127.0.0.1.example.com", "127.example", "127.1.2.3.4"):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{elsewhere}/")
        with pytest.raises(ConfigError, match="not this machine's; use https"):
            _found()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.url.replace(HOST, "127.0.0.2"))
    with pytest.raises(BackendUnavailable):
        _found()


# Errors


@pytest.fixture
def gate(server: MinistackServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """AWS's checks of signatures and permissions, with known credentials."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"]) as standing:
        yield standing


_ERRORS = [
    ("ProvisionedThroughputExceededException", 400, "throttled"),
    ("ThrottlingException", 400, "throttled"),
    ("RequestLimitExceeded", 400, "throttled"),
    ("InternalServerError", 500, "ListTables failed: InternalServerError"),
    ("ServiceUnavailable", 503, "ListTables failed"),
    ("ExpiredTokenException", 400, "the credentials expired"),
    ("UnrecognizedClientException", 400, "AWS does not know these credentials"),
    ("InvalidSignatureException", 400, "AWS does not know these credentials"),
    ("AccessDeniedException", 400, "no permission for dynamodb:ListTables; allow it in the IAM policy"),
    ("ValidationException", 400, "ListTables failed: ValidationException"),
    ("RequestTimeTooSkewed", 400, "refuses this machine's clock"),
]


@pytest.mark.parametrize(("code", "status", "said"), _ERRORS)
def test_errors_in_one_line(gate: Gate, monkeypatch: pytest.MonkeyPatch, code: str, status: int, said: str) -> None:
    """Each error names what was refused and what to do, in one line, and no secret even if the server repeats it."""
    secret = ENVIRON["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SESSION_TOKEN", _TOKEN)
    gate.refuse(code, f"it says\n{secret} and {_TOKEN} " + "x" * 5000, status=status, times=3)
    service = _service(f"dynamodb://table?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable) as caught:
        service.call("ListTables", {}, service.deadline())
    text = str(caught.value)
    assert said in text
    assert text.startswith("dynamodb://table: ")
    assert "\n" not in text
    assert len(text) < 700
    assert secret not in text
    assert _TOKEN not in text
    assert len(gate.actions) == 1
    assert isinstance(caught.value, Denied) == (code == "AccessDeniedException")
    # Never for nothing: what was refused may be asked again, and the connection is as good as before.
    gate.answers.clear()
    assert service.call("ListTables", {}, service.deadline()).body is not None


def test_wrong_secret(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret is refused; AWS's own words quote the request, so they are not shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    service = _service(f"dynamodb://table?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable, match=r"\(InvalidSignatureException; environment\): check key") as caught:
        service.call("ListTables", {}, service.deadline())
    assert "Canonical" not in str(caught.value)


def test_expired_role_is_renewed(gate: Gate, metadata: _Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's credentials are fetched again, once, if AWS calls them expired."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    gate.secret, gate.token = _SECRET, _TOKEN
    service = _service(f"dynamodb://table?endpoint={gate.endpoint}")
    service.call("ListTables", {}, service.deadline())
    asked = len(metadata.paths)
    gate.refuse("ExpiredTokenException")
    service.call("ListTables", {}, service.deadline())
    assert len(metadata.paths) == 2 * asked
    gate.refuse("ExpiredTokenException", times=2)
    with pytest.raises(BackendUnavailable, match=r"expired \(instance role\): renew"):
        service.call("ListTables", {}, service.deadline())


def test_known_errors_are_answers(gate: Gate) -> None:
    """An error that the caller knows is an answer, with all that came along."""
    service = _service(f"dynamodb://table?endpoint={gate.endpoint}")
    gate.refuse("ConditionalCheckFailedException", "The conditional request failed")
    reply = service.call("UpdateItem", {}, service.deadline(), ("ConditionalCheckFailedException",))
    assert reply.code == "ConditionalCheckFailedException"
    assert reply.body["message"] == "The conditional request failed"


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("place", ["bundle", "file", "directory", "nowhere"])
def test_tls(server: MinistackServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    """AWS is asked over TLS, and has to prove its name by an authority that is known here."""
    files, context = tls(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    directory = tmp_path / "authorities"
    directory.mkdir()
    (directory / "one.pem").write_bytes((files.client_cert if place == "nowhere" else files.ca).read_bytes())
    subprocess.run([need("openssl", "openssl"), "rehash", str(directory)], check=True)
    monkeypatch.setenv("SSL_CERT_DIR", str(directory if place in ("directory", "nowhere") else tmp_path))
    if place in ("bundle", "file"):
        monkeypatch.setenv("AWS_CA_BUNDLE" if place == "bundle" else "SSL_CERT_FILE", str(files.ca))
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], tls=context) as gate:
        service = _service(f"dynamodb://table?endpoint=https://localhost:{gate.port}", timeout=5.0)
        if place == "nowhere":
            with pytest.raises(BackendUnavailable, match=r"no TLS with the server: .*certificate verify failed"):
                service.call("ListTables", {}, service.deadline())
        else:
            assert service.call("ListTables", {}, service.deadline()).code == ""
            assert gate.actions == ["ListTables"]


@pytest.mark.usefixtures("keys")
def test_bad_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bundle of authorities that cannot be read is said to be AWS_CA_BUNDLE's fault."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none"))
    service = _service()
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        service.call("ListTables", {}, service.deadline())


def test_botocore_that_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said what brings it."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"service": "sqs", "limit": 1.0})))
    aws_botocore.main()
    said = json.loads(capsys.readouterr().out)["error"]
    assert said.startswith("looking for them needs the Python package botocore: ")
    assert said.endswith("pip install botocore")


def test_looking_goes_by_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that looks is ended, leaves no descriptor and no zombie behind."""
    _profile(tmp_path, f"[default]\nregion=eu-west-1\naws_access_key_id=ONE\naws_secret_access_key={_SECRET}\n")
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(2):
        _found()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not [pid for pid in children(os.getpid()) if not is_alive(pid)]
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CronlockError, match="botocore could not look for credentials"):
        _found()
