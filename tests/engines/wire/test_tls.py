"""Certificates by the system's authorities: the same verdicts on every layout of them, and what is read for that.

By the interpreter's private module and by `ssl`, which stands in for it.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from cronlock.engines.wire import tls as tls_module
from cronlock.engines.wire.stream import ConnectionClosed, Stream, tls_context
from cronlock.errors import BackendUnavailable
from labs.servers.process import HOST, need
from labs.servers.tls import TLS, tls

_LOCALHOST = "subjectAltName=DNS:localhost"
_EXPIRED = "has expired; renew the server's certificate"
_ELSEWHERE = "Hostname mismatch.*name the host as its certificate does"
_UNKNOWN = "certificate verify failed.*name the server's authority by ca="
#: The server's certificate, and why it is refused, if it is.
_SHOWN = {"good": None, "expired": _EXPIRED, "of another host": _ELSEWHERE, "of an unknown authority": _UNKNOWN}
_SHOWN["of a client"] = _UNKNOWN


@cache
def _shown(name: str) -> tuple[Path, Path]:
    """Return a server's certificate and key."""
    if name == "expired":
        expired = tls().issue("expired", _LOCALHOST, days=0)
        time.sleep(1.5)  # It is good in the second of its issue: newer OpenSSL makes none that ends before it begins.
        return expired
    if name == "of another host":
        return tls().issue("elsewhere", "subjectAltName=DNS:elsewhere.example")
    if name == "of an unknown authority":
        other = TLS()
        return other.cert, other.key
    return (tls().client_cert, tls().client_key) if name == "of a client" else (tls().cert, tls().key)


@contextmanager
def _server(name: str) -> Iterator[tuple[int, list[str]]]:
    """Give the port of a server that shows the certificate, and the fate of each connection to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_shown(name))
    told: list[str] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as stream:
                        told.append("taken")
                        stream.sendall(b"hello")
                except OSError:
                    told.append("refused")

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1], told
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


class System:
    """Where the system has its authorities: a bundle, and a directory."""

    def __init__(self, place: Path) -> None:
        self.bundle, self.directory = place / "cert.pem", place / "certs"
        self.directory.mkdir()

    def hashed(self, number: int, *authorities: Path) -> None:
        """Let the directory have `number` authorities by their hashes, `authorities` among them."""
        for position in range(number - len(authorities)):
            (self.directory / f"{position:08x}.0").symlink_to("/nonexistent.pem")
        for authority in authorities:
            line = [need("openssl", "openssl"), "x509", "-hash", "-noout", "-in", str(authority)]
            name = subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()
            (self.directory / f"{name}.0").symlink_to(authority)


def _debian(system: System) -> None:
    system.bundle.write_bytes(tls().ca.read_bytes())
    system.hashed(60, tls().ca)


def _directory_alone(system: System) -> None:
    system.hashed(60, tls().ca)


def _bundle_alone(system: System) -> None:
    system.bundle.write_bytes(tls().ca.read_bytes())
    system.directory.rmdir()


def _bundle_has_more(system: System) -> None:
    system.bundle.write_bytes(tls().ca.read_bytes())
    system.hashed(60)


def _red_hat(system: System) -> None:
    system.bundle.write_bytes(tls().ca.read_bytes())
    (system.directory / "ca-bundle.crt").symlink_to(system.bundle)
    (system.directory / "ca-bundle.trust.crt").symlink_to(system.bundle)
    # Added by hand.
    system.hashed(1)


_LAYOUTS = [_debian, _directory_alone, _bundle_alone, _bundle_has_more, _red_hat]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """Give a system without authorities."""
    made = System(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(made.directory))
    return made


@pytest.fixture(params=["_ssl", "ssl"], autouse=True)
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Do each test by both modules."""
    if request.param == "ssl":
        monkeypatch.setattr(tls_module, "private", None)
    return str(request.param)


def _connect(port: int, context: tls_module.Context) -> None:
    stream = Stream.connect_tcp("test", "localhost", port, time.monotonic() + 20, context)
    assert stream.receive() == b"hello"
    stream.close()


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize(("shown", "refused"), _SHOWN.items())
def test_verdicts(system: System, layout: object, shown: str, refused: str | None) -> None:
    """Good certificates are taken, whatever has the authority, and bad ones refused for what is wrong with them."""
    assert callable(layout)
    layout(system)
    with _server(shown) as (port, _):
        if refused is None:
            _connect(port, tls_context("test", {}, late=True))
        else:
            with pytest.raises(BackendUnavailable, match=refused):
                _connect(port, tls_context("test", {}, late=True))


