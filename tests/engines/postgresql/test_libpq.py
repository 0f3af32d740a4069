"""libpq from each of its sources, or psycopg.pq if there is none, on real servers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cronlock.engines.postgresql import libpq
from cronlock.engines.postgresql import libpq_connection as pgsql
from cronlock.engines.postgresql import servers as postgresql_servers
from cronlock.engines.postgresql import store as postgresql_store
from cronlock.engines.postgresql.messages import Row
from cronlock.engines.url import URL
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD
from cronlock.testing import fresh_key, granted, make_claim, make_ending, refused
from labs.installation import ROOT
from labs.servers.postgresql import DATABASE, SUPERUSER, PostgresqlServer
from labs.servers.process import HOST, eventually, free_port
from labs.servers.tls import tls

#: Long enough for any request on a loaded machine, in seconds.
_PATIENT = 20.0
_SYSTEMS = "libpq.so.5"
# Prints what a run would use: the client's module, and the file of libpq.
_TELL = """\
from cronlock.engines.postgresql.libpq_connection import pq
maps = open("/proc/self/maps").read().split()
print(pq.__name__, "psycopg" in sys.modules, *sorted({word for word in maps if "/libpq" in word}))
"""


def _load(way: str) -> tuple[ModuleType, ModuleType]:
    """Return fresh modules of store and connection, as if libpq were available in this `way` only."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (libpq, pgsql, postgresql_servers, postgresql_store):
            patch.delitem(sys.modules, module.__name__)
            package, _, name = module.__name__.rpartition(".")
            patch.delattr(sys.modules[package], name)
        if way == "system":
            patch.setattr(sys, "path", [path for path in sys.path if not os.path.exists(f"{path}/psycopg_binary")])
        elif way == "psycopg":
            patch.setitem(sys.modules, libpq.__name__, None)
        store = importlib.import_module(postgresql_store.__name__)
        return store, importlib.import_module(pgsql.__name__)


