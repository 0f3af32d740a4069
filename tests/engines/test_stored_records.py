"""Records as versions before this one stored them, word by word: read, and worked on.

Points in time are moved to now, by as much as passed since the record was stored.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from kazoo.client import KazooClient

from cronlock.engines.file import backend as file
from cronlock.engines.registry import open_backend
from cronlock.keys import escape
from cronlock.lease.vocabulary import CANCELLED, DIED, ENDED, EXITED, HELD, HOLD
from cronlock.testing import fresh_key, granted, make_claim, make_ending, refused
from labs.clocks import ManualClock
from labs.servers.memcached import MemcachedServer
from labs.servers.redis import RedisServer
from labs.servers.zookeeper import ZooKeeperServer

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


# Redis: hashes, as HGETALL showed them. The first four are of a program that knew neither history nor standby.
REDIS_HELD = {
    "cronlock": "1",
    "fence": "1795451907592466",
    "gone": "\nweb1:4001:0000000000000001\n",
    "hold": "1795451952592466",
    "host": "web2",
    "lapse": "1795452207592466",
    "last_ended_at": "1795451907.589693",
    "last_fence": "1795451907589059",
    "last_host": "web1",
    "last_outcome": "exited",
    "last_owner": "web1:4001:0000000000000001",
    "last_pid": "4001",
    "last_program": "back%up.sh",
    "last_started_at": "1795451907.589059",
    "last_status": "0",
    "last_ttl": "300.000",
    "owner": "web2:4002:0000000000000002",
    "pid": "4002",
    "program": "back%up.sh",
    "started_at": "1795451907.592466",
    "ttl": "300.000",
}
REDIS_ENDED = {
    "cronlock": "1",
    "fence": "1795451907592466",
    "gone": "\nweb2:4002:0000000000000002\nweb1:4001:0000000000000001\n",
    "hold": "1795451952592466",
    "last_ended_at": "1795451907.593270",
    "last_fence": "1795451907592466",
    "last_host": "web2",
    "last_outcome": "exited",
    "last_owner": "web2:4002:0000000000000002",
    "last_pid": "4002",
    "last_program": "back%up.sh",
    "last_started_at": "1795451907.592466",
    "last_status": "3",
    "last_ttl": "300.000",
}
#: By hand, within the hold of web3, which died.
REDIS_BY_HAND = {
    **REDIS_ENDED,
    "fence": "1795451907594730",
    "hold": "1795455507594449",
    "host": "web4",
    "kept": "1795455507594449",
    "kept_host": "web3",
    "kept_owner": "web3:4003:0000000000000003",
    "kept_pid": "4003",
    "kept_program": "back%up.sh",
    "kept_started_at": "1795451907.594449",
    "kept_ttl": "300.000",
    "lapse": "1795452207594730",
    "owner": "web4:4004:0000000000000004",
    "pid": "4004",
    "program": "back%up.sh",
    "started_at": "1795451907.594730",
    "ttl": "300.000",
}
REDIS_GAVE_UP = {"cronlock": "1", "gone": "\nweb5:4005:0000000000000005\n"}
#: With the history: web3 runs in place of web2.
REDIS_TAKEOVER = {
    "cronlock": "1",
    "extra": "web3:4003:0000000000000003\n1795451907595759\nweb2:4002:0000000000000002\n1795451907595160",
    "fence": "1795451907595759",
    "gone": "\nweb1:4001:0000000000000001\n",
    "history": "owner=web2:4002:0000000000000002\thost=web2\tpid=4002\tprogram=back%25up.sh\t"
    "started_at=1795451907.595160\tttl=300.000\tfence=1795451907595160\toutcome=died\n"
    "owner=web1:4001:0000000000000001\thost=web1\tpid=4001\tprogram=back%25up.sh\t"
    "started_at=1795451907.590572\tttl=300.000\tfence=1795451907590572\t"
    "ended_at=1795451907.591408\toutcome=exited\tstatus=0",
    "hold": "1795455507595160",
    "host": "web3",
    "kept": "1795455507595160",
    "kept_extra": "web2:4002:0000000000000002\n1795451907595160\n\n",
    "kept_host": "web2",
    "kept_owner": "web2:4002:0000000000000002",
    "kept_pid": "4002",
    "kept_program": "back%up.sh",
    "kept_started_at": "1795451907.595160",
    "kept_ttl": "300.000",
    "lapse": "1795452207595759",
    "last_ended_at": "1795451907.591408",
    "last_extra": "web1:4001:0000000000000001\n1795451907590572\n\n",
    "last_fence": "1795451907590572",
    "last_host": "web1",
    "last_outcome": "exited",
    "last_owner": "web1:4001:0000000000000001",
    "last_pid": "4001",
    "last_program": "back%up.sh",
    "last_started_at": "1795451907.590572",
    "last_status": "0",
    "last_ttl": "300.000",
    "owner": "web3:4003:0000000000000003",
    "pid": "4003",
    "program": "back%up.sh",
    "started_at": "1795451907.595759",
    "success": "owner=web1:4001:0000000000000001\thost=web1\tpid=4001\tprogram=back%25up.sh\t"
    "started_at=1795451907.590572\tttl=300.000\tfence=1795451907590572\t"
    "ended_at=1795451907.591408\toutcome=exited\tstatus=0",
    "ttl": "300.000",
}
#: When the server stored them, in microseconds of its clock.
REDIS_STORED_AT = 1795451907600000
#: What some later version may add.
REDIS_UNKNOWN = {"colour": "red", "last_colour": "", "kept_colour": "blue\n", "10": "\t"}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One Redis."""
    with RedisServer() as running:
        yield running


