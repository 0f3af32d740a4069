"""Crontabs are read as cron reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cronlock.crontab.lines import CrontabError, parse, read_variable
from labs.machines import SHARED, Fleet
from labs.servers.process import need

_JOB = "* * * * * job"
#: A line, and whether cron and cronlock can read it.
READABLE = [
    ("", True),
    ("  \t ", True),
    ("# comment", True),
    ("  \t# comment with * * * * *", True),
    ("#", True),
    (_JOB, True),
    (f" \t {_JOB}", True),
    ("@reboot job", True),
    ("@daily\tjob", True),
    ("@Daily job", False),
    ("@never job", False),
    ("FOO=bar", True),
    ("FOO = bar baz ", True),
    ("FOO='bar baz'", True),
    ('"FOO BAR"="baz"  ', True),
    ("FOO=a'b\"c", True),
    ('FOO=""', True),
    ('FOO="a" b', False),
    ('FOO="a', False),
    ("export FOO=bar", False),
    ("FOO", False),
    ("* * * * * * job", False),
    ("60 * * * * job", False),
    ("* 24 * * * job", False),
    ("* * 0 * * job", False),
    ("* * * 0 * job", False),
    ("* * * 13 * job", False),
    ("* * * * 8 job", False),
    ("* * * january * job", False),
    ("* * * JAN mon job", True),
    ("* * * jan-mar mon-fri,sun job", True),
    ("1/20 * * * * job", False),
    ("1-30/20,40,*/7 * * * * job", True),
    ("1-5/0 * * * * job", False),
    ("1, * * * * job", False),
    ("1,,2 * * * * job", False),
    ("007 * * * * job", True),
    ("0 0 31 2 * job", True),
    ("\r", False),
    (f"{_JOB}\r", True),
    ("FOO=bar\r", True),
    ("\ufeff# comment", False),
    ("* * * * * caf\udce9", True),
    ("just words", False),
    ("* * * * * a=b", True),
    ("a * * * * = b", False),
    ("5 = 3", True),
]


def test_readable_lines_are_those_of_crontab(tmp_path: Path) -> None:
    """cronlock can read a line if and only if the real crontab(1) can."""
    need("cron", "cron")
    with Fleet(tmp_path / "fleet") as fleet:
        machine = fleet.machine("one")
        machine.run("mkdir", "-p", "/var/spool/cron/crontabs")
        for number, (line, _) in enumerate(READABLE):
            (fleet.shared / f"tab{number}").write_bytes(f"{line}\n".encode("utf-8", "surrogateescape"))
        script = f"cd {SHARED}; for n in $(seq 0 {len(READABLE) - 1}); do crontab -n tab$n 2>/dev/null; echo $?; done"
        statuses = machine.run("sh", "-c", script).split()
    for (line, readable), status in zip(READABLE, statuses):
        assert (status == "0") is readable, f"crontab on {line!r}"
        assert (_refusal(f"{line}\n") == "") is readable, f"parse on {line!r}"
    # Only Debian's cron from 13 on reads it.
    assert _refusal("FOO=\n")


def _refusal(text: str) -> str:
    """Return the one-line error of the crontab `text`; empty if it is valid."""
    try:
        parse(text, "tab", system=False)
    except CrontabError as error:
        reason = str(error)
    else:
        return ""
    assert reason.startswith("tab:1: ")
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("* * * * *", "no command"),
        ("@daily", "no command"),
        ("* * * * * %stdin", "no command"),
        ("5;x * * * * job", "not a valid minute"),
        ("5-1 * * * * job", "not a valid minute"),
        ("0 5L * * * job", "not a valid hour"),
        ("0 0 L * * job", "not a valid day of month"),
        ("0 0 * * 5#2 job", "not a valid day of week"),
        ("* * * * * a\0b", "NUL"),
    ],
)
def test_lines_that_cron_misreads_are_refused(line: str, reason: str) -> None:
    """Lines that some cron accepts, but not as they were meant."""
    with pytest.raises(CrontabError, match=rf"^tab:3: .*{reason}"):
        parse(f"# one\n\n{line}\n", "tab", system=False)


def test_user_field() -> None:
    """With users, the name is not part of the command; without a name there is no command."""
    (job,) = parse("*/5 * * * *  root\t job --x \n", "tab", system=True).jobs
    assert (job.head, job.user, job.command) == ("*/5 * * * *  root\t ", "root", "job --x ")
    for line in ("* * * * * root", "* * * * *", "@daily root", "* * * * * /usr/bin/job x"):
        with pytest.raises(CrontabError, match=r"^tab:1: "):
            parse(f"{line}\n", "tab", system=True)


def test_minus_in_front_belongs_to_the_schedule() -> None:
    """A minus, with which cronie does not log the line, is kept."""
    (job,) = parse("-*/15 * * * * root job\n", "tab", system=True).jobs
    assert (job.head, job.schedule.text, job.command) == ("-*/15 * * * * root ", "*/15 * * * *", "job")


def test_variables_apply_to_lines_below() -> None:
    """A variable applies to the lines below it."""
    first, second, third = parse(
        f"{_JOB}\nSHELL=/bin/bash\n{_JOB}\nSHELL = '/bin/sh'\n{_JOB}\n", "tab", system=False
    ).jobs
    assert [first.shell, second.shell, third.shell] == ["/bin/sh", "/bin/bash", "/bin/sh"]


def test_variables_of_the_command() -> None:
    """Blanks around the equal sign, quotes and trailing blanks are not part of a value."""
    assert read_variable("A = b c \r") == ("A", "b c")
    assert read_variable("A='b c '") == ("A", "b c ")
    assert read_variable('"A b" = "\'c\'" ') == ("A b", "'c'")
    assert read_variable("A=it's") == ("A", "it's")
    assert read_variable("A b=c") is None


def test_comments_above() -> None:
    """A key applies to the line directly below; elsewhere there is a remark."""
    text = f"# key: one\n{_JOB}\n#key:  two words \n\n{_JOB}\n# cronlock: off\n{_JOB}\n# key: three\n"
    crontab = parse(text, "tab", system=False)
    assert [(job.key, job.off) for job in crontab.jobs] == [("one", False), (None, False), (None, True)]
    assert crontab.stray_keys == [3, 8]


def test_only_a_newline_ends_a_line() -> None:
    """Only a newline ends a line for cron."""
    text = "* * * * * a\x0bb\x0cc\u2028d\x85e\n"
    (job,) = parse(text, "tab", system=False).jobs
    assert job.command == text[len("* * * * * ") : -1]


def test_parse_takes_any_bytes() -> None:
    """Any file gives a crontab or its error."""
    data = subprocess.run(["head", "-c", "200000", "/dev/urandom"], capture_output=True, check=True).stdout
    reasons = set()
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        for prefix in ("", "* * * * * ", "@daily ", "A="):
            reasons.add(bool(_refusal(f"{prefix}{line}\n")))
    assert reasons == {True, False}
