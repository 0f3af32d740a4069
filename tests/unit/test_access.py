"""A run's access to its backend, and the details of its lease: limits, pauses, warnings, variables, notifications."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cronlock.config import settings
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.lease import timing
from cronlock.lease.vocabulary import EXITED, HOLD, Conflict, Grant
from cronlock.run.holding import Access, Holding
from cronlock.testing import make_claim

from .holders import LOST_REQUEST, TTL, Bench
from .holders import _bench as _bench  # the fixture


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses exact."""
    monkeypatch.setattr(timing, "jitter", lambda: 0.5)


@pytest.mark.parametrize(
    ("grant", "variables"),
    [
        ({}, {"CRONLOCK_FENCE": "7", "CRONLOCK_ATTEMPT": "1"}),
        ({"fence": None}, {}),
        (
            {"standby_for": "x", "took_over": 5, "attempt": 2, "previous_status": 0},
            {
                "CRONLOCK_FENCE": "7",
                "CRONLOCK_ATTEMPT": "2",
                "CRONLOCK_PREVIOUS_STATUS": "0",
                "CRONLOCK_TAKEOVER": "1",
                "CRONLOCK_TAKEOVER_FENCE": "5",
            },
        ),
        ({"standby_for": "x"}, {"CRONLOCK_FENCE": "7", "CRONLOCK_ATTEMPT": "1", "CRONLOCK_TAKEOVER": "1"}),
    ],
)
def test_variables(bench: Bench, grant: dict[str, object], variables: dict[str, str]) -> None:
    """The command learns what the grant knows, and nothing else."""
    claim = make_claim("k", standby_for=grant.pop("standby_for", None))  # type: ignore[arg-type]
    given = Grant(claim, fence=7, ttl=TTL).but(**grant)
    assert Holding(bench.acquisition.access, given, 0.0).variables() == variables


@pytest.mark.parametrize(("local", "state", "kept"), [(False, True, True), (True, True, False), (False, False, False)])
def test_a_watermark_is_kept_of_servers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, state: bool, kept: bool
) -> None:
    """A backend of one machine loses nothing that this machine does not lose."""
    bench = Bench(tmp_path, monkeypatch)
    bench.way.traits = bench.way.traits.but(local=local)
    wanted = bench.acquisition.access.settings
    if not state:
        monkeypatch.setattr(wanted, "state_dir", None)
    assert (Access(wanted, bench.clock, bench.log).watermarks is not None) == kept


@pytest.mark.parametrize("configured", [True, False])
def test_a_backend_by_default_is_mentioned(bench: Bench, tmp_path: Path, configured: bool) -> None:
    """It guards this machine only, which may be a mistake."""
    options = {"key": "k", "config": f"{tmp_path}/conf", **({"backend": "memory://here"} if configured else {})}
    Access(settings.load(options, ["true"], {}), bench.clock, bench.log)
    said = [text.partition(":")[0] for text in bench.log.of("notice")]
    assert said == ["no backend is configured"] * (1 - configured)


@pytest.mark.parametrize(("descriptor", "closed"), [(5, 0), (None, 1)])
def test_a_standby_that_polls_keeps_no_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, descriptor: int | None, closed: int
) -> None:
    """A thousand of them would keep a thousand."""
    calls: list[None] = []
    monkeypatch.setattr(bench.way, "watch", lambda _: descriptor)
    monkeypatch.setattr(bench.way, "close", lambda: calls.append(None))
    assert bench.acquisition.access.watch_key() == descriptor
    assert len(calls) == closed


