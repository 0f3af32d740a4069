"""Real processes of ``cronlock run`` beside as many simulated ones: the server must see no difference."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labs.installation import ROOT

from .crowd import Crowd
from .target import Target, Watch
from .worker import Tick

#: Seconds within which all losers have left.
_LIMIT = 240


@dataclass(frozen=True)
class Comparison:
    """What the server counted of `losers`, by name."""

    losers: int
    real: dict[str, int]
    simulated: dict[str, int]

    @property
    def equal(self) -> bool:
        """True if the server saw no difference."""
        return self.real == self.simulated


def compare(target: Target, losers: int) -> Comparison:
    """Let one run hold a key while others ask for it, real ones first, and return the server's counts."""
    return Comparison(losers, _real(target, losers), _simulated(target, losers))


def _real(target: Target, losers: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="cronlock-fleet-") as directory:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "CRONLOCK_STATE_DIR": directory,
            "CRONLOCK_CONFIG": os.devnull,
            "CRONLOCK_BACKEND": target.url,
            **target.environ,
        }
        line = [sys.executable, "-m", "cronlock", "run", "--key", "real", "--", "true"]
        # The holder is simulated here, too: a real one opens a connection to be notified, at a moment of its own.
        with _held(target, "real"):
            watch = Watch(target)
            watch.begin()
            pipe = subprocess.PIPE
            others = [subprocess.Popen(line, stdout=pipe, stderr=pipe, env=environ) for _ in range(losers)]
            for other in others:
                said = other.communicate(timeout=_LIMIT)
                if other.returncode != 0 or any(said):
                    raise SystemExit(f"a real run that should skip: status {other.returncode}, {said}")
            return _counts(watch)


def _simulated(target: Target, losers: int) -> dict[str, int]:
    with _held(target, "simulated"), Crowd(environ=target.environ) as crowd:
        crowd.prepare(Tick({"backend": target.url}, ["simulated"], 1, 1, losers, 0.0, False, 2))
        watch = Watch(target)
        watch.begin()
        lost = crowd.fire()
        counts = _counts(watch)
        if len(lost.lost) != losers:
            raise SystemExit(f"of {losers} simulated losers {len(lost.lost)} lost: {dict(lost.failures)}")
        return counts


@contextmanager
def _held(target: Target, key: str) -> Iterator[None]:
    """Have a simulated run hold the key."""
    with Crowd(1, target.environ) as winner:
        winner.prepare(Tick({"backend": target.url}, [key], 1, 0, 1, 0.0, False, 1))
        if len(winner.fire().won) != 1:
            raise SystemExit("no lease for a simulated run")
        yield
        winner.release()


def _counts(watch: Watch) -> dict[str, int]:
    # What the server does about connections that ended, it does afterwards.
    time.sleep(0.3)
    watch.end()
    return watch.counts
