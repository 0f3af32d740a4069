"""A machine with too much to do: what depends on its speed is counted apart while it has, and only then."""

from __future__ import annotations

from pathlib import Path

from chaos import check
from chaos.history import Writer, gather, now, read
from chaos.made import Made
from chaos.pulse import BUSY, Pulse


def _noted(path: Path, took: float) -> check.Verdict:
    """Return the verdict on a history in which the program began 20 seconds after its begin and took so long."""
    made = Made()
    made.add(21.0, "tick", key="k", tick="1", healthy=["a"], unhealthy=[])
    refused = made.spawn(21.0, tick="1")
    made.exit(22.0, refused, 69)
    pulse = Pulse(Writer(path), 10.0)
    pulse.beat(19.5, 19.6)
    pulse.beat(20.0, 20.0 + took)
    return check.check(gather([*made.events, *(_events(path))]))


def _events(path: Path) -> list[dict[str, object]]:
    history = read(path)
    events: list[dict[str, object]] = []
    for fault in history.faults.values():
        about = {"fault": fault.fault, "name": fault.name, "target": fault.target, "recovery": fault.recovery}
        events.append({"t": fault.begin, "what": "fault", **about, "grants": fault.grants, "statuses": fault.statuses})
        events.append({"t": fault.end, "what": "healed", "fault": fault.fault})
    return events


def test_busy(tmp_path: Path) -> None:
    """A start that takes long excuses a status and a missed tick; it is told apart, and is no injected fault."""
    verdict = _noted(tmp_path / "busy", 0.9)
    assert not verdict.violations()
    told = check.summary(verdict)
    assert told["busy"] == 1.3, "from the end of the start before"
    assert told["injected"] == 0
    assert told["faults"][BUSY]["apart"] == {"lost": 1}


def test_not_busy(tmp_path: Path) -> None:
    """A start that takes as long as usual excuses nothing."""
    verdict = _noted(tmp_path / "quick", 0.1)
    assert {finding.kind for finding in verdict.violations()} == {"lost", "status"}
    assert check.summary(verdict)["busy"] == 0


def test_measures(tmp_path: Path) -> None:
    """It notes what takes too long and ends with its block."""
    begin = now()
    with Pulse(Writer(tmp_path / "history"), 10.0) as pulse:
        pulse.beat(begin, begin + 5)
    end = read(tmp_path / "history").faults["busy-1"].end
    assert end is not None
    assert round(end, 3) == round(begin + 5, 3)


def test_left_out() -> None:
    """A run that the harness was too slow to start is counted, and its tick is missed by nobody."""
    made = Made()
    made.tick(1, "1")
    made.add(2.5, "late", run="a-000001")
    told = check.summary(made.verdict())
    assert told["late"] == 1
    assert told["unasked"] == 1
    assert not told["violations"]
