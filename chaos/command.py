"""The command of a torture run, a script that records its start, a heartbeat and its end.

    python -I -S command.py HISTORY RUN NODE TICK SECONDS [STATUS [WAYS]]

TICK `-` is none. WAYS, comma-separated: `deaf` ignores TERM; `child`, `session`, `orphan` each start a
process that beats for as long as it lives (in the group, in a session of its own, double-forked).

It writes its lines by hand: importing json, or signal, would take longer than the rest. See history.py.
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

_BEAT = 0.015


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    path, run, node, tick, seconds, *rest = arguments
    status = int(rest[0]) if rest else 0
    ways = rest[1].split(",") if len(rest) > 1 else []
    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    leader = os.getpid()
    caught: list[int] = []
    if "deaf" in ways:
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    else:
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
            _signal.signal(number, lambda number, _: caught.append(number))
    key, owner = (os.environ.get(name) for name in ("CRONLOCK_KEY", "CRONLOCK_OWNER"))
    fence = os.environ.get("CRONLOCK_FENCE", "null")
    takeover = "true" if os.environ.get("CRONLOCK_TAKEOVER") == "1" else "false"
    who = f'"run":{_text(run)},"pid":{leader}'
    place = f'"key":{_text(key)},"tick":{_text(None if tick == "-" else tick)},"node":{_text(node)}'
    _note(out, "start", f'{who},{place},"owner":{_text(owner)},"fence":{fence},"takeover":{takeover}')
    others = _Others([way for way in ways if way != "deaf"], out, run)
    over = _now() + float(seconds)
    while _now() < over and not caught:
        time.sleep(min(_BEAT, max(0.0, over - _now())))
        _note(out, "beat", who)
    if not caught:
        # All of its processes must end with the run.
        others.dismiss()
    why = f"signal {caught[0]}" if caught else "done"
    status = 128 + caught[0] if caught else status
    _note(out, "end", f'{who},"status":{status},"why":"{why}"')
    return status


class _Others:
    """The processes that the command starts, which outlive its death, but end when dismissed."""

    def __init__(self, ways: list[str], out: int, run: str) -> None:
        self._size = 0
        listener, self._orders = os.pipe()
        self._life, alive = os.pipe()
        try:
            for way in ways:
                if os.fork() == 0:
                    os.close(self._orders)
                    os.close(self._life)
                    _live(way, out, run, listener)
                self._size += 1
        finally:
            os.close(listener)
            os.close(alive)
            if self._size < len(ways):
                # The process limit is reached: the command fails, and leaves nothing.
                self.dismiss()

    def dismiss(self) -> None:
        """End them, and wait for that."""
        os.write(self._orders, b"." * self._size)
        # End of file: nobody holds the other end.
        os.read(self._life, 1)


def _live(way: str, out: int, run: str, listener: int) -> None:
    """Run one of these processes, and exit."""
    if way != "child":
        os.setsid()
    if way == "orphan" and os.fork():
        os._exit(0)
    who = f'"run":{_text(run)},"pid":{os.getpid()}'
    while True:
        _note(out, "beat", who)
        if select.select([listener], [], [], _BEAT)[0]:
            if os.read(listener, 1):
                os._exit(0)
            # The command was killed: cronlock must kill the rest.
            listener = _never()


def _never() -> int:
    """Return a pipe that closes when this process ends."""
    return os.pipe()[0]


def _note(out: int, what: str, fields: str) -> None:
    os.write(out, f'{{"t":{_now():.6f},"what":"{what}",{fields}}}\n'.encode())


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _text(value: str | None) -> str:
    """Return a text without control characters as JSON."""
    return "null" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
