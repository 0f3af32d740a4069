"""Make cronlock.pyz, the program in one file: pyz.py [--version VERSION] [--output DIRECTORY].

It contains cronlock's sources, and the byte code for each supported Python of this machine. Any other Python
compiles the sources at each start, which takes longer than the rest of a run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import interpreters
import payload
from arguments import Arguments, parse

_HERE = Path(__file__).resolve().parent / "pyz"
# The bytes must not differ between calls, so no hash of a string may get into them.
_COMPILE = """
import importlib.util, pathlib, py_compile, sys
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("*.py")):
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(path), str(path) + "c", str(path.relative_to(root)), True, invalidation_mode=mode)
print(importlib.util.MAGIC_NUMBER[:2].hex())
"""


def build(arguments: Arguments) -> Path:
    """Make the file and return its path."""
    program = payload.program(arguments.version)
    files = {"__main__.py": (_HERE / "__main__.py").read_bytes(), **program}
    files.update({f"share/man/{name}": page for name, page in payload.manual_pages().items()})
    files.update({f"share/{name}": text for name, text in payload.completions("site-functions").items()})
    schemas = {name: text for name, text in payload.documents().items() if name.endswith(".schema.json")}
    files.update({f"share/doc/cronlock/{name}": text for name, text in schemas.items()})
    own = {name: code for name, code in program.items() if name.startswith("cronlock/")}
    compiled: dict[str, bytes] = {}
    for python in interpreters.found().values():
        compiled.update(_compile(python, own))
    target = arguments.output / "cronlock.pyz"
    with target.open("wb") as stream:
        stream.write((_HERE / "start.sh").read_bytes())
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in sorted({**files, **compiled}.items()):
                # Files that a run reads are stored uncompressed: a start without zlib is shorter.
                packed = name in files and name != "__main__.py"
                archive.writestr(_entry(name, arguments.epoch), content, 8 if packed else 0, 9 if packed else None)
    target.chmod(0o755)
    return target


def _compile(python: str, program: dict[str, bytes]) -> dict[str, bytes]:
    """Return the byte code that `python` makes of `program`, in a directory named after its magic number."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, code in program.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(code)
        command = [python, "-sS", "-W", "ignore", "-c", _COMPILE, scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "0"})
        magic = done.stdout.strip()
        paths = sorted(Path(scratch).rglob("*.pyc"))
        return {f"{magic}/{path.relative_to(scratch)}": path.read_bytes() for path in paths}


def _entry(name: str, epoch: int) -> zipfile.ZipInfo:
    # Zip archives cannot store a time before 1980.
    moment = time.gmtime(max(epoch, 315532800))
    entry = zipfile.ZipInfo(name, (moment.tm_year, *moment[1:6]))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


if __name__ == "__main__":
    print(build(parse(__doc__)))
    versions = " ".join(f"3.{minor}" for minor in interpreters.found())
    print(f"contains byte code for Python {versions}; others compile the sources at each start", file=sys.stderr)
