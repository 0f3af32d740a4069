"""The oracle against direct definitions, on random histories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chaos import findings
from chaos.history import Attempt, Life, gather
from chaos.made import HOLD, SKIP, TTL
from chaos.occupancy import SLACK, FaultIndex, Occupancy, held_until

_TIMES = st.integers(0, 40).map(float)
_RUNS = st.lists(
    st.tuples(_TIMES, st.integers(0, 15), st.integers(0, 3), st.integers(0, 12), st.sampled_from("pqr"), st.booleans()),
    max_size=8,
)


def _attempts(drawn: list[tuple[float, int, int, int, str, bool]]) -> list[Attempt]:
    """Return runs: (spawn, length, fence, hold, tick, takeover)."""
    made = []
    for number, (at, length, fence, hold, tick, takeover) in enumerate(drawn):
        start, last = at + 1, at + 1 + length
        life = Life(start, 2, "o", fence or None, takeover, last, last)
        run = Attempt(f"r{number}", "a", "k", tick, at, 1, TTL, float(hold), SKIP, ended=last + 1, status=0, life=life)
        made.append(run)
    return sorted(made, key=lambda attempt: attempt.life.start if attempt.life else 0)


def _life(attempt: Attempt) -> Life:
    assert attempt.life is not None
    return attempt.life


@given(_RUNS)
def test_overlaps_by_definition(drawn: list[tuple[float, int, int, int, str, bool]]) -> None:
    """Two runs overlap when some moment belongs to both."""
    attempts = _attempts(drawn)
    found = {tuple(finding.runs): finding.length for finding in findings.overlaps(attempts, FaultIndex(gather([])))}
    expected = {}
    for index, later in enumerate(attempts):
        for earlier in attempts[:index]:
            begin = max(_life(earlier).start, _life(later).start)
            end = min(_life(earlier).last, _life(later).last)
            if begin <= end:
                expected[earlier.run, later.run] = end - begin
    assert found == expected


@given(_RUNS)
def test_fences_by_definition(drawn: list[tuple[float, int, int, int, str, bool]]) -> None:
    """A fence is out of order when any earlier run had as large a one."""
    attempts = _attempts(drawn)
    expected = [
        later.run
        for index, later in enumerate(attempts)
        if any(
            (_life(earlier).fence or 0) >= (_life(later).fence or 99)
            for earlier in attempts[:index]
            if _life(earlier).fence
        )
    ]
    assert [finding.runs[-1] for finding in findings.fences(attempts)] == expected


@given(_RUNS)
def test_holds_by_definition(drawn: list[tuple[float, int, int, int, str, bool]]) -> None:
    """A start within the hold of any earlier run is a double tick or breaks the hold.

    For one that takes over: of an earlier run of the tick that was done.
    """
    attempts = _attempts(drawn)
    for attempt in attempts[::2]:
        _life(attempt).why, _life(attempt).end, _life(attempt).end_status = "done", _life(attempt).last, 0
    expected = set()
    for index, later in enumerate(attempts):
        for earlier in attempts[:index]:
            if _life(later).start - earlier.at >= earlier.hold:
                continue
            kind = findings.DOUBLE if later.tick == earlier.tick else findings.HOLD
            done = _life(earlier).why == "done" and (earlier.ended or 99) <= _life(later).start
            if not _life(later).takeover or (kind == findings.DOUBLE and done):
                expected.add((later.run, kind))
    assert {
        (finding.runs[-1], finding.kind) for finding in findings.early(attempts, FaultIndex(gather([])))
    } == expected


@given(_RUNS, _TIMES)
def test_occupancy_by_definition(drawn: list[tuple[float, int, int, int, str, bool]], at: float) -> None:
    """A key is free when no other attempt's time reaches to the ask."""
    around = FaultIndex(gather([]))
    ask = Attempt("ask", "b", "k", None, at, 1, TTL, HOLD, SKIP, ended=at + 1, status=SKIP)
    attempts = sorted([*_attempts(drawn), ask], key=lambda attempt: attempt.at)
    ends = {
        attempt.run: held_until(attempt, around)
        for attempt in attempts
        if attempt is not ask and attempt.at <= at + 1 and held_until(attempt, around) > attempt.at
    }
    since = Occupancy(attempts, around).free_since(ask)
    if any(end + SLACK >= at for end in ends.values()):
        assert since is None
    else:
        assert since == max(ends.values(), default=float("-inf"))
