"""Renewal, loss and the end of a lease, on Redis; the other backends are in test_every_backend."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from labs.proxy import Proxy
from labs.servers.redis import RedisServer

from .signals import PRINTER
from .support import Node, Tree, halt, now, python, wait_until

_TTL = 4


def forget(server: RedisServer) -> None:
    """Delete all data of a test's own server."""
    with server.client() as client:
        client.flushall()


def test_lease_lasts_longer_than_its_ttl(node: Node) -> None:
    """A job longer than three ttls keeps its lease; after the hold the key is free."""
    began = now()
    started = node.hold("--ttl", 4, "--kill-after", 0.2, "--min-hold", 17, then="exit 5")
    while now() < began + 12.5:
        assert node.run("--skip-status", 9, "--", "echo", "ran").status == 9
        time.sleep(0.3)
    node.finish()
    assert (started.wait(), started.err) == (5, "")
    done = node.run("-v", "--min-hold", 0, "--skip-status", 9, "--", "echo", "ran")
    if now() < began + 17:  # It asked during the hold.
        assert (done.status, done.out) == (9, "")
        assert "held for another" in done.err
    waiter = node.run("--wait", 60, "--min-hold", 0, "--", "echo", "ran")
    assert (waiter.status, waiter.out) == (0, "ran\n")
    assert now() > began + 17, "the hold was cut short"


def test_server_that_dies(own_node: Node, own_redis: RedisServer) -> None:
    """If the server dies, the command gets TERM and time to clean up: status 75 and one line."""
    code = "trap 'sleep 0.3; echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    started = own_node.start_ready("--ttl", 12, "--backend-timeout", 1, "--", "sh", "-c", code)
    own_redis.kill()
    assert started.wait() == 75
    assert started.out == "ready\ncleaned\n"
    # TERM goes to every process of the command; the shell may report its sleep.
    assert len([line for line in started.messages if line.startswith("cronlock: ")]) == 1, started.err


def test_hung_server_and_stopped_guard(own_node: Node, own_redis: RedisServer) -> None:
    """The wrapper continues a stopped guard, which kills the command in time."""
    tree = Tree(own_node.directory / "tree")
    started = own_node.start_ready("--ttl", _TTL, "--backend-timeout", 1, "--", *tree.command)
    own_redis.pause()
    paused_at = now()
    halt(started.guard)
    assert started.wait() == 75
    assert tree.alive() == []
    assert tree.last_beat() < paused_at + _TTL


def test_server_comes_back_within_the_ttl(own_node: Node, own_redis: RedisServer) -> None:
    """A server that hangs for less than the ttl does not disturb the job."""
    started = own_node.hold("--ttl", 9, "--kill-after", 1, "--backend-timeout", 1, then="exit 5")
    own_redis.pause()
    time.sleep(3.5)
    own_redis.resume()
    time.sleep(6)
    assert own_node.run("--skip-status", 9, "--", "true").status == 9
    own_node.finish()
    assert (started.wait(), started.err) == (5, "")


def test_server_forgets_the_lease(own_node: Node, own_redis: RedisServer) -> None:
    """A lost lease stops the command: status 75 and one line."""
    tree = Tree(own_node.directory / "tree")
    started = own_node.start_ready("--ttl", 12, "--", *tree.command)
    forget(own_redis)
    assert started.wait() == 75
    assert tree.alive() == []
    assert len(started.messages) == 1
    assert "no longer held" in started.err


def test_lost_lease_is_not_granted_again(own_node: Node, own_redis: RedisServer) -> None:
    """After state loss of the server, this node does not run the key a second time."""
    started = own_node.hold("--ttl", 30, then="exit 5")
    forget(own_redis)
    done = own_node.run("--skip-status", 9, "--ttl", 30, "--", "echo", "ran")
    assert (done.status, done.out) == (9, "")
    assert len(done.messages) == 1, "somebody should be told"
    started.signal(signal.SIGTERM)
    assert started.wait() == 143


def test_on_lost_continue(own_node: Node, own_redis: RedisServer) -> None:
    """With --on-lost continue the command ends with its own status, after one warning."""
    started = own_node.hold("--ttl", 2, "--on-lost", "continue", "--backend-timeout", 1, then="exit 5")
    forget(own_redis)
    started.hears("lease lost")
    time.sleep(2.5)
    own_node.finish()
    assert started.wait() == 5
    assert len(started.messages) == 1


