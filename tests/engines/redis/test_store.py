"""Redis as a store: its hash, its swap on a bad network, what it forgets, its replicas and its clock."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.redis.store import RedisStore
from cronlock.engines.url import URL
from cronlock.errors import BackendUnavailable, ForeignValue, GivenBack, Unacknowledged
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD, Cell
from cronlock.lease.vocabulary import HELD, RETENTION, STATE_LOST, Conflict, Grant, Watermark
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, refused
from cronlock.testing.cells import read, swap
from labs.proxy import Proxy
from labs.servers.process import eventually
from labs.servers.redis import RedisServer

from .nodes import opened, soon, store_of

if TYPE_CHECKING:
    from cronlock.lease.store import Hold


class TestHash:
    """A key's hash, and when it expires."""

    def test_outlives_lease_and_hold(self, server: RedisServer, store: RedisStore, key: str) -> None:
        """A key stays for the retention behind the longer of both, whatever is swapped later."""
        year = 365 * 86400
        with server.client() as client:
            cell = swap(store, key, read(store, key), lease=LONG)
            assert client.pttl(f"cronlock:{key}") > (RETENTION + LONG - 60) * 1000
            cell = swap(store, key, cell, hold=year, lease=LONG)
            for lease, hold in ((None, 0.0), (0.0, 1.0), (5.0, cell)):
                cell = swap(store, key, cell, lease=lease, hold=hold)
                assert client.ttl(f"cronlock:{key}") > RETENTION + year - 60
            swap(store, key, cell, lease=0.0, hold=NO_HOLD)
            assert RETENTION - 60 < client.ttl(f"cronlock:{key}") <= RETENTION

    def test_over_stays_over(self, server: RedisServer, store: RedisStore, key: str) -> None:
        """An end that was seen as past stays past, even if the server's clock is set back."""
        with server.client() as client:
            for _ in range(2):
                seen = swap(store, key, read(store, key), lease=0.0, hold=NO_HOLD)
                # As if the clock had been set back behind the ends of both.
                later = int((time.time() + 1000) * 1e6)
                client.hset(f"cronlock:{key}", mapping={"lease": later, "hold": later})
                cell = swap(store, key, seen, lease=None)
                assert (cell.lease, cell.hold) == (0, 0)
                cell = swap(store, key, cell, lease=None, hold=seen)
                assert (cell.lease, cell.hold) == (0, 0)

    def test_ends_are_written_digit_for_digit(self, server: RedisServer, store: RedisStore, key: str) -> None:
        """Ten years of hold are exact to the microsecond, and come back so."""
        cell = swap(store, key, read(store, key), lease=365 * 86400.0, hold=3650 * 86400.0)
        assert (cell.lease, cell.hold) == (365 * 86400.0, 3650 * 86400.0)
        ends = cell.floor + 365 * 86400 * 10**6, cell.floor + 3650 * 86400 * 10**6
        with server.client() as client:
            assert client.hmget(f"cronlock:{key}", "lease", "hold") == list(map(str, ends))

    def test_database_that_is_not_there(self, server: RedisServer, store: RedisStore, key: str) -> None:
        """A refused number is unavailable for each request, also on a new connection, and database 0 is left alone."""
        far = store_of(server.url(99))
        empty = read(store, key)
        for step in (
            lambda: read(far, key),
            lambda: swap(far, key, empty, lease=LONG),
            lambda: list(far.keys()),
        ):
            with pytest.raises(BackendUnavailable, match="no database of this number"):
                step()
        assert read(store, key).data is None

    @pytest.mark.parametrize(
        ("command", "what"),
        [
            ("SET {} text", "a value of another type"),
            ("RPUSH {} a b", "a value of another type"),
            ("HSET {} field value", "not a record of cronlock"),
            ("HSET {} version x", "not a record of cronlock"),
            ("HSET {} record x lease 0 hold 0", "not a record of cronlock"),
            ("HSET {} cronlock 1 fence 5 lapse 7 hold 7 owner x", "older, unreleased layout"),
            ("HSET {} version x record y", "malformed end"),
            ("HSET {} version x record y lease soon hold 0", "malformed end"),
            ("HSET {} version x record y lease 0 hold 99999999999999999", "malformed end"),
        ],
    )
    def test_foreign_value(self, server: RedisServer, store: RedisStore, key: str, command: str, what: str) -> None:
        """A foreign value under a key's name is reported in one line, and left unchanged."""
        name = f"cronlock:{key}"
        # DUMP is no text.
        with server.client(encoding_errors="replace") as client:
            mine = swap(store, key, read(store, key), lease=LONG)
            client.delete(name)
            client.execute_command(*command.format(name).split())
            before = client.dump(name)
            for step in (
                partial(read, store, key),
                partial(swap, store, key, Cell(), lease=LONG),
                partial(swap, store, key, mine, lease=LONG),
            ):
                with pytest.raises(ForeignValue, match=rf"{name}: [^\n]*{what}[^\n]*nothing was changed"):
                    step()
            assert (client.dump(name), client.ttl(name)) == (before, -1)
            client.delete(name)

    def test_key_that_goes_while_it_is_read(self, key: str) -> None:
        """A key that expires between the commands of a read is not called foreign."""

        class Lapsing:
            name = "test"

            def __init__(self) -> None:
                self.exists = [1, 0]

            def ask(self, _commands: object, _deadline: float, _key: bytes = b"") -> list[object]:
                return [[b"1795452207", b"592466"], self.exists.pop(0), [None] * 5]

        store = RedisStore(Lapsing(), URL("redis://h"), 20.0)  # type: ignore[arg-type]
        cell = read(store, key)
        assert (cell.data, cell.floor) == (None, 1795452207592466)

    def test_listing(self, server: RedisServer) -> None:
        """More keys than one page has, each once, and nothing of another prefix or kind."""
        store = store_of(server.url(prefix="many"))
        with server.client() as client:
            client.hset("many-other:1", mapping={"a": "b"})
            client.set("many:string", "text")
            for number in range(350):
                client.hset(f"many:{number}", mapping={"version": 1})
        assert sorted(store.keys()) == sorted(map(str, range(350)))

    def test_key_that_is_no_text(self, store: RedisStore) -> None:
        """Bytes of a command line that are no UTF-8 are a key like any other."""
        swap(store, "job-\udcff", read(store, "job-\udcff"), lease=LONG)
        assert "job-\udcff" in list(store.keys())


