"""The commands besides run, driven from outside, on every backend or on a few."""

from __future__ import annotations

import json
import os
import pty
import re
import signal

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from labs.servers.redis import RedisServer

from .backends import RECORDING, SHOWN, VARIOUS, VARIOUS_WITH_SERVER, Backend, on
from .looking import SCHEMA, call, shown
from .support import Node, Started, children, wait_until


def hold(node: Node, *options: object, key: str = "job") -> Started:
    """Start a run that has the key until the file go is there."""
    return node.hold("--ttl", 10, *options, key=key)


def end_run(node: Node, started: Started) -> None:
    """Let a run of `hold` end."""
    node.finish()
    assert started.wait() == 0


@RECORDING
def test_status_follows_a_key(backend: Backend) -> None:
    """The state goes from free over running to held, with the host and the outcome."""
    node = backend.node
    assert shown(node, "job")["job"]["state"] == "free"
    holder = hold(node, "--min-hold", 600)
    running = shown(node, "job")["job"]
    assert running["state"] == "running"
    assert running["run"]["host"] == os.uname().nodename
    assert running["run"]["pid"] == holder.pid
    assert running["run"]["program"].startswith("sh(")
    assert 0 < running["remaining"] <= 13
    end_run(node, holder)
    held = shown(node, "job")["job"]
    assert held["state"] == "held"
    assert 0 < held["hold_remaining"] <= 603
    assert (held["run"], held["last"]["outcome"], held["last"]["status"]) == (None, "exited", 0)
    assert held["last_success"] == held["last"]


@VARIOUS
def test_status_of_a_dead_run(backend: Backend) -> None:
    """A run that died is lapsed until the next run moves it into the history."""
    node = backend.node
    holder = node.hold("--ttl", 3, "--min-hold", 0)
    family = [holder.pid, *holder.guards, *children(holder.guard)]
    # Stop all before killing one, the command first: a dying process makes the others end.
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    for pid in reversed(family):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: shown(node, "job")["job"]["state"] == "lapsed", "the lease lapsed")
    assert node.run("--ttl", 3, "--min-hold", 0, "--", "true").status == 0
    status, out, _ = call(node, "history", "job")
    assert status == 0
    assert [line.rsplit("  ", 1)[-1].strip() for line in out.splitlines()[1:]] == ["exited with status 0", "died"]


@on("redis")
def test_status_beside_a_foreign_value(backend: Backend) -> None:
    """A foreign value under one key hides no other key; a line and the exit status report it."""
    assert isinstance(backend.server, RedisServer)
    node = backend.node
    assert node.run("--", "true").status == 0
    prefix = node.backend.partition("prefix=")[2]
    with backend.server.client() as client:
        client.hset(f"{prefix}:alien", "colour", "green")
    for options in ((), ("--json",), ("--prometheus",)):
        status, out, err = call(node, "status", *options)
        assert (status, "job" in out, "alien" in out) == (69, True, False), out
        assert f"{prefix}:alien: not a record of cronlock" in err
        assert "cronlock_up 0" not in out
    assert call(node, "status", "job")[0] == 0


@on("sqs")
def test_commands_that_need_records(backend: Backend) -> None:
    """Without records each command refuses in one line; `status` can tell only held from free."""
    node = backend.node
    holder = hold(node)
    for words in (["history", "job"], ["release", "--force", "job"]):
        status, out, err = call(node, *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)
        assert "keeps no records" in err
    status, out, _ = call(node, "check", "job", "--max-age", "1h")
    assert (status, out.startswith("CRONLOCK UNKNOWN - ")) == (3, True)
    keys = shown(node, "job", "other")
    assert (keys["job"]["state"], keys["job"]["run"], keys["job"]["hold_remaining"]) == ("held", None, None)
    assert keys["other"]["state"] == "free"
    end_run(node, holder)


