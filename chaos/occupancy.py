"""How long a key may have been held by each cronlock process, as far as can be told from outside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from .history import BOTH, COMMAND, WRAPPER, Attempt, Fault, History

#: What a busy machine and the granularity of the backend's clock may add, in seconds.
SLACK = 3.0
#: By how many seconds an engine may end a lease late (cronlock-backends(7)); 0 unless it is listed.
LATE = {"memcached": 3.0, "memcached-three": 3.0, "etcd": 3.0, "dynamodb": 5.0, "s3": 5.0, "s3-moto": 5.0, "sqs": 2.0}
_NEVER = float("inf")
_KILL, _STOP = 9, 19


class FaultIndex:
    """The faults of a history, by what they hit."""

    def __init__(self, history: History) -> None:
        self._all = sorted(history.faults.values(), key=lambda fault: fault.begin)
        self._by_run: dict[str, list[Fault]] = {}
        #: By how many seconds a lease or a hold may end late.
        self.late = LATE.get(history.plan.get("backend", ""), 0.0)
        # On a file, a lock lives as long as a process that has it, also one that is stopped.
        self._lives_with_processes = history.plan.get("backend") == "file"
        for fault in self._all:
            if fault.run is not None:
                self._by_run.setdefault(fault.run, []).append(fault)

    def hits(self, attempt: Attempt) -> list[Fault]:
        """Return the faults that hit a process of this run."""
        return self._by_run.get(attempt.run, [])

    def during(self, begin: float, end: float) -> list[Fault]:
        """Return the faults that were not over yet at some moment from `begin` to `end`."""
        return [fault for fault in self._all if fault.begin <= end and fault.until() >= begin]

    def impairing(self, node: str, begin: float, end: float) -> list[Fault]:
        """Return those of them under which a node cannot be expected to do well."""
        return [fault for fault in self.during(begin, end) if fault.touches(node)]

    def near(self, attempt: Attempt) -> list[Fault]:
        """Return the faults that may have changed how an attempt ended."""
        end = _NEVER if attempt.ended is None else attempt.ended
        return [
            fault
            for fault in self.during(attempt.at, end)
            if fault.run in (None, attempt.run)
            and (not fault.nodes or fault.touches(attempt.node) or attempt.node in fault.nodes)
        ]

    def losses(self, begin: float) -> list[Fault]:
        """Return the faults before `begin` by which servers may have lost leases."""
        return [fault for fault in self._all if fault.begin <= begin and fault.loses_leases()]

    def stopped_until(self, attempt: Attempt) -> float:
        """Return when the last stopped process of a run that keeps its lock went on; minus infinity without one."""
        stops = [fault for fault in self.hits(attempt) if fault.signal == _STOP and self._lives_with_processes]
        return max((_NEVER if fault.end is None else fault.end for fault in stops), default=-_NEVER)

    def death(self, attempt: Attempt) -> float:
        """Return since when the wrapper cannot have renewed any more; infinity if the history does not say."""
        moments = [_NEVER if attempt.ended is None else attempt.ended]
        for fault in self.hits(attempt):
            if fault.process not in (WRAPPER, BOTH):
                continue
            if attempt.life is not None and attempt.life.start > fault.begin + attempt.ttl:
                continue  # It was stopped before it got the key, and went on.
            stopped = _NEVER if fault.end is None else fault.end - fault.begin
            if fault.signal == _KILL or (fault.signal == _STOP and stopped >= attempt.ttl):
                moments.append(fault.begin)
        return min(moments)


def alive_until(attempt: Attempt, around: FaultIndex) -> float:
    """Return the last sign of life of a run whose command was started.

    Once a fault killed the command itself, the run is over: what it leaves lives on, as under plain cron.
    """
    assert attempt.life is not None
    hit = any(fault.process == COMMAND and fault.signal == _KILL for fault in around.hits(attempt))
    return attempt.life.leader_last if hit else attempt.life.last


def held_until(attempt: Attempt, around: FaultIndex) -> float:
    """Return when the key must be free of an attempt, at the latest and without slack.

    `attempt.at` itself if it cannot have got the key.
    """
    death = around.death(attempt)
    if death == _NEVER:
        return _NEVER
    lapse = max(death + attempt.ttl + around.late, around.stopped_until(attempt))
    life = attempt.life
    if life is None:
        # A standby ends with the status of a skip, too, if it never heard whether it got the key.
        unheard = attempt.standby > 0 and bool(around.impairing(attempt.node, attempt.at, death))
        if attempt.status == attempt.skip_status and not unheard:
            return attempt.at
        # It may have had the key, and died or lost touch before it could give it back.
        return max(lapse, death + attempt.hold)
    held = life.start + attempt.hold + around.late
    if attempt.ended is not None and ended_well(attempt, around):
        return max(attempt.ended, held)
    return max(lapse, held)


def ended_well(attempt: Attempt, around: FaultIndex) -> bool:
    """Return True if the command ended by itself, and nothing kept its wrapper from telling the servers."""
    life = attempt.life
    if life is None or life.why != "done" or attempt.ended is None or attempt.status != life.end_status:
        return False
    return not around.impairing(attempt.node, life.start, attempt.ended)


class Occupancy:
    """When each run may have held one key."""

    def __init__(self, attempts: Sequence[Attempt], around: FaultIndex) -> None:
        """Of `attempts`, all of one key and in the order in which they were made."""
        self._attempts = attempts
        self._begins = [attempt.at for attempt in attempts]
        self._ends = [held_until(attempt, around) for attempt in attempts]
        # From here backwards nobody can have reached further than this.
        self._reach: list[float] = []
        reach = 0.0
        for end in self._ends:
            reach = max(reach, end)
            self._reach.append(reach)

    def by_another(self, ask: Attempt) -> bool:
        """Return True if somebody else may have held the key while `ask` asked."""
        return self.free_since(ask) is None

    def free_since(self, ask: Attempt) -> float | None:
        """Return since when nobody else can have held the key when `ask` asked; None if somebody may have.

        Minus infinity if nobody had before.
        """
        end = _NEVER if ask.ended is None else ask.ended
        last = -_NEVER
        for index in range(bisect_right(self._begins, end) - 1, -1, -1):
            if self._reach[index] <= last:
                break
            if self._attempts[index] is ask or self._ends[index] <= self._begins[index]:
                continue
            last = max(last, self._ends[index])
            if self._ends[index] + SLACK >= ask.at:
                return None
        return last
