"""PostgreSQL and MySQL beyond the contract: lost requests, races and locks, servers that restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import HELD, Conflict, Grant
from cronlock.testing import LONG, eventually, fresh_key, granted, make_claim, make_ending, refused
from cronlock.testing.cells import read, swap, try_swap
from cronlock.testing.cells import refused as refused_swap
from cronlock.testing.hooks import race
from labs.proxy import Proxy
from labs.servers.process import HOST, free_port

from ..faults import Costs, StoreFaults, URLs
from ..hooks import PATIENT, Opener, turned_away
from .kinds import HASTY, Mysql, Postgresql, Server, TableHooks, locked, store_of


class TestFaults(StoreFaults, Costs):
    """Requests that get lost, or come late; servers that hang."""

    @pytest.fixture
    def hooks(self, kind: Postgresql | Mysql, server: Server) -> TableHooks:
        """The shared server's hooks."""
        return TableHooks(kind.scheme, server)


#: Bad URLs by the message.
_BAD_URLS = {
    "no database": ("h", "h/", "h/d%00b"),
    "no host": ("/db", "u:p@/db"),
    "table": [f"h/db?table={table}" for table in ("a.b.c", "1a", "a%22b", "a%60b", "", "x" * 64)],
    "keys are kept apart by table=": ("h/db?prefix=x",),
}
_BAD_FOR_ONE = {
    "postgresql": {
        "postgresql:///DATABASE": ("h/db?host=/run", "/db?host=run"),
        "port": ("/db?host=/run&port=x", "h/db?port=5432"),
        "sslmode='on'": ("h/db?sslmode=on",),
        "sslrootcert=/does/not/exist: No such file": ("h/db?sslrootcert=/does/not/exist",),
        "'passfile' has no usable value": ("h/db?passfile=",),
        "unknown parameter 'options'": ("h/db?options=-cx",),
        "zero byte": ("u:p%00@h/db",),
    },
    "mysql": {
        "no database": ("h/a/b", "h/" + "x" * 65),
        "mysql:///DATABASE": ("h/db?socket=/run/s", "/db?socket=s"),
        "no TLS": ("/db?socket=/s&ssl=required",),
        "ssl='on'": ("h/db?ssl=on",),
        "are for TLS": ("h/db?ssl=disabled&ca=/x", "h/db?cert=/x"),
        "ca=/does/not/exist.*No such file": ("h/db?ca=/does/not/exist",),
        "key= is given without cert=": ("h/db?ssl=required&key=/x",),
    },
}


class TestURLs(URLs):
    """URLs that are refused."""

    bad_url = tuple(
        (f"{scheme}://{rest}", said)
        for scheme, own in _BAD_FOR_ONE.items()
        for said, rests in (*_BAD_URLS.items(), *own.items())
        for rest in rests
    )


def test_idle_connection_that_was_closed(kind: Postgresql | Mysql, far: Leases, server: Server, proxy: Proxy) -> None:
    """A server that hung up while nothing was asked fails no request."""
    grant = granted(far.acquire(make_claim(fresh_key())))
    proxy.cut()
    eventually(lambda: far.renew(grant), "the cut is noticed before it is asked")
    assert proxy.connections == 2
    connection = store_of(far).servers._connection
    assert connection is not None
    kind.end_sessions(server)
    eventually(lambda: not connection.quiet(), "its goodbye arrived")
    assert far.renew(grant)


# Races and locks


def test_forty_racers_round_after_round(server: Server, open_at: Opener) -> None:
    """Of forty nodes exactly one gets the key, whether it is new, ended, or its holder died."""
    nodes = [open_at(server.url()) for _ in range(40)]
    key, fence = fresh_key(), 0
    for number in range(6):
        answers = race([partial(racer.acquire, make_claim(key)) for racer in nodes])
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
        assert (grant.fence or 0) > fence
        fence = grant.fence or 0
        if number % 3 == 0:
            server.run("UPDATE cronlock SET lapses_at = 1")
        elif number % 3 == 1:
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        else:
            key = fresh_key()


def test_read_takes_no_lock(kind: Postgresql | Mysql, server: Server, node: Leases, key: str) -> None:
    """A refused swap neither locks the row nor waits for its lock, and sees the committed row."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    with locked(kind.scheme, server, key) as client:
        with client.cursor() as cursor:
            cursor.execute("UPDATE cronlock SET lapses_at = 0, held_until = 0 WHERE name = %s", (kind.name(key),))
        refused(node.acquire(make_claim(key)), HELD)
        assert node.read(key) is not None
    assert node.renew(grant)


def test_locked_row(kind: Postgresql | Mysql, server: Server, open_at: Opener, key: str) -> None:
    """A locked row is not swapped; no statement is left behind, or takes effect later."""
    node, hasty = open_at(server.url()), open_at(server.url(), HASTY)
    seen = swap(node.store, key, read(node.store, key), lease=LONG)
    with locked(kind.scheme, server, key):
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match=kind.locked):
                hasty.store.swap(key, seen, b"late", lease=LONG, hold=0.0, deadline=time.monotonic() + HASTY)
        eventually(lambda: server.run(kind.waiting) == [(0,)], "nothing waits for the lock any more", limit=10.0)
    assert read(node.store, key).version == seen.version
    assert swap(node.store, key, seen, lease=LONG)


def test_row_that_is_locked_for_a_moment(kind: Postgresql | Mysql, server: Server, node: Leases, key: str) -> None:
    """After a wait for a lock a swap is done if nobody wrote meanwhile, else refused."""
    seen = swap(node.store, key, read(node.store, key), lease=LONG)
    for writes in (False, True):
        with locked(kind.scheme, server, key) as client:
            if writes:
                with client.cursor() as cursor:
                    cursor.execute("UPDATE cronlock SET version = 'other' WHERE name = %s", (kind.name(key),))
            timer = threading.Timer(0.5, client.commit)
            timer.start()
            done, cell = try_swap(node.store, key, seen, lease=LONG)
            timer.join()
        assert (done, cell.version == "other") == (not writes, writes)
        seen = cell if done else seen


def test_what_the_server_rolled_back(
    kind: Postgresql | Mysql, node: Leases, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was rolled back for another transaction is repeated: nothing was done yet."""
    seen = read(node.store, key)
    for code in kind.rolled_back:
        with kind.refusing(monkeypatch, code):
            done, cell = try_swap(node.store, key, seen, lease=LONG)
        assert done
        assert read(node.store, key).version == cell.version
        seen = cell
        with kind.refusing(monkeypatch, code):
            refused_swap(node.store, key, Cell(version="older"))
        with kind.refusing(monkeypatch, code):
            assert read(node.store, key).version == cell.version


