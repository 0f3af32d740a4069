"""The cost of a run in countable terms: modules, system calls, requests, byte code.

Time is measured by ``make bench``; here no slow machine can make a test fail.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.counts import MemcachedCount, RedisCount
from bench.watch import LOGIN, SentHTTP, SentMySQL, SentPostgreSQL, Watch, WatchCount
from cronlock.lease import timing
from labs.installation import clean_environment, copy_checkout

from .starter import Servers, Starter, imported_by, random_key


def _names(text: str) -> set[str]:
    return set(text.split())


# Modules beyond `import os`, by what imports them. Python 3.9 opens text files with the first line.
_START = {"__future__", "_locale", "_bootlocale", "gc"}
_RUN = _START | {"_ctypes", "errno", "select"}
_SOCKET = _RUN | {"_socket"}
_HASHES = {"_sha1", "_sha2", "_sha256"}
_FOREIGN = {
    "version": _START,
    "file": _RUN | {"binascii", "fcntl"},
    "redis": _SOCKET,
    "rediss": _SOCKET | {"_ssl"},
    "sentinel": _SOCKET | {"binascii"},
    "cluster": _SOCKET | {"binascii"},
    "memcached": _SOCKET,
    "zookeeper": _SOCKET,
    "etcd": _SOCKET,
    # The system is asked for the user's home, in which libpq would look for files.
    "postgresql": _SOCKET | {"pwd"},
    "mysql": _SOCKET | _HASHES,
    "dynamodb": _SOCKET | _HASHES,
    "s3": _SOCKET | _HASHES,
    "sqs": _SOCKET | _HASHES,
}


_JOB = _names("durations errors keys config config.arguments config.file config.options config.settings")
_JOB |= _names("lease lease.clock lease.leases lease.rules lease.watermarks lease.state lease.store")
_JOB |= _names("lease.timing lease.vocabulary value")
_JOB |= _names("process process.command process.guard process.linux process.protocol")
_JOB |= _names("process.signals process.terminal process.watchdog")
_JOB |= _names("run run.acquisition run.command run.holding run.job run.log run.supervisor")
_JOB |= _names("engines engines.registry engines.url")


def _engine(name: str, modules: str, wire: str = "") -> set[str]:
    """Return the modules of cronlock that a run on the engine `name` imports."""
    own = {f"engines.{name}", *(f"engines.{name}.{module}" for module in modules.split())}
    return _JOB | own | ({"engines.wire"} if wire else set()) | {f"engines.wire.{module}" for module in wire.split()}


_AWS = "aws aws_credentials aws_signature hashes http json_text stream"
_REDIS = _engine("redis", "address cell resp store", "stream") | {"lease.server_clock"}
_OWN = {
    "version": set(),
    "file": _engine("file", "lockfile mounts slots store"),
    "redis": _REDIS,
    "rediss": _REDIS | {"engines.wire.tls", "engines.wire.tls_private"},
    "sentinel": _REDIS | {"engines.redis.discovery", "engines.redis.ensemble"},
    "cluster": _REDIS | {"engines.redis.discovery", "engines.redis.ensemble"},
    "memcached": _engine("memcached", "item meta servers store", "stream"),
    "zookeeper": _engine("zookeeper", "cell messages session store swap tree", "fields stream"),
    "etcd": _engine("etcd", "api cell held messages names store", "http json_text stream"),
    "postgresql": _engine("postgresql", "connection login messages servers sql store", "fields sql stream")
    | _names("lease.server_clock"),
    "mysql": _engine("mysql", "connection login packets servers sql store", "fields hashes sql stream")
    | _names("lease.server_clock"),
    "dynamodb": _engine("dynamodb", "item store table", f"{_AWS} aws_json dated") | _names("lease.server_clock"),
    "s3": _engine("s3", "objects store", f"{_AWS} dated") | _names("lease.server_clock"),
    "sqs": _engine("sqs", "backend queue wire", f"{_AWS} aws_json") | _names("lease.server_clock"),
}
_BACKENDS = tuple(name for name in _OWN if name != "version")
#: TCP connections of a run: one where it is not said. A sentinel or a node tells where the master is.
_CONNECTIONS = {"file": 0, "sentinel": 2, "cluster": 2}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give servers without keys."""
    servers = Servers(tmp_path_factory.mktemp("leases"))
    try:
        servers.start()
        yield servers
    finally:
        for server in servers.all:
            server.close()


