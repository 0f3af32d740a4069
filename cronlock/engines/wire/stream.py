"""A TCP, TLS or Unix-socket stream with one time limit, for the protocols that cronlock speaks itself.

Built on the interpreter's ``_socket``: ``import socket`` costs more than a request does.
"""

from __future__ import annotations

import _socket
import errno
import select
import time

from ...errors import BackendUnavailable, ConfigError
from ...system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from ..url import URL
    from . import tls_private
    from .tls import Context

    _T = TypeVar("_T")

TLS_PARAMS = ("ca", "cert", "key")
#: Seconds, give or take half of them at random: what the first attempt to connect is given, and by how much
#: that grows from one to the next.
_PATIENCE = 0.3
#: Pauses before a busy server is asked again, likewise: from, and up to.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 0.8
_GROWTH = 1.5
_SHORTEST_SECRET = 4
# A full backlog of a Unix socket, and no local port left.
_TRY_AGAIN = (errno.EAGAIN, errno.EADDRNOTAVAIL)


class ServerBusy(BackendUnavailable):
    """The server turned a request away, for want of room or since it is not ready yet: nothing was done."""


class ConnectionClosed(BackendUnavailable):
    """The server closed or reset the connection."""


def without_secrets(text: str, *secrets: str | None) -> str:
    """Return `text` without `secrets`, should a server that was shown them repeat one.

    Very short ones stay: to take them out of the middle of words would tell them.
    """
    for secret in secrets:
        if secret is not None and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def retry_while_busy(deadline: float, work: Callable[[], _T]) -> _T:
    """Return what `work` returns; call it again while it raises ServerBusy and monotonic time `deadline` is not near.

    The pauses are random, since a busy server usually turns away many clients at the same moment. Where the deadline
    ends the last attempt, its error says why there were others.
    """
    pause = _FIRST_PAUSE
    refusal: ServerBusy | None = None
    while True:
        try:
            return work()
        except ServerBusy as error:
            seconds = pause * (0.5 + _noise())
            if time.monotonic() + seconds >= deadline:
                raise
            refusal = error
        except BackendUnavailable as error:
            if refusal is not None and time.monotonic() >= deadline:
                error.args = (f"{error}; before that: {refusal}",)
            raise
        time.sleep(seconds)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def resolve(name: str, host: str, port: int | None = None) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
    """Return what `getaddrinfo` says of `host`; BackendUnavailable, which `name` begins, where it has no address."""
    try:
        # As text, even "127.0.0.1" would have the interpreter import its IDNA codec.
        return _socket.getaddrinfo(host.encode("ascii") if host.isascii() else host, port, 0, _socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        # A ValueError is what a name gives that cannot be one.
        reason = getattr(error, "strerror", None) or "not a host name"
        raise BackendUnavailable(f"{name}: cannot find the address of {host!r}: {reason}") from error


def endpoint(host: str, port: int) -> str:
    """Return a server's address as URLs and messages have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_turn(addresses: Sequence[_T], deadline: float) -> Iterator[tuple[_T, float]]:
    """Yield each of `addresses` with the monotonic time until which it may be tried: one that hangs costs its share."""
    for position, address in enumerate(addresses):
        now = time.monotonic()
        yield address, now + (deadline - now) / (len(addresses) - position)


def protocol_error(
    name: str, product: str, fault: str = "", kind: type[BackendUnavailable] = BackendUnavailable
) -> BackendUnavailable:
    """Return the error for a reply of the server `name` that no `product` would send; `fault` is what is wrong."""
    return kind(f"{name}: unexpected reply{f' ({fault})' if fault else ''}; is this really {product}?")


def is_loopback(host: str) -> bool:
    """Whether `host` is an IPv4 address of this machine, and no name that begins like one."""
    try:
        return _socket.inet_pton(_socket.AF_INET, host)[0] == 127
    except OSError:
        return False


def take_tls(url: URL, *known: str) -> Context | None:
    """Check the URL's parameters: those `known`, and TLS files if it asks for TLS; return the context for that."""
    params = url.take_params((*known, *TLS_PARAMS) if url.secure else known)
    return tls_context(str(url), params, late=True) if url.secure else None


def tls_context(url_text: str, params: dict[str, str], *, late: bool = False, public: bool = False) -> Context:
    """Return what `wire.tls.make_context` does, which is loaded for it."""
    try:
        from .tls import make_context

        return make_context(url_text, params, late=late, public=public)
    except ImportError:
        raise ConfigError(f"{url_text}: TLS needs the module ssl, which this Python was built without") from None


class Stream:
    """One connection. Any failure raises BackendUnavailable and leaves the connection unusable."""

    def __init__(self, name: str, deadline: float) -> None:
        self._name = name
        #: Monotonic time by which all that is asked must be done.
        self._deadline = deadline
        self._socket: _socket.socket | tls_private.Secured | None = None

    @classmethod
    def connect_tcp(cls, name: str, host: str, port: int, deadline: float, tls: Context | None = None) -> Stream:
        """Connect to the first address of `host` that answers, before monotonic time `deadline`.

        One that does not answer at all costs its share of the time only.
        """
        stream = cls(name, deadline)
        addresses = resolve(name, host, port)
        failure: BackendUnavailable | None = None
        for (family, kind, protocol, _, address), share in in_turn(addresses, deadline):
            stream.limit(share)
            try:
                stream._open(family, kind, protocol, address)
                if tls is not None:
                    try:
                        stream.start_tls(tls, host)
                    except BackendUnavailable as error:
                        from .tls import has_read_bundle

                        if not has_read_bundle(tls, error):
                            raise
                        stream._open(family, kind, protocol, address)
                        stream.start_tls(tls, host)
                stream.limit(deadline)
                return stream
            except BackendUnavailable as error:
                stream.close()
                failure = error
        assert failure is not None  # getaddrinfo raises rather than return nothing
        raise failure

    @classmethod
    def connect_unix(cls, name: str, path: str, deadline: float) -> Stream:
        """Connect to the Unix socket at `path`."""
        stream = cls(name, deadline)
        stream._open(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, path)
        return stream

    def limit(self, deadline: float) -> None:
        """Let what is asked from now on be done by monotonic time `deadline`."""
        self._deadline = deadline

    def send(self, data: bytes) -> None:
        """Send all of `data`. That the server hung up shows in `receive`, behind what it said before."""
        try:
            self._timed().sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # "Too many connections", perhaps, which is still there to be read.
        except OSError as error:
            raise self._failed(error) from error

    def receive(self) -> bytes:
        """Return the next bytes, at least one; the end of the stream is a failure."""
        try:
            data = self._timed().recv(65536)
        except OSError as error:
            raise self._failed(error) from error
        if not data:
            raise ConnectionClosed(f"{self._name}: the server closed the connection")
        return data

    def quiet(self) -> bool:
        """Tell whether an idle connection still stands: the peer neither hung up nor said a word."""
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        assert self._socket is not None
        return self._socket.fileno()

    def buffers(self) -> bool:
        """Whether bytes were taken from the descriptor that are still to be received: TLS can."""
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def certificate(self) -> dict[str, object]:
        """Return what the server's certificate says, as `ssl` has it; empty where it was not looked at."""
        peer = getattr(self._socket, "getpeercert", None)
        return dict(peer() or {}) if peer is not None else {}

    def peer(self) -> bytes | None:
        """Return the server's certificate as it was sent, verified or not; None without TLS."""
        peer = getattr(self._socket, "getpeercert", None)
        return None if peer is None else bytes(peer(True) or b"")

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._socket is not None:
            try:
                self._socket.close()
            except OSError:
                pass  # The descriptor is closed even so.
            self._socket = None

    def _open(self, family: int, kind: int, protocol: int, address: tuple[object, ...] | str) -> None:
        """Connect, by several attempts if need be.

        A server whose backlog is full drops the request, and the kernel repeats it after exactly 1 s, for all clients
        at once: another attempt is made sooner, at a random moment.
        """
        patience = _PATIENCE
        while True:
            left = self._left()
            share = left if family == _socket.AF_UNIX else patience * (0.5 + _noise())
            try:
                self._socket = _socket.socket(family, kind, protocol)
                if family != _socket.AF_UNIX:
                    # A request is one small packet; do not let it wait for another.
                    self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                self._socket.settimeout(min(left, share))
                self._socket.connect(address)
                return
            except FileNotFoundError as error:
                raise BackendUnavailable(f"{self._name}: no socket at {address}; is the server running?") from error
            except (TimeoutError, _socket.timeout) as error:
                # The kernel's ETIMEDOUT is a TimeoutError, too.
                if share >= left or error.errno is not None:
                    raise self._failed(error) from error
            except OSError as error:
                raise self._failed(error) from error
            self.close()
            patience *= _GROWTH

    def start_tls(self, context: Context, host: str) -> None:
        """Speak TLS from now on with the server, which is to prove that it is `host`."""
        from . import tls

        plain = self._timed()
        assert isinstance(plain, _socket.socket)
        self._socket = None
        try:
            self._socket = tls.start(context, plain, host)
        except (OSError, ValueError) as error:
            plain.close()
            raise BackendUnavailable(f"{self._name}: no TLS with the server: {tls.reason(error)}") from error

    def _timed(self) -> _socket.socket | tls_private.Secured:
        assert self._socket is not None
        self._socket.settimeout(self._left())
        return self._socket

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise BackendUnavailable(f"{self._name}: no answer in time")
        return left

    def _failed(self, error: OSError) -> BackendUnavailable:
        # Before Python 3.10 a socket's time-out is not a TimeoutError.
        if isinstance(error, (TimeoutError, _socket.timeout)):
            return BackendUnavailable(f"{self._name}: no answer in time")
        if isinstance(error, ConnectionRefusedError):
            return BackendUnavailable(
                f"{self._name}: connection refused: check host and port, and that the server is up"
            )
        if isinstance(error, ConnectionResetError):
            return ConnectionClosed(f"{self._name}: {error.strerror}")
        if error.errno in _TRY_AGAIN:
            return ServerBusy(f"{self._name}: busy: {error.strerror}")
        return BackendUnavailable(f"{self._name}: {error.strerror or error}")


def _noise() -> float:
    """Return a random number from 0 to 1."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
