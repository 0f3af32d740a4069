"""The rules that the doctor judges by, and what it sees of this machine."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import pytest

from cronlock.config import settings
from cronlock.doctor import host, probe
from cronlock.doctor.findings import (
    BAD,
    NOTE,
    OK,
    WARNING,
    Finding,
    judge_certificate,
    judge_clock,
    judge_evictions,
    judge_kept,
    judge_round_trip,
    judge_share,
    judge_space,
    judge_timing,
    judge_ttl,
    size,
    span,
    worst,
)
from cronlock.engines import registry
from cronlock.engines.zookeeper.doctor import _judge_ensemble
from cronlock.lease.vocabulary import Traits

from .guards import NEEDS_SUBREAPERS

_DAY = 86400.0


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((), OK), ((OK, NOTE), OK), ((NOTE, WARNING, OK), WARNING), ((WARNING, BAD, NOTE), BAD)],
)
def test_worst(levels: tuple[str, ...], expected: str) -> None:
    """The worst finding decides, and a note is none."""
    assert worst(Finding("x", level, "text") for level in levels) == expected


@pytest.mark.parametrize(
    ("offset", "bound", "level"),
    [(0.001, 0.01, OK), (4.9, 0, OK), (-5.1, 0, WARNING), (5.5, 1, OK), (44.0, 0, WARNING), (-46, 0.5, BAD)],
)
def test_clock(offset: float, bound: float, level: str) -> None:
    """Some seconds warn, more than the hold is wrong, and doubt is in favour."""
    finding = judge_clock(offset, bound, 45)
    assert finding.level == level
    assert finding.values == {"offset": offset, "bound": bound}
    assert (finding.remedy is None) == (level == OK)


def test_clock_in_words() -> None:
    """It says which of the two is ahead."""
    assert judge_clock(7, 0.002, 45).text == "this machine is 7s behind the server, give or take 2 ms"
    assert judge_clock(-7, 0.002, 45).text == "this machine is 7s ahead of the server, give or take 2 ms"
    assert judge_clock(-0.001, 0.002, 45).text == "agrees with the server's, give or take 2 ms"
    assert judge_clock(600, 0.002, 0).level == WARNING


def test_round_trip() -> None:
    """A request that takes more than a quarter of its limit warns."""
    assert judge_round_trip(0.2, 1).level == OK
    assert judge_round_trip(0.3, 1).level == WARNING


def test_ttl_that_no_server_keeps() -> None:
    """Beyond the backend's bounds it is wrong; within them nothing is said yet."""
    traits = Traits(shortest_ttl=2, longest_ttl=100)
    assert judge_ttl(2, traits) is None
    for ttl in (1, 101):
        finding = judge_ttl(ttl, traits)
        assert finding is not None
        assert (finding.level, finding.remedy) == (BAD, "set --ttl to 2s to 1m40s")


def test_ttl_that_the_server_cuts() -> None:
    """An explicit ttl that is cut is a warning, the default ttl a note, one that is kept is OK."""
    cut = judge_kept(300, 39.99, chosen=True)
    assert (cut.level, cut.remedy) == (WARNING, "set --ttl 39.9, or let the server keep more")
    assert judge_kept(300, 40, chosen=False).level == NOTE
    assert judge_kept(300, 300, chosen=True).level == OK


def test_timing() -> None:
    """A request's limit and the grace have to fit into a third of the ttl."""
    assert [finding.level for finding in judge_timing(30, 10, 10)] == [OK, OK]
    timeout, grace = judge_timing(10, 3.4, 10)
    assert (timeout.name, timeout.level) == ("backend-timeout", WARNING)
    assert "at most 3.3:" in str(timeout.remedy)
    assert (grace.name, grace.level, grace.remedy) == ("kill-after", WARNING, "set --kill-after 3.3, or a longer --ttl")


