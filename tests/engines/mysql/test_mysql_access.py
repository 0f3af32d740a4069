"""Who may use MySQL: TLS, sockets, passwords, rights."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.testing import granted, make_claim, make_ending
from labs.installation import ROOT
from labs.servers.mariadb import DATABASE, MariadbServer
from labs.servers.process import HOST
from labs.servers.tls import tls

from ..hooks import PATIENT, Opener, node_at
from ..sql.kinds import SECRET
from .support import servers_of


@pytest.fixture(scope="module")
def guarded() -> Iterator[MariadbServer]:
    """A server that lets its users in over TLS only."""
    settings = {"bind-address": f"{HOST},127.0.0.2"}
    with MariadbServer(tls=True, users={"worker": SECRET, "guest": "guest"}, settings=settings) as running:
        running.run(f"REVOKE ALL ON {DATABASE}.cronlock FROM guest@'%'")
        running.run(f"GRANT SELECT ON {DATABASE}.cronlock TO guest@'%'")
        yield running


@pytest.mark.parametrize("mode", ["", "required", "verify-ca", "VERIFY_IDENTITY"])
def test_tls_and_password(guarded: MariadbServer, open_at: Opener, key: str, mode: str) -> None:
    """A server takes the password of the URL over TLS, however much is asked of its certificate."""
    node = open_at(guarded.url(ssl=mode) if mode else guarded.url())
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    assert bool(servers_of(node).connection(time.monotonic() + PATIENT).certificate) == (mode != "required")


def test_server_that_is_not_the_one(guarded: MariadbServer, key: str) -> None:
    """A certificate of another authority or name is refused, and so is a user without TLS."""
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        node_at(guarded.url(ca=str(tls().client_cert))).acquire(make_claim(key))
    with pytest.raises(BackendUnavailable, match=r"certificate is not valid for '127\.0\.0\.2'"):
        node_at(guarded.url().replace(HOST, "127.0.0.2")).acquire(make_claim(key))
    granted(node_at(guarded.url(ssl="verify_ca").replace(HOST, "127.0.0.2")).acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="authentication failed"):
        node_at(guarded.url().partition("?")[0]).acquire(make_claim(key))


def test_tls_to_a_server_without(server: MariadbServer, key: str) -> None:
    """No password is sent if the URL requires TLS and the server has none."""
    server.run("SET GLOBAL require_secure_transport = OFF")
    url = server.url(user="x", password="hidden", ssl="required")
    with pytest.raises(BackendUnavailable, match="TLS") as caught:
        node_at(url).acquire(make_claim(key))
    assert "hidden" not in str(caught.value)


def test_unix_socket(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server on this machine can be reached by its socket."""
    granted(open_at(server.unix_url()).acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="no socket at"):
        open_at(f"mysql:///db?socket={server.directory}/nowhere").acquire(make_claim(key))


def test_wrong_password(guarded: MariadbServer, key: str) -> None:
    """A refused password is said, and it is in no text."""
    with pytest.raises(BackendUnavailable, match=r"Access denied for .*check user and password") as caught:
        node_at(guarded.url(user="worker", password="wr0ng&secret")).acquire(make_claim(key))
    assert "wr0ng" not in str(caught.value)


def test_missing_rights(guarded: MariadbServer, open_at: Opener, key: str) -> None:
    """A user who may not use the table is told what to grant."""
    node = open_at(guarded.url(user="guest", password="guest"))
    with pytest.raises(BackendUnavailable, match=r"denied.* GRANT SELECT, INSERT, UPDATE ON cronlock"):
        node.acquire(make_claim(key))
    elsewhere = guarded.url(user="guest", password="guest").replace(f"/{DATABASE}", "/elsewhere")
    with pytest.raises(
        BackendUnavailable, match=r"name another database in the URL, or GRANT .* ON elsewhere\.cronlock"
    ):
        open_at(elsewhere).acquire(make_claim(key))


def test_password_by_ed25519(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A user of MariaDB whose password is checked by its signature logs in, and not with another."""
    server.run("INSTALL SONAME 'auth_ed25519'")
    server.run("CREATE USER signer IDENTIFIED VIA ed25519 USING PASSWORD('p\u00e9')")
    server.grant("signer")
    granted(open_at(server.url(user="signer", password="p\u00e9")).acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match=r"Access denied for .*check user and password"):
        node_at(server.url(user="signer", password="p")).acquire(make_claim(key))


def test_password_by_a_package_of_the_distribution(tmp_path: Path) -> None:
    """What the login needs is found where cronlock was started without the system's packages, as its own do."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); assert 'site' not in sys.modules\n"
        "from cronlock.engines.mysql.login import Login\n"
        "login = Login('n', None, 'u', 'p', 'd'); login._plugin = 'client_ed25519'; print(len(login._proof()))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("64\n", "")


def test_nobody(server: MariadbServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without a name is told to write a user into the URL."""
    for name in ("LOGNAME", "USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(ConfigError, match="no user in the URL"):
        node_at(f"mysql://{HOST}:{server.port}/db").acquire(make_claim(key))
