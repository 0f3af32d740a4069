"""The oracle is tested with histories that hold each fault, and with clean ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import check, findings
from chaos.history import ALL, Attempt, Life, Writer, gather, now, read
from chaos.made import HOLD, SKIP, TTL, Made
from chaos.occupancy import SLACK, FaultIndex, Occupancy, held_until


@pytest.fixture
def made() -> Iterator[Made]:
    """Give a history with nothing in it, and see that the verdict can be told."""
    history = Made()
    yield history
    verdict = history.verdict()
    told = json.loads(json.dumps(check.summary(verdict)))
    assert told["good"] == verdict.is_good()
    assert len(told["violations"]) == len(verdict.violations())
    for finding in verdict.violations():
        assert finding.text in check.show(verdict)


class TestClean:
    """Histories in which all promises were kept."""

    def test_one_run_and_a_skip(self, made: Made) -> None:
        """A tick that one node runs and the other skips is as it should be."""
        made.tick(1, "t1")
        made.run(1, 3, "a", "t1")
        made.skip(1.1, "b", "t1")
        verdict = made.verdict()
        assert verdict.is_good()
        assert verdict.rows[check.NO_FAULT].runs == 1

    def test_next_tick_after_hold(self, made: Made) -> None:
        """The next tick on another node is fine once the hold is over, with a larger fence."""
        made.run(1, 3, "a", "t1")
        made.run(6, 8, "b", "t2")
        assert made.verdict().is_good()

    def test_keys_do_not_mix(self, made: Made) -> None:
        """Two keys run at the same time, each with fences of its own."""
        made.run(1, 3, key="k")
        made.run(1.5, 4, key="other")
        assert made.verdict().is_good()

    def test_killed_wrapper(self, made: Made) -> None:
        """A killed wrapper's command is stopped, and another node takes over after the ttl."""
        run = made.begun(1)
        made.kill(2, run, name="kill wrapper")
        made.beat(3, run)
        made.skip(5)
        made.run(12.5, 14, "b")
        verdict = made.verdict()
        assert verdict.is_good()
        row = verdict.rows["kill wrapper"]
        assert (row.injected, row.runs, row.takeovers) == (1, 1, 1)
        assert row.takeover == pytest.approx(10.6)
        assert verdict.kills == {"wrapper": {"during the run": 1}}

    def test_takeover_within_hold(self, made: Made) -> None:
        """A standby run within the hold of the run that died is no double tick."""
        run = made.begun(1, "a", "t", hold=100.0)
        made.kill(2, run, name="kill wrapper")
        other = made.spawn(1.2, "b", "t", hold=100.0, standby=50.0)
        made.start(12, other, takeover=True)
        made.end(13, other)
        made.exit(13.1, other, 0)
        assert made.verdict().is_good()

    def test_nothing_at_all_is_void(self, made: Made) -> None:
        """A history without attempts proves nothing."""
        assert made.verdict().is_void()
        assert not made.verdict().is_good()

    def test_harness_failure_is_void(self, made: Made) -> None:
        """A harness that failed proves nothing, whatever else is there."""
        made.run(1, 2)
        made.add(3, "harness", text="the server did not start")
        assert not made.verdict().is_good()
        assert "VOID" in check.show(made.verdict())