@pytest.fixture
def starter(servers: Servers, tmp_path: Path) -> Starter:
    """Give a starter of cronlock with its own state directory."""
    return Starter(servers, tmp_path)


class TestModules:
    """The modules that a run may import: most of the cost of a start."""

    @pytest.mark.parametrize("backend", ["version", *_BACKENDS])
    def test_a_run_imports_nothing_new(self, starter: Starter, backend: str) -> None:
        """A run that gets its lease, and --version, import only modules on the list."""
        _settle(lambda: _beyond(starter.modules(backend, random_key()), backend), set())

    @pytest.mark.parametrize("backend", _BACKENDS)
    def test_a_skip_imports_nothing_more(self, starter: Starter, backend: str) -> None:
        """A skip imports no more than a run."""
        key = random_key()
        starter.run(starter.line(*starter.words(backend, key)))
        assert _beyond(starter.modules(backend, key), backend) == set()

    def test_the_list_would_notice(self, starter: Starter) -> None:
        """A line that is left to click exceeds the list."""
        told = starter.run(starter.line("run", "--help", options=("-X", "importtime")))
        assert {"click", "cronlock.cli"} <= _beyond(imported_by(told), "version")


def _settle(measure: Callable[[], object], expected: object) -> None:
    """Check what `measure` finds of a run; again if it took so long that the run may have begun to listen."""
    for left in (3, 2, 1, 0):
        began = time.monotonic()
        found = measure()
        took = time.monotonic() - began
        if found == expected:
            return
        if not left or took <= timing.LISTEN_AFTER:
            pytest.fail(f"{found} instead of {expected}")


def _beyond(imported: set[str], backend: str) -> set[str]:
    start = {"cronlock", "cronlock.__main__", "cronlock.bundle", "cronlock.system"}
    return imported - start - {f"cronlock.{name}" for name in _OWN[backend]} - _FOREIGN[backend]


class TestSystemCalls:
    """Processes and connections of a run."""

    @pytest.mark.parametrize("backend", _BACKENDS)
    def test_a_run_starts_a_guard_and_the_command(self, starter: Starter, tmp_path: Path, backend: str) -> None:
        """A run forks guard and command, executes interpreter and command, and makes one connection or two.

        A lease of a server's has a backup guard, too.
        """
        connections = _CONNECTIONS.get(backend, 1)
        expected = {"execve": 2, "connect": connections, "fork": 3 if connections else 2}
        _settle(lambda: starter.calls(backend, tmp_path / "calls", random_key()), expected)

    @pytest.mark.parametrize("backend", _BACKENDS)
    def test_a_skip_starts_nothing(self, starter: Starter, tmp_path: Path, backend: str) -> None:
        """A skip makes as many connections and no process."""
        key = random_key()
        starter.run(starter.line(*starter.words(backend, key)))
        expected = {"execve": 1, "connect": _CONNECTIONS.get(backend, 1), "fork": 0}
        assert starter.calls(backend, tmp_path / "calls", key) == expected

    def test_version_starts_nothing(self, starter: Starter, tmp_path: Path) -> None:
        """--version makes neither process nor connection."""
        assert starter.calls("version", tmp_path / "calls") == {"execve": 1, "connect": 0, "fork": 0}


