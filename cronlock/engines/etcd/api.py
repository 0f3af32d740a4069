"""etcd's JSON gateway (``/v3/...``, etcd 3.4 and later): several servers, one asked at a time.

Every answer is checked and bounded: a malformed one raises BackendUnavailable.

If a server does not answer, the request is sent to the next one, so it may be executed twice. A write names the
versions that it was decided on, or the id of a lease, and `Answer.repeated` tells that an earlier attempt may have
taken effect.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable
from ..wire import json_text
from ..wire.http import Connection, Unanswered
from ..wire.stream import (
    ConnectionClosed,
    ServerBusy,
    endpoint,
    protocol_error,
    retry_while_busy,
    take_tls,
    without_secrets,
)
from .messages import PRODUCT, Answer, behind, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..url import URL
    from ..wire.http import Response
    from ..wire.stream import Stream

PORT = 2379
#: The longest answer, in bytes: a page of keys.
_LONGEST_ANSWER = 4 << 20
_LONGEST_MESSAGE = 200
#: Keys that are listed in one answer.
_PAGE = 500

# Codes of gRPC.
_UNKNOWN, _DEADLINE, _DENIED, _UNAVAILABLE = 2, 4, 7, 14
# etcd's messages, the same in all versions; the codes of some changed.
_LEASE_EXISTS = "lease already exists"
_LEASE_NOT_FOUND = "requested lease not found"
_NOT_ENABLED = "authentication is not enabled"
_NO_ROOM = "database space exceeded"
_COMMON_NAME = b"CommonName of client"
# FAILED_PRECONDITION since 3.5: https://github.com/etcd-io/etcd/pull/12985
_LEARNER = "not supported for learner"
# The last one comes if authentication was enabled after it was found disabled here.
_TOKENS = ("invalid auth token", "revision of auth store is old", "user name is empty")
_REMEDIES = (
    (_NO_ROOM, "compact and defragment the servers, then `etcdctl alarm disarm`"),
    ("user name is empty", "it wants a user: write USER:PASSWORD@ in the URL"),
    ("invalid user ID or password", "check user and password in the URL"),
    ("no leader", "too few of its servers see each other"),
    ("corrupt", "see `etcdctl alarm list`"),
    (_LEARNER, "take learners out of the URL, or promote them"),
    ("request is too large", "raise --max-request-bytes of the servers"),
)


class Refusal(BackendUnavailable):
    """The server refused the request."""

    def __init__(self, text: str, code: int, message: str) -> None:
        super().__init__(text)
        self.code = code
        self.message = message

    @property
    def lease_exists(self) -> bool:
        """True if a lease of that id exists already."""
        return _LEASE_EXISTS in self.message

    @property
    def lease_not_found(self) -> bool:
        """True if there is no lease of that id."""
        return _LEASE_NOT_FOUND in self.message

    @property
    def no_room(self) -> bool:
        """True if the server is out of space, and takes no writes."""
        return _NO_ROOM in self.message

    @property
    def is_local(self) -> bool:
        """True if another server may not refuse: this one has no leader, is no voter, or got no answer itself.

        A leader that was cut off gives UNKNOWN for a proposal that no majority accepted.
        """
        about_lease = self.lease_exists or self.lease_not_found
        return (self.code in (_UNAVAILABLE, _DEADLINE, _UNKNOWN) or _LEARNER in self.message) and not about_lease


class Cluster:
    """The servers of one URL."""

    def __init__(self, url: URL) -> None:
        """Raises ConfigError for a bad URL. Sends no request."""
        self._tls = take_tls(url, "prefix")
        url.check_credentials()
        self.name = str(url)
        self._scheme = url.scheme
        self._hosts = url.need_hosts(PORT)
        self._credentials = None if url.user is None else {"name": url.user, "password": url.password}
        self._token: str | None = None
        #: True if a server gave a token for user and password.
        self.auth_enabled = False
        # Nodes start with different servers; a failure moves on to the next one.
        self._turn = time.time_ns() // 1000
        self._server: Server | None = None
        #: True if a server may have executed the request without a reply.
        self._in_doubt = False

    def ask(self, path: str, message: dict[str, Any], deadline: float) -> Answer:
        """Return the answer of the first server that gives one before monotonic time `deadline`."""
        self._in_doubt = False
        answer = retry_while_busy(deadline, lambda: self._ask(path, message, deadline))
        answer.repeated = self._in_doubt
        return answer

    def list_keys(self, prefix: bytes, timeout: float) -> Iterator[bytes]:
        """List the keys that begin with `prefix`, without it; each request ends within `timeout` seconds."""
        first, end, more = prefix, behind(prefix), True
        while more:
            message = {"key": text_of(first), "range_end": text_of(end), "limit": str(_PAGE), "keys_only": True}
            found = self.ask("/v3/kv/range", message, time.monotonic() + timeout).found()
            if not all(first <= one.key < end for one in found):
                # The listing might never end.
                raise protocol_error(self.name, PRODUCT, "keys of another range")
            yield from (one.key[len(prefix) :] for one in found)
            more = len(found) >= _PAGE
            first = found[-1].key + b"\0" if more else first

    @property
    def anonymous(self) -> bool:
        """True if the URL names no user."""
        return self._credentials is None

    def scrub(self, text: str) -> str:
        """Return `text` without password and token, should a server repeat them."""
        return without_secrets(text, (self._credentials or {}).get("password"), self._token)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def server(self, host: str, port: int) -> Server:
        """Return one server, not connected yet."""
        name = f"{self._scheme}://{endpoint(host, port)}"
        return Server(name, Connection(name, host, port, self._tls, longest=_LONGEST_ANSWER), self)

    def beside(self) -> Server:
        """Return the present server with a connection of its own."""
        return self.server(*self._hosts[self._turn % len(self._hosts)])

    def authorization(self, server: Server, deadline: float, *, anew: bool) -> dict[str, str]:
        """Return the header that identifies the user: a token, fetched once, and again (`anew`) after a refusal."""
        if self._credentials is None:
            return {}
        if self._token is None or anew:
            try:
                self._token = server.post("/v3/auth/authenticate", self._credentials, {}, deadline).text("token")
            except Refusal as error:
                if _NOT_ENABLED not in error.message:
                    raise
                self._token = ""  # As etcd's own clients do; the doctor warns.
            else:
                self.auth_enabled = True
        return {"Authorization": self._token} if self._token else {}

    def _ask(self, path: str, message: dict[str, Any], deadline: float) -> Answer:
        """Try each server once; a hung one uses up its share of the time only."""
        failures: list[str] = []
        while True:
            if self._server is None:
                self._server = self.server(*self._hosts[self._turn % len(self._hosts)])
            now = time.monotonic()
            try:
                return self._server.ask(path, message, now + (deadline - now) / (len(self._hosts) - len(failures)))
            except BackendUnavailable as error:
                if isinstance(error, Refusal) and not error.is_local:
                    raise
                failures.append(str(error))
                self._in_doubt |= isinstance(error, (Unanswered, Refusal))
                self.close()
                self._turn += 1
                if len(failures) < len(self._hosts):
                    continue
                if len(failures) == 1:
                    raise
                kind = ServerBusy if isinstance(error, ServerBusy) else BackendUnavailable
                raise kind("; ".join(failures)) from error


class Server:
    """One server and its connection."""

    def __init__(self, name: str, connection: Connection, cluster: Cluster) -> None:
        self.name = name
        self._connection = connection
        self._cluster = cluster
        self._heard = False

    def ask(self, path: str, message: dict[str, Any], deadline: float) -> Answer:
        """Return the answer to `message`, sent as the URL's user. Raises BackendUnavailable."""
        who = self._cluster.authorization(self, deadline, anew=False)
        try:
            return self.post(path, message, who, deadline)
        except Refusal as error:
            if self._cluster.anonymous or not any(text in error.message for text in _TOKENS):
                raise
        # Tokens expire, and a restarted server knows none. A refused request had no effect.
        who = self._cluster.authorization(self, deadline, anew=True)
        return self.post(path, message, who, deadline)

    def get(self, path: str, deadline: float) -> Response:
        """Return the response for `path`, which needs no authentication: versions, metrics."""
        return self._connection.request("GET", path, {}, b"", deadline)

    def post(self, path: str, message: dict[str, Any], who: dict[str, str], deadline: float) -> Answer:
        """Return the answer to `message` with the headers `who`; raise Refusal if the server refuses."""
        headers = {"Content-Type": "application/json", **who}
        try:
            response = self._connection.request("POST", path, headers, json_text.dumps(message), deadline)
        except Unanswered as error:
            if self._heard or not isinstance(error.__cause__, ConnectionClosed) or not self.name.startswith("etcd:"):
                raise
            raise Unanswered(f"{error}; if this port speaks TLS, write etcds://") from error
        self._heard = True
        try:
            answer = json_text.loads(response.body)
        except (ValueError, RecursionError):
            if _COMMON_NAME in response.body:
                raise BackendUnavailable(
                    f"{self.name}: the gateway of servers that ask for users takes no client certificate with a"
                    " CommonName: use one without"
                ) from None
            product = f"{PRODUCT} 3.4 or later with its gateway"
            raise protocol_error(self.name, product, f"status {response.status}") from None
        failed = answer.get("error") if isinstance(answer, dict) else None
        if response.status == 200 and not failed:
            return Answer(self.name, answer)
        raise self._refusal(answer, failed, response.status)

    def follow(self, path: str, message: dict[str, Any], deadline: float) -> Stream:
        """Send `message`; return the stream of its answer, which has a line of JSON for each event."""
        who = self._cluster.authorization(self, deadline, anew=False)
        headers = {"Content-Type": "application/json", **who}
        return self._connection.send("POST", path, headers, json_text.dumps(message), deadline)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self._connection.close()

    def _refusal(self, answer: Any, failed: Any, status: int) -> BackendUnavailable:
        # A stream's error is an object.
        error = Answer(self.name, failed if isinstance(failed, dict) else answer)
        message = error.text("message")
        start = message[:_LONGEST_MESSAGE]
        code = error.number("code") or error.number("grpc_code")
        shown = self._cluster.scrub(message)[:_LONGEST_MESSAGE].removeprefix("etcdserver: ")
        text = f"{self.name}: the server answered {shown!r}" if start else f"{self.name}: status {status}"
        remedies = [remedy for part, remedy in _REMEDIES if part in start]
        if code == _DENIED:
            remedies.append("let the user read and write all keys under the prefix")
        return Refusal("; ".join([text, *remedies]), code, start)