@on("sqs")
def test_options_that_need_records(backend: Backend) -> None:
    """--standby and --ignore-hold are refused before anything runs."""
    for option in (("--standby", 60), ("--ignore-hold",)):
        done = backend.node.run(*option, "--", "echo", "ran")
        assert (done.status, done.out, len(done.messages)) == (64, "", 1), done.err
        assert done.err.startswith(f"cronlock: job: {option[0]}: not supported by this backend, "), done.err


@SHOWN
def test_history_of_many_runs(backend: Backend) -> None:
    """History has at most twenty runs, newest first, in JSON by the schema and as a table."""
    node = backend.node
    for number in range(23):
        assert node.run("--min-hold", 0, "--", "sh", "-c", f"exit {number}").status == number
    status, out, err = call(node, "history", "--json", "job")
    assert (status, err) == (0, "")
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert [run["status"] for run in document["runs"]] == list(range(22, 2, -1))
    assert shown(node, "job")["job"]["last_success"]["status"] == 0
    assert len(call(node, "history", "-n", 5, "job")[1].splitlines()) == 6
    assert call(node, "history", "unused")[1] == "no run of unused on record\n"


@SHOWN
def test_a_short_job_that_could_not_start_is_in_the_history(backend: Backend) -> None:
    """A run that --timeout stopped is in it as well."""
    node = backend.node
    assert node.run("--", "no-such-program").status == 127
    assert node.run("--timeout", 0.2, "--min-hold", 0, "--", "sleep", 60).status == 124
    runs = json.loads(call(node, "history", "--json", "job")[1])["runs"]
    assert [run["outcome"] for run in runs] == ["timeout", "not-started"]


@SHOWN
def test_check_over_time(backend: Backend) -> None:
    """CRITICAL without a success, OK after one, CRITICAL again later, UNKNOWN for bad options."""
    node = backend.node
    status, out, err = call(node, "check", "job", "--max-age", "1h")
    assert (status, err) == (2, "")
    assert out == "CRONLOCK CRITICAL - job: no successful run on record (limit 1h00m) | 'job'=U;;3600;0;\n"
    assert node.run("--min-hold", 0, "--", "true").status == 0
    status, out, _ = call(node, "check", "job", "--max-age", "1h", "--warn-age", "30m")
    assert status == 0
    assert re.fullmatch(r"CRONLOCK OK - job: succeeded \S+ ago \| 'job'=\d+s;1800;3600;0;\n", out)
    wait_until(lambda: call(node, "check", "job", "--max-age", "1s")[0] == 2, "the success is too old")
    assert call(node, "check", "job", "--max-age", "1h", "--warn-age", "0.001s")[0] == 1
    status, out, _ = call(node, "check", "job", "other", "--max-age", "1h")
    assert (status, out.startswith("CRONLOCK CRITICAL - other: ")) == (2, True)
    assert node.run("--min-hold", 0, "--", "false").status == 1
    assert call(node, "check", "job", "--max-age", "1h")[0] == 0
    for words in (["job"], ["job", "--max-age", "soon"], ["--max-age", "1h"], ["job", "--max-age", "1", "--nonsense"]):
        status, out, err = call(node, "check", *words)
        assert (status, err) == (3, "")
        assert out.startswith("CRONLOCK UNKNOWN - ")


@SHOWN
def test_check_of_a_run_in_progress(backend: Backend) -> None:
    """With --max-run, a run in progress counts up to that age."""
    node = backend.node
    holder = hold(node)
    assert call(node, "check", "job", "--max-age", "1h")[0] == 2
    assert call(node, "check", "job", "--max-age", "1h", "--max-run", "1h")[0] == 0
    wait_until(lambda: call(node, "check", "job", "--max-age", "1h", "--max-run", "1s")[0] == 2, "it runs for too long")
    end_run(node, holder)
    assert call(node, "check", "job", "--max-age", "1h")[0] == 0


