"""What wrapper and guard tell each other: lines, cut anywhere."""

from __future__ import annotations

import os
from typing import Any

from cronlock.process import guard
from cronlock.process.deadlines import BY_DEADLINE, BY_LOSS, BY_SIGNAL, BY_TIMEOUT, BY_WRAPPER, Plan
from cronlock.process.guard import Ended, Guard

from .data import Data

_REASONS = (
    None,
    BY_DEADLINE,
    BY_LOSS,
    BY_TIMEOUT,
    BY_WRAPPER,
    BY_SIGNAL,
)


def some_reports(data: Data) -> None:
    """However the guard's reports are cut, the wrapper reads them whole and in order."""
    lines = data.several(5, lambda: _report(data))
    watcher: Any = object.__new__(Guard)
    watcher.reports, writer = os.pipe()
    watcher._buffer = b""
    heard: list[list[str]] = []
    text = "".join(f"{line}\n" for line in lines).encode()
    try:
        while text:
            size = 1 + data.below(12)
            os.write(writer, text[:size])
            text = text[size:]
            heard += watcher.read_reports()
    finally:
        os.close(writer)
        os.close(watcher.reports)
    assert [" ".join(words) for words in heard] == lines
    for words in heard:
        if words[0] == "ended":
            ended = Ended.from_report(words)
            status = "-" if ended.wait_status is None else ended.wait_status
            assert words == ["ended", ended.why or "-", str(status), str(int(ended.clean))]


def _report(data: Data) -> str:
    kind = data.below(5)
    if kind == 0:
        return f"ended {data.pick(_REASONS) or '-'} {data.pick(('-', '0', '9', '65280'))} {data.below(2)}"
    return data.pick((f"forked {data.below(99999)}", "started", "failed 2", "late", "stopped 20"))


def some_orders(data: Data) -> None:
    """However the wrapper's orders are cut, the guard keeps to the last deadline and the first reason to stop."""
    deadlines = data.several(4, lambda: data.below(10**6) / 1000)
    stop = data.pick((None, BY_LOSS))
    watch: Any = object.__new__(guard._Watch)
    watch._control, writer = os.pipe()
    watch._buffer = b""
    watch._plan = Plan(deadline=1.0, grace=1.0, kill_after=1.0)
    stopped: list[str] = []
    watch._terminate = stopped.append
    text = "".join(f"deadline {moment!r}\n" for moment in deadlines) + (f"stop {stop}\n" if stop else "")
    orders = text.encode()
    try:
        while orders:
            size = 1 + data.below(12)
            os.write(writer, orders[:size])
            orders = orders[size:]
            watch._obey()
    finally:
        os.close(writer)
        os.close(watch._control)
    assert watch._plan.deadline == (deadlines[-1] if deadlines else 1.0)
    assert stopped == ([stop] if stop else [])


TARGETS = (some_reports, some_orders)
