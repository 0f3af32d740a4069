"""The login to PostgreSQL without libpq: when it is taken, what it accepts, and what becomes of all others."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cronlock.engines.postgresql import login, servers
from cronlock.engines.postgresql import scram as scram_module
from cronlock.engines.postgresql.connection import Connection
from cronlock.engines.postgresql.libpq_connection import LibpqConnection
from cronlock.engines.postgresql.messages import Unsuited
from cronlock.engines.postgresql.scram import Scram, end_point
from cronlock.engines.postgresql.store import PostgresqlStore
from cronlock.engines.wire.hashes import hmac_sha256, md5_hex, pbkdf2_sha256
from cronlock.engines.wire.sql import Refused
from cronlock.engines.wire.stream import ConnectionClosed, ServerBusy
from cronlock.errors import BackendUnavailable
from cronlock.testing import make_claim
from labs.impostors import listening
from labs.servers.postgresql import PgBouncer, PostgresqlServer
from labs.servers.process import HOST, need
from labs.servers.tls import tls

from ..hooks import PATIENT, node_at, turned_away
from .support import DONE, READY, STATES, answering, greeted, message, one_row, states

_SETTINGS = {"dbname": "db", "host": HOST, "hostaddr": HOST, "user": "worker", "target_session_attrs": "read-write"}
_LET_IN = message(b"R", bytes(4))


def _connect(port: int, **settings: str) -> Connection:
    return Connection.connect("server", {**_SETTINGS, "port": str(port), **settings}, time.monotonic() + PATIENT)


def _ask(connection: Connection, statement: str, *values: str | None, width: int = 1) -> list[list[str | None]]:
    return connection.ask(statement.encode(), values, width, time.monotonic() + PATIENT)


# When it is taken


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a user without any files, variables of libpq's, and tickets of Kerberos."""
    for name in [name for name in os.environ if name.startswith(("PG", "KRB5"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(login, "_process_user", {"pw_dir": str(tmp_path), "pw_name": "worker"}.get)
    monkeypatch.setattr(login, "_TICKETS", f"{tmp_path}/krb5cc_")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"password": "x"}, True),
        ({"sslmode": "disable"}, True),
        ({"sslmode": "require"}, True),
        ({"sslmode": "verify-full", "sslrootcert": "/ca.pem"}, True),
        ({"sslmode": "verify-ca", "sslrootcert": "/ca.pem"}, True),
        ({"sslmode": "require", "sslrootcert": "/ca.pem"}, True),
        # Whether it verifies depends on what is there; whether there is TLS, on the server's opinion of a login.
        ({"sslrootcert": "/ca.pem"}, False),
        ({"sslmode": "allow"}, False),
        # The authorities are to be found elsewhere.
        ({"sslmode": "verify-full"}, False),
        ({"sslmode": "verify-full", "sslrootcert": "system"}, False),
        ({"sslmode": "require", "sslrootcert": "system"}, False),
        *(({name: "x"}, False) for name in ("sslcert", "passfile", "channel_binding", "gssencmode", "require_auth")),
    ],
)
@pytest.mark.usefixtures("home")
def test_settings(settings: dict[str, str], expected: bool) -> None:
    """What is known here is taken; all else is libpq's."""
    assert login.suits({**_SETTINGS, **settings}) is expected


def test_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a variable in which libpq would look is left to it."""
    assert login.suits(_SETTINGS)
    given = {**_SETTINGS, "password": "given"}
    (home / ".pgpass").touch()
    assert not login.suits(_SETTINGS)
    assert not login.suits({**_SETTINGS, "password": ""})
    assert login.suits(given)
    for name in (".postgresql", f"krb5cc_{os.geteuid()}"):
        (home / name).mkdir()
        assert not login.suits(given)
        (home / name).rmdir()
    for name in ("PGSSLMODE", "PGOPTIONS", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert not login.suits(given)


def test_two_homes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one libpq looks into depends on its version; without any, it is asked."""
    assert login.suits(_SETTINGS)
    (home / ".postgresql").mkdir()
    for elsewhere in ("/nonexistent", ""):
        monkeypatch.setenv("HOME", elsewhere)
        assert not login.suits(_SETTINGS)
    monkeypatch.setattr(login, "_process_user", {}.get)
    assert not login.suits(_SETTINGS)


# Hashes


