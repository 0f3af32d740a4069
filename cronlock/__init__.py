"""cronlock: run a command on one machine at a time.

The package is a program first: ``cronlock run`` stands before a crontab line.
Start-up time counts, so modules that ``run`` loads import little and late
(see docs/architecture.md). What comes before the bundle does not even import
``__future__``, a file of its own.
"""

import sys

__version__ = "0.2.0"


def know_packages(*names: str) -> None:
    """Create packages below this one, such as ``engines.redis``, without reading their empty ``__init__.py``.

    Finding and reading an empty file takes as long as a module of a hundred lines, and a run needs seven packages.
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
