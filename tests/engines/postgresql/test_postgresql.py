"""PostgreSQL on real servers: the contract, lost replies, standbys, poolers, TLS, refusals."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cronlock.engines.postgresql import sql as statements
from cronlock.engines.postgresql.backend import PostgresqlBackend
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.vocabulary import (
    CANCELLED,
    DIED,
    ENDED,
    EXITED,
    FORGOTTEN,
    HELD,
    HISTORY,
    HOLD,
    Conflict,
    Grant,
    Sight,
)
from cronlock.testing import (
    LONG,
    NASTY_KEYS,
    BackendContract,
    Hooks,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.clocks import ManualClock
from labs.proxy import Proxy
from labs.servers.postgresql import PgBouncer, PostgresqlServer, PostgresqlStandby
from labs.servers.process import HOST, free_port
from labs.servers.tls import tls

from ..look import Look

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

#: Long enough for any request on a loaded machine, in seconds.
_PATIENT = 20.0
#: What a test waits for that is to wait in vain.
_HASTY = 1.0
#: With these a connection is made in one packet.
_PLAIN = {"sslmode": "disable", "gssencmode": "disable"}
_SECRET = "p'w \\ @:/?\u00e9"


def _open(url: str, timeout: float = _PATIENT) -> PostgresqlBackend:
    backend = open_backend(url, timeout)
    assert isinstance(backend, PostgresqlBackend)
    return backend


class _PostgresqlHooks(Hooks):
    """Time passes by changing the row."""

    forces_time = True
    tells_uptime = False

    def __init__(self, server: PostgresqlServer, url: str = "", table: str = "cronlock") -> None:
        self.server = server
        self._url = url or server.url()
        self._table = table

    def open(self) -> Backend:
        """Return one more node."""
        return _open(self._url)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """End the lease behind everybody's back."""
        self._alter("lapses_at = 'epoch'", grant.claim.key)

    def end_hold(self, node: Backend, key: str) -> None:
        """End the hold behind everybody's back."""
        self._alter("held_until = 'epoch', kept_until = 'epoch'", key)

    def _alter(self, what: str, key: str) -> None:
        self.server.run(f"UPDATE {self._table} SET {what} WHERE name = %s", key)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """One server for all tests that do not harm it."""
    with PostgresqlServer() as running:
        running.run("CREATE ROLE strict SUPERUSER LOGIN")
        running.run("ALTER ROLE strict SET default_transaction_isolation = 'serializable'")
        running.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with running.client(dbname="latin") as client:
            client.execute(statements.statement(statements.CREATE, "cronlock"))
        yield running


@pytest.fixture(scope="module")
def pooler(server: PostgresqlServer) -> Iterator[PgBouncer]:
    """A pooler with fewer connections than a race has nodes."""
    with PgBouncer(server) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server of the test's own."""
    with PostgresqlServer() as running:
        yield running


@pytest.fixture
def open_at() -> Iterator[Callable[..., PostgresqlBackend]]:
    """What opens a node that is closed at the end."""
    nodes: list[PostgresqlBackend] = []

    def open_one(url: str, timeout: float = _PATIENT) -> PostgresqlBackend:
        nodes.append(_open(url, timeout))
        return nodes[-1]

    yield open_one
    for node in nodes:
        node.close()


