"""The licences of a package: cronlock's own and those of the dependencies in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import source
import vendor

_LICENCE = re.compile(r"\.dist-info/(licenses/)?(LICEN[CS]E|COPYING)[^/]*$")
# Each licence, by words that no other has.
_KNOWN = (
    ("Apache License Version 2.0", "Apache-2.0"),
    ("Licensed under the Apache License, Version 2.0", "Apache-2.0"),
    ("3. Neither the name of the", "BSD-3-Clause"),
    ("Permission is hereby granted, free of charge", "MIT"),
    ("PYTHON SOFTWARE FOUNDATION LICENSE", "PSF-2.0"),
)
_APACHE = "/usr/share/common-licenses/Apache-2.0"


def names() -> list[str]:
    """Return the SPDX identifiers of all licences. Raise SystemExit if one is unknown."""
    texts = [(source.ROOT / "LICENSE").read_text(), *(text for _, text in _texts())]
    return sorted({_identifier(text) for text in texts})


def copyright_file() -> bytes:
    """Return the content of Debian's `copyright` file."""
    own = (source.ROOT / "LICENSE").read_text()
    parts = [f"cronlock {source.version()}\n\n{own}"]
    parts += [f"{pin.name} {pin.version}, in /usr/lib/cronlock\n\n{_shorten(pin.name, text)}" for pin, text in _texts()]
    return f"\n{'-' * 72}\n\n".join(parts).encode()


def _texts() -> Iterator[tuple[vendor.Pin, str]]:
    modules = vendor.modules()
    for pin in vendor.pins():
        start = f"{re.sub(r'[-_.]+', '_', pin.name)}-{pin.version}.dist-info/"
        texts = [data.decode() for name, data in modules.items() if name.startswith(start) and _LICENCE.search(name)]
        if not texts:
            raise SystemExit(f"{pin.name} {pin.version} comes without the text of its licence")
        for text in texts:
            yield pin, text


def _identifier(text: str) -> str:
    for words, identifier in _KNOWN:
        if words in " ".join(text.split()):
            return identifier
    raise SystemExit(f"packaging/licences.py does not know this licence:\n{text}")


def _shorten(name: str, text: str) -> str:
    """Return the licence, or a reference to Debian's own copy of it, as Debian's policy requires."""
    if _identifier(text) != "Apache-2.0":
        return text
    holders = [line.strip() for line in text.splitlines() if re.match(r"\s*Copyright \(?[c0-9]", line)]
    owner = holders[0] if holders else f"Copyright: the authors of {name}"
    return f"{owner}\nLicence: Apache License, Version 2.0; on Debian systems in {_APACHE}.\n"
