"""Keys: which are allowed, and how they become names that a backend can hold."""

from __future__ import annotations

from .errors import UsageError

LONGEST = 200

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@+=,")
#: Printable ASCII but the percent sign.
PRINTABLE = frozenset(range(0x20, 0x7F)) - {0x25}
# Enough of a long name to recognise it by, before its digest.
_HEAD = 60


def check(key: str) -> str:
    """Return `key` as it is; raise UsageError unless it has 1 to 200 characters, none of control."""
    if not key:
        raise UsageError("--key is empty; give the job a name, such as --key billing")
    if len(key) > LONGEST:
        raise UsageError(f"--key has {len(key)} characters; at most {LONGEST} are allowed")
    for character in key:
        # C0, DEL and C1 controls, line separators, and bytes that were not UTF-8.
        if character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029":
            raise UsageError(f"--key {key!r} has a control character; use printable text")
        if "\ud800" <= character <= "\udfff":
            raise UsageError(f"--key {key!r} is not valid UTF-8 text")
    return key


def escape(text: str) -> str:
    """Return `text` with all but letters, digits and ``-_.@+=,`` as %XX of its UTF-8 bytes.

    No two texts give the same name. A leading dot is escaped too, so that a name is never
    ``.``, ``..`` or a hidden file.
    """
    name = quote(text, _PLAIN)
    return "%2E" + name[1:] if name.startswith(".") else name


def quote(text: str, plain: frozenset[int]) -> str:
    """Return `text` with each byte of its UTF-8 that is not in `plain` as %XX."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in data)


def unescape(name: str, errors: str = "strict") -> str:
    """Undo `escape` or `quote`; raise ValueError for a name that neither makes.

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
    """Return the key that `escape` makes `name` of; empty for a name that it makes of none."""
    try:
        key = unescape(name)
    except ValueError:
        return ""
    return key if escape(key) == name else ""


def bounded(key: str, longest: int) -> str:
    """Return a name for `key` of at most `longest` bytes (80 or more), different for each key.

    A short one is `escape(key)`; a longer one its beginning, ``~`` and a SHA-256 digest. ``~``
    never comes out of `escape`, so the two kinds cannot meet.
    """
    name = escape(key)
    if len(name) <= longest:
        return name
    # Only for long keys: the import costs as much as a third of an interpreter's start.
    import hashlib

    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{name[: min(_HEAD, longest - 65)]}~{digest}"
