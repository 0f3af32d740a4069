"""A clean Debian, to install packages into: nothing but the essential and apt, with python3 and cron to be had."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from labs.installation import ROOT
from labs.servers.process import need

from .support import run

_DIRECTORY = ROOT / "build/debian"
# Downloaded and not installed: so apt finds them later, on a machine without a network. Cron would
# bring a mail server along.
_GET = 'APT_CONFIG= chroot "$1" apt-get -qq -y --download-only install'
_DOWNLOADS = (f"{_GET} --install-recommends python3", f"{_GET} --no-install-recommends cron")


def clean_root() -> Path:
    """Return the directory of the clean Debian, made on first use; nobody may change it."""
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    done = _DIRECTORY / "root"
    with (_DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            fresh = _DIRECTORY / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            options = ["--quiet", "--variant=minbase", "--mode=root", "--skip=cleanup/apt,cleanup/reproducible"]
            keep = "--aptopt=Binary::apt-get::APT::Keep-Downloaded-Packages true"
            hooks = [f"--customize-hook={download}" for download in _DOWNLOADS]
            run(need("mmdebstrap", "mmdebstrap"), *options, keep, *hooks, _suite(), fresh)
            # Whole, or not at all.
            fresh.rename(done)
    return done


def _suite() -> str:
    """Return this machine's release if it is a Debian, whose keys it has; else the oldest that is supported."""
    about = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return about.get("VERSION_CODENAME", "bookworm") if about.get("ID") == "debian" else "bookworm"
