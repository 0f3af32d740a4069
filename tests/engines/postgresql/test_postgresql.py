"""PostgreSQL's own tests: encodings, indexes, TLS, passwords, privileges, servers of other products.

`tests.engines.sql` has what it shares with MySQL.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cronlock.engines.postgresql import sql as statements
from cronlock.engines.postgresql.store import PostgresqlStore
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import HELD, Grant
from cronlock.testing import LONG, NASTY_KEYS, eventually, granted, make_claim, make_ending, refused, run_of
from labs.impostors import impostor
from labs.servers.postgresql import PostgresqlServer
from labs.servers.process import HOST
from labs.servers.tls import tls

from ..hooks import PATIENT, Opener, node_at
from ..look import Look
from ..sql.kinds import SECRET as _SECRET
from .support import DONE, answering, message, one_row


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """One server for all tests."""
    with PostgresqlServer() as running:
        running.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with running.client(dbname="latin") as client:
            client.execute(statements.statement(statements.CREATE, "cronlock"))
        yield running


def test_encoding_that_lacks_most_letters(server: PostgresqlServer, open_at: Opener) -> None:
    """In a database of another encoding keys and words are what they are everywhere; here by a Unix socket."""
    node = open_at(server.unix_url().replace("/postgres?", "/latin?"))
    for key in NASTY_KEYS:
        grant = granted(node.acquire(make_claim(key, host="n\u00e4h", program="\U0001f512\udcff")))
        conflict = refused(node.acquire(make_claim(key)), HELD)
        assert run_of(conflict).host == "n\u00e4h"
        assert node.release(grant, make_ending(), keep_hold=False)
    assert sorted(node.keys()) == sorted(NASTY_KEYS)


@pytest.mark.parametrize("name", ["%", "%4", "%zz", "a%ZZ%41", "\udcff%"])
def test_name_that_cronlock_did_not_make(name: str) -> None:
    """A foreign row is listed under some key."""
    assert isinstance(statements.decode(name), str)
    assert statements.decode(statements.code(name)) == name


def test_the_refused_write_nothing(server: PostgresqlServer, node: Leases, key: str) -> None:
    """A refused swap takes no transaction number, so it neither locks the row nor waits for the disk."""
    granted(node.acquire(make_claim(key, hold=LONG)))
    look = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    before = server.run(look)
    for _ in range(5):
        refused(node.acquire(make_claim(key)), HELD)
    # Others of this server may have written; five that do not are not five that do.
    assert int(server.run(look)[0][0]) - int(before[0][0]) < 5


def test_renewals_stay_out_of_the_index(server: PostgresqlServer, open_at: Opener) -> None:
    """A row that is renewed often leaves nothing behind in the index."""
    server.make_table("renewed")
    node = open_at(server.url(table="renewed"))
    for number in range(20):
        grant = granted(node.acquire(make_claim("job", program="x" * 100)))
        assert node.renew(grant)
        assert node.release(grant, make_ending(number), keep_hold=False)
    node.close()

    def counted() -> bool:
        ((all_of_them, hot),) = server.run(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'renewed'"
        )
        return bool(all_of_them >= 59 and hot == all_of_them)

    eventually(counted, "the statistics tell of all writes")


def test_columns_of_another_type(server: PostgresqlServer, open_at: Opener, key: str) -> None:
    """A table whose columns have the right names and the wrong types, and a view, are not cronlock's."""
    server.run("CREATE TABLE numbers (LIKE cronlock INCLUDING ALL)")
    server.run("ALTER TABLE numbers ALTER lapses_at TYPE timestamptz USING now()")
    with pytest.raises(ForeignValue, match="is not a cronlock table of this layout"):
        open_at(server.url(table="numbers")).acquire(make_claim(key))
    with pytest.raises(ForeignValue, match="is not a cronlock table of this layout"):
        open_at(server.url(table="pg_catalog.pg_class")).read(key)


def test_server_that_only_reads(server: PostgresqlServer, open_at: Opener, key: str) -> None:
    """The reply of a read-only server, or of a standby behind a pooler, is not used."""
    node = open_at(server.url())
    grant = granted(node.acquire(make_claim(key)))
    connection = node.store.servers.connection(time.monotonic() + PATIENT)  # type: ignore[attr-defined]
    connection.ask(b"SET default_transaction_read_only = on", (), 0, time.monotonic() + PATIENT)
    with pytest.raises(BackendUnavailable, match="read-only: a replica"):
        node.read(key)
    assert node.renew(grant)


