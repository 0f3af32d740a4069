"""AWS's JSON services over our own bounded connection: DynamoDB and SQS are asked by it.

A request is signed here (Signature Version 4: two dozen lines, and importing botocore costs more than ten
times a run's other work); where credentials come from, and the endpoint of a region, stand in
`aws_credentials`. Nothing is tried again but what AWS surely did not do: a request that it refused for
this machine's clock is signed once more by AWS's own, one refused for credentials that expired, with new ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time

from ...errors import BackendUnavailable, ConfigError, printable
from ...lease.clock import SystemClock
from ...lease.server_clock import ServerClock
from ...value import Value
from . import aws_credentials
from .http import Connection, Unanswered
from .stream import tls_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ...lease.clock import Clock
    from ..url import URL
    from .aws_credentials import Credentials
    from .http import Response

    _T = TypeVar("_T")

#: Parameters that every AWS engine's URL takes.
PARAMS = ("region", "endpoint")
#: Error codes, as the services' SDKs know them.
_THROTTLED = (
    *("ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "RequestLimitExceeded"),
    *("RequestThrottled", "RequestThrottledException", "TooManyRequestsException", "SlowDown", "OverLimit"),
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
_UNKNOWN = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken")
_SIGNATURE = ("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "AuthFailure")
_DENIED = (
    "AccessDeniedException",
    "AccessDenied",
    "UnauthorizedOperation",
    "AuthorizationError",
    "KMSAccessDeniedException",
)
_SKEWED = ("RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture")
#: From so many seconds on it is the clock that a signature is refused for; AWS bears 300 or more.
_SKEW = 60.0
_LONGEST_TEXT = 300
#: What a `Date` leaves open, in seconds.
_DATED = 1.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Denied(BackendUnavailable):
    """The credentials are good, and may not do this."""


class Reply(Value):
    """An answer of the service: done, or refused for a reason that the caller said it knows."""

    #: The error's code without its namespace; empty when the request was done.
    code: str
    body: dict[str, Any]
    #: The error's text, for people.
    says: str = ""


class Service:
    """One AWS service in one region, or what stands in for it at an endpoint. Asks nothing before it is used."""

    def __init__(self, url: URL, name: str, target: str, timeout: float) -> None:
        """`name` is the service's in signatures and host names, `target` what its actions are called under.

        Raises ConfigError for a bad region or endpoint in the URL.
        """
        self.name = name
        self._shown = str(url)
        #: What a person should hear of AWS's clock.
        self.notices: list[str] = []
        self.use_clock(SystemClock())
        self._target = target
        self._timeout = timeout
        self._finder = aws_credentials.Finder(
            name, self._shown, region=url.params.get("region"), endpoint=url.params.get("endpoint")
        )
        self._credentials: Credentials | None = None
        self._connection: Connection | None = None
        self._tls: ssl.SSLContext | None = None

    def use_clock(self, clock: Clock) -> None:
        """Measure by `clock` from now on, and know nothing of AWS's."""
        self.clock = clock
        #: AWS's clock, by the `Date` of its answers.
        self.times = ServerClock(self._shown, clock, self.notices, _DATED)
        #: The epoch time less boot time that requests are signed by; None: the wall clock is right.
        self._signing_offset: float | None = None

    def deadline(self) -> float:
        """Return the monotonic time by which a request that begins now must be done."""
        return time.monotonic() + self._timeout

    def call(self, action: str, body: dict[str, Any], deadline: float, known: tuple[str, ...] = ()) -> Reply:
        """Do `action`, signed, by monotonic time `deadline`; return its answer, or an error whose code is `known`.

        Raises ConfigError when there are no credentials or no region, BackendUnavailable for every other error:
        `Unanswered` where the action may have been done.
        """
        skewed = refreshed = False
        while True:
            credentials = self._need_credentials(deadline)
            signed_at, date, response = self._send(action, body, credentials, deadline)
            code, text, answer = self._parsed(response)
            if not code:
                return Reply("", answer)
            if code in known:
                return Reply(code, answer, _printable(credentials.scrub(text)))
            if date is not None and not skewed and self._is_clock(code, text) and abs(date - signed_at) > _SKEW:
                # Refused before anything was done. A machine whose clock is wrong can ask by AWS's.
                self._signing_offset = date - self.clock.now()
                skewed = True
            elif code in _EXPIRED and credentials.renewable and not refreshed:
                self._credentials = None
                refreshed = True
            else:
                raise self._failure(action, code, text, response.status, credentials)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._connection is not None:
            self._connection.close()

    @property
    def region(self) -> str:
        """The region that is asked, by monotonic time limit of one request; raises as `call` does."""
        self._need_credentials(self.deadline())
        return self._finder.region or ""

    @property
    def endpoint(self) -> str:
        """The URL that is asked; raises as `call` does."""
        self._need_credentials(self.deadline())
        return self._finder.endpoint or ""

    @property
    def source(self) -> str:
        """Where the credentials came from, for people; raises as `call` does."""
        return self._need_credentials(self.deadline()).source

    def _need_credentials(self, deadline: float) -> Credentials:
        credentials = self._credentials
        if credentials is None or credentials.expires_at <= self._signing_time() + aws_credentials.EARLY:
            credentials = self._credentials = self._finder.find(deadline)
        return credentials

    def _send(
        self, action: str, body: dict[str, Any], credentials: Credentials, deadline: float
    ) -> tuple[float, float | None, Response]:
        """Return when it was signed and when AWS says it was answered (epoch times), and the answer."""
        connection, path = self._connected()
        data = json.dumps(body, separators=(",", ":")).encode()
        connection.connect(deadline)  # What it takes is none of the doubt about AWS's time.
        signed_at, sent = self._signing_time(), self.clock.now()
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{self._target}.{action}",
            "Host": connection.place,
        }
        headers = sign(headers, path, data, credentials, self._finder.region or "", self.name, signed_at)
        response = connection.request("POST", path, headers, data, deadline)
        date = parse_date(response.headers.get("date", ""))
        if date is not None:
            self.times.observe(sent, self.clock.now(), date)
        return signed_at, date, response

    def _connected(self) -> tuple[Connection, str]:
        secure, host, port, path = aws_credentials.split_endpoint(self._finder.endpoint or "")
        if self._connection is None:
            if secure and self._tls is None:
                self._tls = _tls(self._shown)
            name = f"{self._shown}: {self._finder.endpoint}"
            self._connection = Connection(name, host, port, self._tls if secure else None)
        return self._connection, path

    def _signing_time(self) -> float:
        if self._signing_offset is None:
            return self.clock.wall()
        return self.clock.now() + self._signing_offset

    def _parsed(self, response: Response) -> tuple[str, str, dict[str, Any]]:
        """Return (code, text, body); the code is empty when it was done."""
        try:
            body = json.loads(response.body or b"{}")
        except (ValueError, RecursionError):
            body = None
        if response.status == 200 and isinstance(body, dict):
            return "", "", body
        if not isinstance(body, dict):
            body = {}
            if 200 <= response.status < 500:
                raise Unanswered(f"{self._shown}: does not answer as AWS does (status {response.status})")
        code = str(body.get("__type") or body.get("code") or response.headers.get("x-amzn-errortype", ""))
        code = code.rpartition("#")[2].partition(":")[0].rpartition(".")[2] or f"status {response.status}"
        text = body.get("message") or body.get("Message") or ""
        return code[:100], text if isinstance(text, str) else "", body

    @staticmethod
    def _is_clock(code: str, text: str) -> bool:
        words = ("Signature expired", "Signature not yet current")
        return code in _SKEWED or (code in _SIGNATURE and any(word in text for word in words))

    def _failure(self, action: str, code: str, text: str, status: int, credentials: Credentials) -> BackendUnavailable:
        """Say in one line what AWS refused, and what to do. A signature's error quotes the request: not shown."""
        source, says = credentials.source, _printable(credentials.scrub(text))
        if code in _DENIED:
            return Denied(
                f"{self._shown}: may not {self.name}:{action}: allow it in the IAM policy of these credentials"
                f" ({source}); AWS says: {says or code}"
            )
        if code in _EXPIRED:
            return BackendUnavailable(f"{self._shown}: the credentials expired ({source}): renew them")
        if self._is_clock(code, text):
            return BackendUnavailable(f"{self._shown}: AWS refuses this machine's clock ({code}): set it, as by NTP")
        if code in _SIGNATURE or code in _UNKNOWN or code == "MissingAuthenticationToken":
            return BackendUnavailable(
                f"{self._shown}: AWS does not know these credentials ({code}; {source}): check key, secret and region"
            )
        if code in _THROTTLED:
            return BackendUnavailable(f"{self._shown}: throttled ({code}): {says or 'too many requests'}")
        kind = Unanswered if status >= 500 else BackendUnavailable
        shown = _printable(credentials.scrub(code))
        return kind(f"{self._shown}: {action} failed: {shown}{': ' if says else ''}{says}")


