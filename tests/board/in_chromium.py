"""The board as Chromium shows it: nothing that others wrote runs or breaks it, and everybody can read it.

Not among the tests of `make test`, since Chromium is large: `make board-test`.
"""

from __future__ import annotations

import html
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cronlock.commands.views.table import printable
from labs.servers.process import need

from . import fleet

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
#: Headless windows are no narrower, and have the layout of a phone already.
_NARROWEST = 500
#: Reads the page with all of it opened, and writes what it found where the page's text is dumped.
_LOOK = """
document.documentElement.style.maxWidth = 'WIDTHpx';
for (const one of document.querySelectorAll('details')) one.querySelector('summary').click();
const focusable = [...document.querySelectorAll('summary, [tabindex]')];
const found = {
  title: document.title,
  names: [...document.querySelectorAll('h3')].map(one => one.textContent),
  elements: [...new Set([...document.body.querySelectorAll('*')].map(one => one.localName))],
  handlers: [...document.querySelectorAll('*')].filter(one => [...one.attributes].some(
    attribute => attribute.name.startsWith('on') || ['src', 'href'].includes(attribute.name))).length,
  width: document.body.scrollWidth,
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  opened: document.querySelectorAll('details[open] table').length,
  unreachable: focusable.filter(one => { one.focus(); return document.activeElement !== one; }).length,
  hidden: focusable.filter(one => getComputedStyle(one).outlineStyle === 'hidden').length,
};
axe.run().then(result => {
  found.violations = result.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html)]);
  found.passes = result.passes.map(one => one.id);
  const shown = document.createElement('pre');
  shown.id = 'found';
  shown.textContent = JSON.stringify(found);
  document.body.append(shown);
});
"""


def look(tmp_path: Path, page: str, *, width: int, dark: bool) -> dict[str, Any]:
    """Return what Chromium finds on the page, whose policy is taken off: escaping alone must do."""
    page, count = re.subn(r"<meta http-equiv=[^>]*>", "", page, count=1)
    assert count == 1
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None, "run `make board-test`, which brings axe"
    assert spec.submodule_search_locations is not None
    axe = Path(spec.submodule_search_locations[0]) / "axe.min.js"
    scripts = f'<script src="file://{axe}"></script><script>{_LOOK.replace("WIDTH", str(width))}</script>'
    path = tmp_path / "board.html"
    path.write_text(page.replace("</body>", f"{scripts}</body>"))
    words = [
        *_FLAGS,
        f"--user-data-dir={tmp_path}/profile",
        f"--window-size={max(width, _NARROWEST)},900",
        "--virtual-time-budget=60000",
    ]
    if dark:
        words.append("--blink-settings=preferredColorScheme=0")
    command = [need("chromium", "chromium"), *words, "--dump-dom", f"file://{path}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    text = re.search(r'<pre id="found">(.*?)</pre>', shown, re.S)
    assert text is not None, shown[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(text[1]))
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_everybody_can_read_it(tmp_path: Path, width: int, dark: bool) -> None:
    """With hostile names on it: as they are, in its layout, with contrast, by keyboard, on a desk and on a phone."""
    found = look(tmp_path, fleet.page(18), width=width, dark=dark)
    assert (found["title"], found["dark"]) == ("cronlock: redis://redis.internal", dark)
    # What a browser makes of runs of spaces is its own.
    names = {" ".join(name.split()) for name in found["names"]}
    assert names >= {" ".join(printable(name).split()) for name in fleet.HOSTILE}
    assert found["handlers"] == 1, "the script of the test"
    assert not {"img", "iframe", "object", "a", "form", "link", "style"} & set(found["elements"])
    assert found["width"] <= width, "it is wider than the screen"
    assert found["opened"] == 18
    assert found["unreachable"] == 0
    assert found["violations"] == []
    assert {"color-contrast", "document-title", "html-has-lang"} <= set(found["passes"])


def test_what_runs_would_be_found(tmp_path: Path) -> None:
    """The tests catch mutants: a name that is not escaped, and text that nobody can read, are noticed."""
    page = fleet.page(3).replace(html.escape(fleet.HOSTILE[0], quote=True), fleet.HOSTILE[0])
    found = look(tmp_path, page.replace("--soft:#566074", "--soft:#d0d4dc"), width=1280, dark=False)
    assert found["title"] == "HACKED"
    assert "color-contrast" in {name for name, _ in found["violations"]}
