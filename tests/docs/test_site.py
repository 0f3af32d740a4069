"""The check of `make site` finds dead links, and whatever a page loads from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT


def _checked(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/site/check.py"), str(site)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="two.html#there">a</a> <a href="#here">b</a> <p id="here"> <a href="https://example.com/">c</a>', ""),
        ('<a href="sub/">a</a> <img src="data:image/svg+xml,x">', ""),
        ('<a href="three.html">a</a>', "one.html: three.html: no such file"),
        ('<a href="two.html#here">a</a>', "one.html: two.html#here: no such anchor"),
        ('<a href="#here">a</a>', "one.html: #here: no such anchor"),
        ('<img src="three.svg">', "one.html: three.svg: no such file"),
        ('<script src="https://example.com/a.js"></script>', "one.html: loads https://example.com/a.js"),
        ('<link rel="stylesheet" href="//example.com/a.css">', "one.html: loads //example.com/a.css"),
    ],
)
def test_links(tmp_path: Path, body: str, problem: str) -> None:
    """The check names the problem of a bad page, and accepts a good one."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text("")
    (tmp_path / "one.html").write_text(body)
    (tmp_path / "two.html").write_text('<h2 id="there">There</h2>')
    done = _checked(tmp_path)
    assert (done.returncode, problem) == ((1, done.stdout.strip()) if problem else (0, ""))
