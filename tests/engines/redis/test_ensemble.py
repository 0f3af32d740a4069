"""Redis behind Sentinel and Redis Cluster: the contract, and what both do with whoever names the master."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from cronlock.engines.redis.ensemble import slot_of
from cronlock.testing import StoreContract, StoreHooks
from labs.impostors import listening
from labs.servers.process import HOST
from labs.servers.redis import RedisCluster, RedisSentinel

from ..faults import URLs
from .nodes import RedisHooks, opened, unavailable
from .test_resp import saying, written


class TestContract(StoreContract):
    """The contract over redis+sentinel:// and redis+cluster://."""

    histories = 4

    @pytest.fixture(params=["sentinel", "cluster"])
    def hooks(self, request: pytest.FixtureRequest) -> StoreHooks:
        """The sentinels, or the nodes, each with its slots."""
        return RedisHooks(request.getfixturevalue(request.param).url())


def discovery_node(said: Callable[[], bytes]) -> Callable[[socket.socket], None]:
    """Return a server that lets everyone in and tells whoever asks for the others what `said` returns."""

    def serve(connection: socket.socket) -> None:
        while request := connection.recv(65536):
            connection.sendall(b"+OK\r\n" * request.count(b"AUTH") + said())

    return serve


DISCOVERY = {"redis+sentinel": "/jobs", "redis+cluster": ""}
HOSTS = st.sampled_from([HOST.encode(), b"", b"?", b"\0", b"x" * 80, b"a..b", b"\xff", b"\x1b[2J", None])
PORTS = st.sampled_from([0, 1, -1, 16383, 70000, 2**40, b"1", b"x", None])
PARTS = st.recursive(HOSTS | PORTS, lambda inner: st.lists(inner, max_size=4), max_leaves=10)
SLOTS = st.lists(st.tuples(PORTS, PORTS, st.tuples(HOSTS, PORTS).map(list)).map(list), max_size=3)
WHOLE = st.tuples(HOSTS, PORTS).map(lambda address: [[0, 16383, list(address)]])
MASTERS = st.tuples(HOSTS, PORTS, st.sampled_from([b"master", b"slave", b"s_down,master", b""])).map(
    lambda told: [[b"name", b"jobs", b"ip", told[0], b"port", told[1], b"flags", told[2], b"num-other-sentinels", b"2"]]
)


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_hostile_guide(scheme: str) -> None:
    """Whatever a sentinel or a node says of the others, an acquire is unavailable at worst."""
    said = b""

    @settings(max_examples=200)
    @given(PARTS | SLOTS | WHOLE | MASTERS)
    def play(answer: object) -> None:
        nonlocal said
        said = written(answer)
        assert unavailable(opened(f"{scheme}://{HOST}:{port}{DISCOVERY[scheme]}", timeout=10)).isprintable()

    with listening(discovery_node(lambda: said)) as port:
        play()


@pytest.mark.parametrize("scheme", DISCOVERY)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server replied"),
        (b"", "closed the connection; if this port speaks TLS"),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'secret'\r\n", "authentication failed"),
        (b"-WRONGPASS secret is wrong\r\n", "authentication failed: check user and password"),
        (b"-DENIED Redis is running in protected mode because\r\n", "protected mode"),
        (b"+OK\r\n-NOAUTH Authentication required.\r\n", "the server wants a password"),
        (b"-LOADING Redis is loading the dataset in memory\r\n" * 9, "still loading"),
        (b"-ERR max number of clients reached\r\n", "maxclients"),
        (b"+OK\r\n" * 9, "unexpected reply"),
        (b"*1\r\n" * 100_000, ""),
        (b"$99999999999999999999\r\n", ""),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_guide_of_another_kind(scheme: str, answer: bytes, expected: str) -> None:
    """A malformed reply of a sentinel or node is reported in one line, without passwords and control characters."""
    login = ":secret@" if scheme == "redis+cluster" else ""
    params = "" if login else "?sentinel_password=secret"
    with listening(saying(answer)) as port:
        text = unavailable(opened(f"{scheme}://{login}{HOST}:{port}{DISCOVERY[scheme]}{params}"))
    assert expected in text
    assert f"{HOST}:{port}" in text
    assert "secret" not in text
    assert text.isprintable()


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_refused_guidance(scheme: str) -> None:
    """A discovery node that lets in but does not tell is quoted, but for the password and control characters."""
    login = ":secret@" if scheme == "redis+cluster" else ""
    path = DISCOVERY[scheme] + ("" if login else "?sentinel_password=secret")
    said = b""
    with listening(discovery_node(lambda: said)) as port:
        said = b"-NOPERM User secret\x1b[2J has no permissions\r\n"
        text = unavailable(opened(f"{scheme}://{login}{HOST}:{port}{path}"))
        assert "see the ACL rule" in text
        assert text.endswith("(NOPERM User ***?[2J has no permissions)")
        said = b"-ERR secret\x1b[2J\r\n"
        assert unavailable(opened(f"{scheme}://{login}{HOST}:{port}{path}")).endswith("the server refused: ERR ***?[2J")


