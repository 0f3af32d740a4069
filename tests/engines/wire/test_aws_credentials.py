"""Where AWS's credentials come from: the environment, profiles, and metadata services."""

from __future__ import annotations

import json
import time
from pathlib import Path

import botocore.session
import pytest

from cronlock.engines.wire import aws_credentials, spawn
from cronlock.errors import BackendUnavailable, ConfigError
from labs.proc import is_alive
from labs.servers.aws import ENVIRON, MotoServer
from labs.servers.process import HOST, eventually

from .aws_services import METADATA_LIMIT, SECRET, TOKEN, Metadata, credentials_of, write_profile
from .aws_services import _environment as _environment
from .aws_services import _keys as _keys
from .aws_services import _metadata as _metadata
from .aws_services import _server as _server


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's credentials are taken without anything else being looked at."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY is missing"):
        credentials_of()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setattr(spawn, "ask", None)
    _, found = credentials_of()
    assert (found.access_key, found.secret, found.token, found.source) == ("AKID", SECRET, TOKEN, "environment")
    assert SECRET not in repr(found)


def test_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Profiles of the shared files are found, by AWS_PROFILE too, with their region and endpoint."""
    write_profile(tmp_path, f"[default]\naws_access_key_id=ONE\naws_secret_access_key={SECRET}\n", "credentials")
    write_profile(
        tmp_path,
        "[default]\nregion=eu-north-1\n[profile other]\nregion=ap-south-1\nendpoint_url=http://localhost:9\n"
        f"aws_access_key_id=TWO\naws_secret_access_key={SECRET}\naws_session_token={TOKEN}\n",
    )
    service, found = credentials_of()
    assert (found.access_key, found.secret, found.token, service.region) == ("ONE", SECRET, None, "eu-north-1")
    assert service.endpoint == "https://dynamodb.eu-north-1.amazonaws.com"
    monkeypatch.setenv("AWS_PROFILE", "other")
    service, found = credentials_of()
    assert (found.access_key, found.token, service.region) == ("TWO", TOKEN, "ap-south-1")
    assert service.endpoint == "http://localhost:9"
    assert "profile other" in found.source
    assert credentials_of("dynamodb://table?region=eu-west-3")[0].region == "eu-west-3"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match=r"no AWS credentials: .*nobody"):
        credentials_of()


@pytest.mark.usefixtures("keys")
def test_region_of_a_profile_for_the_environments_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the environment go with a region that only the profile has."""
    monkeypatch.delenv("AWS_REGION")
    write_profile(tmp_path, "[default]\nregion=eu-north-1\n")
    service, found = credentials_of()
    assert (service.region, found.access_key) == ("eu-north-1", ENVIRON["AWS_ACCESS_KEY_ID"])


def test_process(tmp_path: Path) -> None:
    """A credential_process is asked, and one that does not end costs the time limit and is ended."""
    answer = {"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": SECRET, "SessionToken": TOKEN}
    answer["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3000))
    (tmp_path / "answer").write_text(json.dumps(answer))
    write_profile(tmp_path, f"[default]\nregion=eu-west-1\ncredential_process=cat {tmp_path}/answer\n")
    _, found = credentials_of()
    assert (found.access_key, found.secret, found.token) == ("AKID", SECRET, TOKEN)
    assert time.time() + 2000 < found.expires_at < time.time() + 3100
    mark = tmp_path / "pid"
    (tmp_path / "slow").write_text(f"#!/bin/sh\necho $$ > {mark}\nexec sleep 600\n")
    (tmp_path / "slow").chmod(0o755)
    write_profile(tmp_path, f"[default]\nregion=eu-west-1\ncredential_process={tmp_path}/slow\n")
    with pytest.raises(BackendUnavailable, match="no AWS credentials in time"):
        credentials_of(timeout=5.0)
    if mark.exists():
        pid = int(mark.read_text())
        # It gets KILL with its group; whoever is its parent then may not have heard yet.
        eventually(lambda: not is_alive(pid), "it is ended", limit=30)


def test_role_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A role that a profile names is assumed by botocore, at STS."""
    with MotoServer() as moto:
        write_profile(
            tmp_path,
            "[default]\nregion=eu-west-1\nrole_arn=arn:aws:iam::123456789012:role/cron\nsource_profile=base\n"
            f"[profile base]\naws_access_key_id=ONE\naws_secret_access_key={SECRET}\n",
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.endpoint)
        _, found = credentials_of()
        assert "assume-role" in found.source
        assert found.token
        assert found.expires_at < time.time() + 50000
        # A pod's or a build's token.
        write_profile(tmp_path, "[default]\nregion=eu-west-1\n")
        (tmp_path / "token").write_text("header.payload.signature")
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cron")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        _, found = credentials_of()
        assert "web-identity" in found.source
    with pytest.raises(BackendUnavailable, match="no AWS credentials: "):
        credentials_of()


def test_instance_role(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance's role is found by the second version of the metadata service, and its region."""
    monkeypatch.setattr(spawn, "ask", None)
    service, found = credentials_of()
    assert (found.access_key, found.secret, found.token) == ("AKID", SECRET, TOKEN)
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
def test_same_as_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance's credentials are those that botocore finds."""
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "10")
    session = botocore.session.Session()
    theirs = session.get_credentials().get_frozen_credentials()
    _, ours = credentials_of()
    assert (ours.access_key, ours.secret, ours.token) == (theirs.access_key, theirs.secret_key, theirs.token)


