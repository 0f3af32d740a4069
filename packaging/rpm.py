"""Make the RPM package: rpm.py [--version VERSION] [--maintainer MAINTAINER] [--output DIRECTORY]."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import licences
import payload
from arguments import Arguments, parse, tool

_HERE = Path(__file__).resolve().parent / "rpm"
# Settings of the build machine that would get into the package or change its content.
_MACROS = {
    "_buildhost": "localhost",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    # Red Hat's scripts would compile for the build machine's interpreter, strip, and compress manual pages again.
    "__os_install_post": "%{nil}",
    # rpm 4.12 and later can unpack it.
    "_binary_payload": "w6.xzdio",
    "_binary_filedigest_algorithm": "8",
    "_build_id_links": "none",
    "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    "_defaultlicensedir": "/usr/share/licenses",
}


def build(arguments: Arguments) -> Path:
    """Make the package and return its path."""
    rpmbuild = tool("rpmbuild", "rpm")
    files = payload.files(payload.Layout(), arguments.version)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        stage = scratch / "stage"
        payload.write(files, stage, arguments.epoch)
        (stage / "var/lib/cronlock").mkdir(parents=True)
        payload.set_times(stage, arguments.epoch)
        spec = scratch / "cronlock.spec"
        spec.write_text(_spec(stage, files, arguments))
        macros = {**_MACROS, "_topdir": str(scratch), "_rpmdir": str(scratch), "_tmppath": str(scratch)}
        defines = [word for macro, value in macros.items() for word in ("--define", f"{macro} {value}")]
        # HOME keeps the user's own macros out.
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(arguments.epoch), "LC_ALL": "C", "HOME": str(scratch)}
        command = [rpmbuild, "-bb", "--quiet", "--target", "noarch-linux", *defines, str(spec)]
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"rpmbuild failed:\n{done.stdout}{done.stderr}")
        made = scratch / f"cronlock-{arguments.version}-1.noarch.rpm"
        return Path(shutil.copy(made, arguments.output / made.name))


def _spec(stage: Path, files: list[payload.File], arguments: Arguments) -> str:
    fields = {
        "VERSION": arguments.version,
        "MAINTAINER": arguments.maintainer,
        "LICENCES": " AND ".join(licences.names()),
        "DATE": time.strftime("%a %b %d %Y", time.gmtime(arguments.epoch)),
        "SHELLS": "\n".join(_completions(files)),
        "COMPILE": (_HERE / "compile").read_text().rstrip(),
        "STAGE": str(stage),
    }
    text = (_HERE / "cronlock.spec.in").read_text()
    for name, value in fields.items():
        text = text.replace(f"@{name}@", value)
    return text


def _completions(files: list[payload.File]) -> list[str]:
    """Return the spec's lines for completions, and for directories that only an installed shell would own."""
    shells = ("/usr/share/bash-completion/", "/usr/share/fish/", "/usr/share/zsh/")
    paths = [file.path for file in files if file.path.startswith(shells)]
    above = {str(parent) for path in paths for parent in Path(path).parents if str(parent).count("/") > 2}
    return [*(f"%dir {directory}" for directory in sorted(above)), *paths]


if __name__ == "__main__":
    print(build(parse(__doc__)))
