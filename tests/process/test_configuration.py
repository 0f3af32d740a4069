"""Configuration from file, environment and command line: which comes first, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .support import Node
from .test_exit_status import assert_one_error


def configure(node: Node, *lines: str) -> Path:
    """Write the node's configuration file."""
    path = node.directory / "cronlock.conf"
    path.write_text("\n".join(lines) + "\n")
    node.environ["CRONLOCK_CONFIG"] = str(path)
    return path


def skip_status(node: Node, *words: object, env: dict[str, str] | None = None) -> int:
    """Return the status of a skip, which shows what was configured."""
    return node.run(*words, "--", "echo", "ran", env=env).status


def test_order(node: Node) -> None:
    """The command line takes precedence over the environment, and that over the file."""
    node.run("--", "true")
    configure(node, "CRONLOCK_SKIP_STATUS=11")
    assert skip_status(node) == 11
    assert skip_status(node, env={"CRONLOCK_SKIP_STATUS": "12"}) == 12
    assert skip_status(node, "--skip-status", "13", env={"CRONLOCK_SKIP_STATUS": "12"}) == 13


def test_another_file(node: Node) -> None:
    """--config names another file than CRONLOCK_CONFIG."""
    node.run("--", "true")
    configure(node, "CRONLOCK_SKIP_STATUS=11")
    other = node.directory / "other.conf"
    other.write_text("CRONLOCK_SKIP_STATUS=14\n")
    assert skip_status(node, "--config", other) == 14


@pytest.mark.parametrize(
    "line",
    [
        "CRONLOCK_SKIP_STATUS=15",
        'CRONLOCK_SKIP_STATUS="15"',
        "CRONLOCK_SKIP_STATUS='15'",
        "  CRONLOCK_SKIP_STATUS = 15  ",
        "CRONLOCK_SKIP_STATUS=15\r",
        "# a comment = here\n\n; another\nCRONLOCK_SKIP_STATUS=15",
        "CRONLOCK_SKIP_STATUS=3\nCRONLOCK_SKIP_STATUS=15",
    ],
)
def test_forms_of_lines(node: Node, line: str) -> None:
    """Quotes, comments, empty lines and spaces are as EnvironmentFile= of systemd reads them."""
    node.run("--", "true")
    configure(node, line)
    assert skip_status(node) == 15


@pytest.mark.parametrize(
    "line",
    [
        "CRONLOCK_NO_SUCH=1",
        "CRONLOCK_KEY=job",
        "PATH=/bin",
        "export CRONLOCK_TTL=5",
        "CRONLOCK_TTL",
        "CRONLOCK_TTL=soon",
        "CRONLOCK_TTL=-5",
        "CRONLOCK_TTL=0",
        "CRONLOCK_TTL=inf",
        "CRONLOCK_TTL=nan",
        "CRONLOCK_TTL=",
        "CRONLOCK_TTL='5",
        "CRONLOCK_SKIP_STATUS=256",
        "CRONLOCK_SKIP_STATUS=-1",
        "CRONLOCK_SKIP_STATUS=1.5",
        "CRONLOCK_VERBOSE=perhaps",
        "CRONLOCK_ON_ERROR=panic",
        "CRONLOCK_LOG=printer",
        "CRONLOCK_STATE_DIR=relative/path",
        "CRONLOCK_BACKEND_TIMEOUT=0",
        "CRONLOCK_EVERY=5m\nCRONLOCK_MIN_HOLD=5",
    ],
)
def test_bad_lines(node: Node, line: str) -> None:
    """A bad line gives 78 and one line with file and line number."""
    name = line.partition("=")[0]
    node.environ.pop(name if name.startswith("CRONLOCK_") else "CRONLOCK_X", None)
    path = configure(node, "# first", line)
    done = node.run("--", "echo", "ran")
    assert_one_error(done, 78)
    assert f"{path}:2" in done.err or f"{path}:3" in done.err


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"CRONLOCK_TTL=5\0\n", b"x" * 100_000])
def test_file_that_is_not_text(node: Node, content: bytes) -> None:
    """A file that is not text gives 78 and one line."""
    configure(node).write_bytes(content)
    assert_one_error(node.run("--", "echo", "ran"), 78)


def test_missing_file(node: Node) -> None:
    """A file that was named must exist."""
    missing = node.directory / "missing"
    assert_one_error(node.run("--config", missing, "--", "echo", "ran"), 78)
    assert_one_error(node.run("--", "echo", "ran", env={"CRONLOCK_CONFIG": str(missing)}), 78)
    assert_one_error(node.run("--config", node.directory, "--", "echo", "ran"), 78)


