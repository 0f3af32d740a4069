"""Debian's packages in directories of their own: a release's packages unpacked, or a whole system that has them.

Each is made on first use, below build/, and kept; nobody may change it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .installation import ROOT, clean_environment
from .servers.process import need

_USUAL_MIRROR = "http://deb.debian.org/debian"
#: How a customized system's apt is called: it has packages of its own to find later, on a machine without a network.
_GET = 'APT_CONFIG= chroot "$1" apt-get -qq -y --download-only install'


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, below the checkout, which `make` makes as another directory if it is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            fresh = path.with_name(f"{path.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            make(fresh)
            fresh.rename(path)  # Whole, or not at all.
    return path


def unpacked(suite: str, *packages: str) -> Callable[[Path], None]:
    """Return what unpacks packages of a release, and what they depend on, into a directory; nothing is run there."""
    return lambda path: _bootstrap(path, suite, "--variant=extract", f"--include={','.join(packages)}")


def system(
    suite: str, *packages: str, architecture: str = "", downloads: tuple[str, ...] = ()
) -> Callable[[Path], None]:
    """Return what installs a release into a directory: what is essential, apt, and packages.

    Of another architecture than this machine's if `architecture` says so; its programs must start here.
    Each of `downloads`, packages and options of apt-get, is left in apt's cache.
    """
    options = ["--variant=minbase", "--mode=root", "--skip=cleanup/apt,cleanup/reproducible"]
    options += ["--aptopt=Binary::apt-get::APT::Keep-Downloaded-Packages true"]
    options += [f"--architectures={architecture}"] if architecture else []
    options += [f"--include={','.join(packages)}"] if packages else []
    options += [f"--customize-hook={_GET} {download}" for download in downloads]
    return lambda path: _bootstrap(path, suite, *options)


def clean_system() -> Path:
    """Return a system without packages, with python3 and cron to be installed from its cache.

    It is this machine's release if that is a Debian, whose keys it has, else the oldest that is supported.
    """
    about = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = about.get("VERSION_CODENAME", "bookworm") if about.get("ID") == "debian" else "bookworm"
    # Cron would bring a mail server along.
    downloads = ("--install-recommends python3", "--no-install-recommends cron")
    return once(ROOT / "build/debian/clean", system(suite, downloads=downloads))


def cronie(program: str) -> list[str]:
    """Return the start of a command that runs `program` of cronie's, the cron of Fedora, such as ``sbin/crond``.

    The first Debian with it is trixie, whose programs want a newer C library than the oldest Debian here has.
    """
    root = once(ROOT / "build/debian/cronie", unpacked("trixie", "cronie"))
    (libraries,) = (root / "usr/lib").glob("*-linux-gnu")
    loader = next(libraries.glob("ld-linux*.so.*"))
    return [str(loader), "--library-path", str(libraries), str(root / "usr" / program)]


def _bootstrap(path: Path, suite: str, *options: str) -> None:
    # What a mirror has that is not renewed any more is as good for this.
    command = [need("mmdebstrap", "mmdebstrap"), "--quiet", "--aptopt=Acquire::Check-Valid-Until false", *options]
    command += [suite, str(path), _mirror()]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{suite} cannot be fetched by mmdebstrap:\n{done.stderr[-3000:]}", pytrace=False)


def _mirror() -> str:
    """Return where this machine gets its Debian packages from, or where all do."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return _USUAL_MIRROR
    mirrors = [uri for origin, _, uri in (line.partition(" ") for line in found) if origin == "Debian"]
    return next((uri for uri in mirrors if "security" not in uri), _USUAL_MIRROR)
