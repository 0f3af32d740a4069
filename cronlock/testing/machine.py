"""A Hypothesis state machine over any backend: three runs on two nodes, and a model of the rules."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cronlock.lease.vocabulary import CANCELLED, ENDED, HELD, HOLD, Claim, Conflict, Grant

from .hooks import LONG, Hooks, fresh_key, granted, make_claim, make_ending, refused

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

_SLOTS = st.integers(0, 2)


class _Run:
    """One run, as its node and the model see it."""

    def __init__(self, node: Backend, claim: Claim) -> None:
        self.node = node
        self.claim = claim
        self.grant: Grant | None = None


class LeaseMachine(RuleBasedStateMachine):
    """One key of a shared server. `hooks` and `nodes` come with `machine_for`."""

    hooks: Hooks
    nodes: tuple[Backend, Backend]

    def __init__(self) -> None:
        super().__init__()
        self.key = fresh_key("machine")
        #: The run of each slot, from its first try to its end.
        self.slots: list[_Run | None] = [None, None, None]
        #: Runs whose lease was lost, which may not know it yet.
        self.stale: list[_Run] = []
        # The model.
        #: Who has the lease.
        self.live: _Run | None = None
        #: A forced release was asked for where it has to wait for the holder.
        self.revoked = False
        #: Whose hold is not over.
        self.hold_owner: str | None = None
        #: `hold_owner` and `current` as they were before the grant, if that hold was ignored and is not over,
        #: or `current` was taken over.
        self.before: tuple[str | None, Claim | None] = (None, None)
        #: The run that was granted the key last, unless it ended by its own word.
        self.current: Claim | None = None
        self.last_ended: Claim | None = None
        #: Of `current`: whether somebody took lease or hold from it by force.
        self.forced = False
        #: Runs that said their end too late; backends may remember it, and then nobody takes them over.
        self.spoke: list[Claim] = []
        #: Whether it is open if `current` is still known, since it was not there when its hold ended.
        self.unsure = False
        #: The owner that released or gave up last, which must not get the key again.
        self.finished: _Run | None = None
        self.fence = 0

    @initialize()
    def look_at_nothing(self) -> None:
        """A new key has no record."""
        assert self.nodes[0].read(self.key) is None

    @rule(slot=_SLOTS, hold=st.sampled_from([0.0, LONG]), ignore_hold=st.booleans())
    def start(self, slot: int, hold: float, ignore_hold: bool) -> None:
        """A new run asks for the key; refused, it ends."""
        if self.slots[slot] is not None:
            return
        node = self.nodes[slot % 2]
        ignore_hold = ignore_hold and self._records
        run = _Run(node, make_claim(self.key, hold=hold, ignore_hold=ignore_hold, host=f"node-{slot}"))
        answer = node.acquire(run.claim)
        if self.live is not None:
            self._names(refused(answer, HELD), self.live.claim.owner)
        elif self.hold_owner is not None and not ignore_hold:
            self._names(refused(answer, HOLD if self._records else HELD), self.hold_owner)
        else:
            self._take(slot, run, granted(answer))

    @precondition(lambda self: self._records and not self.unsure)
    @rule(slot=_SLOTS, hold=st.sampled_from([0.0, LONG]))
    def stand_by(self, slot: int, hold: float) -> None:
        """A run in standby for the last tick asks for the key: it is for the dead only, whatever their hold."""
        if self.slots[slot] is not None:
            return
        node = self.nodes[slot % 2]
        tick = "nobody" if self.current is None else _tick(self.current)
        run = _Run(node, make_claim(self.key, hold=hold, standby_for=tick, host=f"node-{slot}"))
        answer = node.acquire(run.claim)
        if self.current is None or self.forced or self.revoked:
            assert isinstance(answer, Conflict)
            assert answer.why in ((HELD, ENDED) if self.revoked else (ENDED,))
        elif self.live is not None:
            self._names(refused(answer, HELD), self.live.claim.owner)
        else:
            self._take(slot, run, granted(answer))

    @precondition(lambda self: self.live is not None and not self.revoked)
    @rule()
    def ask_again(self) -> None:
        """The holder asks again, since it never heard the answer: same lease."""
        assert self.live is not None
        assert self.live.grant is not None
        again = granted(self.live.node.acquire(self.live.claim))
        assert again.fence == self.live.grant.fence
        self.live.grant = again
        if self._records and self.hold_owner is None and self.live.claim.hold > 0:
            # It may begin anew: so does the run, whose owner hears of its grant as late as that.
            record = self.nodes[1].read(self.key)
            assert record is not None
            self.hold_owner = self.live.claim.owner if record.hold_remaining > 0 else None

    @precondition(lambda self: self.live is not None)
    @rule()
    def renew(self) -> None:
        """The holder renews, unless the lease was taken from it."""
        assert self.live is not None
        assert self.live.grant is not None
        assert self.live.node.renew(self.live.grant) == (not self.revoked)

    @precondition(lambda self: self.live is not None)
    @rule(keep_hold=st.booleans(), status=st.integers(0, 255))
    def release(self, keep_hold: bool, status: int) -> None:
        """The holder's run ends."""
        assert self.live is not None
        assert self.live.grant is not None
        run = self.live
        assert run.node.release(self.live.grant, make_ending(status), keep_hold=keep_hold) == (not self.revoked)
        if not self.revoked:
            self.last_ended, self.current = run.claim, None
            # What is left of a hold goes by the name of the run that ended last.
            left = self.hold_owner if keep_hold else self.before[0]
            self.hold_owner = run.claim.owner if left is not None else None
        self._end(run)

    @precondition(lambda self: self.live is not None and not self.revoked)
    @rule()
    def abandon(self) -> None:
        """The holder gives up before it ran anything."""
        assert self.live is not None
        self.live.node.abandon(self.live.claim)
        self.hold_owner, self.current = self.before
        self.forced = False
        self.unsure = self.unsure or self.current in self.spoke
        self._end(self.live)

    @precondition(lambda self: self.finished is not None)
    @rule()
    def late_duplicate(self) -> None:
        """An acquire of the owner that ended last comes in once more: it gets nothing."""
        assert self.finished is not None
        answer = self.finished.node.acquire(self.finished.claim)
        if self.live is None and self.hold_owner is None:
            refused(answer, CANCELLED)
        assert isinstance(answer, Conflict)

    @precondition(lambda self: self.live is not None and self.hooks.forces_time)
    @rule()
    def lapse(self) -> None:
        """The holder dies, and its lease lapses; its hold stays."""
        assert self.live is not None
        assert self.live.grant is not None
        self.hooks.lapse(self.live.node, self.live.grant)
        self.stale.append(self.live)
        self._empty_slot(self.live)

    @precondition(lambda self: self.hold_owner is not None and self.hooks.forces_time)
    @rule()
    def end_hold(self) -> None:
        """Time passes until the hold is over."""
        self.hooks.end_hold(self.nodes[0], self.key)
        takeover = self.live is not None and self.live.claim.standby_for is not None
        self.unsure = self.before[1] is not None and not takeover
        self.hold_owner, self.before = None, (None, self.before[1] if takeover else None)

    @precondition(lambda self: self._records and (self.live is not None or self.hold_owner is not None))
    @rule()
    def force_release(self) -> None:
        """Somebody takes lease and hold from whoever has them."""
        if self.live is None:
            assert self.hold_owner is not None
            # Where this had to wait for the holder, the hold ended with the lease.
            assert self.nodes[1].force_release(self.key, self.hold_owner)
            self.hold_owner, self.forced = None, self.current is not None
            return
        assert self.nodes[1].force_release(self.key, self.live.claim.owner)
        self.hold_owner, self.before = None, (None, None)
        self.forced = True
        if self.hooks.force_waits:
            self.revoked = True
        else:
            self.stale.append(self.live)
            self._empty_slot(self.live)

    @precondition(lambda self: self._records)
    @rule()
    def force_release_of_nobody(self) -> None:
        """A forced release that names nobody who is here does nothing."""
        assert not self.nodes[0].force_release(self.key, "nobody")

    @precondition(lambda self: self.stale and self.live is not None and not self.revoked)
    @rule(number=st.integers(0, 9), keep_hold=st.booleans())
    def stale_owner_acts(self, number: int, keep_hold: bool) -> None:
        """One whose lease was lost, and who does not know, can do no harm to the next one."""
        run = self.stale[number % len(self.stale)]
        assert run.grant is not None
        assert not run.node.renew(run.grant)
        assert not run.node.release(run.grant, make_ending(), keep_hold=keep_hold)
        self.spoke.append(run.claim)

    @invariant()
    def record_agrees(self) -> None:
        """What anyone reads is what the model says."""
        if not self._records:
            assert self._reads_as_free() == (self.live is None and self.hold_owner is None)
            return
        record = self.nodes[1].read(self.key)
        if record is None:
            assert self.live is None
            assert self.hold_owner is None
            return
        assert (record.remaining > 0) == (self.live is not None)
        # A forced release that waits may or may not show the hold until then.
        if not self.revoked:
            assert (record.hold_remaining > 0) == (self.hold_owner is not None)
        if self.live is not None:
            assert record.run is not None
            assert record.run.owner == self.live.claim.owner
        if self.last_ended is not None and self.current is None:
            assert record.last is not None

    @invariant()
    def at_most_one_live(self) -> None:
        """No two runs hold the key, each by the word of its own node."""
        holders = [run for run in self.slots if run is not None and run.grant is not None]
        assert len(holders) <= 1
        assert holders == ([] if self.live is None else [self.live])

    def teardown(self) -> None:
        """Leave nothing held on the shared server."""
        if self.live is not None and self.live.grant is not None:
            self.live.node.release(self.live.grant, make_ending(), keep_hold=False)

    @property
    def _records(self) -> bool:
        return self.nodes[0].traits.records

    def _reads_as_free(self) -> bool:
        record = self.nodes[1].read(self.key)
        assert record is None or record.untold
        return record is None

    def _names(self, conflict: Conflict, owner: str) -> None:
        assert conflict.remaining > 0
        assert (conflict.run is not None) == self._records
        if conflict.run is not None:
            assert conflict.run.owner == owner

    def _take(self, slot: int, run: _Run, grant: Grant) -> None:
        if grant.fence is not None:
            assert grant.fence > self.fence
            self.fence = grant.fence
        run.grant = grant
        self.slots[slot] = self.live = run
        takeover = run.claim.standby_for is not None
        self.before = (self.hold_owner, self.current) if self.hold_owner is not None or takeover else (None, None)
        self.current, self.forced, self.unsure = run.claim, False, False
        self.hold_owner = run.claim.owner if run.claim.hold or self.before[0] is not None else None

    def _end(self, run: _Run) -> None:
        # An owner that ended but was taken the lease from before is not the last of the record.
        if not self.revoked:
            self.finished = run
        self._empty_slot(run)

    def _empty_slot(self, run: _Run) -> None:
        self.live, self.revoked = None, False
        self.slots[self.slots.index(run)] = None


def _tick(claim: Claim) -> str:
    return claim.standby_for or claim.owner


def machine_for(hooks: Hooks, nodes: tuple[Backend, Backend]) -> type[LeaseMachine]:
    """Return the machine that drives these two nodes."""
    return type("BoundLeaseMachine", (LeaseMachine,), {"hooks": hooks, "nodes": nodes})


def run_machine(hooks: Hooks, *, examples: int = 25, steps: int = 20, shrink: bool = True) -> None:
    """Run the machine on two nodes of its own; always the same way where CI is set.

    Without `shrink` a failure is told as it was found: enough for who only wants one.
    """
    nodes = (hooks.open(), hooks.open())
    try:
        run_state_machine_as_test(
            machine_for(hooks, nodes),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize="CI" in os.environ,
                database=None,
                phases=[phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for node in nodes:
            node.close()
