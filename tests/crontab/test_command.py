"""``cronlock wrap`` as it is called."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from labs.servers.process import need

_TAB = "SHELL=/bin/sh\n0 3 * * * backup --all\n@reboot start\n"
_WRAPPED = "SHELL=/bin/sh\n0 3 * * * cronlock run --key jobs.backup-all --every 1h -- backup --all\n@reboot start\n"


@pytest.fixture
def tab(tmp_path: Path) -> Path:
    """A crontab."""
    path = tmp_path / "jobs"
    path.write_text(_TAB)
    return path


def _wrap(*words: object, stdin: bytes = b"", cwd: Path | None = None) -> tuple[int, bytes, list[str]]:
    """Return status, stdout and the lines of stderr of ``cronlock wrap`` with `words`."""
    done = subprocess.run(
        [sys.executable, "-m", "cronlock", "wrap", *map(str, words)], input=stdin, capture_output=True, cwd=cwd
    )
    said = done.stderr.decode().splitlines()
    assert all(line.startswith("cronlock: ") for line in said), said
    return done.returncode, done.stdout, said


def test_prints_the_crontab(tab: Path) -> None:
    """The crontab goes to stdout, remarks with file and line to stderr; the file stays as it is."""
    status, output, said = _wrap(tab, "--cronlock", "/usr/bin/cronlock")
    assert (status, output.decode()) == (0, _WRAPPED.replace(" cronlock", " /usr/bin/cronlock"))
    assert said == [f"cronlock: {tab}:3: left as it is: @reboot is about one machine, at a time of its own"]
    assert tab.read_text() == _TAB
    assert os.listdir(tab.parent) == ["jobs"]


def test_says_when_cron_would_not_find_cronlock(tab: Path) -> None:
    """The PATH that cron searches is looked at, as the crontab sets it."""
    tab.write_text(f"PATH=/nonexistent\n{_TAB}")
    _, _, said = _wrap(tab)
    assert f"cronlock: {tab}:3: no cronlock here in cron's PATH, /nonexistent; " in said[-1]
    assert "--cronlock" in said[-1]
    (tab.parent / "cronlock").write_text("#!/bin/sh\n")
    (tab.parent / "cronlock").chmod(0o755)
    tab.write_text(f"PATH={tab.parent}\n{_TAB}")
    assert not any("PATH" in line for line in _wrap(tab)[2])


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input(words: tuple[str, ...]) -> None:
    """Without a file, or with -, stdin is read; the user's name stands for the file's."""
    status, output, _ = _wrap(*words, stdin=b"@daily caf\xe9 | x\n")
    assert status == 0
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert output == b"@daily cronlock run --key %s.caf --every 1h -- /bin/sh -c 'caf\xe9 | x'\n" % name.encode()


def test_wrapping_twice(tab: Path) -> None:
    """What comes out goes in unchanged."""
    once = _wrap(tab)[1]
    tab.write_bytes(once)
    assert _wrap(tab)[1] == once


def test_check(tab: Path) -> None:
    """--check reports with file and line, status 1; of a wrapped file nothing, status 0."""
    assert _wrap("--check", tab) == (1, f"{tab}:2: not wrapped: every machine runs it\n".encode(), [])
    tab.write_text(_WRAPPED)
    assert _wrap("--check", tab) == (0, b"", [])
    assert _wrap("--check", stdin=b"@daily a\n")[1] == b"standard input:1: not wrapped: every machine runs it\n"


def test_diff(tab: Path) -> None:
    """--diff is what patch(1) makes the wrapped crontab of; it changes nothing itself."""
    need("patch", "patch")
    for before in (_TAB, _TAB.rstrip("\n")):
        tab.write_text(before)
        status, output, _ = _wrap("--diff", tab)
        assert status == 0
        assert b"\n+0 3 * * * cronlock run" in output
        assert tab.read_text() == before
        subprocess.run(["patch", "--quiet", tab], input=output, check=True)
        assert tab.read_text() == _WRAPPED
    assert _wrap("--diff", tab)[:2] == (0, b"")


def test_in_place(tab: Path) -> None:
    """The file is replaced, with its mode; the backup is what it was, and no backup is ever replaced."""
    tab.chmod(0o640)
    status, output, said = _wrap("-i", tab)
    assert (status, output) == (0, b"")
    assert said[-1] == f"cronlock: {tab}: 1 line wrapped; {tab}~ is what it was"
    assert tab.read_text() == _WRAPPED
    backup = tab.with_name("jobs~")
    assert backup.read_text() == _TAB
    assert stat.S_IMODE(tab.stat().st_mode) == stat.S_IMODE(backup.stat().st_mode) == 0o640
    _wrap("-i", tab)
    assert sorted(os.listdir(tab.parent)) == ["jobs", "jobs~"]
    tab.write_text(f"{_TAB}@daily b\n")
    _wrap("-i", tab)
    assert sorted(os.listdir(tab.parent)) == ["jobs", "jobs.~2~", "jobs~"]
    assert backup.read_text() == _TAB


def test_in_place_through_a_link(tab: Path) -> None:
    """The file that a link names is changed, and the link stays."""
    link = tab.with_name("link")
    link.symlink_to(tab.name)
    assert _wrap("-i", "--diff", link)[0] == 0
    assert link.is_symlink()
    assert "cronlock run" in tab.read_text()


def test_in_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A file that cannot be changed is status 78, and stays; here no longer name is possible."""
    file = tmp_path / ("x" * 255)
    file.write_text("@daily job\n")
    status, output, said = _wrap("-i", file)
    assert (status, output) == (78, b"")
    assert said[-1] == f"cronlock: cannot change {file}: File name too long"
    assert file.read_text() == "@daily job\n"
    assert os.listdir(tmp_path) == [file.name]
    key = _wrap(file)[1].decode().split(" --key ")[1].split()[0]
    assert len(key) < 200


