"""ZooKeeper: the contract on real servers, and what is in a key's place; URLs and access."""

from __future__ import annotations

import sys
import time
from typing import ClassVar

import pytest
from kazoo.security import OPEN_ACL_UNSAFE

from cronlock.engines.url import URL
from cronlock.engines.zookeeper.cell import NodeCell
from cronlock.engines.zookeeper.session import Reply, Session
from cronlock.engines.zookeeper.store import ZooKeeperStore
from cronlock.engines.zookeeper.tree import Tree
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.keys import escape
from cronlock.testing import LONG, StoreContract
from cronlock.testing.cells import read, refused, swap, try_swap
from labs.servers.zookeeper import ZooKeeperServer

from ..faults import TLS, Impostors, StoreFaults, Strangers, URLs
from ..hooks import PATIENT, FaultHooks
from .support import TTL, lease_names, looking, opened, remove_lease, take


class LookingStore(ZooKeeperStore):
    """Looks at the leader's clock in each read: a glance does not tell that a hold is over while there is a lease."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> NodeCell:
        """Return the cell as it is now."""
        return super().read(key, deadline, exact=True)


class ZooKeeperHooks(FaultHooks):
    """A lease lapses at once: what a session's end removes can be taken away behind the store's back."""

    acquire, swap, renew, release = 5, 2, 2, 2
    # One that hangs up while a session is opened is called busy.
    hasty = 2.0

    def open_store(self) -> ZooKeeperStore:
        """Open a store with sessions of its own."""
        return LookingStore(URL(self.server.url()), PATIENT)

    def lapse(self, key: str) -> None:
        """Remove the node that goes with the holder's session."""
        with looking(self.server) as client:
            remove_lease(client, f"/cronlock/{escape(key)}")

    def put(self, key: str, value: bytes) -> None:
        """Make the key's node."""
        with looking(self.server) as client:
            client.create(f"/cronlock/{key}", value, makepath=True)

    def kept(self, key: str) -> object:
        """Return the node's text, how often it was written, and what is below it."""
        with looking(self.server) as client:
            text, stat = client.get(f"/cronlock/{key}")
            return text, stat.version, client.get_children(f"/cronlock/{key}")


@pytest.fixture
def hooks(server: ZooKeeperServer) -> ZooKeeperHooks:
    """The server's hooks."""
    return ZooKeeperHooks(server)


class TestZooKeeper(StoreContract):
    """One server."""


_HEAD = b"cronlock-node\t%s\t0\t0\t0\t0\ncronlock=2\tx\nfence\t1\n"
_SESSION = b"\x00\x00\x0f\xa0" + b"\x01" * 8 + b"\x00\x00\x00\x10" + b"p" * 16


class TestFaults(StoreFaults, Strangers, TLS, Impostors, URLs):
    """The same server by a wire, and what is not cronlock's on it."""

    foreign: ClassVar[list[tuple[bytes, str]]] = [
        (b"cronlock=1\nfence=1\n", "a record of an older, unreleased layout"),
        *(
            (data, "not cronlock's")
            for data in (
                *(b"", b"garbage", b"\xff\xfe", b"cronlock=2\tx\nfence\t1\n", b"cronlock-node"),
                *(b"cronlock-node\t\t\t%s\t0\t0\n" % number for number in (b"", b"inf", b"-1", b"1e3", b"9" * 400)),
                *(_HEAD % name for name in (b"a/b", b"..", b"\xc3\xa4")),
            )
        ),
    ]
    nonsense: ClassVar[list[bytes]] = [
        *(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"", b"\x00\x00\x00\x00"),
        *(b"\x00\x00\x00\x04\xff\xff\xff\xff", b"\x7f\xff\xff\xff" + b"x" * 4096, b"\xff\xff\xff\xff"),
        b"\x00\x00\x00\x24\x00\x00\x00\x00" + _SESSION,
        # A session, and then a reply to nothing that was asked.
        *(
            b"\x00\x00\x00\x25\x00\x00\x00\x00" + _SESSION + b"\x00" + reply
            for reply in (
                b"\x00\x00\x00\x10" + b"\x00" * 16,
                b"\x00\x00\x00\x10\x00\x00\x00\x01" + b"\x00" * 12,
                b"\x00\x00\x00\x02ab",
            )
        ),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("zookeeper://", "no host"),
        ("zookeeper://user@host", "give user and password"),
        ("zookeeper://host?ca=x", "go with zookeepers://"),
        *((f"zookeeper://host/{path}", "make the path") for path in ("a//b", "a/../b", "a%00b", "zookeeper")),
        *((f"zookeeper://host?prefix={prefix}", "make the path") for prefix in ("zookeeper", "..")),
        ("zookeepers://host?ca=/does/not/exist", "ca=/does/not/exist"),
    ]


# The version.


def test_a_node_that_was_recreated(server: ZooKeeperServer, key: str) -> None:
    """Its writes are counted from 0 again: what was seen of another one counts for nothing."""
    with opened(server.url()) as store, opened(server.url()) as other, looking(server) as client:
        for lease in (None, LONG):
            old = swap(store, key, read(store, key), lease=lease)
            client.delete(f"/cronlock/{key}", recursive=True)
            new = swap(other, key, read(other, key), lease=lease)
            assert (old.node or (0, 0))[1] == (new.node or (0, 0))[1]
            assert new.floor > old.floor
            time.sleep(1.1 if lease is None else 0)
            for more in (None, LONG, 0.0):
                assert refused(store, key, old, lease=more).data == new.data
            client.delete(f"/cronlock/{key}", recursive=True)