def test_hashes() -> None:
    """They are those of the standard library."""
    for password in (b"", b"pencil", b"x" * 200):
        for rounds in (1, 7):
            assert pbkdf2_sha256(password, b"salt", rounds) == hashlib.pbkdf2_hmac("sha256", password, b"salt", rounds)
    assert md5_hex(b"x") == hashlib.md5(b"x").hexdigest().encode()


# Real servers


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresqlServer]:
    """A server that speaks TLS only, and wants passwords."""
    with PostgresqlServer(tls=True, users={"worker": "s3cret", "caf\u00e9": "cr\u00e8me"}) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server without TLS, that lets everybody in."""
    with PostgresqlServer() as running:
        yield running


def _kind(url: str) -> tuple[type[object], bool]:
    """Return what a node at `url` connects by, and whether that is encrypted; it has acquired nothing."""
    node = node_at(url)
    try:
        assert node.read("nothing") is None
        assert isinstance(node.store, PostgresqlStore)
        connection = node.store.servers.connection(time.monotonic() + PATIENT)
        return type(connection), connection.encrypted
    finally:
        node.close()


@pytest.mark.usefixtures("home")
def test_ways_in(guarded: PostgresqlServer, server: PostgresqlServer) -> None:
    """By TLS, verified or not, without it, by a Unix socket and a pooler; libpq gets what is not known here."""
    url = guarded.url(user="worker", password="s3cret")
    plain = url.partition("?")[0]
    for mode in ("prefer", "require"):
        # The proof is bound to the server's certificate, which is not verified: see below.
        assert _kind(f"{plain}?sslmode={mode}") == (Connection, True)
    for mode in ("require", "verify-ca", "verify-full"):
        assert _kind(guarded.url(user="worker", password="s3cret", sslmode=mode)) == (Connection, True)
    assert _kind(guarded.url(user="caf\u00e9", password="cr\u00e8me")) == (LibpqConnection, True)
    assert _kind(server.url()) == (Connection, False)
    assert _kind(server.unix_url()) == (Connection, False)
    with PgBouncer(server) as pooler:
        assert _kind(pooler.url()) == (Connection, False)


@pytest.mark.usefixtures("home")
def test_refusals(guarded: PostgresqlServer, server: PostgresqlServer) -> None:
    """Each has its reason, with what to do, and none the password; nor is libpq needed for that."""
    port = guarded.port
    mine = {"user": "worker", "password": "wr0ng-one", "dbname": "postgres"}
    for settings, said in (
        (mine, "password authentication failed.*; check user and password in the URL"),
        # Libpq may know a way:
        ({**mine, "sslmode": "disable"}, r"pg_hba\.conf"),
        ({**mine, "sslmode": "verify-full", "sslrootcert": str(tls().client_cert)}, "certificate verify failed"),
        ({**mine, "sslmode": "verify-full", "sslrootcert": "/dev/null"}, "no TLS: .*sslrootcert|no TLS: .*ca="),
        ({**mine, "password": ""}, "another login than that of the URL"),
    ):
        with pytest.raises(BackendUnavailable, match=said) as caught:
            _connect(port, **settings)
        assert isinstance(caught.value, Unsuited) is (settings is not mine)
        assert "wr0ng" not in str(caught.value)
    with pytest.raises(BackendUnavailable, match="has no TLS, which sslmode=require asks for"):
        _connect(server.port, dbname="postgres", user="postgres", sslmode="require")
    with pytest.raises(BackendUnavailable, match="does not exist; check user and database"):
        _connect(server.port, dbname="nix", user="postgres")


@pytest.mark.usefixtures("home")
def test_older_passwords() -> None:
    """A server of before 2020 knows MD5 of them, or wants them in clear text."""
    with PostgresqlServer(users={"worker": "s3cret"}) as running:
        running.run("SET password_encryption = 'md5'; ALTER ROLE worker PASSWORD 's3cret'")
        rules = running.data / "pg_hba.conf"
        before = rules.read_text()
        for way in ("md5", "password"):
            rules.write_text(f"host all worker all {way}\n{before}")
            running.run("SELECT pg_reload_conf()")
            told = running.run("SELECT auth_method FROM pg_hba_file_rules WHERE user_name = '{worker}'")
            assert told == [(way,)]
            _connect(running.port, dbname="postgres", password="s3cret").close()
            with pytest.raises(BackendUnavailable, match="password authentication failed"):
                _connect(running.port, dbname="postgres", password="wr0ng")


def test_values(server: PostgresqlServer) -> None:
    """NULL differs from empty text, letters are kept, and rows keep their order."""
    connection = _connect(server.port, dbname="postgres", user="postgres", application_name="it's \\ cronlock")
    values = (None, "", "\u00e4\U0001f512'\\\udcff"[:-1], "x" * (1 << 20))
    assert _ask(connection, "SELECT $1::text, $2::text, $3::text, $4::text", *values, width=4) == [list(values)]
    assert _ask(connection, "SELECT n FROM generate_series(1, 5000) n")[-1] == ["5000"]
    assert _ask(connection, "SELECT 1 WHERE false") == []
    assert _ask(connection, "DO $$ BEGIN RAISE WARNING 'loud'; END $$") == []
    look = "current_setting('server_version_num'), pg_backend_pid(), current_setting('application_name')"
    row = [str(connection.version), str(connection.process), "it's \\ cronlock"]
    assert _ask(connection, f"SELECT {look}", width=3) == [row]
    with pytest.raises(Refused, match=r"^server: division by zero$") as caught:
        _ask(connection, "SELECT 1 / 0")
    assert caught.value.code == "22012"
    assert connection.quiet()
    for _ in range(2):
        connection.close()


# Servers that are none, or no good


@contextmanager
def _speaking(*words: bytes | Callable[[bytes], bytes]) -> Iterator[int]:
    """A server that gives these answers in turn, the first to the client's name, and then says nothing; its port."""

    def talk(client: socket.socket) -> None:
        said = greeted(client)
        for word in words:
            client.sendall(word if isinstance(word, bytes) else word(said))
            said = client.recv(65536)

    with listening(talk) as port:
        yield port