def mid_run(work: Callable[[], _T]) -> _T:
    """Do `work` for a run that goes on: what is missing now may be there again before the lease is over."""
    try:
        return work()
    except ConfigError as error:
        raise BackendUnavailable(str(error)) from error


def sign(
    headers: Mapping[str, str], path: str, body: bytes, credentials: Credentials, region: str, service: str, at: float
) -> dict[str, str]:
    """Return `headers`, of a POST without a query, signed as of epoch time `at`.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    fields = {**headers, "X-Amz-Date": moment}
    if credentials.token:
        fields["X-Amz-Security-Token"] = credentials.token
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in fields.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join(
        ("POST", path, "", *(f"{name}:{value}" for name, value in lines), "", names, hashlib.sha256(body).hexdigest())
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), "sha256").hex()
    fields["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return fields


def parse_date(text: str) -> float | None:
    """Return the epoch time of a `Date` header, None for what is none."""
    words = text.split()
    try:
        day, month, year, hours = int(words[1]), _MONTHS.index(words[2]) + 1, int(words[3]), words[4]
        hour, minute, second = (int(part) for part in hours.split(":"))
    except (IndexError, ValueError):
        return None
    if len(words) != 6 or words[5] != "GMT" or not (1 <= day <= 31 and 2000 <= year < 10000):
        return None
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60):
        return None
    # Days since 1970-01-01, with years that begin in March: the leap day is their last.
    years = year - (month < 3)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return days * 86400.0 + hour * 3600 + minute * 60 + second


def _tls(shown: str) -> ssl.SSLContext:
    """Return the TLS context for AWS: $AWS_CA_BUNDLE, else the system's authorities."""
    bundle = os.environ.get("AWS_CA_BUNDLE")
    try:
        return tls_context(shown, {"ca": bundle} if bundle else {})
    except ConfigError as error:
        raise ConfigError(f"{error}; see AWS_CA_BUNDLE") from None


def _printable(text: str) -> str:
    return printable(text[:_LONGEST_TEXT], " ")
