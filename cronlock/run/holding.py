"""A run's access to its backend, and the lease that it holds there."""

from __future__ import annotations

import time

from .. import durations
from ..engines import registry
from ..errors import BackendError, BackendUnavailable, ConfigError, CronlockError
from ..lease import timing
from ..lease.vocabulary import LOST, NOT_STARTED, Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..lease.clock import Clock
    from ..lease.listener import Listener
    from ..lease.vocabulary import Backend, Conflict, Grant
    from ..lease.watermarks import Watermarks
    from ..process.protocol import Plan
    from .log import Log


#: Seconds that any request gets, late as it may be: enough for a server that is well.
_LEAST = 0.1
#: Seconds at least between two renewals that others bring about.
_LEAST_PERIOD = 1.0
#: Seconds in which a run whose lease is lost says so: it lapses by itself, and the server is likely to be away.
_FAREWELL = 1.0


class Access:
    """The backend of one run, with what this node remembers of its key."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Raises ConfigError or UsageError for what the backend cannot serve; asks nothing yet."""
        self.settings = settings
        self.clock = clock
        self.log = log
        self.backend: Backend = registry.open_configured(settings)
        if settings.backend is None:
            log.notice("no backend is configured: the file backend guards this machine only; see --backend")
        self._check_ttl()
        self._check_records()
        self.watermarks: Watermarks | None = None
        if not self.backend.traits.local and settings.state_dir is not None:
            from ..lease.watermarks import Watermarks

            self.watermarks = Watermarks(
                settings.state_dir, registry.location(settings.backend_url), settings.key, clock
            )

    def within(self, seconds: float) -> Backend:
        """Return the backend, whose next call may take so long, and no longer than --backend-timeout."""
        self.backend.limit = min(max(seconds, _LEAST), self.settings.backend_timeout)
        return self.backend

    def until_it_changes(self) -> int | None:
        """Get ready to wait. Return a descriptor that can be read once the key may have changed, None if nothing tells.

        Raises BackendError when the backend does not answer. Where nothing tells, no connection is kept.
        """
        descriptor = self.backend.watch(self.settings.key)
        if descriptor is None:
            self.backend.close()
        return descriptor

    def note(self, answer: Grant | Conflict) -> None:
        """Remember what was seen, and say what the backend wants said."""
        if self.watermarks is not None:
            self.watermarks.remember(answer)
            if self.watermarks.problem is not None:
                self.log.info(f"cannot save what this host saw of the key: {self.watermarks.problem}; see --state-dir")
        while self.backend.notices:
            self.log.warning(self.backend.notices.pop(0))

    def _check_ttl(self) -> None:
        traits, ttl = self.backend.traits, self.settings.ttl
        if not traits.shortest_ttl <= ttl <= traits.longest_ttl:
            raise self.settings.error_for(
                "ttl",
                f"{durations.show(ttl)} is out of range for this backend "
                f"({durations.show(traits.shortest_ttl)} to {durations.show(traits.longest_ttl)})",
            )

    def _check_records(self) -> None:
        """Refuse what needs to know of the run before, where the backend does not."""
        if self.backend.traits.records:
            return
        if self.settings.standby:
            raise self.settings.error_for("standby", "not supported by this backend, which keeps no records")
        if self.settings.ignore_hold:
            raise self.settings.error_for("ignore_hold", "not supported by this backend, which keeps no records")


