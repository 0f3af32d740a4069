"""The byte code of a run in one file, written at installation: ``python3 -IS cronlock/bundle.py [DIRECTORY]``.

Finding, checking and opening forty files takes a tenth of a run. Each module is checked as the interpreter checks
its own byte code, by its source's size and time; the index by a checksum as well. What is stale, damaged, another
interpreter's or another owner's is passed over, and the module is found as if there were no bundle.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER  # Importing `importlib.util` takes half a run.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    #: A module's source by its path in the package, the source's time and size; the byte code's place behind the
    #: index, and its length.
    Entry = tuple[str, int, int, int, int]

#: The file, beside the interpreter's byte code, so that cleaning removes both.
PLACE = f"__pycache__/run.{sys.implementation.cache_tag}.bundle"
#: The folders whose modules a run may need, except its engine's.
_FOLDERS = ("", "config", "engines", "lease", "process", "run")
_APART = ("__init__.py", "bundle.py", "cli.py")
# The magic number, the index's length in four bytes, and its checksum.
_HEAD = len(MAGIC_NUMBER) + 4 + 8


class Bundle:
    """A finder and loader for `sys.meta_path` of the package in `directory`."""

    def __init__(self, directory: str) -> None:
        """Raises OSError or ValueError without a usable bundle."""
        self._directory = directory
        self._file = os.open(f"{directory}/{PLACE}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        about = os.fstat(self._file)
        head = os.pread(self._file, _HEAD, 0)
        index = os.pread(self._file, int.from_bytes(head[-12:-8], "little"), _HEAD)
        ours = about.st_uid in (0, os.stat(directory).st_uid) and not about.st_mode & 0o022
        # Do not take the descriptor of a closed standard stream: see `__main__`.
        if not (self._file > 2 and ours and head.startswith(MAGIC_NUMBER) and _checksum(index) == head[-8:]):
            os.close(self._file)
            raise ValueError("not to be used")
        self._modules: dict[str, Entry] = marshal.loads(index)  # Trusted: the installation wrote it.
        self._codes = _HEAD + len(index)
        self._specification: type[ModuleSpec] = type(__spec__)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return the spec of module `name`, None if this bundle lacks it."""
        if name not in self._modules:
            return None
        file, modified, size, start, length = self._modules[name]
        origin = f"{self._directory}/{file}"
        try:
            source = os.stat(origin)
            if (int(source.st_mtime), source.st_size) != (modified, size):
                return None
            code = marshal.loads(os.pread(self._file, length, self._codes + start))
        except (OSError, EOFError, TypeError, ValueError):
            return None
        return self._specification(name, self, origin=origin, loader_state=code)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: the interpreter creates the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module's code."""
        spec = module.__spec__
        assert spec is not None
        module.__file__ = spec.origin
        exec(spec.loader_state, module.__dict__)  # noqa: S102  # An import does the same.
        spec.loader_state = None


def use() -> None:
    """Load modules of this package from its bundle, if usable."""
    try:
        sys.meta_path.insert(0, Bundle(os.path.dirname(__file__)))
    except (OSError, ValueError):
        pass  # Not written, or by another interpreter: see docs/packages.md.


def write(directory: str, known: str) -> None:
    """Write the bundle of the package in `directory`, which tracebacks call `known`. Raises OSError."""
    codes = b""
    modules: dict[str, Entry] = {}
    for file in _files(directory):
        with open(f"{directory}/{file}", "rb") as source:
            about = os.fstat(source.fileno())
            compiled = compile(source.read(), f"{known}/{file}", "exec", dont_inherit=True)
        code = marshal.dumps(compiled)
        name = f"cronlock.{file[:-3].replace('/', '.')}"
        modules[name] = (file, int(about.st_mtime), about.st_size, len(codes), len(code))
        codes += code
    index = marshal.dumps(modules)
    head = MAGIC_NUMBER + len(index).to_bytes(4, "little") + _checksum(index)
    target = f"{directory}/{PLACE}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # Atomically and durably: somebody may be reading the old one.
    fresh = f"{target}.{os.getpid()}"
    with open(fresh, "xb") as stream:
        stream.write(head + index + codes)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(fresh, 0o644)
    os.replace(fresh, target)


def _files(directory: str) -> Iterator[str]:
    """Yield the sources that a run may need, as paths below `directory`."""
    for folder in _FOLDERS:
        for place, _, names in os.walk(f"{directory}/{folder}".rstrip("/")):
            if folder or place == directory:
                for name in sorted(names):
                    if name.endswith(".py") and name not in _APART and not name.endswith("doctor.py"):
                        yield os.path.relpath(f"{place}/{name}", directory)


def _checksum(data: bytes) -> bytes:
    return _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), data)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        write(here, sys.argv[1] if sys.argv[1:] else here)
    except OSError as error:
        sys.exit(f"cronlock: {error.filename}: {error.strerror}")
