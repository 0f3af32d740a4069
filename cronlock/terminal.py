"""The controlling terminal: the command reads from it and gets its signals as without cronlock."""

from __future__ import annotations

import os

from . import signals


class Terminal:
    """The terminal that cronlock was started at.

    The command has a process group of its own, which must be the terminal's foreground for
    Ctrl-C, Ctrl-Z and reading to reach it; when it stops or ends, the foreground goes back to the
    group that cronlock is in, as the shell left it.
    """

    __slots__ = ("_own", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._own = os.getpgrp()

    @classmethod
    def open(cls) -> Terminal | None:
        """Return the controlling terminal, or None without one, as under cron."""
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return None

    def in_foreground(self) -> bool:
        """Return whether the group that cronlock is in has the terminal's foreground."""
        return self._foreground() == self._own

    def give(self, group: int) -> None:
        """Give the foreground to process group `group`, if it is ours to give."""
        if self.in_foreground():
            self._set(group)

    def take_back(self, group: int) -> bool:
        """Take the foreground from process group `group`; False if that did not have it."""
        if self._foreground() != group:
            return False
        self._set(self._own)
        return True

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
