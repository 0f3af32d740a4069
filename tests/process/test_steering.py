"""`cronlock pause`, `resume` and `stop`, driven from outside, and what `check` and `status` report."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from labs.proxy import Proxy
from labs.servers.process import eventually
from labs.servers.zookeeper import ZooKeeperServer

from .backends import VARIOUS, Backend, on
from .looking import call, shown
from .support import Node, Started, now
from .test_commands import end_run, hold

#: The number of nodes: 50 are promised, fewer suffice to notice a failure.
_FLEET = int(os.environ.get("CRONLOCK_STEERED", "8"))
_NOTES = "read now rest </proc/uptime; echo $now $CRONLOCK_OWNER >>log"


def fire(node: Node, *options: object, command: str = _NOTES, count: int = _FLEET) -> list[Started]:
    """Start a run on each node of a fleet."""
    words = ("--ttl", 10, "--backend-timeout", 30, "--skip-status", 9, *options)
    return [node.start(*words, "--", "sh", "-c", command) for _ in range(count)]


def ran(node: Node) -> list[tuple[float, str]]:
    """Return when each command began, and its run."""
    lines = (node.directory / "log").read_text().splitlines()
    return [(float(at), owner) for at, owner in map(str.split, lines)]


def history(node: Node) -> list[dict[str, Any]]:
    """Return the key's runs, the newest first."""
    runs: list[dict[str, Any]] = json.loads(call(node, "history", "job", "--json")[1])["runs"]
    return runs


@VARIOUS
def test_pause_and_resume(backend: Backend) -> None:
    """A run in progress continues, no other starts, status and check name user and reason; after resume it runs."""
    node = backend.node
    holder = hold(node, "--min-hold", 0)
    status, out, err = call(node, "pause", "job", "--for", "1h", "--reason", "a\x1b[31m migration")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("job: paused by ")
    assert "\x1b" not in out
    assert second == f"  the run of pid {holder.pid} on {shown(node, 'job')['job']['run']['host']} continues;" + (
        " `cronlock stop` ends it"
    )
    end_run(node, holder)
    found = shown(node, "job")["job"]
    assert (found["state"], found["pause"]["reason"]) == ("paused", "a\x1b[31m migration")
    assert 3500 < found["pause"]["until"] - found["pause"]["at"] < 3700
    skip = node.run("--min-hold", 0, "-v", "--skip-status", 9, "--", "echo", "ran")
    assert (skip.status, skip.out) == (9, "")
    assert "skipped: paused by" in skip.err
    assert node.run("--min-hold", 0, "--ignore-pause", "--", "echo", "ran").out == "ran\n"
    for asked, expected in ((), 0), (("--max-age", "0"), 1), (("--max-age", "0", "--paused", "critical"), 2):
        status, out, _ = call(node, "check", "job", *(asked or ("--max-age", "1h")))
        assert status == expected
        assert "paused by" in out
    assert call(node, "check", "job", "--max-age", "0", "--paused", "ok")[0] == 0
    assert "\ncronlock_paused{" in call(node, "status", "job", "--prometheus")[1]
    assert call(node, "resume", "job")[:2][0] == 0
    assert call(node, "resume", "job")[:2] == (1, "job: not paused\n")
    assert node.run("--min-hold", 0, "--", "echo", "ran").out == "ran\n"


