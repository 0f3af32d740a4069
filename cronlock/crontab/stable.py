"""Remove from words what changes with a release, a day or a machine."""

from __future__ import annotations

import re

from .shell import word_set

# Order matters: longer forms come first.
_PASSING = re.compile(
    r"""
    \b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b                     # a UUID
    | @?sha256:[0-9a-f]+
    | (?<![0-9])(?:19|20)[0-9]{2}([-_.]?)[01][0-9]\1[0-3][0-9]          # a date, and a time
      (?:[-_.T]?[0-2][0-9][-_.:]?[0-5][0-9](?:[-_.:]?[0-5][0-9])?)?Z?(?![0-9])
    | (?<![0-9])1[4-9][0-9]{8}(?:[0-9]{3})?(?![0-9])                     # seconds since 1970
    | (?<![0-9A-Za-z])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,64}(?![0-9A-Za-z])   # a hash
    | (?<![0-9a-z])(?=[a-z]*[0-9])[0-9a-df-np-sv-z]{32}-                 # of the nix store
    | (?<![0-9A-Za-z.])v?[0-9]+(?:\.[0-9]+){2,}(?:[-+~](?:SNAPSHOT|RELEASE|alpha|beta|dev|rc|[0-9])[0-9A-Za-z.]*)*
      (?![0-9A-Za-z])                                                    # a version, an address
    | (?<![0-9A-Za-z.])v[0-9]+(?:\.[0-9]+)*(?:[-+~](?:alpha|beta|rc)[0-9.]*)?(?![0-9A-Za-z])
    | (?<![0-9A-Za-z])(?:release|build|rev|rel|r)[-_.]?[0-9]+(?![0-9A-Za-z])
    | (?<![0-9A-Za-z])tmp[._-]?(?=[A-Za-z]*[0-9]|[a-z]*[A-Z])[0-9A-Za-z]{6,}(?![0-9A-Za-z])
    """,
    re.VERBOSE,
)
# A host name: with a domain and a number, or a common form such as EC2's.
_HOST = re.compile(
    r"(?:[a-z][a-z-]*-?[0-9]+[a-z]?(?:\.[a-z0-9-]+){2,}|ip(?:-[0-9]+){4}(?:\.[a-z0-9.-]+)?|i-[0-9a-f]{8,}"
    r"|(?:host|node|server|srv|vm|web)-?[0-9]{1,3})",
    re.IGNORECASE,
)
# The next part of the path is a release; an alias stands for one.
_HOLD_RELEASES = word_set("builds deployments deploys releases revisions versions")
_ALIASES = word_set("blue current green latest live previous")
_COLOUR = re.compile(r"[-_.](?:blue|green|current|latest)$")
_TEMPORARY = re.compile(r"/(?:tmp|var/tmp|dev/shm|run/user|var/run|run|proc)(?:/|$)")
_LOG = re.compile(r"^/var/log(?:/|$)|\.(?:log|err|out)(?:\.[0-9]+)?$|/logs?/[^/]*$")
_HOME = re.compile(r"^(?:/home/[^/]+|/root|~[^/]*|\$HOME|\$\{HOME\})(?=/|$)")
#: Their value belongs to a release or a machine.
_PASSING_OPTIONS = re.compile(
    r"-{0,2}(?:release|build|revision|rev|commit|sha|git[-_]sha|version|image[-_]tag|deploy(?:ment)?[-_]id|host(?:name)?"
    r"|node|node[-_]name|server[-_]name|machine|instance(?:[-_]id)?|run[-_]id|request[-_]id|timestamp|pid-?file"
    r"|lock-?file|log-?file|log)",
    re.IGNORECASE,
)
#: Names whose value is a secret.
_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|auth(?:$|[^a-z])|(?:^|[^a-z])pass(?:$|[^a-z])"
    r"|(?:(?:api|access|private|cron|auth)[-_]?|^-*)key$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"(?i)^(?:basic|bearer|token) |^authorization:|^x-[a-z-]*(?:key|token)")
_LETTERS = re.compile(r"[A-Za-z]")


def word(text: str) -> str:
    """Return the stable part of `text`, a word of a command or a part of a path; may be empty."""
    if _HOST.fullmatch(text):
        return ""
    kept = _PASSING.sub("", text)
    return kept if kept == text else re.sub(r"([-_.:+@])[-_.:+@]+", r"\1", kept).strip("-_.:+@")


def path(text: str) -> str:
    """Return the stable part of the path `text`: the same for ``releases/1101`` and ``current``."""
    parts: list[str] = []
    names = _HOME.sub("~", text).split("/")
    is_release = False
    for index, part in enumerate(names):
        is_last = index == len(names) - 1
        if (is_release and not (is_last and part.isalpha())) or part in _ALIASES or (parts and part.isdigit()):
            is_release = False
            continue
        is_release = part in _HOLD_RELEASES
        kept = word(part if is_last else _COLOUR.sub("", part))
        if (kept and not is_release) or not parts:
            parts.append(kept)
    return "/".join(parts)


def is_temporary(text: str) -> bool:
    """Return whether the path `text` is in a temporary directory."""
    return _TEMPORARY.match(text) is not None


def is_log(text: str) -> bool:
    """Return whether `text` is the path of a log."""
    return _LOG.search(text) is not None


def is_host(text: str) -> bool:
    """Return whether `text` is a host name."""
    return _HOST.fullmatch(text) is not None


def is_passing_option(name: str) -> bool:
    """Return whether the value of the option `name` changes with the release or the machine."""
    return _PASSING_OPTIONS.fullmatch(name) is not None


def is_secret(name: str) -> bool:
    """Return whether the value of an option, variable or parameter called `name` is a secret."""
    return _SECRET.search(name) is not None


def is_secret_value(text: str) -> bool:
    """Return whether `text` is a header or the like with a secret."""
    return _SECRET_VALUE.match(text) is not None


def any_value(text: str) -> str:
    """Return the stable part of the word or path `text`."""
    if is_temporary(text):
        return ""
    return path(text) if "/" in text else word(text)


def says_something(text: str) -> bool:
    """Return whether `text` has a letter."""
    return _LETTERS.search(text) is not None
