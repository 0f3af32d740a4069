"""The messages of wrapper and guard, cut anywhere."""

from __future__ import annotations

import os
from typing import Any

from cronlock.process import protocol
from cronlock.process.protocol import BY_DEADLINE, BY_LOSS, BY_SIGNAL, BY_TIMEOUT, BY_WRAPPER, Message, Pipe, Plan
from cronlock.process.watchdog import Watchdog

from .data import Data

_REASONS = (None, BY_DEADLINE, BY_LOSS, BY_TIMEOUT, BY_WRAPPER, BY_SIGNAL)


def some_reports(data: Data) -> None:
    """However the guard's reports are cut, the wrapper reads them whole and in order."""
    said = data.several(5, lambda: _report(data))
    reader, writer = os.pipe()
    pipe, heard = Pipe(reader), []
    text = b"".join(report.line() for report in said)
    try:
        while text:
            size = 1 + data.below(12)
            os.write(writer, text[:size])
            text = text[size:]
            heard += pipe.read() or []
    finally:
        os.close(writer)
        os.close(reader)
    assert heard == said


def _report(data: Data) -> Message:
    number = data.below(99999)
    return data.pick(
        (
            protocol.Ended(
                data.pick(_REASONS), data.pick((None, 0, 9, 65280)), data.below(2) == 1, data.below(99999) / 7
            ),
            protocol.Forked(number, number + 1),
            protocol.Started(),
            protocol.NotStarted(data.pick((None, 2))),
            protocol.Stopped(20),
        )
    )


def some_commands(data: Data) -> None:
    """However the wrapper's messages are cut, the guard keeps to the last deadline and the first reason to stop."""
    deadlines = data.several(4, lambda: data.below(10**6) / 1000)
    stop = data.pick((None, BY_LOSS))
    dog: Any = object.__new__(Watchdog)
    reader, writer = os.pipe()
    dog._control = Pipe(reader)
    dog._plan = Plan(deadline=1.0, grace=1.0, kill_after=1.0)
    stopped: list[str] = []
    dog._terminate = stopped.append
    told: list[Message] = [protocol.Deadline(moment) for moment in deadlines]
    text = b"".join(message.line() for message in (*told, *([protocol.Stop(stop)] if stop else ())))
    try:
        while text:
            size = 1 + data.below(12)
            os.write(writer, text[:size])
            text = text[size:]
            dog._handle_control()
    finally:
        os.close(writer)
        os.close(reader)
    assert dog._plan.deadline == (deadlines[-1] if deadlines else 1.0)
    assert stopped == ([stop] if stop else [])


TARGETS = (some_reports, some_commands)
