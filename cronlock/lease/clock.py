"""The clock that every deadline is measured on."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """Time for the rules; tests inject a simulated one."""

        def now(self) -> float:
            """Seconds on a clock that never goes back and counts suspension."""

        def wall(self) -> float:
            """Seconds since the epoch, for people and records only."""


_UPTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """CLOCK_BOOTTIME, which goes on while the machine is suspended; elsewhere the monotonic clock."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(_UPTIME)

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def boot_id() -> str:
    """Name this boot of this machine: readings of `now` compare only within one boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        # Not Linux: use the time of boot, to ten seconds. A step of the wall clock then looks like a boot. Safe:
        # earlier notes count as old as this boot, and a quarantine starts over.
        return f"{(time.time() - SystemClock().now()) / 10:.0f}"
