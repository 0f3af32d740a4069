"""One connection to MySQL or MariaDB by PyMySQL, each request within an exact time limit.

PyMySQL's time limits are for each operation on its socket, so a server that sends a byte now and then outlasts them.
A `Wire` in place of the socket enforces one limit. Importing this module imports PyMySQL, most of a run's cost here.
"""

from __future__ import annotations

import sys
import time

from ...errors import BackendUnavailable, ConfigError, printable
from ..wire.sql import Refused
from ..wire.stream import ConnectionClosed, Stream, protocol_error, without_secrets

# PyMySQL imports these wherever they are, which costs three times as much as all the rest of it. It needs
# `cryptography` for one way to log in only, for which `_encrypted` below imports it; TLS is the wire's business.
_HIDDEN = [name for name in ("cryptography", "ssl") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_HIDDEN))  # type: ignore[arg-type]
try:
    import pymysql
    from pymysql import _auth
    from pymysql.constants import CLIENT
    from pymysql.cursors import Cursor
finally:
    for _name in _HIDDEN:
        del sys.modules[_name]
pymysql.connections.SSL_ENABLED = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from typing import Any

#: A row; None is NULL.
Row = tuple["Any", ...]

#: The product, in messages.
PRODUCT = "MySQL or MariaDB"
# More than any answer has: a thousand names, or a history.
_LONGEST_ANSWER = 4 << 20
_LONGEST_MESSAGE = 300
# Seconds; the words fit into any buffer.
_GOODBYE = 0.1
# PyMySQL's own error codes, not the server's.
_CLIENT_ERRORS = range(2000, 3000)
_TLS_ERROR = 2026
_NO_TLS = "the server has no TLS, which the URL asks for: set it up there, or leave out ssl= and ca="
# Bytes of the request to speak TLS: what comes behind it has the password in it, in one form or another.
_TLS_REQUEST = 36
# Authentication plugins that reveal the password, or nearly, to the server.
_BARE_PLUGINS = ("mysql_clear_password", "dialog", "mysql_old_password")
_USER_PLEASE = "mysql://USER:PASSWORD@HOST/DATABASE"
# Packages that PyMySQL needs for some authentication plugins, and why.
_REMEDIES = {
    "cryptography": "the server requires TLS (ssl=required or ca=) for the password of this user, or ",
    "pynacl": "this user's password is checked by ed25519, for which PyMySQL needs ",
}


class Wire:
    """A stand-in for PyMySQL's socket and its file: a stream whose deadline is the request's."""

    def __init__(self, name: str, stream: Stream, host: str, tls: ssl.SSLContext | None) -> None:
        self._name = name
        self._stream = stream
        self._host = host
        #: TLS that must begin before any secret is sent; None once it has.
        self._tls = tls
        self._buffer = b""
        self._left = _LONGEST_ANSWER

    def limit(self, deadline: float) -> None:
        """Let all that is asked from now on be done by monotonic time `deadline`."""
        self._stream.limit(deadline)
        self._left = _LONGEST_ANSWER

    def quiet(self) -> bool:
        """Whether nothing came since the last answer: what comes then is the server's goodbye."""
        return not self._buffer and self._stream.quiet()

    def start_tls(self) -> Wire:
        """Speak TLS from now on."""
        assert self._tls is not None
        if self._buffer:
            # It came before there was TLS, from anybody.
            raise protocol_error(self._name, PRODUCT, "more than requested")
        self._stream.start_tls(self._tls, self._host)
        self._tls = None
        return self

    @property
    def certificate(self) -> dict[str, object]:
        """What the server's certificate says, where it was verified."""
        return self._stream.certificate()

    # Called by PyMySQL

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: `limit` rules."""

    def makefile(self, mode: str) -> Wire:  # noqa: ARG002 (it is always for reading)
        """Return what can be read from."""
        return self

    def sendall(self, data: bytes) -> None:
        """Send `data`; until TLS is up, nothing but the request for it."""
        if self._tls is not None and len(data) != _TLS_REQUEST:
            raise BackendUnavailable(f"{self._name}: {_NO_TLS}")
        self._stream.send(data)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        self._left -= size
        if self._left < 0:
            raise protocol_error(self._name, PRODUCT, "too long")
        while len(self._buffer) < size:
            self._buffer += self._stream.receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self._stream.close()


class _Upgrade:
    """A stand-in for PyMySQL's TLS context: the wire knows the real one."""

    def wrap_socket(self, sock: Any, *args: Any, **options: Any) -> Any:  # noqa: ARG002 (the wire has the name)
        """Speak TLS on `sock`, a `Wire`."""
        return sock.start_tls()


class _Refusal:
    """A stand-in for an authentication plugin that is unsafe without TLS."""

    def __init__(self, connection: object) -> None:
        pass

    def authenticate(self, packet: object) -> None:  # noqa: ARG002 (whatever it says)
        """Raise BackendUnavailable."""
        raise BackendUnavailable("the server requests the password in clear text, which requires TLS; see ssl= and ca=")


