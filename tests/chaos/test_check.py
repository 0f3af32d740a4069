"""The oracle is tested with histories that hold each fault: two at once, fences, ticks."""

from __future__ import annotations

import pytest

from chaos import check, findings
from chaos.history import ALL
from chaos.made import Made


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

    def test_takeover_of_what_is_done(self, made: Made) -> None:
        """A standby that repeats a tick of which the servers know that it is done is a double tick."""
        made.run(1, 3, "a", "t", hold=100.0)
        other = made.spawn(1.2, "b", "t", hold=100.0, standby=50.0)
        made.start(5.5, other, takeover=True)
        made.end(6, other)
        made.exit(6.1, other, 0)
        assert made.kinds() == [findings.DOUBLE]

    @pytest.mark.parametrize("way", ["failed", "cut off", "stopped", "too late"])
    def test_takeover_of_what_seemed_to_die(self, made: Made, way: str) -> None:
        """It is none where the servers may not have heard in time that the run was done."""
        run = made.begun(1, "a", "t", hold=100.0)
        made.end(2.9, run)
        made.exit(20 if way == "too late" else 3, run, 75 if way == "failed" else 0)
        if way == "cut off":
            made.fault(2, 5, impairs=["a"], nodes=["a"])
        if way in ("stopped", "too late"):
            made.fault(2, 2.95, run=run, process="wrapper", signal=19)
        other = made.spawn(1.2, "b", "t", hold=100.0, standby=50.0)
        made.start(12, other, takeover=True)
        made.end(13, other)
        made.exit(13.1, other, 0)
        assert findings.DOUBLE not in made.kinds()

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
