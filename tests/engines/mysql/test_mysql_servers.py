"""MySQL with a replica, and Galera."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cronlock.doctor.findings import NOTE
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, Conflict, Grant
from cronlock.testing import eventually, fresh_key, granted, make_claim, make_ending
from labs.servers.mariadb import ADMIN, DATABASE, MariadbGalera, MariadbReplica, MariadbServer
from labs.servers.process import HOST

from ..hooks import Opener, turned_away, why_unavailable
from ..look import Look
from ..sql.kinds import HASTY, Mysql


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[MariadbServer, MariadbReplica]]:
    """A server and its replica, which takes over at the end."""
    with (
        MariadbServer(users={"worker": "secret"}, settings=MariadbReplica.PRIMARY) as primary,
        MariadbReplica(primary) as replica,
    ):
        yield primary, replica


def test_replica_is_passed_over_by_administrators(
    pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str
) -> None:
    """A user whose writes a replica would accept still writes to the primary; a replica alone is refused."""
    primary, replica = pair
    node = open_at(Mysql().both(replica, primary, ADMIN))
    assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
    eventually(replica.is_in_step, "the replica is in step")
    (own,) = replica.run("SELECT COUNT(*) FROM cronlock WHERE name = %s", key.encode())
    assert own == (1,)  # By replication.
    with pytest.raises(BackendUnavailable, match=r"the server is read-only: a replica\?: name the server"):
        open_at(replica.url(user=ADMIN)).acquire(make_claim(key))


def test_switch_within_a_run(pair: tuple[MariadbServer, MariadbReplica], open_at: Opener, key: str) -> None:
    """A server that stops taking writes under a run is left for the one that does."""
    primary, replica = pair
    node = open_at(Mysql().both(primary, replica))
    grant = granted(node.acquire(make_claim(key)))
    eventually(replica.is_in_step, "the replica is in step")
    primary.run("SET GLOBAL read_only = ON")
    turned_away(lambda: open_at(Mysql().both(primary, replica), HASTY).renew(grant), "read-only")
    replica.run("SET GLOBAL read_only = OFF")
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    replica.run("SET GLOBAL read_only = ON")
    primary.run("SET GLOBAL read_only = OFF")


def test_galera(open_at: Opener) -> None:
    """Of two claims to two nodes of a cluster at the same moment one is granted, and both nodes know."""
    with MariadbGalera() as cluster:
        nodes = [open_at(cluster.nodes[number % 2].url()) for number in range(8)]
        key, fence = fresh_key(), 0
        for _ in range(40):
            answers: list[Grant | Conflict] = []
            barrier = threading.Barrier(len(nodes))

            def race(racer: Leases, start: threading.Barrier, into: list[Grant | Conflict]) -> None:
                start.wait()
                into.append(racer.acquire(make_claim(key)))

            threads = [threading.Thread(target=race, args=(racer, barrier, answers)) for racer in nodes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(answers) == len(nodes)
            (grant,) = [answer for answer in answers if isinstance(answer, Grant)]
            assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
            assert (grant.fence or 0) > fence
            fence = grant.fence or 0
            assert nodes[0].renew(grant)
            assert nodes[1].release(grant, make_ending(), keep_hold=False)
        behind, node = nodes[1], open_at(cluster.nodes[0].url())
        with cluster.nodes[1].client() as lock:
            # Hides the other node's writes here until it ends.
            lock.cursor().execute("FLUSH TABLES WITH READ LOCK")
            grant = granted(node.acquire(make_claim(key)))
            later = threading.Timer(1.0, lambda: lock.cursor().execute("UNLOCK TABLES"))
            later.start()
            assert behind.force_release(key, grant.claim.owner)
            later.join()
        assert not node.renew(grant)
        look = Look(cluster.nodes[0].url())
        assert "Galera, 2 nodes" in look.one("replication").text
        both = f"mysql://{ADMIN}@{HOST}:{cluster.nodes[0].port},{HOST}:{cluster.nodes[1].port}/{DATABASE}"
        assert Look(both).one("read-only").level == NOTE
        cluster.nodes[0].kill()
        survivor = open_at(cluster.nodes[1].url(), HASTY)
        # Half of a cluster is not its majority, as it finds out in time.
        eventually(lambda: "WSREP has not yet prepared" in why_unavailable(survivor), "the other node is missed")
