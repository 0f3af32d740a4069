"""Discovery: sentinels and seed nodes, which know where the masters are.

A discovery node that is down or hangs costs its share of the request's time. redis-py limits each single wait, but
not their sum nor the size of a reply. So a node that keeps sending holds the request beyond its deadline, and the
request fails only then.
"""

from __future__ import annotations

import socket
import ssl
import time

from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import BackendUnavailable, CronlockError
from ..wire.stream import protocol_error
from .resp import PRODUCT, ReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..url import URL

    Credentials = tuple[str | None, str] | None
    Address = tuple[str, int]
    Found = TypeVar("Found")

# The codes that redis-py strips from the texts of these errors.
_CODES = ((redis_errors.NoPermissionError, "NOPERM"), (redis_errors.BusyLoadingError, "LOADING"))
# How errors end if the port speaks TLS and the client does not.
_CLOSED = ("reset by peer", "closed the connection")


class Discovery:
    """Servers that know the addresses of others, queried through redis-py until one replies.

    Every error of redis-py is raised as BackendUnavailable.
    """

    def __init__(self, url: URL, kind: str, addresses: list[Address], login: Credentials, *, tls: bool) -> None:
        self._name = f"{url}: {kind}"
        self._addresses = addresses
        self._login = login
        self._options: dict[str, Any] = {
            "username": login[0] if login else None,
            "password": login[1] if login else None,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
        }
        if tls:
            files = (("ssl_ca_certs", "ca"), ("ssl_certfile", "cert"), ("ssl_keyfile", "key"))
            self._options.update({option: url.params.get(name) for option, name in files})
            # Off by default in redis-py 5.
            self._options.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True)

    def ask(self, query: Callable[[str, Address, dict[str, Any]], Found], deadline: float) -> Found:
        """Return the first result of `query`, which takes a name, an address and redis-py's options.

        Each server may take an equal share of the time that is left; one more share is for the
        request itself.
        """
        failure = BackendUnavailable(f"{self._name}: no answer in time")
        for position, address in enumerate(self._addresses):
            share = (deadline - time.monotonic()) / (len(self._addresses) - position + 1)
            if share <= 0:
                break
            name = f"{self._name} {address[0]}:{address[1]}"
            options = {**self._options, "socket_timeout": share, "socket_connect_timeout": share}
            try:
                return query(name, address, options)
            except BackendUnavailable as error:
                failure = error
            except Exception as error:  # A malicious server can provoke any error in a parser.
                failure = self._failed(name, error)
        raise failure

    def _failed(self, name: str, error: BaseException | None) -> BackendUnavailable:
        # The deepest cause is the most specific. What an error of ours has as its context is no cause of it.
        causes: list[BaseException] = []
        while error is not None and not isinstance(error, CronlockError):
            causes.append(error)
            error = error.__cause__ or error.__context__
        for cause in reversed(causes):
            if isinstance(cause, OSError):
                return BackendUnavailable(f"{name}: {self._network_error(cause)}")
            if isinstance(cause, UnicodeError):
                return BackendUnavailable(f"{name}: cannot find its address: not a host name")
            if isinstance(cause, (redis_errors.RedisError, redis_errors.RedisClusterException)):
                refusal = self._refusal(name, cause)
                if refusal is not None:
                    return refusal
        return protocol_error(name, PRODUCT)

    def _network_error(self, error: OSError) -> str:
        # A server without TLS may take the handshake for a command, and wait for its end.
        if isinstance(error, ssl.SSLError) or "handshake" in str(error):
            hint = "" if "CERTIFICATE" in str(error) else "; if this port has no TLS, leave out tls=1"
            return f"no TLS with the server: {error}{hint}"
        # Before Python 3.10 a socket's time-out is not a TimeoutError.
        if isinstance(error, (TimeoutError, socket.timeout)):
            return "no answer in time"
        if isinstance(error, socket.gaierror):
            return f"cannot find its address: {error.strerror}"
        return self._suspect_tls(error.strerror or str(error))

    def _refusal(self, name: str, error: Exception) -> BackendUnavailable | None:
        if isinstance(error, redis_errors.AuthenticationError):
            if self._login is None:
                return ReplyError("NOAUTH", "").refusal(name)
            return BackendUnavailable(f"{name}: authentication failed: check user and password in the URL")
        if isinstance(error, redis_errors.TimeoutError):
            return BackendUnavailable(f"{name}: no answer in time")
        if isinstance(error, redis_errors.InvalidResponse):
            return protocol_error(name, PRODUCT)
        text = str(error)
        if isinstance(error, redis_errors.ConnectionError) and "closed" in text:
            return BackendUnavailable(f"{name}: {self._suspect_tls('the server closed the connection')}")
        if isinstance(error, redis_errors.RedisClusterException) and "is not enabled" in text:
            return ReplyError("ERR This instance has cluster support disabled", "").refusal(name)
        # Only this text distinguishes the server's error from redis-py's own errors.
        if isinstance(error, (redis_errors.ResponseError, redis_errors.BusyLoadingError)) or "max number" in text:
            codes = [code for kind, code in _CODES if isinstance(error, kind)]
            return ReplyError(" ".join([*codes, text]), self._login[1] if self._login else "").refusal(name)
        return None

    def _suspect_tls(self, text: str) -> str:
        plain = "ssl" not in self._options
        return f"{text}; if this port speaks TLS, add tls=1" if plain and text.endswith(_CLOSED) else text
