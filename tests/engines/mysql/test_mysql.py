"""MySQL's own tests: Galera, TLS, logins, locks, uncommitted reads, servers of other products.

`tests.engines.sql` has what it shares with PostgreSQL.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pymysql
import pytest

from cronlock.doctor.findings import NOTE
from cronlock.engines.mysql import sql as statements
from cronlock.engines.mysql.servers import Servers, is_on
from cronlock.engines.mysql.store import MysqlStore
from cronlock.engines.wire.stream import ConnectionClosed
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, Conflict, Grant
from cronlock.testing import LONG, eventually, fresh_key, granted, make_claim, make_ending, refused
from labs.impostors import listening
from labs.installation import ROOT
from labs.proxy import Proxy
from labs.servers.mariadb import ADMIN, DATABASE, MariadbGalera, MariadbReplica, MariadbServer
from labs.servers.process import HOST, need
from labs.servers.tls import tls

from ..hooks import PATIENT, Opener, node_at, why_unavailable
from ..look import Look
from ..sql.kinds import HASTY, SECRET, Mysql, locked


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """One server for all tests that do not stop it."""
    with MariadbServer(settings={"max-connections": "30"}) as running:
        yield running


def _servers(node: Leases) -> Servers:
    assert isinstance(node.store, MysqlStore)
    return node.store.servers


# Statements


def test_what_was_not_committed_is_not_shown(server: MariadbServer, open_at: Opener, key: str) -> None:
    """Also where the server's setting is to show it, a read shows what was committed, and nothing of it stays."""
    server.run("SET GLOBAL tx_isolation = 'READ-UNCOMMITTED'")
    node = open_at(server.url())
    try:
        granted(node.acquire(make_claim(key)))
        with locked("mysql", server, key) as client:
            with client.cursor() as cursor:
                cursor.execute("UPDATE cronlock SET lapses_at = 0 WHERE name = %s", (key.encode(),))
            refused(node.acquire(make_claim(key)), HELD)
        ((level,),) = _servers(node).query("SELECT @@tx_isolation", time.monotonic() + PATIENT)
        assert level == "READ-UNCOMMITTED"
    finally:
        server.run("SET GLOBAL tx_isolation = 'REPEATABLE-READ'")


def test_the_refused_change_nothing(server: MariadbServer, node: Leases, key: str) -> None:
    """A refused swap writes nothing, so it does not wait for the disk."""
    granted(node.acquire(make_claim(key, hold=LONG)))
    written = server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'")
    for _ in range(5):
        refused(node.acquire(make_claim(key)), HELD)
    assert server.run("SHOW GLOBAL STATUS LIKE 'Handler_update'") == written