class TestRedis:
    """Hashes of before, on a server of now."""

    @pytest.fixture
    def client(self, redis_server: RedisServer) -> Iterator[redis.Redis]:
        """What stores a record behind the backend's back."""
        with redis_server.client() as client:
            yield client

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[Backend]:
        """The server's backend."""
        backend = open_backend(redis_server.url(), 20.0)
        yield backend
        backend.close()

    def _store(self, client: redis.Redis, fields: dict[str, str], **others: str) -> str:
        key = fresh_key("stored")
        seconds, rest = client.time()
        passed = seconds * 1_000_000 + rest - REDIS_STORED_AT
        moved = {name: str(int(fields[name]) + passed) for name in ("lapse", "hold", "kept") if name in fields}
        stored: dict[Any, Any] = {**fields, **moved, **REDIS_UNKNOWN, **others}
        client.hset(f"cronlock:{key}", mapping=stored)
        return key

    def test_held(self, client: redis.Redis, backend: Backend) -> None:
        """A lease is respected and shown, its hold too, and once it lapsed the run is one that died."""
        key = self._store(client, REDIS_HELD)
        conflict = refused(backend.acquire(make_claim(key)), HELD)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.program) == (REDIS_HELD["owner"], "back%up.sh")
        assert conflict.fence == conflict.run.fence == int(REDIS_HELD["fence"])
        assert 200 < conflict.remaining <= 300
        record = backend.read(key)
        assert record is not None
        assert record.last is not None
        assert (record.last.owner, record.last.status) == (REDIS_HELD["last_owner"], 0)
        assert (record.last.fence, record.history) == (int(REDIS_HELD["last_fence"]), [])
        assert 0 < record.hold_remaining <= 45
        client.hset(f"cronlock:{key}", "lapse", "1")
        refused(backend.acquire(make_claim(key)), HOLD)
        gave_up = make_claim(key, standby_for=REDIS_HELD["owner"])
        granted(backend.acquire(gave_up))
        backend.abandon(gave_up)
        heir = granted(backend.acquire(make_claim(key, standby_for=REDIS_HELD["owner"])))
        assert (heir.took_over, (heir.fence or 0) > int(REDIS_HELD["fence"])) == (int(REDIS_HELD["fence"]), True)
        assert backend.release(heir, make_ending(), keep_hold=True)
        record = backend.read(key)
        assert record is not None
        assert [(run.host, run.outcome) for run in record.history] == [("node-a", EXITED), ("web2", DIED)]

    def test_ended(self, client: redis.Redis, backend: Backend) -> None:
        """A hold is respected, the run's end is known to a standby, and the next run has a higher fence."""
        key = self._store(client, REDIS_ENDED)
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.status) == (REDIS_ENDED["last_owner"], 3)
        refused(backend.acquire(make_claim(key, standby_for=REDIS_ENDED["last_owner"])), ENDED)
        refused(backend.acquire(make_claim(key, owner=REDIS_ENDED["last_owner"])), CANCELLED)
        grant = granted(backend.acquire(make_claim(key, ignore_hold=True)))
        assert (grant.fence or 0) > int(REDIS_ENDED["fence"])
        assert grant.previous is not None
        assert (grant.previous.program, grant.previous.ttl) == ("back%up.sh", 300)

    def test_by_hand_in_a_hold(self, client: redis.Redis, backend: Backend) -> None:
        """When the run by hand gives up, the hold is that of the dead run again, which a standby may take over."""
        key = self._store(client, REDIS_BY_HAND)
        assert refused(backend.acquire(make_claim(key)), HELD).remaining > 200
        backend.abandon(make_claim(key, owner=REDIS_BY_HAND["owner"]))
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.host) == (REDIS_BY_HAND["kept_owner"], "web3")
        assert conflict.remaining > 3000
        heir = granted(backend.acquire(make_claim(key, standby_for=REDIS_BY_HAND["kept_owner"])))
        assert heir.took_over is not None

    def test_gave_up(self, client: redis.Redis, backend: Backend) -> None:
        """A record of one that gave up is no record of a run; that owner is refused."""
        key = self._store(client, REDIS_GAVE_UP)
        assert backend.read(key) is None
        refused(backend.acquire(make_claim(key, owner="web5:4005:0000000000000005")), CANCELLED)
        assert granted(backend.acquire(make_claim(key))).previous is None

    def test_takeover(self, client: redis.Redis, backend: Backend) -> None:
        """A takeover, the history and the last success are read as they were written."""
        key = self._store(client, REDIS_TAKEOVER)
        record = backend.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.tick, record.run.took_over) == (REDIS_TAKEOVER["kept_owner"], 1795451907595160)
        assert [(run.host, run.outcome, run.program) for run in record.history] == [
            ("web2", DIED, "back%up.sh"),
            ("web1", EXITED, "back%up.sh"),
        ]
        assert record.success is not None
        assert (record.success.host, record.success.ended_at) == ("web1", 1795451907.591408)
        backend.abandon(make_claim(key, owner=REDIS_TAKEOVER["owner"]))
        heir = granted(backend.acquire(make_claim(key, standby_for=REDIS_TAKEOVER["kept_owner"])))
        assert heir.took_over == 1795451907595160

    def test_older_program_in_between(self, client: redis.Redis, backend: Backend) -> None:
        """What a program that knows no takeovers left behind of one is not taken for its own run's."""
        extra = "web8:4008:0000000000000008\n1795451907500008\nweb7:4007:0000000000000007\n1795451907500007"
        key = self._store(client, REDIS_HELD, extra=extra, last_extra=extra, kept_extra=extra)
        record = backend.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.stands_for, record.run.took_over) == (None, None)
        assert record.run.fence == int(REDIS_HELD["fence"])
        client.hset(f"cronlock:{key}", "lapse", "1")
        refused(backend.acquire(make_claim(key, standby_for="web7:4007:0000000000000007")), ENDED)
        heir = granted(backend.acquire(make_claim(key, standby_for=REDIS_HELD["owner"])))
        assert heir.took_over == int(REDIS_HELD["fence"])


