"""Generated lines: wrapped once and twice, run by real shells before and after, read by the real crontab.

CRONLOCK_WRAP_LINES says how many (3000 unless set), CRONLOCK_WRAP_SEED which. Thousands of lines go
through one shell process each: the line is evaluated in a subshell, where functions stand for the
programs; test_same.py has the same with a process for everything.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronlock.crontab.checking import check
from cronlock.crontab.lines import Crontab, Job, parse
from cronlock.crontab.wrapping import Options, wrap
from labs.machines import SHARED, Fleet, Machine
from labs.servers.process import need
from tests.crontab.cron import hand
from tests.crontab.generate import Lines

_COUNT = int(os.environ.get("CRONLOCK_WRAP_LINES", "3000"))
_SEED = int(os.environ.get("CRONLOCK_WRAP_SEED", "1"))
#: The lines of one crontab; Debian's takes no more than ten thousand.
_CHUNK = 1000
_CHUNKS = (_COUNT + _CHUNK - 1) // _CHUNK

# `cronlock` notes what it was to run, as cron's shell gave it, and runs it.
_DRIVER = r"""
exec 9>calls
X='x y'
HOME=/home
show() { printf '%s:' "$#"; for word; do printf '[%s]' "$word"; done; printf '\n'; }
cat() { if [ "$#" = 0 ]; then copy; else copy <"$1"; fi; }
copy() { while IFS= read -r line; do printf '%s\n' "$line"; done; }
take() { while IFS= read -r line || [ -n "$line" ]; do printf '<%s>\n' "$line"; done; }
cronlock() {
    while [ "$1" != -- ]; do shift; done
    shift
    { printf '%s\0' "$@"; printf '\036\0'; } >&9
    if [ "$#" = 3 ] && [ "$1 $2" = "$shell -c" ]; then eval "$3"; else "$@"; fi
}
"""


@pytest.fixture(params=range(_CHUNKS))
def crontab(request: pytest.FixtureRequest) -> Crontab:
    """A crontab of generated lines."""
    lines = Lines(_SEED * 1_000_000 + request.param)
    return parse("".join(f"{lines.line()}\n" for _ in range(_CHUNK)), "tab", system=False)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Path]]:
    """A machine with its own spool, and the directory that it shares with the tests."""
    need("crontab", "cron")
    with Fleet(tmp_path_factory.mktemp("spool") / "fleet") as fleet:
        machine = fleet.machine("one")
        machine.run("mkdir", "-p", "/var/spool/cron/crontabs")
        yield machine, fleet.shared


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_shell_runs_the_same(shell: str, crontab: Crontab, tmp_path: Path) -> None:
    """cronlock runs exactly what cron's shell ran, with the same output and status."""
    need(shell, "bash dash")
    before = parse(f"SHELL={shell}\n" + "".join(f"{line}\n" for line in crontab.lines), "tab", system=False)
    wrapped = wrap(before, Options(prefix="tab"))
    after = parse(wrapped.text, "tab", system=False)
    assert len(wrapped.jobs) == len(before.jobs) == len(after.jobs) == _CHUNK
    ran, calls_before = _run_all(before.jobs, shell, tmp_path / "before")
    runs, calls = _run_all(after.jobs, shell, tmp_path / "after")
    assert calls_before == []
    assert len(calls) == len(runs) == len(ran) == _CHUNK
    in_shell = 0
    for index, old in enumerate(before.jobs):
        line = before.lines[old.number - 1]
        assert runs[index] == ran[index], line
        assert after.jobs[index].stdin == old.stdin, line
        text = hand(old.command).command
        if calls[index] == [shell.encode(), b"-c", text.lstrip(b" \t")]:
            in_shell += 1
        else:
            assert calls[index] == _words(text), line
    # Both kinds occur, with output.
    assert _CHUNK / 4 < in_shell < _CHUNK * 3 / 4
    assert sum(b"[" in each for each in ran) > _CHUNK / 2


def test_wrapping_twice_changes_nothing(crontab: Crontab) -> None:
    """Wrapping again changes nothing; each line has its own key, and --check reports nothing."""
    once = wrap(crontab, Options(prefix="tab"))
    # --check has the remarks of wrap.
    found = {(remark.number, remark.text) for remark in check(crontab, Options(prefix="tab"))}
    assert all((remark.number, remark.text) in found for remark in once.remarks)
    again = parse(once.text, "tab", system=False)
    twice = wrap(again, Options(prefix="tab"))
    assert twice.text == once.text
    assert twice.jobs == []
    # All remarks applied before as well.
    assert all("a carriage return" in remark.text for remark in check(again, Options()))
    assert [job.schedule.text for job in again.jobs] == [job.schedule.text for job in crontab.jobs]
    assert len({line.split(" --key ")[1].split()[0] for line in once.text.splitlines() if " --key " in line}) == _CHUNK


def test_crontab_accepts_it(crontab: Crontab, spool: tuple[Machine, Path]) -> None:
    """The real crontab(1) installs the lines, wrapped or not."""
    machine, shared = spool
    once = wrap(crontab, Options(prefix="tab")).text
    for text in ("".join(f"{line}\n" for line in crontab.lines), once):
        (shared / "tab").write_bytes(text.encode("utf-8", "surrogateescape"))
        machine.run("crontab", f"{SHARED}/tab")
        # crontab(1) adds three lines on top.
        machine.run("sh", "-c", f"tail -n +4 /var/spool/cron/crontabs/root | cmp - {SHARED}/tab")


def _words(text: bytes) -> list[bytes]:
    """Return the words of a command without shell syntax, by another parser than cronlock's."""
    words = shlex.split(text.decode("utf-8", "surrogateescape"))
    return [word.encode("utf-8", "surrogateescape") for word in words]


def _run_all(jobs: list[Job], shell: str, directory: Path) -> tuple[list[bytes], list[list[bytes]]]:
    """Run all jobs by one process; return the output and status of each, and the arguments of `cronlock`."""
    (directory / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (directory / name).write_text(f"{name}\n")
    script = [b"shell=" + shell.encode(), _DRIVER.encode()]
    for job in jobs:
        given = hand(job.command + job.stdin)
        command = b"'" + given.command.replace(b"'", b"'\\''") + b"'"
        # Not a redirection of the whole subshell, which bash would pass to background jobs, too.
        script.append(b"( exec <<'end of stdin'\n%send of stdin\neval %s )" % (given.stdin, command))
        script.append(b"printf '\\036%s\\036\\n' $?")
    (directory / "script").write_bytes(b"\n".join(script) + b"\n")
    done = subprocess.run(
        [shell, "./script"], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=3600
    )
    calls = (directory / "calls").read_bytes().split(b"\036\0")[:-1]
    # bash makes the directory of `~+`.
    printed = done.stdout.replace(bytes(directory), b"HERE")
    return printed.split(b"\036\n")[:-1], [call.split(b"\0")[:-1] for call in calls]