def test_shares_and_evictions() -> None:
    """Nine tenths of a limit are enough to warn, and so is one evicted item."""
    assert judge_share("memory", 90, 100, "", "more").level == OK
    assert judge_share("memory", 91, 100, "", "more").level == WARNING
    assert judge_share("memory", 91, 0, "", "more").level == OK
    assert judge_evictions(0, "more").level == OK
    assert judge_evictions(1, "more").level == WARNING


def test_space() -> None:
    """Little space or few inodes warn, none is wrong; some file systems have no number of inodes."""
    assert judge_space("space", "/x", 1 << 30, 100_000, 50_000).level == OK
    assert judge_space("space", "/x", 1 << 20, 100_000, 50_000).level == WARNING
    assert judge_space("space", "/x", 1 << 30, 100_000, 10).level == WARNING
    assert judge_space("space", "/x", 4096, 100_000, 50_000).level == BAD
    assert judge_space("space", "/x", 1 << 30, 100_000, 0).level == BAD
    assert judge_space("space", "/x", 1 << 30, 0, 0).level == OK


def test_certificates() -> None:
    """The last two weeks of a year warn, and the last fifth of a short life."""
    assert judge_certificate(0, 365 * _DAY, 300 * _DAY, "h:1").level == OK
    assert judge_certificate(0, 365 * _DAY, 352 * _DAY, "h:1").level == WARNING
    assert judge_certificate(0, _DAY, 0.7 * _DAY, "h:1").level == OK
    assert judge_certificate(0, _DAY, 0.9 * _DAY, "h:1").level == WARNING


@pytest.mark.parametrize(
    ("modes", "silent", "level"),
    [
        (("leader", "follower", "follower"), 0, OK),
        (("leader", "follower"), 1, WARNING),
        (("standalone",), 0, WARNING),
        (("follower",), 0, WARNING),
        (("leader", "leader", "follower"), 0, BAD),
        (("follower", "follower", "observer"), 0, NOTE),
        (("leader", "follower", "follower", "follower"), 0, NOTE),
        (("unknown", "unknown", "unknown"), 0, OK),
        ((), 3, BAD),
    ],
)
def test_ensembles(modes: tuple[str, ...], silent: int, level: str) -> None:
    """An ensemble is judged by the roles of the servers that the URL names."""
    answered = {f"h{number}:2181": mode for number, mode in enumerate(modes)}
    assert _judge_ensemble(answered, ["no answer"] * silent).level == level


def test_words() -> None:
    """Short times and sizes for people."""
    assert [span(value) for value in (0.00004, 0.0012, 0.25, 90)] == ["0.04 ms", "1.2 ms", "250 ms", "1m30s"]
    assert [size(value) for value in (12, 1000, 4096, 5 << 30)] == ["12 bytes", "1000 bytes", "4 KiB", "5 GiB"]
    assert size(3 << 40) == "3.0 TiB"


def test_probe_key() -> None:
    """Whatever the host is called, its probe has a key that is allowed and short."""
    assert probe.probe_key("web-1.example.net", 42) == "cronlock doctor web-1.example.net 42"
    assert probe.probe_key("a\n\udc80ü" + "x" * 300, 1) == f"cronlock doctor a---{'x' * 60} 1"
    assert probe.probe_key("web-1") == "cronlock doctor web-1"