@on("redis")
def test_pause_of_many(backend: Backend) -> None:
    """Patterns and --all name used keys; a bad argument gives one line."""
    node = backend.node
    assert "none was paused" in call(node, "pause", "--all")[1]
    for key in ("reports.daily", "reports.weekly", "billing"):
        assert node.run("--", "true", key=key).status == 0
    assert [line.split(":")[0] for line in call(node, "pause", "reports.*", "new")[1].splitlines()] == [
        "new",
        "reports.daily",
        "reports.weekly",
    ]
    skip = node.run("-v", "--skip-status", 9, "--", "true", key="new")
    assert (skip.status, skip.err.endswith("until it is resumed\n")) == (9, True)
    # The time is that of the pause, not of the hold, which ends first.
    assert call(node, "status", "reports.daily")[1].splitlines()[1].split()[:3] == ["reports.daily", "paused", "-"]
    line = json.loads(node.run("--log-format", "json", "--", "true", key="new").messages[0])
    assert (line["why"], "remaining" in line) == ("paused", False)
    for command, nothing in (
        ("resume", "not paused"),
        ("release", "free; nothing to release"),
        ("stop", "no run in progress; nothing to stop"),
    ):
        assert call(node, command, "biling") == (
            1,
            f"biling: {nothing}\n",
            "cronlock: 'biling': no such key; did you mean 'billing'?\n",
        )
    assert call(node, "resume", "--all")[1].count(": resumed; ") == 3
    assert call(node, "resume", "--all")[:2] == (1, "no key is paused\n")
    for words in (["pause"], ["pause", "--all", "x"], ["pause", "none*"], ["pause", "x", "--for", "0"], ["resume"]):
        status, out, err = call(node, *words)
        assert (status, out, len(err.splitlines())) == (64, "", 1)


@on("memcached", "sqs")
def test_backends_that_cannot_pause(backend: Backend) -> None:
    """Backends without records, or that evict them, refuse in one line."""
    status, out, err = call(backend.node, "pause", "job")
    assert (status, out, len(err.splitlines())) == (64, "", 1)


@on("file")
def test_a_pause_that_is_over(backend: Backend) -> None:
    """It ends by itself, and the outcome log has the reason of earlier skips."""
    node = backend.node
    assert call(node, "pause", "job", "--for", "10")[0] == 0
    line = json.loads(node.run("--log-format", "json", "--", "true").messages[0])
    assert (line["why"], line["outcome"]) == ("paused", "skipped")
    assert node.run("--wait", 60, "--", "echo", "ran").out == "ran\n"


#: Ignores TERM, and so does its child in another session.
_STUBBORN = """
trap '' TERM
setsid sh -c "trap '' TERM; while :; do cat /proc/uptime >beat.new; mv beat.new beat; sleep 0.1; done" &
echo ready
while :; do sleep 0.1; done
"""


@VARIOUS
def test_stop(backend: Backend) -> None:
    """Everything dies, by KILL if needed; only then the key is released into its hold, and no standby takes over."""
    node = backend.node
    assert call(node, "stop", "job")[:2] == (1, "job: no run in progress; nothing to stop\n")
    options = ("--ttl", 6, "--kill-after", 1, "--min-hold", 600)
    holder = node.start_ready(*options, "--", "sh", "-c", _STUBBORN)
    standby = node.start("--ttl", 6, "--standby", 300, "--skip-status", 9, "-v", "--", "echo", "ran")
    standby.hears("standing by")
    status, out, err = call(node, "stop", "job")
    assert status == 0, out + err
    first, last = out.splitlines()
    assert first.startswith(f"job: asked the run of pid {holder.pid} on ")
    assert "to stop; it will notice " in first
    assert last.startswith("job: stopped by `cronlock stop`, after ")
    assert "; the key is held for another " in last
    node.check_nothing_left()
    assert holder.wait() == 75
    assert "the command was stopped by " in holder.err
    assert (standby.wait(), standby.out) == (9, "")
    last_run = shown(node, "job")["job"]["last"]
    assert (last_run["outcome"], last_run["status"]) == ("stopped", 75)
    assert node.run("--ignore-hold", "--", "echo", "ran").out == "ran\n"


@on("redis", "zookeeper", "postgresql")
def test_stop_of_a_run_that_looks_often(backend: Backend) -> None:
    """With --poll it notices long before it renews."""
    node = backend.node
    holder = hold(node, "--ttl", 3000, "--poll", 0.2, "--min-hold", 0)
    assert call(node, "stop", "job")[0] == 0
    assert holder.wait() == 75


