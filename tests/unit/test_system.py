"""What stands for `os` in a run that has not imported it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from labs.installation import ROOT, clean_environment

_START = f"import sys; sys.path.append({str(ROOT)!r}); from cronlock.system import os"


def _told(code: str, **variables: str) -> str:
    """Return what a program prints that has `os` from `cronlock.system` alone."""
    environ = {**clean_environment(), **variables}
    command = [sys.executable, "-IS", "-W", "error", "-c", f"{_START}\n{code}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _names() -> list[str]:
    """Return all that the package takes of `os` from `cronlock.system`."""
    names = set()
    for file in (ROOT / "cronlock").rglob("*.py"):
        text = file.read_text()
        if "system import os\n" in text:
            nodes = ast.walk(ast.parse(text))
            attributes = (node for node in nodes if isinstance(node, ast.Attribute))
            names |= {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "os"}
    return sorted(names)


def test_it_is_os_where_that_is_imported() -> None:
    """A program that has `os` shares it, so that a change of its environment is seen."""
    from cronlock import system

    assert system.os is os


def test_all_that_is_used() -> None:
    """Each name has the value that it has in `os`."""
    names = _names()
    assert {"open", "fork", "environ", "path", "makedirs"} <= set(names)
    code = f"""
values = {{name: getattr(os, name) for name in {names!r}}}
import os as real
for name, value in values.items():
    theirs = getattr(real, name)
    assert value is theirs or value == theirs or name == "fsdecode", name
print(os is real, os.fsdecode(b"caf\\xc3\\xa9 \\xff") == real.fsdecode(b"caf\\xc3\\xa9 \\xff"))
"""
    assert _told(code, CRONLOCK_TEST="x \udcff y") == "False True\n"


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("os.open('/', os.O_RDONLY | os.O_CLOEXEC); os.environ['PATH']; os.devnull; os.urandom(1)", False),
        ("os.path.join('a', 'b')", True),
    ],
)
def test_os_is_imported_if_need_be(code: str, imported: bool) -> None:
    """What `posix` has does not import `os`."""
    assert _told(f"{code}; print('os' in sys.modules)") == f"{imported}\n"


def test_a_name_that_os_lacks() -> None:
    """It is missing here, too."""
    assert _told("print(hasattr(os, 'nonesuch'), hasattr(os, '__path__'))") == "False False\n"
