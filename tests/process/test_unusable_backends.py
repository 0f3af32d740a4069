"""Backends that cannot serve, and passwords, which are never shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.servers.process import free_port
from labs.servers.redis import RedisServer

from .support import Node
from .test_exit_status import assert_one_error

_SECRET = "s3cret-word"


@pytest.fixture(scope="module")
def guarded_redis() -> Iterator[RedisServer]:
    """Give a Redis with a password."""
    with RedisServer(password="right") as server:
        yield server


@pytest.mark.parametrize(
    ("status", "url"),
    [
        (69, "redis://user:{secret}@127.0.0.1:{closed}"),
        (69, "redis://:{secret}@127.0.0.1:{guarded}"),
        (69, "redis://:{secret}@no-such-host.invalid"),
        (69, "redis://:{secret}@127.0.0.1:{web}"),
        (69, "rediss://:{secret}@127.0.0.1:{guarded}"),
        (69, "redis+unix://:{secret}@/no/such/socket"),
        (69, "redis+sentinel://:{secret}@127.0.0.1:{closed}/service"),
        (69, "redis+cluster://:{secret}@127.0.0.1:{closed}"),
        (69, "zookeeper://user:{secret}@127.0.0.1:{closed}"),
        (69, "zookeeper://user:{secret}@127.0.0.1:{web}"),
        (69, "memcached://127.0.0.1:{closed}"),
        (69, "memcached://127.0.0.1:{web}"),
        (69, "memcacheds://127.0.0.1:{web}"),
        (78, "bogus://user:{secret}@host"),
        (78, "user:{secret}@host"),
        (78, "redis://:{secret}@"),
        (78, "redis://"),
        (78, "zookeeper://"),
        (78, "memcached://"),
        (78, "redis://:{secret}@host:port"),
        (78, "redis://:{secret}@host:99999"),
        (78, "redis://:{secret}@host:"),
        (78, "redis://:{secret}%zz@host"),
        (78, "redis://:{secret}@host?no_such=1"),
        (78, "redis://:{secret}@host?prefix="),
        (78, "redis://:{secret}@host?prefix"),
        (78, "redis://:{secret}@host?prefix=a&prefix=b"),
        (78, "redis://:{secret}@host/database"),
        (78, "redis://:{secret} x@host"),
        (78, "redis://:{secret}@[::1"),
        (78, "rediss://:{secret}@host?ca=/no/such/file"),
        (78, "memcached://user:{secret}@host"),
        (78, "file://:{secret}@host/path"),
        (78, "file:///tmp?x={secret}"),
        (78, "file://"),
        (78, "{secret}"),
        (78, "/{secret}"),
        (78, ""),
    ],
)
def test_backend_that_cannot_serve(
    node: Node, guarded_redis: RedisServer, web_server: int, status: int, url: str
) -> None:
    """A backend that cannot be used gives its status and one line without the password, and nothing runs."""
    filled = url.format(secret=_SECRET, closed=free_port(), guarded=guarded_redis.port, web=web_server)
    done = node.run("--backend-timeout", "1", "--", "echo", "ran", env={"CRONLOCK_BACKEND": filled})
    assert_one_error(done, status)
    assert _SECRET not in done.err


def test_password_stays_hidden_with_verbose_and_on_the_command_line(node: Node, guarded_redis: RedisServer) -> None:
    """Neither --verbose, nor JSON, nor --on-error run shows the password."""
    url = f"redis://user:{_SECRET}@127.0.0.1:{guarded_redis.port}"
    words = ("--backend", url, "--backend-timeout", "1", "-v", "--on-error", "run")
    for more in ((), ("--log-format", "json")):
        done = node.run(*words, *more, "--", "echo", "ran")
        assert done.out == "ran\n"
        assert done.err
        assert _SECRET not in done.err


def test_password_is_in_no_file(node: Node) -> None:
    """The state directory contains no password."""
    with RedisServer(password=_SECRET) as server:
        assert node.run("--backend", server.url(), "--", "true").status == 0
    files = list(node.state.rglob("*"))
    assert files
    assert not [path for path in files if _SECRET in path.name or (path.is_file() and _SECRET in path.read_text())]


def test_foreign_value_of_the_key(own_node: Node, own_redis: RedisServer) -> None:
    """A foreign value under the key gives 69 and one line, and is not changed."""
    assert own_node.run("--min-hold", "0", "--", "true").status == 0
    with own_redis.client() as client:
        (name,) = client.keys("*")
        client.delete(name)
        client.set(name, "mine")
        done = own_node.run("--", "echo", "ran")
        assert_one_error(done, 69)
        assert client.get(name) == "mine"
