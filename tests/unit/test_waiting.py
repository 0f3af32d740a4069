"""How a run waits for its key: when it asks again, how often, for how long; and what it says once it has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease import timing
from cronlock.lease.vocabulary import ENDED, HELD, HOLD, PAUSED, STATE_LOST, Claim, Conflict, Grant, Pause
from cronlock.run.acquisition import Acquisition
from cronlock.run.holding import Access, Holding
from cronlock.testing import make_claim, make_ending

from .holders import FINE, HUNG, LOST_REQUEST, NOT_SENT, Bench, Interrupted
from .holders import _bench as _bench  # the fixture


@pytest.fixture(autouse=True)
def a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses exact: three quarters of what they are on average."""
    monkeypatch.setattr(timing, "jitter", lambda: 0.25)


def script(bench: Bench, *answers: Conflict | Exception) -> None:
    """Let the backend answer so, and then as it does, to a host that remembers nothing."""
    bench.acquisition.access.watermarks = None
    left, acquire = list(answers), bench.way.acquire

    def answer(claim: Claim) -> Grant | Conflict:
        if not left:
            return acquire(claim)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    bench.way.acquire = answer  # type: ignore[method-assign]


def paused(bench: Bench) -> list[float]:
    """Return the pauses that took time."""
    return [seconds for seconds in bench.pauses if seconds]


def test_unanswered_requests_are_repeated_twice(bench: Bench) -> None:
    """After pauses that double."""
    bench.way.acquires = [LOST_REQUEST] * 99
    with pytest.raises(BackendUnavailable):
        bench.acquire()
    assert len(bench.way.owners) == 0
    assert len(bench.way.acquires) == 99 - 3
    assert paused(bench) == pytest.approx([0.075, 0.15])


def test_another_request_needs_time_to_give_up_behind_it(bench: Bench) -> None:
    """Two that hang take so long that no third one is sent."""
    bench.way.acquires = [HUNG] * 99
    with pytest.raises(BackendUnavailable):
        bench.acquire()
    assert len(bench.way.acquires) == 99 - 2


@pytest.mark.parametrize(("took", "asked"), [(7.85, 2), (7.95, 1)])
def test_the_pause_before_another_request_counts(bench: Bench, took: float, asked: int) -> None:
    """Of the ten seconds of two requests giving up has two, and a pause is due before the second one."""
    acquire = bench.way.acquire

    def late(claim: Claim) -> Grant | Conflict:
        claims.append(claim)
        bench.clock.advance(took if len(claims) == 1 else 0.0)
        if len(claims) == 1:
            raise BackendUnavailable("no answer in time")
        return acquire(claim)

    claims: list[Claim] = []
    bench.way.acquire = late  # type: ignore[method-assign]
    if asked == 1:
        with pytest.raises(BackendUnavailable):
            bench.acquire()
    else:
        bench.acquired()
    assert len(claims) == asked


def test_a_wait_without_an_answer_ends_in_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last pause is cut to what is left."""
    bench = Bench(tmp_path, monkeypatch, wait="3.4")
    bench.way.acquires = [LOST_REQUEST] * 99
    with pytest.raises(BackendUnavailable):
        bench.acquire()
    # Each request of the bench takes a second.
    assert paused(bench) == pytest.approx([0.075, 0.15, 0.175])


def test_a_held_key_is_asked_for_more_and_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a tenth of a second to two, half as long again each time; the last pause is cut to what is left."""
    bench = Bench(tmp_path, monkeypatch, wait="20.5")
    script(bench, *[Conflict(HELD, remaining=30.0)] * 99)
    assert isinstance(bench.acquire(), Conflict)
    pauses = [0.75 * min(0.1 * 1.5**number, 2.0) for number in range(19)]
    assert paused(bench) == pytest.approx([*pauses, 20.5 - sum(pauses)])


@pytest.mark.parametrize(
    ("conflict", "pause"),
    [
        (Conflict(HOLD, remaining=40.0), 40.01),
        (Conflict(HOLD, remaining=0.0), 0.01),
        (Conflict(PAUSED, remaining=40.0), 0.075),
        (Conflict(STATE_LOST, remaining=40.0), 40.01),
    ],
)
def test_what_ends_as_announced_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: Conflict, pause: float
) -> None:
    """A hold ends when it is said to; a pause may be resumed at any time."""
    bench = Bench(tmp_path, monkeypatch, wait="600")
    script(bench, conflict)
    bench.acquired()
    assert paused(bench) == pytest.approx([pause])


def test_an_outage_after_an_answer_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pauses do, and so does the time to give up in."""
    bench = Bench(tmp_path, monkeypatch, wait="60")
    outage = BackendUnavailable("unreachable")
    script(bench, outage, Conflict(HOLD, remaining=50.0), outage, outage)
    bench.acquired()
    assert paused(bench) == pytest.approx([0.075, 50.01, 0.075, 0.15])


def test_a_machine_that_stands_still_after_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that counts from a late request covers too little: after three of them the key is given back."""
    bench = Bench(tmp_path, monkeypatch, min_hold="20")
    acquire = bench.way.acquire

    def late(claim: Claim) -> Grant | Conflict:
        answer = acquire(claim)
        bench.clock.advance(9.0)
        return answer

    bench.way.acquire = late  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable, match="stalled repeatedly"):
        bench.acquire()
    assert len(bench.way.owners) == 3
    assert bench.way.abandoned == [bench.acquisition.owner]
    assert bench.owner_of_the_key() is None


