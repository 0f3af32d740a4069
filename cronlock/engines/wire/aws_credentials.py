"""AWS credentials, region and endpoint, found in the order of the AWS tools.

This module reads the three usual sources: the environment, a container's role and an instance's role. All others
(profiles, single sign-on, web identity, assumed roles, processes) are left to botocore in a process of its own
(`aws_botocore`), since botocore has no time limit and takes forty megabytes. It is asked as soon as anything in the
environment or on the disk could change its answer.
"""

from __future__ import annotations

import sys
import time

from ...errors import BackendUnavailable, ConfigError
from ...system import os
from ...value import Value
from ..url import is_port
from . import json_text
from .http import Connection, Response, Unanswered
from .stream import is_loopback, tls_context, without_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Credentials are refreshed so many seconds before they expire.
EARLY = 60.0
#: The time limit of a request to the metadata service, in seconds: it is near, or does not exist.
_METADATA_LIMIT = 1.0
_METADATA = "http://169.254.169.254"
_METADATA_IPV6 = "http://[fd00:ec2::254]"
_CONTAINER = "http://169.254.170.2"
#: Hosts of containers' credentials that may do without TLS.
_CONTAINER_HOSTS = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1")
# Variables and files by which botocore may find something else than the role of container or instance.
_VARIABLES = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CREDENTIAL_FILE"),
    *("BOTO_CONFIG", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
)
_FILES = ("~/.aws/config", "~/.aws/credentials", "/etc/boto.cfg", "~/.boto")
_SPECIAL_ENDPOINTS = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
#: Beginning of a region's name -> what its host names end with; tests compare it with botocore's rules.
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("", "amazonaws.com"),
)
_LONGEST_ANSWER = 1 << 17

_NONE = (
    "no AWS credentials: give the machine a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    " (cron starts jobs with a small environment)"
)


class Credentials(Value):
    """A key and its secret, which no text ever shows."""

    access_key: str
    secret: str
    token: str | None
    #: Their source, for people.
    source: str
    #: Epoch time, AWS's.
    expires_at: float = float("inf")
    #: Whether looking again may find newer ones.
    renewable: bool = True

    def __repr__(self) -> str:
        """Return the source only."""
        return f"Credentials({self.source})"

    def scrub(self, text: str) -> str:
        """Return `text` without secret and token, should a server repeat them."""
        return without_secrets(text, self.secret, self.token)


