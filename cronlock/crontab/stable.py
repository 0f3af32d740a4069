"""What of a word stays when a release, a day or a machine changes."""

from __future__ import annotations

import re

from .shell import word_set

# Of a version no more than this stays: nothing. Order matters: what is longer comes first.
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
# A name of a machine: in a domain and with a number, or such as EC2 and most people give.
_HOST = re.compile(
    r"(?:[a-z][a-z-]*-?[0-9]+[a-z]?(?:\.[a-z0-9-]+){2,}|ip(?:-[0-9]+){4}(?:\.[a-z0-9.-]+)?|i-[0-9a-f]{8,}"
    r"|(?:host|node|server|srv|vm|web)-?[0-9]{1,3})",
    re.IGNORECASE,
)
# What comes after one of these is a release, and one of the others stands for it.
_HOLD_RELEASES = word_set("builds deployments deploys releases revisions versions")
_ALIASES = word_set("blue current green latest live previous")
_COLOUR = re.compile(r"[-_.](?:blue|green|current|latest)$")
_TEMPORARY = re.compile(r"/(?:tmp|var/tmp|dev/shm|run/user|var/run|run|proc)(?:/|$)")
_LOG = re.compile(r"^/var/log(?:/|$)|\.(?:log|err|out)(?:\.[0-9]+)?$|/logs?/[^/]*$")
_HOME = re.compile(r"^(?:/home/[^/]+|/root|~[^/]*|\$HOME|\$\{HOME\})(?=/|$)")
#: Their value is of this release, or of this machine.
_PASSING_OPTIONS = re.compile(
    r"-{0,2}(?:release|build|revision|rev|commit|sha|git[-_]sha|version|image[-_]tag|deploy(?:ment)?[-_]id|host(?:name)?"
    r"|node|node[-_]name|server[-_]name|machine|instance(?:[-_]id)?|run[-_]id|request[-_]id|timestamp|pid-?file"
    r"|lock-?file|log-?file|log)",
    re.IGNORECASE,
)
#: Their value is nobody's business.
_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|auth(?:$|[^a-z])|(?:^|[^a-z])pass(?:$|[^a-z])"
    r"|(?:(?:api|access|private|cron|auth)[-_]?|^-*)key$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"(?i)^(?:basic|bearer|token) |^authorization:|^x-[a-z-]*(?:key|token)")
_LETTERS = re.compile(r"[A-Za-z]")


def word(text: str) -> str:
    """Return `text`, a word of a command or a part of a path, without what passes; empty if nothing else is in it."""
    if _HOST.fullmatch(text):
        return ""
    kept = _PASSING.sub("", text)
    return kept if kept == text else re.sub(r"([-_.:+@])[-_.:+@]+", r"\1", kept).strip("-_.:+@")


def path(text: str) -> str:
    """Return the path `text` without the parts that pass, whose place ``releases/1101`` and ``current`` both leave."""
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
    """Return whether the path `text` lies where files do not stay."""
    return _TEMPORARY.match(text) is not None


def is_log(text: str) -> bool:
    """Return whether `text` is the path of a log."""
    return _LOG.search(text) is not None


def is_host(text: str) -> bool:
    """Return whether `text` is the name of a machine."""
    return _HOST.fullmatch(text) is not None


def is_passing_option(name: str) -> bool:
    """Return whether the value of the option `name` changes with the release or the machine."""
    return _PASSING_OPTIONS.fullmatch(name) is not None


def is_secret(name: str) -> bool:
    """Return whether an option, variable or parameter called `name` has a secret for its value."""
    return _SECRET.search(name) is not None


def is_secret_value(text: str) -> bool:
    """Return whether `text` is a header or the like that holds a secret."""
    return _SECRET_VALUE.match(text) is not None


def any_value(text: str) -> str:
    """Return the word or path `text` without what passes."""
    if is_temporary(text):
        return ""
    return path(text) if "/" in text else word(text)


def says_something(text: str) -> bool:
    """Return whether `text` has a letter by which people would know it."""
    return _LETTERS.search(text) is not None