# file: the slots of a key's file, without the blanks that fill each of them up to 4096 bytes. Of a program that
# knew neither history nor standby.
_FILE_FIRST_ENDED = b"""cronlock=1
number=2
key=job
fence=1790000000250000
boot=0b0af2f4-5f0e-4f6b-9d0a-3c8a1f0e7d11
hold_until=5600.000000
hold_until_at=1790000600.250
last.owner=web1:101:aaaaaaaaaaaaaaaa
last.host=web1
last.pid=4711
last.program=na\xc3\xafve 100%25
last.started_at=1790000000.250
last.ttl=300.000
last.fence=1790000000250000
last.ended_at=1790000100.500
last.outcome=exited
last.status=0
crc=6b3b33e3
"""
_FILE_FIRST_BEGAN = b"""cronlock=1
number=1
key=job
fence=1790000000250000
boot=0b0af2f4-5f0e-4f6b-9d0a-3c8a1f0e7d11
hold_until=5600.000000
hold_until_at=1790000600.250
run.owner=web1:101:aaaaaaaaaaaaaaaa
run.host=web1
run.pid=4711
run.program=na\xc3\xafve 100%25
run.started_at=1790000000.250
run.ttl=300.000
run.fence=1790000000250000
crc=160d1f7b
"""
_FILE_SECOND_BEGAN = b"""cronlock=1
number=3
key=job
fence=1790000000250001
boot=0b0af2f4-5f0e-4f6b-9d0a-3c8a1f0e7d11
hold_until=5900.000000
hold_until_at=1790000900.250
run.owner=web1:102:bbbbbbbbbbbbbbbb
run.host=web1
run.pid=4711
run.program=na\xc3\xafve 100%25
run.started_at=1790000000.250
run.ttl=300.000
run.fence=1790000000250001
last.owner=web1:101:aaaaaaaaaaaaaaaa
last.host=web1
last.pid=4711
last.program=na\xc3\xafve 100%25
last.started_at=1790000000.250
last.ttl=300.000
last.fence=1790000000250000
last.ended_at=1790000100.500
last.outcome=exited
last.status=0
crc=a71c83e0
"""
_FILE_BOOT = "0b0af2f4-5f0e-4f6b-9d0a-3c8a1f0e7d11"


