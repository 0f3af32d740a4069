"""The table of remarks in docs/crontab.md is complete, and its examples give their remarks."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from cronlock.crontab.checking import check
from cronlock.crontab.dialects import CRON, DIALECTS, Dialect
from cronlock.crontab.lines import Remark, parse
from cronlock.crontab.wrapping import Options, wrap
from labs.installation import ROOT
from tests.crontab.examples import BASH_LINES, LINES
from tests.crontab.test_checking import BAD, GOOD
from tests.crontab.test_corpus import _CASES as CASES
from tests.crontab.test_lines import READABLE

# In front of each example, so that it is never the only line.
_FIRST = "@daily cronlock run --key first --min-hold 1h -- first\n"
_SYSTEM_FIRST = _FIRST.replace("@daily", "@daily root")
_FROM = {"␍": "\r", "␀": "\0", "\\|": "|", "…": "x" * 990, "(BOM)": "\ufeff"}


class _Row(NamedTuple):
    remark: str
    example: str
    system: bool
    dialect: Dialect

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self.remark.split("..."))))


def _rows() -> list[_Row]:
    page = (ROOT / "docs" / "crontab.md").read_text()
    rows = []
    for line in page.partition("\n## What `wrap` and `wrap --check` say\n")[2].splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) == 5 and cells[1].strip() not in ("remark", "---"):
            rows.append(_row(cells[1].strip(), cells[2].strip()))
    return rows


def _row(remark: str, example: str) -> _Row:
    text = "\n".join("".join(re.findall("`([^`]*)`", part)) for part in example.split("<br>"))
    for written, meant in _FROM.items():
        text = text.replace(written, meant)
    before = example.partition("`")[0].strip(" :")
    system = before == "a system crontab"
    first = _SYSTEM_FIRST if system else _FIRST
    ending = "" if "without a newline" in example else "\n"
    return _Row(remark.strip("`"), f"{first}{text}{ending}", system, DIALECTS.get(before, CRON))


ROWS = _rows()


def _both(text: str, dialect: Dialect = CRON, *, system: bool = False) -> tuple[list[Remark], list[Remark]]:
    """Return the remarks of wrap and of --check on `text`."""
    crontab = parse(text, "tab", system=system, dialect=dialect)
    options = Options(prefix="tab")
    return wrap(crontab, options).remarks, check(crontab, options)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.remark)
def test_example_gives_its_remark(row: _Row) -> None:
    """The example gives its remark, and otherwise only that it is not wrapped."""
    wrapped, checked = _both(row.example, row.dialect, system=row.system)
    found = {remark.text for remark in wrapped + checked}
    assert any(row.pattern.search(text) for text in found), found
    others = [text for text in found if not row.pattern.search(text) and "not wrapped: every machine" not in text]
    assert others == []


_TEXTS = [
    *((text, False) for text in (*GOOD, *(line for line, _ in (*BAD, *READABLE)), LINES, BASH_LINES)),
    *(("\n".join(case.lines), case.is_system) for case in CASES),
    *((row.example, row.system) for row in ROWS if row.dialect is CRON),
]


def test_table_is_complete() -> None:
    """Every remark in these tests is in the table, and --check has each remark of wrap."""
    assert len(ROWS) > 40
    for text, system in _TEXTS:
        for whole in (f"{text}\n", text):
            wrapped, checked = _both((_SYSTEM_FIRST if system else _FIRST) + whole, system=system)
            for remark in wrapped + checked:
                assert any(row.pattern.search(remark.text) for row in ROWS), (text, remark.text)
            for remark in wrapped:
                reason = remark.text.replace("left as it is: ", "")
                if not reason.startswith("@reboot fires on each machine"):
                    assert any(other.number == remark.number and reason in other.text for other in checked), remark
