"""The ``run`` command, from options to exit status."""

from __future__ import annotations

from ..errors import FAULT, BackendError, CronlockError
from ..system import os
from .log import Log


def run(given: dict[str, str | bool], command: list[str]) -> int:
    """Run ``cronlock run`` with the options `given`, report errors, and return the exit status."""
    log = Log()
    try:
        from ..config import settings as settings_module

        settings = settings_module.load(given, command, os.environ)
        log = Log(
            key=settings.key,
            verbose=settings.verbose,
            quiet=settings.quiet,
            to=settings.log,
            form=settings.log_format,
        )
        from ..lease.clock import SystemClock
        from .job import Job

        return Job(settings, SystemClock(), log).run()
    except CronlockError as error:
        return refuse(error, log)
    except Exception as error:
        return _fault(error, log)


def refuse(error: CronlockError, log: Log | None = None) -> int:
    """Report why nothing was run, and return the exit status."""
    unavailable = isinstance(error, BackendError)
    (log or Log()).error(f"{error}; nothing was run" if unavailable else str(error))
    return error.status


def _fault(error: Exception, log: Log) -> int:
    """Report a fault of cronlock in one line that names its source line."""
    where, traceback = "", error.__traceback__
    while traceback is not None:
        where = f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    log.error(f"internal error, please report it: {type(error).__name__} at {where}: {error}")
    return FAULT