def _asking(kind: int, text: bytes = b"") -> bytes:
    return message(b"R", kind.to_bytes(4, "big") + text)


_SCRAM = _asking(10, b"SCRAM-SHA-256\0\0")


def _salt(said: bytes, rounds: int = 1, more: bytes = b"abc") -> bytes:
    nonce = said.partition(b"r=")[2]
    return b"r=%b%b,s=%b,i=%d" % (nonce, more, base64.b64encode(b"salt"), rounds)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([_SCRAM + _LET_IN + READY], "no proof"),
        ([_SCRAM, lambda said: _asking(11, _salt(said)) + _LET_IN + READY], "no proof"),
        ([_SCRAM, lambda said: _asking(11, _salt(said)), _asking(12, b"v=AAAA") + _LET_IN + READY], ""),
        ([_SCRAM, lambda said: _asking(11, _salt(said)), _asking(12, b"e=no") + _LET_IN + READY], ""),
        ([_SCRAM, lambda said: _asking(11, _salt(said, more=b""))], ""),
        ([_SCRAM, lambda said: _asking(11, _salt(said) + b",m=x")], ""),
        ([_SCRAM, lambda said: _asking(11, _salt(said, rounds=0))], ""),
        ([_SCRAM, _asking(11, b"r=mine,s=AAAA,i=1")], ""),
        ([_SCRAM, _asking(12, b"v=AAAA")], ""),
        ([message(b"R")], ""),
        ([message(b"D", b"x")], ""),
        ([b"R\0\0\0\1"], ""),
        ([b"R\x7f\xff\xff\xff"], "too long"),
    ],
)
def test_logins_that_prove_nothing(words: list[bytes | Callable[[bytes], bytes]], fault: str) -> None:
    """Who does not prove that it knows the password is not let to tell who holds what."""
    with _speaking(*words) as port, pytest.raises(BackendUnavailable, match=f"unexpected reply.*{fault}"):
        _connect(port, password="s3cret")


def test_a_server_that_knows_the_password() -> None:
    """The proof that it does is taken, and that of another is not: see above."""
    said_first = b""

    def salted(said: bytes) -> bytes:
        nonlocal said_first
        said_first = said.partition(b"n,,")[2]
        return _asking(11, _salt(said))

    def proven(said: bytes) -> bytes:
        last = said.partition(b"c=")[2].rpartition(b",p=")[0]
        exchanged = b",".join((said_first, _salt(said_first), b"c=" + last))
        key = hmac_sha256(pbkdf2_sha256(b"s3cret", b"salt", 1), b"Server Key")
        return _asking(12, b"v=" + base64.b64encode(hmac_sha256(key, exchanged))) + _LET_IN + states() + READY

    with _speaking(_SCRAM, salted, proven) as port:
        _connect(port, password="s3cret").close()


