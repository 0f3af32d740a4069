"""The program's entry: the short way for ``run`` and ``--version``, click for all else."""

from __future__ import annotations

import os
import sys

from . import __version__, statuses


def main() -> None:
    """Run ``cronlock`` with the arguments of this process, and end it with the exit status."""
    reserve_standard_streams()
    status = dispatch(sys.argv[1:])
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        pass  # Whoever read it has gone.
    # Nothing is left to be cleaned up, and tearing the interpreter down takes longer than a renewal.
    os._exit(status)


def dispatch(arguments: list[str]) -> int:
    """Return the exit status of ``cronlock`` with `arguments`."""
    if arguments == ["--version"]:
        sys.stdout.write(f"cronlock {__version__}\n")
        return 0
    if arguments[:1] == ["run"]:
        from .quickargs import read_run

        quick = read_run(arguments[1:])
        if quick is not None:
            from .run import run

            return run(*quick)
    try:
        from .cli import main as cli_main
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        os.write(2, b"cronlock: the Python package click is missing: pip install click\n")
        return statuses.FAULT
    return cli_main(arguments)


def reserve_standard_streams() -> None:
    """Fill what is closed of 0, 1 and 2, lest a socket or pipe of ours become the command's stdin.

    The fillers close at exec, so that the command finds closed what was closed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number: this one.


if __name__ == "__main__":
    main()
