"""A server's clock, as far as its answers bound it: by the clock of a machine that a test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.lease.server_clock import RATE, ServerClock
from cronlock.testing.simulated import SimulatedClock


def known(**options: float) -> tuple[SimulatedClock, ServerClock, list[str]]:
    """Return a machine's clock at 1000, a server's that nothing is known of, and its notices."""
    machine, notices = SimulatedClock(now=1000.0, wall=1.7e9), list[str]()
    return machine, ServerClock("box", machine, notices, **options), notices


def test_nothing_is_known_at_first() -> None:
    """Then this machine's wall clock is the likeliest."""
    machine, clock, _ = known()
    assert not clock.known
    assert clock.now() == machine.wall()


def test_an_answer_gives_bounds() -> None:
    """A time that the server reports was true between the request and the reply."""
    machine, clock, _ = known()
    clock.observe(999.0, 1000.0, 5000.0)
    assert clock.known
    assert (clock.earliest(), clock.latest()) == (5000.0, 5001.0)
    machine.advance(10.0)
    assert clock.earliest() == pytest.approx(5010.0 - 10 * RATE)
    assert clock.latest() == pytest.approx(5011.0 + 10 * RATE)
    clock.forget()
    assert not clock.known


def test_granularity_widens_them() -> None:
    """A clock of whole seconds may be nearly one further."""
    _, clock, _ = known(granularity=1.0)
    clock.observe(1000.0, 1000.0, 5000.0)
    assert (clock.earliest(), clock.latest()) == (5000.0, 5001.0)


def test_more_answers_narrow_them() -> None:
    """A quick one after a slow one, and a slow one does not undo it."""
    _, clock, notices = known()
    clock.observe(990.0, 1000.0, 5000.0)
    assert (clock.earliest(), clock.latest()) == (5000.0, 5010.0)
    clock.observe(999.9, 1000.0, 5004.0)
    clock.observe(990.0, 1000.0, 5000.0)
    assert (clock.earliest(), clock.latest()) == pytest.approx((5004.0, 5004.1))
    assert notices == []


@pytest.mark.parametrize("jump", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_clock_that_was_set_is_noticed(jump: float) -> None:
    """Bounds that contradict each other; what is seen last counts from then on."""
    machine, clock, notices = known()
    clock.observe(1000.0, 1000.0, 5000.0)
    machine.advance(60.0)
    clock.observe(1060.0, 1060.0, 5060.0 + jump)
    assert len(notices) == 1
    assert notices[0].startswith("box: the server's clock jumped by ")
    assert clock.earliest() == clock.latest() == 5060.0 + jump


def test_slewing_is_no_jump() -> None:
    """A clock that is off by less than a second, or runs within the rate, says nothing."""
    machine, clock, notices = known()
    clock.observe(1000.0, 1000.0, 5000.0)
    for step in range(1, 100):
        machine.advance(60.0)
        clock.observe(machine.now(), machine.now(), 5000.0 + step * 60.0 * (1 + 0.9 * RATE))
    clock.observe(machine.now(), machine.now(), 5000.0 + 99 * 60.0 * (1 + 0.9 * RATE) + 0.9)
    assert notices == []


def test_the_likeliest_time_is_the_walls_if_that_can_be() -> None:
    """It is taken into the bounds where it is outside of them."""
    machine, clock, _ = known()
    clock.observe(990.0, 1000.0, machine.wall() - 5.0)
    assert clock.now() == machine.wall()
    clock.forget()
    clock.observe(1000.0, 1000.0, machine.wall() - 100.0)
    assert clock.now() == machine.wall() - 100.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.floats(0, 1), st.floats(-0.9, 0.9)), max_size=10))
def test_true_time_is_within(steps: list[tuple[float, float, float, float]]) -> None:
    """Whatever the pauses, delays and the drift within the promised rate, the bounds hold the server's time."""
    machine, clock, notices = known()
    true = 5000.0
    for pause, delay, share, rate in steps:
        machine.advance(pause)
        true += pause * (1 + rate * RATE)
        sent = machine.now()
        shown = true + delay * share
        machine.advance(delay)
        true += delay
        clock.observe(sent, machine.now(), shown)
        assert clock.earliest() - 1e-6 <= true <= clock.latest() + 1e-6
    assert notices == []
