"""The receiving end of a machine's /dev/log."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

#: Seconds for its thread to end.
_LIMIT = 120.0


class Syslog:
    """The receiving end of a machine's /dev/log."""

    def __init__(self, path: Path) -> None:
        self._messages: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        directory = os.open(path.parent, os.O_PATH)
        try:
            # The directory's own path may be longer than a socket's address can be.
            self._socket.bind(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        path.chmod(0o666)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def messages(self) -> list[tuple[float, str]]:
        """Return when each message came, and the message without its priority and date."""
        return list(self._messages)

    def close(self) -> None:
        """Receive no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_LIMIT)
        self._socket.close()

    def _receive(self) -> None:
        while True:
            data = self._socket.recv(65536)
            if not data:
                return
            # As in "<78>Jan 31 12:34:56 cron[7]: text".
            text = data.decode(errors="replace").rstrip("\n\0")[len("<78>Jan 31 12:34:56 ") :]
            self._messages.append((time.time(), text))
