"""The byte code of a run in one file, which `bundle_writer` writes at installation, or after the first run.

Finding, checking and opening forty files takes a tenth of a run, and importing their modules one by one as much again.
So the first import of one of a group brings all of it. Each module is checked as the interpreter checks its own byte
code, by its source's size and time; the index by a checksum as well. What is stale, damaged, another interpreter's or
another owner's is passed over, and the module is found as if there were no bundle.
"""

import _imp
import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER  # Importing `importlib.util` takes half a run.

from .system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    #: A module's source by its path in the package, the source's time and size, and the module's group.
    Module = tuple[str, int, int, int]
    #: The place behind the index of a group's byte code, and its length.
    Group = tuple[int, int]

#: The file, beside the interpreter's byte code, so that cleaning removes both.
PLACE = f"__pycache__/run.{sys.implementation.cache_tag}.bundle"
#: The same for installers that start no program, such as pip: they install it empty, and remove it with the package.
PLACE_OF_WHEELS = "run.bundle"
# The magic number, the index's length in four bytes, and its checksum.
_HEAD = len(MAGIC_NUMBER) + 4 + 8


class Bundle:
    """A finder and loader for `sys.meta_path` of the package in `directory`, which has the bundle at `place`."""

    def __init__(self, directory: str, place: str) -> None:
        """Raises OSError or ValueError without a usable bundle."""
        self._directory = directory
        self._file = os.open(f"{directory}/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        about = os.fstat(self._file)
        start = os.pread(self._file, 16384, 0)
        size = int.from_bytes(start[_HEAD - 12 : _HEAD - 8], "little")
        index = start[_HEAD : _HEAD + size]
        ours = about.st_uid in (0, os.stat(directory).st_uid) and not about.st_mode & 0o022
        # Do not take the descriptor of a closed standard stream: see `__main__`.
        if not (self._file > 2 and ours and start[:_HEAD] == head(index)):
            os.close(self._file)
            raise ValueError("not to be used")
        # Trusted: root or the owner of the package wrote it.
        self._modules: dict[str, Module]
        self._groups: list[Group | None]
        self._modules, self._groups = marshal.loads(index)
        self._start = _HEAD + size
        #: The byte code of modules that were read and not imported yet.
        self._codes: dict[str, CodeType] = {}
        self._specification: type[ModuleSpec] = type(__spec__)

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":  # noqa: ARG002
        """Return the spec of module `name`, None if this bundle lacks it. Import all modules of its group."""
        if name not in self._modules:
            return None
        number = self._modules[name][3]
        group, self._groups[number] = self._groups[number], None
        if group is not None:
            self._import_group(group)
        imported = sys.modules.get(name)
        return self._spec(name) if imported is None else imported.__spec__

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """Return the module if it was imported with its group, else None: the interpreter creates it."""
        return sys.modules.get(spec.name)

    def exec_module(self, module: "ModuleType") -> None:
        """Execute the module's code, once."""
        spec = module.__spec__
        assert spec is not None
        code, spec.loader_state = spec.loader_state, None
        if code is not None:
            module.__file__ = spec.origin
            exec(code, module.__dict__)  # noqa: S102  # An import does the same.

    def _import_group(self, group: "Group") -> None:
        """Import the modules of a group as the interpreter does, but without its search and locks."""
        start, length = group
        try:
            codes = marshal.loads(os.pread(self._file, length, self._start + start))
        except (OSError, EOFError, TypeError, ValueError):
            return
        self._codes.update(codes)
        # Each comes behind those that it imports.
        for name, _ in codes:
            package, _, last = name.rpartition(".")
            spec = self._spec(name) if name not in sys.modules and package in sys.modules else None
            if spec is None:
                continue
            module = type(sys)(name)
            module.__spec__, module.__loader__, module.__package__ = spec, self, package  # type: ignore[assignment]
            sys.modules[name] = module
            try:
                self.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
            setattr(sys.modules[package], last, module)

    def _spec(self, name: str) -> "ModuleSpec | None":
        """Return the spec of a module whose group was read; None if its source changed."""
        file, modified, size, _ = self._modules[name]
        origin = f"{self._directory}/{file}"
        try:
            source = os.stat(origin)
        except OSError:
            return None
        code = self._codes.pop(name, None)
        if code is None or (int(source.st_mtime), source.st_size) != (modified, size):
            return None
        return self._specification(name, self, origin=origin, loader_state=code)  # type: ignore[arg-type]


def use() -> None:
    """Load modules of this package from its bundle, if usable."""
    for place in (PLACE, PLACE_OF_WHEELS):
        try:
            sys.meta_path.insert(0, Bundle(__file__.rpartition("/")[0], place))
        except (OSError, ValueError):
            continue  # Not written, or by another interpreter: see docs/packages.md.
        return


def head(index: bytes) -> bytes:
    """Return what a bundle with this index begins with."""
    checksum = _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), index)
    return MAGIC_NUMBER + len(index).to_bytes(4, "little") + checksum
