"""All that was measured of one server, and the file that keeps it: servers can be measured one at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.report import machine

from .measure import Case, Row
from .real import Comparison

_SETTINGS = ("net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.ip_local_port_range")


@dataclass
class Found:
    """All that was measured of one server."""

    name: str
    version: str
    comparison: Comparison | None = None
    rows: list[Row] = field(default_factory=list)
    #: When and where, and the load average before it began; None if that is not known.
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))
    machine: str = field(default_factory=lambda: f"{machine()}, {_kernel()}")
    load: float | None = field(default_factory=lambda: round(os.getloadavg()[0], 2))


def read(file: Path) -> dict[str, Found]:
    """Return what a file keeps, by the names that the command takes; nothing if there is none."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return {name: _from_json(found) for name, found in kept.items()}


def write(file: Path, found: Mapping[str, Found]) -> None:
    """Keep it, a row a line."""
    servers = []
    for name, one in found.items():
        told = {**asdict(one), "rows": None}
        text = json.dumps(told, indent=1, sort_keys=True)
        rows = ",\n  ".join(json.dumps(asdict(row)) for row in one.rows)
        servers.append(f"{json.dumps(name)}: " + text.replace('"rows": null', f'"rows": [\n  {rows}\n ]'))
    file.write_text("{\n" + ",\n".join(servers) + "\n}\n")


def _from_json(kept: Mapping[str, Any]) -> Found:
    comparison = kept["comparison"]
    rows = [
        Row(**{**row, "case": Case(**row["case"]), "reasons": tuple(row["reasons"])})  # The rest is numbers.
        for row in kept["rows"]
    ]
    return Found(**{**kept, "comparison": None if comparison is None else Comparison(**comparison), "rows": rows})


def _kernel() -> str:
    told = []
    for name in _SETTINGS:
        path = Path("/proc/sys") / name.replace(".", "/")
        if path.exists():
            told.append(f"`{name}` {' to '.join(path.read_text().split())}")
    return ", ".join(told)
