"""Debian's cron and cronie run the examples, before and after, as the model predicts."""

from __future__ import annotations

import contextlib
import quopri
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cronlock.crontab.dialects import DIALECTS
from cronlock.crontab.lines import Job, parse
from cronlock.crontab.wrapping import Options, wrap
from labs.debian import cronie
from labs.machines import SHARED, Fleet, Machine
from labs.servers.process import eventually, need
from tests.crontab.cron import SHOW, STAND_IN, TAKE, Sandbox
from tests.crontab.examples import BASH_LINES, LINES
from tests.crontab.test_corpus import _CASES as CASES
from tests.crontab.test_corpus import _parse as parse_lines

_SENDMAIL = f"""\
#!/bin/sh
mail=$(mktemp {SHARED}/.mail-XXXXXX) && cat >"$mail" && mv "$mail" "{SHARED}/mail/${{mail##*-}}"
"""
_RECORD = f"""\
#!/bin/sh
printf '%s\\0' "$@" >"{SHARED}/fired/$CASE"
"""
_TEXTS = {"/bin/sh": LINES, "/bin/bash": BASH_LINES}
# Errors of a shell, which quote the line or count within it.
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
    """cron mails the same for each example before and after, as the model predicts."""
    before = parse(f"SHELL={shell}\nX='x y'\n{_TEXTS[shell]}", "tab", system=False)
    after = parse(wrap(before, Options(prefix="tab")).text, "tab", system=False)
    mails = _mails_of(cron, tmp_path, before.jobs, after.jobs)
    for old in before.jobs:
        line = before.lines[old.number - 1]
        sandbox = Sandbox(tmp_path / f"model{old.number}")
        foretold = sandbox.run(old, cronie=cron == "cronie")[1].replace(bytes(sandbox.work), b"HOME")
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
    """`-n` keeps its meaning for cronie: mail only for a failed run."""
    before = parse(_OPTION_LINES, "tab", system=False, dialect=DIALECTS["cronie"])
    after = parse(wrap(before, Options()).text, "tab", system=False, dialect=DIALECTS["cronie"])
    assert len(after.jobs) == 3
    mails = _mails_of("cronie", tmp_path, before.jobs, after.jobs)
    assert [mails(job.number) for job in before.jobs] == [(b"", b""), (b"loud\n", b"loud\n"), (b"<in>\n", b"<in>\n")]


@pytest.mark.parametrize("cron", _CRONS)
def test_real_cron_fires_the_corpus(cron: str, tmp_path: Path) -> None:
    """cron takes every converted line, and starts cronlock with its key, options and command, as it should."""
    wanted: dict[str, tuple[Job, list[str]]] = {}
    for case in CASES:
        crontab = parse_lines(case.lines, system=case.is_system)
        after = parse_lines(wrap(crontab, Options()).text.splitlines(), system=case.is_system)
        for job, (given, _) in zip(after.jobs, case.jobs):
            if given != "left":
                wanted[f"{case.name.replace(':', '_')}_{job.number}"] = job, shlex.split(given)
    assert len(wanted) > 150
    read = {name for name, (job, _) in wanted.items() if set(job.options) <= set(DIALECTS[cron].options)}
    with _machine(cron, tmp_path) as (machine, command, shared):
        _accept(cron, machine, [wanted[name][0] for name in sorted(read)])
        (shared / "fired").mkdir()
        machine.run("chmod", "777", f"{SHARED}/fired")
        machine.write("/usr/local/bin/cronlock", _RECORD, "755")
        _fire(machine, command, shared, {name: job for name, (job, _) in wanted.items()})
        fired = {file.name: file.read_bytes().decode().split("\0")[:-1] for file in (shared / "fired").iterdir()}
    # This cron takes an unknown option for the command, as the remark says.
    assert fired.keys() == read
    for name, (key, *options) in ((name, wanted[name][1]) for name in read):
        words = fired[name]
        assert words[: words.index("--")] == ["run", "--key", key, *options], name


