"""What AWS refuses, in one line and without a secret; TLS; what botocore leaves behind."""

from __future__ import annotations

import io
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cronlock.engines.wire import aws_botocore
from cronlock.engines.wire.aws import Denied
from cronlock.errors import BackendUnavailable, ConfigError, CronlockError
from labs.proc import children, is_alive
from labs.servers.aws import ENVIRON, MinistackServer
from labs.servers.aws_gate import Gate
from labs.servers.process import need
from labs.servers.tls import tls

from .aws_services import SECRET, TOKEN, Metadata, credentials_of, service_of, write_profile
from .aws_services import _environment as _environment
from .aws_services import _keys as _keys
from .aws_services import _metadata as _metadata
from .aws_services import _server as _server


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
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setattr("cronlock.engines.wire.stream._FIRST_PAUSE", 1e6)  # No time to ask again.
    gate.refuse(code, f"it says\n{secret} and {TOKEN} " + "x" * 5000, status=status, times=3)
    service = service_of(f"dynamodb://table?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable) as caught:
        service.call("ListTables", {}, service.deadline())
    text = str(caught.value)
    assert said in text
    assert text.startswith("dynamodb://table: ")
    assert "\n" not in text
    assert len(text) < 700
    assert secret not in text
    assert TOKEN not in text
    assert len(gate.actions) == 1
    assert isinstance(caught.value, Denied) == (code == "AccessDeniedException")
    # Never for nothing: what was refused may be asked again, and the connection is as good as before.
    gate.answers.clear()
    assert service.call("ListTables", {}, service.deadline()).body is not None


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
def test_throttled_requests_are_sent_again(gate: Gate, code: str) -> None:
    """AWS did not carry them out, and soon has room."""
    gate.refuse(code, times=4)
    service = service_of(f"dynamodb://table?endpoint={gate.endpoint}")
    assert service.call("ListTables", {}, service.deadline() + 60).body is not None
    assert gate.actions == ["ListTables"] * 5


def test_wrong_secret(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret is refused; AWS's own words quote the request, so they are not shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    service = service_of(f"dynamodb://table?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable, match=r"\(InvalidSignatureException; environment\): check key") as caught:
        service.call("ListTables", {}, service.deadline())
    assert "Canonical" not in str(caught.value)


def test_expired_role_is_renewed(gate: Gate, metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's credentials are fetched again, once, if AWS calls them expired."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    gate.secret, gate.token = SECRET, TOKEN
    service = service_of(f"dynamodb://table?endpoint={gate.endpoint}")
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
    service = service_of(f"dynamodb://table?endpoint={gate.endpoint}")
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
        service = service_of(f"dynamodb://table?endpoint=https://localhost:{gate.port}", timeout=5.0)
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
    service = service_of()
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        service.call("ListTables", {}, service.deadline())


def test_botocore_that_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said what brings it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"service": "sqs", "limit": 1.0})))
    aws_botocore.main()
    said = json.loads(capsys.readouterr().out)["error"]
    assert said.startswith("looking for them needs the Python package botocore: ")
    assert said.endswith("pip install botocore")


def _open_files() -> set[str]:
    """Return what this process's descriptors are of: a pipe or a socket has a number of its own."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The descriptor of the listing itself.
            found.add(os.readlink(entry))
    return found


def _zombies() -> set[int]:
    return {pid for pid in children(os.getpid()) if not is_alive(pid)}


def test_looking_goes_by_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that looks is ended, leaves no descriptor and no zombie behind."""
    write_profile(tmp_path, f"[default]\nregion=eu-west-1\naws_access_key_id=ONE\naws_secret_access_key={SECRET}\n")
    before, zombies = _open_files(), _zombies()
    for _ in range(2):
        credentials_of()
    # Servers of other tests may close theirs meanwhile.
    assert _open_files() - before == set()
    assert _zombies() <= zombies
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CronlockError, match="botocore could not look for credentials"):
        credentials_of()
