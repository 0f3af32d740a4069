"""A run's access to its backend, and the lease that it holds."""

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


#: Every request gets at least so many seconds, however late: enough for a healthy server.
_LEAST_LIMIT = 0.1
#: The least seconds between two renewals that notifications cause.
_LEAST_PERIOD = 1.0
#: Seconds for the release of a lost lease: it lapses by itself, and the server is probably down.
_LOST_RELEASE_LIMIT = 1.0


class Access:
    """The backend of one run, with this host's watermark of its key."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Raises ConfigError or UsageError for settings that the backend cannot serve. Sends no request."""
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
        """Return the backend with `limit` set to `seconds`, at most --backend-timeout."""
        self.backend.limit = min(max(seconds, _LEAST_LIMIT), self.settings.backend_timeout)
        return self.backend

    def watch_key(self) -> int | None:
        """Return a descriptor that becomes readable when the key may have changed; None: poll instead.

        None also closes the connection until the next poll. Raises BackendError.
        """
        descriptor = self.backend.watch(self.settings.key)
        if descriptor is None:
            self.backend.close()
        return descriptor

    def note(self, answer: Grant | Conflict, asked_at: float) -> None:
        """Update the watermark by an answer to a request of boot time `asked_at`, and print the backend's warnings."""
        if self.watermarks is not None:
            self.watermarks.remember(answer, asked_at)
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
        """Refuse options that need records, which SQS does not keep."""
        if self.backend.traits.records:
            return
        if self.settings.standby:
            raise self.settings.error_for("standby", "not supported by this backend, which keeps no records")
        if self.settings.ignore_hold:
            raise self.settings.error_for("ignore_hold", "not supported by this backend, which keeps no records")


class Holding:
    """A held lease and its deadline on this machine's clock."""

    def __init__(self, access: Access, grant: Grant, asked_at: float) -> None:
        """`asked_at` is the boot time of the first request for `grant`."""
        self._access = access
        self.grant = grant
        #: Why the last renewals failed, or None; and how many failed in a row.
        self.failure: CronlockError | None = None
        self._failures = 0
        #: True once the backend reported that another run has the key, or none.
        self.lost = False
        self._listener: Listener | None = None
        self._count_from(asked_at)

    def _count_from(self, sent: float) -> None:
        ttl, self._asked_at = self.grant.ttl, sent
        #: D: when the lease counts as over.
        self.deadline = timing.deadline(sent, ttl, self._access.backend.traits.granularity)
        #: When the guard starts to stop the command; a later answer is useless.
        self._too_late = self.deadline - timing.kill_lead(ttl) - timing.grace(self._access.settings.kill_after, ttl)
        #: None: no more renewals.
        self.next_renewal: float | None = sent + timing.renew_after(ttl, timing.jitter())

    def plan(self) -> Plan:
        """Return the guard's deadline and graces."""
        from ..process.protocol import Plan

        kill_after, ttl = self._access.settings.kill_after, self.grant.ttl
        return Plan(
            deadline=self.deadline,
            grace=timing.grace(kill_after, ttl),
            kill_after=kill_after,
            kill_lead=timing.kill_lead(ttl),
        )

    def variables(self) -> dict[str, str]:
        """Return the command's environment variables about its lease."""
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
        """Renew, and set the time of the next renewal. Return True if the deadline moved."""
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
        self._access.note(self.grant, sent)
        self._failures = 0
        self.failure = None
        self._count_from(sent)
        return True

    def stop_requested(self) -> bool:
        """Return True if somebody wrote to the key since our last write; False without an answer before the renewal."""
        left = 0.0 if self.next_renewal is None else self.next_renewal - self._access.clock.now()
        try:
            return self._access.within(left).stop_requested(self.grant)
        except CronlockError:
            return False

    def listen(self) -> int | None:
        """Return a descriptor that becomes readable after others' writes; None without notifications.

        If others wrote already, renew at once.
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
        """Consume a notification, and renew at once if others wrote; False if no more can come."""
        try:
            if self._listener is not None and self._listener.heard(self.grant):
                self.renew_at_once()
        except CronlockError:
            return False  # The next renewal finds out, and listens again.
        return True

    def renew_at_once(self) -> None:
        """Renew now, to learn what others wrote, but not more often than each `_LEAST_PERIOD`."""
        if self.next_renewal is not None:
            now = self._access.clock.now()
            self.next_renewal = min(self.next_renewal, max(now, self._asked_at + _LEAST_PERIOD))

    def release(
        self, outcome: str, status: int | None, ended_at: float, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Release into the hold, and record how the run ended at boot time `ended_at`. Log a failure, raise nothing.

        Retry like an acquire: a run without a recorded end counts as dead, and a standby would do it again.
        """
        # A lease lost without an answer was reported already.
        lost = self.lost or outcome == LOST
        limit = _LOST_RELEASE_LIMIT if outcome == LOST else 2 * self._access.settings.backend_timeout
        ending = Ending(outcome, status, self._access.clock.wall())
        failure = self._release(ending, ended_at + limit, None if lost else pause)
        if failure is not None:
            self._log_unreleased(failure, self._access.log.info if lost else self._access.log.warning)

    def give_back(self) -> bool:
        """Undo the grant, since nothing was run, so that another run may start. Log a failure, and return False."""
        return self._try_twice(lambda backend: backend.abandon(self.grant.claim))

    def not_started(self) -> None:
        """Release without a hold, and record that the command never started."""
        ending = Ending(NOT_STARTED, None, self._access.clock.wall())
        self._try_twice(lambda backend: backend.release(self.grant, ending, keep_hold=False))

    def _try_twice(self, request: Callable[[Backend], object]) -> bool:
        """Send a request at most twice: the lease lapses by itself anyway."""
        failure: CronlockError | None = None
        for _ in range(2):
            try:
                request(self._access.within(self._access.settings.backend_timeout))
                return True
            except CronlockError as error:
                failure = error
        self._log_unreleased(failure, self._access.log.warning)
        return False

    def _release(self, ending: Ending, until: float, pause: Callable[[float], None] | None) -> CronlockError | None:
        """Release; retry until boot time `until` without an answer, but only with a `pause`. Return the error or None.

        Retries are safe, since the store compares the owner.
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

    def _log_unreleased(self, failure: CronlockError | None, log: Callable[[str], None]) -> None:
        log(f"release failed; the key stays held for up to {durations.show(self.grant.ttl)}: {failure}")
