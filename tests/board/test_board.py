"""The board without a browser: a whole page, from nowhere else, on which what others wrote is text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from cronlock import cli
from cronlock.commands import board
from cronlock.commands.views.table import printable
from cronlock.lease.vocabulary import Record

from . import fleet

_VOID = {"br", "meta", "rect"}
_IMPLIED = {"tr", "td", "th"}


class _Page(HTMLParser):
    """What is on a page; complains where an element is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID | _IMPLIED:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """See that it is the one that is open."""
        if tag not in _IMPLIED | {"rect"}:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take note of text."""
        self.texts.append(data)


def test_what_others_wrote_is_text() -> None:
    """No element, attribute or comment comes of a name, a host, a program or a reason."""
    careless, clean = _Page(fleet.page(20)), _Page(fleet.page(0))
    assert not careless.elements & {"script", "img", "a", "link", "iframe", "form", "b"}
    assert not {name for name in careless.attributes if name.startswith("on")} | careless.attributes & {"src", "href"}
    assert set(clean.elements) <= set(careless.elements)
    for name in fleet.HOSTILE:
        assert printable(name) in careless.texts
    assert "\x1b" not in fleet.page(20)
    assert "\u202e" not in fleet.page(20)


def test_all_of_a_fleet_is_on_it() -> None:
    """200 keys, 4,000 runs: each with its bar and its line in a table, the counts above, the doctor's word below."""
    page = fleet.page(200)
    assert page.count("<tr><td>") == 4000
    assert page.count("<h3") == 200
    assert '<li class="lapsed">23 lapsed</li>' in page
    assert "paused by alice on desk until it is resumed: the migration of tonight" in page
    assert "late: limit 20m00s" in page
    assert page.index("12 s ahead of the server") < page.index("snapshots only") < page.index("redis.internal:6379")
    assert "A frame marks a takeover" in page
    assert len(page) < 2_000_000


def test_runs_that_overlap_are_marked() -> None:
    """Two runs of one key at once have a frame, and say so."""
    key, record = fleet.records(11)[10]
    older, newer = record.history[1], record.history[0]
    long = older.but(ended_at=newer.started_at + 60, outcome="exited", status=0)
    page = board.draw([(key, Record(history=[newer, long]))], [], [], "redis://h", fleet.NOW, 6 * 3600.0)
    assert page.count("overlaps the next run") == 1


def test_a_run_that_outlasts_the_next_tick_is_marked() -> None:
    """A run that took longer than what usually lies between two ticks has a frame, and says so; other runs not."""
    run = fleet.records(11)[10][1].history[0].but(stands_for=None, outcome="exited", status=0)
    starts = (0.0, 300.0, 600.0, 1200.0, 1500.0, 1800.0)
    runs = [
        run.but(
            owner=str(at), started_at=fleet.NOW - 3600 + at, ended_at=fleet.NOW - 3600 + at + (400 if at == 600 else 60)
        )
        for at in reversed(starts)
    ]
    page = board.draw([("k", Record(history=runs))], [], [], "redis://h", fleet.NOW, 6 * 3600.0)
    assert page.count("longer than the usual 5m00s between two ticks: one came meanwhile") == 1
    page = board.draw([("k", Record(history=runs[:4]))], [], [], "redis://h", fleet.NOW, 6 * 3600.0)
    assert "one came meanwhile" not in page


def test_attempts_of_a_tick_are_numbered() -> None:
    """Each says which of how many it was."""
    key, record = fleet.records(11)[10]
    first, second = record.history[1].but(stands_for=None), record.history[0]
    second = second.but(owner="other", stands_for=first.owner, outcome="exited", status=0)
    page = board.draw([(key, Record(history=[second, first]))], [], [], "redis://h", fleet.NOW, 6 * 3600.0)
    assert "exited with status 0 (attempt 2 of 2)" in page
    assert "(attempt 1 of 2)" in page


@pytest.mark.parametrize(
    "words", [["--since", "0"], ["--max-age", "x=never"], ["--max-age", "=5"], ["--output", "/nowhere/at/all"]]
)
def test_what_cannot_be_drawn(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 64, and no file."""
    page = tmp_path / "board.html"
    backend = ["--backend", f"file://{tmp_path}/leases", "--state-dir", str(tmp_path)]
    assert cli.main(["board", "--output", str(page), "--no-doctor", *backend, *words]) == 64
    assert capsys.readouterr().err.startswith(f"cronlock: {words[0]}: ")
    assert not page.exists()


def test_drawn_from_the_backend(tmp_path: Path) -> None:
    """The file is replaced by the page of what is there, the doctor's word included, and nothing else is left."""
    page = tmp_path / "board.html"
    page.write_text("old")
    backend = ["--backend", f"file://{tmp_path}/leases", "--state-dir", str(tmp_path / "state")]
    assert cli.main(["pause", "billing", "--reason", "<b>tonight</b>", *backend]) == 0
    assert cli.main(["board", "--output", str(page), *backend]) == 0
    text = page.read_text()
    assert ">billing</h3>" in text
    assert "&lt;b&gt;tonight&lt;/b&gt;" in text
    assert "acquired, renewed and released one" in text
    assert {one.name for one in tmp_path.iterdir()} <= {"board.html", "leases", "state"}


def test_the_watch_goes_on_without_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page stays as it was while the backend is away, with a line about it, and is drawn again afterwards."""
    page, leases, away = tmp_path / "board.html", tmp_path / "leases", tmp_path / "away"
    backend = ["--backend", f"file://{leases}", "--state-dir", str(tmp_path / "state")]
    assert cli.main(["pause", "billing", *backend]) == 0
    pages = []

    def pause(seconds: float) -> None:
        """Let happen what happens between two pages."""
        assert seconds > 0
        pages.append(page.read_text())
        page.write_text("seen")
        if len(pages) == 1:
            leases.rename(away)
            leases.touch()
        elif len(pages) == 2:
            leases.unlink()
            away.rename(leases)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    assert cli.main(["board", "--output", str(page), "--watch", "--no-doctor", *backend]) == 130
    assert [">billing</h3>" in text for text in pages] == [True, False, True]
    assert pages[1] == "seen"
    assert f"{page} not updated" in capsys.readouterr().err
