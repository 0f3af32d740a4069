"""Words that were retired: docs/architecture.md has the terms that replaced them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from labs.installation import ROOT

#: Regular expressions, for whole words of any case.
_RETIRED = (
    # Names.
    "sights?",
    "rear[ _-]guard",
    "noticed_age|is_forgotten",
    "was_told|untold",
    "hung_?up",
    "senseless",
    "become_a_commands|load_for_looking|wheres",
    "userfield",
    "need[.]sh",
    "make teeth|tooth|bitten",
    # Phrases.
    "(to|can|cannot|could) be had",
    "(by|of) its own (word|accord)",
    "by the word of",
    "has its own in front",
    "on its way",
    "nobody is to",
    "none of cronlock's",
    "what became of",
    "without our hearing",
    "(is|be) of use",
)
_TEXT = re.compile(rf"\b({'|'.join(_RETIRED)})\b", re.IGNORECASE)
#: History, and data that others wrote or that was measured.
_LEFT_OUT = ("CHANGELOG.md", "LICENSE", "docs/reliability.json", Path(__file__).relative_to(ROOT).as_posix())


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_retired_words_do_not_come_back() -> None:
    """Nor in names of files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = [name for name in listed.split("\0") if name and name not in _LEFT_OUT]
    found = [name for name in names if _TEXT.search(name)]
    for name in names:
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in data:
            lines = enumerate(data.decode(errors="replace").splitlines(), start=1)
            found += [f"{name}:{number}: {line.strip()}" for number, line in lines if _TEXT.search(line)]
    assert found == []
