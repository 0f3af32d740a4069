"""What can go wrong: the exit statuses of ``cronlock run``, and exceptions, each with the status that reports it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

USAGE = 64
UNAVAILABLE = 69
FAULT = 70
LOST = 75
CONFIG = 78
TIMEOUT = 124
CANNOT_EXECUTE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128

#: (status, meaning) in the order in which they are documented: the one table behind --help, manual page and README.
TABLE = (
    ("the command's own", "It ran. If signal N ended it: 128 + N."),
    ("0", "Skipped, the key is held (another status: --skip-status)."),
    ("64", "Usage: bad option, key or duration."),
    ("69", "Backend unavailable; nothing was run."),
    ("70", "A fault in cronlock; no process or /dev/null to be had."),
    ("75", "Lease lost, or `cronlock stop`: the command was stopped."),
    ("78", "Bad configuration."),
    ("124", "The command was stopped after --timeout."),
    ("126", "The command was found but cannot be executed."),
    ("127", "The command was not found."),
)


def cannot_open_null(error: OSError) -> str:
    """Say that there is no /dev/null, which neither cronlock nor most commands can do without."""
    return f"cannot open /dev/null: {error.strerror}; cronlock needs it, in a container or chroot, too"


def printable(text: str, instead: str = "?") -> str:
    """Return what others wrote, with `instead` for each character that a terminal or a reader of lines might obey."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return which of `known` may have been meant by `word`, None if none is as like it as `likeness`, at most 1."""
    import difflib  # Only once something was mistyped: `run` must not pay for it.

    return next(iter(difflib.get_close_matches(word, sorted(known), 1, likeness)), None)


class CronlockError(Exception):
    """Something that the user is told in one line.

    The text names what was wrong and what to do; it never holds a password.
    """

    status = FAULT


class UsageError(CronlockError):
    """The command line asks for something that cannot be."""

    status = USAGE


class ConfigError(CronlockError):
    """The configuration (file, environment or URL) cannot be used."""

    status = CONFIG


class BackendError(CronlockError):
    """The backend cannot give what was asked."""

    status = UNAVAILABLE


class BackendUnavailable(BackendError):
    """Unreachable, timed out, refused, or an answer that leaves doubt.

    What was asked may or may not have been done: the caller asks again under
    the same owner, or gives up with an owner-checked `abandon`.
    """


class Forbidden(BackendError):
    """The server does not let this user do it; the text names the right that is lacking. Nothing was done."""


class Unacknowledged(BackendUnavailable):
    """A write was carried out, and too few replicas have it: a failover may undo it."""


class GivenBack(BackendUnavailable):
    """The lease was granted, found to be of no use, and given back: ask again under a new owner."""


class LeaseOver(BackendUnavailable):
    """The lease was ours and is over before anything ran under it: another run may have the key by now."""


class ForeignValue(BackendError):
    """Something that is not cronlock's lies under the key; nothing was overwritten.

    Asking again cannot help, so it is not tried again.
    """
