"""Test the installed wheel under every supported Python of this machine.

wheel_test.py [--all] [PYTEST-ARGUMENT]...

The tests are those of the source archive, from which the program's sources were removed. Without --all only
those run that need no server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dist
import interpreters
import source
from arguments import Arguments

_DIRECTORY = source.BUILD / "wheel-test"
_WITHOUT_SERVERS = (
    "tests/unit",
    "tests/test_cli.py",
    "tests/engines/file",
)
# These need the sources: what they cost, and the packages that are made from them.
_NEED_SOURCES = ("--ignore=tests/test_cost.py", "--ignore=tests/packaging")


def main(arguments: list[str]) -> int:
    """Return the number of Pythons under which tests failed."""
    others = [word for word in arguments if word != "--all"]
    which = ("tests", *_NEED_SOURCES) if "--all" in arguments else _WITHOUT_SERVERS
    shutil.rmtree(_DIRECTORY / "source", ignore_errors=True)
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    made = dist.build(Arguments(source.version(), "", _DIRECTORY, source.epoch()))
    wheel = next(path for path in made if path.suffix == ".whl")
    tests = _unpack(next(path for path in made if path.suffix == ".gz"))
    found = interpreters.found()
    if interpreters.OLDEST not in found:
        print(f"no Python 3.{interpreters.OLDEST} on this machine: the oldest found is 3.{min(found)}", file=sys.stderr)
    failed = []
    for minor, python in found.items():
        print(f"== Python 3.{minor}: {python}", flush=True)
        if _test(_install(minor, python, wheel), tests, [*which, *others]) != 0:
            failed.append(f"3.{minor}")
    print(f"{wheel.name}: failed under {', '.join(failed)}" if failed else f"{wheel.name}: good under all of them")
    return len(failed)


def _unpack(archive: Path) -> Path:
    (_DIRECTORY / "source").mkdir()
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(_DIRECTORY / "source")], check=True)
    (root,) = (_DIRECTORY / "source").iterdir()
    shutil.rmtree(root / "cronlock")
    return root


def _install(minor: int, python: str, wheel: Path) -> str:
    """Install the wheel and what tests need into a virtual environment; return its interpreter."""
    venv = _DIRECTORY / f"venv-3.{minor}"
    inside = str(venv / "bin/python")
    if not venv.exists():
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
    pip = [inside, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, f"{wheel}[test]"], check=True)
    # pip would keep an earlier build of the same version.
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True)
    return inside


def _test(python: str, tests: Path, which: list[str]) -> int:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    check = "import cronlock, sys; sys.exit(not cronlock.__file__.startswith(sys.prefix))"
    subprocess.run([python, "-c", check], check=True, cwd=tests, env=environ)
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *which]
    return subprocess.run(command, check=False, cwd=tests, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
