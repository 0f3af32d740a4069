"""``cronlock doctor`` from outside, on every backend and on bad configurations; no trace is left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labs.servers.process import HOST
from labs.servers.redis import RedisServer

from .backends import RECORDING, VARIOUS, WITH_SERVER, Backend, on
from .looking import call, shown
from .reports import PASSWORD, Report, node_on
from .support import Node
from .test_commands import end_run, hold

# On every backend.


@RECORDING
def test_a_healthy_backend(backend: Backend) -> None:
    """The smoke test passes, nothing is wrong, and other keys and the list of keys do not change."""
    node = backend.node
    assert node.run("--min-hold", 600, "--", "true", key="mine").status == 0
    holder = hold(node)
    before = shown(node, "mine", "job")
    report = Report(node)
    after = shown(node, "mine", "job")
    assert report.bad() == []
    assert report.level("lease") == "ok"
    assert report.document["backend"].startswith(report.document["backend"].partition(":")[0] + "://")
    assert "prefix" not in report.document["backend"]
    for key in ("mine", "job"):
        assert {name: before[key][name] for name in ("state", "run", "last")} == {
            name: after[key][name] for name in ("state", "run", "last")
        }
    end_run(node, holder)
    status, out, _ = call(node, "status")
    assert status == 64 or {line.split()[0] for line in out.splitlines()[1:]} == {"job", "mine"}


@VARIOUS
def test_lines_for_people(backend: Backend) -> None:
    """Each finding is a line with its remedy below, the last line sums up, and a pipe gets no colors."""
    status, out, err = call(backend.node, "doctor", "--ttl", "2s")
    lines = out.splitlines()
    assert (status, err) == (1, "")
    assert all(line.startswith(("ok ", "note ", "WARNING ", " ")) for line in lines[:-1])
    (number,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["WARNING", "kill-after"]]
    assert lines[number + 1].split()[:3] == ["do:", "set", "--kill-after"]
    warnings = sum(line.startswith("WARNING ") for line in lines)
    assert lines[-1] == f"{warnings} warnings"
    assert "\x1b" not in out


@VARIOUS
def test_a_ttl_that_the_backend_cannot_keep(backend: Backend) -> None:
    """It is WRONG and names the range; the other checks run anyway."""
    report = Report(backend.node, "--ttl", "0.5s")
    assert report.level("ttl") == "bad"
    assert report.one("ttl")["remedy"].startswith("set --ttl to ")
    assert report.level("lease") == "ok"


@on("sqs")
def test_a_backend_without_records(backend: Backend) -> None:
    """The smoke test passes without records, and does not disturb a run in progress."""
    node = backend.node
    holder = hold(node)
    report = Report(node)
    assert (report.bad(), report.level("lease"), report.level("records")) == ([], "ok", "note")
    assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
    end_run(node, holder)


@VARIOUS
def test_two_at_once(backend: Backend) -> None:
    """Two doctors on one machine do not report each other's lease."""
    words = [sys.executable, "-m", "cronlock", "doctor", "--json"]
    assert backend.node.run("--", "true").status == 0
    both = [backend.node.spawn(words) for _ in range(2)]
    for started in both:
        assert started.wait() in (0, 1)
        levels = {finding["name"]: finding["level"] for finding in json.loads(started.out)["findings"]}
        assert levels["lease"] == "ok"


@WITH_SERVER
def test_a_server_that_hangs(backend: Backend) -> None:
    """One finding after the time limit of a request, and no further requests."""
    with backend.server.paused():
        began = time.monotonic()
        report = Report(backend.node, "--backend-timeout", "1s")
        took = time.monotonic() - began
    assert report.bad() == ["answer"]
    assert "no answer in time" in report.one("answer")["text"]
    # Each further request would have cost another second of it.
    assert took < 30


