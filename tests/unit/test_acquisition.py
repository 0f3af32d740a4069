"""How a run acquires its lease: doubts after a lost answer, waiting, an answer that comes late."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.vocabulary import HELD, PAUSED, RELEASED, Claim, Conflict, Grant, Pause
from cronlock.process import protocol
from cronlock.run.holding import Holding
from cronlock.testing import record_of

from .holders import (
    FINE,
    GIVEN_BACK,
    HUNG,
    LATE,
    LOST_REPLY,
    LOST_REQUEST,
    NOT_SENT,
    TTL,
    Bench,
    Interrupted,
    deadline_of,
    waiting,
)
from .holders import _bench as _bench  # the fixture


def test_asking_again_after_a_lost_reply_finds_the_lease_ours(bench: Bench) -> None:
    """One owner, and the deadline counts from the first request, which may be the one that was granted."""
    bench.way.acquires = [LOST_REPLY, LOST_REPLY]
    began = bench.clock.now()
    holding = bench.acquired()
    assert holding.deadline == deadline_of(began)
    assert set(bench.way.owners) == {holding.grant.claim.owner} == {bench.acquisition.owner}
    assert len(bench.way.owners) == 3
    assert bench.way.abandoned == []


def test_no_answer_at_all_is_abandoned(bench: Bench) -> None:
    """A lease that may have been granted without a reply is given back, and the caller gets the failure."""
    bench.way.acquires = [LOST_REPLY] * 99
    with pytest.raises(BackendUnavailable, match="no answer"):
        bench.acquire()
    assert bench.way.abandoned == [bench.acquisition.owner]
    assert bench.owner_of_the_key() is None


@pytest.mark.parametrize(("wait", "limit"), [("0", 10.0), ("60", 65.0)])
def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: str, limit: float) -> None:
    """It takes no longer than twice the limit of one request, or than that behind --wait, giving up included."""
    bench = Bench(tmp_path, monkeypatch, wait=wait)
    bench.way.acquires, bench.way.abandons = [HUNG] * 99, [HUNG]
    began = bench.clock.now()
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        bench.acquire()
    assert limit - 1.5 < bench.clock.now() - began <= limit + 0.001
    assert bench.way.abandoned == [bench.acquisition.owner]


def test_given_back_is_asked_for_as_a_new_owner(bench: Bench) -> None:
    """The server refuses the owner that gave back; another one gets the lease, counted from its own request."""
    bench.way.acquires = [GIVEN_BACK]
    holding = bench.acquired()
    assert len(set(bench.way.owners)) == 2
    assert holding.grant.claim.owner == bench.way.owners[1]
    assert holding.deadline > deadline_of(1000.0 + 1.0)


def test_given_back_each_time_is_a_failure_and_no_skip(bench: Bench) -> None:
    """Too few replicas all the time: status 69, never a conflict with ourselves."""
    bench.way.acquires = [GIVEN_BACK] * 99
    with pytest.raises(BackendUnavailable) as caught:
        bench.acquire()
    assert caught.value.status == 69
    assert len(set(bench.way.owners)) == len(bench.way.owners) > 1


@pytest.mark.parametrize("fate", [LOST_REQUEST, LATE])
def test_an_outage_longer_than_the_ttl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str) -> None:
    """Under --wait a lease is granted and valid once the server is back, however long it was down."""
    bench = waiting(tmp_path, monkeypatch)
    bench.way.acquires = [fate] * 60
    holding = bench.acquired()
    assert bench.clock.now() > 1000.0 + TTL
    assert protocol.decide(bench.clock.now(), holding.plan())[0] == protocol.WAIT
    assert bench.owner_of_the_key() == holding.grant.claim.owner == bench.acquisition.owner
    assert len(bench.way.owners) < 70


def other_is_faster(bench: Bench) -> list[Grant]:
    """Let another run take the key while the first request is in flight; return its grant."""
    grants: list[Grant] = []

    def meanwhile() -> None:
        if not grants:
            grants.append(bench.other_holds())

    bench.meanwhile = meanwhile
    return grants


def test_a_duplicate_after_a_conflict_takes_nothing(bench: Bench) -> None:
    """A request that stayed unanswered arrives after the other run is gone, and finds another version."""
    bench.way.acquires = [LATE]
    held = other_is_faster(bench)
    answer = bench.acquire()
    assert isinstance(answer, Conflict)
    assert answer.why == HELD
    assert bench.way.abandoned == [bench.way.owners[0]]
    bench.clock.advance(TTL)
    assert bench.way.late_requests_arrive() == [False]
    assert bench.owner_of_the_key() is None
    assert held[0].claim.owner == "other"


def test_refused_requests_leave_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under --wait the owner of an unanswered request is abandoned, and the lease goes to another of ours."""
    bench = waiting(tmp_path, monkeypatch)
    other_is_faster(bench)
    bench.way.acquires = [LATE]
    holding = bench.acquired()
    assert bench.way.abandoned == [bench.way.owners[0]]
    assert holding.grant.claim.owner != bench.way.owners[0]
    assert bench.way.late_requests_arrive() == [False]
    assert bench.owner_of_the_key() == holding.grant.claim.owner