def test_on_lost_continue_with_a_hung_server(own_node: Node, own_redis: RedisServer) -> None:
    """The same when the server hangs beyond the ttl."""
    started = own_node.hold("--ttl", 2, "--on-lost", "continue", "--backend-timeout", 1, then="exit 5")
    own_redis.pause()
    started.hears("lease lost")
    time.sleep(1)
    own_node.finish()
    assert started.wait() == 5
    assert len([line for line in started.messages if "lease lost" in line]) == 1


def test_hung_renewal_delays_no_signal(own_node: Node, own_redis: RedisServer) -> None:
    """Signals are forwarded while a renewal hangs."""
    with Proxy(own_redis.port) as proxy:
        words = ("--backend", own_redis.url(port=proxy.port), "--ttl", 12, "--backend-timeout", 60)
        started = own_node.start_ready(*words, "--", *python(PRINTER))
        asked = proxy.requests
        proxy.drop_replies()
        wait_until(lambda: proxy.requests > asked, "a renewal")
        started.signal(signal.SIGUSR1)
        started.wait_for("SIGUSR1", limit=30)
        proxy.pass_all()
        own_redis.kill()
        proxy.cut()
    assert started.wait() in (9, 75)


def test_hung_renewal_delays_no_timeout(own_node: Node, own_redis: RedisServer) -> None:
    """--timeout kills while a renewal hangs."""
    tree = Tree(own_node.directory / "tree")
    words = ("--ttl", 9, "--backend-timeout", 60, "--timeout", 4, "--kill-after", 0.5)
    started = own_node.start_ready(*words, "--", *tree.command)
    with own_redis.paused():
        wait_until(lambda: tree.alive() == [], "all killed", limit=30)
        # The lease is still valid, and the request still hangs.
        assert tree.last_beat() - tree.first_beat() < 9
        assert started.process.poll() is None
    assert started.wait() == 124


def test_lost_reply_to_the_first_request(own_node: Node, own_redis: RedisServer) -> None:
    """After a lost reply to acquire, a retry finds the lease, and the command runs once."""
    with Proxy(own_redis.port) as proxy:
        proxy.drop_replies()
        started = own_node.start(
            "--backend", own_redis.url(port=proxy.port), "--backend-timeout", 5, "--", "echo", "ran"
        )
        wait_until(lambda: proxy.requests, "the first request")
        time.sleep(0.3)
        proxy.pass_all()
        assert started.wait() == 0
        assert (started.out, started.err) == ("ran\n", "")


def test_lost_replies_until_it_gives_up(own_node: Node, own_redis: RedisServer) -> None:
    """Without any reply nothing runs: status 69, and the key is not left held."""
    with Proxy(own_redis.port) as proxy:
        proxy.drop_replies()
        url = own_redis.url(port=proxy.port)
        done = own_node.run("--backend", url, "--backend-timeout", 0.5, "--", "echo", "ran")
    assert (done.status, done.out) == (69, "")
    assert len(done.messages) == 1
    assert own_node.run("--", "echo", "free").out == "free\n"


def test_too_few_replicas(own_node: Node, own_redis: RedisServer) -> None:
    """A grant that misses min_replicas is a backend failure, not a skip, and the key stays free."""
    words = ("--backend", own_redis.url(min_replicas="1"), "--backend-timeout", 4, "--skip-status", 9)
    done = own_node.run(*words, "--", "echo", "ran")
    assert (done.status, done.out) == (69, "")
    assert len(done.messages) == 1
    assert "min_replicas=1" in done.err
    assert own_node.run("--", "echo", "free").out == "free\n"


def test_wait_for_a_server_that_comes_after_the_ttl(tmp_path: Path) -> None:
    """A --wait that began without a server runs once the server is up, however short the ttl."""
    server = RedisServer()
    node = Node(tmp_path, server.url())
    started = node.start("--wait", 30, "--ttl", 3, "--backend-timeout", 1, "--", "echo", "ran")
    time.sleep(5)
    with server:
        assert (started.wait(), started.out, started.err) == (0, "ran\n", "")
    node.check_nothing_left()


@pytest.mark.parametrize(("choice", "status", "out"), [("fail", 69, ""), ("skip", 0, ""), ("run", 5, "ran\n")])
def test_on_error(node: Node, choice: str, status: int, out: str) -> None:
    """--on-error decides what happens if the backend does not answer."""
    words = ("--backend", "redis://127.0.0.1:9", "--backend-timeout", 0.5, "--on-error", choice)
    done = node.run(*words, "--", "sh", "-c", "echo ran; exit 5")
    assert (done.status, done.out) == (status, out)
    assert len(done.messages) == (0 if choice == "skip" else 1)


