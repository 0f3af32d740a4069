"""Servers that talk MySQL's protocol badly, or log in users in other ways."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cronlock.engines.wire.stream import ConnectionClosed
from cronlock.errors import BackendUnavailable
from cronlock.testing import make_claim
from labs.impostors import listening
from labs.servers.process import HOST, need

from ..hooks import PATIENT, node_at


def _greeting(plugin: bytes = b"mysql_native_password") -> bytes:
    flags = 0x00FFF7FF & ~0x800  # All but TLS.
    body = b"\x0a8.0.0\x00\x01\x00\x00\x00" + b"12345678\x00" + (flags & 0xFFFF).to_bytes(2, "little")
    body += b"\x21\x02\x00" + (flags >> 16).to_bytes(2, "little") + b"\x15" + bytes(10) + b"123456789012\x00"
    return _packet(0, body + plugin + b"\x00")


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


_OK, _OK_MORE = b"\x00\x00\x00\x02\x00\x00\x00", b"\x00\x00\x00\x0a\x00\x00\x00"


@contextmanager
def _saying(words: list[bytes]) -> Iterator[tuple[int, bytearray]]:
    """A listener that says each of `words` once something came, the first at once; its port, and what it heard."""
    heard = bytearray()

    def serve(client: socket.socket) -> None:
        for number, word in enumerate(words):
            if number:
                heard.extend(client.recv(65536))
            client.sendall(word)
        client.settimeout(0.5)
        while data := client.recv(65536):
            heard.extend(data)

    with listening(serve) as port:
        yield port, heard


@pytest.mark.parametrize(
    "words",
    [
        [b""],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"-ERR unknown command\r\n"],
        [b"\xff" * 70000],
        [b"\0" * 70000],
        [_packet(0, b"\x0a")],
        [_packet(0, b"\xff")],
        [_packet(0, b"")],
        [_greeting(), _packet(2, b"")],
        [_greeting(), _packet(2, b"\x05")],
        [_greeting(), _packet(2, _OK), b""],
        [_greeting(), _packet(2, _OK), _packet(1, b"\xfb/etc/passwd")],
        [_greeting(), _packet(2, _OK), _packet(1, _OK)],
        [_greeting(), _packet(2, _OK), _packet(1, b"\xfe" + b"\xff" * 8)],
        [_greeting(), _packet(2, _OK), b"\xff\xff\xff\x01" + b"x" * (5 << 20)],
        [_greeting(), _packet(2, _OK), _packet(1, b"\x01") + _packet(2, b"\xfb\xfb")],
        [_greeting(), _packet(2, b"\x01\x03")],
        [_greeting(), *(_packet(number, b"\xfemysql_native_password\0") for number in range(2, 60, 2))],
        [_greeting(b"caching_sha2_password"), _packet(2, b"\x01\x04"), _packet(4, b"\x01no key")],
        [_greeting(), _packet(2, _OK), _packet(1, _OK_MORE) + _packet(2, b"\x01") + _packet(3, b"\x03def")],
        [_greeting(), _packet(2, _OK), _packet(1, _OK_MORE) + _packet(7, _OK)],
    ],
)
def test_what_is_no_mysql(words: list[bytes], key: str) -> None:
    """Another kind of server on the port, or one that talks nonsense, is one line, in time."""
    with _saying(words) as (port, heard), pytest.raises(BackendUnavailable) as caught:
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", 3.0).acquire(make_claim(key))
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert b"passwd" not in heard


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password"])
def test_password_is_not_shown(plugin: bytes, key: str) -> None:
    """A server that asks for the password as it is does not get it without TLS."""
    asks = _packet(2, b"\xfe" + plugin + b"\x00" + b"12345678")
    with _saying([_greeting(), asks, b""]) as (port, heard), pytest.raises(BackendUnavailable, match="requires TLS"):
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", 3.0).acquire(make_claim(key))
    assert b"hidden" not in heard


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog"])
def test_password_is_shown_where_nobody_listens(plugin: str, key: str, tmp_path: Path) -> None:
    """On a Unix socket such a server gets it."""
    heard: list[bytes] = []

    def serve() -> None:
        client = listener.accept()[0]
        client.sendall(_greeting())
        heard.append(client.recv(65536))
        client.sendall(_packet(2, b"\xfe" + plugin.encode() + b"\x00\x04Password: "))
        heard.append(client.recv(65536))
        client.sendall(_packet(4, b"\xff\x15\x04#28000no"))
        client.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(BackendUnavailable, match="no: authentication failed"):
            node_at(f"mysql://u:hidden@/db?socket={tmp_path}/s", PATIENT).acquire(make_claim(key))
        thread.join()
    assert b"hidden" not in heard[0]
    assert heard[1] == _packet(3, b"hidden\0")


def test_password_that_a_server_remembers(key: str) -> None:
    """The login of MySQL 8 shows what a server that knows the password's hash can verify, and nobody else can use."""
    words = [_greeting(b"caching_sha2_password"), _packet(2, b"\x01\x03") + _packet(3, b"\xff\x15\x04#28000no")]
    with (
        _saying(words) as (port, heard),
        pytest.raises(BackendUnavailable, match="no: authentication failed"),
    ):
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", PATIENT).acquire(make_claim(key))
    proof = heard.partition(b"u\0 ")[2][:32]
    stored = hashlib.sha256(hashlib.sha256(b"hidden").digest()).digest()
    mask = hashlib.sha256(stored + b"12345678123456789012").digest()
    assert hashlib.sha256(bytes(one ^ other for one, other in zip(proof, mask))).digest() == stored