class TestOverlaps:
    """Two at once."""

    def test_of_two_ends(self, made: Made) -> None:
        """A run that starts before another's end overlaps, for as long as both last."""
        made.run(1, 6, "a", hold=0.0)
        made.run(3, 8, "b", hold=0.0)
        (finding,) = made.verdict().violations()
        assert finding.kind == findings.OVERLAP
        assert finding.length == pytest.approx(5.9 - 3.1)

    def test_beat_of_the_killed(self, made: Made) -> None:
        """A beat proves that a run without an end was alive."""
        run = made.begun(1, hold=0.0)
        made.beat(11.5, run)
        made.kill(1.5, run)
        made.run(11.3, 13, "b", hold=0.0)
        assert made.kinds() == [findings.OVERLAP]

    def test_child_after_the_leaders_end(self, made: Made) -> None:
        """A child that lives on when the stopped leader has ended is part of the run."""
        run = made.spawn(1, hold=0.0)
        made.fault(1, 20, "cut", impairs=["a"], nodes=["a"])
        made.start(1.1, run)
        made.end(5, run, 143, "signal 15")
        made.beat(7, run, pid=3)
        made.exit(8, run, 75)
        made.run(6, 9, "b", hold=0.0)
        assert made.kinds() == [findings.OVERLAP]

    def test_three_at_once(self, made: Made) -> None:
        """Of three at once each pair counts."""
        for begin in (1, 2, 3):
            made.run(begin, 9, hold=0.0)
        assert made.kinds() == [findings.OVERLAP] * 3

    def test_daemon_of_a_killed_command(self, made: Made) -> None:
        """Processes that a command left behind when a fault killed it are not counted as the run's."""
        run = made.begun(1, hold=0.0)
        made.fault(2, 2, run=run, process="command", signal=9)
        made.beat(2, run)
        made.beat(9, run, pid=3)
        made.exit(2.1, run, 137)
        made.run(4, 6, "b", hold=0.0)
        assert made.verdict().is_good()

    @pytest.mark.parametrize(("within", "apart"), [(None, True), (5.0, True), (1.0, False)])
    def test_granted(self, made: Made, within: float | None, apart: bool) -> None:
        """An overlap that the backend does not exclude is counted apart, up to the bound that is kept."""
        made.run(1, 6, "a", hold=0.0)
        made.fault(2, 2, "flush", grants=[{"finding": "overlap", "within": within}])
        made.run(3, 8, "b", hold=0.0)
        verdict = made.verdict()
        row = verdict.rows["flush"]
        assert (row.apart["overlap"], row.broken["overlap"]) == ((1, 0) if apart else (0, 1))
        assert verdict.is_good() == apart
        assert row.longest_apart == pytest.approx(2.8 if apart else 0)

    @pytest.mark.parametrize(
        ("what", "when", "apart"),
        [("lease", 1.5, False), ("lease", 0.5, True), ("key", 0.5, False), ("key", 2.5, True)],
    )
    def test_not_granted_after_state_loss(self, made: Made, what: str, when: float, apart: bool) -> None:
        """A node that had seen the lease (or the key) before the fault must know better."""
        made.skip(when, "b")
        run = made.spawn(0.2, "a", hold=0.0)
        made.start(1, run)
        made.end(6, run)
        made.exit(6, run, 0)
        made.fault(2, 2, "failover", grants=[{"finding": "overlap", "within": None, "unless_seen": what}])
        made.run(3, 8, "b", hold=0.0)
        assert made.verdict().is_good() == apart

    def test_not_granted_to_the_node_itself(self, made: Made) -> None:
        """The node that ran the earlier one had seen its lease, too."""
        made.run(1, 6, "a", hold=0.0)
        made.fault(2, 2, "failover", grants=[{"finding": "overlap", "within": None, "unless_seen": "lease"}])
        made.run(3, 8, "a", hold=0.0)
        assert made.kinds() == [findings.OVERLAP]

    def test_grant_of_another_time(self, made: Made) -> None:
        """A fault that was over before excuses nothing."""
        made.fault(0.2, 0.5, "flush", grants=[{"finding": "overlap", "within": None}])
        made.run(1, 6, "a", hold=0.0)
        made.run(3, 8, "b", hold=0.0)
        assert made.kinds() == [findings.OVERLAP]


class TestFences:
    """Tokens that must grow."""

    @pytest.mark.parametrize("fence", [5, 4])
    def test_not_larger(self, made: Made, fence: int) -> None:
        """A later run with a lower or the same fence is out of order."""
        for begin, token in ((1, 5), (10, fence)):
            run = made.spawn(begin)
            made.start(begin + 0.1, run, token)
            made.end(begin + 1, run)
            made.exit(begin + 1, run, 0)
        assert made.kinds() == [findings.FENCE]

    def test_compared_with_the_largest(self, made: Made) -> None:
        """After one that fell back, the largest of all still counts."""
        for number, token in enumerate((5, 9, 3, 8)):
            run = made.spawn(number * 10 + 1)
            made.start(number * 10 + 1.1, run, token)
            made.end(number * 10 + 2, run)
            made.exit(number * 10 + 2, run, 0)
        assert made.kinds() == [findings.FENCE, findings.FENCE]


