"""What ``cronlock doctor`` reports, and nodes for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from .looking import call
from .support import Node

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "doctor.schema.json").read_text())
PASSWORD = "not-to-be-shown"
STATUSES = {"ok": 0, "warning": 1, "bad": 2}


class Report:
    """The doctor's JSON, checked against the schema."""

    def __init__(self, node: Node, *words: object) -> None:
        self.status, self.out, err = call(node, "doctor", "--json", *words)
        assert err == ""
        self.document: dict[str, Any] = json.loads(self.out)
        jsonschema.validate(self.document, SCHEMA)
        assert self.status == STATUSES[self.document["level"]]
        self.findings: list[dict[str, Any]] = self.document["findings"]
        assert PASSWORD not in self.out

    def one(self, name: str) -> dict[str, Any]:
        """Return the one finding of this name."""
        (found,) = self.all(name)
        return found

    def all(self, name: str) -> list[dict[str, Any]]:
        """Return the findings of this name, one for each server."""
        return [finding for finding in self.findings if finding["name"] == name]

    def level(self, name: str) -> str:
        """Return the level of the one finding of this name."""
        return str(self.one(name)["level"])

    def bad(self) -> list[str]:
        """Return the names of WRONG findings."""
        return [finding["name"] for finding in self.findings if finding["level"] == "bad"]

    def warnings(self) -> list[str]:
        """Return the names of warnings."""
        return [finding["name"] for finding in self.findings if finding["level"] == "warning"]


def node_on(tmp_path: Path, url: str) -> Node:
    """Return a node whose backend is named in a configuration file for this user alone."""
    node = Node(tmp_path, url)
    path = tmp_path / "cronlock.conf"
    path.touch(0o600)
    path.write_text(f"CRONLOCK_BACKEND={url}\n")
    node.environ["CRONLOCK_CONFIG"] = str(path)
    del node.environ["CRONLOCK_BACKEND"]
    return node