class TestRequests:
    """Requests as counted by the server."""

    @pytest.mark.parametrize("server", ["redis", "rediss", "redis_password"])
    def test_redis(self, starter: Starter, servers: Servers, server: str) -> None:
        """On one connection, a run is a read and two scripts, a skip a read; a password adds one request."""
        redis = getattr(servers, server)
        login = {"auth": 1} if redis.password is not None else {}

        def measure() -> list[tuple[dict[str, int], int]]:
            key, found = random_key(), []
            for _ in range(2):
                count = RedisCount(redis)
                starter.run(starter.line(*starter.words(server, key)))
                found.append(count.since())
            return found

        _settle(measure, [({"look": 1, **scripts, **login}, 1) for scripts in ({"eval": 2}, {})])

    def test_memcached(self, starter: Starter, servers: Servers) -> None:
        """On one connection, a run is a read and two swaps, each with a read; a skip is one read."""
        key = random_key()
        for expected in ({"cmd_get": 3, "cmd_set": 2}, {"cmd_get": 1}):
            count = MemcachedCount(servers.memcached)
            starter.run(starter.line(*starter.words("memcached", key)))
            assert count.since() == (expected, 1)

    @pytest.mark.parametrize(
        ("backend", "sent", "a_run", "a_skip"),
        [
            ("etcd", SentHTTP, {"grant": 2, "txn": 3}, {"txn": 1}),
            ("postgresql", SentPostgreSQL, {LOGIN: 2, "query": 3}, {LOGIN: 2, "query": 1}),
            ("mysql", SentMySQL, {LOGIN: 1, "query": 3}, {LOGIN: 1, "query": 1}),
            ("dynamodb", SentHTTP, {"GetItem": 1, "UpdateItem": 2}, {"GetItem": 1}),
            ("s3", SentHTTP, {"GET": 1, "PUT": 2}, {"GET": 1}),
            (
                "sqs",
                SentHTTP,
                {"ReceiveMessage": 1, "ChangeMessageVisibility": 1},
                {"ReceiveMessage": 1, "GetQueueAttributes": 1},
            ),
        ],
    )
    def test_requests_on_the_wire(
        self,
        starter: Starter,
        servers: Servers,
        backend: str,
        sent: Any,
        a_run: dict[str, int],
        a_skip: dict[str, int],
    ) -> None:
        """A run and a skip of a key that was used before are these requests, on one connection."""
        watch = Watch(getattr(servers, backend).port, sent)

        def measure() -> list[tuple[dict[str, int], int]]:
            key, found = random_key(), []
            starter.run(starter.line(*starter.words(backend, key, "--min-hold", "0")))
            for _ in range(2):
                count = WatchCount(watch)
                starter.run(starter.line(*starter.words(backend, key, port=watch.port)))
                found.append(count.since())
            return found

        with watch:
            _settle(measure, [(a_run, 1), (a_skip, 1)])


class TestByteCode:
    """A start compiles nothing: cron's user often could not store the byte code."""

    def test_installed_byte_code_is_complete(self, starter: Starter, tmp_path: Path) -> None:
        """pip compiles every module, and a run of the installed program neither adds nor renews any."""
        source, target = tmp_path / "source", tmp_path / "installed"
        copy_checkout(str(source))
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        done = subprocess.run(
            [*pip, "--no-deps", "--target", str(target), str(source)],
            env=clean_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        compiled = _files(target, "*.pyc")
        assert len(compiled) == len(_files(target / "cronlock", "*.py"))
        starter.environ["PYTHONPATH"] = str(target)
        line = [sys.executable, str(target / "bin/cronlock"), *starter.words("redis", random_key())]
        told = subprocess.run([*line[:1], "-v", *line[1:]], env=starter.environ, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        assert f"{target}/cronlock/run/job.py" in told.stderr, "another installation was started"
        assert _files(target, "*.pyc") == compiled


def _files(directory: Path, pattern: str) -> dict[Path, int]:
    """Return the files below `directory`, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob(pattern)}