def _accept(cron: str, machine: Machine, jobs: list[Job]) -> None:
    """Let the crontab(1) of `cron` check the lines, without users."""
    lines = "".join(f"{job.schedule.text} {_command(job)}\n" for job in jobs)
    machine.write("/run/tab", lines)
    machine.run(*(["crontab", "-n"] if cron == "debian" else [*cronie("bin/crontab"), "-T"]), "/run/tab")


def _command(job: Job) -> str:
    return "".join(f"-{letter} " for letter in job.options) + job.command + job.stdin


def _mails_of(cron: str, directory: Path, before: list[Job], after: list[Job]) -> Callable[[int], tuple[bytes, bytes]]:
    """Return a function from a line's number to what `cron` mails, before and after wrapping."""
    cases = {f"old{job.number}": job for job in before} | {f"new{job.number}": job for job in after}
    with _machine(cron, directory) as (machine, command, shared):
        _fire(machine, command, shared, cases)
        mails = _mails(shared)
    return lambda number: (_body(mails, f"old{number}"), _body(mails, f"new{number}"))


def _body(mails: dict[str, bytes], case: str) -> bytes:
    return mails.get(case, b"").replace(b"/run/work/" + case.encode(), b"HOME")


@contextlib.contextmanager
def _machine(cron: str, directory: Path) -> Iterator[tuple[Machine, list[str], Path]]:
    """Give a machine, the command that starts `cron` there, and the directory shared with the tests."""
    name, *options = _CRONS[cron]
    command = [*(cronie(name) if cron == "cronie" else [need(name, "cron")]), *options]
    with Fleet(directory / "fleet") as fleet:
        if not fleet.has_users:
            pytest.skip("cron changes users: needs root, or newuidmap and a range of ids in /etc/subuid")
        machine = fleet.machine("one")
        machine.run("sh", "-c", _PAM)
        machine.run("mount", "--bind", "/run/pam.d", "/etc/pam.d")
        programs = {"show": SHOW, "take": TAKE, "cronlock": STAND_IN, "bare": 'echo "bare $1"\n'}
        for program, text in programs.items():
            machine.write(f"/usr/local/bin/{program}", text, "755")
        machine.write("/usr/sbin/sendmail", _SENDMAIL, "755")
        (fleet.shared / "mail").mkdir()
        yield machine, command, fleet.shared


def _fire(machine: Machine, command: list[str], shared: Path, cases: dict[str, Job]) -> None:
    """Start cron with `cases` as @reboot jobs, and wait until all have ended."""
    tab = ["MAILTO=root", "PATH=/usr/local/bin:/usr/bin:/bin", "X='x y'", *_line("first", "/bin/sh", "echo first")]
    for case, job in cases.items():
        tab += _line(case, job.shell, _command(job))
    machine.run("sh", "-c", _FILES, "sh", *(f"/run/work/{case}" for case in cases))
    tab += _line("last", "/bin/sh", "echo last")
    (shared / "tab").write_bytes("".join(f"{line}\n" for line in tab).encode("utf-8", "surrogateescape"))
    machine.run("sh", "-c", f"cat {SHARED}/tab >/etc/crontab")
    machine.start(*command)
    # cron starts what is due at the start one after the other, and has done so when both ends are there.
    eventually(lambda: {"first", "last"} <= _mails(shared).keys(), "cron runs the first and the last line", 120)
    eventually(lambda: machine.programs().count(Path(command[0]).name[:15]) == 1, "all lines end", 120)


_FILES = """
for sandbox; do
    mkdir -p "$sandbox/sub" && cd "$sandbox" && for each in a.txt b.txt sub/c.txt; do echo "$each" >"$each"; done
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
        # The form of Debian's cron from 13 on.
        found[case[1].decode()] = quopri.decodestring(body) if b": quoted-printable" in header else body
    return found