@pytest.mark.parametrize("scheme", DISCOVERY)
def test_no_request_is_sent_twice(scheme: str) -> None:
    """Three discovery that hang are given up one after the other, within the request's time."""
    asked: list[bytes] = []

    def hang(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.recv(65536)

    with listening(hang) as port:
        addresses = ",".join([f"{HOST}:{port}"] * 3)
        assert "no answer in time" in unavailable(opened(f"{scheme}://{addresses}{DISCOVERY[scheme]}", timeout=3))
    assert len(asked) == 3


STAYS = """
import os, sys, threading
from cronlock.engines.registry import open_backend
from cronlock.lease.vocabulary import Claim

backend = open_backend(sys.argv[1], 20)
counts = [len(os.listdir("/proc/self/fd"))]
backend.acquire(Claim(key="stays", owner="o", host="h", pid=1, program="true", ttl=10, hold=0))
counts.append(len(os.listdir("/proc/self/fd")))
backend.close()
counts.append(len(os.listdir("/proc/self/fd")))
print(threading.active_count(), *[count - counts[0] for count in counts])
"""


def test_nothing_stays_behind(sentinel: RedisSentinel, cluster: RedisCluster) -> None:
    """Once the master is found, no connection but ours to it stays, and no thread."""
    for url in (sentinel.url(), cluster.url()):
        told = subprocess.run([sys.executable, "-c", STAYS, url], stdout=subprocess.PIPE, text=True, check=True)
        assert told.stdout.split() == ["1", "0", "1", "0"]


@given(st.binary(max_size=6) | st.lists(st.sampled_from([b"{", b"}", b"a"]), max_size=6).map(b"".join))
def test_slots(key: bytes) -> None:
    """A key's slot is the one that redis-py says."""
    assert slot_of(key) == key_slot(key)


@pytest.mark.parametrize("flags", [b"s_down,master", b"s_down,o_down,master", b"slave", b"sentinel"])
def test_master_that_is_down(flags: bytes) -> None:
    """A service whose master is down is not served by that master, also if another service has one that runs."""
    masters = [[b"name", b"jobs", b"ip", HOST.encode(), b"port", b"1", b"flags", flags, b"num-slaves", b"2"]]
    masters.append([b"name", b"other", b"ip", HOST.encode(), b"port", b"2", b"flags", b"master"])
    with listening(discovery_node(lambda: written(masters))) as port:
        text = unavailable(opened(f"redis+sentinel://{HOST}:{port}/jobs"))
    assert "no service 'jobs' with a running master" in text


def test_many_slots() -> None:
    """A cluster whose slots were moved one by one is understood: its reply is longer than any other."""
    address = [HOST.encode(), 1, b"0" * 40, []]
    slots = [[slot, slot, address, address] for slot in range(16384)]
    with listening(discovery_node(lambda: written(slots))) as port:
        text = unavailable(opened(f"redis+cluster://{HOST}:{port}", timeout=300))
    assert f"node {HOST}:1: " in text


class TestURLs(URLs):
    """URLs that are refused."""

    bad_url = (
        ("redis+sentinel:///jobs", "no host"),
        ("redis+sentinel://a", "no service"),
        ("redis+sentinel://a/", "no service"),
        ("redis+sentinel://a/jobs/x", "must be a number"),
        ("redis+sentinel://a/jobs?sentinel_user=x", "sentinel_password"),
        ("redis+sentinel://a/jobs?tls=yes", "tls=1"),
        ("redis+sentinel://a/jobs?ca=/x", "add tls=1"),
        ("redis+sentinel://a/jobs?x=1", "unknown parameter"),
        ("redis+cluster://", "no host"),
        ("redis+cluster://a/1", "no databases"),
        ("redis+cluster://a?sentinel_password=x", "unknown parameter"),
        ("redis+cluster://user@a", "without a password"),
    )