@on("redis", "memcached")
def test_check_of_patterns(backend: Backend) -> None:
    """Each key that matches is checked; without a match nothing is known, and that is said."""
    node = backend.node
    for key, command in (("jobs.a", "true"), ("jobs.b", "false"), ("other", "false")):
        node.run("--", command, key=key)
    status, out, err = call(node, "check", "jobs.*", "--max-age", "1h")
    if node.backend.startswith("memcached"):
        assert (status, "cannot list keys" in out + err) == (3, True)
        return
    assert (status, err) == (2, "")
    assert re.match(
        r"CRONLOCK CRITICAL - jobs.b: .*; jobs.a: succeeded .* \| 'jobs.b'=U;;3600;0; 'jobs.a'=\d+s;;3600;0;\n", out
    )
    status, out, _ = call(node, "check", "none*", "jobs.a", "--max-age", "1h")
    assert (status, out[:61]) == (3, "CRONLOCK UNKNOWN - none*: no key matches this pattern; jobs.a")
    assert call(node, "check", "none*", "--max-age", "1h")[:2] == (
        3,
        "CRONLOCK UNKNOWN - none*: no key matches this pattern\n",
    )


@VARIOUS_WITH_SERVER
def test_a_server_that_does_not_answer(backend: Backend) -> None:
    """Each command reports it in its own way, within the time limit."""
    node = backend.node
    output = node.directory / "metrics.prom"
    with backend.server.paused():
        limit = ("--backend-timeout", 0.5)
        for words in (["status", "job"], ["history", "job"], ["release", "--force", "job"]):
            status, out, err = call(node, *words, *limit)
            assert (status, out, len(err.splitlines())) == (69, "", 1)
            assert err.startswith("cronlock: ")
        status, out, _ = call(node, "check", "job", "--max-age", 60, *limit)
        assert (status, out.startswith("CRONLOCK UNKNOWN - ")) == (3, True)
        assert call(node, "status", "--prometheus", "job", "--output", output, *limit)[0] == 69
        assert "cronlock_up 0" in output.read_text()


@SHOWN
def test_metrics_in_a_file(backend: Backend) -> None:
    """--output replaces the file atomically, in a format that Prometheus' parser reads."""
    node = backend.node
    output = node.directory / "metrics.prom"
    assert node.run("--min-hold", 600, "--", "sh", "-c", "exit 3").status == 3
    for _ in range(2):
        assert call(node, "status", "--prometheus", "job", "--output", output) == (0, "", "")
    found = {family.name: family.samples for family in text_string_to_metric_families(output.read_text())}
    assert [sample.value for sample in found["cronlock_last_status"]] == [3]
    assert [sample.value for sample in found["cronlock_up"]] == [1]
    assert "cronlock_last_success_timestamp_seconds" not in found
    assert list(node.directory.glob("metrics.prom.*")) == []
    assert output.stat().st_mode & 0o777 == 0o644
    status, _, err = call(node, "status", "--prometheus", "job", "--output", "/nowhere/metrics.prom")
    assert (status, len(err.splitlines())) == (64, 1)


@VARIOUS
def test_release_of_a_hold(backend: Backend) -> None:
    """The hold ends, and the message names its run."""
    node = backend.node
    assert call(node, "release", "--force", "job")[:2] == (1, "job: free; nothing to release\n")
    assert node.run("--min-hold", 600, "--", "true").status == 0
    status, out, err = call(node, "release", "job")
    assert (status, out) == (64, "")
    assert err.splitlines()[-1] == (
        "cronlock: not a terminal, cannot ask for confirmation; to skip it: cronlock release --force -- job"
    )
    for typed, status in (("maybe\nno\n", 1), ("\x04", 1)):
        master, slave = pty.openpty()
        os.write(master, typed.encode())
        asked = call(node, "release", "job", stdin=slave)
        os.close(master)
        os.close(slave)
        assert asked[0] == status
        assert ("cronlock: confirmation: answer y or n\n" in asked[2]) == ("maybe" in typed)
        assert asked[2].splitlines()[-1].endswith("nothing was released")
    status, out, err = call(node, "release", "--force", "job")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "job: hold ended; the key is free"
    assert node.run("--", "echo", "ran").out == "ran\n"


