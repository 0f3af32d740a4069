"""Tests of every engine under faults: of the network, of the server, and of the data there.

An engine's test class subclasses what fits it and names its cases; the fixture `hooks` of its module gives its
`FaultHooks`: see `conftest.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.store import NO_HOLD
from cronlock.lease.vocabulary import HELD, HOLD, Grant
from cronlock.testing import (
    LONG,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    record_of,
    refused,
)
from cronlock.testing.cells import a_text, read, swap
from cronlock.testing.hooks import Nodes
from labs.impostors import impostor
from labs.servers.process import HOST, free_port

from .hooks import PATIENT, FaultHooks, Wire, full_cycle, opened

if TYPE_CHECKING:
    from cronlock.lease.store import Cell, Store


LOSSES = pytest.mark.parametrize("loss", ["lose_requests", "lose_replies", "refuse"])


class StoreFaults(Nodes):
    """Requests and replies that are lost or late, and a server that hangs or is down."""

    @LOSSES
    def test_swap_with_a_loss(self, hooks: FaultHooks, b: Store, loss: str) -> None:
        """It is unavailable, and was done if the last request reached the server: one look tells which."""
        for number in range(1, hooks.swap + 1):
            key = fresh_key()
            with hooks.wired() as (wire, far):
                seen, data = swap(far, key, read(far, key)), a_text()
                wire.on(number, getattr(wire, loss))
                with pytest.raises(BackendUnavailable):
                    _swap_in_haste(hooks, far, key, seen, data)
                wire.pass_all()
                there = read(b, key)
                was_done = (number, loss) == (hooks.swap, "lose_replies")
                assert there.data == (data if was_done else seen.data)
                assert (there.lease > 0, there.hold > 0) == (was_done, was_done)
                assert swap(far, key, read(far, key), lease=LONG).lease > 0

    @LOSSES
    def test_look_with_a_loss(self, hooks: FaultHooks, key: str, loss: str) -> None:
        """Looking raises too, and can be repeated."""
        with hooks.wired(hooks.hasty) as (wire, far):
            swap(far, key, read(far, key), lease=LONG)

            def listed(seconds: float) -> list[str]:
                far.timeout = seconds
                return list(far.keys())

            looks: list[Callable[[float], object]] = [
                lambda seconds: far.read(key, time.monotonic() + seconds).lease,
                lambda seconds: far.read(key, time.monotonic() + seconds, exact=True).lease,
            ]
            if far.traits.lists_keys:
                looks.append(listed)
            for look in looks:
                wire.on(1, getattr(wire, loss))
                with pytest.raises(BackendUnavailable):
                    look(hooks.hasty)
                wire.pass_all()
                assert look(PATIENT)

    @LOSSES
    @pytest.mark.parametrize("gives_up", [False, True])
    def test_run_with_a_loss(self, hooks: FaultHooks, b: Store, loss: str, gives_up: bool) -> None:
        """A run that asks again holds the key once, for all of its lease and hold; one that gives up leaves it free."""
        node = Leases(b)
        for number in range(1, hooks.acquire + 1):
            claim = make_claim(fresh_key(), hold=LONG)
            key = claim.key
            assert node.release(granted(node.acquire(make_claim(key))), make_ending(), keep_hold=False)
            with hooks.wired(hooks.hasty) as (wire, store):
                far = Leases(store)
                losing = partial(_lose, hooks, wire, far, loss)
                losing(number, lambda: far.acquire(claim))  # noqa: B023
                if gives_up:
                    far.abandon(claim)
                    granted(node.acquire(make_claim(key)))
                    continue
                grant = granted(far.acquire(claim))
                refused(node.acquire(make_claim(key)), HELD)
                losing(hooks.renew, lambda: far.renew(grant))  # noqa: B023
                assert far.renew(grant)
                refused(node.acquire(make_claim(key)), HELD)
                losing(hooks.release, lambda: far.release(grant, make_ending(5), keep_hold=True))  # noqa: B023
                assert far.release(grant, make_ending(5), keep_hold=True) == (loss != "lose_replies")
                record = record_of(node, key)
                assert [run.status for run in record.history] == [5, 0]
                assert refused(node.acquire(make_claim(key)), HOLD).remaining > LONG / 2

    @pytest.mark.parametrize("step", ["first", "renewal", "end"])
    def test_swap_that_arrives_late(self, hooks: FaultHooks, b: Store, step: str) -> None:
        """It changes neither lease nor hold once another node wrote."""
        for number in range(1, 2 if step == "end" else hooks.swap + 1):
            key = fresh_key()
            with hooks.wired() as (wire, far):
                seen = swap(far, key, read(far, key), lease=60.0 if step != "first" else None)
                wire.on(number, wire.hold_requests)
                with pytest.raises(BackendUnavailable):
                    _swap_in_haste(hooks, far, key, seen, a_text(), ends=step == "end")
                heir = swap(b, key, read(b, key), lease=90.0, hold=LONG)
                before = hooks.kept(key)
                wire.deliver_held()
                assert hooks.kept(key) == before
                ended = swap(b, key, heir, lease=0.0, hold=NO_HOLD)
                there = read(b, key)
                assert (there.data, there.lease, there.hold) == (ended.data, 0.0, 0.0)

    def test_acquire_that_arrives_late(self, hooks: FaultHooks, b: Store) -> None:
        """When its owner gave up, or another runs, it finds another record than was read."""
        node = Leases(b)
        for gives_up in (True, False):
            claim = make_claim(fresh_key(), hold=LONG)
            assert node.release(granted(node.acquire(make_claim(claim.key))), make_ending(), keep_hold=False)
            with hooks.wired(hooks.hasty) as (wire, store):
                far = Leases(store)
                wire.on(hooks.acquire, wire.hold_requests)
                with pytest.raises(BackendUnavailable):
                    far.acquire(claim)
                wire.pass_all()
                if gives_up:
                    far.abandon(claim)
                grant = granted(node.acquire(make_claim(claim.key)))
                wire.deliver_held()
                assert node.renew(grant)

    def test_hung_server(self, hooks: FaultHooks, key: str) -> None:
        """Each call ends within the limit, and whatever comes of it later, there is one holder at the most."""
        hasty, other = Leases(hooks.open_at()), Leases(hooks.open_at())
        grant = granted(other.acquire(make_claim(key, ttl=2.0)))
        mine = granted(hasty.acquire(make_claim(f"{key}-mine")))
        hasty.limit = hasty.store.timeout = 1.0
        calls: list[Callable[[], object]] = [
            lambda: hasty.acquire(make_claim(key, ttl=2.0)),
            lambda: hasty.renew(mine),
            lambda: hasty.release(mine, make_ending(), keep_hold=True),
            lambda: hasty.read(key),
        ]
        if hasty.traits.lists_keys:
            calls.append(lambda: list(hasty.keys()))
        with hooks.server.paused():
            for call in calls:
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match="no answer in time"):
                    call()
                assert 0.9 <= time.monotonic() - began < PATIENT
        eventually(lambda: isinstance(other.acquire(make_claim(key)), Grant), "the lease lapsed", pause=0.2)
        assert not other.renew(grant)
        for one in (hasty, other):
            one.close()

    def test_closed_port(self, hooks: FaultHooks, key: str) -> None:
        """The error comes at once, in one line."""
        port = free_port()
        store = hooks.open_at(port)
        said = rf"^[^\n]*{port}\b[^\n]*[cC]onnection refused[^\n]*check host and port[^\n]*$"
        with pytest.raises(BackendUnavailable, match=said):
            read(store, key)


def _lose(hooks: FaultHooks, wire: Wire, node: Leases, loss: str, number: int, request: Callable[[], object]) -> None:
    """Let a request fail whose message `number` is lost; afterwards the node is patient again."""
    node.limit = hooks.hasty
    wire.on(number, getattr(wire, loss))
    with pytest.raises(BackendUnavailable):
        request()
    wire.pass_all()
    node.limit = PATIENT


def _swap_in_haste(hooks: FaultHooks, store: Store, key: str, seen: Cell, data: bytes, *, ends: bool = False) -> None:
    """Swap for a lease and a hold, or for the end of both."""
    lease, hold = (0.0, NO_HOLD) if ends else (60.0, 30.0)
    store.swap(key, seen, data, lease=lease, hold=hold, deadline=time.monotonic() + hooks.hasty)


class Strangers(Nodes):
    """Foreign data in a key's place, if the store can tell."""

    #: The data, which the hooks put there, and the message.
    foreign: ClassVar[Sequence[tuple[Any, str]]] = ()

    def test_foreign_value_is_left_alone(
        self, hooks: FaultHooks, a: Store, b: Store, key: str, foreign: tuple[Any, str]
    ) -> None:
        """Foreign data is reported in one line with a remedy, and never overwritten."""
        value, said = foreign
        seen, node = read(b, key), Leases(a)
        claim = make_claim(key)
        grant = Grant(claim, fence=1, ttl=claim.ttl)
        hooks.put(key, value)
        before = hooks.kept(key)
        asks: list[Callable[[], object]] = [
            lambda: read(a, key),
            lambda: read(a, key, exact=True),
            lambda: swap(b, key, seen, lease=LONG),
            lambda: node.acquire(claim),
            lambda: node.renew(grant),
            lambda: node.release(grant, make_ending(), keep_hold=False),
            lambda: node.force_release(key, claim.owner),
        ]
        for ask in asks:
            with pytest.raises(ForeignValue, match=r"^[^\n]*nothing was changed: [^\n]*$") as caught:
                ask()
            assert str(caught.value).startswith(f"{a.location(key)}: {said}")
        assert hooks.kept(key) == before


