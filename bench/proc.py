"""What /proc tells of the processes of one run while it lasts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], object], what: str, limit: float = 60) -> None:
    """Wait until `condition` holds; SystemExit after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"within {limit:g} s not: {what}")
        time.sleep(0.001)


def family(wrapper: int) -> list[int]:
    """Return wrapper, backup guard (where there is one), guard and command, once all of them run and wait."""
    found: list[int] = []

    def complete() -> bool:
        found[:] = [wrapper, *children(wrapper)[:1]]
        while _is_guards(found[-1]) and children(found[-1]):
            found.append(children(found[-1])[0])
        return len(found) > 2 and not _is_guards(found[-1]) and all(map(is_asleep, found))

    wait_until(complete, "the command started under its guard")
    return found


def is_asleep(pid: int) -> bool:
    """Return True if all threads of the process wait for something."""
    return all(_state(stat) == "S" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def cpu(pid: int) -> float:
    """Return CPU seconds of all threads, to the nanosecond where they sleep."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def tree_cpu(pid: int) -> float:
    """Return CPU seconds of a process, its children, and those of them that have ended, by the clock's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return ended + cpu(pid) + sum(map(_cpu_if_alive, children(pid)))


def _cpu_if_alive(pid: int) -> float:
    try:
        return cpu(pid)
    except OSError:
        return 0.0  # It ended meanwhile.


def pss(pid: int) -> float:
    """Return the proportional set size in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit("the kernel does not tell Pss")


def switches(pid: int) -> int:
    """Return how often all threads were put on a processor, by context switches."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.endswith("ctxt_switches"):
                total += int(value)
    return total


def io(pid: int) -> dict[str, int]:
    """Return the counters of read(2) and write(2)."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}


def _is_guards(pid: int) -> bool:
    # Until exec the command's process is the guard's image.
    return Path(f"/proc/{pid}/comm").read_text().startswith("cronlock")


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]
