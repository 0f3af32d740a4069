"""Fail if the built site has a link that leads nowhere, or loads something from elsewhere.

python tools/site/check.py DIRECTORY
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes that the reader follows by a click, and those that the browser loads at once.
_CLICKED, _LOADED = {("a", "href")}, {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src")}
_POINTERS = {"canonical", "next", "prev"}


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the tag's link and its anchor."""
        values = dict(attrs)
        for name in ("id", "name") if tag == "a" else ("id",):
            self.anchors.add(values.get(name) or "")
        for name, value in attrs:
            if value and (tag, name) in _CLICKED | _LOADED and values.get("rel") not in _POINTERS:
                self.links.append((value, (tag, name) in _LOADED))


def problems(site: Path) -> list[str]:
    """Return the problems of the site's links."""
    pages = {path.resolve(): _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        # The error page is served at any address, so its links are absolute.
        if path.name == "404.html":
            continue
        for link, loaded in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if loaded and parts.scheme != "data":
                    found.append(f"{path.relative_to(site.resolve())}: loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{path.relative_to(site.resolve())}: {link}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{path.relative_to(site.resolve())}: {link}: no such anchor")
    return found


def main(arguments: list[str]) -> int:
    """Print the problems, and return the exit status."""
    site = Path(arguments[0])
    found = problems(site)
    print("\n".join(found) or f"{site}: every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