class TestTicks:
    """Once, neither twice nor never."""

    def test_twice(self, made: Made) -> None:
        """A tick that two nodes run one after the other within the hold is a double tick."""
        made.run(1, 2, "a", "t1")
        made.run(3, 4, "b", "t1")
        assert made.kinds() == [findings.DOUBLE]

    def test_twice_beyond_the_hold(self, made: Made) -> None:
        """Beyond the hold the key is free: clocks may differ by that much and no more."""
        made.run(1, 2, "a", "t1")
        made.run(6, 7, "b", "t1")
        assert made.verdict().is_good()

    def test_hold_cut_short(self, made: Made) -> None:
        """Another tick within the hold breaks it, too."""
        made.run(1, 2, "a", "t1")
        made.run(3, 4, "b", "t2")
        assert made.kinds() == [findings.HOLD]

    def test_ignored_hold(self, made: Made) -> None:
        """A run that was told to ignore the hold may."""
        made.run(1, 2, "a")
        made.run(3, 4, "b", ignore_hold=True)
        assert made.verdict().is_good()

    def test_lost(self, made: Made) -> None:
        """A tick is lost if a healthy node was refused although the key was free."""
        made.tick(1, "t1")
        made.skip(1, "a", "t1")
        assert sorted(made.kinds()) == [findings.LOST, findings.STUCK]

    def test_unhealthy(self, made: Made) -> None:
        """A tick that only unhealthy nodes asked for is not lost, but counted."""
        made.tick(1, "t1", "b")
        made.skip(1, "a", "t1")
        made.fault(0.5, 3, impairs=["a"])
        verdict = made.verdict()
        assert verdict.is_good()
        assert (verdict.unasked, verdict.held) == (1, 0)

    def test_fault_while_asking(self, made: Made) -> None:
        """A node that a fault touched while it asked was not healthy."""
        made.tick(1, "t1")
        run = made.spawn(1, "a", "t1")
        made.fault(1.2, 3, impairs=[ALL])
        made.exit(4, run, 69)
        assert made.verdict().is_good()

    def test_recovery(self, made: Made) -> None:
        """After its end a fault may need time to recover from, and no longer."""
        made.tick(9, "t1")
        made.tick(19, "t2")
        made.fault(1, 2, impairs=[ALL], recovery=10.0)
        for begin, tick in ((9, "t1"), (19, "t2")):
            made.skip(begin, "a", tick)
        assert sorted(made.kinds()) == [findings.LOST, findings.STUCK]

    def test_held_by_the_last_run(self, made: Made) -> None:
        """A tick that comes while the last run is still going is not lost, but counted."""
        made.tick(1, "t1")
        made.tick(6, "t2")
        made.run(1, 20, "a", "t1")
        made.skip(6, "b", "t2")
        verdict = made.verdict()
        assert verdict.is_good()
        assert verdict.held == 1

    def test_held_by_one_that_was_killed(self, made: Made) -> None:
        """A tick is not repeated if its run was killed before the command began."""
        made.tick(1, "t1")
        run = made.spawn(1, "a", "t1")
        made.kill(1.1, run)
        made.skip(1.2, "b", "t1")
        assert made.verdict().is_good()


class TestStuck:
    """Keys without a holder must be free."""

    @pytest.mark.parametrize(("gone", "good"), [(2.0, True), (TTL + SLACK + 1, False)])
    def test_after_a_kill(self, made: Made, gone: float, good: bool) -> None:
        """A killed run may keep the key for the ttl, and no longer."""
        run = made.begun(1)
        made.kill(2, run)
        made.skip(2 + gone)
        assert made.kinds() == ([] if good else [findings.STUCK])

    @pytest.mark.parametrize(("gone", "good"), [(2.0, True), (HOLD + SLACK + 1, False)])
    def test_after_a_release(self, made: Made, gone: float, good: bool) -> None:
        """A run that ended keeps the key for its hold only."""
        made.run(1, 1.5)
        made.skip(1 + gone)
        assert made.kinds() == ([] if good else [findings.STUCK])

    def test_while_stopped(self, made: Made) -> None:
        """A wrapper that stays stopped holds the key for the ttl only."""
        run = made.begun(1)
        made.fault(2, 50, run=run, process="wrapper", signal=19)
        made.beat(8, run)
        made.skip(40)
        made.exit(51, run, 75)
        assert made.kinds() == [findings.STUCK]

    def test_length(self, made: Made) -> None:
        """It says how much too long."""
        made.run(1, 1.5)
        made.skip(1.1 + HOLD + 20)
        (finding,) = made.verdict().violations()
        assert finding.length == pytest.approx(20)


