"""A host with several addresses: one that does not answer costs its share of the time only."""

from __future__ import annotations

import _socket
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cronlock.engines.wire.stream import Stream, tls_context
from cronlock.errors import BackendUnavailable, ConfigError
from labs.servers.process import HOST, need
from labs.servers.redis import RedisServer
from labs.servers.tls import tls

#: Seconds for all addresses together; the tests wait for a share of them.
LIMIT = 5.0


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that drops what comes to connect, since its queue is full."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        callers = []
        try:
            while True:
                caller = socket.socket()
                callers.append(caller)
                caller.settimeout(0.2)
                caller.connect(listener.getsockname())
        except (TimeoutError, socket.timeout):  # Not the same before Python 3.10.
            yield listener.getsockname()[1]
        finally:
            for caller in callers:
                caller.close()


@contextmanager
def silence() -> Iterator[int]:
    """A port that lets connect and never says a word."""
    with socket.create_server((HOST, 0), backlog=8) as listener:
        yield listener.getsockname()[1]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let every name have these ports of this machine as its addresses, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)) for port in ports]
    monkeypatch.setattr(_socket, "getaddrinfo", lambda *_: found)


def test_first_address_drops_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is tried in time, and what follows has all of the time that is left."""
    with black_hole() as hole, RedisServer() as server:
        resolve_to(monkeypatch, hole, server.port)
        stream = Stream.connect_tcp("test", HOST, 1, time.monotonic() + LIMIT)
        stream.send(b"PING\r\n")
        assert stream.receive() == b"+PONG\r\n"
        stream.close()


def test_first_address_is_silent_to_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake is part of an address's share."""
    with silence() as quiet, RedisServer(tls=True) as server:
        resolve_to(monkeypatch, quiet, server.port)
        context = tls_context("test", tls().params())
        stream = Stream.connect_tcp("test", HOST, 1, time.monotonic() + LIMIT, context)
        stream.send(b"PING\r\n")
        assert stream.receive() == b"+PONG\r\n"
        stream.close()


def test_key_with_a_pass_phrase(tmp_path: Path) -> None:
    """Nobody sits at a terminal to be asked for it: it is refused, and what to do is said."""
    params = tls().params(client=True)
    locked = tmp_path / "locked.key"
    command = [need("openssl", "openssl"), "pkey", "-aes256", "-passout", "pass:secret", "-in", params["key"]]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(ConfigError, match=rf"key={locked}.* is encrypted: use one without a pass phrase"):
        tls_context("test", {**params, "key": str(locked)})


@pytest.mark.parametrize(
    ("host", "trusted", "said"),
    [
        ("localhost", False, "name the server's authority by ca="),
        ("127.0.0.2", True, "name the host as its certificate"),
    ],
)
def test_remedies_for_tls(host: str, trusted: bool, said: str) -> None:
    """A bad certificate is reported with its fault and a remedy."""
    context = tls_context("test", tls().params() if trusted else {})
    with RedisServer(tls=True) as server:
        stream = Stream.connect_tcp("test", HOST, server.port, time.monotonic() + 20)
        with pytest.raises(BackendUnavailable, match=said):
            stream.start_tls(context, host)


def test_missing_socket(tmp_path: Path) -> None:
    """The socket that is not there is named."""
    with pytest.raises(BackendUnavailable, match=f"no socket at {tmp_path}/none"):
        Stream.connect_unix("test", f"{tmp_path}/none", time.monotonic() + 5)


def test_no_share_limits_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that answers at once leaves its share behind."""
    with silence() as quiet:
        resolve_to(monkeypatch, quiet, quiet)
        started = time.monotonic()
        stream = Stream.connect_tcp("test", HOST, 1, started + 2.0)
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            stream.receive()
        assert time.monotonic() - started >= 2.0
        stream.close()


def test_no_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no address answers, the error comes at the deadline."""
    with black_hole() as hole:
        resolve_to(monkeypatch, hole, hole)
        started = time.monotonic()
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            Stream.connect_tcp("test", HOST, 1, started + 1.0)
        assert time.monotonic() - started >= 1.0
