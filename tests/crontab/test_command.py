"""``cronlock wrap`` on the command line."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cronlock.crontab import files
from labs.debian import cronie
from labs.machines import SHARED, Fleet
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
    """The crontab goes to stdout, remarks with file and line to stderr; the file is not changed."""
    status, output, said = _wrap(tab, "--cronlock", "/usr/bin/cronlock")
    assert (status, output.decode()) == (0, _WRAPPED.replace(" cronlock", " /usr/bin/cronlock"))
    assert said == [f"cronlock: {tab}:3: left as it is: @reboot fires on each machine when it boots"]
    assert tab.read_text() == _TAB
    assert os.listdir(tab.parent) == ["jobs"]


def test_program_missing_in_crons_path(tab: Path) -> None:
    """A program missing in cron's PATH, as the crontab sets it, is reported."""
    tab.write_text(f"PATH=/nonexistent\n{_TAB}")
    _, _, said = _wrap(tab)
    assert f"cronlock: {tab}:3: cronlock is not in cron's PATH, /nonexistent; " in said[-1]
    assert "--cronlock" in said[-1]
    (tab.parent / "cronlock").write_text("#!/bin/sh\n")
    (tab.parent / "cronlock").chmod(0o755)
    tab.write_text(f"PATH={tab.parent}\n{_TAB}")
    assert not any("PATH" in line for line in _wrap(tab)[2])


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input(words: tuple[str, ...]) -> None:
    """Without a file, or with -, stdin is read, and the user's name replaces the file's."""
    status, output, _ = _wrap(*words, stdin=b"@daily caf\xe9 | x\n")
    assert status == 0
    name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert output == b"@daily cronlock run --key %s.caf --every 1h -- /bin/sh -c 'caf\xe9 | x'\n" % name.encode()


def test_wrapping_twice(tab: Path) -> None:
    """Wrapping the output again changes nothing."""
    once = _wrap(tab)[1]
    tab.write_bytes(once)
    assert _wrap(tab)[1] == once


def test_check(tab: Path) -> None:
    """--check reports with file and line, status 1; of a wrapped file nothing, status 0."""
    assert _wrap("--check", tab) == (1, f"{tab}:2: not wrapped: every machine runs it\n".encode(), [])
    tab.write_text(_WRAPPED)
    status, output, said = _wrap("--check", tab)
    assert (status, output) == (0, b"")
    # It may differ on other machines, so --check does not report it.
    assert said == [
        f"cronlock: {tab}:2: cronlock is not in cron's PATH, /usr/bin:/bin; if so on all machines: --cronlock PATH"
    ]
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
    """The file is replaced with its mode kept; the original is backed up, and no backup is overwritten."""
    tab.chmod(0o640)
    status, output, said = _wrap("-i", tab)
    assert (status, output) == (0, b"")
    assert said[-1] == f"cronlock: {tab}: 1 line wrapped; the original is {tab}~"
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


def test_in_place_changes_the_time(tab: Path) -> None:
    """crontab -e sees a change by the file's time in whole seconds: that is another, however fast wrap was."""
    for second in (int(time.time()), int(time.time()) + 60):
        os.utime(tab, (second, second))
        files.replace(str(tab), "")
        assert int(tab.stat().st_mtime) != second


def test_in_place_through_a_link(tab: Path) -> None:
    """The target of a link is changed, and the link stays."""
    link = tab.with_name("link")
    link.symlink_to(tab.name)
    assert _wrap("-i", "--diff", link)[0] == 0
    assert link.is_symlink()
    assert "cronlock run" in tab.read_text()


def test_in_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A file that cannot be changed, here for its long name, gives status 78 and stays."""
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
def test_user_field_by_path(path: str, system: bool, tmp_path: Path) -> None:
    """Where cron expects users, so does wrap, below any root directory; an option overrides that."""
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("@daily alice job\n")
    assert (b"@daily alice cronlock run" in _wrap(file)[1]) is system
    assert b"@daily alice cronlock run" in _wrap("--system", file)[1]
    assert b"-- alice job" in _wrap("--user", file)[1]


def test_system_crontab_elsewhere(tmp_path: Path) -> None:
    """Lines that begin with users are read so, with a note; --check prints it, too."""
    file = tmp_path / "crontab"
    file.write_text("*/5 * * * * ubuntu /usr/bin/x\n")
    for words in ((file,), ("--check", file)):
        status, output, said = _wrap(*words)
        assert said[0].startswith(
            f"cronlock: {file}: read as a system crontab, with a user's name before each command ("
        )
    assert _wrap(file)[1].startswith(b"*/5 * * * * ubuntu cronlock run --key crontab.x --every 5m")
    assert b" -- ubuntu /usr/bin/x\n" in _wrap("--user", file)[1]
    status, output, said = _wrap(stdin=b"@daily root job\n@daily /usr/bin/job\n")
    assert (status, output) == (78, b"")
    assert said == [
        "cronlock: standard input:1: begins with a user's name, 'root', but line 2 does not; correct one of them, "
        "or give --system or --user"
    ]


def test_dialect() -> None:
    """A line that only one cron can read selects its dialect, with a note; an option overrides that."""
    status, output, said = _wrap(stdin=b"*/10 * * * * * * job 100%\n")
    assert (status, output.split(b" -- ")[1]) == (0, b"job 100%\n")
    assert (
        said[0]
        == "cronlock: standard input: read as a crontab of supercronic, because of line 1; if wrong, give --dialect"
    )
    assert _wrap("--dialect", "debian", stdin=b"*/10 * * * * * * job\n")[0] == 78
    assert _wrap("--dialect", "busybox", "--system", stdin=b"* * * * * job\n")[0] == 64
    status, _, said = _wrap(stdin=b"apiVersion: batch/v1\nkind: CronJob\n")
    assert (status, len(said)) == (78, 1)
    assert "a Kubernetes manifest" in said[0]


def test_file_name_that_cron_ignores(tmp_path: Path) -> None:
    """Debian's cron ignores some files in cron.d; wrap and --check say so."""
    file = tmp_path / "cron.d" / "billing.cron"
    file.parent.mkdir()
    file.write_text("@daily root job\n")
    assert f"cronlock: {file}:1: Debian's cron ignores files in cron.d" in _wrap(file)[2][0]
    assert f"{file}:1: Debian's cron ignores".encode() in _wrap("--check", file)[1]
    assert _wrap("--dialect", "cronie", file)[2][0].startswith(f"cronlock: {file}:1: cronlock is not in cron's PATH")


