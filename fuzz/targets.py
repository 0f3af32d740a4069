"""All targets, by name."""

from __future__ import annotations

from . import engines, files, pipes, plain, servers
from .engine import Target

TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (*plain.TARGETS, *files.TARGETS, *servers.TARGETS, *engines.TARGETS, *pipes.TARGETS)
}
