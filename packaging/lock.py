"""Pin the dependencies in the packages to the newest versions that run on every supported Python.

lock.py    writes packaging/requirements.txt from [project].dependencies of pyproject.toml
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import interpreters
import source
import vendor

_HEAD = """\
# The dependencies in the packages and in cronlock.pyz: pure Python, one set for every Python from 3.9 on.
# `make lock` writes this file from [project].dependencies of pyproject.toml.
"""


def lock() -> None:
    """Write the pins. Resolve with the oldest supported Python, since its dependencies run on all."""
    found = interpreters.found()
    if interpreters.OLDEST not in found:
        raise SystemExit(f"Python 3.{interpreters.OLDEST} is missing: name one with PYTHON3{interpreters.OLDEST}=")
    with tempfile.TemporaryDirectory() as scratch:
        _run(found[interpreters.OLDEST], "-m", "venv", scratch)
        pip = (f"{scratch}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(*pip, "install", "--upgrade", "pip")
        report = Path(scratch, "report.json")
        options = ("--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", str(report))
        _run(*pip, "install", *options, str(source.ROOT))
        installed = json.loads(report.read_text())["install"]
    lines = []
    for item in installed:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name != "cronlock":
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name.lower()}=={version} \\\n    --hash=sha256:{digest}\n")
    vendor.PINS.write_text(_HEAD + "".join(sorted(lines)))
    print(f"wrote {vendor.PINS}")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


if __name__ == "__main__":
    lock()
