"""cronlock: run a command on one machine at a time.

The package is a program first: ``cronlock run`` stands before a crontab line.
Start-up cost counts, so modules on the way of ``run`` import little and late
(see docs/architecture.md).
"""

from __future__ import annotations

import sys

__version__ = "0.2.0"


def know_packages(*names: str) -> None:
    """Have packages below this one, such as ``engines.redis``, without looking for their empty ``__init__.py``.

    To find, open and read an empty file takes as long as a module of a hundred lines, and a run needs seven of them.
    """
    for name in names:
        full = f"{__name__}.{name}"
        if full in sys.modules:
            continue
        package, path = type(sys)(full), [f"{__path__[0]}/{name.replace('.', '/')}"]
        spec = type(__spec__)(full, None, is_package=True)
        spec.submodule_search_locations = path
        package.__path__, package.__package__, package.__spec__ = path, full, spec
        sys.modules[full] = package
        outer, _, last = full.rpartition(".")
        setattr(sys.modules[outer], last, package)
