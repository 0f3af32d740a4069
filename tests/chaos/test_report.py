"""The tables of the document, and the figures that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos import check, report, words
from chaos.faults import FAULTS, KILL_ANYTIME
from chaos.made import Made
from chaos.systems import SYSTEMS

_DOCUMENT = "".join(
    f"About {name}.\n<!-- {name} -->\nstale figures\n<!-- /{name} -->\n" for name in report.tables(report.merge([]))
)


def _summary(*, overlap: bool = False, apart: bool = False, backend: str = "redis", seed: int = 1) -> dict[str, Any]:
    made = Made()
    made.events[0].update(backend=backend, seed=seed)
    made.kill(2, made.begun(1), name="kill-wrapper")
    made.run(12.5, 14, "b")
    if overlap or apart:
        made.fault(21, 21, "flush", grants=[{"finding": "overlap", "within": None}] if apart else [])
        made.run(20, 26, "a", hold=0.0)
        made.run(23, 28, "b", hold=0.0)
    return check.summary(made.verdict())


def _files(folder: Path, *summaries: dict[str, Any]) -> list[str]:
    files = [folder / f"{number}.json" for number in range(len(summaries))]
    for file, summary in zip(files, summaries):
        file.write_text(json.dumps(summary))
    return [*map(str, files)]


def _rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_sums() -> None:
    """Several histories of a backend are summed up, for each fault and in total."""
    figures = report.merge([_summary(seed=1), _summary(seed=2), _summary(backend="file", overlap=True)])
    tables = report.tables(figures)
    by_backend = {row[0]: row for row in _rows(tables["totals"])[2:]}
    assert by_backend[words.BACKENDS["redis"]][3:6] == ["4", "2", "0"]
    assert by_backend[words.BACKENDS["file"]][3:6] == ["4", "2", "1"]
    assert by_backend["**all**"][3:6] == ["**8**", "**4**", "**1**"]
    file, redis = tables["faults"].split("### ")[1:]
    assert "seeds 1, 2." in redis
    assert [words.FAULTS["kill-wrapper"], "2", "2", "0", "0", "0", "0", "11.5 s"] in _rows(redis)
    assert [words.FAULTS["flush"], "1", "1", "1", "0", "0", "0"] in [row[:7] for row in _rows(file)]
    assert _rows(tables["kills"])[2:] == [["wrapper", "0", "3", "0"]]


def test_seeds_and_leaders() -> None:
    """Seeds in a row are shown by their ends; what took leaders away is counted for each backend that has one."""
    leader = {**_summary(backend="etcd", seed=4)["faults"]["kill-wrapper"], "injected": 7}
    summaries = [_summary(backend="etcd", seed=seed) for seed in (1, 2, 3, 4, 6, 7)]
    for summary in summaries[:2]:
        summary["faults"]["isolate-leader"] = leader
    tables = report.tables(report.merge([*summaries, _summary()]))
    assert "seeds 1 to 4, 6, 7." in tables["faults"]
    assert _rows(tables["leaders"])[2:] == [[words.BACKENDS["etcd"], "0", "14", "0", "0"]]


def test_pairs_are_summed_up() -> None:
    """Pairs of faults are counted over all backends."""
    summaries = [{**_summary(backend=backend), "pairs": {"cut and kill-guard": 10}} for backend in ("redis", "etcd")]
    assert _rows(report.tables(report.merge(summaries))["pairs"])[2][2:] == ["1", "0", "20"]


def test_apart() -> None:
    """Effects that a backend does not rule out are in a table of their own, never among the zeros."""
    tables = report.tables(report.merge([_summary(apart=True)]))
    assert _rows(tables["totals"])[-1][5] == "**0**"
    assert [words.BACKENDS["redis"], words.FAULTS["flush"], "1", "1 overlap", "2.8 s"] in _rows(tables["apart"])
    assert report.tables(report.merge([_summary()]))["apart"] == "Nothing."


@pytest.mark.parametrize(
    ("said", "why"), [({"harness": ["no server"]}, "harness failed"), ({"mutant": "no-guard"}, "deliberate bug")]
)
def test_void(said: dict[str, Any], why: str) -> None:
    """Figures are refused of a harness that failed and of a mutant: neither proves anything."""
    with pytest.raises(ValueError, match=why):
        report.merge([{**_summary(), **said}])


def test_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of some runs are written into the document, and a table that is touched later is noticed."""
    (tmp_path / "reliability.md").write_text(_DOCUMENT)
    fuzz = {"kind": "fuzz", "targets": {"a_key": 5000}, "crashes": 0}
    kinds = {"first_mb": 8.0, "last_mb": 8.25, "first_descriptors": 7, "last_descriptors": 7}
    soak = {"kind": "soak", "backend": "redis", "seconds": 3600.0, "renewals": 9000, "wrapper": kinds, "guard": kinds}
    mutant: dict[str, Any] = {"kind": "mutant", "name": "a", "what": "no guard", "backend": "redis"}
    mutant.update(faults="kill-wrapper", seed=4, caught=True, found={"overlap": 2})
    score = {"kind": "score", "files": {"lease/rules.py": {"changes": 40, "noticed": 39, "excluded": 2}}}
    assert report.main(_files(tmp_path, _summary(), fuzz, soak, mutant, score), tmp_path) == 0
    text = (tmp_path / "reliability.md").read_text()
    assert "| keys | 5,000 |" in text
    assert "| 9,000 | 8.00 to 8.25 MB |" in text
    assert ["no guard", words.BACKENDS["redis"], "wrapper killed", "4", "yes", "2 overlaps"] in _rows(text)
    assert "| `lease/rules.py` | 40 | 39 | 97.5 % | 2 |" in text
    assert "About totals.\n" in text
    assert "stale figures" not in text
    assert report.main(["--check"], tmp_path) == 0
    (tmp_path / "reliability.md").write_text(text.replace("5,000", "6,000"))
    assert report.main(["--check"], tmp_path) == 1
    assert "reliability.md" in capsys.readouterr().out