class TestFile:
    """Files of before, in the boot in which they were written."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> file.FileBackend:
        """A backend that looks 200 s after the first run began."""
        monkeypatch.setattr(file, "boot_id", lambda: _FILE_BOOT)
        return file.FileBackend(str(tmp_path), 1.0, ManualClock(5200.0, 1790000200.0))

    def _store(self, tmp_path: Path, *slots: bytes) -> None:
        data = b"".join(slot.ljust(4096) for slot in slots).ljust(3 * 4096)
        (tmp_path / "job.lock").write_bytes(data)

    def test_ended(self, backend: file.FileBackend, tmp_path: Path) -> None:
        """A hold is respected, the run's end is known to a standby, and the next one has it in its history."""
        self._store(tmp_path, _FILE_FIRST_ENDED, _FILE_FIRST_BEGAN)
        conflict = refused(backend.acquire(make_claim("job")), HOLD)
        assert conflict.remaining == 400
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.program) == ("web1:101:aaaaaaaaaaaaaaaa", "naïve 100%")
        refused(backend.acquire(make_claim("job", owner="web1:101:aaaaaaaaaaaaaaaa")), CANCELLED)
        refused(backend.acquire(make_claim("job", standby_for="web1:101:aaaaaaaaaaaaaaaa")), ENDED)
        record = backend.read("job")
        assert record is not None
        assert [(run.host, run.ended_at) for run in record.history] == [("web1", 1790000100.5)]
        grant = granted(backend.acquire(make_claim("job", ignore_hold=True)))
        assert (grant.fence or 0) > 1790000000250000
        assert grant.previous is not None
        assert (grant.previous.program, grant.previous.ttl) == ("naïve 100%", 300)
        assert backend.release(grant, make_ending(1), keep_hold=True)
        record = backend.read("job")
        assert record is not None
        assert [(run.host, run.status) for run in record.history] == [("node-a", 1), ("web1", 0)]
        assert record.success is not None
        assert record.success.owner == "web1:101:aaaaaaaaaaaaaaaa"
        assert (tmp_path / "job.lock").stat().st_size == 3 * 4096

    def test_died(self, backend: file.FileBackend, tmp_path: Path) -> None:
        """A run that died within its hold is taken over, and both runs of before are in the history."""
        self._store(tmp_path, _FILE_FIRST_ENDED, _FILE_SECOND_BEGAN)
        assert refused(backend.acquire(make_claim("job")), HOLD).remaining == 700
        heir = granted(backend.acquire(make_claim("job", standby_for="web1:102:bbbbbbbbbbbbbbbb")))
        assert heir.took_over == 1790000000250001
        assert backend.release(heir, make_ending(), keep_hold=True)
        assert refused(backend.acquire(make_claim("job")), HOLD).remaining == 700
        record = backend.read("job")
        assert record is not None
        assert [(run.host, run.outcome) for run in record.history] == [
            ("node-a", EXITED),
            ("web1", DIED),
            ("web1", EXITED),
        ]

    def test_unknown_fields(self, backend: file.FileBackend, tmp_path: Path) -> None:
        """What some later version may add is passed over."""
        body = _FILE_FIRST_ENDED.partition(b"crc=")[0] + b"colour=red\nlast.colour=\n"
        self._store(tmp_path, body + b"crc=%08x\n" % zlib.crc32(body))
        assert refused(backend.acquire(make_claim("job")), HOLD).remaining == 400


