"""Settings: command line over environment over configuration file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cronlock.config import file as config_file
from cronlock.config import settings
from cronlock.config.options import OPTIONS
from cronlock.errors import ConfigError, UsageError


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """Return the path of an empty configuration file."""
    path = tmp_path / "cronlock.conf"
    path.write_text("")
    return path


def load(file: Path, environ: dict[str, str] | None = None, **given: str | bool) -> settings.Settings:
    """Return the settings of `cronlock run --key k [given] -- true`."""
    return settings.load({"key": "k", "config": str(file), **given}, ["true"], environ or {})


def test_defaults(file: Path) -> None:
    """As the manual page has them."""
    kept = load(file)
    assert (kept.ttl, kept.min_hold, kept.wait, kept.kill_after, kept.backend_timeout) == (300, 45, 0, 10, 5)
    assert (kept.timeout, kept.on_lost, kept.on_error, kept.skip_status) == (None, "stop", "fail", 0)


@pytest.mark.parametrize(
    ("given", "hold"),
    [
        ({"ttl": "20"}, 20),
        ({"wait": "60"}, 0),
        ({"wait": "60", "min_hold": "5"}, 5),
        ({"every": "1h"}, 1800),
        # The node that slept longest still finds the key held by the one that did not sleep; an explicit value stays.
        ({"jitter": "20"}, 65),
        ({"jitter": "20", "ttl": "30"}, 50),
        ({"jitter": "20", "min_hold": "5"}, 5),
        ({"jitter": "20", "wait": "60"}, 0),
    ],
)
def test_min_hold_follows_the_other_settings(file: Path, given: dict[str, str], hold: float) -> None:
    """The smaller of 45 s and the ttl, with the jitter on top; 0 with --wait; half of --every."""
    assert load(file, {}, **given).min_hold == hold


def test_precedence(file: Path) -> None:
    """Flag over variable over file, each option on its own."""
    file.write_text("CRONLOCK_TTL=10\nCRONLOCK_JITTER=1\nCRONLOCK_WAIT=7\n")
    kept = load(file, {"CRONLOCK_TTL": "20", "CRONLOCK_JITTER": "2"}, ttl="30")
    assert (kept.ttl, kept.jitter, kept.wait) == (30, 2, 7)


def test_every_and_min_hold_meet_only_at_one_level(file: Path) -> None:
    """Together on one level they contradict; else the higher level wins."""
    with pytest.raises(UsageError, match="--every"):
        load(file, every="60", min_hold="5")
    file.write_text("CRONLOCK_EVERY=60\nCRONLOCK_MIN_HOLD=5\n")
    with pytest.raises(ConfigError, match="CRONLOCK_EVERY"):
        load(file)
    assert load(file, every="100").min_hold == 50
    assert load(file, min_hold="3").min_hold == 3


def test_file_syntax(file: Path) -> None:
    """Comments, blank lines, spaces and quotes, as systemd's EnvironmentFile= has them."""
    file.write_text('# a\n; b\n\n CRONLOCK_TTL = \'1m\' \nCRONLOCK_BACKEND="redis://h/0?prefix=\\""\n')
    kept = load(file)
    assert (kept.ttl, kept.backend) == (60, 'redis://h/0?prefix="')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CRONLOCK_TTL=5\nCRONLOCK_TTTL=1\n", r":2: unknown name 'CRONLOCK_TTTL'"),
        ("CRONLOCK_KEY=x\n", r":1: unknown name 'CRONLOCK_KEY'"),
        ("\nCRONLOCK_TTL=soon\n", r":2: CRONLOCK_TTL: 'soon' is not a duration"),
        ("CRONLOCK_ON_LOST=explode\n", r":1: CRONLOCK_ON_LOST: 'explode' is not one of stop, continue"),
        ("CRONLOCK_VERBOSE=perhaps\n", r":1: CRONLOCK_VERBOSE: 'perhaps' is not yes or no"),
        ("CRONLOCK_SKIP_STATUS=256\n", r":1: CRONLOCK_SKIP_STATUS: '256' is not a whole number"),
        ("CRONLOCK_BACKEND='redis://h\n", r":1: unterminated quote"),
        ('CRONLOCK_BACKEND="redis://h\\"\n', r":1: unterminated quote"),
        ("CRONLOCK_BACKEND=\n", r":1: CRONLOCK_BACKEND: empty value"),
        ("hello\n", r":1: not NAME=value"),
    ],
)
def test_mistakes_in_the_file_name_file_and_line(file: Path, text: str, message: str) -> None:
    """Status 78, and where to look."""
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"cronlock\.conf" + message):
        load(file)


def test_files_that_cannot_be_read_are_errors(tmp_path: Path, file: Path) -> None:
    """Going on without a configuration could run the job everywhere."""
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(file)
    file.write_bytes(b"#" * 70000)
    with pytest.raises(ConfigError, match="larger than"):
        load(file)


def test_mistakes_on_the_command_line_are_usage_errors(file: Path) -> None:
    """Status 64, and the option's name."""
    for name, value in (("ttl", "0"), ("ttl", "x"), ("on_error", "x"), ("skip_status", "x"), ("backend_timeout", "0")):
        with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
            settings.load({"key": "k", "config": str(file), name: value}, ["true"], {})
    with pytest.raises(UsageError, match="--key: missing"):
        settings.load({}, ["true"], {})
    with pytest.raises(UsageError, match="no command"):
        settings.load({"key": "k"}, [], {})


def test_variables_of_other_names_are_left_alone(file: Path) -> None:
    """CRONLOCK_KEY and the like are there in every nested run."""
    assert load(file, {"CRONLOCK_KEY": "other", "CRONLOCK_FENCE": "1", "CRONLOCK_X": "y"}).key == "k"


