"""A program that is asked one thing on its stdin and answers on its stdout, and does not outlive the time limit."""

from __future__ import annotations

import select
import signal
import subprocess
import time

from ...system import os


def ask(program: list[str], question: bytes, longest: int, deadline: float) -> bytes | None:
    """Return what `program` answers, `longest` bytes of it or a little more; None if it does not by monotonic time."""
    # A session of its own: what it starts ends with it, and no signal of a terminal reaches it.
    child = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    answer = b""
    try:
        child.stdin.write(question)
        child.stdin.close()
        poll = select.poll()
        poll.register(child.stdout, select.POLLIN)
        while len(answer) < longest:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000 + 1):
                return None
            piece = os.read(child.stdout.fileno(), 65536)
            if not piece:
                break
            answer += piece
        return answer
    except BrokenPipeError:
        return answer
    finally:
        child.stdout.close()
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It ended by itself.
        child.wait()
