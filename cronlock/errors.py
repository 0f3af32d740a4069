"""The exit statuses of ``cronlock run``, and the exceptions that lead to them."""

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

#: (status, meaning) in the order of --help, manual page and README.
TABLE = (
    ("the command's own", "The command ran; 128 + N if signal N ended it."),
    ("0", "Skipped: the key is held (--skip-status sets another)."),
    ("64", "Usage error: bad option, key or duration."),
    ("69", "The backend is unavailable; the command did not run."),
    ("70", "Internal error, or no process or /dev/null available."),
    ("75", "The command was stopped: lease lost, or `cronlock stop`."),
    ("78", "Configuration error."),
    ("124", "The command was stopped after --timeout."),
    ("126", "The command was found but cannot be executed."),
    ("127", "The command was not found."),
)


def cannot_open_null(error: OSError) -> str:
    """Return the message that /dev/null cannot be opened."""
    return f"cannot open /dev/null: {error.strerror}; create it, in a container or chroot too"


def printable(text: str, instead: str = "?") -> str:
    """Return untrusted `text` with `instead` for each character that could control a terminal or end a line."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the closest match to `word` in `known`; None below a similarity of `likeness` (0 to 1)."""
    import difflib  # Imported only after a typo: `run` must not pay for it.

    return next(iter(difflib.get_close_matches(word, sorted(known), 1, likeness)), None)


class CronlockError(Exception):
    """An error that is reported in one line: subject, problem and remedy, never a password."""

    status = FAULT


class UsageError(CronlockError):
    """Bad command line."""

    status = USAGE


class ConfigError(CronlockError):
    """Bad configuration file, environment or URL."""

    status = CONFIG


class BackendError(CronlockError):
    """The backend did not do what was requested."""

    status = UNAVAILABLE


class BackendUnavailable(BackendError):
    """Unreachable, timed out, refused, or an ambiguous reply.

    The request may or may not have taken effect: retry under the same owner,
    or give up with an owner-checked `abandon`.
    """


class Forbidden(BackendError):
    """The server denied a permission, which the text names. Nothing was done."""


class Unacknowledged(BackendUnavailable):
    """A write reached too few replicas: a failover may undo it."""


class GivenBack(BackendUnavailable):
    """The lease was granted, could not be used, and was given back: retry under a new owner."""


class LeaseOver(BackendUnavailable):
    """The lease expired before the command started: another run may have the key by now."""


class ForeignValue(BackendError):
    """The key's record is not cronlock's. Nothing was overwritten, and retrying cannot help."""

    @classmethod
    def at(cls, location: str, what: object, otherwise: str = "use another key or prefix=") -> ForeignValue:
        """Return the error for `what`, found at a key's `location`: remove it, or do `otherwise`."""
        return cls(f"{location}: {what}; nothing was changed: remove it, or {otherwise}")
