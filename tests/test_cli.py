"""The command line: quick reader and click agree; help and version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cronlock import __version__, cli, errors
from cronlock.config import arguments as quickargs
from cronlock.config.options import COMMAND_VARIABLES, FLAG, OPTIONS
from cronlock.errors import UsageError


def by_click(arguments: list[str]) -> tuple[dict[str, object], list[str]]:
    """Return (options, command) of the words after ``run`` as click reads them; raises click.UsageError."""
    command = cli.cronlock.commands["run"]
    context = command.make_context("run", list(arguments), resilient_parsing=False)
    values = dict(context.params)
    words = values.pop("command")
    values["key"] = values["key"][0] if values["key"] else None
    return {name: value for name, value in values.items() if value is not None and value is not False}, list(words)


_NAMES = [name for option in OPTIONS for name in (option.long, option.short) if name is not None]
_ODD = ["", "-", "--", "---", "-h", "--help", "-kx", "-vq", "-qk", "-k=x", "--key=", "--key=a=b", "--verbose=1", "--ke"]
_ODD += ["--no-verbose", "-5", "=", "a=b", "--=x", "-=", "\udcff", "--key\udcff", "a\nb", "5m", "true", "run", "é"]

_WORDS = st.one_of(
    st.sampled_from(_NAMES),
    st.sampled_from(_ODD),
    st.builds("{}={}".format, st.sampled_from(_NAMES), st.sampled_from([*_ODD, "5", "redis://h"])),
    st.text(max_size=5),
)


@given(st.lists(_WORDS, max_size=9))
@example(["--key", "--", "--", "true"])
@example(["-k", "-v", "true", "-v"])
@example(["-v", "-v", "--ttl", "a", "--ttl", "b", "--", "--", "x"])
@settings(max_examples=300)
def test_quick_reader_agrees_with_click(arguments: list[str]) -> None:
    """The quick reader agrees with click, and leaves to click what click refuses."""
    try:
        quick = quickargs.read_run(arguments)
    except UsageError:
        return  # Click takes the next option for a value that was forgotten; a second key is refused behind it.
    if quick is None:
        return
    assert by_click(arguments) == quick


@pytest.mark.parametrize(
    "arguments", [["--key", "--", "true"], ["-k", "--ttl=5m", "--", "true"], ["--wait", "-k", "m", "--", "true"]]
)
def test_forgotten_values_are_refused(arguments: list[str]) -> None:
    """With $JOB empty, `--key $JOB -- true` must not run under a key that all such lines share."""
    with pytest.raises(UsageError, match=r"no value, .* follows"):
        quickargs.read_run(arguments)
    flag, value, *rest = arguments
    joined = [f"--key={value}", *rest] if flag in ("--key", "-k") else [f"{flag}={value}", *rest]
    assert quickargs.read_run(joined) == by_click(joined)


_VALUES = st.one_of(st.sampled_from(_ODD), st.text(max_size=4))


@st.composite
def _well_formed(draw: st.DrawFn) -> tuple[list[str], dict[str, object], list[str]]:
    """Draw a documented line and its meaning."""
    words: list[str] = []
    meaning: dict[str, object] = {}
    for option in draw(st.lists(st.sampled_from(OPTIONS), max_size=6)):
        if option.name in meaning and option.name == "key":
            continue  # Refused: see tests/process/test_exit_status.py.
        flag = option.short if option.short is not None and draw(st.booleans()) else option.long
        if option.kind == FLAG:
            words.append(flag)
            meaning[option.name] = True
            continue
        value = draw(_VALUES)
        joined = f"{option.long}={value}"
        like_an_option = value == "--" or value.partition("=")[0] in _NAMES
        words += [joined] if like_an_option or draw(st.booleans()) else [flag, value]
        meaning[option.name] = value
    command = draw(st.lists(_VALUES, max_size=4))
    return [*words, "--", *command], meaning, command


@given(_well_formed())
@settings(max_examples=200)
def test_quick_reader_reads_every_documented_line(line: tuple[list[str], dict[str, object], list[str]]) -> None:
    """A line of options, ``--`` and command never needs click."""
    words, meaning, command = line
    assert quickargs.read_run(words) == (meaning, command)
    assert by_click(words) == (meaning, command)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["--key", "a", "-h"], ["--ttl"], ["--no-such"], ["-vq", "x"]]
)
def test_quick_reader_leaves_to_click(arguments: list[str]) -> None:
    """Help, errors and joined short options are left to click."""
    assert quickargs.read_run(arguments) is None


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cronlock``."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "cronlock", *words], env=environ, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(word: str) -> None:
    """Help is on standard output and names the commands."""
    done = run(word)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cronlock run --key" in done.stdout


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("--key", "a", "--help")])
def test_help_of_run(words: tuple[str, ...]) -> None:
    """Help of run names every option, status and variable."""
    done = run("run", *words)
    assert (done.returncode, done.stderr) == (0, "")
    for option in OPTIONS:
        assert option.long in done.stdout
    for status, meaning in errors.TABLE:
        assert f"{status} " in done.stdout
        assert meaning in done.stdout
    for name, _ in COMMAND_VARIABLES:
        assert name in done.stdout


def test_help_after_the_command_is_the_commands() -> None:
    """An option after the command's name belongs to the command."""
    done = run(
        "run", "--key", "a", "--backend", "redis://127.0.0.1:9", "--on-error", "run", "echo", "--help", "-h", "-v"
    )
    assert (done.returncode, done.stdout) == (0, "--help -h -v\n")


