"""Cells whose ends are judged by what is known of a service's clock."""

from __future__ import annotations

import random

from cronlock.engines.wire.dated import SLACK, DatedCell
from cronlock.lease.clock import SystemClock
from cronlock.lease.server_clock import ServerClock


class _BootClock(SystemClock):
    """Boot time that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.boot = 100.0

    def now(self) -> float:
        return self.boot

    def wall(self) -> float:
        return 1e9


def test_how_long_to_wait() -> None:
    """Whoever asks again after as long as is told finds it over after three times, and at once when it is."""
    clock = _BootClock()
    holder, other = (ServerClock("AWS", clock, [], 1.0) for _ in range(2))
    holder.observe(clock.boot, clock.boot, 2e9)
    cell = DatedCell().followed_by(b"", 5.0, 30.0, holder.latest())
    other.observe(clock.boot, clock.boot, 2e9)
    for what in ("lease", "hold"):
        told = []
        cell.judge(other)
        while getattr(cell, what) > 0:
            told.append(getattr(cell, what))
            clock.boot += told[-1] - 0.01
            cell.judge(other)
            assert getattr(cell, what) > 0
            # The clocks' rates may differ.
            clock.boot += 0.01 + 0.002 * told[-1]
            cell.judge(other)
        assert len(told) <= 3, "once for the ttl, once for what is left of it, once for the slack"


def test_front_ends_that_differ() -> None:
    """Where no two of AWS's clocks differ by more than the slack, no lease is over before its holder believes so."""
    draw = random.Random(3)
    clock = _BootClock()
    for _ in range(2000):
        holder, other = (ServerClock("AWS", clock, [], 1.0) for _ in range(2))
        apart, truth = {holder: 0.0, other: draw.uniform(-SLACK, SLACK)}, draw.uniform(2e9, 2e9 + 60)

        def ask(times: ServerClock, fronts: dict[ServerClock, float] = apart, epoch: float = truth) -> None:
            sent = clock.boot
            clock.boot += draw.uniform(0.001, 0.5)
            times.observe(sent, clock.boot, float(int(epoch + clock.boot + fronts[times])))
            clock.boot += draw.uniform(0.0, 0.5)

        for _ in range(draw.randrange(1, 6)):
            ask(draw.choice([holder, other]))
        ask(holder)
        lease, hold = draw.uniform(2.0, 5.0), draw.uniform(0.0, 5.0)
        sent, cell = clock.boot, DatedCell().followed_by(b"", lease, hold, holder.latest())
        while clock.boot < sent + 8.0:
            ask(other)
            cell.judge(other)
            assert cell.lease > 0 or clock.boot >= sent + lease
            assert cell.hold > 0 or clock.boot >= sent + hold
