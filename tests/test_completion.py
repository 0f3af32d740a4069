"""Completion, in the real shells: what Tab offers after the beginning of a line."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from labs.servers.process import eventually, need

ROOT = Path(__file__).resolve().parents[1]
_FILES = ROOT / "completions"

_BASH = """
source "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMPREPLY=()
_cronlock_completion cronlock
printf '%s\\n' "${COMPREPLY[@]}"
"""

_ZSHRC = f"PS1='> '; fpath=({_FILES} $fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give a PATH where cronlock is, and a backend with two keys."""
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "cronlock"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m cronlock "$@"\n')
    launcher.chmod(0o755)
    (tmp_path / "conf").write_text(f"CRONLOCK_BACKEND=file://{tmp_path}/leases\n")
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "CRONLOCK_CONFIG": str(tmp_path / "conf"),
        "CRONLOCK_STATE_DIR": str(tmp_path / "state"),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    for key in ("billing", "backup"):
        subprocess.run([launcher, "run", "--key", key, "--", "true"], env=environment, check=True)
    return environment


def in_bash(environment: dict[str, str], *words: str) -> set[str]:
    """Return what bash offers for the last of `words`."""
    line = [need("bash", "bash"), "-c", _BASH, "bash", str(_FILES / "cronlock.bash"), *words]
    return set(subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout.split())


def in_fish(environment: dict[str, str], *words: str) -> set[str]:
    """Return what fish offers for the last of `words`."""
    code = f"source {_FILES}/cronlock.fish; complete -C '{' '.join(words)}'"
    done = subprocess.run(
        [need("fish", "fish"), "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("offered", [in_bash, in_fish])
def test_commands_options_and_keys_are_offered(offered, environment: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    """Names of commands and options, choices, keys of the backend."""
    assert {"status", "history", "check", "release", "wrap", "run"} <= offered(environment, "cronlock", "")
    assert offered(environment, "cronlock", "hist") == {"history"}
    assert {"--standby", "--skip-status", "--state-dir"} <= offered(environment, "cronlock", "run", "--s")
    assert offered(environment, "cronlock", "run", "--on-lost", "s") == {"stop"}
    for words in (["status"], ["history"], ["release"], ["check"], ["run", "--key"]):
        assert offered(environment, "cronlock", *words, "b") == {"billing", "backup"}
    assert offered(environment, "cronlock", "status", "bi") == {"billing"}
    assert "mkdir" in offered(environment, "cronlock", "run", "--key", "x", "--", "mkd")


@pytest.mark.parametrize(("line", "expected"), [("hist", "history"), ("release bi", "release billing")])
def test_zsh_completes(environment: dict[str, str], line: str, expected: str) -> None:
    """Tab in a real zsh, which completes only at a terminal, completes a command and a key."""
    (Path(environment["HOME"]) / ".zshrc").write_text(_ZSHRC)
    controller, terminal = os.openpty()
    shell = subprocess.Popen(
        [need("zsh", "zsh"), "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    shown = b""

    def shows(text: str) -> bool:
        nonlocal shown
        if select.select([controller], [], [], 0.1)[0]:
            shown += os.read(controller, 65536)
        return text in shown.decode(errors="replace")

    try:
        eventually(lambda: shows("> "), "zsh is ready")
        os.write(controller, f"cronlock {line}\t".encode())
        eventually(lambda: shows(f"cronlock {expected}"), f"zsh completes to {expected}; it shows {shown!r}")
    finally:
        shell.kill()
        shell.wait()
        os.close(controller)
        os.close(terminal)


def test_no_backend_is_no_mess(environment: dict[str, str]) -> None:
    """Where the backend does not answer nothing is offered, and nothing is said."""
    Path(environment["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BACKEND=redis://127.0.0.1:1\n")
    line = [need("bash", "bash"), "-c", _BASH, "bash", str(_FILES / "cronlock.bash"), "cronlock", "status", "b"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
