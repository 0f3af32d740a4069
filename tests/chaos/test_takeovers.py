"""Which step of a takeover took how long, and the tables and the plot of that."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from chaos import words
from chaos.takeovers import plot, report
from chaos.takeovers.deaths import STEPS, Request, requests, steps
from chaos.takeovers.traced import FAILED, GRANTED, REFUSED
from cronlock.lease.vocabulary import HELD
from labs.scene import TTL

_SVG = "{http://www.w3.org/2000/svg}"


def _asked(host: str, sent: float, answer: str, left: float = 0.0, what: str = "acquire") -> Request:
    return Request(host, what, sent, sent + 0.1, answer, left)


def test_steps_add_up() -> None:
    """The lease counts from the last request that was granted; each step begins where the one before it ended."""
    told = [
        _asked("a", 100.0, GRANTED),
        _asked("b", 100.1, HELD, 5.9),
        _asked("a", 102.0, GRANTED, what="renew"),
        # Dies at 103, so that its lease is over at 108.
        _asked("c", 106.0, HELD, 2.0),
        _asked("b", 108.5, HELD, 1.5),
        _asked("c", 109.0, FAILED),
        _asked("b", 110.0, GRANTED),
    ]
    took = steps(told, "a", "b", 103.0, 110.4)
    assert took == pytest.approx(
        {"lease": 5.0, "asking": 0.5, "kept": 1.5, "failed": 0.0, "grant": 0.1, "start": 0.3}, abs=1e-6
    )
    assert list(took) == list(STEPS)


def test_a_renewal_without_an_answer_counts() -> None:
    """The dead run may have renewed with its last request; what it was refused, it did not."""
    told = [
        _asked("a", 100.0, GRANTED),
        Request("a", "renew", 102.0, None, FAILED, 0.0),
        _asked("a", 102.5, REFUSED, what="renew"),
        _asked("b", 108.2, GRANTED),
    ]
    took = steps(told, "a", "b", 103.0, 108.3)
    assert took["lease"] == pytest.approx(102.0 + TTL - 103.0)
    assert took["asking"] == pytest.approx(0.2)
    assert (took["kept"], took["failed"]) == (0.0, 0.0)


def test_no_answer_is_told_from_a_refusal() -> None:
    """A standby whose request failed comes late for another reason than one whose request was refused."""
    told = [_asked("a", 100.0, GRANTED), _asked("b", 106.2, FAILED), _asked("b", 107.0, GRANTED)]
    took = steps(told, "a", "b", 101.0, 107.1)
    assert took["failed"] == pytest.approx(0.8)
    assert took["kept"] == 0.0


def test_requests_of_a_trace(tmp_path: Path) -> None:
    """A line for the sending and one for the answer, which a dead run does not live to write."""
    file = tmp_path / "trace"
    lines: list[dict[str, Any]] = [
        {"host": "a", "pid": 7, "number": 1, "at": 5.0, "what": "acquire"},
        {"host": "b", "pid": 7, "number": 1, "at": 5.2, "what": "acquire"},
        {"host": "b", "pid": 7, "number": 1, "at": 5.3, "answer": HELD, "left": 5.8},
        {"host": "a", "pid": 7, "number": 1, "at": 5.4, "answer": GRANTED, "left": 0.0},
        {"host": "a", "pid": 7, "number": 2, "at": 7.0, "what": "renew"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(requests(file)) == [
        Request("a", "acquire", 5.0, 5.4, GRANTED, 0.0),
        Request("b", "acquire", 5.2, 5.3, HELD, 5.8),
        Request("a", "renew", 7.0, None, FAILED, 0.0),
    ]


def _summary(backend: str, *delays: float | None) -> dict[str, Any]:
    took = dict.fromkeys(STEPS, 0.0)
    return {
        "kind": "takeovers",
        "backend": backend,
        "seed": 1,
        "nodes": 10,
        "ttl": 6,
        "job": 3.0,
        "processors": 2,
        "load": 0.5,
        "deaths": [
            {"delay": delay, "done": 1, "unrecorded": False, "steps": {} if delay is None else {**took, "lease": delay}}
            for delay in delays
        ],
    }


def test_tables() -> None:
    """Of each backend the distribution, and one by one what came late; what the engine explains is told apart."""
    text = report.tables([_summary("redis", *([5.0] * 48), 5.5, None), _summary("etcd", 5.0, 8.5, 9.5, 11.5)])
    rows = {line.split(" | ")[0]: line for line in text.split("\n") if line.startswith("| ")}
    assert f"| {words.BACKENDS['redis'].partition(',')[0]} | 50 | 49 | 0 | 0 | 5.00 | 5.50 | 5.50 | 0 |  | 0 |" in text
    assert "| etcd | 4 | 4 | 0 | 0 | 8.50 | 11.50 | 11.50 | 3 | up to 3 s | 1 |" in text
    assert rows["| etcd"].startswith("| etcd | 8.50 | 8.50 |"), "the earliest of those listed is the last row"
    assert report.tables([]) == "Not run yet."


def test_done_twice_is_shown() -> None:
    """A job that two did, or nobody, is in the table."""
    summary = _summary("redis", 5.0, 5.0, 5.0)
    summary["deaths"][0]["done"], summary["deaths"][1]["done"] = 2, 0
    assert "| Redis | 3 | 3 | 1 | 1 |" in report.tables([summary])
    summary["deaths"][0]["unrecorded"] = True
    assert "| Redis | 3 | 3 | 0 | 1 |" in report.tables([summary])


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)])
def test_quantiles(share: float, value: float) -> None:
    """The least value that so many do not exceed."""
    assert report.quantile([float(number) for number in range(1, 101)], share) == value


def test_plot() -> None:
    """A dot for each takeover, further right the later it came, and both limits."""
    picture = ElementTree.fromstring(plot.svg([_summary("redis", 4.0, 5.0, None), _summary("etcd", 8.0)]))
    dots = [float(dot.attrib["cx"]) for dot in picture.iter(f"{_SVG}circle")]
    assert len(dots) == 3
    assert dots == sorted(dots)
    lines = {line.attrib["class"]: float(line.attrib["x1"]) for line in picture.iter(f"{_SVG}line")}
    assert dots[1] < lines["ttl"] < dots[2] == pytest.approx(lines["limit"])
