"""``cronlock run`` that notes each request for its lease: ``python -m chaos.takeovers.traced FILE run ...``.

A line of JSON when a request is sent, and one when it is answered. The program's own code does everything else.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from cronlock import __main__ as program
from cronlock import know_packages

#: How a request ended; of a conflict its own reason.
GRANTED, REFUSED, FAILED = "granted", "refused", "failed"


class Trace:
    """The file of one run's lines."""

    def __init__(self, file: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._count = 0

    def follow(self, owner: type, name: str) -> None:
        """Note each call of the method `name` of `owner`."""
        method: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(method)
        def noted(*arguments: Any, **named: Any) -> Any:
            self._count += 1
            number = self._count
            self._note(number, what=name)
            answer, left = FAILED, 0.0
            try:
                result = method(*arguments, **named)
                answer, left = _answer(result)
            finally:
                self._note(number, answer=answer, left=round(left, 4))
            return result

        setattr(owner, name, noted)

    def _note(self, number: int, **said: object) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        line = {"host": os.uname().nodename, "pid": os.getpid(), "number": number, "at": now, **said}
        os.write(self._file, (json.dumps(line) + "\n").encode())


def _answer(result: Any) -> tuple[str, float]:
    """Return how a request ended, and for how long the key is refused."""
    if isinstance(result, bool):
        return GRANTED if result else REFUSED, 0.0
    why = getattr(result, "why", None)
    return (GRANTED, 0.0) if why is None else (str(why), float(result.remaining))


def main() -> None:
    """Run cronlock with the rest of the arguments."""
    know_packages("config", "engines", "engines.wire", "lease", "process", "run")
    from cronlock.lease.leases import Leases

    trace = Trace(sys.argv.pop(1))
    for name in ("acquire", "renew", "release"):
        trace.follow(Leases, name)
    program.main()


if __name__ == "__main__":
    main()
