"""The table of PostgreSQL and MySQL: missing, of others, elsewhere; and the cells in it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cronlock.engines.wire import sql
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.clock import SystemClock
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD, Cell
from cronlock.lease.vocabulary import HOLD
from cronlock.testing import LONG, granted, make_claim, make_ending, refused
from cronlock.testing.cells import read, swap

from ..hooks import Opener
from .kinds import Mysql, Postgresql, Server

# Tables


def test_missing_table(kind: Postgresql | Mysql, server: Server, open_at: Opener, key: str) -> None:
    """Where the table is missing the message says how it is made, again and again."""
    node = open_at(server.url(table="nowhere"))
    asks: list[Callable[[], object]] = [
        lambda: node.acquire(make_claim(key)),
        lambda: node.read(key),
        lambda: list(node.keys()),
    ]
    for ask in asks:
        with pytest.raises(ConfigError, match=f"{kind.missing}; make it with `cronlock doctor --create`"):
            ask()
        node.close()
        node.close()
    server.make_table("dropped")
    node = open_at(server.url(table="dropped"))
    grant = granted(node.acquire(make_claim(key)))
    server.run("DROP TABLE dropped")
    # A run that has its lease takes that for no answer, and goes on asking.
    with pytest.raises(ConfigError, match=kind.missing):
        node.renew(grant)
    server.make_table("dropped")
    assert not node.renew(grant)


@pytest.mark.parametrize(
    "columns",
    [
        "fence bigint, lapses_at bigint NOT NULL, held_until bigint NOT NULL, history text",
        "version int, record int, fence int",
        "other int",
    ],
)
def test_table_of_others(server: Server, open_at: Opener, key: str, columns: str) -> None:
    """A table that is not cronlock's, or of an older layout, is named in one line, and left alone."""
    server.run("DROP TABLE IF EXISTS theirs")
    server.run(f"CREATE TABLE theirs (name varchar(200) PRIMARY KEY, {columns})")
    node = open_at(server.url(table="theirs"))
    asks: list[Callable[[], object]] = [
        lambda: node.acquire(make_claim(key)),
        lambda: swap(node.store, key, Cell()),
        lambda: swap(node.store, key, Cell(version="x")),
        lambda: node.force_release(key, "x"),
    ]
    for ask in asks:
        with pytest.raises(
            ForeignValue, match=r"^[^\n]*not a cronlock table of this layout; nothing was changed: drop it"
        ):
            ask()
    assert server.run("SELECT count(*) FROM theirs") == [(0,)]


def test_row_of_others(kind: Postgresql | Mysql, server: Server, node: Leases, key: str) -> None:
    """A row that was written by hand is reported, and left unchanged."""
    grant = granted(node.acquire(make_claim(key)))
    server.run("UPDATE cronlock SET record = 'nonsense', version = 'by hand' WHERE name = %s", kind.name(key))
    before = server.run("SELECT * FROM cronlock WHERE name = %s", kind.name(key))
    for ask in (lambda: node.acquire(make_claim(key)), lambda: node.read(key), lambda: node.renew(grant)):
        with pytest.raises(ForeignValue, match=rf"the row of '{key}' in cronlock: [^\n]*; nothing was changed"):
            ask()
    assert server.run("SELECT * FROM cronlock WHERE name = %s", kind.name(key)) == before


def test_many_keys_are_listed(server: Server, open_at: Opener) -> None:
    """A listing of more than a page has every key once."""
    server.make_table("many")
    rows = ", ".join(f"('job-{number}', 'v', 'r', 0, 0)" for number in range(2500))
    server.run(f"INSERT INTO many VALUES {rows}")
    listed = list(open_at(server.url(table="many")).keys())
    assert len(listed) == len(set(listed)) == 2500


def test_table_elsewhere(kind: Postgresql | Mysql, server: Server, open_at: Opener, key: str) -> None:
    """The table may have another name, in another schema or database, with capital letters."""
    if kind.scheme == "postgresql":
        server.run('CREATE SCHEMA "Jobs"')
        server.make_table('"Jobs"."Leases_2"')
    else:
        server.run("CREATE DATABASE Jobs")
        server.run("CREATE TABLE Jobs.Leases_2 LIKE cronlock")
    node = open_at(server.url(table="Jobs.Leases_2"))
    granted(node.acquire(make_claim(key)))
    assert list(node.keys()) == [key]


# The cell, the server's clock


def test_floor_is_the_servers_time(node: Leases, key: str) -> None:
    """The next fence is at least the server's time in microseconds, whether there is a row or not."""
    for cell in (read(node.store, key), swap(node.store, key, read(node.store, key)), read(node.store, key)):
        assert cell.time is not None
        assert cell.time == pytest.approx(cell.floor / 1e6)
        assert abs(cell.time - time.time()) < 60


def test_hold_of_a_row_that_was_not_there(node: Leases, key: str) -> None:
    """The first swap of a key has no end of its own to keep."""
    empty = read(node.store, key)
    cell = swap(node.store, key, empty, hold=LONG)
    assert (cell.lease, LONG - 60 < cell.hold <= LONG) == (0.0, True)
    assert swap(node.store, key, cell, hold=empty).hold == 0
    assert sql.ends(empty, 0.5, NO_HOLD) == ("$NOW + 500000", "0")
    assert sql.ends(cell, 1 / 3, 0.0) == ("$NOW + 333334", "held_until")


def test_hold_beyond_all_measure(node: Leases, key: str) -> None:
    """A hold that a server cannot tell as a time is refused; the longest that it can is kept."""
    with pytest.raises(ConfigError, match=r"--min-hold .* at most 315360000 s"):
        node.acquire(make_claim(key, hold=1e12))
    grant = granted(node.acquire(make_claim(key, ttl=node.traits.longest_ttl, hold=315360000.0)))
    assert node.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > 315000000


def test_a_clock_that_jumped_is_said(
    server: Server, open_at: Opener, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server's clock goes otherwise than ours, a person hears of it."""

    class Ours(SystemClock):
        """This machine's clock, which a test can set forward."""

        ahead = 0.0

        def now(self) -> float:
            """Seconds since boot, and those that were added."""
            return super().now() + self.ahead

    clock = Ours()
    monkeypatch.setattr(sql, "SystemClock", lambda: clock)
    node = open_at(server.url())
    grant = granted(node.acquire(make_claim(key)))
    assert node.renew(grant)
    assert node.notices == []
    clock.ahead = 100.0
    assert node.renew(grant)
    (notice,) = node.notices
    assert "clock jumped by -100.0 s" in notice or "clock jumped by -99." in notice


def test_unknown_host(kind: Postgresql | Mysql, open_at: Opener, key: str) -> None:
    """A name without an address is said as such."""
    for name in ("no-such-host.invalid", "x" * 300, "a..b"):
        with pytest.raises(BackendUnavailable, match="cannot find the address"):
            open_at(f"{kind.scheme}://{name}/db").read(key)
