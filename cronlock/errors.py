"""What can go wrong, as exceptions; each knows the exit status that reports it."""

from __future__ import annotations

from . import statuses


class CronlockError(Exception):
    """Something that the user is told in one line.

    The text names what was wrong and what to do; it never holds a password.
    """

    status = statuses.FAULT


class UsageError(CronlockError):
    """The command line asks for something that cannot be."""

    status = statuses.USAGE


class ConfigError(CronlockError):
    """The configuration (file, environment or URL) cannot be used."""

    status = statuses.CONFIG


class BackendError(CronlockError):
    """The backend cannot give what was asked."""

    status = statuses.UNAVAILABLE


class BackendUnavailable(BackendError):
    """Unreachable, timed out, refused, or an answer that leaves doubt.

    What was asked may or may not have been done: the caller asks again under
    the same owner, or gives up with an owner-checked `abandon`.
    """


class GivenBack(BackendUnavailable):
    """The lease was granted, found to be of no use, and given back: ask again under a new owner."""


class LeaseOver(BackendUnavailable):
    """The lease was ours and is over before anything ran under it: another run may have the key by now."""


class ForeignValue(BackendError):
    """Something that is not cronlock's lies under the key; nothing was overwritten.

    Asking again cannot help, so it is not tried again.
    """
