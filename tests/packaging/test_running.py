"""The installed program runs under every Python of this machine, for every user, in any environment."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.installation import ROOT
from labs.machines import Fleet

from .support import Build, Root, attempt, run, unpack_deb, unpack_rpm

sys.path.insert(0, str(ROOT / "packaging"))
_PYTHONS: dict[int, str] = importlib.import_module("interpreters").found()
_OLDEST = min(_PYTHONS)
if _OLDEST != 9:
    warnings.warn(f"no Python 3.9 on this machine: the oldest found is 3.{_OLDEST}", stacklevel=1)

_LIBRARY = "/usr/lib/cronlock"
# Modules that end the program if it imports them by mistake.
_TRAPS = (
    "click",
    "redis",
    "kazoo",
    "pymemcache",
    "cronlock",
    "os",
    "select",
    "_ctypes",
    "sitecustomize",
    "usercustomize",
)
_ALL_MODULES = (
    "import sys; sys.path.append(%r); import click, cronsim, kazoo.client, pymemcache, redis.cluster"
    "; print(redis.__file__)"
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet without machines."""
    with Fleet(tmp_path / "fleet") as fleet:
        yield fleet


def _root(fleet: Fleet, payload: Path, minor: int) -> Root:
    """Return this machine's root with the files of a package, and with Python 3.`minor` as python3."""
    root = Root(fleet.machine(f"python3{minor}"), Path("/"))
    root.machine.run("cp", "-a", f"{payload}/.", root.path)
    # A link, since an interpreter finds its library from its real path.
    root.run("ln", "-sfn", os.path.realpath(_PYTHONS[minor]), "/usr/bin/python3")
    root.sh("chmod 711 /root")
    return root


def _check(root: Root, minor: int) -> None:
    """Check run, help and imports: they use the modules of the package only."""
    assert root.run("/usr/bin/python3", "--version").startswith(f"Python 3.{minor}.")
    assert root.run("cronlock", "--version").startswith("cronlock ")
    assert "--min-hold" in root.run("cronlock", "run", "--help")
    assert root.sh("cronlock run --key k -- echo ran; cronlock run --key k -- echo again") == "ran\n"
    assert root.run("/usr/bin/python3", "-IS", "-c", _ALL_MODULES % _LIBRARY).startswith(_LIBRARY)


@pytest.mark.parametrize("minor", _PYTHONS)
def test_deb_payload(fleet: Fleet, build: Build, tmp_path: Path, minor: int) -> None:
    """The files of the Debian package run under each Python."""
    _check(_root(fleet, unpack_deb(build.deb, tmp_path / "payload"), minor), minor)


def test_rpm_payload(fleet: Fleet, build: Build, tmp_path: Path) -> None:
    """The files of the RPM package run under the oldest Python."""
    _check(_root(fleet, unpack_rpm(build.rpm, tmp_path / "payload"), _OLDEST), _OLDEST)


def test_package_imports_nothing_of_the_user(fleet: Fleet, build: Build, tmp_path: Path) -> None:
    """The program imports nothing from PYTHON* variables, the user's site or the current directory."""
    root = _root(fleet, unpack_deb(build.deb, tmp_path / "payload"), max(_PYTHONS))
    traps = f"/root/.local/lib/python3.{max(_PYTHONS)}/site-packages"
    root.sh(f"mkdir -p {traps}; chmod 755 /root")
    for name in _TRAPS:
        root.run("sh", "-c", f'echo "raise SystemExit({name!r})" >{traps}/{name}.py')
    environ = {"PYTHONPATH": traps, "PYTHONHOME": traps, "PYTHONSTARTUP": f"{traps}/os.py", "PYTHONVERBOSE": "1"}
    for words in ("--version", "run --help", "run --key trapped -- echo ran"):
        plain = root.sh(f"cd /; cronlock {words}")
        root.sh("rm -rf /var/lib/cronlock/*")
        assert root.sh(f"cd {traps}; cronlock {words}", **environ) == plain
        root.sh("rm -rf /var/lib/cronlock/*")


def test_package_without_byte_code(fleet: Fleet, build: Build, tmp_path: Path) -> None:
    """Without byte code, a user's run works and writes none; a run by root writes it."""
    root = _root(fleet, unpack_deb(build.deb, tmp_path / "payload"), _OLDEST)
    as_user = "chmod 644 /etc/cronlock.conf; cd /; HOME=/tmp/user setpriv --reuid 4711 --regid 4711 --clear-groups"
    root.sh("mkdir -m 777 /tmp/user")
    assert root.sh(f"{as_user} cronlock run --key k -- echo ran") == "ran\n"
    assert root.run("find", _LIBRARY, "-name", "*.pyc") == ""
    root.run("cronlock", "run", "--key", "k", "--", "true")
    assert "job" in root.run("find", f"{_LIBRARY}/cronlock/run/__pycache__", "-name", "*.pyc")


def test_configuration_that_a_user_may_not_read(fleet: Fleet, build: Build, tmp_path: Path) -> None:
    """If a user may not read the configuration, cronlock says so and runs nothing."""
    root = _root(fleet, unpack_deb(build.deb, tmp_path / "payload"), _OLDEST)
    root.sh("mkdir -m 777 /tmp/user")
    as_user = "cd /; HOME=/tmp/user setpriv --reuid 4711 --regid 4711 --clear-groups"
    said = root.sh(f"{as_user} cronlock run --key k -- echo ran || echo $?")
    assert said.startswith("cronlock: /etc/cronlock.conf: cannot read: Permission denied")
    assert said.endswith("\n78\n")


