"""Parts of a line that differ between machines: keys that guard nothing, and random sleeps."""

from __future__ import annotations

import re
import socket

from .shell import Command

# Only within a substitution; elsewhere they are ordinary words.
_CALLED = r"(?:\$\(|`)[^)`]*"
_IN_KEYS = (
    (rf"{_CALLED}\b(hostname\b|uname\s+-n|machine-id)|\$\{{?HOST(NAME)?\b", "the host's name"),
    (rf"(?<![\d.])\d{{1,3}}(\.\d{{1,3}}){{3}}(?![\d.])|{_CALLED}\bip\s+(-\S+\s+)*a(ddr)?\b", "an address"),
    (r"\$\$|\$\{?(BASH|P)PID\b", "the number of a process"),
    (rf"\$\{{?S?RANDOM\b|{_CALLED}(\b(uuidgen|shuf|mktemp)\b|/random/)", "something random"),
    (rf"{_CALLED}\bdate\b|\$\{{?EPOCH", "the time"),
)
_SLEEPERS = frozenset(("perl", "python", "python3", "ruby", "awk", "php", "node"))
_INTERPRETED = re.compile(r"\bsleep\b.*\brand|\brand.*\bsleep\b", re.DOTALL)
_BOUNDS = (
    re.compile(r"RANDOM\s*\\?%\s*(?P<top>\d+)"),
    re.compile(r"RANDOM\s*/\s*(?P<divisor>\d+)"),
    re.compile(r"-i\s*\d+-(?P<top>\d+)"),
    re.compile(r"rand(?:int|range|om|uniform)?\(\s*(?:\d+\s*,\s*)?(?P<top>\d+)\s*\)"),
    re.compile(r"jot\s+-r\s+1\s+\d+\s+(?P<top>\d+)"),
)
_FACTOR = re.compile(r"\*\s*(\d+)")
_UNITS = {"m": 60, "h": 3600, "d": 86400}
_LARGEST_RANDOM = 32767.0


def in_key(key: str, host: str | None = None) -> str | None:
    """Return the part of `key`, as written, that differs between machines or ticks, for messages; or None."""
    for pattern, words in _IN_KEYS:
        if re.search(pattern, key):
            return words
    own = host if host is not None else socket.gethostname()
    for name in {own, own.partition(".")[0]}:
        # A host called `billing` may run billing; a host with a number is one of several.
        if any(map(str.isdigit, name)) and re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", key):
            return "the host's name"
    return None


def random_sleep(command: Command) -> float | None:
    """Return the longest random sleep of `command` in seconds, inf if unknown; None if it does not sleep randomly."""
    text = command.text
    is_sleep = command.program == "sleep" and any(word.expands for word in command.arguments[1:])
    if not is_sleep and not (command.program in _SLEEPERS and _INTERPRETED.search(text)):
        return None
    factor = _FACTOR.search(text)
    scale = float(factor[1]) if factor else 1.0
    if is_sleep:
        scale *= _UNITS.get(text[-1], 1)
    for bound in _BOUNDS:
        match = bound.search(text)
        if match:
            parts = match.groupdict()
            return scale * (float(parts["top"]) if "top" in parts else _LARGEST_RANDOM / max(1, int(parts["divisor"])))
    return scale * _LARGEST_RANDOM if "RANDOM" in text else float("inf")