# memcached: values of items. Of a program that knew neither history nor standby.
_MEMCACHED_ENDED = b"""cronlock=1
fence=1790000000250001
lease=0
hold=602
last.owner=web1:101:aaaaaaaaaaaaaaaa
last.host=web1
last.pid=4711
last.program=na\xc3\xafve 100%25
last.started_at=1790000000.250
last.ttl=300.000
last.fence=1790000000250001
last.ended_at=1790000000.250
last.outcome=exited
last.status=0
gone=web1:101:aaaaaaaaaaaaaaaa
"""
#: By hand, within the hold of a run that had ended.
_MEMCACHED_BY_HAND = b"""cronlock=1
fence=1790000000250002
lease=302
hold=902
kept=602
run.owner=web1:102:bbbbbbbbbbbbbbbb
run.host=web1
run.pid=4711
run.program=na\xc3\xafve 100%25
run.started_at=1790000000.250
run.ttl=300.000
run.fence=1790000000250002
last.owner=web1:101:aaaaaaaaaaaaaaaa
last.host=web1
last.pid=4711
last.program=na\xc3\xafve 100%25
last.started_at=1790000000.250
last.ttl=300.000
last.fence=1790000000250001
last.ended_at=1790000000.250
last.outcome=exited
last.status=0
gone=web1:101:aaaaaaaaaaaaaaaa
"""


@pytest.fixture(name="memcached", scope="module")
def _memcached() -> Iterator[MemcachedServer]:
    """One server."""
    with MemcachedServer() as running:
        yield running


class TestMemcached:
    """Items of before, on a server of now."""

    @pytest.fixture
    def backend(self, memcached: MemcachedServer) -> Iterator[Backend]:
        """The server's backend."""
        backend = open_backend(memcached.url(), 20.0)
        yield backend
        backend.close()

    def _store(self, memcached: MemcachedServer, value: bytes, key: str = "") -> str:
        key = key or fresh_key("stored")
        # 30 days: what it has left of them tells its age.
        command = f"set cronlock:{key} 0 {30 * 86400} {len(value)}\r\n{value.decode()}"
        assert memcached.ask(command).startswith("STORED")
        return key

    def test_ended(self, memcached: MemcachedServer, backend: Backend) -> None:
        """A hold is respected, the run's end is known to a standby, and the next one has it in its history."""
        key = self._store(memcached, _MEMCACHED_ENDED)
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert 500 < conflict.remaining <= 600
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.program) == ("web1:101:aaaaaaaaaaaaaaaa", "naïve 100%")
        refused(backend.acquire(make_claim(key, owner="web1:101:aaaaaaaaaaaaaaaa")), CANCELLED)
        refused(backend.acquire(make_claim(key, standby_for="web1:101:aaaaaaaaaaaaaaaa")), ENDED)
        grant = granted(backend.acquire(make_claim(key, ignore_hold=True)))
        assert grant.fence == 1790000000250002
        assert grant.previous is not None
        assert (grant.previous.program, grant.previous.ttl) == ("naïve 100%", 300)
        assert backend.release(grant, make_ending(1), keep_hold=True)
        record = backend.read(key)
        assert record is not None
        assert [(run.host, run.status) for run in record.history] == [("node-a", 1), ("web1", 0)]
        assert record.success is not None
        assert record.success.owner == "web1:101:aaaaaaaaaaaaaaaa"

    def test_by_hand_in_a_hold(self, memcached: MemcachedServer, backend: Backend) -> None:
        """When the run by hand dies it is taken over, and when that gives up, there is the hold as it was."""
        key = self._store(memcached, _MEMCACHED_BY_HAND)
        assert refused(backend.acquire(make_claim(key)), HELD).remaining > 200
        self._store(memcached, _MEMCACHED_BY_HAND.replace(b"lease=302", b"lease=0"), key)
        claim = make_claim(key, standby_for="web1:102:bbbbbbbbbbbbbbbb")
        assert granted(backend.acquire(claim)).took_over == 1790000000250002
        backend.abandon(claim)
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert conflict.run.owner == "web1:102:bbbbbbbbbbbbbbbb"
        assert 800 < conflict.remaining <= 900
        granted(backend.acquire(make_claim(key, ignore_hold=True)))
        record = backend.read(key)
        assert record is not None
        assert [run.outcome for run in record.history] == [DIED, EXITED]

    def test_older_program_in_between(self, memcached: MemcachedServer, backend: Backend) -> None:
        """The last success that an older program left out is found among the past runs."""
        key = fresh_key("stored")
        for status in (0, 1):
            assert backend.release(granted(backend.acquire(make_claim(key))), make_ending(status), keep_hold=False)
        told = memcached.ask(f"get cronlock:{key}", "END\r\n").replace("\r\n", "\n").partition("\n")[2]
        lines = told.partition("\nEND")[0].split("\n")
        assert any(line.startswith("success=") for line in lines)
        self._store(memcached, "\n".join(line for line in lines if not line.startswith("success=")).encode(), key)
        record = backend.read(key)
        assert record is not None
        assert record.success is not None
        assert record.success.status == 0

    def test_unknown_fields(self, memcached: MemcachedServer, backend: Backend) -> None:
        """What some later version may add is passed over."""
        key = self._store(memcached, _MEMCACHED_ENDED + b"colour=red\nlast.colour=\n")
        assert 500 < refused(backend.acquire(make_claim(key)), HOLD).remaining <= 600


