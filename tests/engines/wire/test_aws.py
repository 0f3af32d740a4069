"""The code that AWS's engines share: botocore's signatures and endpoints, dates, region and endpoint."""

from __future__ import annotations

import time
from email.utils import formatdate

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronlock.engines.wire.aws_credentials import Credentials, parse_time, split_endpoint, usual_endpoint
from cronlock.engines.wire.aws_signature import Request, parse_date, sign
from cronlock.errors import ConfigError
from labs.servers.aws_gate import Gate

from .aws_services import _environment as _environment
from .aws_services import _keys as _keys
from .aws_services import _server as _server
from .aws_services import credentials_of, service_of

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
    assert service_of().endpoint == "https://dynamodb.eu-west-1.amazonaws.com"
    assert service_of("dynamodb://table?region=cn-north-1").endpoint == "https://dynamodb.cn-north-1.amazonaws.com.cn"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    assert service_of().endpoint == "https://dynamodb.us-gov-west-1.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    assert service_of().endpoint == "http://localhost:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://localhost:3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:2")
    assert service_of().endpoint == "http://localhost:2"
    assert service_of("dynamodb://table?endpoint=http://localhost:4").endpoint == "http://localhost:4"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert service_of().endpoint == "https://dynamodb.us-gov-west-1.amazonaws.com"


@pytest.mark.usefixtures("keys")
def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region nothing is asked, and it is said how to give one; a stand-in needs none."""
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ConfigError, match=r"no region: add \?region="):
        credentials_of()
    assert service_of("dynamodb://table?endpoint=http://localhost:4").region == "us-east-1"


@pytest.mark.usefixtures("keys")
def test_special_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """FIPS and dual-stack endpoints are botocore's."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert service_of().endpoint == "https://dynamodb-fips.us-east-1.amazonaws.com"
