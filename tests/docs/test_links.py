"""Links and pictures exist, and cronlock accepts the URLs of backends."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from cronlock.engines.registry import open_backend
from labs.installation import ROOT

from .markdown import DOCUMENTS, anchors, links

_SCHEMES = (
    "file",
    "redis",
    "rediss",
    "redis\\+unix",
    "redis\\+sentinel",
    "redis\\+cluster",
    "memcacheds?",
    "zookeepers?",
    "etcds?",
    "dynamodb",
    "s3",
    "sqs",
    "postgres(?:ql)?",
    "mysql",
    "mariadb",
)
_URL = re.compile(rf"(?<![\w+])(?:{'|'.join(_SCHEMES)})://[^\s`'\"|)<]+")
_RECIPES = sorted((ROOT / "docs/recipes").iterdir())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link names a file of the checkout, and a heading in it if it has a fragment."""
    for link in links(document):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (document.parent / parts.path).resolve() if parts.path else document
        assert target.is_relative_to(ROOT), link
        assert target.exists(), f"{document.name}: {link}"
        assert not parts.fragment or parts.fragment in anchors(target), f"{document.name}: {link}"


def test_each_document_is_reachable() -> None:
    """Links lead from the README to every document and every recipe."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.suffix == ".md":
            waiting += [
                (page.parent / urlsplit(link).path).resolve() for link in links(page) if not urlsplit(link).scheme
            ]
    assert set(DOCUMENTS) <= seen
    assert set(_RECIPES) <= seen


@pytest.mark.parametrize("document", [*DOCUMENTS, *_RECIPES], ids=lambda path: path.name)
def test_urls_of_backends(document: Path) -> None:
    """cronlock accepts each complete URL of a backend, and does not connect when it opens it."""
    for url in _URL.findall(document.read_text()):
        if not re.search(r"\[|\.\.\.|\$|[A-Z]{4}", url) and not url.endswith("://") and "?" not in url[-1:]:
            open_backend(url, 1).close()


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_pictures(picture: Path) -> None:
    """Each picture is well-formed, and readable on a dark background."""
    root = ElementTree.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = picture.read_text()
    assert "prefers-color-scheme: dark" in text or "<rect" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_pictures_say_what_they_show(document: Path) -> None:
    """Each picture in a document has a text for those who cannot see it."""
    text = document.read_text()
    assert all(len(alt) > 10 for alt in re.findall(r"!\[([^\]]*)\]", text))
    assert all(re.search(r'alt="[^"]{10,}"', image, re.S) for image in re.findall(r"<img [^>]*>", text, re.S))