@pytest.fixture(scope="module", params=["bundled", "system", "psycopg"])
def modules(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Store and connection upon libpq as psycopg's binary package brings it, the system's, and psycopg.pq."""
    return _load(request.param)


@pytest.fixture
def connection_module(modules: tuple[Any, Any]) -> Any:
    """The connection's module."""
    return modules[1]


@pytest.fixture
def open_at(modules: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Open stores that ask libpq, and are closed at the end."""
    monkeypatch.setenv("PGAPPNAME", "of the tests")
    stores: list[Any] = []

    def open_one(url: str) -> Any:
        stores.append(modules[0].open_store(URL(url), _PATIENT))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server."""
    with PostgresqlServer() as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresqlServer]:
    """A server that speaks TLS only, and wants passwords."""
    with PostgresqlServer(tls=True, users={"worker": "s3cret"}) as running:
        yield running


@pytest.fixture
def connection(connection_module: Any, server: PostgresqlServer) -> Iterator[pgsql.LibpqConnection]:
    """A connection."""
    connected = connection_module.LibpqConnection.connect("server", _settings(server.port), time.monotonic() + _PATIENT)
    yield connected
    connected.close()


def _settings(port: int) -> dict[str, str]:
    address = {"host": HOST, "port": str(port), "user": SUPERUSER, "dbname": DATABASE}
    return {**address, "client_encoding": "UTF8", "application_name": "it's \\ cronlock"}


def _ask(connection: pgsql.LibpqConnection, statement: str, *values: str | None, width: int = 1) -> list[Row]:
    return connection.ask(statement.encode(), values, width, time.monotonic() + _PATIENT)


# A connection, each way


def test_lease(open_at: Callable[[str], Any], server: PostgresqlServer) -> None:
    """A key is acquired, held, renewed, released and recorded."""
    node, other, key = (*(Leases(open_at(server.url())) for _ in range(2)), fresh_key())
    grant = granted(node.acquire(make_claim(key)))
    refused(other.acquire(make_claim(key)), HELD)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    assert key in set(other.keys())
    granted(other.acquire(make_claim(key)))


def test_values(connection: pgsql.LibpqConnection) -> None:
    """NULL differs from empty text, letters are kept, and values larger than any buffer go both ways."""
    values = (None, "", "\u00e4\U0001f512'\\", "x" * (1 << 23))
    assert _ask(connection, "SELECT $1::text, $2::text, $3::text, $4::text", *values, width=4) == [list(values)]
    assert _ask(connection, "SELECT n FROM generate_series(1, 5000) n")[-1] == ["5000"]
    assert _ask(connection, "SELECT 1 WHERE false") == []


def test_properties_of_the_server(connection: pgsql.LibpqConnection) -> None:
    """Version and process are as the server says."""
    row = [str(connection.version), str(connection.process), "it's \\ cronlock"]
    settings = "current_setting('server_version_num'), pg_backend_pid(), current_setting('application_name')"
    assert _ask(connection, f"SELECT {settings}", width=3) == [row]
    assert not connection.encrypted


def test_errors(connection_module: Any, connection: pgsql.LibpqConnection) -> None:
    """An error of the server's has its code and one line, and leaves the connection usable."""
    loud = "DO $$ BEGIN RAISE EXCEPTION E'n\u00e4h\\nand %', repeat('x', 5000) USING ERRCODE = 'CL001'; END $$"
    for statement, code, message in (("SELECT 1 / 0", "22012", "division by zero"), (loud, "CL001", "n\u00e4h and xx")):
        with pytest.raises(connection_module.Refused, match=f"^server: {message}") as caught:
            _ask(connection, statement)
        assert caught.value.code == code
        assert connection.quiet()
    assert _ask(connection, "SELECT 1") == [["1"]]


def test_notices(connection: pgsql.LibpqConnection, capfd: pytest.CaptureFixture[str]) -> None:
    """Notices of the server's are written nowhere: standard error belongs to the command."""
    for _ in range(3):
        assert _ask(connection, "DO $$ BEGIN RAISE WARNING 'loud'; END $$") == []
    assert capfd.readouterr() == ("", "")


def test_lost_connection(connection: pgsql.LibpqConnection, server: PostgresqlServer) -> None:
    """A connection that the server ended is noticed, fails with its words, and is closed as often as one likes."""
    assert connection.quiet()
    server.run("SELECT pg_terminate_backend(%s)", connection.process)
    eventually(lambda: not connection.quiet(), "the goodbye is noticed")
    with pytest.raises(BackendUnavailable, match=r"terminating connection|closed the connection"):
        _ask(connection, "SELECT 1")
    for _ in range(2):
        connection.close()
        assert not connection.quiet()
        with pytest.raises(BackendUnavailable):
            _ask(connection, "SELECT 1")


def test_connections_and_answers_end(
    connection: pgsql.LibpqConnection, connection_module: Any, server: PostgresqlServer
) -> None:
    """A closed connection is one that the server has no more; what answers took is given back."""
    passing = connection_module.LibpqConnection.connect("server", _settings(server.port), time.monotonic() + _PATIENT)
    process = passing.process
    passing.close()
    there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    eventually(lambda: server.run(there, process) == [(0,)], "the server's process ends")
    before = _resident()
    for _ in range(100):
        assert len(str(_ask(connection, "SELECT repeat('x', 1 << 20)")[0][0])) == 1 << 20
    assert _resident() - before < 50 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_tls_and_passwords(open_at: Callable[[str], Any], guarded: PostgresqlServer) -> None:
    """A verified server gets the password; a foreign server, a wrong password and no server give different errors."""
    store, deadline = open_at(guarded.url(user="worker", password="s3cret")), time.monotonic() + _PATIENT
    assert store.read(fresh_key(), deadline).data is None
    connection = store.servers.connection(deadline)
    assert (type(connection).__name__, connection.encrypted) == ("LibpqConnection", True)
    for url, message in (
        (guarded.url(user="worker", password="wr0ng"), 'password authentication failed for user "worker"'),
        (guarded.url(sslrootcert=str(tls().client_cert)), "certificate verify failed"),
        (f"postgresql://{HOST}:{free_port()}/db", "Connection refused"),
    ):
        with pytest.raises(BackendUnavailable, match=message):
            open_at(url).read("key", time.monotonic() + _PATIENT)


# Which way is taken


def _tell(*options: str, before: str = "") -> list[str]:
    code = f"import sys; sys.path.append({str(ROOT)!r}); {before}\n{_TELL}"
    done = subprocess.run([sys.executable, "-I", *options, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_psycopgs_is_taken_first() -> None:
    """Of a binary package of psycopg only the library is used."""
    module, psycopg, path = _tell()
    assert (module, psycopg) == (libpq.__name__, "False")
    assert os.path.basename(os.path.dirname(path)) == "psycopg_binary.libs"


def test_the_systems_is_taken_next() -> None:
    """Without any Python package the system's library will do; so for cronlock's own packages, which have no site."""
    module, psycopg, path = _tell("-S")
    assert (module, psycopg) == (libpq.__name__, "False")
    assert os.path.basename(path).startswith(_SYSTEMS)


def test_psycopg_is_taken_last() -> None:
    """Where no library is found psycopg is asked, which knows more addresses."""
    nowhere = "import _ctypes; real = _ctypes.dlopen; _ctypes.dlopen = lambda name, mode: real(name and 'nix', mode)"
    assert _tell(before=nowhere)[:2] == ["psycopg.pq", "True"]


def _install(folder: Path, library: Path | None = None) -> Path:
    """Lay out psycopg's binary package in `folder` as pip does, with a library that is one or none."""
    (folder / "psycopg_binary").mkdir(parents=True)
    (folder / "psycopg_binary/__init__.py").touch()
    (folder / "psycopg_binary.libs").mkdir()
    path = folder / "psycopg_binary.libs/libpq-0.so.5"
    if library is None:
        path.write_text("nonsense")
    else:
        path.symlink_to(library)
    return path


def test_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where psycopg's binary package is installed, and never in what the current directory may be."""
    monkeypatch.chdir(tmp_path)
    _install(tmp_path)
    _install(tmp_path / "relative")
    halves = _install(tmp_path / "halves").parents[1]
    (halves / "psycopg_binary/__init__.py").unlink()
    monkeypatch.setattr(sys, "path", ["", ".", "relative", str(halves), str(tmp_path / "nowhere")])
    assert list(libpq._paths()) == [_SYSTEMS]
    there = _install(tmp_path / "there")
    monkeypatch.setattr(sys, "path", ["", str(there.parents[1])])
    assert list(libpq._paths()) == [str(there), _SYSTEMS]


def test_libraries_that_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that cannot be loaded, or lacks a function, is passed over; with none left it says so."""
    libc = next(word for word in Path("/proc/self/maps").read_text().split() if "/libc" in word and ".so" in word)
    folders = [_install(tmp_path / "broken").parents[1], _install(tmp_path / "old", Path(libc)).parents[1]]
    monkeypatch.setattr(sys, "path", [str(folder) for folder in folders])
    assert libpq._open() > 0
    paths = list(libpq._paths())[:-1]
    assert len(paths) == 2
    monkeypatch.setattr(libpq, "_paths", lambda: iter(paths))
    with pytest.raises(ImportError, match="no libpq"):
        libpq._open()