# ZooKeeper: the texts of keys' nodes. The first four are of a program that knew neither history nor standby.
ZOOKEEPER_HELD = """cronlock=1
fence=12
gone=
hold=45.000
session=10000c6f67c0002
timeout=40.000
run.owner=web2:4002:0000000000000002
run.host=web2
run.pid=4002
run.program=back%25up.sh
run.started_at=1795452772.676
run.ttl=40.000
run.fence=12
last.owner=web1:4001:0000000000000001
last.host=web1
last.pid=4001
last.program=back%25up.sh
last.started_at=1795452772.659
last.ttl=40.000
last.fence=7
last.ended_at=1795452772.659
last.outcome=exited
last.status=0
"""
ZOOKEEPER_ENDED = """cronlock=1
fence=23
gone=
hold=45.000
session=10000c6f67c0002
timeout=40.000
granted=1795452772700
last.owner=web2:4002:0000000000000002
last.host=web2
last.pid=4002
last.program=back%25up.sh
last.started_at=1795452772.699
last.ttl=40.000
last.fence=23
last.ended_at=1795452772.699
last.outcome=exited
last.status=3
"""
#: By hand, within the hold of web3, which died.
ZOOKEEPER_BY_HAND = """cronlock=1
fence=44
gone=
hold=3599.993
session=10000c6f67c0006
timeout=40.000
kept=1795456372744
run.owner=web4:4004:0000000000000004
run.host=web4
run.pid=4004
run.program=back%25up.sh
run.started_at=1795452772.751
run.ttl=40.000
run.fence=44
kept.owner=web3:4003:0000000000000003
kept.host=web3
kept.pid=4003
kept.program=back%25up.sh
kept.started_at=1795452772.741
kept.ttl=40.000
kept.fence=40
"""
ZOOKEEPER_GAVE_UP = """cronlock=1
fence=0
gone=web5:4005:0000000000000005
hold=0.000
session=0
timeout=0.000
granted=1795452772763
"""
#: With the history: web3 runs in place of web2.
ZOOKEEPER_TAKEOVER = """cronlock=1
fence=16
gone=
hold=3599.981
session=10000c82f3c0003
timeout=40.000
kept=1795456372744
run.owner=web3:4003:0000000000000003
run.host=web3
run.pid=4003
run.program=back%25up.sh
run.started_at=1795452857.636
run.ttl=40.000
run.fence=16
run.stands_for=web2:4002:0000000000000002
run.took_over=12
last.owner=web1:4001:0000000000000001
last.host=web1
last.pid=4001
last.program=back%25up.sh
last.started_at=1795452857.557
last.ttl=40.000
last.fence=7
last.ended_at=1795452857.557
last.outcome=exited
last.status=0
kept.owner=web2:4002:0000000000000002
kept.host=web2
kept.pid=4002
kept.program=back%25up.sh
kept.started_at=1795452857.594
kept.ttl=40.000
kept.fence=12
"""
#: The node beside it.
ZOOKEEPER_HISTORY = (
    "cronlock=1\n"
    "runs=owner=web2:4002:0000000000000002\thost=web2\tpid=4002\tprogram=back%2525up.sh\t"
    "started_at=1795452857.594\tttl=40.000\tfence=12\toutcome=died%0A"
    "owner=web1:4001:0000000000000001\thost=web1\tpid=4001\tprogram=back%2525up.sh\t"
    "started_at=1795452857.557\tttl=40.000\tfence=7\tended_at=1795452857.557\toutcome=exited\tstatus=0\n"
    "success=owner=web1:4001:0000000000000001\thost=web1\tpid=4001\tprogram=back%2525up.sh\t"
    "started_at=1795452857.557\tttl=40.000\tfence=7\tended_at=1795452857.557\toutcome=exited\tstatus=0\n"
)
#: When the leader stored them, in milliseconds of its clock.
ZOOKEEPER_STORED_AT = 1795452772745
#: What some later version may add.
ZOOKEEPER_UNKNOWN = "colour=red\nrun.colour=\nlast.colour=blue%0A\n"


