"""Read the documents: blocks of code, the commands in them, and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cronlock import __version__
from labs.installation import ROOT

#: Every document but the manual pages.
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

#: The Debian package, as the documents name it.
DEB = f"cronlock_{__version__}_all.deb"

_FENCE = re.compile(r"```(\S*)\s*$")
_PROMPT = re.compile(r"(?:([a-z0-9-]+)\$|\$|#) (.*)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href|srcset)=\"([^\"]+)\"")
_CODE = re.compile(r"`[^`\n]*`")


class Block(NamedTuple):
    """A block of code in a document."""

    document: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The name of a test about this block."""
        return f"{self.document}:{self.line}"

    @property
    def first(self) -> str:
        """Its first line, by which tests refer to it."""
        return self.text.split("\n", 1)[0]


class Step(NamedTuple):
    """A command in a terminal's text."""

    #: The machine in the prompt, as in ``one$``; empty for any.
    host: str
    command: str
    #: The output that the document shows below it.
    output: str


def blocks(document: Path) -> Iterator[Block]:
    """Yield the blocks of code of a document."""
    language, start, body = "", 0, list[str]()
    for number, line in enumerate(document.read_text().splitlines(), 1):
        fence = _FENCE.fullmatch(line.strip())
        if start and fence and not fence[1]:
            yield Block(str(document.relative_to(ROOT)), start, language, "\n".join(body) + "\n")
            start = 0
        elif start:
            body.append(line)
        elif fence:
            language, start, body = fence[1], number, []
    assert not start, f"{document}:{start}: not closed"


def steps(block: Block) -> list[Step]:
    """Return the commands after each ``$`` or ``#`` of a terminal's text, with the output below them.

    A line that ends in a backslash continues on the next one.
    """
    found: list[Step] = []
    typing = False
    for line in block.text.splitlines():
        prompt = None if typing else _PROMPT.fullmatch(line)
        if prompt:
            found.append(Step(prompt[1] or "", prompt[2], ""))
        elif typing:
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
        else:
            assert found, f"{block.name}: begins with output"
            found[-1] = found[-1]._replace(output=f"{found[-1].output}{line}\n")
        typing = bool(prompt or typing) and line.endswith("\\")
    return found


def links(document: Path) -> list[str]:
    """Return the targets of a document's links."""
    found: list[str] = []
    inside = False
    for line in document.read_text().splitlines():
        if line.strip().startswith("```"):
            inside = not inside
        elif not inside:
            found += [link[1] or link[2] for link in _LINK.finditer(_CODE.sub("code", line))]
    return found


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    found: set[str] = set()
    for line in document.read_text().splitlines():
        heading = re.fullmatch(r"#{1,6} (.*)", line)
        if heading:
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            found.add(re.sub(r"[^\w\- ]", "", plain).strip(" ").replace(" ", "-"))
    return found