@pytest.mark.parametrize("cron", ["debian", "cronie"])
def test_as_the_editor_of_crontab(cron: str, tmp_path: Path) -> None:
    """crontab -e installs what wrap -i made of the crontab."""
    crontab = [need("crontab", "cron")] if cron == "debian" else cronie("bin/crontab")
    with Fleet(tmp_path / "fleet") as fleet:
        machine = fleet.machine("one")
        machine.run("mkdir", "-p", "/var/spool/cron/crontabs")
        (fleet.shared / "tab").write_text("0 3 * * * job\n")
        machine.run(*crontab, f"{SHARED}/tab")
        machine.run("env", f"VISUAL={shlex.quote(sys.executable)} -m cronlock wrap --in-place", *crontab, "-e")
        assert "cronlock run --key root.job --every 1h -- job" in machine.run(*crontab, "-l")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("billing", "billing."), ("My Jobs.cron", "my-jobs."), ("app.crontab", "app."), ("a.b", "a-b."), ("job", "")],
)
def test_prefix_is_the_files_name(name: str, prefix: str, tmp_path: Path) -> None:
    """Keys begin with the letters of the file's name, unless those are the whole key."""
    (tmp_path / name).write_text("@daily job\n")
    assert f" --key {prefix}job --every" in _wrap(tmp_path / name)[1].decode()
    assert b" --key x_1.job --every" in _wrap("--key-prefix", "x_1", tmp_path / name)[1]
    assert b" --key job --every" in _wrap("--key-prefix", "", tmp_path / name)[1]


@pytest.mark.parametrize(("name", "is_made_up"), [("crontab.Dykda1", True), ("tmp.a8Jd83kLm2", True), ("jobs", False)])
def test_temporary_names_are_in_no_key(name: str, is_made_up: bool, tmp_path: Path) -> None:
    """Keys do not begin with the name of a temporary file, which differs between machines."""
    (tmp_path / name).write_text("@daily job\n")
    command = [sys.executable, "-m", "cronlock", "wrap", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert f" --key {user if is_made_up else name}.job --every" in done.stdout


def test_ttl_and_every(tab: Path) -> None:
    """The options are written into the lines."""
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
    """A usage error gives one line and status 64."""
    status, output, said = _wrap(*words, stdin=b"@daily a\n")
    assert (status, output, len(said)) == (64, b"", 1)


@pytest.mark.parametrize(("content", "line"), [("61 * * * * b\n", 1), ("# x\nFOO=\n", 2), ("a\0b\n", 1)])
@pytest.mark.parametrize("option", [(), ("--check",), ("--diff",), ("--in-place",)])
def test_no_crontab(content: str, line: int, option: tuple[str, ...], tab: Path) -> None:
    """A file without jobs gives status 78 with its first bad line; nothing is written."""
    tab.write_text(content)
    status, output, said = _wrap(*option, tab)
    assert (status, output, len(said)) == (78, b"", 1)
    assert said[0].startswith(f"cronlock: {tab}:{line}: ")
    assert os.listdir(tab.parent) == ["jobs"]
    assert tab.read_text() == content


@pytest.mark.parametrize("line", ["61 * * * * b", "FOO=", "@never b", "* * * * *", "0 3 * * fri-sun b"])
def test_one_bad_line(line: str, tab: Path) -> None:
    """A line that cron cannot read is reported with its number and stays; the rest is converted or checked."""
    tab.write_text(f"@daily a\n{line}\n@daily c\n")
    status, output, said = _wrap(tab)
    assert (status, output.count(b"cronlock run"), f"\n{line}\n".encode() in output) == (0, 2, True)
    assert [text.split()[1] for text in said] == [f"{tab}:2:", f"{tab}:1:"]
    assert "; Debian's cron ignores the whole file" in said[0]
    status, output, _ = _wrap("--check", tab)
    assert (status, output.decode().count("\n")) == (1, 3)
    assert f"{tab}:2: " in output.decode()


def test_unreadable(tmp_path: Path) -> None:
    """A missing file, or a directory, gives status 78."""
    for path in (tmp_path / "nothing", tmp_path):
        status, output, said = _wrap(path)
        assert (status, output) == (78, b"")
        assert said[0].startswith(f"cronlock: cannot read {path}: ")


def test_full_disk_and_closed_pipe(tab: Path) -> None:
    """Output that cannot be written gives no traceback."""
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
