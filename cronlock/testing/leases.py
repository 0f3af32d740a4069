"""What every backend keeps, whatever else its server knows: one run at a time, and the hold.

A backend whose server keeps records, as all but one of cronlock's own do, earns the whole of
`BackendContract`, of which this is a part. One that has none (`Traits.records`) earns this alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from cronlock import keys
from cronlock.errors import BackendError
from cronlock.lease.vocabulary import CANCELLED, HELD, HOLD, Claim, Conflict, Grant, Sight

from .hooks import LONG, NASTY_KEYS, Hooks, fresh_key, granted, make_claim, make_ending, refused
from .machine import run_machine

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class LeaseContract:
    """The rules of a lease. Two nodes, `a` and `b`, are two backends that share one server."""

    @pytest.fixture
    def hooks(self) -> Hooks:
        """The backend's hooks; each backend's test class brings its own."""
        raise NotImplementedError

    @pytest.fixture
    def open_node(self, hooks: Hooks) -> Iterator[Callable[[], Backend]]:
        """What opens one more node, which is closed at the end."""
        nodes: list[Backend] = []

        def open_one() -> Backend:
            nodes.append(hooks.open())
            return nodes[-1]

        yield open_one
        for node in nodes:
            node.close()

    @pytest.fixture
    def a(self, open_node: Callable[[], Backend]) -> Backend:
        """One node."""
        return open_node()

    @pytest.fixture
    def b(self, open_node: Callable[[], Backend]) -> Backend:
        """Another node."""
        return open_node()

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody used."""
        return fresh_key()

    # Taking a key

    def test_what_a_backend_has_besides_its_answers(self, a: Backend, key: str) -> None:
        """All that the program looks at is there, and makes sense; there is nothing to say yet."""
        assert a.notices == []
        assert 0 < a.traits.shortest_ttl <= a.traits.longest_ttl
        assert a.traits.granularity >= 0
        assert isinstance(a.watch(key), (int, type(None)))

    def test_free_key_is_granted(self, a: Backend, key: str) -> None:
        """A key that nobody holds is granted, with a ttl of at most what was asked."""
        claim = make_claim(key)
        grant = granted(a.acquire(claim))
        assert grant.claim is claim
        assert 0 < grant.ttl <= LONG
        assert (grant.fence is not None and grant.fence > 0) if a.traits.fencing else grant.fence is None

    def test_same_node_is_refused_too(self, a: Backend, key: str) -> None:
        """Another run of the same node is as strange as one of another node."""
        granted(a.acquire(make_claim(key)))
        refused(a.acquire(make_claim(key)), HELD)

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
        assert len(grants) == len(NASTY_KEYS)
        for key, grant in grants.items():
            conflict = refused(b.acquire(make_claim(key)), HELD)
            if not a.traits.records:
                continue
            assert conflict.run is not None
            record = b.read(key)
            assert record is not None
            assert record.run is not None
            assert record.run.owner == grant.claim.owner
        if a.traits.lists_keys:
            assert set(NASTY_KEYS) <= set(b.keys())
        for grant in grants.values():
            assert a.release(grant, make_ending(), keep_hold=False)

    def test_undecodable_words_break_nothing(self, a: Backend, b: Backend, key: str) -> None:
        """A program whose name is no UTF-8 is recorded somehow, and the key works on."""
        grant = granted(a.acquire(make_claim(key, program="job-\udcff\udc80")))
        conflict = refused(b.acquire(make_claim(key)), HELD)
        if a.traits.records:
            assert conflict.run is not None
            assert conflict.run.program.startswith("job-")
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=False)
        assert (b.read(key) is not None) == a.traits.records

    def test_races_have_one_winner(self, hooks: Hooks, open_node: Callable[[], Backend], key: str) -> None:
        """Of many that ask at once exactly one gets the key, round after round."""
        nodes = [open_node() for _ in range(hooks.racers)]
        for _ in range(5):
            answers = race(nodes, [make_claim(key) for _ in nodes])
            winners = [(node, grant) for node, grant in zip(nodes, answers) if isinstance(grant, Grant)]
            assert len(winners) == 1
            assert {answer.why for answer in answers if isinstance(answer, Conflict)} == {HELD}
            node, grant = winners[0]
            assert node.release(grant, make_ending(), keep_hold=False)

    # Keeping it

    def test_renewal_keeps_the_lease(self, a: Backend, b: Backend, key: str) -> None:
        """The owner renews as often as it likes, and others go on being refused."""
        grant = granted(a.acquire(make_claim(key)))
        for _ in range(3):
            assert a.renew(grant)
            refused(b.acquire(make_claim(key)), HELD)

    def test_only_the_owner_renews(self, a: Backend, b: Backend, key: str) -> None:
        """Nobody renews a lease in another's name, nor one that nobody was granted."""
        grant = granted(a.acquire(make_claim(key)))
        forged = Grant(make_claim(key), fence=grant.fence, ttl=grant.ttl, token=grant.token)
        assert not b.renew(forged)
        assert not b.renew(Grant(make_claim(fresh_key()), fence=1, ttl=LONG, token=grant.token))
        assert a.renew(grant)

    def test_released_lease_is_not_renewed(self, a: Backend, key: str) -> None:
        """After its release a lease is gone."""
        grant = granted(a.acquire(make_claim(key)))
        a.release(grant, make_ending(), keep_hold=False)
        assert not a.renew(grant)

    def test_lapsed_lease_goes_to_another_for_good(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Once a lease lapsed and another took the key, the first can neither renew nor release."""
        dead = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl)))
        hooks.lapse(a, dead)
        heir = granted(b.acquire(make_claim(key)))
        assert not a.renew(dead)
        assert not a.release(dead, make_ending(), keep_hold=True)
        assert b.renew(heir)
        assert_rising(dead, heir)
        if a.traits.records:
            record = b.read(key)
            assert record is not None
            assert record.run is not None
            assert record.run.owner == heir.claim.owner

    # Giving it back

    def test_released_key_is_free(self, a: Backend, b: Backend, key: str) -> None:
        """A release without hold frees the key at once, whatever hold was asked for."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(key)))

    def test_only_the_owner_releases(self, a: Backend, b: Backend, key: str) -> None:
        """A release in another's name does nothing and says so."""
        grant = granted(a.acquire(make_claim(key)))
        forged = Grant(make_claim(key), fence=grant.fence, ttl=grant.ttl, token=grant.token)
        assert not b.release(forged, make_ending(), keep_hold=False)
        refused(b.acquire(make_claim(key)), HELD)
        assert a.renew(grant)

    def test_second_release_does_nothing(self, a: Backend, b: Backend, key: str) -> None:
        """A release that is repeated cannot take the key from who has it next."""
        grant = granted(a.acquire(make_claim(key)))
        assert a.release(grant, make_ending(), keep_hold=False)
        heir = granted(b.acquire(make_claim(key)))
        assert not a.release(grant, make_ending(), keep_hold=False)
        assert b.renew(heir)

    def test_late_duplicate_after_release(self, a: Backend, b: Backend, key: str) -> None:
        """An acquire that comes in after its owner's release takes nothing."""
        claim = make_claim(key)
        assert a.release(granted(a.acquire(claim)), make_ending(), keep_hold=False)
        assert refused(a.acquire(claim), CANCELLED).remaining == 0
        granted(b.acquire(make_claim(key)))
        assert isinstance(a.acquire(claim), Conflict)

    def test_abandoned_key_is_free(self, a: Backend, b: Backend, key: str) -> None:
        """Giving up frees the key with no hold, and no run is recorded as ended."""
        claim = make_claim(key, hold=LONG)
        granted(a.acquire(claim))
        a.abandon(claim)
        record = b.read(key)
        assert record is None or record.last is None
        assert record is None or record.hold_remaining == 0
        granted(b.acquire(make_claim(key)))

    def test_late_duplicate_after_abandon(self, a: Backend, b: Backend, key: str) -> None:
        """An acquire that comes in after its owner gave up takes nothing."""
        claim = make_claim(key)
        granted(a.acquire(claim))
        a.abandon(claim)
        assert refused(a.acquire(claim), CANCELLED).remaining == 0
        granted(b.acquire(make_claim(key)))

    def test_abandon_before_the_acquire_arrives(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Giving up may overtake the acquire on its way: that then takes nothing."""
        claim = make_claim(key)
        a.abandon(claim)
        if not hooks.forgets_strangers:
            refused(a.acquire(claim), CANCELLED)
            granted(b.acquire(make_claim(key)))

    def test_abandon_leaves_others_alone(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Giving up while another holds the key takes nothing from it, and is remembered."""
        grant, claim = granted(a.acquire(make_claim(key))), make_claim(key)
        refused(b.acquire(claim), HELD)
        b.abandon(claim)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=False)
        if not hooks.forgets_strangers:
            refused(b.acquire(claim), CANCELLED)

    # The hold

    def test_hold_outlasts_the_run(self, a: Backend, b: Backend, key: str) -> None:
        """A key whose run ended early stays taken, and the refusal names that run and its end."""
        grant = granted(a.acquire(make_claim(key, hold=LONG)))
        assert a.release(grant, make_ending(3), keep_hold=True)
        conflict = held_back(b, key)
        assert 0 < conflict.remaining <= LONG + a.traits.granularity
        assert conflict.fence == grant.fence
        if a.traits.records:
            assert conflict.run is not None
            assert (conflict.run.owner, conflict.run.status) == (grant.claim.owner, 3)

    def test_hold_ends(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """Once the hold is over the key is free."""
        grant = granted(a.acquire(make_claim(key, hold=hooks.short_hold)))
        assert a.release(grant, make_ending(), keep_hold=True)
        hooks.end_hold(a, key)
        assert_rising(grant, granted(b.acquire(make_claim(key))))

    def test_no_hold_asked_for_none_kept(self, a: Backend, b: Backend, key: str) -> None:
        """With a hold of 0 there is none to keep."""
        assert a.release(granted(a.acquire(make_claim(key, hold=0.0))), make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(key)))

    def test_hold_outlives_the_dead(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """When a holder dies its lease lapses and its hold stays."""
        grant = granted(a.acquire(make_claim(key, ttl=hooks.short_ttl, hold=LONG)))
        hooks.lapse(a, grant)
        conflict = held_back(b, key)
        if a.traits.records:
            assert conflict.run is not None
            assert conflict.run.owner == grant.claim.owner
            assert conflict.run.ended_at is None
            granted(b.acquire(make_claim(key, ignore_hold=True)))

    def test_lease_outlives_its_hold(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A hold shorter than the run ends unnoticed, and none is left after the release."""
        grant = granted(a.acquire(make_claim(key, hold=hooks.short_hold)))
        hooks.end_hold(a, key)
        refused(b.acquire(make_claim(key)), HELD)
        assert a.release(grant, make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(key)))

    def test_own_hold_is_in_nobodys_way(self, hooks: Hooks, a: Backend, b: Backend, key: str) -> None:
        """A grant that lapsed before its owner heard of it is granted anew when that asks again."""
        claim = make_claim(key, ttl=max(hooks.short_ttl, 5.0) if hooks.forces_time else hooks.short_ttl, hold=LONG)
        unheard = granted(a.acquire(claim))
        hooks.lapse(a, unheard)
        grant = granted(a.acquire(claim))
        assert_rising(unheard, grant)
        assert a.renew(grant)
        refused(b.acquire(make_claim(key)), HELD)
        assert a.release(grant, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(key)))

    # The record

    def test_unused_key_has_no_record(self, a: Backend, key: str) -> None:
        """A key that nobody used has no record, and looking makes none."""
        assert a.read(key) is None
        assert a.read(key) is None
        if a.traits.lists_keys:
            assert key not in set(a.keys())

    def test_held_key_reads_as_held(self, a: Backend, b: Backend, key: str) -> None:
        """Anybody sees that a key is held, whether the backend tells by whom or not."""
        grant = granted(a.acquire(make_claim(key)))
        record = b.read(key)
        assert record is not None
        assert record.untold == (not a.traits.records)
        assert (record.run is not None) == a.traits.records
        assert a.release(grant, make_ending(), keep_hold=False)
        record = b.read(key)
        assert record is None or (record.run is None and not record.untold)

    def test_keys_are_listed(self, a: Backend, b: Backend) -> None:
        """Every key with a record is listed, held or not; a backend that cannot list says so."""
        if not a.traits.lists_keys:
            with pytest.raises(BackendError, match="cannot list"):
                a.keys()
            return
        held, ended = fresh_key(), fresh_key()
        granted(a.acquire(make_claim(held)))
        a.release(granted(a.acquire(make_claim(ended))), make_ending(), keep_hold=False)
        listed = list(b.keys())
        assert {held, ended} <= set(listed)
        assert len(listed) == len(set(listed))

    # A server that forgot

    def test_fence_is_above_the_floor(self, a: Backend, key: str) -> None:
        """A fence is higher than any that this node ever saw."""
        if not a.traits.fencing:
            return
        first = granted(a.acquire(make_claim(key)))
        a.release(first, make_ending(), keep_hold=False)
        assert first.fence is not None
        floor = first.fence + 10**9
        sight = Sight(floor, age=0.0, noticed_age=LONG)
        grant = granted(a.acquire(make_claim(key, ttl=min(LONG, a.traits.longest_ttl), sight=sight)))
        assert grant.fence is not None
        assert grant.fence > floor

    def test_sight_in_step_costs_nothing(self, a: Backend, b: Backend, key: str) -> None:
        """A server that shows what this node last saw is believed."""
        first = granted(a.acquire(make_claim(key)))
        a.release(first, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(key, sight=Sight(first.fence or 0, age=1e6, noticed_age=None))))

    # The rest

    def test_close_can_be_repeated(self, a: Backend, b: Backend, open_node: Callable[[], Backend], key: str) -> None:
        """Closing can be repeated, raises nothing, and a node that never asked may close too."""
        open_node().close()
        a.release(granted(a.acquire(make_claim(key))), make_ending(), keep_hold=False)
        a.close()
        a.close()
        granted(b.acquire(make_claim(key)))

    def test_state_machine(self, hooks: Hooks) -> None:
        """Whatever three runs on two nodes do, in any order, the model of the rules foretells it."""
        run_machine(hooks)


def held_back(node: Backend, key: str) -> Conflict:
    """Return the conflict of a key whose last run's hold is not over."""
    return refused(node.acquire(make_claim(key)), HOLD if node.traits.records else HELD)


def assert_rising(*grants: Grant) -> None:
    """Each fence is higher than the one before it, where there are fences."""
    fences = [grant.fence for grant in grants if grant.fence is not None]
    assert fences == sorted(set(fences))


def race(nodes: list[Backend], claims: list[Claim]) -> list[Grant | Conflict]:
    """Return the answers to all claims, asked at the same moment."""
    barrier = threading.Barrier(len(nodes))
    answers: list[Grant | Conflict | BaseException] = [AssertionError("no answer")] * len(nodes)

    def ask(number: int) -> None:
        barrier.wait()
        try:
            answers[number] = nodes[number].acquire(claims[number])
        except BaseException as error:
            answers[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        result.append(answer)
    return result
