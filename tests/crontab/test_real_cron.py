"""Debian's cron and cronie themselves run the examples, before and after, and do what the model says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cronlock.crontab.dialects import DIALECTS
from cronlock.crontab.lines import Job, parse
from cronlock.crontab.wrapping import Options, wrap
from labs.crons import cronie
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
# cronie mails what these print only if they fail.
_OPTION_LINES = """\
0 3 * * * -n echo quiet
0 3 * * * -n  echo loud; exit 3
0 3 * * * -n take >&2; false%in
"""
# Setting the login id takes a capability that containers do not have.
_PAM = "cd /run && cp -r /etc/pam.d . && sed -i /pam_loginuid/d pam.d/cron && cp pam.d/cron pam.d/crond"
_CRONS = {"debian": ["cron", "-f", "-L", "15"], "cronie": ["sbin/crond", "-n"]}


@pytest.mark.parametrize("cron", _CRONS)
@pytest.mark.parametrize("shell", _TEXTS)
def test_real_cron_runs_the_same(cron: str, shell: str, tmp_path: Path) -> None:
    """What cron mails of each example is the same before and after, and what the model foretells."""
    before = parse(f"SHELL={shell}\nX='x y'\n{_TEXTS[shell]}", "tab", system=False)
    after = parse(wrap(before, Options(prefix="tab")).text, "tab", system=False)
    mails = _mails_of(cron, tmp_path, before.jobs, after.jobs)
    for old in before.jobs:
        line = before.lines[old.number - 1]
        place = Place(tmp_path / f"model{old.number}")
        foretold = place.run(old, cronie=cron == "cronie")[1].replace(bytes(place.work), b"HOME")
        if cron == "cronie":
            foretold = foretold.replace(b"\r", b"")  # It leaves them out of its mails.
        mailed, wrapped = mails(old.number)
        if _COMPLAINTS.search(foretold):
            assert _COMPLAINTS.search(mailed), line
            assert _COMPLAINTS.search(wrapped), line
        else:
            assert mailed == foretold, line
            assert wrapped == mailed, line


def test_cronie_reads_its_options_in_front_of_cronlock(tmp_path: Path) -> None:
    """`-n` is cronie's before and after: no mail of a run that was right, one of a run that failed."""
    before = parse(_OPTION_LINES, "tab", system=False, dialect=DIALECTS["cronie"])
    after = parse(wrap(before, Options()).text, "tab", system=False, dialect=DIALECTS["cronie"])
    assert len(after.jobs) == 3
    mails = _mails_of("cronie", tmp_path, before.jobs, after.jobs)
    assert [mails(job.number) for job in before.jobs] == [(b"", b""), (b"loud\n", b"loud\n"), (b"<in>\n", b"<in>\n")]


def _mails_of(cron: str, directory: Path, before: list[Job], after: list[Job]) -> Callable[[int], tuple[bytes, bytes]]:
    """Return a function that says what `cron` mails of a line, by its number, before and after it was wrapped."""
    name, *options = _CRONS[cron]
    command = [*(cronie(name) if cron == "cronie" else [need(name, "cron")]), *options]
    with Fleet(directory / "fleet") as fleet:
        if not fleet.has_users:
            pytest.skip("cron changes users: needs root, or newuidmap and a range of ids in /etc/subuid")
        machine = fleet.machine("one")
        cases = {f"old{job.number}": job for job in before} | {f"new{job.number}": job for job in after}
        mails = _run_cron(machine, command, fleet.shared, cases)
    return lambda number: (_body(mails, f"old{number}"), _body(mails, f"new{number}"))


def _body(mails: dict[str, bytes], case: str) -> bytes:
    return mails.get(case, b"").replace(b"/run/work/" + case.encode(), b"HOME")


def _run_cron(machine: Machine, command: list[str], shared: Path, cases: dict[str, Job]) -> dict[str, bytes]:
    """Return what cron mails of each case when the machine starts; nothing where it mails nothing."""
    program = Path(command[0]).name[:15]
    machine.run("sh", "-c", _PAM)
    machine.run("mount", "--bind", "/run/pam.d", "/etc/pam.d")
    programs = {"show": SHOW, "take": TAKE, "cronlock": STAND_IN, "bare": 'echo "bare $1"\n'}
    for name, text in programs.items():
        machine.write(f"/usr/local/bin/{name}", text, "755")
    machine.write("/usr/sbin/sendmail", _SENDMAIL, "755")
    (shared / "mail").mkdir()
    tab = ["MAILTO=root", "PATH=/usr/local/bin:/usr/bin:/bin", "X='x y'", *_line("first", "/bin/sh", "echo first")]
    for case, job in cases.items():
        tab += _line(case, job.shell, "".join(f"-{letter} " for letter in job.options) + job.command + job.stdin)
    machine.run("sh", "-c", _FILES, "sh", *(f"/run/work/{case}" for case in cases))
    tab += _line("last", "/bin/sh", "echo last")
    (shared / "tab").write_bytes("".join(f"{line}\n" for line in tab).encode("utf-8", "surrogateescape"))
    machine.run("sh", "-c", f"cat {SHARED}/tab >/etc/crontab")
    machine.start(*command)
    # cron starts what is due at the start one after the other, and has done so when both ends are there.
    eventually(lambda: {"first", "last"} <= _mails(shared).keys(), "cron runs the first and the last line", 120)
    eventually(lambda: machine.programs().count(program) == 1, "all lines end", 120)
    return _mails(shared)


_FILES = """
for place; do
    mkdir -p "$place/sub" && cd "$place" && for each in a.txt b.txt sub/c.txt; do echo "$each" >"$each"; done
done
"""


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
