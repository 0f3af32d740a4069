"""Exit statuses of ``cronlock run``: the one table behind --help, manual page and README."""

from __future__ import annotations

USAGE = 64
UNAVAILABLE = 69
FAULT = 70
LOST = 75
CONFIG = 78
TIMEOUT = 124
CANNOT_EXECUTE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128

#: (status, meaning) in the order in which they are documented.
TABLE = (
    ("the command's own", "It ran. If signal N ended it: 128 + N."),
    ("0", "Skipped, the key is held (another status: --skip-status)."),
    ("64", "Usage: bad option, key or duration."),
    ("69", "Backend unavailable; nothing was run."),
    ("70", "A fault in cronlock itself."),
    ("75", "Lease lost; the command was stopped."),
    ("78", "Bad configuration."),
    ("124", "The command was stopped after --timeout."),
    ("126", "The command was found but cannot be executed."),
    ("127", "The command was not found."),
)
