"""cronlock's own messages: one line each, to stderr or syslog, as text or JSON."""

from __future__ import annotations

import sys
import time

from ..system import os

ERROR, WARNING, NOTICE, INFO = "error", "warning", "notice", "info"
TYPE_CHECKING = False
if TYPE_CHECKING:
    Fields = dict[str, str | int | float | bool]

_CONTROLS = frozenset(map(chr, (*range(0x7F, 0xA0), 0x2028, 0x2029)))


class Log:
    """Messages for people, without noise that cron would mail.

    Errors and warnings always appear, except that --quiet hides warnings. Notices, such as a skip, appear on a
    terminal, in syslog and with --verbose; the rest only with --verbose.
    """

    __slots__ = ("_json", "_key", "_shown", "_syslog", "logs_outcomes")

    def __init__(
        self,
        *,
        key: str | None = None,
        verbose: bool = False,
        quiet: bool = False,
        to: str = "stderr",
        form: str = "text",
    ) -> None:
        self._key = key
        self._syslog = to == "syslog"
        self._json = form == "json"
        self._shown = {ERROR}
        if not quiet:
            self._shown.add(WARNING)
            if verbose or self._syslog or os.isatty(2):
                self._shown.add(NOTICE)
            if verbose:
                self._shown.add(INFO)
        #: True if each run and each skip writes a line with its fields.
        self.logs_outcomes = not quiet and (self._syslog or self._json)

    def shows(self, level: str) -> bool:
        """True if messages of `level` appear."""
        return level in self._shown

    def error(self, text: str) -> None:
        """Report that the command did not run, or was stopped, or another failure."""
        self._say(ERROR, text)

    def warning(self, text: str) -> None:
        """Report what needs attention although the run goes on."""
        self._say(WARNING, text)

    def notice(self, text: str) -> None:
        """Report what a person at the terminal wants to know."""
        self._say(NOTICE, text)

    def info(self, text: str) -> None:
        """Report a step, for --verbose."""
        self._say(INFO, text)

    def outcome(self, text: str, fields: Fields, *, level: str = NOTICE) -> None:
        """Report the outcome of a run or skip, with `fields` if enabled; see `cronlock.run.outcome`."""
        if not self.logs_outcomes:
            self._say(level, text)
            return
        if not self._json:
            text, fields = f"{text} ({as_text(fields)})", {}
        self._write(level, text, fields)

    def _say(self, level: str, text: str) -> None:
        if level in self._shown:
            self._write(level, text, {})

    def _write(self, level: str, text: str, fields: Fields) -> None:
        if self._syslog and sys.platform == "linux" and not os.path.exists("/dev/log"):
            # As in a container: syslog(3) would drop it silently.
            self._syslog = False
            self.warning("--log syslog: no syslog daemon (no /dev/log); writing to standard error")
        # Texts of others may contain control characters, which a terminal or a log reader would obey.
        text = "".join(" " if letter < " " or "\x7f" <= letter <= "\x9f" else letter for letter in text)
        if self._json:
            text = self._as_json(level, text, fields)
        elif self._key is not None:
            text = f"{self._key}: {text}"
        if self._syslog:
            import syslog

            priorities = {
                ERROR: syslog.LOG_ERR,
                WARNING: syslog.LOG_WARNING,
                NOTICE: syslog.LOG_NOTICE,
                INFO: syslog.LOG_INFO,
            }
            syslog.openlog("cronlock", syslog.LOG_PID, syslog.LOG_CRON)
            syslog.syslog(priorities[level], text.encode("utf-8", "backslashreplace").decode())
            return
        line = text if self._json else f"cronlock: {text}"
        try:
            os.write(2, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # Standard error is closed: no reason to fail a job.

    def _as_json(self, level: str, text: str, fields: Fields) -> str:
        import json

        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": level, "message": text}
        if self._key is not None:
            line["key"] = self._key
        text = json.dumps({**line, **fields}, ensure_ascii=False)
        # JSON leaves C1 controls and Unicode line ends as they are; terminals and log readers do not.
        return "".join(f"\\u{ord(letter):04x}" if letter in _CONTROLS else letter for letter in text)


def as_text(fields: Fields) -> str:
    """Return the fields as ``name=value``, quoted if necessary."""
    return " ".join(f"{name}={_plain(value)}" for name, value in fields.items())


def _plain(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and not set(text) & set(' "=\\\n'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