def test_a_backend_without_a_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend need not have a module for the doctor; one that has it is found by its name."""
    monkeypatch.setitem(registry.SCHEMES, "other", "cronlock.engines.url")
    assert registry.open_doctor("other://h") is None
    for scheme in ("file", "rediss", "redis+cluster", "memcacheds", "zookeeper"):
        module = registry.open_doctor(f"{scheme}://h")
        assert module is not None
        package, _, name = registry.SCHEMES[scheme].rpartition(".")
        assert module.__name__ == f"{package}.{'doctor' if name in ('backend', 'store') else f'{name}_doctor'}"
        assert {"reach", "examine"} <= set(dir(module))


@pytest.mark.parametrize(
    ("lacks", "text", "remedy"),
    [
        ("has_proc", "waits up to 60 s for what left it", "mount /proc"),
        ("can_adopt", "without child subreapers: ", "allow prctl(PR_SET_CHILD_SUBREAPER)"),
    ],
)
def test_what_the_guard_lacks(monkeypatch: pytest.MonkeyPatch, lacks: str, text: str, remedy: str) -> None:
    """Each missing feature is named with its own remedy."""
    for feature in ("has_proc", "can_adopt"):
        monkeypatch.setattr(f"cronlock.process.linux.{feature}", lambda has=feature != lacks: has)
    _, system = host.machine()
    assert (system.level, text in system.text) == (WARNING, True)
    assert (system.remedy or "").startswith(remedy)
    assert "; " not in (system.remedy or "")


@NEEDS_SUBREAPERS
def test_this_machine() -> None:
    """It says what runs cronlock, and that Linux has what the guard needs."""
    program, system = host.machine()
    assert (program.name, program.level) == ("program", OK)
    assert f"Python {platform.python_version()}" in program.text
    assert (system.name, system.level) == ("system", OK)


def test_a_machine_that_lacks_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the clock that counts suspension it warns, and says what follows."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    system = list(host.machine())[1]
    assert system.level == WARNING
    assert "suspension" in system.text


@pytest.mark.parametrize(
    ("text", "mode", "level", "word"),
    [
        ("CRONLOCK_BACKEND=redis://:hidden@h", 0o600, OK, "mode 600"),
        ("CRONLOCK_BACKEND=redis://:hidden@h", 0o640, OK, "mode 640"),
        ("CRONLOCK_BACKEND=redis://:hidden@h", 0o644, WARNING, "holds a password"),
        ("CRONLOCK_BACKEND='redis+sentinel://h/s?sentinel_password=hidden'", 0o644, WARNING, "holds a password"),
        ("CRONLOCK_BACKEND=redis://h", 0o644, OK, "mode 644"),
        ("CRONLOCK_TTL=60", 0o666, WARNING, "others can change it"),
        ("CRONLOCK_TTL=60", 0o620, WARNING, "others can change it"),
    ],
)
def test_modes_of_the_configuration(tmp_path: Path, text: str, mode: int, level: str, word: str) -> None:
    """A password that everyone may read warns, and so does a file that others may write."""
    path = tmp_path / "cronlock.conf"
    path.write_text(text + "\n")
    path.chmod(mode)
    environ = {"CRONLOCK_CONFIG": str(path), "HOME": str(tmp_path)}
    chosen = settings.load_readonly({}, environ)
    found = {finding.name: finding for finding in host.configuration({}, environ, chosen)}
    assert (found["configuration"].level, word in found["configuration"].text) == (level, True)
    assert f"from {path}:1" in found["settings"].text
    assert all("hidden" not in f"{finding.text} {finding.remedy}" for finding in found.values())


def test_a_tls_key_that_everyone_reads(tmp_path: Path) -> None:
    """The key= of the URL should be for its user alone."""
    key = tmp_path / "client.key"
    assert not list(host.key_file(str(key)))
    key.touch()
    for mode, level in ((0o600, OK), (0o644, WARNING)):
        key.chmod(mode)
        assert [(found.name, found.level) for found in host.key_file(str(key))] == [("TLS key", level)]


@pytest.mark.parametrize(
    ("mode", "level"), [(0o700, OK), (0o755, OK), (0o1777, WARNING), (0o770, WARNING), (0o777, BAD)]
)
def test_modes_of_a_directory(tmp_path: Path, mode: int, level: str) -> None:
    """The finding depends on who else may write there."""
    directory = tmp_path / "leases"
    directory.mkdir()
    directory.chmod(mode)
    assert host.directory_modes("modes", str(directory)).level == level


def test_a_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns, naming what to do."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    finding = host.directory_modes("modes", str(tmp_path))
    assert (finding.level, finding.remedy) == (WARNING, f"chown 4711 {tmp_path}")