def test_a_slip_in_a_name_is_refused_with_what_was_meant(file: Path) -> None:
    """CRONLOCK_BAKEND would let every machine run the job."""
    with pytest.raises(ConfigError, match="CRONLOCK_BAKEND in the environment: unknown; did you mean CRONLOCK_BACKEND"):
        load(file, {"CRONLOCK_BAKEND": "redis://h"})
    with pytest.raises(
        ConfigError, match="CRONLOCK_IGNORE_PAUSE in the environment: not a setting; give --ignore-pause on the comm"
    ):
        load(file, {"CRONLOCK_IGNORE_PAUSE": "yes"})
    file.write_text("CRONLOCK_BAKEND=redis://h\n")
    with pytest.raises(ConfigError, match=":1: unknown name 'CRONLOCK_BAKEND'; did you mean CRONLOCK_BACKEND"):
        load(file)
    file.write_text("min-hold=5\n")
    with pytest.raises(ConfigError, match="unknown name 'min-hold'; did you mean CRONLOCK_MIN_HOLD"):
        load(file)
    file.write_text("export CRONLOCK_BACKEND=redis://h\n")
    with pytest.raises(ConfigError, match="remove 'export'"):
        load(file)


def test_flags_from_the_environment(file: Path) -> None:
    """yes and no in the usual spellings."""
    assert load(file, {"CRONLOCK_VERBOSE": "Yes"}).verbose
    assert not load(file, {"CRONLOCK_VERBOSE": "0"}).verbose


def test_refusal_of_a_backend_names_the_source(file: Path) -> None:
    """A ttl that is too short is usage on the command line and configuration elsewhere."""
    assert isinstance(load(file, ttl="1").error_for("ttl", "too short"), UsageError)
    assert isinstance(load(file, {"CRONLOCK_TTL": "1"}).error_for("ttl", "too short"), ConfigError)
    assert str(load(file).error_for("ttl", "too short")) == "--ttl: too short"


def test_every_option_is_a_setting() -> None:
    """Nothing of the table is forgotten."""
    names = {option.name for option in OPTIONS} - {"config", "every"} | {"command", "sources"}
    assert names == set(settings.Settings._fields)


def test_no_home_at_all_is_no_state_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and passwd entry, as in a container: nothing is kept in a directory called ~."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert load(file).state_dir is None
    assert load(file, {"HOME": ""}).state_dir is None
    assert load(file, {"HOME": "relative"}).state_dir is None
    assert load(file, {"XDG_STATE_HOME": "relative", "HOME": "/h"}).state_dir == "/h/.local/state/cronlock"
    assert load(file, {"XDG_STATE_HOME": "/x"}).state_dir == "/x/cronlock"
    monkeypatch.setattr(os.path, "expanduser", lambda _path: "/of/passwd")
    assert load(file).state_dir == "/of/passwd/.local/state/cronlock"


def test_of_verbose_and_quiet_the_higher_source_counts(file: Path) -> None:
    """A person who asks for more than the file says gets it; two on one level go together."""
    file.write_text("CRONLOCK_QUIET=yes\n")
    by_hand, by_variable = load(file, verbose=True), load(file, {"CRONLOCK_VERBOSE": "yes"})
    assert (by_hand.verbose, by_hand.quiet) == (by_variable.verbose, by_variable.quiet) == (True, False)
    kept = load(file, {"CRONLOCK_VERBOSE": "yes"}, quiet=True)
    assert (kept.verbose, kept.quiet) == (False, True)
    kept = load(file, verbose=True, quiet=True)
    assert (kept.verbose, kept.quiet) == (True, True)


def test_empty_variable_for_the_file_means_the_default_one(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRONLOCK_CONFIG= is as not set: the default file counts, and may be missing."""
    monkeypatch.setattr(config_file, "DEFAULT_PATH", str(file))
    file.write_text("CRONLOCK_TTL=7\n")
    assert settings.load({"key": "k"}, ["true"], {"CRONLOCK_CONFIG": ""}).ttl == 7
    assert settings.load({"key": "k"}, ["true"], {}).ttl == 7
    monkeypatch.setattr(config_file, "DEFAULT_PATH", str(tmp_path / "missing"))
    assert settings.load({"key": "k"}, ["true"], {"CRONLOCK_CONFIG": ""}).ttl == 300


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'"redis://:a\$b@h"', "redis://:a$b@h"),
        (r'"redis://:a\\$b@h"', r"redis://:a\$b@h"),
        (r'"redis://:a\\\$b@h"', r"redis://:a\$b@h"),
        (r'"redis://:a\\\\@h"', r"redis://:a\\@h"),
        (r'"redis://:a\`\"\\"', r"redis://:a`" + '"' + "\\"),
        (r'"redis://:a\n@h"', r"redis://:a\n@h"),
        (r"'redis://:a\$\\@h'", r"redis://:a\$\\@h"),
        (r"redis://:a\$\\@h", r"redis://:a\$\\@h"),
    ],
)
def test_backslashes_in_the_file(file: Path, written: str, meant: str) -> None:
    """Undone in pairs from the left within double quotes, and kept elsewhere."""
    file.write_text(f"CRONLOCK_BACKEND={written}\n")
    assert load(file).backend == meant


def test_file_of_an_editor_that_writes_a_mark_first(file: Path) -> None:
    """A byte order mark is not part of the first name."""
    file.write_bytes(b"\xef\xbb\xbfCRONLOCK_TTL=7\r\nCRONLOCK_WAIT=5\r\n")
    kept = load(file)
    assert (kept.ttl, kept.wait) == (7, 5)
