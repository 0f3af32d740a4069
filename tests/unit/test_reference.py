"""Help, manual page and README say what the program's own tables say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cronlock import cli, errors
from cronlock.commands.common import SHARED
from cronlock.config.options import COMMAND_VARIABLES, OPTIONS
from cronlock.engines import registry

ROOT = Path(__file__).resolve().parents[2]


def test_manual_page_and_readme_are_not_stale() -> None:
    """`make reference` would change nothing."""
    answer = subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py", "--check"], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout


def test_everything_is_documented() -> None:
    """cronlock(1) has each option, status and variable."""
    text = (ROOT / "man/cronlock.1").read_text().replace("\\&", "").replace("\\-", "-")
    for option in OPTIONS:
        assert option.long.lstrip("-") in text
    for status, _ in errors.TABLE:
        assert status in text
    for variable, _ in COMMAND_VARIABLES:
        assert variable in text


def test_each_backend_is_in_the_manual() -> None:
    """The section BACKENDS of cronlock(1) names every scheme."""
    section = (ROOT / "man/cronlock.1").read_text().partition("\n.Sh BACKENDS\n")[2].partition("\n.Sh ")[0]
    assert [scheme for scheme in registry.SCHEMES if f" {scheme}://" not in section] == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_option_of_a_command_is_in_the_manual(name: str) -> None:
    """Also the other half of a pair such as --system/--user."""
    section = (ROOT / "man/cronlock.1").read_text().partition(f"\n.Ss cronlock {name}\n")[2].partition("\n.Ss ")[0]
    command = cli.cronlock.get_command(click.Context(cli.cronlock), name)
    assert command is not None
    for option in command.params:
        names = [*option.opts, *option.secondary_opts] if isinstance(option, click.Option) else []
        if option.name not in SHARED:
            assert [long for long in names if long[:2] == "--" and f"Fl \\&-{long[2:]}" not in section] == []


@pytest.mark.parametrize("command", ["", "run", *cli.COMMANDS])
def test_help_fits_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line of any --help is folded at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("Usage: cronlock")
    assert [line for line in shown if len(line) > 80] == []


def test_make_lists_its_targets() -> None:
    """`make help` has one line for each target, what matters first."""
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = re.findall(r"^  make (\S+) +\S", listed, re.MULTILINE)
    files = "".join((ROOT / name).read_text() for name in ("Makefile", "packaging/targets.mk"))
    targets = " ".join(re.findall(r"^\.PHONY: (.*)", files, re.MULTILINE)).split()
    assert shown[:5] == ["help", "demo", "test", "bench", "check"]
    assert sorted(shown) == sorted(targets)
    scripts = re.findall(r"(?:tools|packaging)/[\w/-]+\.(?:sh|py)", files)
    assert [script for script in scripts if not (ROOT / script).exists()] == []
