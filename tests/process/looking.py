"""The commands that show keys, called as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema

from .support import Node

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text())


def call(node: Node, *words: object, stdin: Any = subprocess.DEVNULL) -> tuple[int, str, str]:
    """Return (status, stdout, stderr) of ``cronlock`` with `words`."""
    started = node.spawn([sys.executable, "-m", "cronlock", *map(str, words)], stdin=stdin)
    return started.wait(), started.out, started.err


def shown(node: Node, *keys: str) -> dict[str, Any]:
    """Return what ``status --json`` says of one key, checked against the schema."""
    status, out, err = call(node, "status", "--json", *keys)
    assert (status, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    return {key["key"]: key for key in document["keys"]}
