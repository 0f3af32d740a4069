"""docs/board-*.png: the board of a fleet as Chromium shows it, each with a digest of the page that it shows."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

from tests.board import fleet

_SIGNATURE, _HEADER = b"\x89PNG\r\n\x1a\n", 33
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")


class _Shot(NamedTuple):
    name: str
    width: int
    dark: bool
    #: Added to the page's style.
    style: str = ""


_SHOTS = (
    _Shot("board-desktop-light.png", 1100, False),
    _Shot("board-desktop-dark.png", 1100, True),
    _Shot("board-phone-light.png", 390, False),
    _Shot("board-phone-dark.png", 390, True),
    _Shot("board-timeline.png", 1100, False, "h2:first-of-type,.key,.keys{display:none}"),
)


def _page(shot: _Shot) -> str:
    return fleet.page(34, hostile=False).replace("</style>", f"{shot.style}</style>")


def _note(page: str) -> bytes:
    """Return the chunk of a PNG file that identifies the page in it."""
    piece = b"tEXtpage\0" + hashlib.sha256(page.encode()).hexdigest().encode()
    return struct.pack(">I", len(piece) - 4) + piece + struct.pack(">I", zlib.crc32(piece))


def stale(docs: Path) -> list[Path]:
    """Return the pictures of pages that the program draws differently now."""
    return [docs / shot.name for shot in _SHOTS if not _shows(docs / shot.name, _page(shot))]


def _shows(picture: Path, page: str) -> bool:
    return picture.exists() and picture.read_bytes()[_HEADER:].startswith(_note(page))


def write(docs: Path) -> None:
    """Take a screenshot of each page without a current picture, in Chromium."""
    for shot in _SHOTS:
        page = _page(shot)
        if not _shows(docs / shot.name, page):
            data = _screenshot(page, shot)
            assert data.startswith(_SIGNATURE)
            (docs / shot.name).write_bytes(data[:_HEADER] + _note(page) + data[_HEADER:])


def _screenshot(page: str, shot: _Shot) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file, picture = Path(folder, "board.html"), Path(folder, "board.png")
        file.write_text(page)
        words = [*_FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={shot.width},760"]
        words += [f"--blink-settings=preferredColorScheme={0 if shot.dark else 1}", f"--screenshot={picture}"]
        subprocess.run(["chromium", *words, f"file://{file}"], check=True, capture_output=True, timeout=120)
        # A reduced palette makes the file four times smaller.
        from PIL import Image

        Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
        return picture.read_bytes()
