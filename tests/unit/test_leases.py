"""Leases, as a run meets them: taken, kept and given up, on the simulated store, where time passes when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.vocabulary import ENDED, EXITED, HELD, HISTORY, HOLD, TIMED_OUT, Grant
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, refused, run_of

from .leases_bench import SHORT, Bench, K, all_of, died, held_back, past, record, run

if TYPE_CHECKING:
    from cronlock.lease.store import Cell
    from cronlock.lease.vocabulary import Backend


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

    def test_a_slow_refusal_is_an_answer(self, bench: Bench, b: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """A swap that is refused at the end of the time limit shows the winner: nothing needs to be asked again."""
        inner, late = bench.way_a.swap, [0.0]
        monkeypatch.setattr("cronlock.lease.leases.time.monotonic", lambda: late[0])

        def be_overtaken(*given: Any, **named: Any) -> tuple[bool, Cell]:
            granted(b.acquire(make_claim(K, owner="first")))
            late[0] = bench.way_a.timeout + 1.0
            return inner(*given, **named)

        bench.way_a.swap = be_overtaken  # type: ignore[method-assign]
        assert run_of(refused(bench.a.acquire(make_claim(K)), HELD)).owner == "first"

    def test_what_changes_all_the_time(self, bench: Bench, a: Backend) -> None:
        """Asking ends within the time limit."""
        bench.way_a.timeout = 0.05
        bench.way_a.swap = lambda key, *_, **__: (False, bench.server.show(key))  # type: ignore[method-assign]
        with pytest.raises(BackendUnavailable, match="faster than it can be read"):
            a.acquire(make_claim(K))

    def test_the_first_write_is_limited_by_the_store_alone(self, bench: Bench, a: Backend) -> None:
        """Only a key that others change is given up on here."""
        a.limit = -1.0
        granted(a.acquire(make_claim(K)))
        assert bench.way_a.swaps == 1


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
        shown = all_of(record(a))
        claim = make_claim(K, hold=3 * LONG, ignore_hold=True)
        granted(b.acquire(claim))
        b.abandon(claim)
        assert all_of(record(a)) == shown

    def test_giving_up_costs_nothing_where_nothing_was_asked(self, bench: Bench, a: Backend) -> None:
        """Not a request."""
        a.abandon(make_claim(K))
        assert (bench.way_a.reads, bench.way_a.swaps) == (0, 0)