class TestStatuses:
    """Exit statuses against the manual's table."""

    @pytest.mark.parametrize("status", [0, 64, 69, 70, 75, 78, 124, -11])
    def test_without_a_fault(self, made: Made, status: int) -> None:
        """Where nothing was broken, a run has its command's status and no other."""
        run = made.begun(1)
        made.end(2, run, 7)
        made.exit(2.1, run, status)
        assert made.kinds() == [findings.STATUS]

    @pytest.mark.parametrize("status", [0, 70, 78, -6])
    def test_of_a_skip(self, made: Made, status: int) -> None:
        """A run that started nothing has the exit status of a skip."""
        made.run(0.5, 3)
        run = made.spawn(1, "b")
        made.exit(1.1, run, status)
        assert made.kinds() == [findings.STATUS]

    @pytest.mark.parametrize(("status", "good"), [(69, True), (75, True), (70, False)])
    def test_unavailable(self, made: Made, status: int, good: bool) -> None:
        """69 and 75 are right when the backend cannot be asked; 70 never is."""
        made.fault(1, 3, impairs=[ALL])
        run = made.spawn(1.5)
        made.exit(2, run, status)
        assert made.verdict().is_good() == good

    def test_unavailable_after_the_command(self, made: Made) -> None:
        """69 is never right once the command has run."""
        made.fault(1, 3, impairs=[ALL])
        run = made.begun(1.5)
        made.end(1.9, run)
        made.exit(2, run, 69)
        assert made.kinds() == [findings.STATUS]

    @pytest.mark.parametrize(
        ("process", "signal", "status"),
        [("wrapper", 9, -9), ("guard", 9, 70), ("both", 9, -9), ("command", 9, 137), ("wrapper", 15, 143)],
    )
    def test_of_signals(self, made: Made, process: str, signal: int, status: int) -> None:
        """A signal excuses its consequences for the run that got it, and for no other."""
        for hit in (True, False):
            run = made.spawn(100 if hit else 1)
            if hit:
                made.fault(101, 101, run=run, process=process, signal=signal)
            made.start(100.5 if hit else 1.1, run)
            made.exit(102 if hit else 2, run, status)
        assert made.kinds() == [findings.STATUS]

    def test_that_a_fault_may_cause(self, made: Made) -> None:
        """A fault names further statuses."""
        made.fault(1, 3, nodes=["a"], statuses=[70])
        for node in ("a", "b"):
            run = made.spawn(1.5, node)
            made.exit(2, run, 70)
        assert made.kinds() == [findings.STATUS]

    def test_that_a_fault_of_another_run_may_cause(self, made: Made) -> None:
        """A fault that hit one run excuses no other, not even on the same node."""
        other = made.run(1, 3, key="other")
        made.fault(1, 3, run=other, nodes=["a"], process="wrapper", signal=19, statuses=[70])
        run = made.spawn(1.5, "a")
        made.exit(2, run, 70)
        assert made.kinds() == [findings.STATUS]

    def test_guards_end_of_a_killed_wrapper(self, made: Made) -> None:
        """A killed wrapper cannot have said that its guard is gone."""
        run = made.begun(1)
        made.kill(2, run, status=70)
        assert made.kinds() == [findings.STATUS]

    def test_signal_without_a_fault(self, made: Made) -> None:
        """A command that was stopped though nothing was broken has no status that is right."""
        run = made.begun(1)
        made.end(2, run, 143, "signal 15")
        made.exit(2.1, run, 143)
        assert made.kinds() == [findings.STATUS]

    def test_timeout(self, made: Made) -> None:
        """124 is right once --timeout is over."""
        run = made.begun(1, timeout=2.0)
        made.end(3.2, run, 143, "signal 15")
        made.exit(3.3, run, 124)
        assert made.verdict().is_good()