class Doubles(Nodes):
    """Requests that come in twice, for protocols without a login."""

    def test_every_swap_twice(self, hooks: FaultHooks, key: str) -> None:
        """It takes effect once, and what the second one shows is what the first did."""
        with hooks.wired() as (wire, far):
            cell = read(far, key)
            wire.doubles = True
            for lease, hold in ((60.0, 30.0), (60.0, 0.0), (None, 30.0), (0.0, NO_HOLD)):
                data = a_text()
                _, then = far.swap(key, cell, data, lease=lease, hold=hold, deadline=time.monotonic() + PATIENT)
                assert then.data == data
                assert then.version != cell.version
                assert (then.lease > 0, then.hold > 0) == (lease != 0.0, lease != 0.0)
                cell = then

    def test_a_whole_run_twice(self, hooks: FaultHooks, b: Store, key: str) -> None:
        """All is as if each request had come once."""
        with hooks.wired() as (wire, store):
            wire.doubles = True
            far, claim = Leases(store), make_claim(key, hold=LONG)
            grant = granted(far.acquire(claim))
            assert granted(far.acquire(claim)).fence == grant.fence
            assert far.renew(grant)
            refused(Leases(b).acquire(make_claim(key)), HELD)
            far.release(grant, make_ending(3), keep_hold=False)
        record = record_of(Leases(b), key)
        assert (record.run, [run.status for run in record.history]) == (None, [3])


