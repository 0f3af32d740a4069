"""Keys: which are valid, and how they are encoded as names in a backend."""

from __future__ import annotations

from .errors import UsageError

LONGEST = 200

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@+=,")
#: Printable ASCII except the percent sign.
PRINTABLE = frozenset(range(0x20, 0x7F)) - {0x25}
# Characters of a long name before its digest, to recognise it by.
_HEAD = 60


def check(key: str) -> str:
    """Return `key`. Raises UsageError unless it has 1 to 200 characters, without control characters."""
    if not key:
        raise UsageError("--key: empty; name the job, as in --key billing")
    if len(key) > LONGEST:
        raise UsageError(f"--key: {len(key)} characters are too many; use at most {LONGEST}")
    for character in key:
        # C0, DEL and C1 controls, line separators, and bytes that were not UTF-8.
        if character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029":
            raise UsageError(f"--key: {key!r} has a control character; use printable text")
        if "\ud800" <= character <= "\udfff":
            raise UsageError(f"--key: {key!r} is not valid UTF-8 text")
    return key


def escape(text: str) -> str:
    """Return `text` with all but letters, digits and ``-_.@+=,`` as %XX of its UTF-8 bytes.

    Injective. A leading dot is escaped too, so that a name is never ``.``, ``..`` or a hidden file.
    """
    name = quote(text, _PLAIN)
    return "%2E" + name[1:] if name.startswith(".") else name


def quote(text: str, plain: frozenset[int]) -> str:
    """Return `text` with each byte of its UTF-8 that is not in `plain` as %XX."""
    # Owners written by other programs may contain invalid UTF-8; keys may not.
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in data)


def unescape(name: str, errors: str = "strict") -> str:
    """Undo `escape` or `quote`. Raises ValueError for a name that neither returns.

    `errors` is for bytes that are not UTF-8; see `bytes.decode`.
    """
    if "%" not in name:
        return name
    first, *rest = name.split("%")
    data = bytearray(first.encode("utf-8", errors))
    for part in rest:
        if len(part) < 2:
            raise ValueError(f"bad escape in {name!r}")
        data.append(int(part[:2], 16))
        data += part[2:].encode("utf-8", errors)
    return data.decode("utf-8", errors)


def key_of(name: str) -> str:
    """Return the key that `escape` turns into `name`, empty without one."""
    try:
        key = unescape(name)
    except ValueError:
        return ""
    return key if escape(key) == name else ""


def bounded(key: str, longest: int) -> str:
    """Return a unique name for `key` of at most `longest` bytes (at least 80).

    That is `escape(key)`, or its beginning, ``~`` and a SHA-256 digest. `escape` never returns a ``~``, so the two
    forms cannot collide.
    """
    name = escape(key)
    if len(name) <= longest:
        return name
    # Imported for long keys only: it takes a third of an interpreter's start.
    import hashlib

    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{name[: min(_HEAD, longest - 65)]}~{digest}"
