"""The oracle on how runs end: keys that stay stuck, exit statuses, processes; and histories as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos import check, findings
from chaos.history import ALL, Writer, now, read
from chaos.made import HOLD, SKIP, TTL, Made
from chaos.occupancy import SLACK


class TestStuck:
    """Keys without a holder must be free."""

    @pytest.mark.parametrize(("gone", "good"), [(2.0, True), (TTL + SLACK + 1, False)])
    def test_after_a_kill(self, made: Made, gone: float, good: bool) -> None:
        """A killed run may keep the key for the ttl, and no longer."""
        run = made.begun(1)
        made.kill(2, run)
        made.skip(2 + gone)
        assert made.kinds() == ([] if good else [findings.STUCK])

    @pytest.mark.parametrize(
        ("impaired", "gone", "good"), [("b", 1, True), ("b", TTL + SLACK + 1, False), ("a", 1, False)]
    )
    def test_a_standby_that_got_no_answer(self, made: Made, impaired: str, gone: float, good: bool) -> None:
        """It may have got the key, if something was broken for its node, and keeps it for a ttl."""
        made.run(1, 1.5)
        made.fault(30, 31, "lose-replies", nodes=[impaired], impairs=[impaired])
        standby = made.spawn(29, "b", standby=5.0)
        made.exit(32, standby, SKIP, "cronlock: k: standby ended without an answer of the backend")
        made.skip(32 + gone, "c")
        assert set(made.kinds()) == (set() if good else {findings.STUCK})

    def test_where_leases_end_late(self) -> None:
        """Up to five seconds on DynamoDB, as its manual says."""
        made = Made("dynamodb")
        made.kill(2, made.begun(1))
        made.skip(2 + TTL + SLACK + 4)
        assert made.verdict().is_good()
        made.skip(2 + TTL + SLACK + 6)
        assert made.kinds() == [findings.STUCK]

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

    @pytest.mark.parametrize(("asked", "good"), [(50, True), (51 + SLACK + 1, False)])
    def test_while_stopped_on_a_file(self, asked: float, good: bool) -> None:
        """There, a lock lives as long as a process that has it, and no longer."""
        made = Made("file")
        run = made.begun(1)
        made.fault(2, 51, run=run, process="wrapper", signal=19)
        made.end(3, run)
        made.skip(asked)
        made.exit(51, run, 0)
        assert made.kinds() == ([] if good else [findings.STUCK])

    @pytest.mark.parametrize(
        ("before", "asked", "good"),
        [
            pytest.param([], 60, True, id="the first of this node"),
            pytest.param([58], 60, True, id="the second, within a ttl"),
            pytest.param([40], 60, False, id="long after the first"),
        ],
    )
    def test_after_a_loss(self, made: Made, before: list[float], asked: float, good: bool) -> None:
        """A node that first asks after servers lost leases may keep the key for a ttl."""
        made.run(1, 1.5)
        made.fault(2, 3, "emptied", grants=[{"finding": "overlap", "within": TTL, "unless_seen": "lease"}])
        for at in before:
            made.run(at, at + 0.3, "b", hold=0.0)
        made.run(50, 50.5, "a", hold=0.0)
        made.skip(asked, "b")
        assert made.kinds() == ([] if good else [findings.STUCK])

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
