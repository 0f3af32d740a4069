"""The run's dealings with its backend: asking until there is an answer, renewing, giving back."""

from __future__ import annotations

import os
import time

from .. import durations, keys
from ..engines import registry
from ..errors import BackendError, BackendUnavailable, ConfigError, CronlockError, GivenBack
from ..lease import timing
from ..lease.vocabulary import ENDED, FORGOTTEN, HELD, LOST, NOT_STARTED, Claim, Conflict, Ending
from ..process import orders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings
    from ..lease.clock import Clock
    from ..lease.sights import Sights
    from ..lease.vocabulary import Backend, Grant, Run
    from .log import Log

#: How often an acquire is tried that is not answered, within twice the time limit of one request.
_ATTEMPTS = 3
#: Pauses between looks at a held key, for --wait: from, up to, and growing by.
_FIRST_LOOK, _LONGEST_LOOK, _LOOK_GROWTH = 0.1, 2.0, 1.5


class Holding:
    """A grant, and what this machine's clock says of it."""

    __slots__ = ("deadline", "failure", "grant", "lost", "next_renewal")

    def __init__(self, grant: Grant, deadline: float, next_renewal: float) -> None:
        self.grant = grant
        #: D: when the lease must count as over.
        self.deadline = deadline
        #: When to ask next; None when there is nothing more to ask.
        self.next_renewal: float | None = next_renewal
        #: Why the last renewals could not be asked, or None.
        self.failure: CronlockError | None = None
        #: Whether the backend said that it is not ours.
        self.lost = False

    def variables(self) -> dict[str, str]:
        """Return what the command is told of its lease."""
        grant, variables = self.grant, {}
        if grant.fence is not None:
            variables["CRONLOCK_FENCE"] = str(grant.fence)
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
            return "the backend says that it is not ours any more"
        return "it could not be renewed in time"