class TestProcesses:
    """Processes that outlive their lease are found."""

    def test_after_the_lease(self, made: Made) -> None:
        """A beat later than the ttl after the wrapper's death outlives the lease."""
        run = made.begun(1)
        made.kill(2, run)
        made.beat(2 + TTL + 0.5, run)
        (finding,) = made.verdict().violations()
        assert finding.kind == findings.OUTLIVE
        assert finding.length == pytest.approx(0.5)

    def test_while_the_wrapper_is_stopped(self, made: Made) -> None:
        """A stopped wrapper's command must be gone when the lease is."""
        run = made.begun(1)
        made.fault(2, 50, run=run, process="wrapper", signal=19)
        made.beat(13, run)
        made.exit(51, run, 75)
        assert made.kinds() == [findings.OUTLIVE]

    @pytest.mark.parametrize(("start", "good"), [(14.0, True), (2.1, False)])
    def test_stopped_before_the_grant(self, made: Made, start: float, good: bool) -> None:
        """A wrapper that was stopped before it got the key and went on later has a lease from then on."""
        run = made.spawn(1)
        made.fault(2, 14.01, run=run, process="wrapper", signal=19)
        made.start(start, run)
        made.beat(20, run)
        made.end(21, run)
        made.exit(22, run, 0)
        assert made.kinds() == ([] if good else [findings.OUTLIVE])

    def test_after_the_wrapper(self, made: Made) -> None:
        """Nothing may be alive when the wrapper has told how it ended."""
        run = made.run(1, 3)
        made.beat(3.2, run, pid=3)
        assert made.kinds() == [findings.OUTLIVE]

    def test_found(self, made: Made) -> None:
        """Processes that the driver finds count, too."""
        run = made.run(1, 3)
        made.add(20, "left", run=run, pids=[7], text="sleep 100")
        assert made.kinds() == [findings.LEFT]


class TestRead:
    """Histories as files."""

    def test_written_by_several(self, tmp_path: Path) -> None:
        """The lines of several writers are read as one history."""
        path = tmp_path / "history"
        driver, other = Writer(path), Writer(path)
        driver.plan(backend="file", seed=1, ttl=TTL, hold=HOLD, nodes=["a"], length=3)
        before = now()
        # The command may be faster than the driver, which learns the pid later.
        driver.note("start", run="r", pid=3, owner="o", fence=None, takeover=False)
        other.spawn(
            t=before, run="r", node="a", key="k", tick=None, pid=2, ttl=TTL, hold=HOLD, skip_status=SKIP, probe=True
        )
        driver.note("end", run="r", pid=3, status=0, why="done")
        other.exit("r", 0, "")
        driver.fault("f", "cut", "a", nodes=["a"], impairs=["a"])
        driver.healed("f")
        driver.left("r", [4], "text")
        driver.tick("k", "t", ["a"], [])
        history = read(path)
        (attempt,) = history.attempts.values()
        assert attempt.probe
        assert attempt.at < (attempt.life.start if attempt.life else 0)
        assert history.faults["f"].end is not None
        assert len(history.left) == len(history.ticks) == 1

    @pytest.mark.parametrize("line", ["", "[]", "{}", '{"t": 1}', '{"t": 1, "what": "no"}', '{"t": 1, "what": "exit"}'])
    def test_nonsense(self, tmp_path: Path, line: str) -> None:
        """A line that is no event, or fits nothing, is an error: it might have been a proof."""
        path = tmp_path / "history"
        path.write_text(line + "\n")
        with pytest.raises(ValueError, match="event"):
            read(path)

    def test_main(self, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The program says what is broken, fails, and writes a summary."""
        made.run(1, 6, hold=0.0)
        made.run(3, 8, hold=0.0)
        path = tmp_path / "history.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in made.events))
        assert check.main([str(path)]) == 1
        assert "1 overlap" in capsys.readouterr().out
        assert json.loads((tmp_path / "history.summary.json").read_text())["good"] is False


# Against definitions as plain as they can be.

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
    """A start within the hold of any earlier run is a double tick or breaks the hold."""
    attempts = _attempts(drawn)
    expected = set()
    for index, later in enumerate(attempts):
        for earlier in attempts[:index]:
            if not _life(later).takeover and _life(later).start - earlier.at < earlier.hold:
                expected.add((later.run, findings.DOUBLE if later.tick == earlier.tick else findings.HOLD))
    assert {(finding.runs[-1], finding.kind) for finding in findings.early(attempts)} == expected


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