@pytest.mark.parametrize("problem", [None, "disk full"])
def test_warnings_are_printed_once_and_in_order(bench: Bench, monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    """Those of the backend, and why a watermark cannot be kept."""
    access = bench.acquisition.access
    monkeypatch.setattr(access, "watermarks", SimpleNamespace(problem=problem, remember=lambda *_: None))
    bench.way.notices += ["one", "two"]
    access.note(Conflict(HOLD, remaining=1.0), 1.0)
    assert bench.log.of("warning") == ["one", "two"]
    assert bench.way.notices == []
    assert ["disk full" in text for text in bench.log.of("info")] == [True] * (problem is not None)


def test_a_renewal_waits_as_long_as_an_answer_is_of_use(bench: Bench) -> None:
    """The guard stops the command in time for its grace and KILL; a later answer comes too late."""
    holding = bench.acquired()
    bench.clock.time = holding.deadline - 0.1 - 10.0 - 3.0
    assert holding.renew()
    assert bench.way.limit == pytest.approx(3.0)


def test_pauses_of_failed_renewals_double_until_one_succeeds(bench: Bench) -> None:
    """Each series begins anew."""
    holding = bench.acquired()
    pauses = []
    for fates in ([LOST_REQUEST], [LOST_REQUEST], [], [LOST_REQUEST]):
        bench.way.renewals = fates
        if not holding.renew():
            pauses.append((holding.next_renewal or 0.0) - bench.clock.now())
    assert pauses == pytest.approx([0.1, 0.2, 0.1])


def test_a_foreign_record_ends_the_lease(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can renew it, so the command is stopped, and the reason is that error."""
    holding = bench.acquired()

    def refuse(_: Grant) -> bool:
        raise ForeignValue("not cronlock's")

    monkeypatch.setattr(bench.way, "renew", refuse)
    assert not holding.renew()
    assert (holding.lost, holding.next_renewal, holding.reason()) == (True, None, "not cronlock's")


@pytest.mark.parametrize(("answer", "expected"), [(True, True), (False, False), (BackendUnavailable("x"), False)])
def test_looking_for_a_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: object, expected: bool) -> None:
    """A look without an answer shows nothing, and takes no time from a renewal that is due."""
    holding = bench.acquired()

    def look(_: Grant) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(bench.way, "stop_requested", look)
    assert holding.stop_requested() is expected
    holding.next_renewal = None
    assert holding.stop_requested() is expected
    assert bench.way.limit == pytest.approx(0.1)


class _Notifications:
    """A listener that a test scripts: what `listen` and `heard` return or raise."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def listen(self, grant: Grant) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    heard = listen


@pytest.mark.parametrize(
    ("answer", "descriptor", "renews"),
    [((5, False), 5, False), ((5, True), 5, True), (BackendUnavailable("x"), None, False), (None, None, False)],
)
def test_listening(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: object, descriptor: int | None, renews: bool
) -> None:
    """What others wrote before it began is found by a renewal; without notifications, the next one finds it."""
    holding = bench.acquired()
    due = holding.next_renewal
    opened: list[str] = []

    def listener(key: str) -> _Notifications | None:
        opened.append(key)
        return None if answer is None else _Notifications(answer, answer)

    monkeypatch.setattr(bench.way, "listener", listener)
    assert holding.listen() == descriptor
    assert (holding.next_renewal != due) == renews
    assert holding.listen() == descriptor
    assert opened == ["k"] * (2 if answer is None else 1), "one connection is enough"


@pytest.mark.parametrize(
    ("answer", "more", "renews"), [(True, True, True), (False, True, False), (BackendUnavailable("x"), False, False)]
)
def test_hearing(bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: object, more: bool, renews: bool) -> None:
    """A notification makes it renew, not more often than each second."""
    holding = bench.acquired()
    due, asked_at = holding.next_renewal, holding.deadline - TTL + 0.1 + TTL * 0.001
    assert holding.hear() is True, "nothing can be heard before it listens"
    monkeypatch.setattr(bench.way, "listener", lambda _: _Notifications((5, False), answer))
    assert holding.listen() == 5
    bench.clock.time = asked_at + 0.2
    assert holding.hear() is more
    assert holding.next_renewal == (pytest.approx(asked_at + 1.0) if renews else due)


def test_the_release_keeps_the_hold_and_is_retried_with_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses double; the last request comes when the time is over."""
    bench = Bench(tmp_path, monkeypatch, min_hold="20m")
    holding = bench.acquired()
    bench.pauses.clear()
    bench.way.releases = [LOST_REQUEST] * 3
    bench.release(holding)
    assert bench.pauses == pytest.approx([0.1, 0.2, 0.4])
    answer = bench.way.another().acquire(make_claim("k"))
    assert isinstance(answer, Conflict)
    assert answer.why == HOLD


def test_a_release_is_asked_for_as_long_as_its_time_lasts(bench: Bench) -> None:
    """Also within the last second of it."""
    holding = bench.acquired()
    bench.pauses.clear()
    bench.way.down_until = bench.clock.now() + 9.9
    bench.release(holding)
    assert bench.owner_of_the_key() is None
    assert sum(bench.pauses) == pytest.approx(10.0, abs=0.6)


def test_giving_back_tells_whether_it_was_done(bench: Bench) -> None:
    """A key that stays held is worth a warning."""
    assert bench.acquired().give_back() is True
    assert bench.log.of("warning") == []
    holding = bench.acquired()
    bench.way.abandons = [LOST_REQUEST] * 2
    assert holding.give_back() is False
    assert len(bench.log.of("warning")) == 1


def test_a_release_that_was_said_at_the_end(bench: Bench) -> None:
    """One request is enough, and nothing is said."""
    holding = bench.acquired()
    holding.release(EXITED, 0, bench.clock.now(), bench.pause)
    assert (bench.way.asked_to_release, bench.log.of("warning")) == (1, [])
