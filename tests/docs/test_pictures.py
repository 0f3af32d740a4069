"""The check of the documents' pictures notices what is not what the program shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the pictures."""
    found = tmp_path_factory.mktemp("docs")
    for picture in [*(ROOT / "docs").glob("*.svg"), *(ROOT / "docs").glob("*.png")]:
        shutil.copy(picture, found)
    return found


def _check(docs: Path) -> list[str]:
    command = [sys.executable, str(ROOT / "tools/pictures/draw.py"), "--check", str(docs)]
    # The machine's time zone does not matter.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TZ": "Asia/Tokyo"})
    assert done.returncode == (1 if done.stdout else 0), done.stderr
    return done.stdout.splitlines()


def test_they_are_what_the_program_shows(docs: Path) -> None:
    """None is stale; a picture with another word, and one of another board, are."""
    assert _check(docs) == []
    demo, board = docs / "demo.svg", docs / "board-timeline.png"
    demo.write_text(demo.read_text().replace(">skipped:<", ">passed:<"))
    shutil.copy(docs / "board-phone-dark.png", board)
    assert _check(docs) == [f"{path} is stale: run `make pictures`" for path in (demo, board)]


def test_figures_of_performance() -> None:
    """The plot has the figures of its page: both are written by one benchmark."""
    page, plot = ((ROOT / f"docs/performance.{kind}").read_text() for kind in ("md", "svg"))
    figures = set(re.findall(r">([\d.]+ F)</text>", plot))
    assert len(figures) > 10
    assert {figure for figure in figures if "." in figure} <= set(re.findall(r"[\d.]+ F", page))