@VARIOUS
def test_release_of_a_run(backend: Backend) -> None:
    """The run is stopped as for any lost lease, and no standby repeats it."""
    node = backend.node
    holder = hold(node, "--min-hold", 600)
    standby = node.start("--ttl", 10, "--standby", 300, "--skip-status", 9, "-v", "--", "echo", "ran")
    standby.hears("standing by")
    status, out, err = call(node, "release", "--force", "job")
    assert (status, err) == (0, "")
    assert f"(pid {holder.pid})" in out
    assert holder.wait() == 75
    assert "lease lost" in holder.err
    assert (standby.wait(), standby.out) == (9, "")
    assert node.run("--", "echo", "ran").out == "ran\n"


@SHOWN
def test_outcome_log(backend: Backend) -> None:
    """With --log-format json each run and each skip writes one line with its outcome."""
    node = backend.node
    options = ("--log-format", "json", "--min-hold", 600)
    lines = [json.loads(line) for line in node.run(*options, "--", "sh", "-c", "exit 3").messages]
    (ran,) = lines
    assert (ran["key"], ran["outcome"], ran["status"], ran["program"]) == ("job", "exited", 3, "sh")
    assert ran["host"] == os.uname().nodename
    assert ran["fence"] > 0
    assert 0 <= ran["waited"] < 60
    assert 0 <= ran["ran_for"] < 60
    (skip,) = [json.loads(line) for line in node.run(*options, "--skip-status", 9, "--", "true").messages]
    assert (skip["outcome"], skip["status"], skip["why"]) == ("skipped", 9, "hold")
    assert (skip["holder"], skip["fence"]) == (ran["host"], ran["fence"])
    assert 0 < skip["remaining"] <= 603
    assert node.run(*options, "-q", "--", "true").err == ""


@SHOWN
def test_drift_is_warned_of(backend: Backend) -> None:
    """A run warns if the previous run had another program or ttl, and so does status."""
    node = backend.node
    assert node.run("--ttl", 10, "--min-hold", 0, "--", "true").err == ""
    assert node.run("--ttl", 10, "--min-hold", 0, "--", "true").err == ""
    done = node.run("--ttl", 5, "--min-hold", 0, "--", "true")
    assert "another ttl: 10s, now 5s" in done.err
    assert "another ttl" in shown(node, "job")["job"]["drift"]
    assert "warning" in call(node, "status", "job")[1]
    done = node.run("--ttl", 5, "--min-hold", 0, "--", "echo")
    assert "another program: true, now echo" in done.err
    assert node.run("--ttl", 10, "--min-hold", 0, "-q", "--", "true").err == ""


@on("file")
def test_jobs_of_one_shell_are_distinguished(backend: Backend) -> None:
    """Scripts of one shell count as different programs, releases of one script do not. Arguments are not shown."""
    said = []
    for script in ("cd /releases/1101 2>/dev/null; true bill", "cd /releases/1102 2>/dev/null; true bill", "true pay"):
        said.append(backend.node.run("--min-hold", 0, "--", "sh", "-c", script).err)
    assert said[:2] == ["", ""]
    assert re.search(r"another program: sh\([0-9a-f]{6}\), now sh\([0-9a-f]{6}\);", said[2])


@on("file")
def test_bad_words(backend: Backend) -> None:
    """Bad options give one line and status 64, a bad configuration one line and 78."""
    node = backend.node
    for words in (
        ["status", "--json", "--prometheus"],
        ["status", "--state", "x"],
        ["status", "--output", "x"],
        ["history", "--since", "x"],
        ["release"],
    ):
        status, out, err = call(node, *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)
        assert err.startswith("cronlock: ")
    assert call(node, "status", "a\nb")[0] == 64
    status, _, err = call(node, "status", "job", "--backend", "nonsense://x")
    assert (status, len(err.splitlines())) == (64, 1) or status == 78


@pytest.mark.parametrize(
    "command", ["status", "history", "check", "pause", "resume", "stop", "release", "forget", "board", "doctor", "wrap"]
)
@on("file")
def test_each_command_has_help(backend: Backend, command: str) -> None:
    """--help of each command names its options."""
    status, out, err = call(backend.node, command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: cronlock {command} ")
