"""Programs of Debian packages, unpacked instead of installed, so that no service starts here."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from labs.installation import ROOT
from labs.servers.process import need

_DIRECTORY = ROOT / "build/payloads"

#: A package, and the prefix of the dependencies to unpack too. An installed cloud-init would run at the next boot.
CLOUD_INIT = ("cloud-init", "python3-")
#: For promtool, which is a package in newer releases. An installed prometheus would start a server.
PROMETHEUS = ("prometheus", "promtool")
#: Monitoring tools for which there are recipes.
MONIT = ("monit", "-")
NAGIOS = ("nagios4-core", "-")


def payload(wanted: tuple[str, str]) -> Path:
    """Return a directory with the files of a package and its dependencies. Fail the test if they cannot be fetched."""
    package, needed = wanted
    need("apt-get", "apt"), need("dpkg-deb", "dpkg")
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    done = _DIRECTORY / package
    with (_DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            fresh = _DIRECTORY / f"{package}.fresh"
            subprocess.run(["rm", "-rf", str(fresh)], check=True)
            (fresh / "debs").mkdir(parents=True)
            listed = _run("apt-cache", "depends", "--recurse", "--important", package, cwd=fresh).split("\n")
            others = {name for name in listed if name.startswith(needed)} - {"python3-minimal"}
            _run("apt-get", "-qq", "download", package, *sorted(others), cwd=fresh / "debs")
            for archive in sorted((fresh / "debs").iterdir()):
                _run("dpkg-deb", "-x", str(archive), str(fresh), cwd=fresh)
                archive.unlink()
            # An interrupted download leaves no half-filled directory.
            fresh.rename(done)
    return done


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}: {done.stderr.strip()}; try: apt-get update", pytrace=False)
    return done.stdout
