"""How the state of a key is shown: as data, to people, and to Prometheus."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import click
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cronlock.commands import watching
from cronlock.commands.check import CRITICAL, OK, WARNING, Limits, judge
from cronlock.commands.views import prometheus, state, table
from cronlock.errors import BackendUnavailable, UsageError
from cronlock.lease.describe import describe_drift
from cronlock.lease.vocabulary import DIED, EXITED, LOST, NOT_STARTED, RELEASED, TIMED_OUT, Record, Run
from cronlock.run.log import Log

NOW = 1_700_000_000.0
_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text())


def make_run(ago: float = 60.0, took: float | None = 10.0, *, outcome: str | None = EXITED, status: int = 0) -> Run:
    """Return a run that started `ago` seconds before NOW; one with `took` None did not say its end."""
    return Run(
        owner="web-1:4242:ab",
        host="web-1",
        pid=4242,
        program="billing",
        started_at=NOW - ago,
        ttl=300.0,
        fence=17,
        ended_at=None if took is None else NOW - ago + took,
        outcome=None if took is None and outcome == EXITED else outcome,
        status=None if took is None else status,
    )


def make_record(
    run: Run | None = None, remaining: float = 0.0, hold: float = 0.0, history: list[Run] | None = None
) -> Record:
    """Return a record whose success is the newest of its history."""
    history = history or []
    success = next((one for one in history if one.succeeded), None)
    return Record(run=run, remaining=remaining, hold_remaining=hold, history=history, success=success)


RUNNING = make_record(make_run(took=None), 200.0, 30.0, [make_run(360.0)])
HELD = make_record(hold=30.0, history=[make_run()])
LAPSED = make_record(make_run(took=None), 0.0, 30.0)
OPAQUE = Record(opaque=True)
UNUSED = Record()
FREE = make_record(history=[make_run(status=3), make_run(700.0)])


@pytest.mark.parametrize(
    ("record", "expected"),
    [(UNUSED, "free"), (RUNNING, "running"), (HELD, "held"), (LAPSED, "lapsed"), (OPAQUE, "held"), (FREE, "free")],
)
def test_states(record: Record, expected: str) -> None:
    """Each state follows from the record, and the JSON that shows it matches its schema."""
    assert state.state_of(record) == expected
    document = {"schema": 1, "backend": "memory", "read_at": NOW, "keys": [state.key_as_json("k", record)]}
    jsonschema.validate(document, _SCHEMA)
    assert document["keys"][0]["state"] == expected  # type: ignore[index]


def test_json_says_what_the_record_says() -> None:
    """The last run over is the newest of the history, the last success may be older."""
    shown = state.key_as_json("k", FREE)
    assert (shown["last"]["status"], shown["last"]["duration"], shown["last"]["outcome"]) == (3, 10.0, "exited")
    assert (shown["last_success"]["status"], shown["last_success"]["started_at"]) == (0, NOW - 700)
    assert (shown["run"], shown["remaining"], shown["hold_remaining"]) == (None, None, 0.0)
    opaque = state.key_as_json("k", OPAQUE)
    assert (opaque["run"], opaque["remaining"], opaque["hold_remaining"], opaque["last"]) == (None,) * 4
    running = state.key_as_json("k", RUNNING)
    assert (running["run"]["ended_at"], running["run"]["outcome"], running["remaining"]) == (None, None, 200.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (UNUSED, ["free", "-", "-", "none recorded"]),
        (RUNNING, ["running", "for 60s", "web-1 (4242)", "6m ago: ok, 10s"]),
        (HELD, ["held", "30s left", "web-1", "60s ago: ok, 10s"]),
        (LAPSED, ["lapsed", "30s left", "web-1 (4242)", "60s ago: died"]),
        (OPAQUE, ["held", "-", "unknown", "none recorded"]),
        (FREE, ["failed", "-", "web-1", "60s ago: status 3, 10s"]),
    ],
)
def test_table_for_people(record: Record, words: list[str]) -> None:
    """The table has a line for each key with what a person asks for first."""
    head, line = (click.unstyle(text) for text in table.status_table([("billing", record)], NOW))
    assert head.split() == ["KEY", "STATE", "TIME", "HOST", "LAST", "RUN"]
    assert re.split("  +", line) == ["billing", *words]


def test_what_needs_attention_comes_first() -> None:
    """Dead runs come first, then failures, then running jobs; within a state by name."""
    free, released = make_record(history=[make_run()]), make_record(history=[make_run(outcome=RELEASED, status=1)])
    records = {"e": HELD, "f": free, "d": RUNNING, "c": FREE, "b": LAPSED, "a": UNUSED, "g": released}
    assert "".join(key for key, _ in state.by_attention(list(records.items()))) == "bcdeafg"
    assert state.conditions_of(make_record(hold=30.0, history=[make_run(status=3)])) == ["failed", "held"]


@pytest.mark.parametrize("key", ["a", "x" * 200, "\u65e5" * 90, "e\u0301" * 100, "\U0001f98a" * 60], ids=len)
@pytest.mark.parametrize("host", ["web-1", "ip-10-0-12-34.eu-west-1.compute.internal"])
def test_a_line_has_80_cells(key: str, host: str) -> None:
    """Names are cut, however long, so that the line stays one; columns stand under each other."""
    run = make_run(10_000.0, 7_200.0, outcome=NOT_STARTED, status=127)
    run.host = host
    lapsed = make_record(make_run(took=None), 0.0, 20.0, [run])
    shown = table.status_table([(key, lapsed), ("b", make_record(hold=5.0, history=[run]))], NOW, 80)
    states = [re.search("STATE|lapsed|failed", line) for line in map(click.unstyle, shown)]
    assert len({table.cells(found.string[: found.start()]) for found in states if found}) == 1
    shown += table.history_table([(key, run), ("b", run)], NOW, states=dict.fromkeys([key, "b"], ""), width=80)
    assert (len(shown), max(map(table.cells, shown)) <= 80) == (6, True)
    assert max(map(table.cells, table.fitted([["key", "x" * 90, "x"], [key, "s", "y"]], (0, 1), 30))) <= 30


def test_a_pipe_gets_names_whole() -> None:
    """A pipe gets all of a long name, and no other line moves."""
    _, long, short = (click.unstyle(line) for line in table.status_table([("x" * 200, HELD), ("b", HELD)], NOW))
    assert (long.index("held"), short.index("held")) == (202, 42)


def test_columns_stand_under_each_other() -> None:
    """Colors and wide cells do not shift a column."""
    rows = [["A", "B"], [click.style("long cell", fg="red"), "x"], ["s", "y"]]
    for width in (None, 80):
        lines = table.fitted(rows, (0,), width)
        assert [click.unstyle(line).index(letter) for line, letter in zip(lines, "Bxy")] == [11, 11, 11]


def test_the_head_of_the_watch_stays() -> None:
    """However many keys there are, and whether the backend answers or not: two lines stay, and the screen is full."""
    records = [(f"job-{n}", HELD) for n in range(100)]
    lines = watching.screen(records, None, "redis://h", NOW, NOW, (80, 24))
    assert "redis://h" in lines[0]
    assert lines[0].endswith("100 keys: 100 held")
    assert (len(lines), lines[1], lines[-1]) == (23, "", "and 81 more")
    lines = watching.screen(records, BackendUnavailable("x" * 200), "redis://h", NOW + 9, NOW, (80, 24))
    assert click.unstyle(lines[1]).startswith("cronlock: xxx")
    assert (len(lines), max(map(table.cells, lines)) <= 80) == (23, True)
    first = watching.screen([], BackendUnavailable("away"), "redis://h", NOW, None, (80, 24))
    assert [click.unstyle(line) for line in first] == ["redis://h  no answer yet", "cronlock: away", ""]
    assert len(watching.screen(records, None, "redis://h", NOW, NOW, None)) == 103


def test_control_characters_are_not_shown() -> None:
    """A host or program with escape sequences in its name is shown without them."""
    run = make_run(took=None)
    run.host = run.program = "a\x1b[2Jb\nc"
    lines = table.status_table([("k", make_record(run, 10.0))], NOW)
    lines += table.history_table([("k", run)], NOW, states={"k": state.RUNNING})
    text = click.unstyle("\n".join(lines))
    assert "\x1b" not in text
    assert len(text.split("\n")) == 4


@pytest.mark.parametrize("outcome", [EXITED, TIMED_OUT, LOST, NOT_STARTED, DIED, RELEASED])
def test_history_shows_every_end(outcome: str) -> None:
    """Each way to end has its words."""
    line = click.unstyle(table.history_table([("k", make_run(outcome=outcome))], NOW, states={"k": state.FREE})[1])
    words = {
        EXITED: "exited with status 0",
        TIMED_OUT: "stopped after --timeout",
        LOST: "lost its lease",
        NOT_STARTED: "failed to start",
        DIED: "died",
        RELEASED: "released by hand",
    }
    assert words[outcome] in line


def test_drift_is_a_line_of_its_own() -> None:
    """Another program or ttl than the run before is warned of below the table, and in the JSON."""
    run = make_run(took=None)
    run.ttl = 60.0
    record = make_record(run, 10.0, history=[make_run(360.0)])
    (line,) = table.warnings([("k", record), ("l", RUNNING)], 100.0)
    assert click.unstyle(line).startswith("warning: k: the previous run had another ttl: 5m00s, now 1m00s")
    assert "another ttl" in state.key_as_json("k", record)["drift"]
    assert state.key_as_json("k", RUNNING)["drift"] is None
    assert state.drift_of(make_record(run, 10.0)) is None


def test_drift_of_program_comes_first() -> None:
    """Two jobs under one key are the likelier mistake; names that are no text are not compared to the byte."""
    assert "another program: billing, now report" in (describe_drift(make_run(), "report", 300.0) or "")
    assert describe_drift(make_run(), "billing", 300.0) is None
    run = make_run()
    run.program = "job-??"
    assert describe_drift(run, "job-\udcff\udc80", 300.0) is None


def _samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return {name: {labels: value}} as Prometheus' own parser reads it."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_metrics_are_read_by_prometheus() -> None:
    """Its parser finds each value under its name, and only what is known."""
    found = _samples(prometheus.exposition([("billing", RUNNING), ("report", FREE), ("new", UNUSED)]))
    billing, report, new = ((("key", name),) for name in ("billing", "report", "new"))
    assert found["cronlock_up"] == {(): 1}
    assert found["cronlock_running"] == {billing: 1, report: 0, new: 0}
    assert found["cronlock_lease_remaining_seconds"][billing] == 200
    assert found["cronlock_holder"] == {(("host", "web-1"), ("key", "billing")): 1}
    assert found["cronlock_last_start_timestamp_seconds"] == {billing: NOW - 60, report: NOW - 60}
    assert found["cronlock_last_success_timestamp_seconds"] == {billing: NOW - 350, report: NOW - 690}
    assert found["cronlock_last_status"] == {billing: 0, report: 3}
    assert found["cronlock_last_duration_seconds"] == {billing: 10, report: 10}
    assert set(found) <= {name for name, _ in prometheus.METRICS}


@pytest.mark.parametrize(
    ("record", "held"), [(UNUSED, 0), (RUNNING, 1), (HELD, 1), (LAPSED, 1), (FREE, 0), (OPAQUE, 1)]
)
def test_metrics_say_whether_a_key_is_held(record: Record, held: int) -> None:
    """A key whose holder the backend cannot tell is shown as held, and nothing else."""
    found = _samples(prometheus.exposition([("k", record)]))
    assert found["cronlock_held"] == {(("key", "k"),): held}
    if record is OPAQUE:
        assert set(found) == {"cronlock_up", "cronlock_held"}


def test_metrics_without_an_answer() -> None:
    """A backend that does not answer is one sample, to set an alarm on."""
    assert _samples(prometheus.exposition(None)) == {"cronlock_up": {(): 0}}


@given(key=st.text(min_size=1, max_size=30), host=st.text(max_size=30))
def test_metrics_with_nasty_names(key: str, host: str) -> None:
    """Whatever a key or host is called, the parser reads it back."""
    run = make_run(took=None)
    run.host = host
    found = _samples(prometheus.exposition([(key, make_record(run, 10.0))]))
    ((labels, value),) = found["cronlock_holder"].items()
    assert dict(labels) == {"key": key, "host": host}
    assert value == 1


@pytest.mark.parametrize(
    ("record", "limits", "expected", "words"),
    [
        (FREE, Limits(1000), OK, "succeeded 11m30s ago"),
        (FREE, Limits(600), CRITICAL, "last success 11m30s ago"),
        (FREE, Limits(1000, 600), WARNING, "(limit 10m00s)"),
        (FREE, Limits(600), CRITICAL, "exited with status 3"),
        (UNUSED, Limits(600), CRITICAL, "no successful run on record"),
        (RUNNING, Limits(100), CRITICAL, "running for 1m00s"),
        (RUNNING, Limits(100, None, 60), OK, "running for 1m00s"),
        (RUNNING, Limits(100, None, 59), CRITICAL, "running for 1m00s"),
        (LAPSED, Limits(100, None, 600), CRITICAL, "the last run, on web-1, died"),
        # A machine's clock that is a bit fast, and one that is wrong by more than the limit.
        (make_record(history=[make_run(-90, 0.0)]), Limits(100), OK, "succeeded 0s ago"),
        (make_record(history=[make_run(-110, 0.0)]), Limits(100), CRITICAL, "a clock is wrong"),
    ],
)
def test_check_judges(record: Record, limits: Limits, expected: int, words: str) -> None:
    """Success or a run under way within the limits is OK; else the reason says what is known."""
    status, text = judge(record, NOW, limits)
    assert status == expected
    assert words in text


def test_a_warning_after_the_alarm_is_refused() -> None:
    """--warn-age beyond --max-age would never warn."""
    with pytest.raises(UsageError, match="--warn-age"):
        Limits(10, 20)


@given(age=st.floats(0, 1e6), limit=st.floats(0.1, 1e6))
def test_check_alarms_exactly_beyond_the_limit(age: float, limit: float) -> None:
    """One that took no time and ended `age` ago is critical if and only if that is more than the limit."""
    record = make_record(history=[make_run(age, 0.0)])
    status, _ = judge(record, NOW, Limits(limit))
    measured = NOW - (NOW - age)
    if not math.isclose(measured, limit):
        assert (status == CRITICAL) == (measured > limit)


def test_an_outcome_is_one_plain_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters are escaped in JSON, too, and read back unchanged."""
    host = "evil\x1b[2J\x9b\x85\u2028"
    Log(form="json").outcome("skipped", {"holder": host})
    (line,) = capfd.readouterr().err.splitlines()
    assert line.isprintable()
    assert json.loads(line)["holder"] == host
