"""The files of an installation, for every kind of package: path, content and mode of each."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import source
import vendor

_LAUNCHER = """\
#!{python} -IS
# The standard library and what lies in one directory, whatever the user's environment and site say.
import sys

sys.path.append({library!r})
from cronlock import bundle

bundle.use()
from cronlock.__main__ import main

main()
"""

_DOCUMENTS = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md")
# Raw data that only developers read.
_NOT_INSTALLED = ("reliability.json",)


class File(NamedTuple):
    """One installed file."""

    #: Its absolute path on the installed system.
    path: str
    content: bytes
    mode: int = 0o644


class Layout(NamedTuple):
    """The directories of an installation."""

    prefix: str = "/usr"
    #: The interpreter in the launcher's first line.
    python: str = "/usr/bin/python3"
    #: The directory below PREFIX/share/zsh where this distribution's zsh looks for completions.
    zsh: str = "site-functions"

    @property
    def library(self) -> str:
        """The directory that holds all modules, and only those."""
        return f"{self.prefix}/lib/cronlock"


def files(layout: Layout, version: str) -> list[File]:
    """Return every installed file, the configuration file included, sorted by path."""
    launcher = _LAUNCHER.format(python=layout.python, library=layout.library)
    found = [File(f"{layout.prefix}/bin/cronlock", launcher.encode(), 0o755)]
    found += [File(f"{layout.library}/{name}", content) for name, content in program(version).items()]
    found += [File(f"{layout.prefix}/share/man/{name}.gz", gzip(page)) for name, page in manual_pages().items()]
    found += [File(f"{layout.prefix}/share/{name}", text) for name, text in completions(layout.zsh).items()]
    found += [File(f"{layout.prefix}/share/doc/cronlock/{name}", text) for name, text in documents().items()]
    # Somebody may put a password into it.
    found.append(File("/etc/cronlock.conf", _read("packaging/cronlock.conf"), 0o640))
    return sorted(found)


def program(version: str) -> dict[str, bytes]:
    """Return cronlock's modules with `version` as theirs, and those of its dependencies, by path."""
    modules = {str(path.relative_to(source.ROOT)): path.read_bytes() for path in _modules()}
    modules["cronlock/__init__.py"] = source.with_version(modules["cronlock/__init__.py"], version)
    return {**vendor.modules(), **modules}


def manual_pages() -> dict[str, bytes]:
    """Return the manual pages by path, such as man1/cronlock.1."""
    pages = sorted((source.ROOT / "man").glob("*.[1-9]"))
    return {f"man{page.suffix[1:]}/{page.name}": page.read_bytes() for page in pages}


def documents() -> dict[str, bytes]:
    """Return the other documents, by the path that keeps their links to each other intact."""
    pages = sorted(path for path in (source.ROOT / "docs").rglob("*") if path.is_file())
    names = [str(path.relative_to(source.ROOT)) for path in pages if path.name not in _NOT_INSTALLED]
    return {name: _read(name) for name in (*_DOCUMENTS, *names)}


def completions(zsh: str) -> dict[str, bytes]:
    """Return the completion of each shell, by the path below share/ where it looks."""
    found: dict[str, bytes] = {}
    for path in sorted((source.ROOT / "completions").glob("*")):
        if path.name.startswith("_") or path.suffix == ".zsh":
            place = f"zsh/{zsh}/_cronlock"
        elif path.suffix == ".fish":
            place = "fish/vendor_completions.d/cronlock.fish"
        else:
            place = "bash-completion/completions/cronlock"
        found[place] = path.read_bytes()
    return found


def gzip(data: bytes) -> bytes:
    """Return `data` compressed, without name and time, so that the bytes never differ."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data) + packer.flush()
    # RFC 1952: deflate, no flags, no time, "slowest algorithm", Unix.
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\x03" + body + struct.pack("<II", zlib.crc32(data), len(data))


def write(found: list[File], root: Path, time: int) -> None:
    """Write files below `root`, which is new or empty. `time` is the time of each file and directory."""
    for file in found:
        target = root / file.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    set_times(root, time)


def set_times(root: Path, time: int) -> None:
    """Set the time of everything below `root`, and mode 755 on directories, whatever the umask is."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            os.utime(os.path.join(directory, name), (time, time), follow_symlinks=False)
        Path(directory).chmod(0o755)
        os.utime(directory, (time, time))


def _modules() -> Iterator[Path]:
    for path in sorted((source.ROOT / "cronlock").rglob("*")):
        # cronlock.testing needs pytest. Whoever uses it installs the wheel.
        if path.parent.name == "testing":
            continue
        if path.suffix == ".py" or path.name == "py.typed":
            yield path


def _read(name: str) -> bytes:
    return (source.ROOT / name).read_bytes()