def test_instance_without_a_role(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that has no role is misconfigured, and so is one where the service is off."""
    metadata.role = b""
    with pytest.raises(ConfigError, match="no AWS credentials: give the machine a role"):
        credentials_of()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="no AWS credentials"):
        credentials_of()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_metadata_that_is_busy(metadata: Metadata, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Only a reply that there is no role is final; any other error is an outage."""
    metadata.status = status
    with pytest.raises(BackendUnavailable, match=f"instance metadata: status {status}"):
        credentials_of()
    metadata.status, metadata.region_status = 200, status
    with pytest.raises(BackendUnavailable, match=f"instance metadata: status {status}"):
        credentials_of()
    metadata.region_status = 404
    with pytest.raises(ConfigError, match="no region"):
        credentials_of()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/role-name")
    metadata.status = status
    with pytest.raises(BackendUnavailable, match=f"container role: status {status}"):
        credentials_of()


def test_metadata_whose_tokens_do_not_arrive(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked without one, as the AWS tools do; where it wants one, it is said how they can arrive."""
    monkeypatch.setattr(aws_credentials, "_METADATA_LIMIT", 2 * METADATA_LIMIT)
    metadata.far = True
    assert credentials_of()[1].source == "instance role"
    metadata.status = 401
    with pytest.raises(BackendUnavailable, match=r"status 401; in a container, .* a hop limit of 2"):
        credentials_of()


def test_metadata_that_is_not_there() -> None:
    """Missing credentials are reported in one line with a remedy."""
    with pytest.raises(BackendUnavailable, match=r"connection refused.*no AWS credentials: give the machine a role"):
        credentials_of()


def test_metadata_that_is_slow(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metadata service that does not answer costs two seconds, within the limit of the request."""
    monkeypatch.setattr(aws_credentials, "_METADATA_LIMIT", METADATA_LIMIT)
    metadata.delay = 30.0
    with pytest.raises(BackendUnavailable, match="instance metadata: no answer in time"):
        credentials_of()


def test_older_metadata_service(metadata: Metadata) -> None:
    """Where there is only the first version, that is asked."""
    metadata.token_status = 404
    assert credentials_of()[1].source == "instance role"


def test_container_role(metadata: Metadata, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's role is found as ECS and EKS give it."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/v1/credentials?id=7")
    (tmp_path / "token").write_text("a-token\n")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    _, found = credentials_of()
    assert (found.access_key, found.source) == ("AKID", "container role")
    assert (metadata.paths, metadata.authorization) == (["GET /v1/credentials?id=7"], "a-token")
    for elsewhere in ("example.com", "127.0.0.1.example.com", "127.example", "127.1.2.3.4"):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{elsewhere}/")
        with pytest.raises(ConfigError, match="not this machine's; use https"):
            credentials_of()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata.url.replace(HOST, "127.0.0.2"))
    with pytest.raises(BackendUnavailable):
        credentials_of()