def test_credentials_that_are_missing_for_a_moment_leave_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what such a request did, so that a run that is interrupted then gives back."""
    bench = Bench(tmp_path, monkeypatch, wait="600")
    bench.other_holds()
    bench.way.acquires = [FINE, NOT_SENT]

    def interrupt(seconds: float) -> None:
        bench.pause(seconds)
        if not bench.way.acquires:
            raise Interrupted

    with pytest.raises(Interrupted):
        bench.acquisition.acquire(interrupt)
    assert bench.way.abandoned == [bench.acquisition.owner]


@pytest.mark.parametrize("kept", [True, False])
def test_a_claim_says_what_this_host_saw(bench: Bench, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """The next run of the host sends the watermark; without a state directory there is none."""
    bench.acquired().give_back()
    settings = bench.acquisition.access.settings
    if not kept:
        monkeypatch.setattr(settings, "state_dir", None)
    bench.acquisition = Acquisition(Access(settings, bench.clock, bench.log))
    claim = bench.acquired().grant.claim
    assert (claim.watermark is not None) == kept
    assert claim.defers, "a standby begins by leaving what failed here to others"


def test_a_conflict_without_a_fence_shows_no_lost_state(bench: Bench) -> None:
    """Of a key that this run never saw with one."""
    script(bench, Conflict(ENDED, remaining=0.0))
    answer = bench.acquire()
    assert isinstance(answer, Conflict)
    assert answer.why == ENDED


def test_a_fence_that_is_gone_shows_lost_state(bench: Bench) -> None:
    """Even the first one."""
    script(bench, Conflict(HELD, remaining=1.0, fence=1), Conflict(ENDED, remaining=0.0))
    whys = [answer.why for answer in (bench.acquire(), bench.acquire()) if isinstance(answer, Conflict)]
    assert whys == [HELD, STATE_LOST]


@pytest.mark.parametrize("fence", [7, None])
def test_the_lease_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, fence: int | None) -> None:
    """With its fence, if the backend gives one."""
    acquire = bench.way.acquire

    def granted(claim: Claim) -> Grant | Conflict:
        answer = acquire(claim)
        assert isinstance(answer, Grant)
        return answer.but(fence=fence)

    monkeypatch.setattr(bench.way, "acquire", granted)
    bench.acquired()
    said = f"acquired as {bench.acquisition.owner}{', fence 7' if fence else ''}, for 30s"
    assert bench.log.of("info") == [said]


@pytest.mark.parametrize(
    ("outcome", "said"), [({"outcome": "exited", "status": 3}, "ended with status 3"), (None, "died")]
)
def test_a_takeover_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, int], said: str) -> None:
    """With the status of the run whose tick it does again."""
    monkeypatch.setattr(bench.acquisition.access.settings, "standby_on", "any")
    grant = bench.other_holds()
    conflict = bench.acquire()
    assert isinstance(conflict, Conflict)
    assert conflict.run is not None
    bench.acquisition.stand_by_for(conflict.run)
    bench.acquisition.defers = False
    if outcome is None:
        bench.clock.advance(grant.ttl)
    else:
        assert bench.way.another().release(grant, make_ending(3), keep_hold=True)
    bench.acquired()
    assert bench.log.of("warning")[:1] == [f"taking over from a run that {said}"]


@pytest.mark.parametrize(
    ("program", "ttl", "said"),
    [
        ("true", 30.0, []),
        ("false", 30.0, ["the previous run was another program"]),
        ("true", 60.0, ["the previous run had another ttl"]),
    ],
)
def test_another_program_or_ttl_before_is_told(bench: Bench, program: str, ttl: float, said: list[str]) -> None:
    """Machines with different crontabs, or two jobs with one key."""
    other = bench.way.another()
    grant = other.acquire(make_claim("k", program=program, ttl=ttl))
    assert isinstance(grant, Grant)
    assert other.release(grant, make_ending(), keep_hold=False)
    bench.acquired()
    assert [text.partition(":")[0] for text in bench.log.of("warning")] == said


@pytest.mark.parametrize(
    ("commands", "alike"),
    [
        (["/usr/bin/billing --month 1", "billing --month 2"], True),
        (["sh /opt/billing", "sh /opt/shipping"], False),
        (["python3.11 /opt/billing", "python3.11 /opt/shipping"], False),
        (["sh /opt/release-41/billing", "/bin/sh /opt/release-42/billing"], True),
        (["billing x", "shipping x"], False),
    ],
)
def test_programs_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str], alike: bool
) -> None:
    """By their names, or by what a shell is to run; a release's number does not count."""
    names = set()
    for line in commands:
        bench = Bench(tmp_path, monkeypatch)
        monkeypatch.setattr(bench.acquisition.access.settings, "command", line.split())
        names.add(Acquisition(bench.acquisition.access).claim.program)
    assert (len(names) == 1) == alike


def test_a_pause_by_others_is_a_conflict_without_a_wait(bench: Bench) -> None:
    """The run asks once."""
    bench.way.pause("k", Pause("alice", "h"), None)
    answer = bench.acquire()
    assert isinstance(answer, Conflict)
    assert (answer.why, paused(bench)) == (PAUSED, [])
    assert not isinstance(answer, Holding)
