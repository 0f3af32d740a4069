"""The program's entry: a fast path for ``run`` and ``--version``, click for everything else."""

from __future__ import annotations

import gc
import sys

from . import __version__, know_packages
from .system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` builds enums at import; see cronlock.process.signals.


def main() -> None:
    """Run ``cronlock`` with this process's arguments, and exit."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # Ctrl-C before there is anything to clean up: exit without a traceback.
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
        # Standard output is closed, which is the reader's choice, not an error.
        from . import errors

        status = errors.FAULT
        if not isinstance(error, BrokenPipeError):
            os.write(2, f"cronlock: cannot write to standard output: {error.strerror}\n".encode())
    if __file__.endswith(("/site-packages/cronlock/__main__.py", "/dist-packages/cronlock/__main__.py")):
        _fill_bundle()
    # Nothing is left to clean up, and the interpreter's own cleanup takes longer than a renewal.
    os._exit(status)


def _fill_bundle() -> None:
    """Write the bundle that pip left empty, unless the interpreter is to write no byte code.

    The job is done, and whatever goes wrong here must not show in its exit status.
    """
    try:
        from .bundle import PLACE_OF_WHEELS

        directory = __file__.rpartition("/")[0]
        empty = os.stat(f"{directory}/{PLACE_OF_WHEELS}").st_size == 0
        # The bundle of another owner would not be used.
        ours = os.geteuid() in (0, os.stat(directory).st_uid)
        if empty and ours and not sys.dont_write_bytecode:
            from .bundle_writer import fill

            fill(directory)
    except Exception:
        return  # Nobody asked for it. Runs take longer without.


def _end_without_null(error: OSError) -> None:
    """Report a missing /dev/null on standard error, if open, and exit."""
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
        # Start-up makes no garbage, and collecting takes a millisecond. `cronlock.run.supervisor` enables it again.
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
    """Open /dev/null on closed standard streams, lest a socket or pipe of ours become the command's stdin.

    They close at exec, so that the command finds the streams closed. Raises OSError without /dev/null.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number: this one.


if __name__ == "__main__":
    main()
