"""Help, manual page and README say what the program's own tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cronlock import errors
from cronlock.config.options import COMMAND_VARIABLES, OPTIONS

ROOT = Path(__file__).resolve().parents[2]


def test_manual_page_and_readme_are_not_stale() -> None:
    """`make reference` would change nothing."""
    answer = subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py", "--check"], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", ["README.md", "man/cronlock.1"])
def test_everything_is_documented(name: str) -> None:
    """Each option, status and variable."""
    text = (ROOT / name).read_text().replace("\\&", "").replace("\\-", "-")
    for option in OPTIONS:
        assert option.long.lstrip("-") in text
    for status, _ in errors.TABLE:
        assert status in text
    for variable, _ in COMMAND_VARIABLES:
        assert variable in text


def test_the_tables_of_backends_agree() -> None:
    """README and cronlock-backends(7) say the same of each backend: clock, lateness, fence, listing, requests."""
    manual: dict[str, list[str]] = {}
    text = (ROOT / "man/cronlock-backends.7.in").read_text().partition("What is the same everywhere")[0]
    for line in text.splitlines():
        if line.startswith(".It ") and " Em " not in line:
            name, *cells = (cell.strip('" ') for cell in line[4:].split(" Ta "))
            manual.setdefault(name, []).extend(cells)
    for line in (ROOT / "README.md").read_text().partition("| | whose clock judges |")[2].splitlines()[2:]:
        if not line:
            break
        name, clock, late, fence, lists, requests = (cell.strip() for cell in line.strip("|").split("|"))
        assert [clock, late, fence, lists, *requests.split(", ")] == [manual[name][0], *manual.pop(name)[2:]]
    assert not manual
