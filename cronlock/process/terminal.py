"""The controlling terminal: the command reads from it and gets its signals as without cronlock."""

from __future__ import annotations

import stat

from ..system import os
from . import signals


class Terminal:
    """The terminal of cronlock's session.

    The command has its own process group, which must be the terminal's foreground to read and to receive Ctrl-C and
    Ctrl-Z. When it stops or ends, the foreground returns to cronlock's group, as the shell left it.
    """

    __slots__ = ("_own", "_piped", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._own = os.getpgrp()
        self._piped = _is_pipe(1)

    def is_ours_to_give(self) -> bool:
        """Return True if the command should have the foreground.

        Not if standard output is a pipe, unless the command asks (see `lend`): a pager at its other end is in
        cronlock's group, and reads from the terminal.
        """
        return self._foreground() == self._own and not self._piped

    def give(self, group: int) -> None:
        """Give the foreground to process group `group`, if it is ours to give."""
        if self.is_ours_to_give():
            self._set(group)

    def lend(self, group: int) -> bool:
        """Give the foreground to process group `group`, which stopped because it lacks it; False if it is not ours."""
        if self._foreground() != self._own:
            return False
        self._piped = False
        self._set(group)
        return True

    def take_back(self, group: int) -> bool:
        """Take the foreground from process group `group`; False if the group did not have it.

        0 means that the command's pid was not reported: any group without processes loses the foreground.
        """
        foreground = self._foreground()
        if foreground != group and (group or foreground is None or not _is_empty(foreground)):
            return False
        self._set(self._own)
        return True

    def stopped_by(self, number: int, group: int) -> bool:
        """Take the foreground back from a stopped `group`; return True if the terminal caused its stop by `number`."""
        return self.take_back(group) or number in (signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)

    def leave(self, group: int, wait_status: int | None) -> int | None:
        """Restore the terminal, and let Ctrl-C end the rest of a pipeline or script too.

        `wait_status` is None if cronlock stopped the command. Returns the signal of which cronlock must die, or None.
        """
        if not self.take_back(group) or wait_status is None or not os.WIFSIGNALED(wait_status):
            return None
        number = os.WTERMSIG(wait_status)
        if number in (signals.SIGINT, signals.SIGQUIT):
            signals.set_ignored(number)
            os.killpg(0, number)
        # A shell ends its script only if the child died of the signal.
        return number if number == signals.SIGINT else None

    def _foreground(self) -> int | None:
        try:
            return os.tcgetpgrp(self.descriptor)
        except OSError:
            return None  # The terminal hung up.

    def _set(self, group: int) -> None:
        # The kernel sends TTOU to a background process that sets the foreground.
        with signals.blocked(signals.SIGTTOU):
            try:
                os.tcsetpgrp(self.descriptor, group)
            except OSError:
                pass  # The group ended, or the terminal hung up.


def _is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # It has a process of somebody else's.
    return False


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
