"""cronie, the cron of Fedora and others: a newer Debian has it, from where it is brought with its libraries."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from labs.installation import ROOT

_DIRECTORY = ROOT / "build/cronie"
# The first Debian with cronie. Its programs want a newer C library than the oldest Debian here has.
_SUITE = "trixie"
_PACKAGES = ["cronie", "libc6", "libpam0g", "libselinux1", "libaudit1", "libpcre2-8-0", "libcap-ng0"]
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cronie(program: str) -> list[str]:
    """Return the start of a command that runs `program` of cronie's, such as ``sbin/crond``.

    Brings the packages on first use; skips the test where there are none.
    """
    root = _root()
    (libraries,) = (root / "usr/lib").glob("*-linux-gnu")
    loader = next(libraries.glob("ld-linux*.so.*"))
    return [str(loader), "--library-path", str(libraries), str(root / "usr" / program)]


def _root() -> Path:
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    done = _DIRECTORY / "root"
    with (_DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            fresh = _DIRECTORY / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            _bring(fresh)
            (fresh / "root").rename(done)
    return done


def _bring(directory: Path) -> None:
    """Make `directory`/root of the packages; apt's own lists and settings stay as they are."""
    (directory / "root").mkdir(parents=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {_mirror()} {_SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    for folder in ("lists/partial", "cache/archives/partial"):
        (directory / folder).mkdir(parents=True)
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True, capture_output=True)
    subprocess.run(["apt-get", *options, "-qq", "download", *_PACKAGES], check=True, capture_output=True, cwd=directory)
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, directory / "root"], check=True)


def _mirror() -> str:
    """Return where this machine gets its Debian packages from."""
    if shutil.which("apt-get") is None or not Path(_KEYS).exists():
        pytest.skip("no apt-get with Debian's keys to get cronie with")
    target = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(target, capture_output=True, text=True, check=True).stdout.splitlines()
    mirrors = [uri for origin, _, uri in (line.partition(" ") for line in found) if origin == "Debian"]
    for uri in mirrors:
        if "security" not in uri:
            return uri
    return pytest.skip("no mirror of Debian to get cronie from: apt-get update")
