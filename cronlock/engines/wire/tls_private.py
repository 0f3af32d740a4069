"""TLS of a client by the interpreter's private ``_ssl``, set up as `ssl.create_default_context` does.

`ssl` adds a hundred enums to it, a socket and much that servers need, and takes as long to import as a bare
interpreter to start. What is verified, OpenSSL verifies either way. Importing this module raises ImportError or
AttributeError where `_ssl` is another than known here; then `.tls` uses `ssl`.
"""

from __future__ import annotations

import _socket
import _ssl
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: `Context`'s and that of `ssl`.
    AnyContext = _ssl._SSLContext
    Plain = _socket.socket

if sys.version_info >= (3, 15):
    raise ImportError("not tried with this one")

#: A certificate is not good, or not for the server.
CertificateError = _ssl.SSLCertVerificationError
_Error, _END = _ssl.SSLError, _ssl.SSL_ERROR_EOF
_CLIENT, _REQUIRED = _ssl.PROTOCOL_TLS_CLIENT, _ssl.CERT_REQUIRED
_OLDEST = _ssl.PROTO_TLSv1_2
#: What `ssl` is strict in from Python 3.13 on.
_STRICT = _ssl.VERIFY_X509_STRICT | _ssl.VERIFY_X509_PARTIAL_CHAIN if sys.version_info >= (3, 13) else 0
#: Returns two pairs, of bundle and directory: the variable that names the system's, and the usual one.
get_default_verify_paths = _ssl.get_default_verify_paths


class _Socket(_socket.socket):
    """A socket to which `_ssl` can refer."""

    __slots__ = ("__weakref__",)


class Context(_ssl._SSLContext):
    """What a client asks of servers: a certificate that is good for the server's name, and TLS 1.2 or later."""

    def __new__(cls) -> Context:
        """Raises ImportError unless it verifies servers."""
        made: Context = super().__new__(cls, _CLIENT)
        if made.verify_mode != _REQUIRED or made.check_hostname is not True:
            raise ImportError("_ssl does not verify servers")
        made.verify_flags |= _STRICT
        # 0 or less: what OpenSSL supports.
        made.minimum_version = max(made.minimum_version, _OLDEST)
        return made

    def start(self, plain: _socket.socket, host: str) -> Secured:
        """Speak TLS on a connected socket, which is then this one's, with the server `host`.

        Raises OSError, or ValueError for what is no name of a host.
        """
        name = host if host.isascii() else host.encode("idna").decode("ascii")
        if not name:
            # OpenSSL would not verify any.
            raise ValueError("no host name")
        timeout = plain.gettimeout()
        taken = _Socket(fileno=plain.detach())
        try:
            taken.settimeout(timeout)
            return Secured(self, taken, name)
        except BaseException:
            taken.close()
            raise


class Secured:
    """A connection by TLS, with the methods of a socket that `Stream` needs."""

    __slots__ = ("_socket", "_tls")

    def __init__(self, context: Any, plain: _Socket, name: str) -> None:
        self._socket = plain
        self._tls = context._wrap_socket(plain, False, name)
        self._tls.do_handshake()

    def settimeout(self, seconds: float) -> None:
        """Limit each operation."""
        self._socket.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end, even if the server did not announce that."""
        try:
            data: bytes = self._tls.read(size)
        except _Error as error:
            if error.args and error.args[0] == _END:
                return b""
            raise
        return data

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def pending(self) -> int:
        """Return how many bytes `recv` returns without reading from the descriptor."""
        return int(self._tls.pending())

    def getpeercert(self, binary: bool = False) -> dict[str, object] | bytes | None:
        """Return what the server's certificate says, empty where it was not verified; or the certificate itself."""
        known: dict[str, object] | bytes | None = self._tls.getpeercert(binary)
        return known

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