@pytest.mark.parametrize("there", ["nothing was there", "a row was there"])
def test_swap_that_was_done_before_a_refusal(
    node: Leases, key: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server refuses what comes behind a swap it is asked again, and the swap counts as done, once."""
    store, deadline = node.store, time.monotonic() + PATIENT
    seen = store.read(key, deadline)
    if there == "a row was there":
        seen = store.swap(key, seen, b"x", lease=LONG, hold=0.0, deadline=deadline)[1]
    for code in Mysql.rolled_back:
        with Mysql().refusing(monkeypatch, code, behind=True):
            done, cell = store.swap(key, seen, b"y", lease=LONG, hold=0.0, deadline=deadline)
        assert (done, cell.version) == (True, store.read(key, deadline).version)
        seen = cell


def test_only_a_row_that_is_there_is_passed_over(server: MariadbServer, open_at: Opener) -> None:
    """A value that is too long for an INSERT is refused, not truncated."""
    server.run("CREATE TABLE narrow LIKE cronlock")
    server.run("ALTER TABLE narrow MODIFY record VARBINARY(10) NOT NULL")
    node = open_at(server.url(table="narrow"))
    with pytest.raises(BackendUnavailable, match="Data too long"):
        node.acquire(make_claim("job"))
    assert server.run("SELECT COUNT(*) FROM narrow") == [(0,)]


def test_replaced_before_it_was_looked_at(node: Leases, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap that was done is reported with its own cell, even if another node wrote at once."""
    store, deadline = node.store, time.monotonic() + PATIENT
    seen = store.swap(key, store.read(key, deadline), b"x", lease=LONG, hold=0.0, deadline=deadline)[1]
    monkeypatch.setattr(statements, "WRITTEN", statements.WRITTEN.replace("= {version}", "= X'00'"))
    done, cell = store.swap(key, seen, b"y", lease=LONG, hold=0.0, deadline=deadline)
    monkeypatch.undo()
    assert (done, cell.data) == (True, b"y")
    assert store.read(key, deadline).version == cell.version


def test_lock_that_is_not_waited_for(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A request that waited too long for a lock is repeated until the deadline."""
    node = open_at(server.url(), 3.5)
    with locked("mysql", server, key) as client:
        with client.cursor() as cursor:
            cursor.execute("INSERT INTO cronlock VALUES (%s, 'v', 'r', 0, 0)", (key.encode(),))
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"Lock wait timeout exceeded|no answer in time"):
            node.acquire(make_claim(key))
        assert time.monotonic() - began < 10
        timer = threading.Timer(1.3, client.rollback)
        timer.start()
        granted(open_at(server.url()).acquire(make_claim(key)))
        timer.join()


def test_server_without_any_room(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that has no connection left for anybody is asked again until it has, within the limit."""
    granted(open_at(server.url()).acquire(make_claim(key)))
    server.run("CREATE USER crowded IDENTIFIED BY 'x'")
    server.run(f"GRANT SELECT, INSERT, UPDATE ON {DATABASE}.cronlock TO crowded")
    url = server.url(user="crowded", password="x")
    crowd: list[pymysql.connections.Connection] = []

    def join() -> None:
        for _ in range(1000):
            crowd.append(server.client(unix_socket=None, host=HOST, port=server.port, user="crowded", password="x"))

    with pytest.raises(pymysql.OperationalError, match="Too many connections"):
        join()
    with pytest.raises(BackendUnavailable, match="Too many connections"):
        open_at(url, HASTY).acquire(make_claim(key))
    timer = threading.Timer(0.5, lambda: [one.close() for one in crowd])
    timer.start()
    refused(open_at(url).acquire(make_claim(key)), HELD)
    timer.join()


def test_listing_a_table_of_others(server: MariadbServer, open_at: Opener) -> None:
    """One whose column has the same name, and numbers in it, is refused in one line."""
    server.run("CREATE TABLE people (name INT)")
    server.run("INSERT INTO people VALUES (1)")
    with pytest.raises(BackendUnavailable, match="unexpected reply"):
        list(open_at(server.url(table="people")).keys())


@pytest.mark.parametrize("value", [0, "0", b"0", "OFF", b"OFF", 1, b"ON", "NO_LOCK", None, Decimal("sNaN")])
def test_variable_that_is_on(value: object) -> None:
    """A variable counts as on unless it is surely off: servers show it as a number or a word."""
    assert is_on(value) == (str(value).strip("b'") not in ("0", "OFF"))


# A server that is slow


def test_answer_that_drips(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A server that sends a byte now and then does not stretch the time limit."""
    granted(open_at(server.url()).acquire(make_claim(key)))
    for connected in (False, True):
        drip = _Drip(server.port)
        drip.slow = not connected
        with drip:
            node = open_at(server.url(port=drip.port), 1.5)
            if connected:
                assert node.read(key) is not None
                drip.slow = True
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match="no answer in time"):
                node.read(key)
            assert 1.4 <= time.monotonic() - began < 10


class _Drip(Proxy):
    """Sends a byte of what the server says every tenth of a second, once `slow`."""

    slow = False

    def _downward(self, connection: object, data: bytes) -> None:
        for address in range(len(data)):
            if not self.slow:
                connection.client.sendall(data[address:])  # type: ignore[attr-defined]
                return
            connection.client.sendall(data[address : address + 1])  # type: ignore[attr-defined]
            time.sleep(0.1)


def test_goodbye(server: MariadbServer, open_at: Opener, key: str) -> None:
    """A node that closes its connection says so, and the server's log has no complaint of it."""
    before = server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
    node = open_at(server.url(), 0.5)
    grant = granted(node.acquire(make_claim(key)))
    time.sleep(0.6)  # Beyond the limit of its last request.
    assert node.renew(grant)
    time.sleep(0.6)
    node.close()
    time.sleep(0.2)
    assert server.run("SHOW GLOBAL STATUS LIKE 'Aborted_clients'") == before


# Several servers


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[MariadbServer, MariadbReplica]]:
    """A server and its replica, which takes over at the end."""
    with (
        MariadbServer(users={"worker": "secret"}, settings=MariadbReplica.PRIMARY) as primary,
        MariadbReplica(primary) as replica,
    ):
        yield primary, replica


def test_replica_is_passed_over_by_administrators(
    pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str
) -> None:
    """A user whose writes a replica would accept still writes to the primary; a replica alone is refused."""
    primary, replica = pair
    node = open_at(Mysql().both(replica, primary, ADMIN))
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    eventually(replica.is_in_step, "the replica is in step")
    (own,) = replica.run("SELECT COUNT(*) FROM cronlock WHERE name = %s", key.encode())
    assert own == (1,)  # By replication.
    with pytest.raises(BackendUnavailable, match=r"the server is read-only: a replica\?: name the server"):
        open_at(replica.url(user=ADMIN)).acquire(make_claim(key))


def test_switch_within_a_run(pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str) -> None:
    """A server that stops taking writes under a run is left for the one that does."""
    primary, replica = pair
    node = open_at(Mysql().both(primary, replica))
    grant = granted(node.acquire(make_claim(key)))
    eventually(replica.is_in_step, "the replica is in step")
    primary.run("SET GLOBAL read_only = ON")
    with pytest.raises(BackendUnavailable, match="read-only"):
        open_at(Mysql().both(primary, replica), HASTY).renew(grant)
    replica.run("SET GLOBAL read_only = OFF")
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    replica.run("SET GLOBAL read_only = ON")
    primary.run("SET GLOBAL read_only = OFF")


def test_galera(open_at: Opener) -> None:
    """Of two claims to two nodes of a cluster at the same moment one is granted, and both nodes know."""
    with MariadbGalera() as cluster:
        nodes = [open_at(cluster.nodes[number % 2].url()) for number in range(8)]
        key, fence = fresh_key(), 0
        for _ in range(40):
            answers: list[Grant | Conflict] = []
            barrier = threading.Barrier(len(nodes))

            def race(racer: Leases, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
                start.wait()
                into.append(racer.acquire(make_claim(key)))

            threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(answers) == len(nodes)
            (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
            assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
            assert (grant.fence or 0) > fence
            fence = grant.fence or 0
            assert nodes[0].renew(grant)
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        behind, node = nodes[1], open_at(cluster.nodes[0].url())
        with cluster.nodes[1].client() as lock:
            # Hides the other node's writes here until it ends.
            lock.cursor().execute("FLUSH TABLES WITH READ LOCK")
            grant = granted(node.acquire(make_claim(key)))
            later = threading.Timer(1.0, lambda: lock.cursor().execute("UNLOCK TABLES"))
            later.start()
            assert behind.force_release(key, grant.claim.owner)
            later.join()
        assert not node.renew(grant)
        look = Look(cluster.nodes[0].url())
        assert "Galera, 2 nodes" in look.one("replication").text
        both = f"mysql://{ADMIN}@{HOST}:{cluster.nodes[0].port},{HOST}:{cluster.nodes[1].port}/{DATABASE}"
        assert Look(both).one("read-only").level == NOTE
        cluster.nodes[0].kill()
        survivor = open_at(cluster.nodes[1].url(), HASTY)
        # Half of a cluster is not its majority, as it finds out in time.
        eventually(lambda: "WSREP has not yet prepared" in why_unavailable(survivor), "the other node is missed")


# Permissions


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
    assert bool(_servers(node).connection(time.monotonic() + PATIENT).certificate) == (mode != "required")


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


# Nonsense


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


def test_nobody(server: MariadbServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id without a name is told to write a user into the URL."""
    for name in ("LOGNAME", "USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(ConfigError, match="no user in the URL"):
        node_at(f"mysql://{HOST}:{server.port}/db").acquire(make_claim(key))
