"""JSON as `json` has it, by less."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from typing import Any

import pytest

from cronlock.engines.wire import json_text
from labs.installation import ROOT

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        12345678901234567890,
        0.5,
        -1e300,
        "",
        "x",
        'a"\\/\b\f\n\r\t\x00\x7f',
        "\u00e9\u2028\U0001f512",
    ),
    *([], {}, [1, [2, {"a": None}]], {"a": {"b": []}, "c": "\ud800"}),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_round_trip(value: object) -> None:
    """`json` reads what this module writes, and this module reads what `json` writes."""
    assert json.loads(json_text.dumps(value)) == value
    for spread in (None, 2):
        assert json_text.loads(f" \n{json.dumps(value, indent=spread)}\t\r\n".encode()) == value
    assert json_text.loads(json_text.dumps(value)) == value


def _read(loads: Any, data: bytes) -> object:
    try:
        return repr(loads(data))
    except (ValueError, RecursionError) as error:
        return RecursionError if isinstance(error, RecursionError) else ValueError


def test_damaged() -> None:
    """Of thousands of damaged texts those are refused that `json` refuses, and the others read as it does."""
    chance = random.Random(16)
    text = json.dumps(VALUES).encode()
    pieces = [b"", *(bytes([one]) for one in b'"\\{}[],:0.e-u \n\x00\xff'), b"true", b"nul", b"\\ud800"]
    for _ in range(4000):
        start = chance.randrange(len(text))
        data = text[:start] + chance.choice(pieces) + text[start + chance.choice((0, 1, 2)) :]
        assert _read(json_text.loads, data) == _read(json.loads, data), data


@pytest.mark.parametrize(
    "data", [b"", b" ", b"1 2", b"{} x", b"nothing", b"NaN", b"-Infinity", b"\xff", b"[" * 9, "\ufeff1".encode()]
)
def test_no_json(data: bytes) -> None:
    """Text that is not exactly one value is refused, also what only Python accepts as JSON."""
    assert _read(json_text.loads, data) is ValueError


def test_limits() -> None:
    """Nesting that is too deep, and what cannot be written, are errors."""
    assert _read(json_text.loads, b"[" * 200_000) in (RecursionError, ValueError)
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text.dumps(math.nan)


@pytest.mark.parametrize("wants", ["object_hook", "array_hook", "what_nobody_knows_yet", None])
def test_private_module_of_another_interpreter(wants: str | None) -> None:
    """`json` replaces `_json` if that is missing or its scanner reads unknown attributes; 3.15's is known."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import _json, types, json.scanner, json.encoder\n"
        "real, fake = _json.make_scanner, types.SimpleNamespace(**vars(_json))\n"
        f"fake.make_scanner = lambda usual: (getattr(usual, {wants!r}), real(usual))[1]\n"
        f"sys.modules['_json'] = fake if {wants is not None} else None\n"
        "from cronlock.engines.wire.json_text import dumps, loads\n"
        "from cronlock.engines.wire import json_text\n"
        "print(loads(b' {\"a\": [1, 2.5]} '), dumps({'a': [1, None]}), hasattr(json_text, 'JSONDecoder'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    by_json = not (wants or "").endswith("_hook")
    assert done.stdout == f"{{'a': [1, 2.5]}} b'{{\"a\":[1,null]}}' {by_json}\n"
