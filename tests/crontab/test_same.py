"""Real shells run the same before and after wrapping."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.crontab.lines import Crontab, end_of_command, parse, unescape
from cronlock.crontab.shell import plain_words, quote
from cronlock.crontab.wrapping import Options, wrap
from labs.servers.process import need
from tests.crontab.cron import Sandbox, hand
from tests.crontab.examples import BASH_LINES, LINES

_SHELLS = {"/bin/sh": LINES, "/bin/dash": LINES, "/bin/bash": LINES + BASH_LINES}


def _crontabs(text: str) -> tuple[Crontab, Crontab]:
    """Return a crontab before and after wrapping, which wraps all its jobs."""
    before = parse(text, "tab", system=False)
    wrapped = wrap(before, Options(prefix="tab"))
    assert [job.number for job in wrapped.jobs] == [job.number for job in before.jobs]
    return before, parse(wrapped.text, "tab", system=False)


@pytest.mark.parametrize("shell", _SHELLS)
@pytest.mark.parametrize("cronie", [False, True], ids=["debian", "cronie"])
def test_examples_do_the_same(shell: str, cronie: bool, tmp_path: Path) -> None:
    """Each example has the same status and output, and ran once, through cronlock."""
    need(shell, "bash dash")
    before, after = _crontabs(f"SHELL={shell}\nX='x y'\n{_SHELLS[shell]}")
    assert len(before.jobs) >= 60
    for index, (old, new) in enumerate(zip(before.jobs, after.jobs)):
        first, second = Sandbox(tmp_path / f"{index}-old"), Sandbox(tmp_path / f"{index}-new")
        expected = first.run(old, cronie=cronie)
        status, output = second.run(new, cronie=cronie)
        found = status, _neutral(output, second, first)
        line = before.lines[old.number - 1]
        if _is_about_the_line(expected[1]):
            # The shell's error quotes its input or counts its lines.
            assert status == expected[0], line
        else:
            assert found == expected, line
        assert not first.wrapped.exists()
        assert second.wrapped.read_text() == "called\n", line


def _neutral(output: bytes, sandbox: Sandbox, other: Sandbox) -> bytes:
    return output.replace(bytes(sandbox.work.parent), bytes(other.work.parent))


def _is_about_the_line(output: bytes) -> bool:
    return any(complaint in output for complaint in (b"not found", b"yntax error", b"nterminated", b"unexpected EOF"))


@given(st.text(st.characters(exclude_characters="\n\0", exclude_categories=()), max_size=30))
def test_cron_reads_quoted_text_alike(text: str) -> None:
    """Quoting for the shell does not interfere with cron's reading of backslashes and percent signs."""
    command = text[: end_of_command(text)].encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    for cronie in (False, True):
        shells = hand(command, cronie=cronie)
        assert shells.stdin == b""
        assert hand(quote(command) + "%in", cronie=cronie) == (
            quote(shells.command.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"),
            b"in\n",
        )


@given(st.text("ab %\\'\"", max_size=20))
def test_end_of_command_is_where_cron_ends_it(text: str) -> None:
    """cron gives the command to the shell and the rest to its stdin."""
    end = end_of_command(text)
    for cronie in (False, True):
        whole = hand(text, cronie=cronie)
        assert hand(text[:end], cronie=cronie) == (whole.command, b"")
        assert hand("x" + text[end:], cronie=cronie) == (b"x", whole.stdin)


@given(st.text("ab%\\ '", max_size=20))
def test_unescape_is_cronies_reading(text: str) -> None:
    """Both crons read the same, except for doubled backslashes, which cronie keeps."""
    command = text[: end_of_command(text)]
    assert unescape(command).encode() == hand(command, cronie=True).command
    if "\\\\" not in command:
        assert unescape(command).encode() == hand(command).command


@pytest.mark.parametrize(
    "word", ["cd", "echo", "FOO=bar", "if", "a b;c", "$X", "*", "~/x", "a>b", "a\\ b", "'", "-x|", "{a}"]
)
def test_shell_syntax_is_not_plain(word: str) -> None:
    """Shell syntax is not taken for plain words."""
    assert plain_words(f"{word} x") is None


def test_with_cronlock_itself(tmp_path: Path) -> None:
    """The real cronlock runs a wrapped line once, with its stdin, and skips it at the same tick."""
    (tmp_path / "empty.conf").touch()
    text = f"""\
CRONLOCK_STATE_DIR={tmp_path}/state
CRONLOCK_CONFIG={tmp_path}/empty.conf
0 3 * * * take | cat && show "$CRONLOCK_KEY"; exit 3%one%two \\% three
"""
    wrapped = wrap(
        parse(text, "tab", system=False),
        Options(prefix="tab", program=f"{shlex.quote(sys.executable)} -m cronlock", period=7200),
    )
    (job,) = parse(wrapped.text, "tab", system=False).jobs
    sandbox = Sandbox(tmp_path / "sandbox")
    assert sandbox.run(job) == (3, b"<one>\n<two % three>\n1:[tab.show]\n")
    assert sandbox.run(job) == (0, b"")
