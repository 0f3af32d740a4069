"""A small model of how cron passes a command to a shell, with real shells to run it.

The model follows ``do_command.c`` of Debian's cron 3.0pl1 and of cronie; test_real_cron.py holds it
against the real one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from cronlock.crontab.lines import Job

#: Prints each argument in brackets, and with `take` each line of stdin.
SHOW = """#!/bin/sh
printf '%s:' "$#"
for word; do printf '[%s]' "$word"; done
printf '\\n'
"""
TAKE = """#!/bin/sh
while IFS= read -r line || [ -n "$line" ]; do printf '<%s>\\n' "$line"; done
"""
#: A stand-in for cronlock: prints a line and executes the command after ``--``.
STAND_IN = """#!/bin/sh
[ "$1 $2" = "run --key" ] || case "$2" in --key=*) ;; *) echo "not called as cronlock run --key" ;; esac
[ -z "$WRAPPED" ] || echo called >>"$WRAPPED"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


class Handed(NamedTuple):
    """What cron passes to the shell."""

    command: bytes
    stdin: bytes


def hand(text: str, *, cronie: bool = False) -> Handed:
    """Return how cron reads `text`, the part of a line after time fields and user."""
    data = text.encode("utf-8", "surrogateescape")
    command, position, escaped = bytearray(), 0, False
    while position < len(data):
        byte = data[position : position + 1]
        position += 1
        if escaped:
            if byte == b"%" or (byte == b"\\" and not cronie):
                command.pop()
            escaped = False
        elif byte == b"\\":
            escaped = True
        elif byte == b"%":
            break
        command += byte
    return Handed(bytes(command), _stdin(data[position:]))


def _stdin(data: bytes) -> bytes:
    written, escaped = bytearray(), False
    for value in data:
        byte = bytes((value,))
        if escaped:
            if byte != b"%":
                written += b"\\"
        elif byte == b"%":
            byte = b"\n"
        escaped = byte == b"\\"
        if not escaped:
            written += byte
    if escaped:
        written += b"\\"
    if written and not written.endswith(b"\n"):
        written += b"\n"
    return bytes(written)


class Sandbox:
    """A directory to run commands in, with files and a PATH of programs."""

    def __init__(self, directory: Path) -> None:
        self.work = directory / "work"
        self.programs = directory / "bin"
        for folder in (self.work / "sub", self.programs):
            folder.mkdir(parents=True)
        for name in ("a.txt", "b.txt", "sub/c.txt"):
            (self.work / name).write_text(f"{name}\n")
        for name, text in (("show", SHOW), ("take", TAKE), ("cronlock", STAND_IN)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        # Without `#!`: only a shell, or a fallback to one, can run it.
        (self.programs / "bare").write_text('echo "bare $1"\n')
        (self.programs / "bare").chmod(0o755)
        self.wrapped = directory / "wrapped"

    def run(self, job: Job, *, cronie: bool = False) -> tuple[int, bytes]:
        """Return (exit status, output) of `job`, run as by cron: stderr goes to stdout."""
        given = hand(job.command + job.stdin, cronie=cronie)
        environ = {
            **{name: value for name, value in job.variables.items() if name != "PATH"},
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "SHELL": job.shell,
            "HOME": str(self.work),
            "WRAPPED": str(self.wrapped),
        }
        done = subprocess.run(
            [job.shell, "-c", given.command],
            input=given.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.work,
            env=environ,
            timeout=60,
        )
        return done.returncode, done.stdout
