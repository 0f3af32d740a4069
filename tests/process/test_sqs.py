"""The program on SQS, which knows only whether a key is held: what it refuses, and how."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from labs.servers.aws_gate import Gate
from labs.servers.process import HOST

from .backends import Backend, on
from .looking import call

SQS = on("sqs")


@SQS
def test_one_run_a_tick(backend: Backend) -> None:
    """A second node skips during the hold, and its message claims no more than SQS knows."""
    node = backend.node
    assert node.run("--", "echo", "ran").out == "ran\n"
    second = node.run("--verbose", "--", "echo", "ran")
    assert (second.status, second.out) == (0, "")
    assert "skipped: held by another run" in second.err
    status, out, err = call(node, "status", "job", "other")
    assert (status, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [["job", "held", "-"], ["other", "free", "-"]]
    status, out, _ = call(node, "status", "--json", "job", "other")
    assert status == 0
    assert [(one["key"], one["state"], one["run"]) for one in json.loads(out)["keys"]] == [
        ("job", "held", None),
        ("other", "free", None),
    ]
    status, out, _ = call(node, "status", "--prometheus", "job")
    assert status == 0
    assert 'cronlock_held{key="job"} 1' in out
    assert "cronlock_running" not in out


@SQS
def test_no_fence_is_told(backend: Backend) -> None:
    """The command gets no fence, and messages name none."""
    done = backend.node.run("--verbose", "--", "sh", "-c", "echo ${CRONLOCK_FENCE-none}")
    assert done.out == "none\n"
    assert "fence" not in done.err


class _Role(BaseHTTPRequestHandler):
    """Serves credentials of a container's role that must be refreshed at once."""

    def do_GET(self) -> None:
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30))
        fields = {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token", "Expiration": expires}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(fields).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@SQS
def test_run_continues_without_fresh_credentials(backend: Backend) -> None:
    """A run whose credentials cannot be refreshed continues until its lease ends, with the command's status."""
    node, token = backend.node, backend.node.directory / "token"
    token.write_text("a-token")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del node.environ[name]
    node.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(token)
    with HTTPServer((HOST, 0), _Role) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        node.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{HOST}:{server.server_address[1]}/"
        done = node.run(
            *("--verbose", "--ttl", "20", "--kill-after", "1", "--backend-timeout", "2"),
            *("--", "sh", "-c", f"rm {token}; sleep 9; exit 7"),
        )
        server.shutdown()
    assert done.status == 7
    assert "renewal failed, retrying" in done.err
    assert "release failed" in done.err


@SQS
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--standby", "10"), 64, "--standby: not supported by this backend"),
        (("--ignore-hold",), 64, "--ignore-hold: not supported by this backend"),
        (("--ttl", "13h"), 64, "--ttl: 13h00m is out of range for this backend (2s to 11h59m)"),
        (
            ("--every", "1d"),
            64,
            "--min-hold (or half of --every): 43200 s is longer than SQS can keep: at most 43140 s",
        ),
        (("--min-hold", "13h"), 64, "--min-hold (or half of --every): 46800 s is longer than SQS can keep"),
    ],
)
def test_runs_that_are_refused(backend: Backend, options: tuple[str, ...], status: int, said: str) -> None:
    """What SQS cannot keep is refused in one line, and nothing runs."""
    done = backend.node.run(*options, "--", "echo", "ran")
    assert (done.status, done.out) == (status, "")
    assert said in done.err
    assert done.err.count("\n") == 1


@SQS
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("history", "job"), 64),
        (("release", "--force", "job"), 64),
        (("check", "job", "--max-age", "1d"), 3),
    ],
)
def test_commands_that_are_refused(backend: Backend, command: tuple[str, ...], status: int) -> None:
    """Commands that need records are refused, whether the key is held or not."""
    for _ in range(2):
        got, out, err = call(backend.node, *command)
        assert got == status
        assert "not supported by this backend, which keeps no records" in out + err
        assert (out + err).count("\n") == 1
        assert backend.node.run("--min-hold", 60, "--", "true").status == 0


@SQS
def test_doctor_finds_nothing_wrong(backend: Backend) -> None:
    """The doctor creates its own queue, which the next doctor reuses, and finds nothing wrong."""
    node = backend.node
    for expected in ("made queue", "exists already"):
        status, out, _ = call(node, "doctor", "--create", "--json")
        document = json.loads(out)
        assert (status, document["level"]) == (0, "ok")
        found = {finding["name"]: finding for finding in reversed(document["findings"])}
        assert expected in found["create"]["text"]
        assert found["lease"]["level"] == found["queues"]["level"] == "ok"
        assert found["records"]["level"] == "note"


@SQS
def test_doctor_without_its_queue(backend: Backend) -> None:
    """Without create=yes the doctor says how to create its own queue, and then those of the keys."""
    node = backend.node
    node.environ["CRONLOCK_BACKEND"] = node.environ["CRONLOCK_BACKEND"].replace("create=yes", "create=no")
    status, out, _ = call(node, "doctor")
    assert status == 2
    assert re.search(r"^WRONG +queue +there is no queue", out, re.MULTILINE)
    assert re.search(r"^ok +reachable ", out, re.MULTILINE)
    assert "do: make it: cronlock doctor --create" in out
    done = node.run("--", "true")
    assert done.status == 78
    assert "runs make it with ?create=yes; or make it with: aws sqs create-queue" in done.err
    status, out, _ = call(node, "doctor", "--create")
    assert status == 0
    assert "each key needs a queue of its own" in out


@SQS
def test_queues_that_may_not_be_made(backend: Backend) -> None:
    """Without the right for create=yes, the run and the doctor name it; keys with a queue work."""
    node = backend.node
    assert node.run("--min-hold", "0", "--", "true").status == 0
    with Gate(backend.server.port, node.environ["AWS_SECRET_ACCESS_KEY"], service="sqs") as gate:
        gate.allowed = {action.partition(":")[2] for action in _allowed()} - {"CreateQueue"}
        url = re.sub(r"endpoint=[^&]*", f"endpoint={gate.endpoint}", node.environ["CRONLOCK_BACKEND"])
        node.environ["CRONLOCK_BACKEND"] = url
        assert node.run("--", "true").status == 0
        done = node.run("--", "true", key="new")
        assert done.status == 69
        assert "no permission for sqs:CreateQueue; allow it in the IAM policy" in done.err
        status, out, _ = call(node, "doctor")
        assert status == 2
        assert "cannot acquire one" in out
        gate.allowed.add("CreateQueue")
        assert node.run("--", "true", key="new").status == 0
        assert call(node, "doctor")[0] == 0
        gate.allowed.remove("CreateQueue")
        status, out, _ = call(node, "doctor")
        assert status == 1
        assert "a new key's first run cannot make its queue" in out
        assert "allow sqs:CreateQueue, or make each key's queue" in out


def _allowed() -> list[str]:
    policy = json.loads((Path(__file__).parents[2] / "docs/recipes/sqs-policy.json").read_text())
    actions: list[str] = policy["Statement"][0]["Action"]
    return actions