def test_unreadable_file(node: Node) -> None:
    """A file that this user may not read gives 78: going on without it could run the job everywhere."""
    path = configure(node, "CRONLOCK_TTL=5")
    path.chmod(0)
    words = node.line("--", "echo", "ran")
    if os.geteuid() == 0:
        # Root without capabilities cannot read everything.
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *words]
        words[1:1] = ["--inh-caps=-dac_override,-dac_read_search"]
    started = node.spawn(words)
    assert started.wait() == 78
    assert str(path) in started.err
    assert len(started.messages) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CRONLOCK_TTL", "soon"),
        ("CRONLOCK_ON_LOST", "maybe"),
        ("CRONLOCK_QUIET", "2"),
        ("CRONLOCK_TTL", ""),
        ("CRONLOCK_STATE_DIR", "here"),
    ],
)
def test_bad_variables(node: Node, variable: str, value: str) -> None:
    """A bad value in the environment gives 78 and names the variable."""
    done = node.run("--", "echo", "ran", env={variable: value})
    assert_one_error(done, 78)
    assert variable in done.err


def test_url_of_the_file_is_not_handed_down(node: Node) -> None:
    """The command inherits nothing from the configuration file, such as the backend's URL."""
    configure(node, f"CRONLOCK_BACKEND={node.environ.pop('CRONLOCK_BACKEND')}", "CRONLOCK_TTL=77")
    done = node.run("--", "env")
    assert done.status == 0
    assert "redis://" not in done.out
    assert "CRONLOCK_TTL" not in done.out


def test_default_backend_is_a_directory_of_this_machine(node: Node) -> None:
    """Without a backend the state directory keeps the leases, and only --verbose mentions it."""
    del node.environ["CRONLOCK_BACKEND"]
    assert node.run("--", "echo", "ran").out == "ran\n"
    done = node.run("-v", "--", "echo", "ran")
    assert done.out == ""
    assert "this machine only" in done.err
    assert oct(node.state.stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("name", ["dir with space", "per%cent", "que?stion", "h#sh", "ümlaut", "a&b=c", "at@colon:x"])
def test_default_backend_in_an_odd_directory(node: Node, name: str) -> None:
    """The state directory may have any name."""
    del node.environ["CRONLOCK_BACKEND"]
    state = node.directory / name
    done = node.run("--state-dir", state, "--", "echo", "ran")
    assert (done.status, done.out, done.err) == (0, "ran\n", "")
    assert [path for path in state.iterdir() if path.suffix == ".lock"]


BAD_KEYS = ["", "x" * 201, "tab\there", "new\nline", "\x01", "\x7f", "\x85", "\u2028", "\udcff"]


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_bad_keys(node: Node, key: str) -> None:
    """A key that is empty, too long, or has control characters gives 64 and one line."""
    assert_one_error(node.run("--", "echo", "ran", key=key), 64)


def test_odd_keys_are_distinct(node: Node) -> None:
    """Keys with spaces, slashes, braces, percent signs, dots, other scripts and 200 characters all run."""
    keys = ["a b", "a/b", "a%2Fb", "{a}b", "}{", "{}", "..", ".", "-", "--", "*", "ключ", "日本", "é", "e\u0301"]
    keys += ["x" * 200, "x" * 199 + "y", "ж" * 200, "%", "a:b", "a\\b", "'\"", "$HOME", "🗝"]
    for key in keys:
        done = node.run("--min-hold", "1h", "--", "echo", "ran", key=key)
        assert (done.status, done.out, done.err) == (0, "ran\n", ""), key
    for key in keys:
        assert node.run("--", "echo", "ran", key=key).out == "", key


@pytest.mark.parametrize(
    "words",
    [
        ("--ttl", ""),
        ("--ttl", "0"),
        ("--ttl", "0s"),
        ("--ttl", "0.1"),
        ("--ttl", "-1"),
        ("--ttl", "1e3"),
        ("--ttl", "5x"),
        ("--ttl", "5m5"),
        ("--ttl", "5s5m"),
        ("--ttl", "1h1h"),
        ("--ttl", "1.2.3"),
        ("--ttl", "."),
        ("--ttl", "s"),
        ("--ttl", "٣"),
        ("--ttl", "9" * 400),
        ("--ttl", "11y"),
        ("--ttl", "5000d"),
        ("--ttl", " 5"),
        ("--wait", "inf"),
        ("--jitter", "nan"),
        ("--timeout", "-0"),
        ("--kill-after", "soon"),
        ("--every", "0"),
        ("--every", "5m", "--min-hold", "3"),
        ("--backend-timeout", "0"),
        ("--skip-status", "256"),
        ("--skip-status", "-1"),
        ("--skip-status", "٣"),
        ("--skip-status", ""),
        ("--on-lost", "stopp"),
        ("--on-error", ""),
        ("--log", "paper"),
        ("--log-format", "xml"),
        ("--state-dir", ""),
        ("--no-such-option",),
        ("--verbose=yes",),
        ("-x",),
    ],
)
def test_bad_options(node: Node, words: tuple[str, ...]) -> None:
    """A bad option gives 64 and one line that names it."""
    done = node.run(*words, "--", "echo", "ran")
    assert_one_error(done, 64)
    assert words[0].partition("=")[0] in done.err
