"""The servers of a torture run come back: who is master is not forgotten by a restart."""

from __future__ import annotations

import pytest

from labs.servers.process import eventually
from labs.servers.redis import RedisSentinel


@pytest.mark.parametrize("password", [None, "secret"])
def test_master_that_was_a_replica(password: str | None) -> None:
    """A replica that became master, and restarts before sentinels miss it, does not follow its own replica."""
    with RedisSentinel(persistent=True, password=password) as group:
        first = group.master()
        first.kill()
        second = group.wait_new_master(first)
        first.start()
        eventually(group.is_whole, "the old master is a replica", limit=120)
        second.kill()
        second.start()
        assert second.replication()["role"] == "master"
        eventually(group.is_whole, "all work together again", limit=120)
