"""Acquiring the lease: ask until the backend answers."""

from __future__ import annotations

from .. import durations, keys
from ..errors import BackendUnavailable, ConfigError, CronlockError, GivenBack
from ..lease import timing
from ..lease.vocabulary import ENDED, HELD, PAUSED, STATE_LOST, Claim, Conflict
from ..system import os
from .holding import Holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lease.vocabulary import Grant, Run
    from .holding import Access

#: The most attempts of an acquire without an answer, within twice the time limit of one request.
_ATTEMPTS = 3
#: The part of that which is reserved for giving up, in time limits of one request.
_ABANDON_SHARE = 0.2
#: Pauses between polls of a held key for --wait: first, longest, growth.
_FIRST_POLL, _LONGEST_POLL, _POLL_GROWTH = 0.1, 2.0, 1.5

#: Programs that run their arguments, by name without a version.
_SHARED = frozenset(
    "ash bash bundle busybox chronic dash docker env flock ionice java kubectl ksh "  # noqa: SIM905 - a list of words
    "nice node perl php python ruby sh ssh sudo timeout zsh".split()
)
_DIGITS = frozenset("0123456789")


class Acquisition:
    """The acquire of one run, as the same owner until there is an answer, then as a fresh one."""

    def __init__(self, access: Access) -> None:
        self.access = access
        #: For a standby: the run whose tick it may take over.
        self._awaited: Run | None = None
        #: For a standby: leave a tick that failed on this host to others.
        self.defers = True
        #: The highest fence that this run has seen.
        self._highest_fence = 0
        #: Boot time of this run's first request.
        self._began: float | None = None
        #: Boot time of its last request.
        self._sent = 0.0
        #: Boot time by which there must be an answer, or giving up must be done.
        self._end = 0.0
        #: Earlier owners of this run whose giving up failed: each may hold the key until its lease lapses.
        self._strays: set[str] = set()
        #: True after the first answer, which proves that the configuration works.
        self._answered = False
        self._start_over()

    def _start_over(self) -> None:
        """Switch to a fresh owner, so that no request in flight can be ours."""
        settings, host, pid = self.access.settings, os.uname().nodename, os.getpid()
        self._claim = Claim(
            key=settings.key,
            owner=f"{keys.escape(host)}:{pid}:{os.urandom(8).hex()}",
            host=host,
            pid=pid,
            program=_program(settings.command),
            ttl=settings.ttl,
            hold=settings.min_hold,
            ignore_hold=settings.ignore_hold,
            ignore_pause=settings.ignore_pause,
            on_death=settings.standby_on != "failed",
            on_failure=settings.standby_on != "died",
            success=settings.success_status,
            attempts=settings.attempts,
            poll=settings.poll,
            standby_for=None if self._awaited is None else self._awaited.tick,
            awaited_fence=None if self._awaited is None else self._awaited.fence,
        )
        #: Boot time of the present owner's first request.
        self._first_sent: float | None = None
        #: True if an acquire may have succeeded although its reply was lost.
        self._in_doubt = False

    @property
    def claim(self) -> Claim:
        """The present claim."""
        return self._claim

    @property
    def owner(self) -> str:
        """This run's id."""
        return self._claim.owner

    def stand_by_for(self, run: Run) -> None:
        """From now on ask only to take over the tick of `run`, if it dies or gives the key back."""
        self._awaited = run
        self._start_over()

    def acquire(self, pause: Callable[[float], None]) -> Holding | Conflict:
        """Return the lease, or the conflict when --wait is over. Raises BackendError without an answer.

        `pause` sleeps for some seconds. An exception from it gives up, and undoes what may have been granted.
        """
        try:
            return self._ask(pause)
        finally:
            if self._in_doubt:
                self._abandon()

    def _ask(self, pause: Callable[[float], None]) -> Holding | Conflict:
        settings, clock, limit = self.access.settings, self.access.clock, self.access.settings.backend_timeout
        give_up = clock.now() + settings.wait
        poll = _FIRST_POLL
        # Attempts in a row without an answer.
        failures = 0
        while True:
            pause(0)
            if not failures:
                self._end = max(clock.now() + 2 * limit, give_up + limit)
            try:
                answer = self._request()
            except BackendUnavailable as error:
                failures += 1
                now, seconds = clock.now(), timing.retry_pause(failures, settings.ttl, timing.jitter())
                # Another attempt needs at least as long as giving up.
                tried = failures >= _ATTEMPTS or now + seconds > self._end - 2 * _ABANDON_SHARE * limit
                if tried and now >= give_up:
                    raise
                self.access.log.info(f"retrying: {error}")
                pause(min(seconds, give_up - now) if tried else seconds)
                continue
            now = clock.now()
            if isinstance(answer, Holding) or now >= give_up:
                return answer
            failures = 0
            # A hold ends as announced, but a lease may be released and a pause resumed at any time.
            early = answer.why in (HELD, PAUSED)
            seconds = poll * (0.5 + timing.jitter()) if early else answer.remaining + 0.01
            poll = min(poll * _POLL_GROWTH, _LONGEST_POLL)
            pause(min(max(seconds, 0.01), give_up - now))

    def _request(self) -> Holding | Conflict:
        """Ask once. Raises GivenBack if the lease came too late."""
        answer = self._send_in_time()
        if not isinstance(answer, Conflict):
            return self._granted(answer)
        answer = self._unless_state_lost(answer)
        self.access.note(answer, self._sent)
        if self._in_doubt:
            # A duplicate of an earlier request may be in flight, and find the key free.
            self._abandon()
        self._start_over()
        if answer.run is not None and answer.run.owner in self._strays and answer.why != PAUSED:
            # The key is held by this run itself, so this is not a skip.
            raise BackendUnavailable(
                "the lease was granted too late and could not be given back; "
                f"the key stays held for {durations.show(answer.remaining)}"
            )
        return answer

    def _send_in_time(self) -> Grant | Conflict:
        """Send the claim; send it again if the grant arrives late because this machine stood still.

        The hold counts from the request, and must cover the run: asking again starts it over.
        """
        clock, limit = self.access.clock, self.access.settings.backend_timeout
        for _ in range(_ATTEMPTS):
            sent = clock.now()
            answer = self._send()
            if isinstance(answer, Conflict) or not answer.claim.hold or clock.now() - sent <= limit:
                return answer
        self._in_doubt = True
        raise BackendUnavailable("this machine stalled repeatedly while it acquired the lease")

    def _send(self) -> Grant | Conflict:
        """Send the claim. After a lost reply the acquire is in doubt."""
        self._sent = now = self.access.clock.now()
        self._began = now if self._began is None else self._began
        if self._first_sent is None:
            self._first_sent = now
            if self._awaited is not None:
                self._claim.hold = timing.takeover_hold(self.access.settings.min_hold, now - self._began)
        self._claim.defers = self.defers
        self._claim.watermark = None if self.access.watermarks is None else self.access.watermarks.recall()
        try:
            reserve = _ABANDON_SHARE * self.access.settings.backend_timeout
            answer = self.access.within(self._end - reserve - now).acquire(self._claim)
        except GivenBack:
            self._start_over()
            raise
        except BackendUnavailable:
            self._in_doubt = True
            raise
        except ConfigError as error:
            if not self._answered:
                raise
            # Credentials that are unavailable for a moment, a table that is being restored.
            self._in_doubt = True
            raise BackendUnavailable(str(error)) from error
        self._answered = True
        return answer

    def _granted(self, grant: Grant) -> Holding:
        """Return the lease, counted from its owner's first request."""
        from ..process import protocol

        assert self._first_sent is not None
        self.access.note(grant, self._sent)
        self._in_doubt = False
        holding = Holding(self.access, grant, self._first_sent)
        if protocol.decide(self.access.clock.now(), holding.plan())[0] != protocol.WAIT:
            if not holding.give_back():
                self._strays.add(self.owner)
            self._start_over()
            raise GivenBack("the reply came too late to use the lease")
        fence = "" if grant.fence is None else f", fence {grant.fence}"
        self.access.log.info(f"acquired as {self.owner}{fence}, for {durations.show(grant.ttl)}")
        if grant.claim.standby_for is not None:
            failed = "" if grant.previous_status is None else f" with status {grant.previous_status}"
            self.access.log.warning(f"taking over from a run that {'ended' + failed if failed else 'died'}")
        self._warn_of_drift(grant)
        return holding

    def _unless_state_lost(self, conflict: Conflict) -> Conflict:
        """Return `conflict`, or STATE_LOST if it is ENDED only because the server lost the awaited run."""
        fence = conflict.fence or 0
        if conflict.why == ENDED and fence < self._highest_fence:
            # The run may still have its lease, so the watermark must stay.
            return Conflict(STATE_LOST, remaining=self._claim.quarantine, run=conflict.run, fence=conflict.fence)
        self._highest_fence = max(self._highest_fence, fence)
        return conflict

    def _warn_of_drift(self, grant: Grant) -> None:
        """Warn if the previous run had another program or ttl, as with an older or newer image."""
        run, claim = grant.previous, grant.claim
        if run is not None and (run.program != claim.program or run.ttl != claim.ttl):
            from ..lease.describe import describe_drift

            text = describe_drift(run, claim.program, claim.ttl)
            if text is not None:
                self.access.log.warning(text)

    def _abandon(self) -> None:
        try:
            self.access.within(self._end - self.access.clock.now()).abandon(self._claim)
        except CronlockError:
            # A lease that we may have lapses by itself. The caller reports that nothing was run.
            self._strays.add(self.owner)


def _program(command: list[str]) -> str:
    """Return a name for the command's program, which tells jobs apart that share a key by mistake.

    Shells and the like run many jobs, so a checksum of their arguments follows the name. It leaves out parts with
    digits, which change with a release or a day.
    """
    name = command[0].rpartition("/")[2]
    if name.rstrip("0123456789.") not in _SHARED:
        return name
    words = [part for text in command[1:] for word in text.split() for part in word.split("/")]
    kept = " ".join(word for word in words if _DIGITS.isdisjoint(word))
    # Not a digest: loading hashlib takes longer than all else here. The modulus is a prime.
    return f"{name}({int.from_bytes(kept.encode(errors='surrogateescape'), 'big') % 16777213:06x})"
