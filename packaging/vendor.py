"""Fetch the pinned dependencies as wheels, verify them, and unpack them.

vendor.py    fetches what is not in build/wheels yet
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from typing import NamedTuple

from source import BUILD, ROOT

PINS = ROOT / "packaging/requirements.txt"
WHEELS = BUILD / "wheels"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", re.MULTILINE)
# RECORD is for uninstalling by pip. The tests of dependencies need their own servers.
_LEFT_OUT = re.compile(r"/$|\.dist-info/RECORD$|^(kazoo/testing|kazoo/tests|pymemcache/test)/")


class Pin(NamedTuple):
    """One dependency of packaging/requirements.txt."""

    name: str
    version: str
    sha256: str


def pins() -> list[Pin]:
    """Return all pinned dependencies."""
    return [Pin(*found) for found in _PIN.findall(PINS.read_text())]


def fetch() -> None:
    """Download missing wheels. Raise SystemExit if that fails or a hash differs from the pinned one."""
    if None not in (_wheel(pin) for pin in pins()):
        return
    # Twice: an index that lacks a package is no news, as long as another has it.
    options = ["-qq", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(WHEELS), "--requirement", str(PINS)]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise SystemExit("the pinned dependencies could not be fetched: see above, and packaging/requirements.txt")


def modules() -> dict[str, bytes]:
    """Return the files of all dependencies by path, fetching missing wheels."""
    fetch()
    files: dict[str, bytes] = {}
    for pin in pins():
        wheel = _wheel(pin)
        if wheel is None:
            raise SystemExit(f"{WHEELS}: no wheel of {pin.name} {pin.version} with the pinned hash")
        files.update(_unpack(wheel, pin))
    return files


def _wheel(pin: Pin) -> bytes | None:
    """Return the content of the pinned wheel, or None if it was not fetched yet."""
    name = re.sub(r"[-_.]+", "_", pin.name)
    for path in sorted(WHEELS.glob("*.whl")):
        if path.name.lower().startswith(f"{name.lower()}-{pin.version}-"):
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == pin.sha256:
                return data
            path.unlink()
    return None


def _unpack(wheel: bytes, pin: Pin) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not _LEFT_OUT.search(name)}
    about = next(data for name, data in files.items() if name.endswith(".dist-info/WHEEL"))
    if b"Root-Is-Purelib: true" not in about or any(".data/" in name for name in files):
        raise SystemExit(f"{pin.name} {pin.version} is not pure Python: packages cannot contain it")
    return files


if __name__ == "__main__":
    fetch()
    for each in pins():
        print(f"{each.name} {each.version}")