def test_wait_runs_after_the_holder(node: Node) -> None:
    """--wait runs after the holder ended, and not before."""
    holder = node.hold("--min-hold", 0, then="exit 5")
    waiter = node.start("--wait", 120, "--", "sh", "-c", "[ -e go ] && echo after")
    time.sleep(1)
    assert waiter.process.poll() is None
    node.finish()
    assert holder.wait() == 5
    assert (waiter.wait(), waiter.out) == (0, "after\n")
    # Two scripts of one shell count as two jobs.
    assert "the previous run was another program: sh(" in waiter.err


def test_wait_that_is_too_short(node: Node) -> None:
    """--wait that ends before the holder does is a skip."""
    holder = node.hold(then="exit 5")
    done = node.run("--wait", 1, "--skip-status", 9, "--", "echo", "ran")
    assert (done.status, done.out, done.err) == (9, "", "")
    node.finish()
    assert holder.wait() == 5


def test_wait_lets_each_run_in_turn(node: Node) -> None:
    """Runs that wait for each other run one at a time, all of them."""
    code = 'set -e; mkdir lock; sleep 0.05; rmdir lock; echo "$CRONLOCK_FENCE" >> fences'
    runs = [node.start("--wait", 120, "--", "sh", "-c", code) for _ in range(6)]
    assert [started.wait() for started in runs] == [0] * 6
    fences = [int(line) for line in (node.directory / "fences").read_text().split()]
    assert fences == sorted(set(fences))
    assert len(fences) == 6


def test_hold(node: Node) -> None:
    """The hold counts from the start of the run and excludes others until its end."""
    began = now()
    assert node.run("--min-hold", 6, "--", "true").status == 0
    assert node.run("--min-hold", 0, "--skip-status", 9, "--", "true").status == 9
    assert node.run("--min-hold", 0, "--wait", 60, "--", "true").status == 0
    assert now() - began > 6
    # The second run asked for no hold.
    assert node.run("--", "echo", "ran").out == "ran\n"


def test_hold_of_a_run_that_failed(node: Node) -> None:
    """The hold applies however the run ended."""
    assert node.run("--", "sh", "-c", "kill -KILL $$").status == 137
    assert node.run("--skip-status", 9, "--", "true").status == 9


def test_ignore_hold(node: Node) -> None:
    """--ignore-hold runs during a hold, but never beside a holder."""
    assert node.run("--", "true").status == 0
    assert node.run("--", "echo", "ran").out == ""
    assert node.run("--ignore-hold", "--", "echo", "ran").out == "ran\n"
    holder = node.hold("--ignore-hold", then="exit 5")
    assert node.run("--ignore-hold", "--", "echo", "ran").out == ""
    node.finish()
    assert holder.wait() == 5


def test_every(node: Node) -> None:
    """--every holds the key for half of the period."""
    began = now()
    assert node.run("--every", 12, "--", "true").status == 0
    assert node.run("--skip-status", 9, "--", "true").status == 9
    assert node.run("--wait", 60, "--", "true").status == 0
    assert now() - began > 6


def test_hold_outlives_a_dead_holder(node: Node) -> None:
    """When a holder dies, the lease lapses with the ttl and the hold stays."""
    started = node.hold("--ttl", 4, "--kill-after", 0.2, "--min-hold", 60, then="exit 5")
    started.signal(signal.SIGKILL)
    started.wait()
    done = node.run("--wait", 6, "--skip-status", 9, "--", "true")
    assert done.status == 9
    assert node.run("--ignore-hold", "--", "echo", "ran").out == "ran\n"


def test_jitter_is_waited_before_asking(node: Node) -> None:
    """--jitter sleeps for at most that time, then runs."""
    assert node.run("--jitter", 0.3, "--", "echo", "ran").out == "ran\n"


def test_keys_are_independent(node: Node) -> None:
    """Another key is another lease."""
    holder = node.hold(then="exit 5")
    assert node.run("--", "echo", "ran", key="other").out == "ran\n"
    node.finish()
    assert holder.wait() == 5


def test_unwritable_state_directory(node: Node) -> None:
    """A job runs even if the state directory cannot be created."""
    node.state.write_text("in the way")
    done = node.run("--", "echo", "ran")
    assert (done.status, done.out, done.err) == (0, "ran\n", "")
