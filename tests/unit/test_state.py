"""Records as bytes: everything comes back, newer fields do no harm, garbage is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.errors import ForeignValue
from cronlock.lease import state as states
from cronlock.lease.state import State, decode, encode, run_from_line, run_to_line
from cronlock.lease.store import STAYS
from cronlock.lease.vocabulary import DIED, EXITED, HISTORY, RELEASED, Pause, Run, Stop

# With what os.fsdecode makes of a program's name that is not UTF-8.
TEXTS = st.one_of(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.binary().map(os.fsdecode))
WHOLE = st.integers(0, 2**63 - 1)
TIMES = st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000)
RUNS = st.builds(
    Run,
    owner=TEXTS.filter(lambda text: text != "" and not text.startswith(":")),
    host=TEXTS.map(states.bounded),
    pid=st.integers(0, 2**22),
    program=TEXTS.map(states.bounded),
    started_at=TIMES,
    ttl=TIMES,
    fence=st.one_of(st.none(), WHOLE),
    ended_at=st.one_of(st.none(), TIMES),
    outcome=st.sampled_from([None, EXITED, DIED, RELEASED, "a later word"]),
    status=st.one_of(st.none(), st.integers(-99, 255)),
    stands_for=st.one_of(st.none(), TEXTS.filter(bool)),
    took_over=st.one_of(st.none(), WHOLE),
    poll=st.one_of(st.none(), TIMES),
)
PAUSES = st.builds(
    Pause,
    user=TEXTS.map(states.bounded),
    host=TEXTS.map(states.bounded),
    reason=TEXTS.map(lambda text: states.bounded(text, states.LONGEST_REASON)),
    at=TIMES,
    until=st.one_of(st.none(), TIMES),
)
STOPS = st.builds(
    Stop,
    owner=TEXTS.filter(bool),
    tick=TEXTS.filter(bool),
    user=TEXTS.map(states.bounded),
    host=TEXTS.map(states.bounded),
    at=TIMES,
)
#: However busy the machine is.
SIMPLE = Run(owner="h:1:a", host="h", pid=1, program="billing", started_at=12.5, ttl=300.0, fence=7)


@given(RUNS)
def test_a_run_comes_back(run: Run) -> None:
    """As one line of printable ASCII between tabs."""
    line = run_to_line(run)
    assert line.isascii()
    assert line.replace("\t", "").isprintable()
    assert run_from_line(line) == run


@given(
    st.builds(State, fence=WHOLE, run=st.none() | RUNS, paused=st.none() | PAUSES, stop=st.none() | STOPS),
    st.lists(RUNS, max_size=HISTORY + 3),
)
def test_a_state_comes_back(state: State, past: list[Run]) -> None:
    """With its history and its last success, and as other bytes each time."""
    for run in past:
        state = state.with_past(run)
    assert decode(encode(state)) == state
    assert (STAYS in encode(state)) == (state.paused is not None)
    assert encode(state) != encode(state)
    assert state.history() == past[::-1][:HISTORY]
    assert state.last_success() == next((run for run in past[::-1] if run.succeeded), None)


def test_nothing_is_a_state_in_which_nothing_happened() -> None:
    """No bytes, no runs, no fence."""
    assert decode(None) == State()
    assert (State().latest, State().history(), State().last_success()) == (None, [], None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cronlock=1\nfence=7\nowner=h:1:a\n", "older, unreleased layout"),
        (b"cronlock=1", "older, unreleased layout"),
        (b'{"password": "hunter2"}', "^not a record of cronlock$"),  # What others keep there is not shown.
        (b"", "not a record"),
        (b"cronlock=2\tx\n", "not a record"),  # No fence.
        (b"cronlock=2\tx\nfence\t-1\n", "not a record"),
        (b"cronlock=2\tx\nfence\t" + b"9" * 20 + b"\n", "not a record"),
        (b"cronlock=2\tx\nfence\t7", "not a record"),  # Cut short.
        (b"cronlock=2\tx\nfence\t7\nrun\t\n", "not a record"),
        *(
            (b"cronlock=2\tx\nfence\t7\nrun\th:1:a\th\t1\tp\t%b\t1\t1\n" % time, "not a record")
            for time in (b"nan", b"inf", b"1e15", b"-1e15")
        ),
        (b"cronlock=2\tx\nfence\t7\npast\tnonsense\n", "not a record"),
        (b"cronlock=2\tx\nfence\t7\nsuccess\tnonsense\n", "not a record"),
        (b"cronlock=2\tx\nfence\t7\n\xff\n", "not a record"),
        (b"cronlock=2\tx\nfence\t7\n" + b"later\n" * 20000, "not a record"),
        (b"cronlock=20\tx\nfence\t7\n", "not a record"),
    ],
)
def test_what_is_no_record_is_named(data: bytes, said: str) -> None:
    """In one line that has no more of it than a person needs."""
    with pytest.raises(ForeignValue, match=said) as caught:
        decode(data)
    assert len(str(caught.value)) < 220


def test_an_unreadable_run_of_long_ago_is_passed_over() -> None:
    """Only the newest one has to be readable."""
    line = run_to_line(SIMPLE)
    state = decode(f"cronlock=2\tx\nfence\t7\npast\t{line}\npast\tnonsense\npast\t{line}\n".encode())
    assert state.history() == [SIMPLE, SIMPLE]


def test_numbers_of_others_are_bounded() -> None:
    """Times are kept to the millisecond, and of a status no more is read than a status has."""
    words = run_to_line(SIMPLE.but(ended_at=SIMPLE.started_at + 1, outcome=EXITED, status=5)).split("\t")
    assert (words[7], words[9]) == ("1", "5")
    words[7], words[9] = "1.23456", "12345678"
    run = run_from_line("\t".join(words))
    assert run.ended_at == round(SIMPLE.started_at + 1.235, 3)
    assert run.status == 123456
    made = decode(b"cronlock=2\tx\nfence\t7\nmade\t1.23456\n").made_at
    assert made == 1.235


def test_owners_repeat_nothing() -> None:
    """An owner that begins with host and pid is kept without them; any other is kept as it is."""
    assert run_to_line(SIMPLE).startswith(":a\th\t1\t")
    other = SIMPLE.but(owner="h:2:a")
    assert run_to_line(other).startswith("h:2:a\th\t1\t")
    assert [run_from_line(run_to_line(run)) for run in (SIMPLE, other)] == [SIMPLE, other]


def test_the_last_success_is_written_once() -> None:
    """Among the past runs if it is one of them, else in a line of its own; a key without one has none."""

    def lines(state: State, name: str) -> int:
        return encode(state).decode().count(f"\n{name}\t")

    failed, succeeded = (SIMPLE.but(ended_at=2.0, outcome=EXITED, status=status) for status in (1, 0))
    assert lines(State(fence=1).with_past(failed), "success") == 0
    state = State(fence=1).with_past(succeeded)
    assert (lines(state, "past"), lines(state, "success")) == (1, 0)
    for _ in range(HISTORY):
        state = state.with_past(failed)
    assert (lines(state, "past"), lines(state, "success")) == (HISTORY, 1)


def test_names_are_bounded() -> None:
    """At a character's end, and what is no text is text then."""
    assert states.bounded("backup.sh") == "backup.sh"
    assert states.bounded("é" * 80) == "é" * 50
    assert states.bounded("x" + "é" * 80) == "x" + "é" * 49
    assert states.bounded("job-\udcff").isascii()


def test_two_dozen_runs_are_small() -> None:
    """A full history is some 2 KB, and far less than the bound with the longest names."""
    state = State(fence=10**15, run=SIMPLE)
    run = Run("web1.example.org:40001:0123456789abcdef", "web1.example.org", 40001, "backup", 1.7e9, 300.0, 10**15)
    for _ in range(HISTORY + 1):
        state = state.with_past(run.but(ended_at=1.7e9, outcome=EXITED, status=0))
    assert len(encode(state)) < 2600
    for _ in range(HISTORY):
        state = state.with_past(run.but(host="\x00" * 100, program="\x00" * 100, owner="x" * 150, stands_for="y" * 150))
    assert len(encode(state)) < states.LONGEST_TEXT / 2


def test_a_percent_sign_is_no_escape() -> None:
    """Names that look escaped come back as they are."""
    run = Run(owner="h:1:a", host="100%41", pid=1, program="%", started_at=1.0, ttl=60.0, fence=7)
    assert run_from_line(run_to_line(run)) == run