_ODD_ANSWERS = {
    "no row": message(b"n") + DONE,
    "no column": one_row(),
    "one column": one_row(b"x"),
    "two columns": one_row(b"x", b"1"),
    "no numbers": one_row(*[b"x"] * 5, b"off"),
    "long numbers": one_row(*[b"9" * 5000] * 5, b"off"),
    "large numbers": one_row(*[b"9" * 19] * 5, b"off"),
    "a replica's": one_row(b"1", b"x", b"x", b"1", b"1", b"on"),
    "three numbers": one_row(*[b"9" * 30] * 3),
    "COPY out": message(b"H", struct.pack("!BH", 0, 0)),
    "COPY in": message(b"G", struct.pack("!BH", 0, 0)),
    "COPY both": message(b"W", struct.pack("!BH", 0, 0)),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", _ODD_ANSWERS)
def test_answers_that_make_no_sense(name: str, key: str, open_at: Opener) -> None:
    """No answer of whatever shape is more than one line, nor taken for a grant; one without end is not waited for."""
    with answering(_ODD_ANSWERS[name]) as url:
        node, claim = open_at(url, 5.0), make_claim(key)
        grant = Grant(claim, fence=1, ttl=claim.ttl)
        asks: list[Callable[[], object]] = [
            lambda: node.acquire(claim),
            lambda: node.renew(grant),
            lambda: node.release(grant, make_ending(), keep_hold=True),
            lambda: node.read(key),
            lambda: list(node.keys()),
            lambda: node.force_release(key, claim.owner),
            lambda: node.store.swap(key, Cell(), b"x", lease=1.0, hold=0.0, deadline=time.monotonic() + 5),
            lambda: Look(url, timeout=5.0),
        ]
        answers: list[object] = []
        for ask in asks:
            try:
                answers.append(ask())
            except (BackendUnavailable, ForeignValue) as error:
                answers.append(str(error))
        assert not any(isinstance(answer, Grant) or "\n" in str(answer) for answer in answers)


@pytest.mark.parametrize(
    "words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"N" * 70000, b"\0" * 70000]
)
def test_what_is_no_postgresql(words: bytes, key: str) -> None:
    """Another kind of server on the port is one line, in time."""
    with impostor(words, hangs_up=True) as port, pytest.raises(BackendUnavailable) as caught:
        node_at(f"postgresql://u:hidden@{HOST}:{port}/db", 2.0).acquire(make_claim(key))
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresqlServer]:
    """A server that speaks TLS only, and wants passwords."""
    with PostgresqlServer(tls=True, users={"worker": _SECRET, "guest": "guest"}) as running:
        running.run("REVOKE ALL ON cronlock FROM guest")
        running.run("CREATE TABLE lent (LIKE cronlock INCLUDING ALL)")
        running.run("GRANT SELECT ON lent TO guest")
        yield running


def test_tls_and_password(guarded: PostgresqlServer, open_at: Opener, key: str) -> None:
    """A server that is verified takes the password of the URL."""
    node = open_at(guarded.url())
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    assert isinstance(node.store, PostgresqlStore)
    assert node.store.servers.connection(time.monotonic() + PATIENT).encrypted


def test_server_that_is_not_the_one(guarded: PostgresqlServer, key: str) -> None:
    """A certificate of another authority is refused, and so is a connection without TLS."""
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        node_at(guarded.url(sslrootcert=str(tls().client_cert))).acquire(make_claim(key))
    with pytest.raises(BackendUnavailable, match=r"pg_hba\.conf"):
        node_at(guarded.url(sslmode="disable")).acquire(make_claim(key))


def test_wrong_password(guarded: PostgresqlServer, key: str) -> None:
    """A refused password is said, and it is in no text."""
    with pytest.raises(BackendUnavailable, match='password authentication failed for user "worker"') as caught:
        node_at(guarded.url(user="worker", password="wr0ng&secret")).acquire(make_claim(key))
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(BackendUnavailable, match="no password supplied") as caught:
        node_at(guarded.url(user="worker").replace("verify-full", "require")).acquire(make_claim(key))


def test_password_from_a_file(
    guarded: PostgresqlServer,
    open_at: Opener,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The password may lie where libpq looks for it."""
    passwords = tmp_path / "pgpass"
    secret = _SECRET.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"{HOST}:{guarded.port}:postgres:worker:{secret}\n")
    passwords.chmod(0o600)
    granted(open_at(guarded.url(user="worker", passfile=str(passwords))).acquire(make_claim(key)))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    refused(open_at(guarded.url(user="worker")).acquire(make_claim(key)), HELD)


def test_missing_rights(guarded: PostgresqlServer, open_at: Opener, key: str) -> None:
    """A user who may not use the table is told what to grant."""
    for table in ("cronlock", "lent"):
        node = open_at(guarded.url(user="guest", password="guest", table=table))
        with pytest.raises(BackendUnavailable, match=rf"permission denied.* GRANT SELECT, INSERT, UPDATE ON {table}"):
            node.acquire(make_claim(key))
    assert node.read(key) is None


def test_commit_that_fails(server: PostgresqlServer, open_at: Opener, key: str) -> None:
    """A swap that fails at its commit, after its row was returned, is not a grant."""
    server.make_table("uncommitted")
    server.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$"
    )
    server.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON uncommitted"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    node = open_at(server.url(table="uncommitted"))
    with pytest.raises(BackendUnavailable, match="not today"):
        node.acquire(make_claim(key))
    assert node.read(key) is None