def test_server_without_room(kind: Postgresql | Mysql, server: Server, open_at: Opener, key: str) -> None:
    """A server that has no connection left is asked again until it has, within the limit."""
    url = server.url(user="single")
    first = open_at(url)
    grant = granted(first.acquire(make_claim(key)))
    turned_away(lambda: open_at(url, HASTY).acquire(make_claim(key)), kind.no_room)
    timer = threading.Timer(0.5, first.close)
    timer.start()
    assert refused(open_at(url).acquire(make_claim(key)), HELD).fence == grant.fence
    timer.join()


@pytest.mark.parametrize("how", ["restart", "crash", "restart without data"])
def test_restart(kind: Postgresql | Mysql, open_at: Opener, how: str) -> None:
    """Grants outlive a restart and a crash; a server without its data grants nothing."""
    settings = {"innodb-flush-log-at-trx-commit": "1"} if kind.scheme == "mysql" else {}
    with kind.server(settings=settings) as server:
        holder, asker, key = open_at(server.url()), open_at(server.url()), fresh_key()
        grant = granted(holder.acquire(make_claim(key, hold=LONG)))
        if how == "crash":
            server.kill()
            with pytest.raises(BackendUnavailable, match="refused"):
                asker.acquire(make_claim(key))
            server.start()
        else:
            server.restart(keep_data=how == "restart")
        if how == "restart without data":
            assert not holder.renew(grant)
            assert read(asker.store, key).data is None
            return
        assert refused(asker.acquire(make_claim(key)), HELD).fence == grant.fence
        assert holder.renew(grant)
        assert holder.release(grant, make_ending(), keep_hold=True)


@pytest.fixture(scope="module")
def pair(kind: Postgresql | Mysql) -> Iterator[tuple[Server, Server]]:
    """A server and one that follows it, of which the latter takes over at the end."""
    with kind.pair() as both:
        yield both


def test_replica_is_passed_over(kind: Postgresql | Mysql, pair: tuple[Server, Server], open_at: Opener) -> None:
    """Of several hosts the one that takes writes is asked, wherever it stands; a replica alone says so."""
    primary, replica = pair
    key = fresh_key()
    node = open_at(kind.both(replica, primary))
    grant = granted(node.acquire(make_claim(key)))
    refused(open_at(kind.both(primary, replica)).acquire(make_claim(key)), HELD)
    assert node.release(grant, make_ending(), keep_hold=False)
    user = {"user": "worker", "password": "secret"} if kind.scheme == "mysql" else {}
    alone = open_at(replica.url(**user))
    for ask in (lambda: alone.acquire(make_claim(key)), lambda: alone.read(key)):
        with pytest.raises(BackendUnavailable, match=kind.read_only):
            ask()


def test_failover_that_lost_state(kind: Postgresql | Mysql, pair: tuple[Server, Server], open_at: Opener) -> None:
    """A new primary that never heard of a lease takes no swap of it, and is asked on."""
    primary, replica = pair
    key = fresh_key()
    node = open_at(kind.both(primary, replica))
    kind.cut_off(primary, replica)
    grant = granted(node.acquire(make_claim(key)))
    primary.kill()
    # Both hosts are asked again and again for so long.
    node.limit = 6.0
    turned_away(lambda: node.renew(grant), r"refused.*read-only")
    node.limit = PATIENT
    replica.promote()
    assert not node.renew(grant)
    granted(node.acquire(make_claim(key)))


def test_host_that_does_not_answer_costs_its_share(
    kind: Postgresql | Mysql, server: Server, proxy: Proxy, open_at: Opener, key: str
) -> None:
    """A host that takes connections and says nothing leaves the next one its part of the time."""
    proxy.drop_all()
    login, _, database = server.url().partition("://")[2].partition(f"@{HOST}:{server.port}")
    hosts = f"{HOST}:{free_port()},{HOST}:{proxy.port},{HOST}:{server.port}"
    granted(open_at(f"{kind.scheme}://{login}@{hosts}{database}", 6.0).acquire(make_claim(key)))
    hosts = f"{HOST}:{proxy.port},{HOST}:{free_port()}"
    with pytest.raises(BackendUnavailable, match=r"in time; .*refused"):
        open_at(f"{kind.scheme}://{login}@{hosts}{database}", 6.0).read(key)