@pytest.fixture(scope="module")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    """One ZooKeeper server."""
    with ZooKeeperServer() as running:
        yield running


class TestZooKeeper:
    """Nodes of before, on a server of now."""

    @pytest.fixture
    def client(self, zookeeper_server: ZooKeeperServer) -> Iterator[KazooClient]:
        """What stores a record behind the backend's back."""
        client = KazooClient(f"127.0.0.1:{zookeeper_server.port}")
        client.start(30)
        yield client
        client.stop()
        client.close()

    @pytest.fixture
    def backend(self, zookeeper_server: ZooKeeperServer) -> Iterator[Backend]:
        """The server's backend."""
        backend = open_backend(zookeeper_server.url(), 20.0)
        yield backend
        backend.close()

    def _store(self, client: KazooClient, text: str, *, leased: bool = False, history: str = "") -> str:
        key = fresh_key("stored")
        client.ensure_path("/cronlock")
        # The leader's time of now.
        now = client.get(client.create("/now", ephemeral=True))[1].ctime
        client.delete("/now")
        passed = now - ZOOKEEPER_STORED_AT
        text = re.sub(r"(?m)^(granted|kept)=(\d+)$", lambda found: f"{found[1]}={int(found[2]) + passed}", text)
        client.create(f"/cronlock/{key}", (text + ZOOKEEPER_UNKNOWN).encode())
        if leased:
            owner = re.search(r"(?m)^run.owner=(.*)$", text)
            assert owner is not None
            client.create(f"/cronlock/{key}/{escape(owner[1])}", ephemeral=True)
        if history:
            client.create(f"/cronlock/~history.{key}", (history + ZOOKEEPER_UNKNOWN).encode())
        return key

    def _lapse(self, client: KazooClient, key: str) -> None:
        for name in client.get_children(f"/cronlock/{key}"):
            client.delete(f"/cronlock/{key}/{name}")

    def test_held(self, client: KazooClient, backend: Backend) -> None:
        """A lease is respected and shown, its hold too, and once it lapsed the run is one that died."""
        key = self._store(client, ZOOKEEPER_HELD, leased=True)
        conflict = refused(backend.acquire(make_claim(key)), HELD)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.program) == ("web2:4002:0000000000000002", "back%up.sh")
        assert (conflict.fence, conflict.run.fence) == (12, 12)
        assert 0 < conflict.remaining <= 40
        record = backend.read(key)
        assert record is not None
        assert record.last is not None
        assert (record.last.owner, record.last.status, record.last.fence) == ("web1:4001:0000000000000001", 0, 7)
        assert [run.host for run in record.history] == ["web1"]
        assert record.success is not None
        assert 0 < record.hold_remaining <= 45
        self._lapse(client, key)
        refused(backend.acquire(make_claim(key)), HOLD)
        heir = granted(backend.acquire(make_claim(key, standby_for="web2:4002:0000000000000002")))
        assert (heir.took_over, (heir.fence or 0) > 12) == (12, True)
        assert backend.release(heir, make_ending(1), keep_hold=True)
        record = backend.read(key)
        assert record is not None
        assert [(run.host, run.outcome) for run in record.history] == [
            ("node-a", EXITED),
            ("web2", DIED),
            ("web1", EXITED),
        ]
        assert record.success is not None
        assert record.success.host == "web1"

    def test_ended(self, client: KazooClient, backend: Backend) -> None:
        """A hold is respected, the run's end is known to a standby, and the next one has it in its history."""
        key = self._store(client, ZOOKEEPER_ENDED)
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert (conflict.run.owner, conflict.run.status) == ("web2:4002:0000000000000002", 3)
        refused(backend.acquire(make_claim(key, standby_for="web2:4002:0000000000000002")), ENDED)
        refused(backend.acquire(make_claim(key, owner="web2:4002:0000000000000002")), CANCELLED)
        grant = granted(backend.acquire(make_claim(key, ignore_hold=True)))
        assert (grant.fence or 0) > 23
        assert grant.previous is not None
        assert (grant.previous.program, grant.previous.ttl) == ("back%up.sh", 40)
        assert backend.release(grant, make_ending(), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert [(run.host, run.status) for run in record.history] == [("node-a", 0), ("web2", 3)]

    def test_by_hand_in_a_hold(self, client: KazooClient, backend: Backend) -> None:
        """When the run by hand gives up, the hold is that of the dead run again, which a standby may take over."""
        key = self._store(client, ZOOKEEPER_BY_HAND, leased=True)
        refused(backend.acquire(make_claim(key)), HELD)
        backend.abandon(make_claim(key, owner="web4:4004:0000000000000004"))
        conflict = refused(backend.acquire(make_claim(key)), HOLD)
        assert conflict.run is not None
        assert conflict.run.host == "web3"
        assert conflict.remaining > 3000
        heir = granted(backend.acquire(make_claim(key, standby_for="web3:4003:0000000000000003")))
        assert heir.took_over == 40

    def test_gave_up(self, client: KazooClient, backend: Backend) -> None:
        """A record of one that gave up is no record of a run; that owner is refused."""
        key = self._store(client, ZOOKEEPER_GAVE_UP)
        assert backend.read(key) is None
        refused(backend.acquire(make_claim(key, owner="web5:4005:0000000000000005")), CANCELLED)
        assert granted(backend.acquire(make_claim(key))).previous is None

    def test_takeover(self, client: KazooClient, backend: Backend) -> None:
        """A takeover, the history and the last success are read as they were written."""
        key = self._store(client, ZOOKEEPER_TAKEOVER, leased=True, history=ZOOKEEPER_HISTORY)
        record = backend.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.tick, record.run.took_over) == ("web2:4002:0000000000000002", 12)
        assert [(run.host, run.outcome, run.program) for run in record.history] == [
            ("web2", DIED, "back%up.sh"),
            ("web1", EXITED, "back%up.sh"),
        ]
        assert record.success is not None
        assert (record.success.host, record.success.ended_at) == ("web1", 1795452857.557)
        backend.abandon(make_claim(key, owner="web3:4003:0000000000000003"))
        assert refused(backend.acquire(make_claim(key)), HOLD).remaining > 3000
        heir = granted(backend.acquire(make_claim(key, standby_for="web2:4002:0000000000000002")))
        assert heir.took_over == 12

    def test_older_program_in_between(self, client: KazooClient, backend: Backend) -> None:
        """A run that a program without a history ended is put in its place among those of the history."""
        key = self._store(client, ZOOKEEPER_ENDED.replace("web2", "web6"), history=ZOOKEEPER_HISTORY)
        grant = granted(backend.acquire(make_claim(key, ignore_hold=True)))
        assert backend.release(grant, make_ending(9), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert [(run.host, run.fence) for run in record.history] == [
            ("node-a", grant.fence),
            ("web6", 23),
            ("web2", 12),
            ("web1", 7),
        ]