def test_version() -> None:
    """The version is one line."""
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cronlock {__version__}\n", "")


@pytest.mark.parametrize(
    "words", [(), ("no-such-command",), ("--no-such-option",), ("run",), ("run", "--key", "a"), ("run", "--", "true")]
)
def test_errors_are_one_line(words: tuple[str, ...]) -> None:
    """A usage error gives 64 and one line with a remedy."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("cronlock: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(" " in sys.executable, reason="pip quotes no path in a script's first line")
def test_console_script() -> None:
    """The installed script is the same program."""
    script = Path(sys.executable).with_name("cronlock")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"cronlock {__version__}\n"


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("run", "--help")])
def test_unwritable_output(words: tuple[str, ...]) -> None:
    """A closed reader or a full disk gives no traceback."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as broken, open("/dev/full", "wb") as full:
        for out in (broken, full):
            done = subprocess.run(
                [sys.executable, "-m", "cronlock", *words], stdout=out, stderr=subprocess.PIPE, text=True, timeout=120
            )
            assert "Traceback" not in done.stderr


def test_run_imports_little() -> None:
    """A run on Redis loads none of the modules that cost more than the rest of the start."""
    code = (
        "import sys; before = set(sys.modules); from cronlock import __main__ as m;"
        "m.dispatch(['run', '--key', 'a', '--backend', 'redis://127.0.0.1:9', '--', 'true']);"
        "print(*sorted(set(sys.modules) - before))"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stdout.split())
    heavy = {"click", "redis", "kazoo", "pymemcache", "socket", "signal", "enum", "json", "typing", "logging", "re"}
    heavy |= {"subprocess", "dataclasses", "threading", "random", "urllib", "ssl", "hashlib", "selectors", "contextlib"}
    assert loaded & heavy == set()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("statsu", "unknown command 'statsu'; did you mean status? (see cronlock --help)"),
        ("xyzzy", "unknown command 'xyzzy' (see cronlock --help)"),
        ("run --tl 5 -- true", "unknown option '--tl'; did you mean --ttl? (see cronlock run --help)"),
        ("status --jsno", "unknown option '--jsno'; did you mean --json? (see cronlock status --help)"),
        ("status -x", "unknown option '-x' (see cronlock status --help)"),
        ("--key a -- true", "unknown option '--key'; did you mean cronlock run --key? (see cronlock --help)"),
    ],
)
def test_typos_are_answered_with_the_nearest_name(line: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message contains the remedy, if any."""
    assert cli.main(line.split()) == errors.USAGE
    assert capsys.readouterr().err == f"cronlock: {answer}\n"
