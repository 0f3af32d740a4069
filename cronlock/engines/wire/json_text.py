"""JSON by the interpreter's own reader and writer below `json`, which imports `re` and takes a third of a run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    class _Usual:
        """The attributes that the scanner reads; `array_hook` since Python 3.15."""

        strict = True
        object_hook = object_pairs_hook = array_hook = None
        parse_float, parse_int = float, int
        parse_constant = dict[str, None]().__getitem__  # Neither NaN nor infinity is JSON.

    _decode = make_scanner(_Usual)  # type: ignore[arg-type]
    _encode = make_encoder(None, None, encode_basestring_ascii, None, ":", ",", False, False, False)  # type: ignore
except (ImportError, AttributeError, TypeError):  # An interpreter without them, or one that asks for more.
    from json import JSONDecoder, JSONEncoder

    _decode = JSONDecoder().raw_decode  # type: ignore[assignment]
    _encode = JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode  # type: ignore[assignment]


def loads(data: bytes) -> Any:
    """Return what JSON in UTF-8 says; raises ValueError, or RecursionError for what is nested too deep."""
    text = data.decode().strip(" \t\n\r")
    try:
        value, end = _decode(text, 0)
    except (KeyError, StopIteration):
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than JSON")
    return value


def dumps(value: object) -> bytes:
    """Return dictionaries, lists, texts, numbers, truth values and None as JSON, in ASCII and without spaces."""
    return "".join(_encode(value, 0)).encode()
