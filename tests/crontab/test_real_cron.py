"""Debian's cron itself runs the examples, before and after, and does what the model says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cronlock.crontab.lines import Job, parse
from cronlock.crontab.wrapping import Options, wrap
from labs.machines import SHARED, Fleet, Machine
from labs.servers.process import eventually, need
from tests.crontab.cron import SHOW, STAND_IN, TAKE, Place
from tests.crontab.examples import BASH_LINES, LINES

_SENDMAIL = f"""\
#!/bin/sh
mail=$(mktemp {SHARED}/.mail-XXXXXX) && cat >"$mail" && mv "$mail" "{SHARED}/mail/${{mail##*-}}"
"""
_TEXTS = {"/bin/sh": LINES, "/bin/bash": BASH_LINES}
# What a shell says of a line that it cannot read or run; it quotes the line or counts within it.
_COMPLAINTS = re.compile(rb"not found|yntax error|nterminated|unexpected EOF")


@pytest.mark.parametrize("shell", _TEXTS)
def test_real_cron_runs_the_same(shell: str, tmp_path: Path) -> None:
    """What cron mails of each example is the same before and after, and what the model foretells."""
    need("cron", "cron")
    before = parse(f"SHELL={shell}\nX='x y'\n{_TEXTS[shell]}", "tab", system=False)
    after = parse(wrap(before, Options(prefix="tab")).text, "tab", system=False)
    with Fleet(tmp_path / "fleet") as fleet:
        if not fleet.has_users:
            pytest.skip("cron changes users: needs root, or newuidmap and a range of ids in /etc/subuid")
        machine = fleet.machine("one")
        cases = {f"old{job.number}": job for job in before.jobs} | {f"new{job.number}": job for job in after.jobs}
        mails = _run_cron(machine, fleet.shared, cases)
    for old in before.jobs:
        line = before.lines[old.number - 1]
        place = Place(tmp_path / f"model{old.number}")
        foretold = place.run(old)[1].replace(bytes(place.work), b"HOME")
        mailed = mails.get(f"old{old.number}", b"").replace(b"/run/work/old%d" % old.number, b"HOME")
        wrapped = mails.get(f"new{old.number}", b"").replace(b"/run/work/new%d" % old.number, b"HOME")
        if _COMPLAINTS.search(foretold):
            assert _COMPLAINTS.search(mailed), line
            assert _COMPLAINTS.search(wrapped), line
        else:
            assert mailed == foretold, line
            assert wrapped == mailed, line


def _run_cron(machine: Machine, shared: Path, cases: dict[str, Job]) -> dict[str, bytes]:
    """Return what cron mails of each case when the machine starts; nothing where it mails nothing."""
    # Setting the login id takes a capability that containers do not have.
    machine.run("sh", "-c", "cp -r /etc/pam.d /run && sed -i /pam_loginuid/d /run/pam.d/cron")
    machine.run("mount", "--bind", "/run/pam.d", "/etc/pam.d")
    programs = {"show": SHOW, "take": TAKE, "cronlock": STAND_IN, "bare": 'echo "bare $1"\n'}
    for name, text in programs.items():
        machine.write(f"/usr/local/bin/{name}", text, "755")
    machine.write("/usr/sbin/sendmail", _SENDMAIL, "755")
    (shared / "mail").mkdir()
    tab = ["MAILTO=root", "PATH=/usr/local/bin:/usr/bin:/bin", "X='x y'", *_line("first", "/bin/sh", "echo first")]
    for name, job in cases.items():
        tab += _line(name, job.shell, job.command + job.stdin)
        machine.run("sh", "-c", _FILES, "sh", f"/run/work/{name}")
    tab += _line("last", "/bin/sh", "echo last")
    (shared / "tab").write_bytes("".join(f"{line}\n" for line in tab).encode("utf-8", "surrogateescape"))
    machine.run("sh", "-c", f"cat {SHARED}/tab >/etc/crontab")
    machine.start("cron", "-f", "-L", "15")
    # cron starts what is due at the start one after the other, and has done so when both ends are there.
    eventually(lambda: {"first", "last"} <= _mails(shared).keys(), "cron runs the first and the last line", 120)
    eventually(lambda: machine.programs().count("cron") == 1, "all lines end", 120)
    return _mails(shared)


_FILES = 'mkdir -p "$1/sub" && cd "$1" && for each in a.txt b.txt sub/c.txt; do echo "$each" >"$each"; done'


def _line(case: str, shell: str, command: str) -> list[str]:
    home = "/" if case in ("first", "last") else f"/run/work/{case}"
    return [f"SHELL={shell}", f"CASE={case}", f"HOME={home}", f"@reboot root {command}"]


def _mails(shared: Path) -> dict[str, bytes]:
    """Return the body of each mail by its case."""
    found = {}
    for file in (shared / "mail").iterdir():
        header, _, body = file.read_bytes().partition(b"\n\n")
        case = re.search(rb"<CASE=(\w+)>", header)
        assert case is not None
        found[case[1].decode()] = body
    return found
