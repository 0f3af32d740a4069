"""Hooks of MkDocs (`mkdocs.yml`): they mend links that lead out of docs/, and add the manual pages.

README.md becomes the first page. A manual page is what mandoc makes of it. A file of the checkout that a page links to
becomes a page, too, so that no link leads out of the site.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
MANUALS = sorted((ROOT / "man").glob("*.[1-8]"))
#: The page of each document in the checkout's root, and the folder for other files.
_MOVED = {page.name: page.name.lower() for page in ROOT.glob("*.md")} | {"README.md": "index.md"}
_SOURCES = "source"
_ASSETS = Path(__file__).parent / "assets"

_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(?P<before>\]\(|(?:src|href)=\")(?P<target>[^)\"\s#:]+)(?P<anchor>#[^)\"\s]*)?(?P<after>\)|\")")
_CITATION = re.compile(r"(?<![\w\[(])(?P<name>cronlock(?:\.conf|-backends)?)\((?P<section>[157])\)")
_HEADING = re.compile(r'<h(?P<level>[12]) class="S[hs]" id="(?P<id>[^"]+)">.*?</h(?P=level)>', re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md and its like, the manual pages, the assets, and the files that pages link to."""
    from mkdocs.structure.files import File

    for name, page in _MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    for manual in MANUALS:
        files.append(File.generated(config, f"man/{manual.name}.md", content=f"# {_title(manual)}\n"))
    for asset in sorted(_ASSETS.iterdir()):
        files.append(File.generated(config, f"assets/{asset.name}", abs_src_path=str(asset)))
    for source in sorted(_sources()):
        text = (ROOT / source).read_text()
        meta = "---\nhide: [toc]\nsearch: {exclude: true}\n---\n"
        content = f"{meta}# {source}\n\n````{_language(source)}\n{text}````\n"
        files.append(File.generated(config, f"{_SOURCES}/{source}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links to their targets' pages, and citations of the manual to its pages."""
    here = page.file.src_uri
    if here.startswith((f"{_SOURCES}/", "man/")):
        return markdown
    folder = "" if here in _MOVED.values() else "docs"

    def linked(text: str) -> str:
        text = _LINK.sub(lambda link: _relinked(link, folder, here), text)
        return _CITATION.sub(lambda cited: f"[{cited[0]}](man/{cited['name']}.{cited['section']}.md)", text)

    return _outside(_FENCE, markdown, lambda prose: _outside(_CODE, prose, linked))


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Insert the manual page below its heading, and its sections into the table of contents."""
    if not page.file.src_uri.startswith("man/"):
        return html
    from mkdocs.structure.toc import AnchorLink, TableOfContents

    manual = manual_html(ROOT / "man" / page.file.name)
    title = page.toc.items[0] if page.toc else AnchorLink(page.file.name, page.file.name, 1)
    for heading in _HEADING.finditer(manual):
        entry = AnchorLink(_text(heading[0]), heading["id"], int(heading["level"]) + 1)
        (title if entry.level == 2 or not title.children else title.children[-1]).children.append(entry)
    page.toc = TableOfContents([title])
    return html + _lowered(manual)


def manual_html(manual: Path) -> str:
    """Return mandoc's HTML of a manual page, with links to the other pages."""
    command = ["mandoc", "-T", "html", "-O", "fragment,man=%N.%S.html", str(manual)]
    html = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours = {f"{page.name}.html" for page in MANUALS}
    # The site has no manual pages of other programs.
    link = re.compile(r'<a class="Xr" href="([^"]+)">(.*?)</a>', re.DOTALL)
    return link.sub(lambda found: found[0] if found[1] in ours else found[2], html)


def _lowered(html: str) -> str:
    """Return a manual page with its headings one level below the page's title."""
    return re.sub(r"(</?h)([12])(?=[ >])", lambda tag: f"{tag[1]}{int(tag[2]) + 1}", html)


def _title(manual: Path) -> str:
    return f"{manual.stem}({manual.suffix[1:]})"


def _text(html: str) -> str:
    return " ".join(_TAG.sub("", html).split())


def _outside(pattern: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Return `text` with `change` applied to everything that `pattern` does not match."""
    parts, end = list[str](), 0
    for found in pattern.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def _relinked(link: re.Match[str], folder: str, here: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, link["target"]))
    target = _place(path)
    relative = posixpath.relpath(target, posixpath.dirname(here) or ".")
    return f"{link['before']}{relative}{link['anchor'] or ''}{link['after']}"


def _place(path: str) -> str:
    """Return the page of a file of the checkout."""
    if path in _MOVED:
        return _MOVED[path]
    inside = path.startswith("docs/")
    return path[len("docs/") :] if inside else f"{_SOURCES}/{path}.md"


def _sources() -> set[str]:
    """Return the files outside of docs/ that pages link to."""
    found = set()
    for page in [*(ROOT / name for name in _MOVED), *(ROOT / "docs").glob("*.md")]:
        for link in _LINK.finditer(_CODE.sub("", _FENCE.sub("", page.read_text()))):
            path = (page.parent / link["target"]).resolve()
            if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs"):
                found.add(str(path.relative_to(ROOT)))
    return found - {*_MOVED}


def _language(source: str) -> str:
    return {".py": "python", ".sh": "sh"}.get(posixpath.splitext(source)[1], "text")
