"""One event loop for many runs of cronlock's own code: each in a greenlet, which waits without a thread."""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

#: How many starts may go between two looks at the sockets, so that answers do not wait for them.
_STARTS_AT_ONCE = 1000
_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Loop:
    """Runs greenlets until all have ended; times are of the monotonic clock."""

    def __init__(self) -> None:
        self._main = getcurrent()
        self._epoll = select.epoll()
        #: Who waits for the socket of that number, and since which wait.
        self._waiting: dict[int, tuple[Any, int]] = {}
        self._timers: list[tuple[float, int, Any, int | None]] = []
        self._number = 0
        self._alive = 0

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`, and return when it first waits."""
        self._alive += 1

        def whole() -> None:
            try:
                work()
            finally:
                self._alive -= 1

        greenlet(whole, self._main).switch()

    def run(self) -> None:
        """Run until all that was started has ended; raise what one of them raises."""
        while self._alive:
            now = time.monotonic()
            first = self._timers[0][0] if self._timers else now + 60
            for descriptor, _ in self._epoll.poll(max(0.0, first - now)):
                found = self._waiting.pop(descriptor, None)
                if found is not None:
                    found[0].switch(True)
            # What was due before that look: an answer that is there counts before the end of its time.
            self._run_due(now)

    def sleep(self, seconds: float) -> None:
        """Let the others run for so long."""
        self.wake(getcurrent(), time.monotonic() + seconds)
        self.stand()

    def stand(self) -> None:
        """Let the others run until somebody wakes the running greenlet."""
        self._main.switch()

    def wake(self, sleeper: Any, when: float) -> None:
        """Let a greenlet that stands go on at `when`."""
        self._at(when, sleeper, None)

    def watch(self, descriptor: int) -> None:
        """Begin to notice what happens on a socket; closing it is the end of that."""
        self._epoll.register(descriptor, _EDGES)

    def wait(self, descriptor: int, deadline: float | None) -> bool:
        """Wait until something happens on a watched socket; False when the deadline comes before."""
        self._number += 1
        self._waiting[descriptor] = (getcurrent(), self._number)
        if deadline is not None:
            self._at(deadline, descriptor, self._number)
        return bool(self._main.switch())

    def _at(self, when: float, what: Any, number: int | None) -> None:
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, what, number))

    def _run_due(self, now: float) -> None:
        """Run what is due, up to a number of them."""
        for _ in range(_STARTS_AT_ONCE):
            if not self._timers or self._timers[0][0] > now:
                return
            _, _, what, number = heapq.heappop(self._timers)
            if number is None:
                what.switch()
            elif self._waiting.get(what, (None, 0))[1] == number:
                self._waiting.pop(what)[0].switch(False)
