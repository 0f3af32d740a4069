"""The controlling terminal: the command reads from it and gets its signals as without cronlock."""

from __future__ import annotations

import os
import stat

from . import signals


class Terminal:
    """The terminal that cronlock was started at.

    The command has a process group of its own, which must be the terminal's foreground for
    Ctrl-C, Ctrl-Z and reading to reach it; when it stops or ends, the foreground goes back to the
    group that cronlock is in, as the shell left it.
    """

    __slots__ = ("_own", "_piped", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._own = os.getpgrp()
        self._piped = _is_pipe(1)

    def is_ours_to_give(self) -> bool:
        """Return whether the command is to have the foreground.

        Not in front of a pipe, unless it asks (see `lend`): a pager behind it is in the group that
        cronlock is in, and reads from the terminal.
        """
        return self._foreground() == self._own and not self._piped

    def give(self, group: int) -> None:
        """Give the foreground to process group `group`, if it is ours to give."""
        if self.is_ours_to_give():
            self._set(group)

    def lend(self, group: int) -> bool:
        """Give the foreground to process group `group`, which was stopped for want of it; False if it is not ours."""
        if self._foreground() != self._own:
            return False
        self._piped = False
        self._set(group)
        return True

    def take_back(self, group: int) -> bool:
        """Take the foreground from process group `group`; False if that did not have it."""
        if self._foreground() != group:
            return False
        self._set(self._own)
        return True

    def stopped_by(self, number: int, group: int) -> bool:
        """Take the foreground back from a stopped `group`; whether the terminal has to do with its stop by `number`."""
        return self.take_back(group) or number in (signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)

    def leave(self, group: int, wait_status: int | None) -> int | None:
        """Leave the terminal as it was; what Ctrl-C ended, ends the rest of a pipeline or script too.

        `wait_status` is of a command that nobody stopped, else None. Returns the signal that cronlock itself is to
        die of, or None.
        """
        if not self.take_back(group) or wait_status is None or not os.WIFSIGNALED(wait_status):
            return None
        number = os.WTERMSIG(wait_status)
        if number in (signals.SIGINT, signals.SIGQUIT):
            signals.set_ignored(number)
            os.killpg(0, number)
        # A shell ends its script only for a child that died of it.
        return number if number == signals.SIGINT else None

    def _foreground(self) -> int | None:
        try:
            return os.tcgetpgrp(self.descriptor)
        except OSError:
            return None  # The terminal hung up.

    def _set(self, group: int) -> None:
        # Whoever sets the foreground from the background is stopped by TTOU otherwise.
        with signals.blocked(signals.SIGTTOU):
            try:
                os.tcsetpgrp(self.descriptor, group)
            except OSError:
                pass  # The group ended, or the terminal hung up.


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