class Holding:
    """A lease that is ours, and what this machine's clock says of it."""

    def __init__(self, access: Access, grant: Grant, asked_at: float) -> None:
        """Hold `grant`, which was asked for first at `asked_at`, by boot time."""
        self._access = access
        self.grant = grant
        #: Why the last renewals could not be asked, or None; and how many there were in a row.
        self.failure: CronlockError | None = None
        self._failures = 0
        #: Whether the backend said that it is not ours.
        self.lost = False
        self._listener: Listener | None = None
        self._count_from(asked_at)

    def _count_from(self, sent: float) -> None:
        ttl, self._asked_at = self.grant.ttl, sent
        #: D: when the lease must count as over.
        self.deadline = timing.deadline(sent, ttl, self._access.backend.traits.granularity)
        #: When the guard begins to stop the command: an answer that comes later saves nothing.
        self._too_late = self.deadline - timing.kill_lead(ttl) - timing.grace(self._access.settings.kill_after, ttl)
        #: When to ask next; None when there is nothing more to ask.
        self.next_renewal: float | None = sent + timing.renew_after(ttl, timing.jitter())

    def plan(self) -> Plan:
        """Return what the guard is to keep to."""
        from ..process.protocol import Plan

        kill_after, ttl = self._access.settings.kill_after, self.grant.ttl
        return Plan(
            deadline=self.deadline,
            grace=timing.grace(kill_after, ttl),
            kill_after=kill_after,
            kill_lead=timing.kill_lead(ttl),
        )

    def variables(self) -> dict[str, str]:
        """Return what the command is told of its lease."""
        grant, variables = self.grant, {}
        if grant.fence is not None:
            variables["CRONLOCK_FENCE"] = str(grant.fence)
            variables["CRONLOCK_ATTEMPT"] = str(grant.attempt)
        if grant.previous_status is not None:
            variables["CRONLOCK_PREVIOUS_STATUS"] = str(grant.previous_status)
        if grant.claim.standby_for is not None:
            variables["CRONLOCK_TAKEOVER"] = "1"
            if grant.took_over is not None:
                variables["CRONLOCK_TAKEOVER_FENCE"] = str(grant.took_over)
        return variables

    def reason(self) -> str:
        """Say why the lease was lost."""
        if self.failure is not None:
            return str(self.failure)
        if self.lost:
            return "the key is no longer held by this run"
        return "not renewed in time"

    def renew(self) -> bool:
        """Ask for the lease to last, and note when to ask next. Returns whether the deadline moved."""
        clock, sent, settings = self._access.clock, self._access.clock.now(), self._access.settings
        limit = self._too_late - sent if settings.on_lost == "stop" else settings.backend_timeout
        try:
            ours = self._access.within(limit).renew(self.grant)
        except (BackendUnavailable, ConfigError) as error:
            self._failures += 1
            self.failure = error
            self.next_renewal = clock.now() + self._retry_pause(self._failures)
            self._access.log.info(f"renewal failed, retrying: {error}")
            return False
        except BackendError as error:
            self.failure = error
            ours = False
        if not ours:
            self.lost = True
            self.next_renewal = None
            return False
        self._access.note(self.grant)
        self._failures = 0
        self.failure = None
        self._count_from(sent)
        return True

    def stop_requested(self) -> bool:
        """Whether somebody wrote to the key since our last word; False where nobody answers before the next renewal."""
        left = 0.0 if self.next_renewal is None else self.next_renewal - self._access.clock.now()
        try:
            return self._access.within(left).stop_requested(self.grant)
        except CronlockError:
            return False

    def listen(self) -> int | None:
        """Return a descriptor that can be read once somebody may have written; None where nothing is heard.

        What was written already is looked at by a renewal at once.
        """
        self._listener = self._listener or self._access.backend.listener(self.grant.claim.key)
        if self._listener is None:
            return None
        try:
            descriptor, changed = self._listener.listen(self.grant)
        except CronlockError as error:
            self._access.log.info(f"will not be notified before the next renewal: {error}")
            return None
        if changed:
            self.renew_at_once()
        return descriptor

    def hear(self) -> bool:
        """Take what `listen`'s descriptor has, and renew at once if it is of others; False if nothing more comes."""
        try:
            if self._listener is not None and self._listener.heard(self.grant):
                self.renew_at_once()
        except CronlockError:
            return False  # The next renewal tells as well, and listens again.
        return True

    def renew_at_once(self) -> None:
        """Renew as soon as may be: the answer brings what others wrote."""
        if self.next_renewal is not None:
            now = self._access.clock.now()
            # However often it is notified, by whomever, a run does not flood its server.
            self.next_renewal = min(self.next_renewal, max(now, self._asked_at + _LEAST_PERIOD))

    def release(
        self, outcome: str, status: int | None, ended_at: float, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Release into the hold, saying how the run ended, by boot time when; a failure is said, not raised.

        A server that is away for a moment is asked again, as for the lease: a run whose end is not on record counts
        as dead, and a standby would do it once more.
        """
        # When the lease was lost because nobody answers, that is said already.
        lost = self.lost or outcome == LOST
        limit = _FAREWELL if outcome == LOST else 2 * self._access.settings.backend_timeout
        ending = Ending(outcome, status, self._access.clock.wall())
        failure = self._release(ending, ended_at + limit, None if lost else pause)
        if failure is not None:
            self._say_not_released(failure, self._access.log.info if lost else self._access.log.warning)

    def give_back(self) -> bool:
        """Leave the key as it was, as if it had never been ours: nothing was begun, and whoever stands by may begin.

        Returns whether it could be; that it could not is said.
        """
        return self._twice(lambda backend: backend.abandon(self.grant.claim))

    def not_started(self) -> None:
        """Release without a hold, and record that the command could not be started."""
        ending = Ending(NOT_STARTED, None, self._access.clock.wall())
        self._twice(lambda backend: backend.release(self.grant, ending, keep_hold=False))

    def _twice(self, ask: Callable[[Backend], object]) -> bool:
        """Ask once more for an answer that was lost, and no more: nothing hangs on it."""
        failure: CronlockError | None = None
        for _ in range(2):
            try:
                ask(self._access.within(self._access.settings.backend_timeout))
                return True
            except CronlockError as error:
                failure = error
        self._say_not_released(failure, self._access.log.warning)
        return False

    def _release(self, ending: Ending, until: float, pause: Callable[[float], None] | None) -> CronlockError | None:
        """Release, asking again until then while nobody answers; return why it could not be, or None.

        Asking twice does no harm: the owner is compared. Without a `pause` it is done once.
        """
        clock, failures = self._access.clock, 0
        while True:
            try:
                self._access.within(until - clock.now()).release(self.grant, ending, keep_hold=True)
                return None
            except CronlockError as error:
                failures += 1
                left = until - clock.now()
                if pause is None or left <= 0 or not isinstance(error, (BackendUnavailable, ConfigError)):
                    return error
            pause(min(self._retry_pause(failures), left))

    def _retry_pause(self, failures: int) -> float:
        return timing.retry_pause(failures, self.grant.ttl, timing.jitter())

    def _say_not_released(self, failure: CronlockError | None, say: Callable[[str], None]) -> None:
        say(f"release failed; the key stays held for up to {durations.show(self.grant.ttl)}: {failure}")