class TestLostData:
    """A server that hangs up, or comes back from a restart, with and without what it kept."""

    def test_connection_lost_while_idle(self, server: RedisServer, backend: Leases, key: str) -> None:
        """A connection that the server closed between two requests costs no failed request."""
        grant = granted(backend.acquire(make_claim(key)))
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert backend.renew(grant)

    def test_with_its_data(self, key: str) -> None:
        """A restart with its data disturbs no run."""
        with RedisServer(persistent=True) as server:
            backend = opened(server.url())
            grant = granted(backend.acquire(make_claim(key, hold=20)))
            server.restart(keep_data=True)
            refused(backend.acquire(make_claim(key, watermark=Watermark(grant.fence or 0, 100, None))), HELD)
            assert backend.renew(grant)
            assert backend.release(grant, make_ending(), keep_hold=True)

    def test_without_its_data(self) -> None:
        """Without it, a node that saw a lease waits until the server is up for the ttl; a new node does not."""
        with RedisServer() as server:
            backend = opened(server.url())
            lost = granted(backend.acquire(make_claim("lost", ttl=3)))
            before_start = time.monotonic()
            server.restart(keep_data=False)
            assert backend.renew(lost) is False

            def again() -> Grant | Conflict:
                watermark = Watermark((lost.fence or 0) + 10**9, time.monotonic() - before_start + 100, None)
                return backend.acquire(make_claim("lost", ttl=3, owner="again", watermark=watermark))

            conflict = refused(again(), STATE_LOST)
            assert (conflict.fence, 0 < conflict.remaining <= 3) == (None, True)
            granted(backend.acquire(make_claim("fresh", ttl=3)))
            eventually(lambda: isinstance(again(), Grant), "the server was up for the ttl")
            assert time.monotonic() - before_start > 3
            assert (granted(again()).fence or 0) > (lost.fence or 0) + 10**9

    def test_uptime(self) -> None:
        """The uptime is never more than it is, and at most two seconds less."""
        asked = time.monotonic()
        with RedisServer() as server:
            store, started = store_of(server.url()), time.monotonic()
            while time.monotonic() < started + 3:
                before, at_least = time.monotonic(), store.uptime("key", soon())
                assert at_least is not None
                assert before - started - 2.5 <= at_least <= time.monotonic() - asked
                time.sleep(0.2)

    def test_floor(self, server: RedisServer, backend: Leases, key: str) -> None:
        """Fences grow although the record vanished, for they follow the server's clock."""
        fence = granted(backend.acquire(make_claim(key))).fence or 0
        assert abs(fence / 1e6 - time.time()) < 60
        with server.client() as client:
            client.delete(f"cronlock:{key}")
        assert (granted(backend.acquire(make_claim(key))).fence or 0) > fence


