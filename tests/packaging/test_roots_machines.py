"""The package on newer systems and Pythons than the tests' own, and on arm64, which qemu-user emulates.

Each is a Debian of its own, made on first use (build/debian, a minute or two; ten for arm64). The package is installed
there, runs on a file, Redis and PostgreSQL, and the unit tests pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from labs.debian import once, system
from labs.installation import ROOT
from labs.machines import Fleet
from labs.servers.postgresql import PostgresqlServer
from labs.servers.process import Site, need

from .support import Build, Root, run, start_redis

_PACKAGES = ("python3", "libpq5", "procps")
#: What the unit tests need besides, from PyPI for each interpreter and machine: nothing is compiled for them there.
_MODULES = ("pytest", "pytest-xdist", "hypothesis", "jsonschema", "prometheus-client", "psycopg")
#: An emulated machine may be twenty times slower.
_SLOW = 7200.0
_STRICT = ("-X", "dev", "-W", "error", "-bb")
_UNIT = ["tests/unit", "tests/test_cli.py"]
# Of the checkout itself, and the same everywhere.
_UNIT += [f"--ignore=tests/unit/test_{name}.py" for name in ("engines_stand_alone", "layers", "reference")]
_UNIT += ["-n", "2"]


class Kind(NamedTuple):
    """A system of one kind."""

    make: Callable[[Path], None]
    pythons: tuple[str, ...] = ("/usr/bin/python3",)
    #: As uname(1) calls it.
    machine: str = os.uname().machine


_KINDS = {
    "trixie": Kind(system("trixie", *_PACKAGES)),
    "forky": Kind(system("forky", *_PACKAGES, "python3.15"), ("/usr/bin/python3", "/usr/bin/python3.15")),
    "arm64": Kind(system("trixie", *_PACKAGES, architecture="arm64"), machine="aarch64"),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a network for the machines."""
    with Fleet(tmp_path_factory.mktemp("machines") / "fleet") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def servers(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """Give the URLs of a Redis and a PostgreSQL."""
    machine = fleet.machine("servers")
    start_redis(machine)
    enter = ("nsenter", "--target", str(machine.pid), "--net", "--")
    with PostgresqlServer(site=Site(machine.address, enter)) as postgresql:
        yield f"redis://{machine.address}", postgresql.url()


@pytest.fixture(scope="module", params=_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Give the name of a kind."""
    return str(request.param)


@pytest.fixture(scope="module")
def root(kind: str, fleet: Fleet, build: Build) -> Root:
    """Give a system of the kind, with the package and the sources in it."""
    _emulate(_KINDS[kind].machine)
    root = Root(fleet.machine(kind), once(ROOT / f"build/debian/{kind}", _KINDS[kind].make), limit=_SLOW)
    # Its only dependency is there.
    root.sh(f"dpkg -i {root.copy(build.deb)}")
    return root


def _emulate(machine: str) -> None:
    """Let the kernel start programs of `machine`, in any root; skip the test if it cannot."""
    mount = Path("/proc/sys/fs/binfmt_misc")
    registered = mount / f"qemu-{machine}"
    if machine == os.uname().machine or registered.exists():
        return
    need(f"{registered.name}-static", "qemu-user-static")
    enable = need("update-binfmts", "binfmt-support")
    if not (mount / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(mount)], capture_output=True)
    subprocess.run([enable, "--enable", registered.name], capture_output=True)
    if not registered.exists():
        pytest.skip(f"needs a kernel that starts programs of {machine} by qemu-user (binfmt_misc)")


def _has_subreapers(root: Root) -> bool:
    probe = "import ctypes; print(ctypes.CDLL(None).prctl(36, 0, 0, 0, 0))"
    return root.run("/usr/bin/python3", "-c", probe) == "0\n"


@pytest.fixture(params=[0, 1])
def python(request: pytest.FixtureRequest, kind: str) -> str:
    """Give each of a kind's interpreters."""
    pythons = _KINDS[kind].pythons
    if request.param >= len(pythons):
        pytest.skip("has one Python only")
    return str(pythons[request.param])


def test_runs(root: Root, servers: tuple[str, str], python: str) -> None:
    """A run and a skip on each backend, and other commands, say nothing but what they are to say."""
    cronlock = " ".join(("CRONLOCK_BACKEND_TIMEOUT=60s", python, *_STRICT, "-IS", "/usr/bin/cronlock"))
    for url in ("file:///root/leases", *servers):
        if url.startswith("postgresql"):
            root.sh(f"{cronlock} doctor --create --backend {url} || [ $? -eq 1 ]")
        key = f"k-{Path(python).name}"
        words = f"--backend {url} --key {key} --min-hold 1h --skip-status 9"
        assert root.sh(f"{cronlock} run {words} -- echo ran; {cronlock} run {words} -- false || echo $?") == "ran\n9\n"
        assert f"{key}  " in root.sh(f"{cronlock} status --backend {url}")
        assert key in root.sh(f"{cronlock} release --force --backend {url} {key}")
    assert "--min-hold" in root.sh(f"{cronlock} run --help")


def test_stops_what_left_its_group(root: Root, python: str) -> None:
    """Processes in another session are ended with the run; without subreapers, those in the command's group."""
    session = "setsid" if _has_subreapers(root) else ""
    cronlock = " ".join((python, *_STRICT, "-IS", "/usr/bin/cronlock"))
    words = f"--key t-{Path(python).name} --timeout 5s --kill-after 5s"
    said = root.sh(f"{cronlock} run {words} -- sh -c '{session} sleep 4711 >/dev/null 2>&1 & wait' || echo $?")
    assert said.endswith("124\n")
    assert root.sh("pgrep -f 'sleep [4]711' || echo none") == "none\n"


def test_doctor_says_what_the_guard_lacks(root: Root, kind: str, python: str) -> None:
    """Nothing, but subreapers where qemu-user has none."""
    has = _has_subreapers(root)
    assert has or _KINDS[kind].machine != os.uname().machine
    said = root.sh(f"{python} -IS /usr/bin/cronlock doctor --backend file:///root/leases || [ $? -eq 1 ]")
    (line,) = [line for line in said.splitlines() if line.split()[1:2] == ["system"]]
    assert ("has what the guard needs" if has else "without child subreapers") in line, said
    assert "/proc" not in line


def _modules(kind: str, version: str) -> Path:
    """Return a directory with what the unit tests need, fetched on first use."""
    platform = f"manylinux_2_28_{_KINDS[kind].machine}"
    target = ["--only-binary=:all:", "--platform", platform, "--python-version", version]

    def fetch(path: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        run(*pip, *target, "--target", path, *_MODULES)

    return once(ROOT / f"build/debian/{kind}-modules-{version}", fetch)


def test_unit_tests(root: Root, build: Build, kind: str, python: str) -> None:
    """They pass on the wheel, with the package's own copies of what it needs."""
    look = "import site, sys; print('%d.%d' % sys.version_info[:2], site.getsitepackages()[0])"
    version, site = root.run(python, "-c", look).split()
    root.machine.run("cp", "-a", str(_modules(kind, version)), f"{root.path}/root/modules-{version}")
    if not root.has("/root/sources"):
        root.machine.run("cp", "-a", str(build.sources), f"{root.path}/root/sources")
    root.sh(f"{python} -m zipfile -e {root.copy(build.wheel)} {site}")
    root.sh(f"printf '/usr/lib/cronlock\\n/root/modules-{version}\\n' >{site}/tests.pth")
    # An emulated machine has no time for the checks that `-X dev` adds to each allocation.
    strict = _STRICT if _KINDS[kind].machine == os.uname().machine else _STRICT[2:]
    words = [*strict, "-m", "pytest", "-p", "no:cacheprovider", "-q", *_UNIT]
    said = root.sh(f"cd /root/sources; {python} {' '.join(words)}")
    print(said[-1000:])
