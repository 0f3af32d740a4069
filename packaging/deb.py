"""Make the Debian package: deb.py [--version VERSION] [--maintainer MAINTAINER] [--output DIRECTORY]."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

import licences
import payload
from arguments import Arguments, parse, tool

_HERE = Path(__file__).resolve().parent / "deb"
_DOC = "/usr/share/doc/cronlock"
_SCRIPTS = ("postinst", "prerm", "postrm")


def build(arguments: Arguments) -> Path:
    """Make the package and return its path."""
    dpkg = tool("dpkg-deb", "dpkg")
    files = _files(arguments)
    target = arguments.output / f"cronlock_{arguments.version}_all.deb"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        payload.write(files, root, arguments.epoch)
        (root / "var/lib/cronlock").mkdir(parents=True)
        control = root / "DEBIAN"
        control.mkdir()
        _write_control(control, files, arguments)
        payload.set_times(root, arguments.epoch)
        (root / "var/lib/cronlock").chmod(0o700)
        # With several threads xz would split its output differently.
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(arguments.epoch), "DPKG_DEB_THREADS_MAX": "1"}
        command = [dpkg, "--root-owner-group", "-Zxz", "--build", str(root), str(target)]
        subprocess.run(command, check=True, env={**environ, "LC_ALL": "C"}, stdout=subprocess.DEVNULL)
    return target


def _files(arguments: Arguments) -> list[payload.File]:
    """Return the files of every installation, with the documents that Debian's policy requires."""
    files = payload.files(payload.Layout(zsh="vendor-completions"), arguments.version)
    files = [file for file in files if file.path != f"{_DOC}/LICENSE"]
    files += [
        payload.File(f"{_DOC}/copyright", licences.copyright_file()),
        payload.File(f"{_DOC}/changelog.gz", payload.gzip(_changelog(arguments).encode())),
        payload.File("/usr/share/lintian/overrides/cronlock", (_HERE / "lintian-overrides").read_bytes()),
    ]
    return sorted(files)


def _changelog(arguments: Arguments) -> str:
    """Return Debian's changelog, which refers to CHANGELOG.md."""
    date = formatdate(arguments.epoch)
    entry = "* Packaged by its authors; CHANGELOG.md says what is new."
    return (
        f"cronlock ({arguments.version}) unstable; urgency=medium\n\n  {entry}\n\n -- {arguments.maintainer}  {date}\n"
    )


def _write_control(control: Path, files: list[payload.File], arguments: Arguments) -> None:
    kilobytes = sum((len(file.content) + 1023) // 1024 for file in files)
    fields = {"VERSION": arguments.version, "MAINTAINER": arguments.maintainer, "SIZE": str(kilobytes)}
    text = (_HERE / "control.in").read_text()
    for name, value in fields.items():
        text = text.replace(f"@{name}@", value)
    conffiles = [file.path for file in files if file.path.startswith("/etc/")]
    sums = [
        f"{hashlib.md5(file.content).hexdigest()}  {file.path.lstrip('/')}"
        for file in files
        if file.path not in conffiles
    ]
    made = {"control": text, "conffiles": "\n".join(conffiles) + "\n", "md5sums": "\n".join(sums) + "\n"}
    made.update({name: (_HERE / name).read_text() for name in (*_SCRIPTS, "triggers")})
    for name, content in made.items():
        (control / name).write_text(content)
        (control / name).chmod(0o755 if name in _SCRIPTS else 0o644)


if __name__ == "__main__":
    print(build(parse(__doc__)))