class Costs(Nodes):
    """The number of requests of each step of a run."""

    def test_requests(self, hooks: FaultHooks, key: str) -> None:
        """A skip is one request, and all goes over one connection."""
        with hooks.wired() as (wire, store):
            node, counts = Leases(store), []

            def count(step: Callable[[], object]) -> Any:
                before = wire.requests
                answer = step()
                counts.append(wire.requests - before)
                return answer

            grant = granted(count(lambda: node.acquire(make_claim(key, hold=LONG))))
            refused(count(lambda: node.acquire(make_claim(key))), HELD)
            assert count(lambda: node.renew(grant))
            assert count(lambda: node.release(grant, make_ending(), keep_hold=True))
            refused(count(lambda: node.acquire(make_claim(key))), HOLD)
            assert counts == [hooks.acquire + hooks.first, 1, hooks.renew, hooks.release, 1]
            assert wire.connections == 1 or not hooks.keeps_connections


class TLS(Nodes):
    """Servers that speak TLS, and those that do not."""

    def test_tls(self, hooks: FaultHooks, key: str) -> None:
        """A whole run; without trust in the server or to the port without TLS it is unavailable."""
        with type(hooks.server)(tls=True) as secure:
            with opened(secure.url()) as node:
                full_cycle(node, key)
            scheme = secure.url().partition("://")[0]
            with (
                opened(f"{scheme}://{HOST}:{secure.port}") as node,
                pytest.raises(BackendUnavailable, match="no TLS with the server"),
            ):
                node.read(key)
            with (
                opened(f"{scheme[:-1]}://{HOST}:{secure.port}", 2.0) as node,
                pytest.raises(BackendUnavailable, match=str(secure.port)),
            ):
                node.read(key)

    def test_tls_to_a_plain_port(self, hooks: FaultHooks, key: str) -> None:
        """It says that there is no TLS."""
        scheme = hooks.url_at().partition("://")[0]
        with (
            opened(f"{scheme}s://{HOST}:{hooks.server.port}") as node,
            pytest.raises(BackendUnavailable, match="no TLS"),
        ):
            node.read(key)


class Impostors(Nodes):
    """Servers of another kind."""

    #: Their reply to every request.
    nonsense: ClassVar[Sequence[bytes]] = ()

    @pytest.mark.parametrize("hangs_up", [True, False])
    def test_server_of_another_kind(self, hooks: FaultHooks, nonsense: bytes, hangs_up: bool) -> None:
        """Whatever it says, and whether it hangs up: unavailable, in one line, and nothing else."""
        with impostor(nonsense, hangs_up=hangs_up) as port:
            store = hooks.open_at(port, 0.4)
            calls: list[Callable[[], object]] = [
                lambda: store.read("key", time.monotonic() + 0.4),
                lambda: store.swap("key", NO_HOLD, a_text(), lease=60.0, hold=0.0, deadline=time.monotonic() + 0.4),
            ]
            for call in calls:
                with pytest.raises(BackendUnavailable, match=r"^[^\n]{1,400}$"):
                    call()
            store.close()


class URLs:
    """URLs that an engine refuses."""

    #: The URL and the message.
    bad_url: ClassVar[Sequence[tuple[str, str]]] = ()

    def test_bad_url(self, bad_url: tuple[str, str]) -> None:
        """It is refused before anything is asked, without the password."""
        url, said = bad_url
        with pytest.raises(ConfigError, match=said) as caught:
            open_backend(url, 1.0)
        assert not re.search("secret", str(caught.value))