# Schemes whose URL needs a user or a table have their own tests.
@pytest.mark.parametrize("scheme", ["redis", "memcached", "zookeeper", "redis+sentinel", "redis+cluster", "etcd"])
def test_no_server(tmp_path: Path, scheme: str) -> None:
    """A refused connection and an unknown name are reported with the address."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        address = f"{HOST}:{listener.getsockname()[1]}"
        report = Report(node_on(tmp_path, f"{scheme}://{address}/service"[: None if "sent" in scheme else -8]))
    assert report.bad() == ["reachable"]
    assert address in report.one("reachable")["text"]
    report = Report(node_on(tmp_path, f"{scheme}://no-such-host.invalid{'/service' * ('sent' in scheme)}"))
    assert report.bad() == ["reachable"]
    assert "no-such-host.invalid" in report.one("reachable")["text"]


@pytest.mark.parametrize("scheme", ["redis", "memcached", "zookeeper", "redis+sentinel", "redis+cluster", "rediss"])
def test_a_server_with_another_protocol(tmp_path: Path, web_server: int, scheme: str) -> None:
    """The wrong port is one finding, not a traceback."""
    path = "/service" if scheme == "redis+sentinel" else ""
    report = Report(node_on(tmp_path, f"{scheme}://{HOST}:{web_server}{path}"), "--backend-timeout", "2s")
    assert report.bad() in (["answer"], ["certificate"])


# The configuration.


def test_no_backend_is_configured(tmp_path: Path) -> None:
    """The default guards this machine only: the doctor warns, and tests it."""
    node = Node(tmp_path, "")
    del node.environ["CRONLOCK_BACKEND"]
    report = Report(node)
    assert (report.status, report.warnings()) == (1, ["backend"])
    assert "this machine only" in report.one("backend")["text"]
    assert not node.state.exists(), "the directory was not there before"


@pytest.mark.parametrize(
    "url", ["redis://h/0?nope=1", "carrier-pigeon://h", "file://h/x", f"redis://u:{PASSWORD}@h:1/?x=@", "nonsense"]
)
def test_a_bad_backend_url(tmp_path: Path, url: str) -> None:
    """A bad URL is WRONG, with file and line."""
    node = node_on(tmp_path, url)
    report = Report(node)
    assert report.bad() == ["backend"]
    text = report.one("backend")["text"]
    assert url.startswith(("file://h", "nonsense")) or "://" in text


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    """A bad line is a finding with status 2; a bad option is a usage error."""
    node = node_on(tmp_path, "redis://h")
    Path(node.environ["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BAKEND=redis://h\n")
    report = Report(node)
    assert report.bad() == ["configuration"]
    assert "cronlock.conf:1: " in report.one("configuration")["text"]
    assert report.document["backend"] is None
    Path(node.environ["CRONLOCK_CONFIG"]).write_text("CRONLOCK_BACKEND=redis://h\n")
    for words in (["--ttl", "soon"], ["--nonsense"], ["KEY"]):
        status, out, err = call(node, "doctor", *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)


def test_a_password_that_others_can_read(tmp_path: Path) -> None:
    """In a file for everyone, or on the command line; the password itself is never shown."""
    with RedisServer(password=PASSWORD, persistent=True) as server:
        node = node_on(tmp_path, server.url())
        report = Report(node)
        assert (report.status, report.warnings()) == (0, [])
        Path(node.environ["CRONLOCK_CONFIG"]).chmod(0o644)
        assert Report(node).warnings() == ["configuration"]
        node.environ["CRONLOCK_CONFIG"] = os.devnull
        assert Report(node, "--backend", server.url()).warnings() == ["password"]
        status, out, err = call(node, "doctor", "--backend", server.url())
        assert status == 1
        assert PASSWORD not in out + err


def test_sources_of_settings(place_on_redis: Node) -> None:
    """Each setting is named with its source."""
    place_on_redis.environ["CRONLOCK_KILL_AFTER"] = "3s"
    text = Report(place_on_redis, "--ttl", "60").one("settings")["text"]
    assert "backend from CRONLOCK_BACKEND" in text
    assert "kill-after from CRONLOCK_KILL_AFTER" in text
    assert "ttl from --ttl" in text


@pytest.fixture
def place_on_redis(node: Node) -> Node:
    """Give a node on a Redis without persistence."""
    return node


def test_a_state_directory_that_cannot_be_written(node: Node) -> None:
    """The rule about state loss is off: it warns."""
    node.state.write_text("not a directory")
    report = Report(node)
    assert report.level("state directory") == "warning"
    assert "unnoticed" in report.one("state directory")["text"]
    node.state.unlink()
    node.state.mkdir(0o777)
    node.state.chmod(0o777)
    assert Report(node).level("state directory") == "bad"


def test_run_does_not_import_the_doctor(node: Node) -> None:
    """A run does not import the doctor."""
    line = [sys.executable, "-X", "importtime", *node.line("--", "true")[1:]]
    done = subprocess.run(line, env=node.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "cronlock.run.job" in done.stderr
    for name in ("doctor", "cronlock.doctor.findings", "cronlock.doctor.probe", "cronlock.doctor.host", "reaching"):
        assert name not in done.stderr