def test_added(tmp_path: Path) -> None:
    """More runs of a backend are summed up with those that stand there, and others stay as they are."""
    (tmp_path / "reliability.md").write_text(_DOCUMENT)
    summaries = [_summary(seed=1), _summary(seed=2, apart=True), _summary(backend="file"), _summary(backend="etcd")]
    files = _files(tmp_path, *summaries)
    assert report.main(files[:3:2], tmp_path) == 0
    assert report.main(["--add", *files[1::2]], tmp_path) == 0
    figures = json.loads((tmp_path / "reliability.json").read_text())
    assert figures == json.loads(json.dumps(report.merge(summaries)))
    assert report.main(["--check"], tmp_path) == 0


def test_newer_scores() -> None:
    """A file that is tried again replaces its figures, and the others stay."""
    one, other, newer = (
        report.merge([{"kind": "score", "files": {file: {"changes": 10, "noticed": noticed, "excluded": 0}}}])
        for file, noticed in (("a.py", 8), ("b.py", 9), ("a.py", 10))
    )
    (*files, total) = _rows(report.tables(report.added(report.added(one, other), newer))["score"])[2:]
    assert [row[1:3] for row in files] == [["10", "10"], ["10", "9"]]
    assert total[1:4] == ["20", "19", "95.0 %"]


def test_a_place_is_missing() -> None:
    """A document that lost one of its places is an error, not a document without the table."""
    with pytest.raises(LookupError, match="places"):
        report.fill("<!-- totals -->\n<!-- /totals -->\n", report.tables(report.merge([])))


def test_everything_has_words() -> None:
    """Every fault and every system is called something that people understand."""
    assert {*FAULTS, KILL_ANYTIME, check.NO_FAULT, "busy"} == {*words.FAULTS}
    assert {*SYSTEMS} == {*words.BACKENDS}


def test_the_document_is_up_to_date() -> None:
    """docs/reliability.md has the tables of docs/reliability.json."""
    assert report.main(["--check"]) == 0