@pytest.mark.parametrize("shown", _SHOWN)
def test_no_authorities(system: System, shown: str) -> None:
    """Without authorities, no server is trusted."""
    system.directory.rmdir()
    with _server(shown) as (port, _), pytest.raises(BackendUnavailable, match=f"{_UNKNOWN}|{_EXPIRED}"):
        _connect(port, tls_context("test", {}, late=True))


@pytest.mark.parametrize(
    ("layout", "connections", "read"),
    [(_debian, ["taken"], False), (_bundle_has_more, ["refused", "taken"], True), (_red_hat, ["taken"], True)],
)
def test_the_bundle_is_read_if_need_be(system: System, layout: object, connections: list[str], read: bool) -> None:
    """Not where an authority can be looked up; where that does not verify a server, once, and it is asked again."""
    assert callable(layout)
    layout(system)
    others = "".join(TLS().ca.read_text() for _ in range(2))
    with system.bundle.open("a") as bundle:
        bundle.write(others)
    context = tls_context("test", {}, late=True)
    with _server("good") as (port, told):
        _connect(port, context)
        assert told == connections
    assert (context.cert_store_stats()["x509"] >= 3) == read
    with _server("good") as (port, told):
        _connect(port, context)
        assert told == ["taken"]


def test_named_authorities_alone(system: System) -> None:
    """With ca= the system's are not trusted."""
    _debian(system)
    with _server("good") as (port, _), pytest.raises(BackendUnavailable, match=_UNKNOWN):
        _connect(port, tls_context("test", {"ca": str(TLS().ca)}, late=True))


def test_what_others_use_has_all(system: System) -> None:
    """A context for another client than the stream has the bundle from the start."""
    _bundle_has_more(system)
    assert tls_context("test", {}).cert_store_stats()["x509"] == 1


def test_python_without_ssl() -> None:
    """It is told what it lacks; URLs without TLS, and their doctors, do not need it."""
    code = """
import sys; sys.modules["ssl"] = sys.modules["_ssl"] = None
from cronlock.engines.registry import open_backend
for engine in ("etcd", "memcached", "mysql", "postgresql", "redis", "zookeeper"):
    __import__(f"cronlock.engines.{engine}.doctor")
open_backend("redis://host", 1.0).close()
try:
    open_backend("rediss://host", 1.0)
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "ConfigError rediss://host: TLS needs the module ssl, which this Python was built without\n"


def test_both_modules_ask_the_same(module: str) -> None:
    """What is verified, and how connections are encrypted, is what `ssl` has by default, with TLS 1.2 or later."""
    context, usual = tls_context("test", {}, late=True), ssl.create_default_context()
    assert isinstance(context, ssl.SSLContext) == (module == "ssl")
    for name in ("check_hostname", "maximum_version", "options", "post_handshake_auth", "verify_flags", "verify_mode"):
        assert getattr(context, name) == getattr(usual, name), name
    assert context.get_ciphers() == usual.get_ciphers()
    assert context.minimum_version == max(usual.minimum_version, ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize("host", ["", ".", "h" * 64 + ".example", "caf\u00e9..example"])
def test_no_name_of_a_host(host: str) -> None:
    """Without the name that a certificate is to be for there is no connection."""
    with _server("good") as (port, told):
        stream = Stream.connect_tcp("test", HOST, port, time.monotonic() + 20)
        with pytest.raises(BackendUnavailable, match="no TLS with the server"):
            stream.start_tls(tls_context("test", tls().params()), host)
        stream.close()
    assert "taken" not in told


def test_server_that_hangs_up() -> None:
    """The end of a connection is the end, whether or not the server announced it."""
    with _server("good") as (port, _):
        stream = Stream.connect_tcp("test", "localhost", port, time.monotonic() + 20, tls_context("t", tls().params()))
        assert stream.receive() == b"hello"
        with pytest.raises(ConnectionClosed):
            stream.receive()
        stream.close()


def test_server_that_never_answers() -> None:
    """A handshake ends by its deadline."""
    with socket.create_server((HOST, 0)) as listener:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"timed out|no answer in time"):
            Stream.connect_tcp(
                "test", HOST, listener.getsockname()[1], began + 0.5, tls_context("test", tls().params())
            )
        assert time.monotonic() - began < 10
