"""The rules of a lease, as a run meets them: on the simulated store, where time passes when told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cronlock.errors import BackendUnavailable, ConfigError, GivenBack
from cronlock.lease.vocabulary import (
    DIED,
    ENDED,
    EXITED,
    HELD,
    HISTORY,
    HOLD,
    LOST,
    NOT_STARTED,
    RELEASED,
    STATE_LOST,
    TIMED_OUT,
    Grant,
    Record,
    Watermark,
)
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, record_of, refused, run_of

from .leases_bench import LATE, UNACKNOWLEDGED, UNHEARD, Bench
from .leases_bench import LOST as LOST_ON_ITS_WAY

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

K = "job"
#: A ttl that tests let lapse.
SHORT = 10.0


@pytest.fixture
def bench() -> Bench:
    """A server of its own."""
    return Bench()


@pytest.fixture
def a(bench: Bench) -> Backend:
    """One node."""
    return bench.a


@pytest.fixture
def b(bench: Bench) -> Backend:
    """Another node."""
    return bench.b


def run(node: Backend, status: int = 0, outcome: str = EXITED, **asked: float) -> Grant:
    """Have a run granted and ended, without a hold."""
    grant = granted(node.acquire(make_claim(K, **asked)))  # type: ignore[arg-type]
    assert node.release(grant, make_ending(status, outcome), keep_hold=False)
    return grant


def died(bench: Bench, node: Backend, *, hold: float = 0.0, **asked: object) -> Grant:
    """Have a run granted whose lease lapses."""
    grant = granted(node.acquire(make_claim(K, ttl=SHORT, hold=hold, **asked)))  # type: ignore[arg-type]
    bench.wait(SHORT)
    return grant


def held_back(node: Backend, *, hold: float, status: int = 0) -> Grant:
    """Have a run end that leaves a hold."""
    grant = granted(node.acquire(make_claim(K, hold=hold)))
    assert node.release(grant, make_ending(status), keep_hold=True)
    return grant


def record(node: Backend) -> Record:
    """Return the record, which must be there."""
    return record_of(node, K)


def past(node: Backend) -> list[tuple[str, str | None]]:
    """Return owners and outcomes of the history, the newest first."""
    return [(one.owner, one.outcome) for one in record(node).history]


def end(node: Backend, grant: Grant, how: str) -> None:
    """End a run in one of the ways of `ENDS`."""
    if how == "abandoned":
        node.abandon(grant.claim)
    else:
        assert node.release(grant, make_ending(), keep_hold=how == "hold kept")


ENDS = pytest.mark.parametrize("how", ["hold kept", "no hold kept", "abandoned"])


class TestTaking:
    """Claims: granted or refused."""

    def test_unused_key_has_no_record(self, a: Backend) -> None:
        """Looking makes none, nor does a refusal."""
        assert a.read(K) is None
        refused(a.acquire(make_claim(K, standby_for="nobody")), ENDED)
        assert a.read(K) is None
        assert list(a.keys()) == []

    def test_free_key_is_granted(self, a: Backend) -> None:
        """With the ttl asked for."""
        claim = make_claim(K)
        grant = granted(a.acquire(claim))
        assert grant.claim is claim
        assert (grant.ttl, grant.previous, grant.took_over) == (LONG, None, None)
        assert grant.fence
        assert list(a.keys()) == [K]

    def test_held_key_is_refused_and_names_its_holder(self, a: Backend, b: Backend) -> None:
        """On the same node and on others, with all that a person wants to know."""
        claim = make_claim(K, host="alpha", program="report", hold=LONG)
        grant = granted(a.acquire(claim))
        for node in (a, b):
            for ignore in (False, True):
                conflict = refused(node.acquire(make_claim(K, ignore_hold=ignore)), HELD)
                assert conflict.remaining == LONG
                holder = run_of(conflict)
                assert (holder.owner, holder.host, holder.pid) == (claim.owner, "alpha", 4711)
                assert (holder.program, holder.ended_at) == ("report", None)
                assert holder.started_at > 1e9
                assert conflict.fence == holder.fence == grant.fence

    def test_asking_again_renews_the_same_lease(self, bench: Bench, a: Backend, b: Backend) -> None:
        """An owner whose reply was lost keeps its lease, for the whole ttl from now on."""
        claim = make_claim(K, ttl=SHORT)
        first = granted(a.acquire(claim))
        bench.wait(6)
        second = granted(a.acquire(claim))
        assert first.fence == second.fence
        bench.wait(6)
        refused(b.acquire(make_claim(K)), HELD)
        assert a.renew(second)
        assert a.release(second, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(K)))

    def test_own_hold_does_not_refuse_its_owner(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A grant that lapsed before its owner got the reply is granted again."""
        claim = make_claim(K, ttl=SHORT, hold=LONG)
        unheard = granted(a.acquire(claim))
        bench.wait(SHORT)
        refused(b.acquire(make_claim(K)), HOLD)
        grant = granted(a.acquire(claim))
        assert (grant.fence or 0) > (unheard.fence or 0)
        assert a.release(grant, make_ending(), keep_hold=False)
        granted(b.acquire(make_claim(K)))
        assert past(a) == [(claim.owner, EXITED)]

    def test_words_come_back(self, a: Backend, b: Backend) -> None:
        """Host and program may be any text; what is no text is recorded somehow, what is long is cut."""
        program = "naïve \"job\"\n%0A%09=\t\\ '{}' \U0001f512"
        grant = granted(a.acquire(make_claim(K, host="a=b\nc\t", program=program)))
        holder = refused(b.acquire(make_claim(K)), HELD).run
        assert holder is not None
        assert (holder.host, holder.program) == ("a=b\nc\t", program)
        a.release(grant, make_ending(124, TIMED_OUT), keep_hold=False)
        (one,) = record(b).history
        assert (one.owner, one.host, one.pid, one.program) == (grant.claim.owner, "a=b\nc\t", 4711, program)
        assert (one.outcome, one.status, one.ttl, one.fence) == (TIMED_OUT, 124, LONG, grant.fence)
        assert one.ended_at is not None
        assert 1e9 < one.started_at <= one.ended_at
        for name in ("job-\udcff\udc80", "é" * 1000):
            granted(b.acquire(make_claim(K, program=name, ignore_hold=True, ttl=0.5)))
            bench_run = record(a).run
            assert bench_run is not None
            assert bench_run.program.startswith(name[:3])
            assert len(bench_run.program.encode()) <= 100
            b.force_release(K, bench_run.owner)

    def test_hold_that_no_store_can_keep(self, bench: Bench, a: Backend) -> None:
        """Is an error of the configuration, before anything is asked."""
        with pytest.raises(ConfigError, match="longer than this backend can keep"):
            a.acquire(make_claim(K, hold=bench.way_a.traits.longest_hold + 1))
        assert bench.way_a.reads == 0

    def test_what_a_run_costs(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A run is a read and two swaps, a renewal one swap, a skip one read."""
        grant = granted(a.acquire(make_claim(K)))
        assert (bench.way_a.reads, bench.way_a.swaps) == (1, 1)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        assert (bench.way_a.reads, bench.way_a.swaps) == (1, 3)
        granted(a.acquire(make_claim(K)))
        refused(b.acquire(make_claim(K)), HELD)
        assert (bench.way_b.reads, bench.way_b.swaps) == (1, 0)


class TestKeeping:
    """Renewals and releases."""

    def test_renewal_keeps_the_lease(self, bench: Bench, a: Backend, b: Backend) -> None:
        """For the whole ttl from now on, as often as one likes."""
        grant = granted(a.acquire(make_claim(K, ttl=SHORT)))
        for _ in range(3):
            bench.wait(6)
            assert a.renew(grant)
            refused(b.acquire(make_claim(K)), HELD)
        bench.wait(SHORT)
        assert a.renew(grant), "nobody else was granted it"
        refused(b.acquire(make_claim(K)), HELD)

    def test_only_the_owner_renews_and_releases(self, a: Backend, b: Backend) -> None:
        """A forged grant neither renews nor releases, whatever it names."""
        grant = granted(a.acquire(make_claim(K)))
        for token in (grant.token, None):
            for key in (K, fresh_key()):
                forged = Grant(make_claim(key), fence=grant.fence, ttl=LONG, token=token)
                assert not b.renew(forged)
                assert not b.release(forged, make_ending(), keep_hold=False)
        refused(b.acquire(make_claim(K)), HELD)
        assert a.renew(grant)

    def test_grant_without_its_token(self, a: Backend, b: Backend) -> None:
        """A grant that names only its owner finds the lease by reading."""
        grant = granted(a.acquire(make_claim(K)))
        again = Grant(grant.claim, fence=grant.fence, ttl=LONG)
        assert b.renew(again)
        assert b.release(again, make_ending(4), keep_hold=False)
        assert not a.renew(grant)
        assert past(a) == [(grant.claim.owner, EXITED)]

    def test_lapsed_lease_goes_to_another_for_good(self, bench: Bench, a: Backend, b: Backend) -> None:
        """The first can neither renew nor release, and takes nothing from its heir."""
        dead = died(bench, a)
        heir = granted(b.acquire(make_claim(K, hold=LONG)))
        assert not a.renew(dead)
        assert not a.release(dead, make_ending(), keep_hold=False)
        a.abandon(dead.claim)
        assert not a.force_release(K, dead.claim.owner)
        assert b.renew(heir)
        found = record(b)
        assert (run_of(found).owner, found.hold_remaining) == (heir.claim.owner, LONG)

    def test_release_frees_the_key(self, a: Backend, b: Backend) -> None:
        """At once, for the next one, and once."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert a.release(grant, make_ending(), keep_hold=False)
        assert not a.renew(grant)
        heir = granted(b.acquire(make_claim(K)))
        assert not a.release(grant, make_ending(), keep_hold=False)
        assert not a.renew(grant)
        assert b.renew(heir)

    def test_release_behind_the_ttl(self, bench: Bench, a: Backend) -> None:
        """A run that no other replaced records its end, however late."""
        dead = died(bench, a, hold=LONG)
        assert a.release(dead, make_ending(3), keep_hold=True)
        assert past(a) == [(dead.claim.owner, EXITED)]
        refused(a.acquire(make_claim(K)), HOLD)

    def test_races_on_one_version(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A node that lost the race between its read and its swap learns the winner."""
        inner = bench.way_b.read

        def read_and_be_overtaken(key: str, deadline: float, *, exact: bool = False) -> object:
            cell = inner(key, deadline, exact=exact)
            granted(a.acquire(make_claim(K, owner="first")))
            return cell

        bench.way_b.read = read_and_be_overtaken  # type: ignore[method-assign,assignment]
        conflict = refused(b.acquire(make_claim(K)), HELD)
        assert run_of(conflict).owner == "first"

    def test_what_changes_all_the_time(self, bench: Bench, a: Backend) -> None:
        """Asking ends within the time limit."""
        bench.way_a.timeout = 0.05
        bench.way_a.swap = lambda key, *_, **__: (False, bench.server.show(key))  # type: ignore[method-assign]
        with pytest.raises(BackendUnavailable, match="faster than it can be read"):
            a.acquire(make_claim(K))


class TestHold:
    """Holds, which keep a key from others after a run."""

    def test_hold_outlasts_the_run(self, bench: Bench, a: Backend, b: Backend) -> None:
        """From the grant on, and the refusal names that run and its end."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        bench.wait(100)
        assert a.release(grant, make_ending(3), keep_hold=True)
        conflict = refused(b.acquire(make_claim(K)), HOLD)
        assert (conflict.remaining, conflict.fence) == (LONG - 100, grant.fence)
        holder = run_of(conflict)
        assert (holder.owner, holder.status) == (grant.claim.owner, 3)
        bench.wait(LONG - 100)
        assert (granted(b.acquire(make_claim(K))).fence or 0) > (grant.fence or 0)

    def test_no_hold(self, a: Backend, b: Backend) -> None:
        """With a hold of 0 there is none."""
        held_back(a, hold=0.0)
        granted(b.acquire(make_claim(K)))

    def test_hold_outlives_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """When a holder dies its lease lapses and its hold stays."""
        dead = died(bench, a, hold=LONG)
        conflict = refused(b.acquire(make_claim(K)), HOLD)
        holder = run_of(conflict)
        assert (holder.owner, holder.ended_at) == (dead.claim.owner, None)
        granted(b.acquire(make_claim(K, ignore_hold=True)))

    def test_lease_outlives_its_hold(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A hold shorter than the run ends unnoticed."""
        grant = granted(a.acquire(make_claim(K, hold=SHORT)))
        bench.wait(SHORT)
        refused(b.acquire(make_claim(K)), HELD)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        granted(b.acquire(make_claim(K)))

    @ENDS
    def test_ignored_hold_goes_on(self, bench: Bench, a: Backend, b: Backend, how: str) -> None:
        """A run by hand within a hold leaves that hold as it was, however it ends."""
        first = held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, hold=2.0, ignore_hold=True)))
        assert (by_hand.fence or 0) > (first.fence or 0)
        assert record(a).hold_remaining == LONG
        bench.wait(100)
        end(b, by_hand, how)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        holder = first if how == "abandoned" else by_hand
        assert conflict.remaining == record(a).hold_remaining == LONG - 100
        assert run_of(conflict).owner == holder.claim.owner
        assert a.force_release(K, holder.claim.owner)
        granted(a.acquire(make_claim(K)))

    @ENDS
    def test_ignored_hold_of_the_dead_goes_on(self, bench: Bench, a: Backend, b: Backend, how: str) -> None:
        """So does the hold of a run that died, which is shown again when the run by hand gave up."""
        first = died(bench, a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, ignore_hold=True)))
        end(b, by_hand, how)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        holder = first if how == "abandoned" else by_hand
        assert run_of(conflict).owner == holder.claim.owner
        found = record(b)
        assert (found.run is None) == (found.last is not None) == (how != "abandoned")
        assert b.force_release(K, holder.claim.owner)
        granted(b.acquire(make_claim(K)))

    def test_longer_hold_of_a_run_by_hand(self, a: Backend, b: Backend) -> None:
        """A run by hand may hold the key for longer than before; without that hold the old one is left."""
        held_back(a, hold=LONG)
        second = granted(b.acquire(make_claim(K, hold=3 * LONG, ignore_hold=True)))
        assert b.release(second, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == 3 * LONG
        third = granted(b.acquire(make_claim(K, hold=6 * LONG, ignore_hold=True)))
        assert b.release(third, make_ending(), keep_hold=False)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == 3 * LONG

    def test_ignored_hold_ends_in_its_time(self, bench: Bench, a: Backend, b: Backend) -> None:
        """An ignored hold that ends during the run by hand does not come back."""
        held_back(a, hold=SHORT)
        by_hand = granted(b.acquire(make_claim(K, hold=LONG, ignore_hold=True)))
        bench.wait(SHORT)
        assert b.release(by_hand, make_ending(), keep_hold=False)
        granted(a.acquire(make_claim(K)))

    def test_ignored_hold_outlasts_asking_again(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A manual run that is granted again after its lease lapsed still leaves the hold that it ignored."""
        held_back(a, hold=LONG)
        claim = make_claim(K, ttl=SHORT, hold=3 * LONG, ignore_hold=True)
        granted(b.acquire(claim))
        granted(b.acquire(claim))
        bench.wait(SHORT)
        granted(b.acquire(claim))
        b.abandon(claim)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG - SHORT


class TestGivingUp:
    """A run that gave the key back has never been, but for the fence."""

    def test_abandoned_key_is_free(self, a: Backend, b: Backend) -> None:
        """With no hold, no record, and a higher fence for the next one."""
        claim = make_claim(K, hold=LONG)
        grant = granted(a.acquire(claim))
        a.abandon(claim)
        a.abandon(claim)
        assert b.read(K) is None
        assert not a.renew(grant)
        heir = granted(b.acquire(make_claim(K)))
        assert (heir.previous, (heir.fence or 0) > (grant.fence or 0)) == (None, True)
        a.abandon(claim)
        assert b.renew(heir)
        assert record(b).history == []

    def test_giving_up_leaves_others_alone(self, a: Backend, b: Backend) -> None:
        """Whoever has the key, or had it, keeps what it has."""
        grant, claim = granted(a.acquire(make_claim(K, hold=LONG))), make_claim(K)
        b.abandon(claim)
        refused(b.acquire(claim), HELD)
        b.abandon(claim)
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        b.abandon(claim)
        refused(b.acquire(make_claim(K)), HOLD)

    @pytest.mark.parametrize("before", ["ended", "died", "forced out", "full history"])
    def test_record_is_as_before(self, bench: Bench, a: Backend, b: Backend, before: str) -> None:
        """Run, history, last success and hold, whatever came before."""
        if before == "full history":
            for number in range(HISTORY + 3):
                run(a, status=number)
        grant = held_back(a, hold=LONG) if before == "ended" else died(bench, a, hold=LONG)
        if before == "forced out":
            assert b.force_release(K, grant.claim.owner)
        shown = _all_of(record(a))
        claim = make_claim(K, hold=3 * LONG, ignore_hold=True)
        granted(b.acquire(claim))
        b.abandon(claim)
        assert _all_of(record(a)) == shown

    def test_giving_up_costs_nothing_where_nothing_was_asked(self, bench: Bench, a: Backend) -> None:
        """Not a request."""
        a.abandon(make_claim(K))
        assert (bench.way_a.reads, bench.way_a.swaps) == (0, 0)


class TestStandby:
    """Standbys: which of them may take over a tick."""

    def test_standby_waits_for_the_living(self, a: Backend, b: Backend) -> None:
        """While the run that it stands by for has its lease, it is refused like anybody."""
        grant = granted(a.acquire(make_claim(K)))
        conflict = refused(b.acquire(make_claim(K, standby_for=grant.claim.owner)), HELD)
        assert (run_of(conflict).tick, conflict.remaining) == (grant.claim.owner, LONG)

    def test_standby_takes_over_from_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Within the hold of a run that died only a standby gets the key; a longer hold than its own goes on."""
        dead = died(bench, a, hold=LONG)
        refused(b.acquire(make_claim(K)), HOLD)
        grant = granted(b.acquire(make_claim(K, hold=LONG / 3, standby_for=dead.claim.owner)))
        assert grant.took_over == dead.fence
        found = record(a)
        current = run_of(found)
        assert (current.stands_for, current.took_over) == (dead.claim.owner, dead.fence)
        assert (current.tick, found.hold_remaining) == (dead.claim.owner, LONG - SHORT)
        assert b.renew(grant)
        assert b.release(grant, make_ending(), keep_hold=True)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG - SHORT
        assert [(one.outcome, one.stands_for, one.took_over) for one in record(a).history] == [
            (EXITED, dead.claim.owner, dead.fence),
            (DIED, None, None),
        ]

    def test_hold_of_a_takeover(self, bench: Bench, a: Backend, b: Backend) -> None:
        """One that asks for a longer hold than the dead run left has it, as any run would; or none."""
        dead = died(bench, a, hold=SHORT)
        grant = granted(b.acquire(make_claim(K, hold=LONG, standby_for=dead.claim.owner)))
        assert b.release(grant, make_ending(), keep_hold=True)
        conflict = refused(a.acquire(make_claim(K)), HOLD)
        assert (run_of(conflict).owner, conflict.remaining) == (grant.claim.owner, LONG)
        bench.wait(LONG)
        dead = died(bench, a)
        grant = granted(b.acquire(make_claim(K, standby_for=dead.claim.owner)))
        assert b.release(grant, make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(K)))

    @pytest.mark.parametrize("outcome", [EXITED, TIMED_OUT])
    @pytest.mark.parametrize("keep_hold", [True, False])
    def test_standby_leaves_at_the_end(self, a: Backend, b: Backend, outcome: str, keep_hold: bool) -> None:
        """Once a run ended, whatever its status, no standby repeats its tick."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert a.release(grant, make_ending(3, outcome), keep_hold=keep_hold)
        for awaited in (None, grant.fence):
            claim = make_claim(K, standby_for=grant.claim.owner, awaited_fence=awaited)
            conflict = refused(b.acquire(claim), ENDED)
            assert conflict.remaining == 0
            holder = run_of(conflict)
            assert (holder.owner, holder.outcome, holder.status) == (grant.claim.owner, outcome, 3)

    @pytest.mark.parametrize("outcome", [LOST, NOT_STARTED])
    def test_standby_takes_over_what_was_not_done(self, a: Backend, b: Backend, outcome: str) -> None:
        """A run that lost its lease, or could not be started, may still be taken over; its hold is the heir's."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert a.release(grant, make_ending(75, outcome), keep_hold=outcome == LOST)
        claim = make_claim(K, hold=LONG, standby_for=grant.claim.owner)
        heir = granted(b.acquire(claim))
        granted(b.acquire(claim))
        assert heir.took_over == grant.fence
        assert b.release(heir, make_ending(), keep_hold=True)
        refused(a.acquire(make_claim(K, standby_for=grant.claim.owner)), ENDED)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG

    def test_standby_leaves_a_later_run_alone(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A later tick is not the one that it stood by for, be its run alive, dead, or given back."""
        first = granted(a.acquire(make_claim(K)))
        assert a.release(first, make_ending(), keep_hold=False)
        claim = make_claim(K, standby_for=first.claim.owner, awaited_fence=first.fence)
        second = granted(a.acquire(make_claim(K, ttl=SHORT)))
        refused(b.acquire(claim), ENDED)
        a.abandon(second.claim)
        refused(b.acquire(claim), ENDED)
        died(bench, a)
        refused(b.acquire(claim), ENDED)

    @pytest.mark.parametrize(("gives_back", "begins"), [(True, True), (False, False)])
    def test_standby_waits_for_a_later_run(
        self, bench: Bench, a: Backend, b: Backend, gives_back: bool, begins: bool
    ) -> None:
        """While a later tick's run has the key behind one that died, it may give the key back."""
        dead = died(bench, a, hold=LONG)
        later = granted(a.acquire(make_claim(K, ignore_hold=True)))
        claim = make_claim(K, standby_for=dead.claim.owner, awaited_fence=dead.fence)
        assert refused(b.acquire(claim), HELD).run is not None
        if gives_back:
            a.abandon(later.claim)
        else:
            assert a.release(later, make_ending(), keep_hold=False)
        answer = b.acquire(claim)
        assert isinstance(answer, Grant) is begins
        if begins:
            assert granted(answer).took_over == dead.fence

    def test_takeover_of_a_takeover(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A standby takes over from a takeover that died, for the same tick."""
        first = died(bench, a, hold=LONG)
        second = granted(b.acquire(make_claim(K, ttl=SHORT, standby_for=first.claim.owner)))
        conflict = refused(a.acquire(make_claim(K, standby_for=first.claim.owner)), HELD)
        assert run_of(conflict).tick == first.claim.owner
        bench.wait(SHORT)
        third = granted(a.acquire(make_claim(K, standby_for=first.claim.owner)))
        assert third.took_over == second.fence
        found = record(b)
        assert run_of(found).tick == first.claim.owner
        assert [one.outcome for one in found.history] == [DIED, DIED]
        assert a.release(third, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=first.claim.owner)), ENDED)

    def test_takeover_asked_for_again(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A takeover whose reply was lost is granted again as the same one, whether its lease lapsed or not."""
        dead = died(bench, a, hold=LONG)
        claim = make_claim(K, ttl=SHORT, standby_for=dead.claim.owner)
        first, second = granted(b.acquire(claim)), granted(b.acquire(claim))
        assert (first.fence, first.took_over) == (second.fence, second.took_over)
        bench.wait(SHORT)
        assert granted(b.acquire(claim)).took_over == dead.fence

    @pytest.mark.parametrize("hold", [0.0, LONG])
    def test_abandoned_takeover_leaves_the_dead(self, bench: Bench, a: Backend, b: Backend, hold: float) -> None:
        """A takeover that is given up leaves the dead run and its hold to the next standby."""
        dead = died(bench, a, hold=hold)
        claim = make_claim(K, standby_for=dead.claim.owner)
        granted(b.acquire(claim))
        b.abandon(claim)
        if hold:
            refused(a.acquire(make_claim(K)), HOLD)
        heir = granted(a.acquire(make_claim(K, standby_for=dead.claim.owner)))
        assert heir.took_over == dead.fence

    def test_no_takeover_of_a_released_key(self, a: Backend, b: Backend) -> None:
        """A run that an operator released by force is not done again by a standby."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert b.force_release(K, grant.claim.owner)
        refused(b.acquire(make_claim(K, standby_for=grant.claim.owner, awaited_fence=grant.fence)), ENDED)
        granted(b.acquire(make_claim(K)))


class TestStandbyWithinAHold:
    """A standby respects a hold that no run of its tick left."""

    @pytest.mark.parametrize("how", ["could not start", "given back"])
    def test_a_run_by_hand_that_began_nothing(self, a: Backend, b: Backend, how: str) -> None:
        """If the earlier hold belongs to a run whose tick is done, its standby is refused."""
        held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, ignore_hold=True)))
        if how == "given back":
            b.abandon(by_hand.claim)
        else:
            assert b.release(by_hand, make_ending(127, NOT_STARTED), keep_hold=False)
        tick = by_hand.claim.owner
        refused(a.acquire(make_claim(K, standby_for=tick, awaited_fence=by_hand.fence)), HOLD)

    def test_a_word_that_came_before_the_answer(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A takeover that did not hear of its grant leaves the tick to the run that said its end meanwhile."""
        dead = died(bench, a, hold=LONG)
        claim = make_claim(K, standby_for=dead.claim.owner, awaited_fence=dead.fence)
        granted(b.acquire(claim))
        assert not a.release(dead, make_ending(), keep_hold=True)
        conflict = refused(b.acquire(claim), ENDED)
        holder = run_of(conflict)
        assert (holder.owner, holder.outcome) == (dead.claim.owner, EXITED)
        b.abandon(claim)
        assert past(a) == [(dead.claim.owner, EXITED)]

    def test_a_run_by_hand_that_died(self, bench: Bench, a: Backend, b: Backend) -> None:
        """One that began is taken over within that hold: it was told to run there."""
        held_back(a, hold=LONG)
        by_hand = died(bench, b, ignore_hold=True)
        granted(a.acquire(make_claim(K, standby_for=by_hand.claim.owner, awaited_fence=by_hand.fence)))


class TestRecord:
    """The record of a key, as anyone reads it."""

    def test_record_of_a_live_run(self, a: Backend, b: Backend) -> None:
        """The record shows the holder, what is left of lease and hold, and how the last run ended."""
        first = run(a, status=9)
        grant = granted(a.acquire(make_claim(K, hold=LONG / 2, program="report")))
        for _ in range(3):
            found = record(b)
            current = run_of(found)
            assert (current.owner, current.program) == (grant.claim.owner, "report")
            assert (current.fence, found.remaining, found.hold_remaining) == (grant.fence, LONG, LONG / 2)
            assert found.last is not None
            assert (found.last.owner, found.last.status) == (first.claim.owner, 9)
            assert not found.opaque
        assert a.renew(grant)

    def test_record_of_the_dead(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Is that of a run that did not end, until the next one starts; then it is shown as dead."""
        dead = died(bench, a)
        found = record(b)
        assert (run_of(found).owner, found.remaining, found.history) == (dead.claim.owner, 0.0, [])
        heir = granted(b.acquire(make_claim(K)))
        for outcomes in ([DIED], [EXITED, DIED]):
            one = record(a).history[-1]
            assert (one.owner, one.outcome, one.ended_at) == (dead.claim.owner, DIED, None)
            assert [other.outcome for other in record(a).history] == outcomes
            b.release(heir, make_ending(), keep_hold=False)

    def test_history_has_the_last_runs(self, a: Backend, b: Backend) -> None:
        """The newest first, and the last success however long ago it was."""
        grants = [run(a if number % 2 else b, number) for number in range(HISTORY + 6)]
        found = record(b)
        assert [one.status for one in found.history] == list(range(HISTORY + 5, 5, -1))
        assert [one.fence for one in found.history] == [grant.fence for grant in reversed(grants[6:])]
        assert found.success is not None
        assert (found.success.owner, found.success.fence) == (grants[0].claim.owner, grants[0].fence)
        assert found.success.succeeded
        assert found.success.ended_at is not None
        run(a)
        found = record(a)
        assert found.success is not None
        assert found.success.owner == found.history[0].owner != grants[0].claim.owner

    def test_grant_names_the_previous_run(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Whether that ended or died, and also to who asks again."""
        first = run(a, ttl=7.0)
        claim = make_claim(K, ttl=SHORT)
        for second in (granted(b.acquire(claim)), granted(b.acquire(claim))):
            assert second.previous is not None
            assert (second.previous.fence, second.previous.ttl) == (first.fence, 7.0)
        bench.wait(SHORT)
        third = granted(a.acquire(make_claim(K)))
        assert third.previous is not None
        assert third.previous.fence == second.fence

    def test_fences_rise(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Whichever way the run before ended."""
        grants = [run(a), granted(b.acquire(make_claim(K)))]
        b.abandon(grants[-1].claim)
        grants += [died(bench, a), held_back(b, hold=LONG)]
        assert a.force_release(K, grants[-1].claim.owner)
        bench.server.ahead = -1000.0
        grants.append(granted(a.acquire(make_claim(K))))
        fences = [grant.fence or 0 for grant in grants]
        assert fences == sorted(set(fences))


class TestForcedRelease:
    """Forced releases."""

    def test_forced_release_ends_a_lease(self, a: Backend, b: Backend) -> None:
        """The holder finds its lease gone, whatever it does, and the key goes to another."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert b.force_release(K, grant.claim.owner)
        assert not b.force_release(K, grant.claim.owner)
        found = record(b)
        assert (found.run, found.remaining, found.hold_remaining) == (None, 0.0, 0.0)
        assert not a.renew(grant)
        assert past(b) == [(grant.claim.owner, RELEASED)]
        heir = granted(b.acquire(make_claim(K)))
        assert not a.release(grant, make_ending(), keep_hold=True)
        a.abandon(grant.claim)
        assert b.renew(heir)
        assert past(b) == [(grant.claim.owner, RELEASED)]

    def test_forced_release_ends_a_hold(self, a: Backend, b: Backend) -> None:
        """And the record stays."""
        grant = held_back(a, hold=LONG)
        assert b.force_release(K, grant.claim.owner)
        assert not b.force_release(K, grant.claim.owner)
        assert record(b).hold_remaining == 0
        assert past(b) == [(grant.claim.owner, EXITED)]
        granted(b.acquire(make_claim(K)))

    def test_forced_release_spares_others(self, a: Backend, b: Backend) -> None:
        """Any other owner keeps its lease or hold."""
        grant = granted(a.acquire(make_claim(K, hold=LONG)))
        assert not b.force_release(K, "somebody-else")
        assert a.renew(grant)
        assert a.release(grant, make_ending(), keep_hold=True)
        assert not b.force_release(K, "somebody-else")
        refused(b.acquire(make_claim(K)), HOLD)
        assert not b.force_release(fresh_key(), grant.claim.owner)

    def test_forced_release_of_a_run_that_spoke_too_late(self, bench: Bench, a: Backend, b: Backend) -> None:
        """The hold of a run that said its end while another had the key ends by force like any other."""
        dead = died(bench, a, hold=LONG)
        by_hand = make_claim(K, ignore_hold=True)
        granted(b.acquire(by_hand))
        assert not a.release(dead, make_ending(), keep_hold=True)
        b.abandon(by_hand)
        refused(b.acquire(make_claim(K)), HOLD)
        assert b.force_release(K, dead.claim.owner)
        assert not b.force_release(K, dead.claim.owner)
        granted(b.acquire(make_claim(K)))

    def test_forced_release_ends_an_ignored_hold(self, a: Backend, b: Backend) -> None:
        """A forced release of a run by hand leaves no hold, whatever that run does then."""
        held_back(a, hold=LONG)
        by_hand = granted(b.acquire(make_claim(K, hold=LONG, ignore_hold=True)))
        assert a.force_release(K, by_hand.claim.owner)
        b.abandon(by_hand.claim)
        assert not b.release(by_hand, make_ending(), keep_hold=True)
        granted(a.acquire(make_claim(K)))


class TestFaultsOfBefore:
    """Each of these was answered wrongly by an engine while every engine had rules of its own."""

    def test_forced_release_is_remembered(self, a: Backend, b: Backend) -> None:
        """However many runs give the key back afterwards."""
        grant = granted(a.acquire(make_claim(K)))
        assert b.force_release(K, grant.claim.owner)
        for number in range(20):
            claim = make_claim(K)
            granted(b.acquire(claim))
            if number % 2:
                b.abandon(claim)
            else:
                assert b.force_release(K, claim.owner)
        assert not a.renew(grant)
        assert not a.release(grant, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=grant.claim.owner, awaited_fence=grant.fence)), ENDED)
        found = record(b)
        assert (found.run, found.remaining) == (None, 0.0)
        granted(b.acquire(make_claim(K)))

    @pytest.mark.parametrize("others", ["gave up", "ended", "nobody"])
    def test_late_request_takes_nothing(self, bench: Bench, a: Backend, b: Backend, others: str) -> None:
        """A late request of a run that gave up does not take the key, however many others had it since."""
        claim = make_claim(K)
        bench.way_a.fates = [LATE]
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        a.abandon(claim)
        for _ in range(0 if others == "nobody" else 20):
            other = make_claim(K)
            grant = granted(b.acquire(other))
            if others == "gave up":
                b.abandon(other)
            else:
                b.release(grant, make_ending(), keep_hold=False)
        assert bench.way_a.deliver() == [False]
        granted(b.acquire(make_claim(K)))

    @pytest.mark.parametrize("before", ["nothing", "a run", "a dead run"])
    def test_unrun_tick_is_left_to_a_standby(self, bench: Bench, a: Backend, b: Backend, before: str) -> None:
        """A run that gave up after a lost reply leaves its tick to the standbys."""
        if before == "a run":
            run(b)
        elif before == "a dead run":
            died(bench, b)
        bench.way_a.fates = [UNHEARD]
        claim = make_claim(K, hold=LONG)
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        conflict = refused(b.acquire(make_claim(K, standby_for=claim.owner)), HELD)
        a.abandon(claim)
        heir = granted(b.acquire(make_claim(K, standby_for=claim.owner, awaited_fence=conflict.fence)))
        assert heir.took_over == conflict.fence
        other = make_claim(K, standby_for=claim.owner, awaited_fence=conflict.fence)
        refused(a.acquire(other), HELD)
        assert b.release(heir, make_ending(), keep_hold=False)
        refused(a.acquire(other), ENDED)

    @pytest.mark.parametrize("spoke", ["while it was taken over", "after it was given up"])
    def test_late_report_does_the_tick(self, bench: Bench, a: Backend, b: Backend, spoke: str) -> None:
        """A run that reported its end before anyone else began its tick has done that tick."""
        x = died(bench, a, hold=LONG)
        y = make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)
        granted(b.acquire(y))
        if spoke == "while it was taken over":
            assert not a.release(x, make_ending(), keep_hold=True)
        b.abandon(y)
        if spoke == "after it was given up":
            assert a.release(x, make_ending(), keep_hold=True)
        refused(b.acquire(make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)), ENDED)
        assert past(b) == [(x.claim.owner, EXITED)]

    def test_dead_owner_leaves_its_heirs_hold(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A late give-up leaves the next run's hold."""
        x = died(bench, a)
        held_back(b, hold=LONG)
        a.abandon(x.claim)
        assert refused(a.acquire(make_claim(K)), HOLD).remaining == LONG

    def test_forced_release_of_the_dead_with_nothing_left(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A standby does not take over a key that was released by force, even if its lease was over."""
        x = died(bench, a)
        assert not b.force_release(K, x.claim.owner)
        refused(b.acquire(make_claim(K, standby_for=x.claim.owner, awaited_fence=x.fence)), ENDED)
        assert past(b) == [(x.claim.owner, RELEASED)]

    def test_record_behind_a_run_that_was_given_up(self, bench: Bench, a: Backend, b: Backend) -> None:
        """The one that died before it is shown."""
        x, claim = died(bench, a), make_claim(K)
        granted(b.acquire(claim))
        b.abandon(claim)
        found = record(b)
        assert (run_of(found).owner, found.remaining) == (x.claim.owner, 0.0)

    def test_forced_out_run_that_gives_up_is_shown(self, a: Backend, b: Backend) -> None:
        """It does not vanish."""
        grant = granted(a.acquire(make_claim(K)))
        assert b.force_release(K, grant.claim.owner)
        a.abandon(grant.claim)
        assert past(b) == [(grant.claim.owner, RELEASED)]


class TestForgotten:
    """A server that shows less than this node has seen."""

    SEEN = Watermark(10**17, age=100.0, loss_noticed_ago=None)

    def test_vanished_record_is_noticed(self, a: Backend) -> None:
        """The key counts as held for one ttl from when that was noticed."""
        conflict = refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)
        assert (conflict.remaining, conflict.run, conflict.fence) == (60.0, None, None)
        watermark = self.SEEN.but(loss_noticed_ago=25.0)
        assert refused(a.acquire(make_claim(K, ttl=60.0, watermark=watermark)), STATE_LOST).remaining == 35.0
        assert (
            refused(a.acquire(make_claim(K, ttl=60.0, watermark=watermark.but(ttl=90.0))), STATE_LOST).remaining == 65.0
        )
        assert a.read(K) is None
        grant = granted(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN.but(loss_noticed_ago=60.0))))
        assert (grant.fence or 0) > self.SEEN.fence

    def test_lower_fence_is_noticed(self, a: Backend, b: Backend) -> None:
        """Also where there is a record; what that says comes first."""
        first = granted(a.acquire(make_claim(K)))
        refused(b.acquire(make_claim(K, watermark=self.SEEN)), HELD)
        a.release(first, make_ending(), keep_hold=False)
        conflict = refused(b.acquire(make_claim(K, watermark=self.SEEN)), STATE_LOST)
        assert (conflict.fence, conflict.remaining) == (first.fence, LONG)

    def test_server_that_started_since(self, bench: Bench, a: Backend) -> None:
        """Is trusted once it is up for the ttl; one that was up before is not."""
        bench.way_a.up = 40.0
        assert refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST).remaining == 20.0
        bench.way_a.up = 60.0
        granted(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)))
        bench.server.forget(K)
        bench.way_a.up = 1000.0
        refused(a.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)

    def test_server_that_evicts(self, bench: Bench, a: Backend) -> None:
        """Only its start raises doubts."""
        bench.way_a.traits = bench.way_a.traits.but(evicts=True)
        bench.way_b.traits = bench.way_a.traits
        node = type(bench.a)(bench.way_a, bench.clock)
        bench.way_a.up = 40.0
        refused(node.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)), STATE_LOST)
        bench.way_a.up = 1000.0
        granted(node.acquire(make_claim(K, ttl=60.0, watermark=self.SEEN)))

    def test_watermark_in_step_costs_nothing(self, bench: Bench, a: Backend, b: Backend) -> None:
        """A server that shows what this node last saw is believed, and not asked for its uptime."""
        bench.way_b.up = 0.0
        first = run(a)
        granted(b.acquire(make_claim(K, watermark=Watermark(first.fence or 0, age=1e6, loss_noticed_ago=None))))

    def test_own_lease_is_not_doubted(self, a: Backend) -> None:
        """An owner that asks again keeps its lease."""
        claim = make_claim(K)
        granted(a.acquire(claim))
        granted(a.acquire(claim.but(watermark=self.SEEN)))


class TestLosses:
    """Requests and answers that are lost, late or doubled."""

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    @pytest.mark.parametrize("used", [False, True])
    def test_giving_up(self, bench: Bench, a: Backend, b: Backend, fate: str, used: bool) -> None:
        """After a lost answer and giving up, the key is as before, whatever arrives then."""
        if used:
            held_back(b, hold=LONG)
        shown = None if not used else _all_of(record(b))
        claim = make_claim(K, hold=3 * LONG, ignore_hold=True)
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.acquire(claim)
        bench.way_a.reads_fail = 1
        with pytest.raises(BackendUnavailable):
            a.abandon(claim)
        a.abandon(claim)
        assert bench.way_a.deliver() in ([], [False])
        found = b.read(K)
        assert (found and _all_of(found)) == shown
        granted(b.acquire(make_claim(K, ignore_hold=True)))

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    def test_giving_up_is_lost(self, bench: Bench, a: Backend, b: Backend, fate: str) -> None:
        """It can be asked again, also once another has the key."""
        claim = make_claim(K, hold=LONG)
        granted(a.acquire(claim))
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.abandon(claim)
        if fate != UNHEARD:
            refused(b.acquire(make_claim(K)), HELD)
            a.abandon(claim)
        heir = granted(b.acquire(make_claim(K, hold=LONG)))
        a.abandon(claim)
        assert bench.way_a.deliver() in ([], [False])
        assert b.renew(heir)
        assert record(b).hold_remaining == LONG

    @pytest.mark.parametrize("fate", [LOST_ON_ITS_WAY, UNHEARD, LATE])
    def test_forced_release(self, bench: Bench, a: Backend, b: Backend, fate: str) -> None:
        """A forced release whose reply was lost was done or can be repeated, and has no effect later."""
        grant = granted(b.acquire(make_claim(K, hold=LONG)))
        bench.way_a.fates = [fate]
        with pytest.raises(BackendUnavailable):
            a.force_release(K, grant.claim.owner)
        assert a.force_release(K, grant.claim.owner) == (fate != UNHEARD)
        assert not b.renew(grant)
        heir = granted(b.acquire(make_claim(K)))
        assert bench.way_a.deliver() in ([], [False])
        assert b.renew(heir)

    def test_grant_that_may_be_lost_is_given_back(self, bench: Bench, a: Backend, b: Backend) -> None:
        """Where too few replicas have a grant nothing is run, and the key is as before."""
        held_back(b, hold=LONG)
        shown = _all_of(record(b))
        bench.way_a.fates = [UNACKNOWLEDGED]
        with pytest.raises(GivenBack, match=r"too few replicas; the lease was given back"):
            a.acquire(make_claim(K, ignore_hold=True))
        assert _all_of(record(b)) == shown
        bench.way_a.fates = [UNACKNOWLEDGED, UNACKNOWLEDGED]
        with pytest.raises(GivenBack):
            a.acquire(make_claim(K, ignore_hold=True))
        assert _all_of(record(b)) == shown


def _all_of(found: Record) -> list[object]:
    """Return all of a record, to compare it."""
    return [found.run, found.remaining, found.hold_remaining, found.last, found.history, found.success]