class Finder:
    """Finds credentials, and with the first of them region and endpoint."""

    def __init__(self, service: str, shown: str, *, region: str | None, endpoint: str | None) -> None:
        """`region` and `endpoint` are the URL's. Raises ConfigError for bad ones."""
        environment = os.environ
        self._service = service
        self._shown = shown
        # An empty variable counts as not set, as it does for the AWS tools.
        self.region = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None
        ignored = _is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        configured = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environment.get("AWS_ENDPOINT_URL")
        self.endpoint = endpoint or (None if ignored else configured) or None
        if self.region is not None:
            self._check_region()
        if self.endpoint is not None:
            self._split(self.endpoint)

    def find(self, deadline: float) -> Credentials:
        """Return credentials by monotonic time `deadline`; from then on `region` and `endpoint` are known.

        Raises ConfigError if there are none, BackendUnavailable if their source does not answer.
        """
        if self.endpoint is None and any(map(_is_true, _SPECIAL_ENDPOINTS)):
            found = self._by_botocore(deadline)
        else:
            found = self._from_environment(deadline) or self._from_role(deadline)
        self._complete()
        return found

    def _from_environment(self, deadline: float) -> Credentials | None:
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not key or not secret:
            if key:
                raise ConfigError(f"{self._shown}: AWS_SECRET_ACCESS_KEY is missing in the environment")
            return None
        token = os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN") or None
        if self.region is None and _has_hints():
            # The profile may have the region, and an endpoint.
            self._by_botocore(deadline)
        return Credentials(key, secret, token, "environment", renewable=False)

    def _from_role(self, deadline: float) -> Credentials:
        if _has_hints():
            return self._by_botocore(deadline)
        relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        full = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if relative or full:
            return self._from_container(f"{_CONTAINER}{relative}" if relative else full or "", deadline)
        if _is_true("AWS_EC2_METADATA_DISABLED"):
            raise ConfigError(f"{self._shown}: {_NONE}")
        return self._from_instance(deadline)

    def _from_container(self, url: str, deadline: float) -> Credentials:
        """Ask the agent of ECS or EKS, or what AWS_CONTAINER_CREDENTIALS_FULL_URI names."""
        secure, host, port, path = self._split(url, "AWS_CONTAINER_CREDENTIALS_FULL_URI", query=True)
        if not secure and host not in _CONTAINER_HOSTS and not is_loopback(host):
            raise ConfigError(
                f"{self._shown}: AWS_CONTAINER_CREDENTIALS_FULL_URI: {host!r} is not this machine's; use https"
            )
        headers, file = {"Accept": "application/json"}, os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        if file:
            try:
                with open(file, encoding="ascii") as opened:
                    token = opened.read(1 << 16).strip()
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{self._shown}: cannot read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {error}"
                ) from None
        if token:
            headers["Authorization"] = token
        tls = tls_context(self._shown, {}, late=True) if secure else None
        connection = Connection(f"{self._shown}: container credentials", host, port, tls, longest=_LONGEST_ANSWER)
        try:
            response = connection.request("GET", path, headers, b"", _soon(deadline, 2 * _METADATA_LIMIT))
        finally:
            connection.close()
        return self._from_json(response, "container role")

    def _from_instance(self, deadline: float) -> Credentials:
        """Ask the instance metadata service, by its second version where it has that."""
        ipv6 = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or (_METADATA_IPV6 if ipv6 else _METADATA)
        _, host, port, path = self._split(base, "AWS_EC2_METADATA_SERVICE_ENDPOINT")
        connection = Connection(f"{self._shown}: instance metadata", host, port, longest=_LONGEST_ANSWER)
        root = path.rstrip("/") + "/latest/"
        headers: dict[str, str] = {}

        def ask(name: str, method: str = "GET", more: Mapping[str, str] = headers) -> Response:
            return connection.request(method, root + name, more, b"", _soon(deadline, _METADATA_LIMIT))

        def line(name: str) -> str:
            """Return what there is of that name, empty if it is not there. Whatever else is said may pass.

            botocore takes all of it for no credentials; but a run that comes while the service is busy is an outage.
            """
            response = ask(name)
            if response.status not in (200, 404):
                why = "; in a container, let its tokens go further: a hop limit of 2" if response.status == 401 else ""
                raise BackendUnavailable(f"{self._shown}: instance metadata: status {response.status}{why}")
            return _line(response) if response.status == 200 else ""

        try:
            try:
                token = ask("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
                if token.status == 200:
                    headers["X-aws-ec2-metadata-token"] = _line(token)
            except Unanswered:
                pass  # A hop too far for an answer with a token; to ask without one may be allowed.
            role = line("meta-data/iam/security-credentials/")
            if not role:
                raise ConfigError(f"{self._shown}: {_NONE} (instance metadata has no role)")
            response = ask(f"meta-data/iam/security-credentials/{role}")
            if self.region is None:
                self.region = line("meta-data/placement/region") or None
        except BackendUnavailable as error:
            # Outside AWS there is no such service. On AWS it may be late after a boot.
            raise BackendUnavailable(f"{error}; {_NONE}") from error
        finally:
            connection.close()
        return self._from_json(response, "instance role")

    def _from_json(self, response: Response, source: str) -> Credentials:
        try:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            fields = json_text.loads(response.body)
            code = fields.get("Code", "Success")
            if code != "Success":
                raise ValueError(f"it says {str(code)[:60]!r}")
            return _credentials(fields, source)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # The text of a KeyError is the field's name.
            raise BackendUnavailable(f"{self._shown}: no credentials from the {source}: {error}") from None

    def _by_botocore(self, deadline: float) -> Credentials:
        """Let botocore look, in a process that does not outlive `deadline`."""
        from . import spawn

        left = deadline - time.monotonic()
        request = {"service": self._service, "region": self.region, "endpoint": self.endpoint, "limit": max(left, 0.1)}
        # It finds what this process would, and what the system's Python has: a package of ours starts without that.
        code = f"import sys; sys.path[:0] = {sys.path!r}; from cronlock.engines.wire.aws_botocore import main; main()"
        found = spawn.ask([sys.executable, "-c", code], json_text.dumps(request), _LONGEST_ANSWER, deadline)
        if found is None:
            raise BackendUnavailable(f"{self._shown}: no AWS credentials in time; see --backend-timeout")
        try:
            fields = json_text.loads(found)
            if fields.get("missing"):
                raise ConfigError(f"{self._shown}: {_NONE}")
            if fields.get("error"):
                kind = BackendUnavailable if fields.get("passing") else ConfigError
                raise kind(f"{self._shown}: no AWS credentials: {str(fields['error'])[:300]}")
            self.region = self.region or fields.get("region")
            self.endpoint = self.endpoint or fields.get("endpoint")
            return _credentials(fields, str(fields["source"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackendUnavailable(f"{self._shown}: botocore could not look for credentials: {error!r}") from None

    def _complete(self) -> None:
        if self.region is None:
            # A stand-in on this network does not care.
            if self.endpoint is None:
                raise ConfigError(f"{self._shown}: no region: add ?region=NAME to the URL, or set AWS_REGION")
            self.region = "us-east-1"
        self._check_region()
        if self.endpoint is None:
            self.endpoint = usual_endpoint(self._service, self.region)
        self._split(self.endpoint)

    def _split(self, url: str, name: str = "", *, query: bool = False) -> tuple[bool, str, int, str]:
        """Return the parts of `url`; raise ConfigError, which says where it is from, if it has none."""
        try:
            return split_endpoint(url, query=query)
        except ValueError as error:
            raise ConfigError(f"{self._shown}: {name or f'endpoint {url[:80]!r}'}: {error}") from None

    def _check_region(self) -> None:
        region = self.region or ""
        plain = region.isascii() and region.replace("-", "").isalnum() and region == region.lower()
        if not plain or len(region) > 40 or region.startswith("-"):
            raise ConfigError(f"{self._shown}: {region[:60]!r} is no region; write one such as eu-west-1")


def usual_endpoint(service: str, region: str) -> str:
    """Return the URL of a service in a region, whatever partition that is in."""
    suffix = next(suffix for start, suffix in _SUFFIXES if region.startswith(start))
    return f"https://{service}.{region}.{suffix}"


def split_endpoint(url: str, *, query: bool = False) -> tuple[bool, str, int, str]:
    """Return (whether TLS, host, port, path) of an HTTP URL; raise ValueError for another."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError("write http://HOST:PORT or https://HOST")
    if any(not "!" <= letter <= "~" for letter in rest) or "@" in rest or "#" in rest or ("?" in rest and not query):
        raise ValueError("it has a user, a query or a strange character")
    authority, slash, path = rest.partition("/")
    if authority.startswith("["):
        host, bracket, end = authority[1:].partition("]")
        if not bracket or (end and not end.startswith(":")):
            raise ValueError("write [ADDRESS]:PORT")
        colon, port = end[:1], end[1:]
    else:
        host, colon, port = authority.partition(":")
    if not host:
        raise ValueError("the host is missing")
    if colon and not is_port(port):
        raise ValueError("bad port")
    return scheme == "https", host, int(port) if colon else (443 if scheme == "https" else 80), slash + path or "/"


def parse_time(text: str) -> float:
    """Return the epoch time of an ISO 8601 time in UTC; raise ValueError for another text."""
    import calendar

    moment = text.strip().partition(".")[0].rstrip("Z").replace("+00:00", "")
    try:
        return float(calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        # Its own text has all of what is no time.
        raise ValueError(f"no time: {text[:40]!r}") from None


def _credentials(fields: dict[str, Any], source: str) -> Credentials:
    key, secret, token = fields["AccessKeyId"], fields["SecretAccessKey"], fields.get("Token")
    texts = [key, secret, *([] if token is None else [token])]
    if not all(isinstance(text, str) and text and all("!" <= one <= "~" for one in text) for text in texts):
        raise ValueError("they are no text")
    expiration = fields.get("Expiration")
    expires_at = float("inf") if expiration is None else parse_time(str(expiration))
    return Credentials(key, secret, token, source, expires_at=expires_at)


def _has_hints() -> bool:
    """Whether botocore may find something else than the role of container or instance."""
    if any(os.environ.get(name) for name in _VARIABLES):
        return True
    return any(os.path.exists(os.path.expanduser(name)) for name in _FILES)


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"


def _soon(deadline: float, limit: float) -> float:
    return min(deadline, time.monotonic() + limit)


def _line(response: Response) -> str:
    """Return the first line of an answer that is a name or a token."""
    text = response.body.decode("ascii", "replace").strip().partition("\n")[0].strip()
    return text if all("!" <= letter <= "~" for letter in text) else ""
