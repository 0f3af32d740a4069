"""AWS's signatures of requests (version 4), and the dates of its replies.

Two dozen lines: importing botocore for them costs more than ten times a run's other work.
"""

from __future__ import annotations

import time

from ...value import Value
from .hashes import hmac_sha256, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .aws_credentials import Credentials

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Request(Value):
    """A request without its headers."""

    method: str
    #: Path and query, percent-encoded, the query's parameters sorted by name. To `Service.ask` the path is below the
    #: endpoint's, and empty for that itself.
    path: str
    query: str = ""
    body: bytes = b""

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def sign(
    request: Request, headers: Mapping[str, str], credentials: Credentials, region: str, service: str, at: float
) -> dict[str, str]:
    """Return `headers` of a request signed as of epoch time `at`; they include Host.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    digest = sha256(request.body).hexdigest()
    fields = {**headers, "X-Amz-Date": moment}
    if service == "s3":  # The one service that wants to be told.
        fields["X-Amz-Content-Sha256"] = digest
    if credentials.token:
        fields["X-Amz-Security-Token"] = credentials.token
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in fields.items())
    names = ";".join(name for name, _ in lines)
    listed = (f"{name}:{value}" for name, value in lines)
    canonical = "\n".join((request.method, request.path, request.query, *listed, "", names, digest))
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac_sha256(key, part.encode())
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    signature = hmac_sha256(key, text.encode()).hex()
    fields["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return fields


def quote(text: str, kept: str = "") -> str:
    """Return `text` with all but letters, digits, ``-._~`` and what is `kept` as %XX of its UTF-8 bytes."""
    plain = _UNRESERVED | frozenset(kept.encode())
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def parse_date(text: str) -> float | None:
    """Return the epoch time of a `Date` header; None for a malformed one."""
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
