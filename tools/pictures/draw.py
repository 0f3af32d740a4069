"""The pictures of the documents that the program makes.

python tools/pictures/draw.py            writes them into docs/
python tools/pictures/draw.py --check    says which of them are not what the program shows now, and fails if any is
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import board  # noqa: E402
import failover  # noqa: E402
import terminal  # noqa: E402


def drawn() -> dict[str, str]:
    """Return the pictures that are text, by name."""
    return {
        "tick.svg": failover.svg(),
        "demo.svg": terminal.svg("make demo: three runs of one key race, one runs, two skip", terminal.demo()),
        "status.svg": terminal.svg("cronlock status and history", terminal.status()),
    }


def main(arguments: list[str]) -> int:
    """Write the pictures, or check them, and return the exit status."""
    # The pictures show local times.
    os.environ["TZ"] = "UTC"
    time.tzset()
    docs = Path(next((argument for argument in arguments if not argument.startswith("-")), ROOT / "docs"))
    stale = {docs / name: text for name, text in drawn().items() if _read(docs / name) != text}
    if "--check" in arguments:
        for path in [*stale, *board.stale(docs)]:
            print(f"{path} is stale: run `make pictures`")
        return 1 if stale or board.stale(docs) else 0
    for path, text in stale.items():
        path.write_text(text)
    board.write(docs)
    return 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
