"""Build packages, and install them into root directories."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT, clean_environment
from labs.machines import SHARED, Machine
from labs.servers.process import eventually, need

_WHEELS = "build/wheels"
_LIMIT = 900.0
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
_NOT_COPIED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def run(*command: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None) -> str:
    """Run `command` and return its output, errors included. Fail the test if it fails."""
    status, output = attempt(*command, cwd=cwd, environ=environ)
    if status != 0:
        pytest.fail(f"{' '.join(map(str, command))}: status {status}:\n{output[-6000:]}")
    return output


def attempt(*command: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `command`; return its exit status and its output, errors included."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean_environment() if environ is None else environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT,
    )
    return done.returncode, done.stdout


class Build:
    """A copy of the checkout, which somebody may be changing, and the packages built from it."""

    def __init__(self, directory: Path, umask: str = "022", **environ: str) -> None:
        self.sources = directory / "sources"
        self._output = directory / "made"
        self._umask = umask
        self._environ = {**clean_environment(), **environ}

    def make_sources(self, origin: Path) -> None:
        """Copy the sources and the pinned dependencies from `origin`, once."""
        if self._output.exists():
            return
        shutil.copytree(origin, self.sources, ignore=_NOT_COPIED)
        shutil.copytree(origin / _WHEELS, self.sources / _WHEELS)
        self._output.mkdir()

    @property
    def deb(self) -> Path:
        """The Debian package."""
        return self._made("deb", "cronlock_*_all.deb")

    @property
    def rpm(self) -> Path:
        """The RPM package."""
        return self._made("rpm", "cronlock-*.noarch.rpm")

    @property
    def pyz(self) -> Path:
        """The file cronlock.pyz."""
        return self._made("pyz", "cronlock.pyz")

    @property
    def wheel(self) -> Path:
        """The wheel, made from the source archive."""
        return self._made("dist", "cronlock-*.whl")

    @property
    def sdist(self) -> Path:
        """The source archive."""
        return self._made("dist", "cronlock-*.tar.gz")

    def make(self, kind: str, output: Path, *options: str) -> None:
        """Build a package of `kind` in the directory `output`."""
        script = self.sources / f"packaging/{kind}.py"
        command = [sys.executable, str(script), "--output", str(output), *options]
        environ = {"SOURCE_DATE_EPOCH": "1700000000", **self._environ}
        run("sh", "-c", f'umask {self._umask}; exec "$@"', "sh", *command, environ=environ)

    def _made(self, kind: str, pattern: str) -> Path:
        output = self._output / kind
        output.mkdir(exist_ok=True)
        with (self._output / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not any(output.iterdir()):
                self.make(kind, output)
        (found,) = output.glob(pattern)
        return found


def fetch_wheels() -> None:
    """Fetch the pinned dependencies into the checkout's build directory, once."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(sys.executable, ROOT / "packaging/vendor.py")


def unpack_deb(package: Path, target: Path) -> Path:
    """Unpack the files of a Debian package into `target`, and return it."""
    run("dpkg-deb", "-x", package, target)
    return target


def unpack_rpm(package: Path, target: Path) -> Path:
    """Unpack the files of an RPM package into `target`, and return it."""
    need("rpm2cpio", "rpm"), need("cpio", "cpio")
    target.mkdir()
    run(
        "sh",
        "-c",
        'set -e; rpm2cpio "$1" >../payload.cpio; cpio -idm --quiet <../payload.cpio',
        "sh",
        package,
        cwd=target,
    )
    return target


# An overlay keeps every change in the machine's memory.
_ENTER_SETUP = f"""
set -eu
mkdir /run/root /run/upper /run/work
mount -t overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" overlay /run/root
cd /run/root
mkdir -p proc dev run{SHARED.removeprefix("/run")}
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir run{SHARED.removeprefix("/run")}
mount --bind {SHARED} run{SHARED.removeprefix("/run")}
cp -L /etc/hosts /etc/hostname etc/
# The own cronlock of a host whose root is below: an overlay does not show what the machine mounted there.
rm -rf etc/cronlock.conf var/lib/cronlock
"""


class Root:
    """A root directory on a machine, laid over directories that never change."""

    #: Its path on the machine.
    path = "/run/root"

    def __init__(self, machine: Machine, *layers: Path, limit: float = _LIMIT) -> None:
        """Lay `layers`, the first on top, below the root of `machine`; no command there lasts longer than `limit`."""
        self.machine = machine
        self._limit = limit
        machine.run("sh", "-c", _ENTER_SETUP, "sh", ":".join(map(str, layers)))

    def run(self, *command: str, stdin: str = "", **environ: str) -> str:
        """Run `command` here and return its output. Fail the test if it fails."""
        line = [*self.machine.way_in, *self._enter(environ), *command]
        # A longer limit than the machine's own, since packages are unpacked here.
        done = subprocess.run(line, input=stdin, env=_ENVIRONMENT, capture_output=True, text=True, timeout=self._limit)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}: status {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def sh(self, script: str, **environ: str) -> str:
        """Run a shell script here, up to the first command that fails; return its output, errors included."""
        said = self.run("sh", "-c", '(sh -ec "$1") 2>&1; echo $?', "sh", script, **environ)
        output, _, status = said[:-1].rpartition("\n") if "\n" in said[:-1] else ("", "", said[:-1])
        if status != "0":
            pytest.fail(f"{script}: status {status}:\n{output[-6000:]}")
        return output and f"{output}\n"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start `command` here and return at once."""
        return self.machine.start(*self._enter({}), *command)

    def has(self, path: str) -> bool:
        """Return whether `path` exists."""
        return self.sh(f'if [ -e "{path}" ] || [ -L "{path}" ]; then echo yes; fi') == "yes\n"

    def files(self, *directories: str) -> set[str]:
        """Return the paths of everything below `directories`."""
        return set(self.run("find", *directories, "-xdev", "-mindepth", "1").splitlines())

    def copy(self, file: Path) -> str:
        """Copy a file of the test here; return its path."""
        target = f"/root/{file.name}"
        self.machine.run("cp", str(file), f"{self.path}{target}")
        return target

    def _enter(self, environ: dict[str, str]) -> list[str]:
        words = [f"{name}={value}" for name, value in {"DEBIAN_FRONTEND": "noninteractive", **environ}.items()]
        return ["chroot", self.path, "/usr/bin/env", *words]


def start_redis(machine: Machine) -> None:
    """Start a Redis for all who reach `machine`, and wait until it answers."""
    need("redis-server", "redis-server")
    options = ["--bind", machine.address, "--save", "", "--dir", "/run", "--protected-mode", "no"]
    machine.start("redis-server", *options)
    ask = ["sh", "-c", 'redis-cli -h "$1" ping 2>&1; :', "sh", machine.address]
    eventually(lambda: "PONG" in machine.run(*ask), "Redis answers")
