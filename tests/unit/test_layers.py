"""Which room of the package may know of which."""

from __future__ import annotations

import ast
from pathlib import Path

import cronlock.process

#: What `cronlock.process` may know besides itself and the standard library.
_FOUNDATIONS = {"durations", "errors", "keys", "value"}


def test_process_knows_no_leases() -> None:
    """What keeps processes to deadlines knows neither leases nor engines nor settings."""
    known = set()
    for file in Path(cronlock.process.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                known |= {node.module.partition(".")[0]} if node.module else {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or not (node.module or "").startswith("cronlock")
    assert known <= _FOUNDATIONS