class Holder:
    """One run as its backend knows it: a claim, and the rules for asking."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Raises ConfigError or UsageError for what the backend cannot serve; asks nothing yet."""
        self._settings = settings
        self._clock = clock
        self._log = log
        self._backend: Backend = registry.open_configured(settings)
        if settings.backend is None:
            log.notice("no backend is configured: the file backend guards this machine only; see --backend")
        self._check_ttl()
        self._check_records()
        self._sights: Sights | None = None
        if not self._backend.traits.local and settings.state_dir is not None:
            from ..lease.sights import Sights

            self._sights = Sights(settings.state_dir, registry.place(settings.backend_url), settings.key, clock)
        #: The run whose tick is only to be taken over.
        self._awaited: Run | None = None
        #: The highest fence that this run was shown.
        self._shown = 0
        self._claim = self._new_claim()
        self._failures = 0
        #: When this run asked first, whatever for, and when for the present claim, by boot time.
        self._began: float | None = None
        self._first_sent: float | None = None
        #: Whether it may have been granted without our hearing of it.
        self._in_doubt = False
        #: Whether the backend gave this run an answer once: then its configuration can be used.
        self._answered = False

    @property
    def owner(self) -> str:
        """Return this run's id."""
        return self._claim.owner

    def acquire(self, pause: Callable[[float], None]) -> Holding | Conflict:
        """Ask until the key is ours, or held when --wait is over. Raises BackendError for no answer.

        `pause` sleeps so many seconds; what it raises ends the asking, and gives back what may be ours.
        """
        try:
            return self._ask(pause)
        finally:
            if self._in_doubt:
                self._abandon()

    def stand_by_for(self, run: Run) -> None:
        """From now on ask to take over the tick of `run`, should it die or give the key back, and nothing else."""
        self._awaited = run
        self._start_over()

    def until_it_changes(self) -> int | None:
        """Get ready to wait. Return a descriptor that can be read once the key may have changed, None if nothing tells.

        Raises BackendError when the backend does not answer. Where nothing tells, no connection is kept.
        """
        descriptor = self._backend.watch(self._settings.key)
        if descriptor is None:
            self._backend.close()
        return descriptor

    @property
    def local(self) -> bool:
        """Whether the backend guards this machine only."""
        return self._backend.traits.local

    def _ask(self, pause: Callable[[float], None]) -> Holding | Conflict:
        settings = self._settings
        give_up = self._clock.now() + settings.wait
        look = _FIRST_LOOK
        # Attempts in a row without an answer, and since when.
        failures, began = 0, 0.0
        while True:
            pause(0)
            now = self._clock.now()
            began = began if failures else now
            try:
                answer = self._request()
            except BackendUnavailable as error:
                failures += 1
                now = self._clock.now()
                tried = failures >= _ATTEMPTS or now - began >= 2 * settings.backend_timeout
                if tried and now >= give_up:
                    raise
                self._log.info(f"asking again: {error}")
                pause(timing.retry_pause(failures, settings.ttl, noise()))
                continue
            now = self._clock.now()
            if isinstance(answer, Holding) or now >= give_up:
                return answer
            failures = 0
            # A hold ends when it says; a lease may be released at any time.
            seconds = look * (0.5 + noise()) if answer.why == HELD else answer.remaining + 0.01
            look = min(look * _LOOK_GROWTH, _LONGEST_LOOK)
            pause(min(max(seconds, 0.01), give_up - now))

    def _request(self) -> Holding | Conflict:
        """Ask once. What may have been granted without our hearing of it stays in doubt."""
        now = self._clock.now()
        self._began = now if self._began is None else self._began
        if self._first_sent is None:
            self._first_sent = now
            if self._awaited is not None:
                self._claim.hold = timing.takeover_hold(self._settings.min_hold, now - self._began)
        self._claim.sight = None if self._sights is None else self._sights.recall()
        try:
            answer = self._backend.acquire(self._claim)
        except GivenBack:
            self._start_over()
            raise
        except BackendUnavailable:
            self._in_doubt = True
            raise
        except ConfigError as error:
            if not self._answered:
                raise
            # Credentials that cannot be had for a moment, a table that is being restored.
            self._in_doubt = True
            raise BackendUnavailable(str(error)) from error
        self._answered = True
        if isinstance(answer, Conflict):
            answer = self._unless_forgotten(answer)
        self._note(answer)
        if isinstance(answer, Conflict):
            if self._in_doubt:
                # A duplicate of an earlier request may still be on its way, and find the key free.
                self._abandon()
            self._start_over()
            return answer
        holding = Holding(
            answer,
            timing.deadline(self._first_sent, answer.ttl, self._backend.traits.granularity),
            self._first_sent + timing.renew_after(answer.ttl, noise()),
        )
        self._in_doubt = False
        if orders.decide(self._clock.now(), self.plan(holding))[0] != orders.WAIT:
            self.give_back(holding)
            self._start_over()
            raise GivenBack("the answer came too late for the lease to be of use")
        fence = "" if answer.fence is None else f", fence {answer.fence}"
        self._log.info(f"acquired as {self.owner}{fence}, for {durations.show(answer.ttl)}")
        if answer.claim.standby_for is not None:
            self._log.warning("taking over from a run that died")
        self._say_drift(answer)
        return holding

    def _unless_forgotten(self, conflict: Conflict) -> Conflict:
        """Return `conflict`, or FORGOTTEN for an end that the server made up by losing the run stood by for."""
        fence = conflict.fence or 0
        if conflict.why == ENDED and fence < self._shown:
            # Whether the run ended is not known: its lease may be out, and the sight of it must stay as it is.
            return Conflict(FORGOTTEN, remaining=self._claim.doubt, run=conflict.run, fence=conflict.fence)
        self._shown = max(self._shown, fence)
        return conflict

    def _say_drift(self, grant: Grant) -> None:
        """Warn when the run before was started in another way, as by an image that is older or newer."""
        run, claim = grant.previous, grant.claim
        if run is not None and (run.program != claim.program or run.ttl != grant.ttl):
            from ..lease.describe import describe_drift

            text = describe_drift(run, claim.program, grant.ttl)
            if text is not None:
                self._log.warning(text)

    def _start_over(self) -> None:
        """Be a new owner, of whom no earlier request is on its way."""
        self._claim = self._new_claim()
        self._first_sent = None
        self._in_doubt = False

    def plan(self, holding: Holding) -> orders.Plan:
        """Return what the guard will keep to under `holding`."""
        ttl = holding.grant.ttl
        return orders.Plan(
            deadline=holding.deadline,
            grace=timing.grace(self._settings.kill_after, ttl),
            kill_after=self._settings.kill_after,
            kill_lead=timing.kill_lead(ttl),
        )

    def renew(self, holding: Holding) -> bool:
        """Ask for the lease to last, and note when to ask next. Returns whether the deadline moved."""
        sent = self._clock.now()
        try:
            ours = self._backend.renew(holding.grant)
        except (BackendUnavailable, ConfigError) as error:
            self._failures += 1
            holding.failure = error
            pause = timing.retry_pause(self._failures, holding.grant.ttl, noise())
            holding.next_renewal = self._clock.now() + pause
            self._log.info(f"renewal failed, asking again: {error}")
            return False
        except BackendError as error:
            holding.failure = error
            ours = False
        if not ours:
            holding.lost = True
            holding.next_renewal = None
            return False
        self._note(holding.grant)
        self._failures = 0
        holding.failure = None
        holding.deadline = timing.deadline(sent, holding.grant.ttl, self._backend.traits.granularity)
        holding.next_renewal = sent + timing.renew_after(holding.grant.ttl, noise())
        return True

    def release(
        self, holding: Holding, outcome: str, status: int | None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Release into the hold, saying how the run ended; a failure is said, not raised.

        A server that is away for a moment is asked again, as by `acquire`: a run whose end is not on record counts
        as dead, and a standby would do it once more.
        """
        # When the lease was lost because nobody answers, that is said already.
        lost = outcome == LOST
        limit = 0.0 if lost else 2 * self._settings.backend_timeout
        ending = Ending(outcome, status, self._clock.wall())
        failure = self._release(holding.grant, ending, limit, pause, keep_hold=True)
        if failure is not None:
            self._say_not_released(holding.grant, failure, self._log.info if lost else self._log.warning)

    def give_back(self, holding: Holding) -> None:
        """Release without a hold, since nothing was run."""
        ending = Ending(NOT_STARTED, None, self._clock.wall())
        # Once more for an answer that was lost, and no more: nothing hangs on it.
        for _ in range(2):
            failure = self._release(holding.grant, ending, 0.0, time.sleep, keep_hold=False)
            if failure is None:
                return
        self._say_not_released(holding.grant, failure, self._log.warning)

    def close(self) -> None:
        """Let go of the connection."""
        self._backend.close()

    def _release(
        self, grant: Grant, ending: Ending, limit: float, pause: Callable[[float], None], *, keep_hold: bool
    ) -> CronlockError | None:
        """Release, asking again for `limit` seconds while nobody answers; return why it could not be, or None.

        Asking twice does no harm: the owner is compared.
        """
        failures, began = 0, self._clock.now()
        while True:
            try:
                self._backend.release(grant, ending, keep_hold=keep_hold)
                return None
            except CronlockError as error:
                failures += 1
                left = limit - (self._clock.now() - began)
                if left <= 0 or not isinstance(error, (BackendUnavailable, ConfigError)):
                    return error
            pause(min(timing.retry_pause(failures, grant.ttl, noise()), left))

    def _say_not_released(self, grant: Grant, failure: CronlockError | None, say: Callable[[str], None]) -> None:
        say(f"could not release; the key stays held for up to {durations.show(grant.ttl)}: {failure}")

    def _abandon(self) -> None:
        try:
            self._backend.abandon(self._claim)
        except CronlockError:
            pass  # What may be ours lapses by itself; that nothing is run is said by the caller.

    def _note(self, answer: Grant | Conflict) -> None:
        """Remember what was seen, and say what the backend wants said."""
        if self._sights is not None:
            self._sights.remember(answer)
            if self._sights.problem is not None:
                self._log.info(f"cannot remember what was seen: {self._sights.problem}; see --state-dir")
        while self._backend.notices:
            self._log.warning(self._backend.notices.pop(0))

    def _check_ttl(self) -> None:
        traits, ttl = self._backend.traits, self._settings.ttl
        if not traits.shortest_ttl <= ttl <= traits.longest_ttl:
            raise self._settings.wrong(
                "ttl",
                f"{durations.show(ttl)} is not what this backend can keep: write "
                f"{durations.show(traits.shortest_ttl)} to {durations.show(traits.longest_ttl)}",
            )

    def _check_records(self) -> None:
        """Refuse what needs to know of the run before, where the backend does not."""
        if self._backend.traits.records:
            return
        if self._settings.standby:
            raise self._settings.wrong("standby", "this backend cannot tell whether a run ended or died: leave it out")
        if self._settings.ignore_hold:
            raise self._settings.wrong("ignore_hold", "this backend cannot tell a hold from a lease: leave it out")

    def _new_claim(self) -> Claim:
        settings, host, pid = self._settings, os.uname().nodename, os.getpid()
        return Claim(
            key=settings.key,
            owner=f"{keys.escape(host)}:{pid}:{os.urandom(8).hex()}",
            host=host,
            pid=pid,
            program=os.path.basename(settings.command[0]),
            ttl=settings.ttl,
            hold=settings.min_hold,
            ignore_hold=settings.ignore_hold,
            standby_for=None if self._awaited is None else self._awaited.tick,
            awaited_fence=None if self._awaited is None else self._awaited.fence,
        )


def noise() -> float:
    """Return a random number from 0 to 1."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