def test_order_of_a_proof() -> None:
    """A server cannot have two answers, nor prove something before it gave a salt."""
    scram = Scram("server", b"s3cret", None, bound=False)
    with pytest.raises(ValueError, match="too early"):
        scram.verify(b"v=AAAA")
    first = scram.first()
    scram.proof(_salt(first))
    with pytest.raises(ValueError, match="twice"):
        scram.proof(_salt(first))


def test_words_before_tls() -> None:
    """What came before there was TLS is from anybody."""

    def talk(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"S" + _LET_IN + READY)
        client.recv(65536)

    with listening(talk) as port, pytest.raises(BackendUnavailable, match="more than requested"):
        _connect(port, password="s3cret")


@pytest.mark.parametrize(
    "words",
    [
        [_SCRAM, lambda said: _asking(11, _salt(said, rounds=600_000))],
        # It asks twice; or a proof is to be bound to TLS that is not there.
        [_SCRAM, _SCRAM],
        [_asking(3), _asking(3)],
        [_asking(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")],
    ],
)
def test_what_is_left_to_libpq(words: list[bytes | Callable[[bytes], bytes]]) -> None:
    """A server may ask for what takes too long here, or for what makes no sense."""
    with _speaking(*words) as port, pytest.raises(Unsuited):
        _connect(port, password="s3cret")


# The binding to the connection


def test_binding_to_a_certificate(guarded: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that was made for another's certificate is refused: nobody in the middle can pass it on."""
    mine = {"user": "worker", "password": "s3cret", "dbname": "postgres", "sslmode": "require"}
    _connect(guarded.port, **mine).close()
    monkeypatch.setattr(scram_module, "end_point", lambda _: bytes(32))
    with pytest.raises(BackendUnavailable, match="channel binding check failed"):
        _connect(guarded.port, **mine)
    # Nor can the offer be kept from us: the server knows that it made one.
    monkeypatch.setattr(login, "_SCRAM_PLUS", b"nothing of the kind")
    with pytest.raises(BackendUnavailable, match="channel binding negotiation error"):
        _connect(guarded.port, **mine)


def test_certificates(tmp_path: Path) -> None:
    """They are bound to by SHA-256 if they are signed by it, or by less; others are left to libpq."""

    def made(*options: str) -> bytes:
        command = [
            need("openssl", "openssl"),
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            f"{tmp_path}/key",
            "-outform",
            "DER",
        ]
        return subprocess.run([*command, *options], check=True, capture_output=True, timeout=60).stdout

    ecdsa = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    for options in (("-newkey", "rsa:2048"), ecdsa):
        good = made(*options, "-sha256")
        assert end_point(good) == hashlib.sha256(good).digest()
        assert end_point(made(*options, "-sha384")) is None
    assert end_point(made("-newkey", "ed25519")) is None
    assert [end_point(good[:length]) for length in range(8)] == [None] * 8
    with pytest.raises(Unsuited):
        Scram("server", b"s3cret", made("-newkey", "ed25519"), bound=True)


@pytest.mark.parametrize("kind", [7, 9, 2, 99])
@pytest.mark.usefixtures("home")
def test_other_logins(kind: int, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Kerberos and the like are left to libpq; where that is missing, this is said."""
    with _speaking(_asking(kind)) as port:
        url = f"postgresql://worker@{HOST}:{port}/db"
        with pytest.raises(Unsuited):
            _connect(port)
        asked: list[str] = []

        def connect(name: str, _settings: dict[str, str], _deadline: float) -> None:
            asked.append(name)
            raise BackendUnavailable(f"{name}: libpq says no")

        with monkeypatch.context() as patch:
            patch.setattr(LibpqConnection, "connect", connect)
            with pytest.raises(BackendUnavailable, match="libpq says no"):
                node_at(url).acquire(make_claim(key))
        assert asked == [url.replace("worker@", "")]

        def missing() -> None:
            raise ImportError

        monkeypatch.setattr(servers, "_load_libpq", missing)
        with pytest.raises(
            BackendUnavailable, match=r"another login than that of the URL; to try another way needs .*libpq"
        ):
            node_at(url).acquire(make_claim(key))


@pytest.mark.parametrize("words", ["sorry, too many clients already", "leider schon zu viele Verbindungen"])
@pytest.mark.usefixtures("home")
def test_a_full_server(words: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again, and libpq is not asked at all: that would be another one in the queue."""
    full = message(b"E", b"SFATAL\0VFATAL\0C53300\0M%b\0\0" % words.encode())
    monkeypatch.setattr(servers, "_load_libpq", lambda: pytest.fail("libpq was asked"))
    with _speaking(full) as port:
        node = node_at(f"postgresql://u:pass@{HOST}:{port}/db", 1.0)
        turned_away(lambda: node.acquire(make_claim(key)), words, ServerBusy)


@pytest.mark.parametrize(
    ("told", "shown", "reads"),
    [
        ({}, "", False),
        ({b"in_hot_standby": b"on"}, "", True),
        ({b"default_transaction_read_only": b"on"}, "", True),
        ({b"in_hot_standby": None}, "off", False),
        ({b"in_hot_standby": None}, "on", True),
        ({b"in_hot_standby": None, b"default_transaction_read_only": b"on"}, "", True),
    ],
)
def test_servers_that_only_read(told: dict[bytes, bytes | None], shown: str, reads: bool) -> None:
    """They are passed over, as libpq does; one that does not tell is asked."""
    known = {name: value for name, value in {**STATES, **told}.items() if value is not None}
    words = [_LET_IN + states(known) + READY]
    if shown:
        words.append(message(b"1") + message(b"2") + one_row(shown.encode()))
    with _speaking(*words) as port:
        if reads:
            with pytest.raises(BackendUnavailable, match="session is read-only; name the primary"):
                _connect(port)
        else:
            _connect(port).close()


@pytest.mark.parametrize(
    ("version", "number"),
    [(b"15.18 (Debian 15.18-0+deb12u1)", 150018), (b"17beta1", 170000), (b"9.6.24", 90006), (b"", 0), (b"x", 0)],
)
def test_versions(version: bytes, number: int) -> None:
    """The server's is a number that can be compared."""
    with _speaking(_LET_IN + states({**STATES, b"server_version": version}) + READY) as port:
        assert _connect(port).version == number


_FATAL = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
_ERROR = message(b"E", b"SERROR\0VERROR\0C40001\0Mnot today\0\0")
_COMPLETE = message(b"C", b"UPDATE 1\0")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        # It may have been committed: the statement was complete, and the server only did not say so.
        (_COMPLETE + _FATAL, ConnectionClosed, "terminating connection"),
        (_FATAL, ConnectionClosed, "terminating connection"),
        # A pooler's, which does not say how grave it is, and hangs up.
        (message(b"E", b"SFATAL\0C08P01\0Mquery_wait_timeout\0\0"), ConnectionClosed, "query_wait_timeout"),
        (_ERROR + _FATAL, ConnectionClosed, "terminating connection"),
        (_COMPLETE + _ERROR + message(b"Z", b"I"), Refused, "not today"),
        (_ERROR + message(b"Z", b"I"), Refused, "not today"),
        # It is in a transaction, of whomever, so that nothing is committed.
        (_COMPLETE + message(b"Z", b"T"), BackendUnavailable, "unexpected reply"),
        (_ERROR + message(b"Z", b"E"), BackendUnavailable, "unexpected reply"),
        (message(b"Z", b"I"), BackendUnavailable, "unexpected reply"),
        (_COMPLETE + DONE, BackendUnavailable, "unexpected reply"),
        (one_row(b"x", b"y"), BackendUnavailable, "unexpected reply"),
        (message(b"D", b"\0\1\0\0\0\2x"), BackendUnavailable, "unexpected reply"),
        (message(b"D", b"\0\1\0\0\0\1xx"), BackendUnavailable, "unexpected reply"),
    ],
)
def test_ends_of_an_answer(answer: bytes, error: type[Exception], said: str) -> None:
    """Only a server that says so has refused a statement, and only one that says so has done it."""
    with answering(answer) as url:
        connection = _connect(int(url.rpartition(":")[2].partition("/")[0]))
        with pytest.raises(error, match=said) as caught:
            _ask(connection, "UPDATE")
        assert isinstance(caught.value, Refused) is (error is Refused)