@on("redis", "etcd")
@pytest.mark.parametrize("how", ["stop", "release"])
def test_notification(backend: Backend, how: str) -> None:
    """A run that renews in a thousand seconds is stopped at once, and what it was asked in its first second too."""
    node = backend.node
    assert backend.server is not None
    with Proxy(backend.server.port) as proxy:
        asks = node.backend
        for listens in (False, True):
            node.environ["CRONLOCK_BACKEND"] = asks.replace(f":{backend.server.port}", f":{proxy.port}")
            before = proxy.connections
            holder = hold(node, "--ttl", 3000, "--min-hold", 0)
            if listens:
                eventually(lambda n=before: proxy.connections == n + 2, "that it listens")  # type: ignore[misc]
            node.environ["CRONLOCK_BACKEND"] = asks
            status, out, err = call(node, *(["stop"] if how == "stop" else ["release", "--force"]), "job")
            assert status == 0, err
            assert not listens or "notice at once, or within 18m20s if the notification is lost" in out
            assert holder.wait() == 75


def test_notification_by_zookeeper(tmp_path: Path) -> None:
    """The same where the servers keep sessions for as long, behind a renewal too: the watch is set anew."""
    with ZooKeeperServer(settings={"maxSessionTimeout": "700000"}) as server:
        node = Node(tmp_path, server.url())
        for ttl, seconds in ((600, 0), (600, 1.5), (15, 6.5)):
            holder = hold(node, "--ttl", ttl, "--min-hold", 0)
            time.sleep(seconds)
            began = now()
            assert call(node, "stop", "job", "--wait", 100)[0] == 0
            assert holder.wait() == 75
            assert ttl == 15 or now() - began < 100


@on("redis", "etcd")
def test_notification_that_is_lost(backend: Backend) -> None:
    """Then the renewal tells; and behind the next one it listens anew."""
    node = backend.node
    assert backend.server is not None
    with Proxy(backend.server.port) as proxy:
        node.environ["CRONLOCK_BACKEND"] = node.backend.replace(f":{backend.server.port}", f":{proxy.port}")
        holder = hold(node, "--ttl", 12, "--min-hold", 0)
        eventually(lambda: proxy.connections == 2, "that it listens")
        proxy.cut()
        eventually(lambda: proxy.connections == 4, "that it listens anew")
        proxy.cut()
        node.environ["CRONLOCK_BACKEND"] = node.backend
        assert call(node, "stop", "job")[0] == 0
        assert holder.wait() == 75
        assert proxy.connections in (5, 6)


@on("file", "memcached", "postgresql")
def test_stop_of_a_run_that_ends_by_itself(backend: Backend) -> None:
    """The command's own end counts, and the messages tell what happened."""
    node = backend.node
    holder = hold(node, "--ttl", 600, "--min-hold", 0, "--poll", 500)
    status, out, _ = call(node, "stop", "job", "--wait", 0)
    assert (status, out.splitlines()[0].endswith("to stop; it will notice within 3m40s")) == (3, True)
    assert shown(node, "job")["job"]["stop"]["host"] == shown(node, "job")["job"]["run"]["host"]
    end_run(node, holder)
    assert shown(node, "job")["job"]["last"]["outcome"] == "exited"


@on("redis", "postgresql")
def test_stop_of_a_run_that_is_cut_off(backend: Backend) -> None:
    """`stop` distinguishes it from a run that ends: its lease lapses, and its guard has killed it by then."""
    node = backend.node
    with Proxy(backend.server.port) as proxy:
        node.environ["CRONLOCK_BACKEND"] = node.backend.replace(f":{backend.server.port}", f":{proxy.port}")
        holder = node.start_ready("--ttl", 15, "--backend-timeout", 1, "--min-hold", 0, "--", "sh", "-c", _STUBBORN)
        node.environ["CRONLOCK_BACKEND"] = node.backend
        proxy.drop_all()
        standby = node.start("--ttl", 15, "--standby", 300, "--skip-status", 9, "-v", "--", "echo", "ran")
        standby.hears("standing by")
        status, out, _ = call(node, "stop", "job")
        assert status == 2
        assert "no answer from" in out
        node.check_nothing_left()
        assert holder.wait() == 75
        assert (standby.wait(), standby.out) == (9, "")
    assert node.run("--min-hold", 0, "--", "echo", "ran").out == "ran\n"