# Names and what is in a key's place.


def test_what_is_no_key_is_not_listed(server: ZooKeeperServer) -> None:
    """Neither the clock's node nor what an older program left behind; a key may be called like these."""
    with opened(server.url("/kinds")) as store, looking(server) as client:
        for key in ("a", "~clock", "~history.a"):
            swap(store, key, read(store, key))
        client.create("/kinds/cronlock/~history.a", b"cronlock=1\n")
        assert sorted(store.keys()) == ["a", "~clock", "~history.a"]


def test_reading_makes_nothing(server: ZooKeeperServer, key: str) -> None:
    """Neither the record of a key that was never used, nor its place."""
    with opened(server.url(f"/{key}")) as store:
        for exact in (True, False):
            assert read(store, key, exact=exact).data is None
        assert list(store.keys()) == []
    with looking(server) as client:
        assert client.exists(f"/{key}") is None


def test_a_clock_that_was_removed(server: ZooKeeperServer, key: str) -> None:
    """It is made again when a key is looked at."""
    with opened(server.url(f"/{key}")) as store, looking(server) as client:
        swap(store, key, read(store, key), hold=60)
        client.delete(f"/{key}/cronlock/~clock")
        assert 50 < read(store, key).hold <= 60
        assert read(store, key).time


def test_foreign_child_is_left_alone(server: ZooKeeperServer, key: str) -> None:
    """A node below the key's that is no lease must not pass for one."""
    with looking(server) as client, opened(server.url()) as store:
        swap(store, key, read(store, key))
        client.create(f"/cronlock/{key}/else")
        with pytest.raises(ForeignValue, match="else"):
            read(store, key)


def test_ephemeral_nodes_in_the_way(server: ZooKeeperServer, key: str) -> None:
    """An ephemeral node cannot have a lease below it, and would not keep a record."""
    with looking(server) as client, opened(server.url()) as store:
        client.create(f"/cronlock/{key}", _HEAD % b"", ephemeral=True, makepath=True)
        with pytest.raises(ForeignValue, match="ephemeral"):
            read(store, key)
        client.create(f"/{key}", ephemeral=True)
        with opened(server.url(f"/{key}")) as below, pytest.raises(ForeignValue, match="ephemeral"):
            swap(below, key, read(below, key))


# URLs and access.


def test_chroot_and_prefix_are_made(server: ZooKeeperServer, key: str) -> None:
    """Both are made on first use, and keep keys apart."""
    with opened(server.url("/team/a", prefix="jobs")) as one, opened(server.url("/team/b/", prefix="jobs")) as two:
        take(one, key, LONG)
        take(two, key, LONG)
        assert len(lease_names(server, key, "/team/a/jobs")) == 1
        assert list(two.keys()) == [key]
        assert one.location(key).endswith(f"node /team/a/jobs/{key}")


def test_credentials_keep_others_out(server: ZooKeeperServer, key: str) -> None:
    """Nodes are open to their creator only, and a wrong password is reported."""
    with opened(server.url("/ours", login="ann:secret")) as ann:
        cell = swap(ann, key, take(ann, key, 20), lease=20)
        for login in ("ann:wrong", "bob:secret", ""):
            with opened(server.url("/ours", login=login)) as other:
                for call in (
                    lambda other=other: read(other, key),
                    lambda other=other: try_swap(other, key, cell, lease=0.0),
                    lambda other=other: try_swap(other, "else", NodeCell(), lease=TTL),
                    lambda other=other: list(other.keys()),
                ):
                    with pytest.raises(BackendUnavailable, match="authentication failed") as caught:
                        call()
                    assert "secret" not in str(caught.value) + other.location(key)
                    assert "wrong" not in str(caught.value) + other.location(key)
        with looking(server, "ann:secret") as client:
            for path in ("/ours", "/ours/cronlock", f"/ours/cronlock/{key}"):
                assert client.get_acls(path)[0] != OPEN_ACL_UNSAFE
        swap(ann, key, cell, lease=0.0)


def test_errors_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nothing expects has the name that kazoo gives it, or else its number alone."""
    tree = Tree(URL("zookeeper://host"), 1.0)
    for code, name in ((-125, r"error -125 \(QuotaExceededError\) for /x"), (-9999, "error -9999 for /x")):
        with pytest.raises(BackendUnavailable, match=f"answered with {name}$"):
            tree.value(Reply(code, None, 0), "/x")
    monkeypatch.setitem(sys.modules, "kazoo.exceptions", None)
    with pytest.raises(BackendUnavailable, match=r"answered with error -125 for /x$"):
        tree.value(Reply(-125, None, 0), "/x")


@pytest.mark.parametrize("ends", ["lapsed", "released"])
def test_a_lease_that_ends_while_it_is_read(
    server: ZooKeeperServer, key: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is that of the same moment: a run that ended did not lose its lease."""
    with opened(server.url()) as store, opened(server.url()) as other, looking(server) as client:
        held = take(store, key, LONG)

        def end(tree: Tree, session: Session, name: str, cell: NodeCell) -> NodeCell | None:
            monkeypatch.undo()
            if ends == "released":
                swap(store, key, held, b"ended", lease=0.0)
            else:
                remove_lease(client, f"/cronlock/{key}")
            return tree._with_lease_left(session, name, cell)

        monkeypatch.setattr(Tree, "_with_lease_left", end)
        seen = read(other, key, exact=True)
        assert (seen.lease, seen.data) == (0.0, b"ended" if ends == "released" else held.data)
