"""An event loop for many runs of cronlock's own code, each in a greenlet."""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

#: The most starts between two polls of the sockets, so that replies do not wait.
_STARTS_AT_ONCE = 1000
_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Loop:
    """Runs greenlets until all have ended; times are of the monotonic clock."""

    def __init__(self) -> None:
        self._main = getcurrent()
        self._epoll = select.epoll()
        #: By descriptor: the waiting greenlet and the number of its wait.
        self._waiting: dict[int, tuple[Any, int]] = {}
        self._timers: list[tuple[float, int, Any, int | None]] = []
        self._number = 0
        self._alive = 0

    def start(self, work: Callable[[], None]) -> None:
        """Start `work`, and return at its first wait."""
        self._alive += 1

        def whole() -> None:
            try:
                work()
            finally:
                self._alive -= 1

        greenlet(whole, self._main).switch()

    def run(self) -> None:
        """Run until all greenlets have ended. Raises their exceptions."""
        while self._alive:
            now = time.monotonic()
            first = self._timers[0][0] if self._timers else now + 60
            for descriptor, _ in self._epoll.poll(max(0.0, first - now)):
                found = self._waiting.pop(descriptor, None)
                if found is not None:
                    found[0].switch(True)
            # Handle timeouts that were due before this poll only afterwards: a reply that is there counts first.
            self._run_due(now)

    def sleep(self, seconds: float) -> None:
        """Sleep while the others run."""
        self.wake(getcurrent(), time.monotonic() + seconds)
        self.stand()

    def stand(self) -> None:
        """Suspend the running greenlet until somebody wakes it."""
        self._main.switch()

    def wake(self, sleeper: Any, when: float) -> None:
        """Wake a suspended greenlet at `when`."""
        self._at(when, sleeper, None)

    def watch(self, descriptor: int) -> None:
        """Watch a socket until it is closed."""
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
