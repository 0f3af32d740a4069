"""The picture of a history."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos import timeline
from chaos.check import check
from chaos.history import gather
from chaos.made import Made

_NAME = "{http://www.w3.org/2000/svg}"


def _draw(made: Made, begin: float | None = None, end: float | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(timeline.svg(check(gather(made.events)), begin, end))


def _rects(picture: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    """Return the bars of a kind, without the samples of the legend, which have no title."""
    found = [rect for rect in picture.iter(f"{_NAME}rect") if rect.get("class") == kind]
    return [rect for rect in found if rect.find(f"{_NAME}title") is not None]


def _place(rect: ElementTree.Element) -> tuple[float, float, float]:
    """Return left, right and middle of a bar."""
    left, top, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
    return left, left + width, top + height / 2


def _failover() -> Made:
    made = Made()
    run = made.begun(1, "a", "t<1>&")
    made.beat(3.9, run)
    made.fault(4, 4, "kill wrapper", run=run, process="wrapper", signal=9, nodes=["a"])
    made.exit(4, run, -9)
    made.skip(5, "b")
    made.run(14.5, 18, "b", "t2")
    cut = made.begun(30, "a")
    made.fault(31, 45, "cut off", nodes=["a"], impairs=["a"])
    made.exit(40, cut, 75)
    made.fault(50, 52, "kill the server <hard>", impairs=["*"])
    unanswered = made.spawn(50.5, "b")
    made.exit(51.5, unanswered, 69)
    return made


def test_bars_by_ending() -> None:
    """Each run is a bar on its node's row, of the kind that says how it ended, in the order of time."""
    picture = _draw(_failover())
    (killed,), (done,), (lost,) = (_rects(picture, kind) for kind in ("killed", "done", "lost"))
    assert _place(killed)[1] < _place(done)[0] < _place(done)[1] < _place(lost)[0]
    assert _place(killed)[2] == _place(lost)[2] != _place(done)[2]


def test_faults() -> None:
    """A server's fault shades all rows, a node's its own row; a kill is a cross, named."""
    picture = _draw(_failover())
    (server,), (node,) = _rects(picture, "server"), _rects(picture, "node")
    assert float(server.get("height", "0")) == 2 * float(node.get("height", "0"))
    texts = [text.text for text in picture.iter(f"{_NAME}text")]
    assert {"kill wrapper", "cut off: it", "kill the server <hard>: it"} <= set(texts)
    assert any(path.get("class") == "hit" for path in picture.iter(f"{_NAME}path"))


@pytest.mark.parametrize(("grants", "kind"), [([], "overlap"), ([{"finding": "overlap", "within": None}], "apart")])
def test_overlaps(grants: list[object], kind: str) -> None:
    """Overlaps are red in both rows, for as long as they lasted; paler if they are counted apart."""
    made = Made()
    made.fault(0.5, 0.6, "flush", grants=grants)
    made.run(0, 6, "a", hold=0.0)
    made.run(3, 8, "b", hold=0.0)
    picture = _draw(made)
    one, other = _rects(picture, kind)
    assert _place(one)[:2] == _place(other)[:2]
    assert _place(one)[2] != _place(other)[2]
    (first, second) = _rects(picture, "done")
    assert _place(one)[:2] == pytest.approx((_place(second)[0], _place(first)[1]), abs=0.2)


def test_keys_share_lanes() -> None:
    """Keys that are used one after the other share a lane, those of the same time do not."""
    made = Made()
    made.run(0, 30, "a", key="long")
    for begin in (0, 10, 20):
        made.run(begin, begin + 4, "a", key=f"once{begin}")
    picture = _draw(made)
    places = [_place(rect) for rect in _rects(picture, "done")]
    (long,) = [place for place in places if place[1] - place[0] > 400]
    others = {place[2] for place in places if place is not long}
    assert len(others) == 1
    assert long[2] not in others
    texts = [text.text for text in picture.iter(f"{_NAME}text")]
    assert texts.count("long") == texts.count("once0 ...") == 2  # A label on each node's row.


def test_a_part() -> None:
    """A part of a history shows what happened in it, cut off at its borders."""
    picture = _draw(_failover(), 3, 20)
    assert len(_rects(picture, "killed")) == len(_rects(picture, "done")) == 1
    assert not _rects(picture, "lost")
    marks = [
        text.text
        for text in picture.iter(f"{_NAME}text")
        if (text.text or "").endswith(" s") and (text.text or "")[0].isdigit()
    ]
    assert marks[0] == "4 s"
    assert marks[-1] == "20 s"


def test_empty() -> None:
    """Even a history without anything has a picture."""
    assert _draw(Made()).tag == f"{_NAME}svg"


def test_main(tmp_path: Path) -> None:
    """The program reads a history and writes the picture."""
    import json

    source, target = tmp_path / "history", tmp_path / "picture.svg"
    source.write_text("".join(json.dumps(event) + "\n" for event in _failover().events))
    assert timeline.main([str(source), str(target), "0", "60"]) == 0
    assert ElementTree.parse(target).getroot().tag == f"{_NAME}svg"