@pytest.fixture
def node(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> PostgresqlBackend:
    """A node that reaches the shared server."""
    return open_at(server.url())


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


class TestPostgresql(BackendContract):
    """One server, plain."""

    @pytest.fixture
    def hooks(self, server: PostgresqlServer) -> Hooks:
        """The shared server's hooks."""
        return _PostgresqlHooks(server)


class TestPooled(BackendContract):
    """Through PgBouncer, which gives each statement another connection."""

    @pytest.fixture
    def hooks(self, server: PostgresqlServer, pooler: PgBouncer) -> Hooks:
        """The shared server's hooks, by way of the pooler."""
        return _PostgresqlHooks(server, pooler.url())


class TestSerializable(BackendContract):
    """For a role whose transactions are serializable unless they say otherwise."""

    @pytest.fixture
    def hooks(self, server: PostgresqlServer) -> Hooks:
        """The shared server's hooks, for that role."""
        return _PostgresqlHooks(server, server.url(user="strict"))


def test_encoding_that_lacks_most_letters(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> None:
    """In a database of another encoding keys and words are what they are everywhere; here by a Unix socket."""
    node = open_at(server.unix_url().replace("/postgres?", "/latin?"))
    for key in NASTY_KEYS:
        grant = granted(node.acquire(make_claim(key, host="n\u00e4h", program="\U0001f512\udcff")))
        conflict = refused(node.acquire(make_claim(key)), HELD)
        assert conflict.run is not None
        assert (conflict.run.host, conflict.run.program) == ("n\u00e4h", "\U0001f512\udcff")
        assert node.release(grant, make_ending(), keep_hold=False)
    assert sorted(node.keys()) == sorted(NASTY_KEYS)


# Races and what they cost


@pytest.mark.parametrize("user", ["", "strict"])
def test_fifty_racers_round_after_round(server: PostgresqlServer, user: str) -> None:
    """Of fifty nodes exactly one gets the key, whether it is new, ended, or its holder died."""
    nodes = [_open(server.url(user=user)) for _ in range(50)]
    hooks = _PostgresqlHooks(server)
    key, fence = fresh_key(), 0
    for number in range(8):
        answers: list[Grant | Conflict] = []
        barrier = threading.Barrier(len(nodes))

        def race(racer: PostgresqlBackend, name: str, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
            start.wait()
            into.append(racer.acquire(make_claim(name)))

        threads = [threading.Thread(target=race, args=(racer, key, barrier, answers)) for racer in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == len(nodes)
        (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
        assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
        assert grant.fence is not None
        assert grant.fence > fence
        fence = grant.fence
        if number % 3 == 0:
            hooks.lapse(nodes[0], grant)
        elif number % 3 == 1:
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        else:
            key = fresh_key()
    for racer in nodes:
        racer.close()


def test_the_refused_write_nothing(server: PostgresqlServer, node: PostgresqlBackend, key: str) -> None:
    """Who is refused takes no transaction number, and so neither locks the row nor waits for the disk."""
    granted(node.acquire(make_claim(key, hold=LONG)))
    other = _open(server.url())
    look = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    before = server.run(look)
    for _ in range(5):
        refused(other.acquire(make_claim(key)), HELD)
    # Others of this server may have written; five that do not are not five that do.
    assert int(server.run(look)[0][0]) - int(before[0][0]) < 5
    with server.client(autocommit=False) as locker:
        locker.execute("SELECT 1 FROM cronlock WHERE name = %s FOR UPDATE", (key,))
        refused(other.acquire(make_claim(key)), HELD)
        assert other.read(key) is not None
    other.close()


def test_renewals_stay_out_of_the_index(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> None:
    """A row that is renewed often leaves nothing behind in the index."""
    server.make_table("renewed")
    node = open_at(server.url(table="renewed"))
    grant = granted(node.acquire(make_claim("job")))
    for _ in range(20):
        assert node.renew(grant)
    node.close()

    def counted() -> bool:
        ((all_of_them, hot),) = server.run(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'renewed'"
        )
        return bool(all_of_them >= 20 and hot == all_of_them)

    eventually(counted, "the statistics tell of all renewals")


# Lost replies


@pytest.fixture
def proxy(server: PostgresqlServer) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def far(
    server: PostgresqlServer, proxy: Proxy, open_at: Callable[..., PostgresqlBackend], key: str
) -> PostgresqlBackend:
    """A node that reaches the server through the proxy, is connected, and not patient."""
    backend = open_at(server.url(port=proxy.port, **_PLAIN), timeout=_HASTY)
    assert backend.read(key) is None
    return backend


def _lose(proxy: Proxy, loss: str, ask: Callable[[], object]) -> None:
    """Ask while something is lost, and let everything pass afterwards."""
    getattr(proxy, loss)()
    with pytest.raises(BackendUnavailable, match="no answer in time"):
        ask()
    proxy.pass_all()


_LOSSES = pytest.mark.parametrize("loss", ["drop_requests", "drop_replies"])


@_LOSSES
def test_acquire_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """Whatever was lost, the owner that asks again has the key, and nobody else."""
    claim = make_claim(key)
    _lose(proxy, loss, lambda: far.acquire(claim))
    if loss == "drop_replies":
        refused(node.acquire(make_claim(key)), HELD)
    grant = granted(far.acquire(claim))
    refused(node.acquire(make_claim(key)), HELD)
    assert far.renew(grant)
    assert far.release(grant, make_ending(), keep_hold=False)


@_LOSSES
def test_giving_up_after_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """After a lost answer and giving up, the key is free and that owner stays out."""
    claim = make_claim(key, hold=LONG)
    _lose(proxy, loss, lambda: far.acquire(claim))
    far.abandon(claim)
    refused(far.acquire(claim), CANCELLED)
    granted(node.acquire(make_claim(key)))


@_LOSSES
def test_abandon_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """Giving up can be asked again, also once another has the key."""
    claim = make_claim(key, hold=LONG)
    granted(far.acquire(claim))
    _lose(proxy, loss, lambda: far.abandon(claim))
    if loss == "drop_requests":
        refused(node.acquire(make_claim(key)), HELD)
        far.abandon(claim)
    heir = granted(node.acquire(make_claim(key)))
    far.abandon(claim)
    assert node.renew(heir)


@_LOSSES
def test_renewal_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """A renewal whose answer was lost is asked again on a new connection."""
    grant = granted(far.acquire(make_claim(key)))
    _lose(proxy, loss, lambda: far.renew(grant))
    assert far.renew(grant)
    refused(node.acquire(make_claim(key)), HELD)


@_LOSSES
def test_release_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """A release whose answer was lost did its work or can be asked again."""
    grant = granted(far.acquire(make_claim(key)))
    _lose(proxy, loss, lambda: far.release(grant, make_ending(5), keep_hold=False))
    assert far.release(grant, make_ending(5), keep_hold=False) == (loss == "drop_requests")
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert record.last.status == 5
    assert len(record.history) == 1
    granted(node.acquire(make_claim(key)))


@_LOSSES
def test_forced_release_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """A forced release whose answer was lost did its work or can be asked again."""
    grant = granted(node.acquire(make_claim(key)))
    _lose(proxy, loss, lambda: far.force_release(key, grant.claim.owner))
    assert far.force_release(key, grant.claim.owner) == (loss == "drop_requests")
    assert not node.renew(grant)
    granted(node.acquire(make_claim(key)))


@_LOSSES
def test_reading_with_a_loss(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, loss: str
) -> None:
    """A read whose answer was lost is answered when it is asked again."""
    grant = granted(node.acquire(make_claim(key)))
    _lose(proxy, loss, lambda: far.read(key))
    record = far.read(key)
    assert record is not None
    assert record.run is not None
    assert record.run.owner == grant.claim.owner
    _lose(proxy, loss, lambda: list(far.keys()))
    assert key in set(far.keys())


@pytest.mark.parametrize("used", [False, True])
def test_acquire_that_arrives_after_giving_up(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str, used: bool
) -> None:
    """An acquire that arrives after its owner gave up does nothing."""
    if used:
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    claim = make_claim(key)
    _lose(proxy, "hold_requests", lambda: far.acquire(claim))
    node.abandon(claim)
    proxy.deliver_held()
    record = node.read(key)
    assert record is None or record.remaining == 0
    granted(node.acquire(make_claim(key)))


def test_acquire_that_arrives_during_another_run(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str
) -> None:
    """An acquire that arrives late takes nothing from the run that came first."""
    _lose(proxy, "hold_requests", lambda: far.acquire(make_claim(key)))
    grant = granted(node.acquire(make_claim(key)))
    proxy.deliver_held()
    assert node.renew(grant)


def test_acquire_that_arrives_after_its_release(
    far: PostgresqlBackend, node: PostgresqlBackend, proxy: Proxy, key: str
) -> None:
    """The owner asked again, ran and ended; then its first request arrives."""
    claim = make_claim(key)
    _lose(proxy, "hold_requests", lambda: far.acquire(claim))
    assert node.release(granted(node.acquire(claim)), make_ending(), keep_hold=False)
    proxy.deliver_held()
    granted(node.acquire(make_claim(key)))


@pytest.mark.parametrize("what", ["renew", "release", "abandon", "force_release"])
def test_request_that_arrives_after_the_ttl(
    far: PostgresqlBackend, node: PostgresqlBackend, server: PostgresqlServer, proxy: Proxy, key: str, what: str
) -> None:
    """Whatever of a dead run arrives once the key went to another takes nothing from that."""
    claim = make_claim(key)
    grant = granted(far.acquire(claim))
    requests: dict[str, Callable[[], object]] = {
        "renew": lambda: far.renew(grant),
        "release": lambda: far.release(grant, make_ending(), keep_hold=False),
        "abandon": lambda: far.abandon(claim),
        "force_release": lambda: far.force_release(key, claim.owner),
    }
    _lose(proxy, "hold_requests", requests[what])
    _PostgresqlHooks(server).lapse(node, grant)
    heir = granted(node.acquire(make_claim(key, hold=LONG)))
    proxy.deliver_held()
    assert node.renew(heir)
    record = node.read(key)
    assert record is not None
    assert record.run is not None
    assert record.run.owner == heir.claim.owner
    assert record.hold_remaining > LONG / 2


def test_duplicates_of_every_request(node: PostgresqlBackend, key: str) -> None:
    """What arrives twice has the effect of once."""
    claim = make_claim(key, hold=LONG)
    grants = [granted(node.acquire(claim)) for _ in range(2)]
    assert grants[0].fence == grants[1].fence
    assert [node.renew(grants[0]) for _ in range(2)] == [True, True]
    assert [node.release(grants[0], make_ending(3), keep_hold=True) for _ in range(2)] == [True, False]
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > LONG / 2
    assert [node.force_release(key, claim.owner) for _ in range(2)] == [True, False]
    other = make_claim(key)
    granted(node.acquire(other))
    node.abandon(other)
    node.abandon(other)
    record = node.read(key)
    assert record is not None
    assert [(run.owner, run.status) for run in record.history] == [(claim.owner, 3)]


def test_what_a_run_costs(server: PostgresqlServer, proxy: Proxy, open_at: Callable[..., PostgresqlBackend]) -> None:
    """A run is a connection and two statements, each one packet, a skip a connection and one."""
    key = fresh_key()
    backend = open_at(server.url(port=proxy.port, **_PLAIN))
    grant = granted(backend.acquire(make_claim(key, hold=LONG)))
    assert (proxy.connections, proxy.requests) == (1, 2)
    assert backend.renew(grant)
    assert backend.release(grant, make_ending(), keep_hold=True)
    assert (proxy.connections, proxy.requests) == (1, 4)
    refused(backend.acquire(make_claim(key)), HOLD)
    assert proxy.requests == 5


def test_idle_connection_that_was_closed(
    far: PostgresqlBackend, node: PostgresqlBackend, server: PostgresqlServer, proxy: Proxy, key: str
) -> None:
    """A server that hung up while nothing was asked fails no request."""
    grant = granted(far.acquire(make_claim(key)))
    proxy.cut()
    eventually(lambda: far.renew(grant), "the cut is noticed before it is asked")
    assert proxy.connections == 2
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cronlock'")
    time.sleep(0.2)  # For its goodbye to arrive.
    assert far.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)


# A server that stops


def test_pause_beyond_limit_and_ttl(own_server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> None:
    """A server that stands still is given up in time; what it was asked then takes nothing from anybody."""
    holder, asker = open_at(own_server.url(), 1.0), open_at(own_server.url(), 1.0)
    key, claim, late = fresh_key(), make_claim("dead", ttl=1.0), make_claim("late")
    grant, dead = granted(holder.acquire(make_claim(key))), granted(holder.acquire(claim))
    assert asker.read("late") is None
    own_server.pause()
    requests: list[Callable[[], object]] = [
        lambda: holder.renew(dead),
        lambda: asker.acquire(late),
        # On new connections, which the kernel makes.
        lambda: holder.renew(grant),
        lambda: asker.read(key),
    ]
    for ask in requests:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="no answer in time"):
            ask()
        # Generous: what matters is that it ends.
        assert 1.0 <= time.monotonic() - began < 40.0
    own_server.resume()
    patient = open_at(own_server.url())
    patient.abandon(late)
    granted(patient.acquire(make_claim("late")))
    assert patient.renew(grant)

    def heir() -> bool:
        return isinstance(patient.acquire(make_claim("dead", owner="heir")), Grant)

    eventually(heir, "the lease lapses")
    assert not patient.renew(dead)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_restart_keeps_leases(
    own_server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], how: str
) -> None:
    """What was granted is kept over a restart and a crash, and the holder goes on."""
    holder, asker, key = open_at(own_server.url()), open_at(own_server.url()), fresh_key()
    grant = granted(holder.acquire(make_claim(key, hold=LONG)))
    if how == "restart":
        own_server.restart(keep_data=True)
    else:
        own_server.kill()
        with pytest.raises(BackendUnavailable, match="refused"):
            asker.acquire(make_claim(key))
        own_server.start()
    assert refused(asker.acquire(make_claim(key)), HELD).fence == grant.fence
    assert holder.renew(grant)
    assert holder.release(grant, make_ending(), keep_hold=True)


def test_restart_without_data(own_server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> None:
    """A server that comes back empty is doubted by who saw it before, and its fences go on from there."""
    node, key = open_at(own_server.url()), fresh_key()
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    own_server.restart(keep_data=False)
    assert not node.renew(grant)
    sight = Sight(grant.fence + 10**12, age=5.0, noticed_age=None, ttl=60.0)
    assert refused(node.acquire(make_claim(key, sight=sight)), FORGOTTEN).remaining > 50
    sight = Sight(grant.fence + 10**12, age=100.0, noticed_age=LONG, ttl=60.0)
    heir = granted(node.acquire(make_claim(key, sight=sight)))
    assert heir.fence is not None
    assert heir.fence > grant.fence + 10**12


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[PostgresqlServer, PostgresqlStandby]]:
    """A server and its standby, of which the latter takes over at the end."""
    with PostgresqlServer() as primary, PostgresqlStandby(primary) as standby:
        yield primary, standby


def _both(first: PostgresqlServer, second: PostgresqlServer) -> str:
    return f"postgresql://postgres@{HOST}:{first.port},{HOST}:{second.port}/postgres"


def test_standby_is_passed_over(
    pair: tuple[PostgresqlServer, PostgresqlStandby], open_at: Callable[..., PostgresqlBackend], key: str
) -> None:
    """Of several hosts the one that takes writes is asked, wherever it stands; a standby alone says so."""
    primary, standby = pair
    node = open_at(_both(standby, primary))
    grant = granted(node.acquire(make_claim(key)))
    refused(open_at(_both(primary, standby)).acquire(make_claim(key)), HELD)
    assert node.release(grant, make_ending(), keep_hold=False)
    with pytest.raises(BackendUnavailable, match="read-only"):
        open_at(standby.url()).acquire(make_claim(key))


def test_failover_that_forgot(
    pair: tuple[PostgresqlServer, PostgresqlStandby], open_at: Callable[..., PostgresqlBackend], key: str
) -> None:
    """A lease that the new primary never heard of counts as held by who saw it, and its fence is not given again."""
    primary, standby = pair
    node = open_at(_both(primary, standby))
    standby.run("ALTER SYSTEM SET primary_conninfo = ''")
    standby.run("SELECT pg_reload_conf()")
    eventually(lambda: primary.run("SELECT count(*) FROM pg_stat_replication") == [(0,)], "the standby is cut off")
    grant = granted(node.acquire(make_claim(key)))
    assert grant.fence is not None
    primary.kill()
    with pytest.raises(BackendUnavailable, match=r"refused.*read-only"):
        node.renew(grant)
    standby.promote()
    assert not node.renew(grant)
    sight = Sight(grant.fence, age=0.5, noticed_age=None, ttl=LONG)
    conflict = refused(node.acquire(make_claim(key, sight=sight)), FORGOTTEN)
    assert conflict.remaining > LONG - 60
    heir = granted(node.acquire(make_claim(key, sight=Sight(grant.fence, age=LONG, noticed_age=LONG, ttl=LONG))))
    assert heir.fence is not None
    assert heir.fence > grant.fence


def test_host_that_does_not_answer_costs_its_share(
    server: PostgresqlServer, proxy: Proxy, open_at: Callable[..., PostgresqlBackend], key: str
) -> None:
    """A host that takes connections and says nothing leaves the next one its part of the time."""
    proxy.drop_all()
    hosts = f"{HOST}:{free_port()},{HOST}:{proxy.port},{HOST}:{server.port}"
    node = open_at(f"postgresql://postgres@{hosts}/postgres", 4.0)
    granted(node.acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match=r"in time; .*refused"):
        open_at(f"postgresql://postgres@{HOST}:{proxy.port},{HOST}:{free_port()}/postgres", _HASTY).read(key)


# Who may, and what is in the way


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresqlServer]:
    """A server that speaks TLS only, and wants passwords."""
    with PostgresqlServer(tls=True, users={"worker": _SECRET, "guest": "guest"}) as running:
        running.run("REVOKE ALL ON cronlock FROM guest")
        running.run("CREATE TABLE lent (LIKE cronlock INCLUDING ALL)")
        running.run("GRANT SELECT ON lent TO guest")
        yield running


def test_tls_and_password(guarded: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """A server that is verified takes the password of the URL."""
    node = open_at(guarded.url())
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    assert node.link().encrypted


def test_server_that_is_not_the_one(guarded: PostgresqlServer, key: str) -> None:
    """A certificate of another authority is refused, and so is a connection without TLS."""
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        _open(guarded.url(sslrootcert=str(tls().client_cert))).acquire(make_claim(key))
    with pytest.raises(BackendUnavailable, match=r"pg_hba\.conf"):
        _open(guarded.url(sslmode="disable")).acquire(make_claim(key))


def test_wrong_password(guarded: PostgresqlServer, key: str) -> None:
    """A refused password is said, and it is in no text."""
    with pytest.raises(BackendUnavailable, match='password authentication failed for user "worker"') as caught:
        _open(guarded.url(user="worker", password="wr0ng&secret")).acquire(make_claim(key))
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(BackendUnavailable, match="no password supplied") as caught:
        _open(guarded.url(user="worker").replace("verify-full", "require")).acquire(make_claim(key))


def test_password_from_a_file(
    guarded: PostgresqlServer,
    open_at: Callable[..., PostgresqlBackend],
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The password may lie where libpq looks for it."""
    passwords = tmp_path / "pgpass"
    secret = _SECRET.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"{HOST}:{guarded.port}:postgres:worker:{secret}\n")
    passwords.chmod(0o600)
    granted(open_at(guarded.url(user="worker", passfile=str(passwords))).acquire(make_claim(key)))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    refused(open_at(guarded.url(user="worker")).acquire(make_claim(key)), HELD)


def test_missing_rights(guarded: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """Who may not use the table is told what to grant."""
    for table in ("cronlock", "lent"):
        node = open_at(guarded.url(user="guest", password="guest", table=table))
        with pytest.raises(BackendUnavailable, match=rf"permission denied.* GRANT SELECT, INSERT, UPDATE ON {table}"):
            node.acquire(make_claim(key))
    assert node.read(key) is None


def test_missing_table(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """Where the table is missing the message says how it is made; a run that has its lease goes on asking."""
    for table in ("nowhere", "no_schema.cronlock"):
        node = open_at(server.url(table=table))
        for ask in (lambda n: n.acquire(make_claim(key)), lambda n: n.read(key), lambda n: list(n.keys())):
            with pytest.raises(ConfigError, match="does not exist; make it with `cronlock doctor --create`"):
                ask(node)
    server.make_table("dropped")
    node = open_at(server.url(table="dropped"))
    grant = granted(node.acquire(make_claim(key)))
    server.run("DROP TABLE dropped")
    for ask in (lambda n: n.renew(grant), lambda n: n.abandon(grant.claim)):
        with pytest.raises(BackendUnavailable, match="does not exist"):
            ask(node)


def test_table_in_a_schema(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """The table may have another name, in another schema, with capital letters."""
    server.run('CREATE SCHEMA "Jobs"')
    server.make_table('"Jobs"."Leases_2"')
    node = open_at(server.url(table="Jobs.Leases_2"))
    granted(node.acquire(make_claim(key)))
    assert list(node.keys()) == [key]


def test_table_of_others(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """A table that is not cronlock's is left alone."""
    server.run("CREATE TABLE foreigners (name text PRIMARY KEY, fence bigint)")
    server.run("CREATE TABLE numbers (LIKE cronlock INCLUDING ALL)")
    server.run("ALTER TABLE numbers ALTER gone DROP DEFAULT, ALTER gone TYPE int USING 0")
    for table in ("foreigners", "numbers", "pg_catalog.pg_class"):
        with pytest.raises(ForeignValue, match="is no table of cronlock's; nothing was changed"):
            open_at(server.url(table=table)).acquire(make_claim(key))
    assert server.run("SELECT count(*) FROM foreigners") == [(0,)]


@pytest.mark.parametrize("line", ["nonsense", "owner=x\tpid=y", "pid=1"])
def test_row_of_others(server: PostgresqlServer, node: PostgresqlBackend, key: str, line: str) -> None:
    """A row that somebody wrote by hand is named, and nothing is done to it."""
    grant = granted(node.acquire(make_claim(key)))
    server.run("UPDATE cronlock SET run_line = %s WHERE name = %s", line, key)
    before = server.run("SELECT * FROM cronlock WHERE name = %s", key)
    for ask in (lambda: node.acquire(make_claim(key)), lambda: node.read(key)):
        with pytest.raises(ForeignValue, match=f"the row of '{key}' in cronlock: .*; nothing was changed"):
            ask()
    assert server.run("SELECT * FROM cronlock WHERE name = %s", key) == before
    assert node.release(grant, make_ending(), keep_hold=False)


def test_commit_that_fails(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """A grant that the server takes back as it commits, behind the row of its answer, is none."""
    server.make_table("uncommitted")
    server.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$"
    )
    server.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON uncommitted"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    node = open_at(server.url(table="uncommitted"))
    with pytest.raises(BackendUnavailable, match="not today"):
        node.acquire(make_claim(key))
    assert node.read(key) is None


def test_locked_row(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """While somebody sits on the row nothing is granted, and what was asked meanwhile takes nothing later."""
    node, hasty = open_at(server.url()), open_at(server.url(), _HASTY)
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    claim = make_claim(key)
    with server.client(autocommit=False) as locker:
        locker.execute("SELECT 1 FROM cronlock WHERE name = %s FOR UPDATE", (key,))
        for ask in (lambda: hasty.acquire(claim), lambda: hasty.abandon(claim)):
            with pytest.raises(BackendUnavailable, match=r"somebody has a row of cronlock locked|no answer in time"):
                ask()
    node.abandon(claim)
    refused(node.acquire(claim), CANCELLED)

    def free() -> bool:
        record = node.read(key)
        return record is not None and record.remaining == 0

    eventually(free, "what was asked late is undone")


def test_renewal_never_takes_back(node: PostgresqlBackend, key: str) -> None:
    """A renewal that comes behind a later one, as when both waited for a lock, leaves what that gave."""
    grant = granted(node.acquire(make_claim(key, ttl=LONG)))
    late = granted(node.acquire(grant.claim))
    late.ttl = 1.0
    assert node.renew(late)
    record = node.read(key)
    assert record is not None
    assert record.remaining > LONG / 2


def test_what_was_given_up_waits_for_no_lock(
    server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str
) -> None:
    """However long somebody sits on a row, the server is left with no statements that nobody wants answered."""
    node, hasty = open_at(server.url()), open_at(server.url(), _HASTY)
    grant = granted(node.acquire(make_claim(key)))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with server.client(autocommit=False) as locker:
        locker.execute("SELECT 1 FROM cronlock WHERE name = %s FOR UPDATE", (key,))
        asks = (
            lambda: hasty.renew(grant),
            lambda: hasty.release(grant, make_ending(), keep_hold=True),
            lambda: hasty.abandon(grant.claim),
            lambda: hasty.force_release(key, grant.claim.owner),
        )
        for ask in asks:
            with pytest.raises(BackendUnavailable):
                ask()
        eventually(lambda: server.run(waiting, "%cronlock%") == [(0,)], "nothing waits for the lock any more")
    assert node.renew(grant)


def test_server_without_room(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend], key: str) -> None:
    """A server that has no connection left is asked again until it has, within the limit."""
    server.run("CREATE ROLE crowded SUPERUSER LOGIN")
    server.run("CREATE ROLE single LOGIN CONNECTION LIMIT 1")
    server.run("GRANT SELECT, INSERT, UPDATE ON cronlock TO single")
    first = open_at(server.url(user="single"))
    grant = granted(first.acquire(make_claim(key)))
    with pytest.raises(BackendUnavailable, match="too many connections"):
        open_at(server.url(user="single"), _HASTY).acquire(make_claim(key))
    timer = threading.Timer(0.5, first.close)
    timer.start()
    assert refused(open_at(server.url(user="single")).acquire(make_claim(key)), HELD).fence == grant.fence
    timer.join()


# Nonsense


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://h",
        "postgresql://h/",
        "postgresql:///db",
        "postgresql://h/db?host=/run",
        "postgresql:///db?host=run",
        "postgresql:///db?host=/run&port=x",
        "postgresql://h/db?port=5432",
        "postgresql://h/db?sslmode=on",
        "postgresql://h/db?sslrootcert=/does/not/exist",
        "postgresql://h/db?passfile=",
        "postgresql://h/db?table=a.b.c",
        "postgresql://h/db?table=1a",
        "postgresql://h/db?table=a%22b",
        "postgresql://h/db?table=",
        "postgresql://h/db?table=" + "x" * 64,
        "postgresql://h/db?options=-cx",
        "postgresql://h/db?prefix=x",
        "postgresql://h/d%00b",
        "postgres://u:p@/db",
        "postgres://u:p%00@h/db",
    ],
)
def test_bad_urls(text: str) -> None:
    """What cannot be meant is said before anything is asked."""
    with pytest.raises(ConfigError):
        _open(text)


def test_hold_beyond_all_measure(node: PostgresqlBackend, key: str) -> None:
    """A hold that a server cannot tell as a time is refused; the longest that it can is kept."""
    with pytest.raises(ConfigError, match=r"--min-hold .* at most 315360000 s"):
        node.acquire(make_claim(key, hold=1e12))
    grant = granted(node.acquire(make_claim(key, ttl=node.traits.longest_ttl, hold=315360000.0)))
    assert node.release(grant, make_ending(), keep_hold=True)
    assert refused(node.acquire(make_claim(key)), HOLD).remaining > 315000000


@pytest.mark.parametrize(
    "words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b"N" * 70000, b"\0" * 70000]
)
def test_what_is_no_postgresql(words: bytes, key: str) -> None:
    """Another kind of server on the port is one line, in time."""
    with socket.create_server((HOST, 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                    client.recv(4096)
                    client.sendall(words)
                    client.close()
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(BackendUnavailable) as caught:
            _open(f"postgresql://u:hidden@{HOST}:{listener.getsockname()[1]}/db", 2.0).acquire(make_claim(key))
        assert "\n" not in str(caught.value)
        assert "hidden" not in str(caught.value)
        listener.shutdown(socket.SHUT_RDWR)


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _one_row(*values: bytes) -> bytes:
    columns = b"".join(b"c\0" + struct.pack("!IHIHIH", 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0) for _ in values)
    fields = b"".join(struct.pack("!I", len(value)) + value for value in values)
    count = struct.pack("!H", len(values))
    return _message(b"T", count + columns) + _message(b"D", count + fields) + _DONE


_DONE = _message(b"C", b"SELECT 1\0") + _message(b"Z", b"I")
_ODD_ANSWERS = {
    "no row": _message(b"n") + _DONE,
    "no column": _one_row(),
    "one column": _one_row(b"x"),
    "two columns": _one_row(b"held", b"1"),
    "no numbers": _one_row(*[b"x"] * 7),
    "long numbers": _one_row(b"held", *[b"9" * 5000] * 6),
    "COPY out": _message(b"H", struct.pack("!BH", 0, 0)),
    "COPY in": _message(b"G", struct.pack("!BH", 0, 0)),
    "COPY both": _message(b"W", struct.pack("!BH", 0, 0)),
}


@contextmanager
def _answering(answer: bytes) -> Iterator[str]:
    """A server that lets everybody in, and gives one answer to every statement; the URL of it."""

    def talk(client: socket.socket) -> None:
        with client:
            while struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))[1] != 196608:
                client.sendall(b"N")  # Neither TLS nor Kerberos.
            client.recv(65536)
            told = {b"server_version": b"15.0", b"default_transaction_read_only": b"off", b"in_hot_standby": b"off"}
            states = b"".join(_message(b"S", b"%b\0%b\0" % pair) for pair in told.items())
            client.sendall(_message(b"R", bytes(4)) + states + _message(b"K", bytes(8)) + _message(b"Z", b"I"))
            while client.recv(65536):
                client.sendall(_message(b"1") + _message(b"2") + answer)

    def listen() -> None:
        while True:
            try:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield f"postgresql://u@{HOST}:{listener.getsockname()[1]}/db"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", _ODD_ANSWERS)
def test_answers_that_make_no_sense(name: str, key: str, open_at: Callable[..., PostgresqlBackend]) -> None:
    """No answer of whatever shape is more than one line, nor taken for a grant; one without end is not waited for."""
    with _answering(_ODD_ANSWERS[name]) as url:
        node, claim = open_at(url, 5.0), make_claim(key)
        grant = Grant(claim, fence=1, ttl=claim.ttl)
        asks: list[Callable[[], object]] = [
            lambda: node.acquire(claim),
            lambda: node.renew(grant),
            lambda: node.release(grant, make_ending(), keep_hold=True),
            lambda: node.read(key),
            lambda: list(node.keys()),
            lambda: node.force_release(key, claim.owner),
            lambda: Look(url, timeout=5.0),
        ]
        answers: list[object] = []
        for ask in asks:
            try:
                answers.append(ask())
            except (BackendUnavailable, ForeignValue) as error:
                answers.append(str(error))
        assert not any(isinstance(answer, Grant) or "\n" in str(answer) for answer in answers)


def test_unknown_host(key: str) -> None:
    """A name without an address is said as such."""
    for name in ("no-such-host.invalid", "x" * 300, "a..b"):
        with pytest.raises(BackendUnavailable, match="cannot find the address"):
            _open(f"postgresql://{name}/db").read(key)


def test_a_clock_that_jumped_is_said(server: PostgresqlServer, key: str) -> None:
    """When the server's clock goes otherwise than ours, a person hears of it."""
    clock = ManualClock()
    node = _open(server.url())
    node._clock = clock
    grant = granted(node.acquire(make_claim(key)))
    assert node.renew(grant)
    assert node.notices == []
    clock.advance(100)
    assert node.renew(grant)
    (notice,) = node.notices
    assert "clock jumped by -100.0 s" in notice or "clock jumped by -99.9 s" in notice
    node.close()


# The record


def test_long_words_are_cut(node: PostgresqlBackend, key: str) -> None:
    """Names of hosts and programs are kept up to a length, so that a row stays small."""
    grant = granted(node.acquire(make_claim(key, host="h" * 5000, program="\U0001f512" * 5000)))
    assert node.release(grant, make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert record.last.host == "h" * 255
    assert record.last.program.startswith("\U0001f512" * 63)
    assert len(record.last.program) < 70


def test_owners_that_gave_up_are_remembered_up_to_a_number(
    server: PostgresqlServer, node: PostgresqlBackend, key: str
) -> None:
    """However many runs there were, a row has the last of them only."""
    for number in range(HISTORY + 10):
        assert node.release(granted(node.acquire(make_claim(key))), make_ending(number), keep_hold=False)
    ((gone, history),) = server.run("SELECT cardinality(gone), cardinality(history) FROM cronlock WHERE name = %s", key)
    assert (gone, history) == (16, HISTORY)


def test_run_that_was_restored_is_history_once(server: PostgresqlServer, node: PostgresqlBackend, key: str) -> None:
    """A dead run that many took over and gave up is told once, and once more if it speaks after all."""
    hooks = _PostgresqlHooks(server)
    dead = granted(node.acquire(make_claim(key)))
    hooks.lapse(node, dead)
    for _ in range(3):
        claim = make_claim(key, standby_for=dead.claim.owner)
        granted(node.acquire(claim))
        record = node.read(key)
        assert record is not None
        assert [(run.owner, run.outcome) for run in record.history] == [(dead.claim.owner, DIED)]
        node.abandon(claim)
    assert node.release(dead, make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert [(run.owner, run.outcome) for run in record.history] == [(dead.claim.owner, EXITED)]


def test_fences_rise_though_the_clock_is_behind(server: PostgresqlServer, node: PostgresqlBackend, key: str) -> None:
    """A clock that was set back does not take the fence along."""
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    ahead = 9 * 10**15
    server.run("UPDATE cronlock SET fence = %s WHERE name = %s", ahead, key)
    for number in range(1, 4):
        grant = granted(node.acquire(make_claim(key)))
        assert grant.fence == ahead + number
        assert refused(node.acquire(make_claim(key)), HELD).fence == ahead + number
        assert node.release(grant, make_ending(), keep_hold=False)


def test_forced_release_is_not_forgotten(node: PostgresqlBackend, key: str) -> None:
    """However many gave up since, nobody takes over a run that was released by force."""
    grant = granted(node.acquire(make_claim(key)))
    assert node.force_release(key, grant.claim.owner)
    for _ in range(20):
        node.abandon(make_claim(key))
    refused(node.acquire(make_claim(key, standby_for=grant.claim.owner)), ENDED)


def test_times_of_an_end_agree(node: PostgresqlBackend, key: str) -> None:
    """The last run, the history and the last success tell the same end."""
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert record.success is not None
    assert record.last.ended_at == record.history[0].ended_at == record.success.ended_at


def test_many_keys_are_listed(server: PostgresqlServer, open_at: Callable[..., PostgresqlBackend]) -> None:
    """A listing of more than a page has every key once, and nothing of rows that were never granted."""
    server.make_table("many")
    server.run("INSERT INTO many (name, fence) SELECT 'job-' || n, n % 2 FROM generate_series(1, 5000) n")
    listed = list(open_at(server.url(table="many")).keys())
    assert len(listed) == len(set(listed)) == 2500


def test_close_after_a_failure(server: PostgresqlServer) -> None:
    """A node that failed can be closed, and asked again."""
    node = _open(server.url(table="nix"))
    with pytest.raises((BackendError, ConfigError)):
        node.read("x")
    node.close()
    node.close()
    with pytest.raises(ConfigError):
        node.read("x")
    node.close()
