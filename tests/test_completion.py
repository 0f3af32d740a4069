"""Completion in the real shells."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from shlex import quote as _quote

import pytest

from labs.servers.process import eventually, need

ROOT = Path(__file__).resolve().parents[1]
_FILES = ROOT / "completions"

_BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMPREPLY=()
COMP_POINT=${#COMP_LINE}
_cronlock_completion cronlock
printf '%s\\n' "${COMPREPLY[@]}"
"""

_BASHRC = f"PS1='> '; source {_quote(str(_FILES))}/cronlock.bash; bind 'set enable-bracketed-paste off'\n"
_COMPINIT = "autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word"
_ZSHRC = f"PS1='> '; fpath=({_quote(str(_FILES))} $fpath); {_COMPINIT}\n"
# The input before Tab, and the completed line.
_ANYWHERE = (
    ("hist", "history"),
    ("release bi", "release billing"),
    ("wrap cro", r"wrap cron\ tab"),
    ("wrap --check cro", r"wrap --check cron\ tab"),
    ("status --prometheus --output cro", r"status --prometheus --output cron\ tab"),
    ("status --config cro", r"status --config cron\ tab"),
)
_IN_ZSH = (("status nig", r"status nightly\ dump,\ all"),)
_IN_BASH = (
    ("status nig", r"status nightly\ dump\,\ all"),
    ("run --key=bac", "run --key=backup"),
    ('status "nig', 'status "nightly dump, all"'),
    ("status 'nig", "status 'nightly dump, all'"),
    (r"status nightly\ d", r"status nightly\ dump\,\ all"),
    ("status db:va", "status db:vacuum"),
    ("run --key=db:va", "run --key=db:vacuum"),
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give a PATH with cronlock, a backend with keys, and a home with a file."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "cron tab").touch()
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "cronlock"
    launcher.write_text(f'#!/bin/sh\nexec {_quote(sys.executable)} -m cronlock "$@"\n')
    launcher.chmod(0o755)
    (tmp_path / "conf").write_text(f"CRONLOCK_BACKEND=file://{tmp_path}/leases\n")
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        "CRONLOCK_CONFIG": str(tmp_path / "conf"),
        "CRONLOCK_STATE_DIR": str(tmp_path / "state"),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    for key in ("billing", "backup", "nightly dump, all", "db:vacuum"):
        subprocess.run([launcher, "run", "--key", key, "--", "true"], env=environment, check=True)
    return environment


def in_bash(environment: dict[str, str], *words: str) -> set[str]:
    """Return bash's completions of the last of `words`."""
    line = [need("bash", "bash"), "-c", _BASH, "bash", str(_FILES / "cronlock.bash"), *words]
    return set(subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout.splitlines())


def in_fish(environment: dict[str, str], *words: str) -> set[str]:
    """Return fish's completions of the last of `words`."""
    code = f"source {_quote(str(_FILES))}/cronlock.fish; complete -C '{' '.join(words)}'"
    done = subprocess.run(
        [need("fish", "fish"), "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("offered", [in_bash, in_fish])
def test_commands_options_and_keys_are_offered(offered, environment: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    """Names of commands and options, choices, keys of the backend."""
    assert {"status", "history", "check", "pause", "resume", "stop", "release", "wrap", "run"} <= offered(
        environment, "cronlock", ""
    )
    assert offered(environment, "cronlock", "hist") == {"history"}
    assert {"--standby", "--skip-status", "--state-dir"} <= offered(environment, "cronlock", "run", "--s")
    assert offered(environment, "cronlock", "run", "--on-lost", "s") == {"stop"}
    for words in (["status"], ["history"], ["release"], ["check"], ["run", "--key"]):
        assert offered(environment, "cronlock", *words, "b") == {"billing", "backup"}
    assert offered(environment, "cronlock", "status", "bi") == {"billing"}
    assert "nightly dump, all" in {one.replace("\\", "") for one in offered(environment, "cronlock", "status", "n")}
    assert "mkdir" in offered(environment, "cronlock", "run", "--key", "x", "--", "mkd")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab(environment: dict[str, str], shell: str) -> None:
    """At a terminal Tab completes commands, options, keys and files, quoted for the shell."""
    home = Path(environment["HOME"])
    (home / ".bashrc").write_text(_BASHRC)
    (home / ".zshrc").write_text(_ZSHRC)
    controller, terminal = os.openpty()
    started = subprocess.Popen(
        [need(shell, shell), "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=home,
        start_new_session=True,
    )
    shown = b""

    def shows(text: str) -> bool:
        nonlocal shown
        if select.select([controller], [], [], 0.1)[0]:
            shown += os.read(controller, 65536)
        return text in shown.decode(errors="replace")

    try:
        eventually(lambda: shows("> "), f"{shell} is ready")
        for line, expected in (*_ANYWHERE, *(_IN_BASH if shell == "bash" else _IN_ZSH)):
            shown = b""
            os.write(controller, f"cronlock {line}\t".encode())
            eventually(lambda: shows(f"cronlock {expected} "), f"{shell}: {line} becomes {expected}")  # noqa: B023
            os.write(controller, b"\x15")
    finally:
        started.kill()
        started.wait()
        os.close(controller)
        os.close(terminal)


def test_no_completions_without_a_backend(environment: dict[str, str]) -> None:
    """If the backend does not answer, there are no completions and no message."""
    Path(environment["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BACKEND=redis://127.0.0.1:1\n")
    line = [need("bash", "bash"), "-c", _BASH, "bash", str(_FILES / "cronlock.bash"), "cronlock", "status", "b"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