class _Driver(pymysql.connections.Connection):  # type: ignore[misc]
    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Do nothing, for one round trip less: what is sent is ASCII, and what comes is bytes and numbers."""

    def _create_ssl_ctx(self, upgrade: _Upgrade) -> _Upgrade:
        return upgrade


class Connection:
    """A connection. Any failure raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("_driver", "_name", "_wire")

    def __init__(self, name: str, wire: Wire, driver: _Driver) -> None:
        self._name = name
        self._wire = wire
        self._driver = driver

    @classmethod
    def log_in(
        cls,
        name: str,
        stream: Stream,
        *,
        host: str | None,
        user: str | None,
        password: str,
        database: str,
        tls: ssl.SSLContext | None,
    ) -> Connection:
        """Log in to the server at the other end of `stream`; `host` is None for a Unix socket.

        Raises Refused for what the server says against it.
        """
        user = user or pymysql.connections.DEFAULT_USER
        if user is None:
            stream.close()
            raise ConfigError(
                f"{name}: no user in the URL, and this process's user id has no name; write {_USER_PLEASE}"
            )
        wire = Wire(name, stream, host or "", tls)
        bare = dict.fromkeys(_BARE_PLUGINS, _Refusal) if tls is None and host is not None else {}
        try:
            driver = _Driver(
                host=host,
                user=user,
                # As text, it could have Latin letters only.
                password=password.encode("utf-8", "surrogateescape"),
                database=database,
                autocommit=True,
                client_flag=CLIENT.MULTI_STATEMENTS,
                program_name="cronlock",
                auth_plugin_map=bare,
                # Otherwise PyMySQL tries TLS by default, and loads the system's certificates for it.
                ssl_disabled=tls is None,
                ssl=None if tls is None else _Upgrade(),
                defer_connect=True,
            )
            connection = cls(name, wire, driver)
            # Errors of this call are shown without a traceback, which might contain the password.
            connection._try(lambda: driver.connect(wire))
        except BaseException:
            stream.close()
            raise
        return connection

    def limit(self, deadline: float) -> None:
        """Let all that is asked from now on be done by monotonic time `deadline`."""
        self._wire.limit(deadline)

    def ask(self, statements: Sequence[str]) -> list[tuple[int, list[Row]]]:
        """Send the statements in one packet; return for each how many rows it changed, and its rows.

        Raises Refused for the first that the server refuses: those before it are done.
        """
        answers = []
        cursor = Cursor(self._driver)

        def ask() -> None:
            cursor.execute("; ".join(statements))
            while True:
                answers.append((cursor.rowcount, list(cursor.fetchall())))
                if not cursor.nextset():
                    break
            # A setting of the server or of a pooler may open a transaction even so.
            if not self._driver.get_autocommit():
                self._driver.commit()

        self._try(ask)
        if len(answers) != len(statements):
            raise protocol_error(self._name, PRODUCT)
        return answers

    def quiet(self) -> bool:
        """Whether it still stands, as far as can be seen from here."""
        return self._wire.quiet()

    @property
    def certificate(self) -> dict[str, object]:
        """What the server's certificate says, where it was verified."""
        return self._wire.certificate

    def close(self) -> None:
        """Say goodbye, so that the server's log has no complaint, and close the connection; raises nothing."""
        self._wire.limit(time.monotonic() + _GOODBYE)
        try:
            self._driver.close()
        except Exception:
            pass  # Closed already, or in the middle of something.
        self._wire.close()

    def _try(self, work: Any) -> None:
        try:
            work()
        except BackendUnavailable as error:
            if str(error).startswith(self._name):
                raise
            raise BackendUnavailable(f"{self._name}: {error}") from None
        except pymysql.MySQLError as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            text = one_line(self._scrub(str(error.args[-1] if error.args else error)))
            if code == _TLS_ERROR:
                raise BackendUnavailable(f"{self._name}: {_NO_TLS}") from None
            if code in _CLIENT_ERRORS or not code:
                raise ConnectionClosed(f"{self._name}: {text}") from None
            raise Refused(f"{self._name}: {text}", code) from None
        except RuntimeError as error:
            # It names the package that it lacks.
            package = next((one for one in _REMEDIES if one in str(error)), None)
            if package is None:
                raise protocol_error(self._name, PRODUCT) from None
            from ..clients import lacks

            raise BackendUnavailable(f"{self._name}: {_REMEDIES[package]}{lacks(package)}") from None
        except Exception:
            # PyMySQL trusts its input: a malformed reply raises errors of every kind.
            raise protocol_error(self._name, PRODUCT) from None

    def _scrub(self, text: str) -> str:
        """Return `text` without the password, should a server that was shown it repeat it."""
        return without_secrets(text, self._driver.password.decode("utf-8", "surrogateescape"))


def _encrypted(password: bytes, salt: bytes, public_key: bytes) -> bytes:
    """Stand for PyMySQL's function of the server's public key until it is needed."""
    from importlib import reload

    # Puts the real one in this one's place, with or without what it needs.
    data: bytes = reload(_auth).sha2_rsa_encrypt(password, salt, public_key)
    return data


if "cryptography" in _HIDDEN:
    _auth.sha2_rsa_encrypt = _encrypted


def one_line(message: str) -> str:
    """Return what a server says as one line that a terminal can show."""
    return printable(" ".join(message.split()))[:_LONGEST_MESSAGE] or "no reason given"
