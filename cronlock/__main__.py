"""The program's entry: the short way for ``run`` and ``--version``, click for all else."""

from __future__ import annotations

import gc
import os
import sys

from . import __version__, know_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` builds enums at import; see cronlock.process.signals.


def main() -> None:
    """Run ``cronlock`` with the arguments of this process, and end it with the exit status."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # Ctrl-C before there is anything to clean up: end, without a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        reserve_standard_streams()
    except OSError as error:
        _end_without_null(error)
    try:
        status = dispatch(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Only what writes to stdout gets here. A reader that has gone is no reason to complain.
        from . import errors

        status = errors.FAULT
        if not isinstance(error, BrokenPipeError):
            os.write(2, f"cronlock: cannot write to standard output: {error.strerror}\n".encode())
    # Nothing is left to be cleaned up, and tearing the interpreter down takes longer than a renewal.
    os._exit(status)


def _end_without_null(error: OSError) -> None:
    """Say why nothing can be done, if there is a standard error to say it on, and end."""
    from . import errors

    try:
        os.write(2, f"cronlock: {errors.cannot_open_null(error)}; nothing was run\n".encode())
    except OSError:
        pass  # It may be what is closed.
    os._exit(errors.FAULT)


def dispatch(arguments: list[str]) -> int:
    """Return the exit status of ``cronlock`` with `arguments`."""
    if arguments == ["--version"]:
        os.write(1, f"cronlock {__version__}\n".encode())
        return 0
    know_packages("config", "engines", "engines.wire", "lease", "process", "run")
    if arguments[:1] == ["run"]:
        # Nothing that start-up makes is garbage; to look for some takes a millisecond. See `cronlock.run.supervisor`.
        gc.disable()
        from .config.arguments import read_run
        from .errors import UsageError
        from .run.command import refuse, run

        try:
            quick = read_run(arguments[1:])
        except UsageError as error:
            return refuse(error)
        if quick is not None:
            return run(*quick)
    try:
        from .cli import main as cli_main
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        from . import errors

        os.write(2, b"cronlock: the Python package click is missing; pip install click\n")
        return errors.FAULT
    return cli_main(arguments)


def reserve_standard_streams() -> None:
    """Fill what is closed of 0, 1 and 2, lest a socket or pipe of ours become the command's stdin.

    The fillers close at exec, so that the command finds closed what was closed. Raises OSError without /dev/null.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number: this one.


if __name__ == "__main__":
    main()