_STEERED = on("redis", "zookeeper", "postgresql")


@_STEERED
def test_pause_of_a_fleet(backend: Backend) -> None:
    """Once it returned, only a run that already had the key starts; the tick after its end runs once."""
    node = backend.node
    first = fire(node, "--min-hold", 0, "--wait", 30)
    first[0].wait()
    assert call(node, "pause", "job")[0] == 0
    returned, pause = now(), shown(node, "job")["job"]["pause"]
    late = [run.wait() for run in fire(node, "--min-hold", 0)]
    assert late == [9] * _FLEET
    # Who was granted the key before may start its command a moment later.
    before = {run["owner"] for run in history(node) if run["started_at"] < pause["at"] + 0.1}
    assert {owner for at, owner in ran(node) if at > returned} <= before
    assert call(node, "resume", "job")[0] == 0
    for run in first:
        run.wait()
    count = len(ran(node))
    assert sorted(run.wait() for run in fire(node, "--min-hold", 600)) == [0] + [9] * (_FLEET - 1)
    assert len(ran(node)) == count + 1


@_STEERED
def test_stop_beside_a_fleet_that_waits(backend: Backend) -> None:
    """Waiting runs start only after the whole run is dead, one after the other."""
    node = backend.node
    holder = node.start_ready("--ttl", 6, "--kill-after", 1, "--min-hold", 0, "--", "sh", "-c", _STUBBORN)
    waiting = fire(node, "--wait", 600, "--min-hold", 0)
    status, out, _ = call(node, "stop", "job")
    assert (status, holder.wait()) == (0, 75), out
    assert [run.wait() for run in waiting] == [0] * _FLEET
    assert min(at for at, _ in ran(node)) >= float((node.directory / "beat").read_text().split()[0])


@VARIOUS
def test_attempts(backend: Backend) -> None:
    """A standby retries a failed command, with its variables set, up to --attempts."""
    node = backend.node
    (node.directory / "log").touch()
    told = "echo $CRONLOCK_ATTEMPT $CRONLOCK_PREVIOUS_STATUS $CRONLOCK_TAKEOVER >>told"
    command = f"{_NOTES}; {told}; exit $((3 - $CRONLOCK_ATTEMPT))"
    holder = hold(node, "--min-hold", 600, "--kill-after", 1, "--timeout", 600)
    standbys = fire(node, "--standby", 300, "--standby-on", "any", "--attempts", 3, "-v", command=command, count=4)
    for run in standbys:
        run.hears("standing by for")
    holder.signal(15)
    assert holder.wait() == 143
    assert sorted(run.wait() for run in standbys) == [0, 1, 9, 9]
    assert (node.directory / "told").read_text() == "2 143 1\n3 1 1\n"
    found = history(node)
    assert [run["status"] for run in found] == [0, 1, 143]
    assert len({run["tick"] for run in found}) == 1
    assert "(attempt 2 of 3)" in call(node, "history", "job")[1]


@on("file")
def test_bad_options_of_standby(backend: Backend) -> None:
    """Options that need --standby, and bad lists, give one line."""
    for words in (
        ("--standby-on", "failed"),
        ("--attempts", 3),
        ("--standby", 9, "--attempts", 0),
        ("--standby", 9, "--attempts", 20),
        ("--standby", 9, "--success-status", "0,x"),
        ("--standby", 9, "--success-status", ""),
    ):
        done = backend.node.run(*words, "--", "true")
        assert (done.status, len(done.messages)) == (64, 1), done.err
