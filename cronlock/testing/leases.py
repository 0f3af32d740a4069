"""The promises of a backend without records (`Traits.records`): one run at a time, and the hold.

Only an engine that cannot be a store earns this, such as a queue; see `StoreContract` for all others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cronlock import keys
from cronlock.lease.vocabulary import HELD, Conflict, Grant

from .hooks import LONG, NASTY_KEYS, Hooks, Nodes, fresh_key, granted, make_claim, make_ending, race, record_of, refused

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class LeaseContract(Nodes):
    """The rules of a lease. Two nodes, `a` and `b`, are two backends that share one server."""

    def test_what_a_backend_has_besides_its_answers(self, a: Backend, key: str) -> None:
        """All that the program looks at is there, and makes sense; there is nothing to say yet."""
        assert a.notices == []
        assert not a.traits.records
        assert 0 < a.traits.shortest_ttl <= a.traits.longest_ttl
        assert a.traits.granularity >= 0
        assert isinstance(a.watch(key), (int, type(None)))

    # Taking a key

    def test_free_key_is_granted(self, a: Backend, key: str) -> None:
        """A free key is granted, for the requested ttl at most."""
        claim = make_claim(key)
        grant = granted(a.acquire(claim))
        assert grant.claim is claim
        assert 0 < grant.ttl <= LONG

    def test_held_key_is_refused(self, a: Backend, b: Backend, key: str) -> None:
        """To any other run, of the same node too."""
        granted(a.acquire(make_claim(key)))
        for node in (a, b):
            assert refused(node.acquire(make_claim(key)), HELD).remaining > 0

    def test_asking_again_gives_the_same_lease(self, a: Backend, b: Backend, key: str) -> None:
        """The owner that asks again, since the answer was lost, has what it has."""
        claim = make_claim(key)
        first, second = granted(a.acquire(claim)), granted(a.acquire(claim))
        assert first.fence == second.fence
        refused(b.acquire(make_claim(key)), HELD)
        assert a.renew(second)
        assert a.release(second, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(key)))

    def test_nasty_keys_stay_distinct(self, a: Backend, b: Backend) -> None:
        """Any allowed key works, and no two of them meet on the server."""
        grants = {key: granted(a.acquire(make_claim(keys.check(key)))) for key in NASTY_KEYS}
        for key in NASTY_KEYS:
            refused(b.acquire(make_claim(key)), HELD)
        for grant in grants.values():
            assert a.release(grant, make_ending(), keep_hold=False)

    def test_races_have_one_winner(self, hooks: Hooks, open_node: Callable[[], Backend], key: str) -> None:
        """Of many that ask at once exactly one gets the key, round after round."""
        nodes = [open_node() for _ in range(hooks.racers)]
        for _ in range(5):
            answers = race([_asking(node, key) for node in nodes])
            winners = [(node, grant) for node, grant in zip(nodes, answers) if isinstance(grant, Grant)]
            assert len(winners) == 1
            assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
            node, grant = winners[0]
            assert node.release(grant, make_ending(), keep_hold=False)

    # Keeping it, and giving it back

    def test_only_the_owner_renews_and_releases(self, a: Backend, b: Backend, key: str) -> None:
        """Its owner renews it any number of times; a forged grant is refused."""
        grant = granted(a.acquire(make_claim(key)))
        forged = Grant(make_claim(key), fence=grant.fence, ttl=grant.ttl, token=grant.token)
        assert not b.renew(forged)
        assert not b.renew(Grant(make_claim(fresh_key()), fence=1, ttl=LONG, token=grant.token))
        assert not b.release(forged, make_ending(), keep_hold=False)
        for _ in range(3):
            assert a.renew(grant)
            refused(b.acquire(make_claim(key)), HELD)

    def test_lapsed_lease_goes_to_another_for_good(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Once a lease lapsed and another took the key, the first can neither renew nor release."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, dead)
        heir = granted(b.acquire(make_claim(key)))
        assert not a.renew(dead)
        assert not a.release(dead, make_ending(), keep_hold=True)
        assert b.renew(heir)

    def test_released_key_is_free(self, a: Backend, b: Backend, key: str) -> None:
        """At once, whatever hold was asked for, and once."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(), keep_hold=False)
        assert not a.renew(grant)
        heir = granted(b.acquire(make_claim(key)))
        assert not a.release(grant, make_ending(), keep_hold=False)
        assert b.renew(heir)

    def test_abandon(self, a: Backend, b: Backend, key: str) -> None:
        """Giving up leaves neither lease nor hold, and may be repeated."""
        claim = make_claim(key, hold=LONG)
        a.abandon(claim)
        grant = granted(a.acquire(claim))
        a.abandon(claim)
        heir = granted(b.acquire(make_claim(key)))
        a.abandon(claim)
        assert not a.renew(grant)
        assert b.renew(heir)

    def test_abandon_leaves_others_alone(self, a: Backend, b: Backend, key: str) -> None:
        """Giving up while another holds the key takes nothing from it."""
        grant, claim = granted(a.acquire(make_claim(key))), make_claim(key)
        refused(b.acquire(claim), HELD)
        b.abandon(claim)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=False)

    # The hold

    def test_hold_outlasts_the_run(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A key whose run ended early stays taken until the hold is over."""
        grant = granted(a.acquire(make_claim(key, hold=hooks.short_hold)))
        assert a.release(grant, make_ending(3), keep_hold=True)
        assert refused(b.acquire(make_claim(key)), HELD).remaining > 0
        hooks.end_hold(a, key)
        assert b.release(granted(b.acquire(make_claim(key, hold=0.0))), make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(key)))

    def test_hold_outlives_the_dead(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """When a holder dies its lease lapses and its hold stays."""
        hooks.lapse(a, granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG))))
        refused(b.acquire(make_claim(key)), HELD)

    def test_lease_outlives_its_hold(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A hold shorter than the run ends unnoticed, and none is left after the release."""
        grant = granted(a.acquire(make_claim(key, hold=hooks.short_hold)))
        hooks.end_hold(a, key)
        refused(b.acquire(make_claim(key)), HELD)
        assert a.release(grant, make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(key)))

    # Records

    def test_held_key_reads_as_held(self, a: Backend, b: Backend, key: str) -> None:
        """Anybody sees that a key is held, not by whom; looking at a free one makes nothing."""
        assert a.read(key) is None
        grant = granted(a.acquire(make_claim(key)))
        record = record_of(b, key)
        assert record.opaque
        assert record.run is None
        assert a.release(grant, make_ending(), keep_hold=False)
        assert b.read(key) is None

    def test_keys_are_listed(self, a: Backend, b: Backend) -> None:
        """Every key that was used is listed, held or not."""
        held, ended, unused = fresh_key(), fresh_key(), fresh_key()
        granted(a.acquire(make_claim(held)))
        a.release(granted(a.acquire(make_claim(ended))), make_ending(), keep_hold=False)
        assert a.read(unused) is None
        if a.traits.lists_keys:
            listed = list(b.keys())
            assert (listed.count(held), listed.count(ended), listed.count(unused)) == (1, 1, 0)

    def test_close_can_be_repeated(self, a: Backend, b: Backend, open_node: Callable[[], Backend], key: str) -> None:
        """Closing can be repeated, raises nothing, and a node that never asked may close too."""
        open_node().close()
        a.release(granted(a.acquire(make_claim(key))), make_ending(), keep_hold=False)
        a.close()
        a.close()
        granted(b.acquire(make_claim(key)))

    @pytest.mark.parametrize("seed", range(20))
    def test_walk(self, hooks: Hooks, a: Backend, b: Backend, key: str, seed: int) -> None:
        """In any order of steps a key has one holder at a time, and is granted once it is free."""
        draw = random.Random(seed)
        live: tuple[Backend, Grant] | None = None
        holds = False
        for _ in range(15):
            if live is None:
                node, claim = draw.choice((a, b)), make_claim(key, hold=draw.choice([0.0, LONG]))
                answer = node.acquire(claim)
                if holds:
                    assert refused(answer, HELD).remaining > 0
                    if draw.random() < 0.5:
                        hooks.end_hold(a, key)
                        holds = False
                    continue
                live, holds = (node, granted(answer)), claim.hold > 0
            node, grant = live
            refused(draw.choice((a, b)).acquire(make_claim(key)), HELD)
            what = draw.choice(["again", "renew", "end", "end", "keep", "abandon", "lapse", "end hold"])
            if what == "again":
                live = node, granted(node.acquire(grant.claim))
            elif what == "renew":
                assert node.renew(grant)
            elif what == "end hold":
                if holds:
                    hooks.end_hold(node, key)
                    holds = False
            else:
                if what == "lapse":
                    hooks.lapse(node, grant)
                elif what == "abandon":
                    node.abandon(grant.claim)
                else:
                    assert node.release(grant, make_ending(), keep_hold=what == "keep")
                live, holds = None, holds and what in ("keep", "lapse")


def _asking(node: Backend, key: str) -> Callable[[], Grant | Conflict]:
    return lambda: node.acquire(make_claim(key))