@pytest.mark.parametrize(
    ("path", "system"),
    [("etc/crontab", True), ("etc/cron.d/jobs", True), ("crontab", False), ("cron.d", False), ("etc/jobs", False)],
)
def test_user_field_by_the_files_place(path: str, system: bool, tmp_path: Path) -> None:
    """Where cron expects users in the lines, so does wrap, in any root directory; an option says otherwise."""
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("@daily alice job\n")
    assert (b"@daily alice cronlock run" in _wrap(file)[1]) is system
    assert b"@daily alice cronlock run" in _wrap("--system", file)[1]
    assert b"-- alice job" in _wrap("--user", file)[1]


def test_forgotten_system() -> None:
    """A crontab with users, taken for one without, would run root as a program."""
    status, output, said = _wrap(stdin=b"# x\n@daily root job\n")
    assert (status, output) == (78, b"")
    assert said[0].startswith("cronlock: standard input:2: ")
    assert "--system" in said[0]
    assert b" root cronlock run --key crontab.job " in _wrap("--system", stdin=b"@daily root job\n")[1]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("billing", "billing."), ("My Jobs.cron", "my-jobs."), ("app.crontab", "app."), ("a.b", "a-b."), ("job", "")],
)
def test_prefix_is_the_files_name(name: str, prefix: str, tmp_path: Path) -> None:
    """Keys begin with the name of the file, as far as it has letters, unless that says it all."""
    (tmp_path / name).write_text("@daily job\n")
    assert f" --key {prefix}job --every" in _wrap(tmp_path / name)[1].decode()
    assert b" --key x_1.job --every" in _wrap("--key-prefix", "x_1", tmp_path / name)[1]
    assert b" --key job --every" in _wrap("--key-prefix", "", tmp_path / name)[1]


def test_ttl_and_every(tab: Path) -> None:
    """What is asked for is written."""
    assert b" --ttl 10m --every 2h -- backup" in _wrap("--ttl", "10m", "--every", "2h", tab)[1]


@pytest.mark.parametrize(
    "words",
    [
        ("--ttl", "soon"),
        ("--ttl", "0"),
        ("--every", "-1"),
        ("--every", ""),
        ("--key-prefix", "a b"),
        ("--cronlock", "cronlock; rm"),
        ("--cronlock", "a%b"),
        ("--check", "--diff"),
        ("--check", "--in-place"),
        ("--in-place", "-"),
        ("--in-place",),
        ("--in-place", "/var/spool/cron/crontabs/alice"),
        ("--nonsense",),
        ("a", "b"),
    ],
)
def test_usage(words: tuple[str, ...]) -> None:
    """What cannot be asked for is one line and status 64."""
    status, output, said = _wrap(*words, stdin=b"@daily a\n")
    assert (status, output, len(said)) == (64, b"", 1)


@pytest.mark.parametrize(
    ("content", "line"), [("@daily a\n61 * * * * b\n", 2), ("FOO=\n", 1), ("@daily a\n\n# key: \t\n@daily b\n", 3)]
)
@pytest.mark.parametrize("option", [(), ("--check",), ("--diff",), ("--in-place",)])
def test_bad_crontab(content: str, line: int, option: tuple[str, ...], tab: Path) -> None:
    """What cron would refuse is one line that says where, and status 78; nothing is written."""
    tab.write_text(content)
    status, output, said = _wrap(*option, tab)
    assert (status, output, len(said)) == (78, b"", 1)
    assert said[0].startswith(f"cronlock: {tab}:{line}: ")
    assert os.listdir(tab.parent) == ["jobs"]
    assert tab.read_text() == content


def test_unreadable(tmp_path: Path) -> None:
    """A file that is not there, or none, is status 78."""
    for path in (tmp_path / "nothing", tmp_path):
        status, output, said = _wrap(path)
        assert (status, output) == (78, b"")
        assert said[0].startswith(f"cronlock: cannot read {path}: ")


def test_full_disk_and_closed_pipe(tab: Path) -> None:
    """Output that cannot be written is no traceback."""
    command = [sys.executable, "-m", "cronlock", "wrap", str(tab)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == b"cronlock: cannot write standard output: No space left on device"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr


def test_help() -> None:
    """--help names every option and the statuses."""
    status, output, _ = _wrap("--help")
    assert status == 0
    for word in b"--system --ttl --every --key-prefix --cronlock --check --diff --in-place 78".split():
        assert word in output
