"""How a run deals with its backend: doubts after a lost answer, waiting, renewing, giving back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease import timing
from cronlock.lease.vocabulary import EXITED, HELD, LOST, NOT_STARTED, PAUSED, RELEASED, Claim, Conflict, Grant, Pause
from cronlock.process import protocol
from cronlock.run.holding import Holding
from cronlock.testing import record_of

from .holders import FINE, GIVEN_BACK, HUNG, LATE, LOST_REPLY, LOST_REQUEST, NOT_SENT, TTL, Bench, Interrupted
from .holders import _bench as _bench  # the fixture


def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench with --wait 10m."""
    return Bench(folder, monkeypatch, wait="600")


def deadline_of(sent: float) -> float:
    """Return when a lease that was asked for at `sent` counts as over."""
    return timing.deadline(sent, TTL, 0.0)


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


def test_a_server_that_never_answers_again(bench: Bench) -> None:
    """The end of the lease is not waited for longer than the guard waits, nor said for longer than a second."""
    holding = bench.acquired()
    bench.clock.time = holding.deadline - 11.0
    bench.way.renewals, bench.way.releases = [HUNG], [HUNG]
    assert not holding.renew()
    assert bench.clock.now() < holding.deadline - 9.5
    bench.clock.time = ended_at = holding.deadline
    holding.release(LOST, 75, ended_at, bench.pause)
    assert bench.clock.now() == pytest.approx(ended_at + 1.0)


def test_a_server_that_never_answers_at_the_end(bench: Bench) -> None:
    """Twice the limit of one request counts from the command's end, a renewal that hangs then included."""
    holding = bench.acquired()
    bench.way.renewals, bench.way.releases = [HUNG], [HUNG] * 99
    ended_at = bench.clock.now()
    assert not holding.renew()
    holding.release(EXITED, 0, ended_at, bench.pause)
    assert 9.0 < bench.clock.now() - ended_at <= 10.2
    assert len(bench.log.of("warning")) == 1


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


def test_renewed(bench: Bench) -> None:
    """The deadline counts from before the renewal was sent."""
    holding = bench.acquired()
    bench.clock.advance(5)
    sent = bench.clock.now()
    assert holding.renew()
    assert bench.clock.now() > sent
    assert holding.deadline == deadline_of(sent)
    assert holding.next_renewal is not None
    assert sent < holding.next_renewal < sent + TTL / 2


def test_a_renewal_that_cannot_be_asked(bench: Bench) -> None:
    """The deadline stays, the lease is not lost yet, and the next try is soon."""
    holding = bench.acquired()
    before = holding.deadline
    bench.way.renewals = [LOST_REQUEST, LOST_REPLY]
    for _ in range(2):
        assert not holding.renew()
        assert (holding.deadline, holding.lost) == (before, False)
        assert holding.failure is not None
        assert holding.next_renewal is not None
        assert bench.clock.now() < holding.next_renewal < bench.clock.now() + TTL / 10
    assert holding.renew()
    assert (holding.deadline > before, holding.failure) == (True, None)


def test_a_renewal_that_is_refused(bench: Bench) -> None:
    """Not ours any more is lost at once, and asked no more; the deadline does not move."""
    holding = bench.acquired()
    before = holding.deadline
    bench.way.server.forget("k")
    assert not holding.renew()
    assert (holding.lost, holding.next_renewal, holding.deadline) == (True, None, before)
    assert "no longer held" in holding.reason()


def test_a_read_delays_no_renewal(bench: Bench) -> None:
    """A server that does not answer it is asked no longer than up to the next renewal, of which the lease lives."""
    holding = bench.acquired()
    assert holding.next_renewal is not None
    bench.clock.advance(holding.next_renewal - bench.clock.now() - 2.0)
    assert not holding.stop_requested()
    assert bench.way.limit == pytest.approx(2.0)
    assert holding.renew()
    assert bench.way.limit > 2.0


def test_many_notifications_are_no_flood(bench: Bench) -> None:
    """Whoever sends them: a run renews once in a second for it; the first is heeded at once."""
    holding = bench.acquired()
    bench.clock.advance(3.0)
    holding.renew_at_once()
    assert holding.next_renewal == bench.clock.now()
    before = bench.clock.now()
    assert holding.renew()
    holding.renew_at_once()
    assert holding.next_renewal == pytest.approx(before + 1.0)


def test_a_renewal_that_cannot_be_sent(bench: Bench) -> None:
    """An error of the configuration counts as unavailable once a run has its lease."""
    holding = bench.acquired()
    bench.way.renewals = [NOT_SENT]
    assert not holding.renew()
    assert not holding.lost
    assert holding.next_renewal is not None
    assert holding.renew()


@pytest.mark.parametrize("fate", [LOST_REPLY, LOST_REQUEST, NOT_SENT])
def test_a_release_that_fails_for_a_moment_is_silent(bench: Bench, fate: str) -> None:
    """Another request does it."""
    holding = bench.acquired()
    bench.way.releases = [fate] * 3
    bench.release(holding)
    assert bench.log.of("warning") == []
    assert bench.owner_of_the_key() is None


def test_a_server_that_is_away_as_the_run_ends(bench: Bench) -> None:
    """Its end is recorded once the server is back, by few requests, so that it does not count as dead."""
    holding = bench.acquired()
    bench.way.down_until = bench.clock.now() + 8.0
    bench.release(holding, 3)
    record = record_of(bench.way, "k")
    assert record.last is not None
    assert (record.last.outcome, record.last.status) == (EXITED, 3)
    assert bench.log.of("warning") == []
    assert bench.way.asked_to_release < 20


def test_a_failed_release_is_reported_once(bench: Bench) -> None:
    """With how long the key stays held at the most, after twice the limit of one request."""
    holding, began = bench.acquired(), bench.clock.now()
    bench.way.down_until = began + 1000.0
    bench.release(holding)
    (warning,) = bench.log.of("warning")
    assert "held for up to 30s" in warning
    assert began + 5.0 < bench.clock.now() <= began + 10.0


def test_a_release_that_cannot_be_is_not_asked_for_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the end of a lost lease, if the server never answered."""
    holding = bench.acquired()
    bench.way.down_until = bench.clock.now() + 1000.0
    holding.release(LOST, 75, bench.clock.now(), bench.pause)
    assert bench.way.asked_to_release == 1
    asked = []

    def refuse(*_words: object, **_options: object) -> bool:
        asked.append(1)
        raise ForeignValue("not a record of cronlock")

    monkeypatch.setattr(bench.way, "release", refuse)
    bench.release(holding)
    assert len(asked) == 1
    (warning,) = bench.log.of("warning")
    assert "not a record of cronlock" in warning


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


def test_what_is_given_back_leaves_nothing(bench: Bench) -> None:
    """Nothing was begun: another machine may run at once, and no record tells of it."""
    bench.acquired().give_back()
    assert bench.way.read("k") is None
    assert bench.other_holds()


def test_what_could_not_be_started_is_recorded(bench: Bench) -> None:
    """A command that could not be executed leaves no hold, but a record."""
    bench.acquired().not_started()
    record = record_of(bench.way, "k")
    assert record.last is not None
    assert record.last.outcome == NOT_STARTED
    assert bench.other_holds()


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
