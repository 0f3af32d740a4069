"""A service of AWS over our own bounded connection, for `aws_json` (DynamoDB, SQS) and S3.

`aws_credentials` finds the credentials and the region's endpoint. Only requests that AWS surely did not carry out are
repeated: once by AWS's clock if it refused the signature for this machine's clock, once with new credentials if they
had expired, and while it throttles, since many nodes may ask in the same second.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError, printable
from ...lease.clock import SystemClock
from ...lease.server_clock import ServerClock
from ...system import os
from ...value import Value
from . import aws_credentials
from .aws_signature import Request, parse_date, sign
from .http import Connection, Unanswered
from .stream import ServerBusy, retry_while_busy, tls_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ...lease.clock import Clock
    from ..url import URL
    from .aws_credentials import Credentials
    from .http import Response
    from .tls import Context

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
#: The resolution of a `Date`, in seconds.
_DATED = 1.0


class Denied(BackendUnavailable):
    """The credentials are good, and may not do this."""


class Answer(Value):
    """Done, or refused for a reason that the caller said it knows."""

    #: The error's code without its namespace; empty when the request was done.
    code: str
    response: Response
    #: The error's text, for people.
    says: str = ""
    #: The body as the service's protocol decodes it.
    content: Any = None


class Service:
    """One AWS service in one region, or what stands in for it at an endpoint. Asks nothing before it is used."""

    def __init__(self, url: URL, name: str, timeout: float) -> None:
        """`name` is the service's in signatures and host names.

        Raises ConfigError for a bad region or endpoint in the URL.
        """
        self.name = name
        self._shown = str(url)
        #: Warnings about AWS's clock.
        self.notices: list[str] = []
        self.use_clock(SystemClock())
        self.timeout = timeout
        self._finder = aws_credentials.Finder(
            name, self._shown, region=url.params.get("region"), endpoint=url.params.get("endpoint")
        )
        self._credentials: Credentials | None = None
        self._connection: Connection | None = None
        self._root = "/"
        self._tls: Context | None = None

    def use_clock(self, clock: Clock) -> None:
        """Measure by `clock` from now on, and know nothing of AWS's."""
        self.clock = clock
        #: AWS's clock, by the `Date` of its answers.
        self.times = ServerClock(self._shown, clock, self.notices, _DATED)
        #: The epoch time less boot time that requests are signed by; None: the wall clock is right.
        self._signing_offset: float | None = None

    def deadline(self) -> float:
        """Return the monotonic time by which a request that begins now must be done."""
        return time.monotonic() + self.timeout

    def ask(
        self, action: str, request: Request, headers: Mapping[str, str], deadline: float, known: tuple[str, ...] = ()
    ) -> Answer:
        """Send `request`, signed, by monotonic time `deadline`; return its answer, or an error whose code is `known`.

        `action` is what policies call it. Raises ConfigError when there are no credentials or no region,
        BackendUnavailable for every other error: `Unanswered` where the action may have been done.
        """
        return retry_while_busy(deadline, lambda: self._ask(action, request, headers, deadline, known))

    def _ask(
        self, action: str, request: Request, headers: Mapping[str, str], deadline: float, known: tuple[str, ...]
    ) -> Answer:
        skewed = refreshed = False
        while True:
            credentials = self._need_credentials(deadline)
            signed_at, date, response = self._send(request, headers, credentials, deadline)
            code, text, content = self._read(response)
            if not code or code in known:
                return Answer(code, response, _printable(credentials.scrub(text)), content)
            if date is not None and not skewed and self._is_clock(code, text) and abs(date - signed_at) > _SKEW:
                # The request was not carried out. A machine with a wrong clock can sign by AWS's.
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
        """The region that is asked, by monotonic time limit of one request; raises as `ask` does."""
        self._need_credentials(self.deadline())
        return self._finder.region or ""

    @property
    def endpoint(self) -> str:
        """The URL that is asked; raises as `ask` does."""
        self._need_credentials(self.deadline())
        return self._finder.endpoint or ""

    @property
    def source(self) -> str:
        """The source of the credentials, for people; raises as `ask` does."""
        return self._need_credentials(self.deadline()).source

    def _need_credentials(self, deadline: float) -> Credentials:
        credentials = self._credentials
        if credentials is None or credentials.expires_at <= self._signing_time() + aws_credentials.EARLY:
            credentials = self._credentials = self._finder.find(deadline)
        return credentials

    def _send(
        self, request: Request, headers: Mapping[str, str], credentials: Credentials, deadline: float
    ) -> tuple[float, float | None, Response]:
        """Return when it was signed and when AWS says it was answered (epoch times), and the answer."""
        connection = self._connected()
        request = request.but(path=self.path(request.path))
        connection.connect(deadline)  # Connecting must not count into the bounds of AWS's time.
        signed_at, sent = self._signing_time(), self.clock.now()
        headers = {**headers, "Host": connection.authority}
        headers = sign(request, headers, credentials, self._finder.region or "", self.name, signed_at)
        response = connection.request(request.method, request.target, headers, request.body, deadline)
        date = parse_date(response.headers.get("date", ""))
        if date is not None:
            self.times.observe(sent, self.clock.now(), date)
        return signed_at, date, response

    def _connected(self) -> Connection:
        if self._connection is None:
            secure, host, port, root = aws_credentials.split_endpoint(self._finder.endpoint or "")
            host, self._root = self.locate(host, root)
            if secure and self._tls is None:
                self._tls = _tls(self._shown)
            name = f"{self._shown}: {self._finder.endpoint}"
            self._connection = Connection(name, host, port, self._tls if secure else None)
        return self._connection

    def locate(self, host: str, root: str) -> tuple[str, str]:
        """Return host and path that requests go to where the endpoint has these."""
        return host, root

    def path(self, below: str) -> str:
        """Return the whole path of one that is `below` the endpoint's, which is known once it was connected to."""
        return self._root.rstrip("/") + below if below else self._root

    def _signing_time(self) -> float:
        if self._signing_offset is None:
            return self.clock.wall()
        return self.clock.now() + self._signing_offset

    def _read(self, response: Response) -> tuple[str, str, Any]:
        """Return code and text of an error, the code empty when it was done, and what the protocol makes of the body.

        Raises Unanswered for nonsense.
        """
        raise NotImplementedError

    @staticmethod
    def _is_clock(code: str, text: str) -> bool:
        words = ("Signature expired", "Signature not yet current")
        return code in _SKEWED or (code in _SIGNATURE and any(word in text for word in words))

    def _failure(self, action: str, code: str, text: str, status: int, credentials: Credentials) -> BackendUnavailable:
        """Say in one line what AWS refused, and what to do. A signature's error quotes the request: not shown."""
        source, says = credentials.source, _printable(credentials.scrub(text))
        if code in _DENIED:
            return Denied(
                f"{self._shown}: no permission for {self.name}:{action}; allow it in the IAM policy of the credentials"
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
            return ServerBusy(f"{self._shown}: throttled ({code}): {says or 'too many requests'}")
        kind = Unanswered if status >= 500 else BackendUnavailable
        shown = _printable(credentials.scrub(code))
        return kind(f"{self._shown}: {action} failed: {shown}{': ' if says else ''}{says}")


def mid_run(work: Callable[[], _T]) -> _T:
    """Do `work` for a run that goes on: what is missing now may be there again before the lease is over."""
    try:
        return work()
    except ConfigError as error:
        raise BackendUnavailable(str(error)) from error


def _tls(shown: str) -> Context:
    """Return the TLS context for AWS: $AWS_CA_BUNDLE, else the system's authorities."""
    bundle = os.environ.get("AWS_CA_BUNDLE")
    try:
        return tls_context(shown, {"ca": bundle} if bundle else {}, late=True)
    except ConfigError as error:
        raise ConfigError(f"{error}; see AWS_CA_BUNDLE") from None


def _printable(text: str) -> str:
    return printable(text[:_LONGEST_TEXT], " ")