def _environ(directory: Path) -> dict[str, str]:
    """Return the environment of a user without configuration, with leases in `directory`."""
    own = {"HOME": str(directory), "CRONLOCK_STATE_DIR": f"{directory}/state", "CRONLOCK_CONFIG": os.devnull}
    return {"PATH": os.defpath, "CRONLOCK_BACKEND": f"file://{directory}/leases", **own}


class TestPyz:
    """cronlock.pyz."""

    @pytest.mark.parametrize("minor", _PYTHONS)
    def test_runs(self, build: Build, tmp_path: Path, minor: int) -> None:
        """It runs under each Python, isolated or not, from the byte code for that Python."""
        state = _environ(tmp_path)
        python = _PYTHONS[minor]
        assert run(python, build.pyz, "--version", environ=state).startswith("cronlock ")
        assert "--min-hold" in run(python, build.pyz, "run", "--help", environ=state)
        assert run(python, "-IS", build.pyz, "run", "--key", "k", "--", "echo", "ran", environ=state) == "ran\n"
        told = run(python, "-v", build.pyz, "--version", environ=state)
        assert re.search(rf"{re.escape(str(build.pyz))}/[0-9a-f]{{4}}/cronlock/", told), "its byte code is not used"
        modules = _ALL_MODULES % str(build.pyz)
        assert run(python, "-IS", "-c", modules, environ=state).startswith(str(build.pyz))

    def test_starts_by_itself_where_nothing_may_be_written(self, build: Build, fleet: Fleet) -> None:
        """It runs as a program on a read-only system, and writes only to the state directory."""
        root = Root(fleet.machine("readonly"), Path("/"))
        pyz = root.copy(build.pyz)
        python = os.path.realpath(sys.executable)  # Which may be what the link was.
        root.sh(f"mkdir -p /opt /var/lib/cronlock; cp {pyz} /opt/cronlock.pyz; ln -sfn {python} /usr/bin/python3")
        # An overlay cannot be remounted with other options.
        read_only = f"mount -t tmpfs tmpfs {root.path}/var/lib && mount -o remount,bind,ro {root.path}"
        root.machine.run("sh", "-c", read_only)
        assert root.sh("echo >/root/x || echo refused").endswith("refused\n")
        home = {"HOME": "/root", "PATH": "/usr/bin:/bin"}
        assert root.sh("/opt/cronlock.pyz run --key k -- echo ran", **home) == "ran\n"
        assert "skipped" in root.sh("/opt/cronlock.pyz run --key k --verbose -- echo ran", **home)
        assert "--key" in root.sh("/opt/cronlock.pyz run --help", **home)

    def test_without_byte_code_for_this_python(self, build: Build, tmp_path: Path) -> None:
        """A Python without byte code in it compiles the sources."""
        stripped = tmp_path / "stripped.pyz"
        code = (
            "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1]) as old, zipfile.ZipFile(sys.argv[2], 'w') as new:\n"
        )
        code += "    [new.writestr(name, old.read(name)) for name in old.namelist() if not name.endswith('.pyc')]"
        run(sys.executable, "-c", code, build.pyz, stripped)
        state = _environ(tmp_path)
        assert run(sys.executable, stripped, "run", "--key", "k", "--", "echo", "ran", environ=state) == "ran\n"

    def test_a_python_that_is_too_old_says_so(self, build: Build) -> None:
        """It prints one line and exits with status 70; Python 2 can parse it too."""
        code = "import runpy, sys; sys.version_info = (3, 6, 15); sys.path.insert(0, sys.argv[1]); "
        code += "runpy.run_path(sys.argv[1], run_name='__main__')"
        status, said = attempt(sys.executable, "-c", code, build.pyz)
        assert status == 70
        assert said.startswith("cronlock: needs Python 3.9 or later, and this is 3.6 (")
        assert said.count("\n") == 1

    def test_manual_page_comes_out_of_it(self, build: Build, tmp_path: Path) -> None:
        """It contains the manual pages."""
        run(sys.executable, "-m", "zipfile", "-e", build.pyz, tmp_path)
        for page in (build.sources / "man").glob("*.[1-9]"):
            assert (tmp_path / f"share/man/man{page.suffix[1:]}/{page.name}").read_text() == page.read_text()

    def test_is_a_program_of_the_shell(self, build: Build, tmp_path: Path) -> None:
        """It passes arguments on unchanged, and runs from PATH and from a path with spaces."""
        place = tmp_path / "a b"
        place.mkdir()
        shutil.copy(build.pyz, place / "cronlock")
        environ = {**_environ(tmp_path), "PATH": f"{place}:{os.path.dirname(sys.executable)}:{os.defpath}"}
        words = ["one two", "", "$HOME", "*"]
        line = ["cronlock", "run", "--key", "k", "--", "printf", "<%s>", *words]
        assert subprocess.run(line, env=environ, capture_output=True, text=True).stdout == "<one two><><$HOME><*>"