def test_unknown_plugin(key: str) -> None:
    """A user whose password is checked by what cronlock does not know is told so."""
    asks = _packet(2, b"\xfeauth_gssapi_client\x00principal")
    with _saying([_greeting(), asks]) as (port, _), pytest.raises(BackendUnavailable, match=r"'auth_gssapi_client'"):
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", 3.0).acquire(make_claim(key))


def test_password_by_the_public_key(key: str, tmp_path: Path) -> None:
    """A server that gives its public key, as MySQL 8 does without TLS, gets the password encrypted by it."""
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"

    def run(command: list[str], **options: bytes) -> bytes:
        return subprocess.run(command, check=True, capture_output=True, **options).stdout  # type: ignore[call-overload,no-any-return]

    run([need("openssl", "openssl"), "genrsa", "-out", str(private), "2048"])
    run(["openssl", "rsa", "-in", str(private), "-pubout", "-out", str(public)])
    full, shows_key = _packet(2, b"\x01\x04"), _packet(4, b"\x01" + public.read_bytes())
    with _saying([_greeting(b"caching_sha2_password"), full, shows_key, _packet(6, b"\xff\x15\x04#28000no")]) as (
        port,
        heard,
    ):
        with pytest.raises(BackendUnavailable, match="no: authentication failed"):
            node_at(f"mysql://u:hidden@{HOST}:{port}/db", PATIENT).acquire(make_claim(key))
        secret = bytes(heard[-256:])
    options = ["-pkeyopt", "rsa_padding_mode:oaep"]
    shown = run(["openssl", "pkeyutl", "-decrypt", "-inkey", str(private), *options], input=secret)
    salt = b"12345678123456789012"
    assert bytes([one ^ other for one, other in zip(shown, salt)]) == b"hidden\0"


def test_package_that_is_missing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the password cannot be encrypted, the message says what to install, or to use TLS."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    full, shows_key = _packet(2, b"\x01\x04"), _packet(4, b"\x01key")
    with (
        _saying([_greeting(b"caching_sha2_password"), full, shows_key, b""]) as (port, heard),
        pytest.raises(
            BackendUnavailable, match=r"requires TLS .*, or the Python package cryptography: .*pip install cryptography"
        ),
    ):
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", PATIENT).acquire(make_claim(key))
    assert b"hidden" not in heard


def test_last_words(key: str) -> None:
    """An error that answers nothing, as a server sends that shuts down, is shown, and may have been too late."""
    said = _packet(0, b"\xff\x87\x07#08S01Connection was killed")
    with (
        _saying([_greeting(), _packet(2, _OK), said]) as (port, _),
        pytest.raises(ConnectionClosed, match="Connection was killed"),
    ):
        node_at(f"mysql://u:hidden@{HOST}:{port}/db", 3.0).store.read(key, time.monotonic() + 3.0)


def test_nothing_before_tls(key: str) -> None:
    """A server that speaks no TLS where that is asked for hears neither user nor password."""
    with _saying([_greeting(), _packet(2, _OK)]) as (port, heard), pytest.raises(BackendUnavailable, match="TLS"):
        node_at(f"mysql://bob:hidden@{HOST}:{port}/db?ssl=required", 3.0).acquire(make_claim(key))
    assert b"bob" not in heard
