"""`os` for the path of a run: ``from .system import os``.

Importing `os` builds the abstract base classes of collections, which takes a twentieth of a run. So where nobody has
imported it, this module stands for it: it has what `posix` has, and imports `os` for the rest when that is asked for.
Where `site` is in use, as in a virtual environment, `os` is imported already.
"""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any
else:
    os = sys.modules.get("os", sys.modules[__name__])

__all__ = ["os"]

devnull = "/dev/null"
pathsep = ":"
defpath = "/bin:/usr/bin"


def fsdecode(name: bytes) -> str:
    """Return a name of the system as text, as `os.fsdecode` does."""
    return name.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def __getattr__(name: str) -> "Any":
    """Return what `os` calls `name` (PEP 562). Raises AttributeError."""
    if name[:2] == "__":
        raise AttributeError(name)  # The interpreter looks for __path__.
    if name == "environ":
        # Unlike that of `os`, changing it changes nothing.
        value: Any = {fsdecode(variable): fsdecode(text) for variable, text in posix.environ.items()}
    elif hasattr(posix, name):
        value = getattr(posix, name)
    else:
        import os as real

        value = getattr(real, name)
    globals()[name] = value
    return value