class TestReplicas:
    """min_replicas=N: no grant and no renewal that fewer replicas know of."""

    def test_too_few(self, server: RedisServer, backend: Leases, key: str) -> None:
        """Without replicas the lease is given back and nothing runs; a renewal does not count; a release does."""
        strict = opened(server.url(min_replicas="1"), timeout=4)
        with pytest.raises(GivenBack, match="min_replicas=1 replicas acknowledged in time; the lease was given back"):
            strict.acquire(make_claim(key, hold=20))
        grant = granted(backend.acquire(make_claim(key)))
        with pytest.raises(BackendUnavailable, match="min_replicas=1 replicas acknowledged in time"):
            strict.renew(grant)
        assert strict.release(grant, make_ending(), keep_hold=False)
        granted(backend.acquire(make_claim(key)))

    def test_swap(self, server: RedisServer, store: RedisStore, key: str) -> None:
        """A swap without enough acknowledgements is reported within half of the time; a refused one is just refused."""
        strict = store_of(server.url(min_replicas="1"))
        empty, asked = read(store, key), time.monotonic()
        with pytest.raises(Unacknowledged):
            strict.swap(key, empty, b"data", lease=LONG, hold=0.0, deadline=soon(8))
        assert 2 < time.monotonic() - asked < 8
        assert read(store, key).data == b"data"
        done, cell = strict.swap(key, empty, b"other", lease=LONG, hold=0.0, deadline=soon(8))
        assert (done, cell.data) == (False, b"data")

    def test_enough(self, server: RedisServer, replica: RedisServer, key: str) -> None:
        """With a replica in step it costs no more requests; without it again, renewals do not count."""
        with Proxy(server.port) as proxy, replica.client() as client:
            strict = opened(server.url(min_replicas="1", port=proxy.port))
            grant = granted(strict.acquire(make_claim(key)))
            version = client.hget(f"cronlock:{key}", "version")
            assert strict.renew(grant)
            assert proxy.requests == 3
            assert client.hget(f"cronlock:{key}", "version") != version
            replica.pause()
            hasty = opened(server.url(min_replicas="1"), timeout=4)
            with pytest.raises(BackendUnavailable, match="min_replicas"):
                hasty.renew(grant)
            replica.resume()

    @pytest.mark.parametrize("lost", ["request", "reply"])
    def test_loss_while_giving_back(self, server: RedisServer, backend: Leases, key: str, lost: str) -> None:
        """Where giving back could not be seen to work, that is said, and giving up gives back."""
        strict = opened(server.url(min_replicas="1"), timeout=4)
        swap, asked = strict.store.swap, []

        def losing(
            key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
        ) -> tuple[bool, Cell]:
            asked.append(data)
            if len(asked) == 2 and lost == "request":
                raise BackendUnavailable("lost on the way")
            answer = swap(key, seen, data, lease=lease, hold=hold, deadline=deadline)
            if len(asked) == 2:
                raise BackendUnavailable("lost on the way")
            return answer

        strict.store.swap = losing  # type: ignore[method-assign]
        ours = make_claim(key)
        with pytest.raises(BackendUnavailable, match="lost"):
            strict.acquire(ours)
        strict.abandon(ours)
        granted(backend.acquire(make_claim(key)))


class MovedClock:
    """This machine's clock, which a test moves."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        """Return monotonic time and what it was moved by."""
        return time.monotonic() + self.moved

    def wall(self) -> float:
        """Return the time of day."""
        return time.time()


@pytest.mark.parametrize(("moved", "notice"), [(0, None), (-90, "jumped by +"), (90, "jumped by -"), (0.5, None)])
def test_clock_that_jumps(server: RedisServer, key: str, moved: float, notice: str | None) -> None:
    """The server's clock judges leases: when it went another way than ours during a run, a person hears of it once."""
    clock = MovedClock()
    store = RedisStore(store_of(server.url()).transport, URL(server.url()), 20.0, clock=clock)
    backend = Leases(store)
    grant = granted(backend.acquire(make_claim(key)))
    clock.moved = moved
    assert backend.renew(grant)
    assert backend.renew(grant)
    assert len(backend.notices) == (notice is not None)
    assert notice is None or notice in backend.notices[0]
    # Another key may be on another server, with a clock of its own.
    clock.moved = 0
    granted(backend.acquire(make_claim(fresh_key())))
    assert len(backend.notices) == (notice is not None)