@pytest.mark.parametrize("fate", [LOST_REPLY, LATE])
def test_interrupted_while_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str) -> None:
    """A signal between two requests: what may be ours, or may become ours yet, is given back."""
    bench = waiting(tmp_path, monkeypatch)
    bench.way.acquires = [fate]

    def interrupt(seconds: float) -> None:
        if seconds > 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        bench.acquisition.acquire(interrupt)
    assert bench.way.abandoned == bench.way.owners
    bench.way.late_requests_arrive()
    assert bench.owner_of_the_key() is None


def test_interrupted_without_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal while another run holds the key leaves nothing to give back."""
    bench = waiting(tmp_path, monkeypatch)
    bench.other_holds()

    def interrupt(seconds: float) -> None:
        if seconds > 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        bench.acquisition.acquire(interrupt)
    assert bench.way.abandoned == []


def test_forced_out_before_it_heard_of_its_grant(bench: Bench) -> None:
    """If a grant whose reply was lost was released by force, the run asks again: never a skip."""
    bench.way.acquires = [LOST_REPLY]
    pauses = 0

    def pause(seconds: float) -> None:
        nonlocal pauses
        if seconds > 0 and pauses == 0:
            pauses += 1
            assert bench.way.force_release("k", bench.acquisition.owner)

    answer = bench.acquisition.acquire(pause)
    assert isinstance(answer, Holding)
    assert bench.owner_of_the_key() == answer.grant.claim.owner == bench.way.owners[-1]
    record = record_of(bench.way, "k")
    assert [run.outcome for run in record.history] == [RELEASED]


def test_what_cannot_be_configured_passes_behind_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait goes on without credentials for a moment; without an answer before, it is a bad configuration."""
    bench = waiting(tmp_path, monkeypatch)
    bench.other_holds()
    bench.way.acquires = [FINE, NOT_SENT, NOT_SENT]
    assert isinstance(bench.acquire(), Holding)
    bench = waiting(tmp_path, monkeypatch)
    bench.way.acquires = [NOT_SENT]
    with pytest.raises(ConfigError, match="no credentials"):
        bench.acquire()


def test_an_answer_that_is_heard_late_is_asked_for_again(bench: Bench) -> None:
    """A machine that was suspended after its request restarts its hold: another's tick does not end before its own."""
    acquire = bench.way.acquire

    def late(claim: Claim) -> Grant | Conflict:
        answer = acquire(claim)
        if len(bench.way.owners) == 1:
            bench.clock.advance(9.0)
        return answer

    bench.way.acquire = late  # type: ignore[method-assign]
    bench.acquired()
    assert bench.way.owners[0] == bench.way.owners[1]
    record = record_of(bench.way, "k")
    assert record.hold_remaining > 9.0


def test_a_lease_of_its_own_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was granted too late, and could not be given back, is no skip: no other run has it."""
    bench = Bench(tmp_path, monkeypatch, min_hold="0", backend_timeout="20")
    acquire = bench.way.acquire

    def late(claim: Claim) -> Grant | Conflict:
        answer = acquire(claim)
        if len(bench.way.owners) == 1:
            bench.clock.advance(TTL - 8.0)
        return answer

    bench.way.acquire = late  # type: ignore[method-assign]
    bench.way.abandons = [LOST_REQUEST] * 2
    with pytest.raises(BackendUnavailable, match="could not be given back"):
        bench.acquire()
    assert len(bench.log.of("warning")) == 1
    # Another user pauses the key, whoever had it before.
    bench.way.pause("k", Pause("alice", "h"), None)
    bench.clock.advance(TTL)
    answer = bench.acquire()
    assert isinstance(answer, Conflict)
    assert answer.why == PAUSED
