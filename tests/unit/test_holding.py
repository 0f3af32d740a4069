"""How a run keeps its lease and ends it: renewals, notifications, the release, giving back."""

from __future__ import annotations

import pytest

from cronlock.errors import ForeignValue
from cronlock.lease.vocabulary import EXITED, LOST, NOT_STARTED
from cronlock.testing import record_of

from .holders import HUNG, LOST_REPLY, LOST_REQUEST, NOT_SENT, TTL, Bench, deadline_of
from .holders import _bench as _bench  # the fixture


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
