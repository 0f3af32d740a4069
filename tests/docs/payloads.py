"""Programs of Debian's packages, unpacked and not installed: none of their services is to start here."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from labs.installation import ROOT
from labs.servers.process import need

_DIRECTORY = ROOT / "build/payloads"

#: cloud-init with all that it imports; installed it would run at the next boot.
CLOUD_INIT = (
    "cloud-init", "python3-attr", "python3-certifi", "python3-chardet", "python3-charset-normalizer",
    "python3-configobj", "python3-idna", "python3-jinja2", "python3-json-pointer", "python3-jsonpatch",
    "python3-jsonschema", "python3-markupsafe", "python3-netifaces", "python3-oauthlib", "python3-pyrsistent",
    "python3-requests", "python3-six", "python3-urllib3", "python3-yaml",
)  # fmt: skip
#: Prometheus' promtool; installed a server would start.
PROMETHEUS = ("prometheus",)
#: The monitoring tools whose configurations are among the recipes.
MONIT = ("monit",)
NAGIOS = ("nagios4-core",)


def payload(packages: tuple[str, ...]) -> Path:
    """Return a directory with what `packages` would install, fetched on first use; fail the test without them."""
    need("apt-get", "apt"), need("dpkg-deb", "dpkg")
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    done = _DIRECTORY / packages[0]
    with (_DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            fresh = _DIRECTORY / f"{packages[0]}.fresh"
            subprocess.run(["rm", "-rf", str(fresh)], check=True)
            (fresh / "debs").mkdir(parents=True)
            _run("apt-get", "-qq", "download", *packages, cwd=fresh / "debs")
            for package in sorted((fresh / "debs").iterdir()):
                _run("dpkg-deb", "-x", str(package), str(fresh), cwd=fresh)
                package.unlink()
            # Whole, or not at all.
            fresh.rename(done)
    return done


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}: {done.stderr.strip()}; try: apt-get update", pytrace=False)
