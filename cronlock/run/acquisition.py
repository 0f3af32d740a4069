"""Asking for a lease until there is an answer."""

from __future__ import annotations

import os

from .. import durations, keys
from ..errors import BackendUnavailable, ConfigError, CronlockError, GivenBack
from ..lease import timing
from ..lease.vocabulary import ENDED, HELD, PAUSED, STATE_LOST, Claim, Conflict
from .holding import Holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lease.vocabulary import Grant, Run
    from .holding import Access

#: How often an acquire is tried that is not answered, within twice the time limit of one request.
_ATTEMPTS = 3
#: What giving up has for itself of that, in time limits of one request.
_LAST_WORD = 0.2
#: Pauses between looks at a held key, for --wait: from, up to, and growing by.
_FIRST_LOOK, _LONGEST_LOOK, _LOOK_GROWTH = 0.1, 2.0, 1.5

#: Programs that run what they are given, by name without a version.
_SHARED = frozenset(
    "ash bash bundle busybox chronic dash docker env flock ionice java kubectl ksh "  # noqa: SIM905 - a list of words
    "nice node perl php python ruby sh ssh sudo timeout zsh".split()
)
_DIGITS = frozenset("0123456789")


class Acquisition:
    """One run's asking: as one owner until there is an answer, and as another one after that."""

    def __init__(self, access: Access) -> None:
        self.access = access
        #: The run whose tick is only to be taken over.
        self._awaited: Run | None = None
        #: Whether what failed on this host is left to others.
        self.defers = True
        #: The highest fence that this run was shown.
        self._shown = 0
        #: When this run asked first, whatever for, by boot time.
        self._began: float | None = None
        #: By when there must be an answer, or what may have been granted have been given back, by boot time.
        self._end = 0.0
        #: Owners that this run was, and gave up without an answer: the key may be theirs until their lease lapses.
        self._strays: set[str] = set()
        #: Whether the backend gave this run an answer once: then its configuration can be used.
        self._answered = False
        self._start_over()

    def _start_over(self) -> None:
        """Be a new owner, of whom no earlier request is on its way."""
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
        #: When the present owner asked first, by boot time.
        self._first_sent: float | None = None
        #: Whether it may have been granted without our hearing of it.
        self._in_doubt = False

    @property
    def claim(self) -> Claim:
        """What it asks for."""
        return self._claim

    @property
    def owner(self) -> str:
        """This run's id."""
        return self._claim.owner

    def stand_by_for(self, run: Run) -> None:
        """From now on ask to take over the tick of `run`, should it die or give the key back, and nothing else."""
        self._awaited = run
        self._start_over()

    def acquire(self, pause: Callable[[float], None]) -> Holding | Conflict:
        """Ask until the key is ours, or held when --wait is over. Raises BackendError for no answer.

        `pause` sleeps so many seconds; what it raises ends the asking, and gives back what may be ours.
        """
        try:
            return self._ask(pause)
        finally:
            if self._in_doubt:
                self._abandon()

    def _ask(self, pause: Callable[[float], None]) -> Holding | Conflict:
        settings, clock, limit = self.access.settings, self.access.clock, self.access.settings.backend_timeout
        give_up = clock.now() + settings.wait
        look = _FIRST_LOOK
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
                # Another attempt is to have as long as the last word.
                tried = failures >= _ATTEMPTS or now + seconds > self._end - 2 * _LAST_WORD * limit
                if tried and now >= give_up:
                    raise
                self.access.log.info(f"retrying: {error}")
                pause(min(seconds, give_up - now) if tried else seconds)
                continue
            now = clock.now()
            if isinstance(answer, Holding) or now >= give_up:
                return answer
            failures = 0
            # A hold ends when it says; a lease may be released at any time, and a paused key resumed.
            early = answer.why in (HELD, PAUSED)
            seconds = look * (0.5 + timing.jitter()) if early else answer.remaining + 0.01
            look = min(look * _LOOK_GROWTH, _LONGEST_LOOK)
            pause(min(max(seconds, 0.01), give_up - now))

    def _request(self) -> Holding | Conflict:
        """Ask once. Raises GivenBack for a lease that came too late."""
        answer = self._send_in_time()
        if not isinstance(answer, Conflict):
            return self._granted(answer)
        answer = self._unless_state_lost(answer)
        self.access.note(answer)
        if self._in_doubt:
            # A duplicate of an earlier request may still be on its way, and find the key free.
            self._abandon()
        self._start_over()
        if answer.run is not None and answer.run.owner in self._strays and answer.why != PAUSED:
            # No other run's doing, and so no skip.
            raise BackendUnavailable(
                "the lease was granted too late and could not be given back; "
                f"the key stays held for {durations.show(answer.remaining)}"
            )
        return answer

    def _send_in_time(self) -> Grant | Conflict:
        """Send the claim, again if the grant is heard late: this machine stood still, and the hold went on.

        It is to count from the run, not from before; asking again begins it anew.
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
        """Send the claim. What may have been granted without our hearing of it stays in doubt."""
        now = self.access.clock.now()
        self._began = now if self._began is None else self._began
        if self._first_sent is None:
            self._first_sent = now
            if self._awaited is not None:
                self._claim.hold = timing.takeover_hold(self.access.settings.min_hold, now - self._began)
        self._claim.defers = self.defers
        self._claim.watermark = None if self.access.watermarks is None else self.access.watermarks.recall()
        try:
            last_word = _LAST_WORD * self.access.settings.backend_timeout
            answer = self.access.within(self._end - last_word - now).acquire(self._claim)
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
        return answer

    def _granted(self, grant: Grant) -> Holding:
        """Hold what was granted, which counts from the first request of its owner."""
        from ..process import protocol

        assert self._first_sent is not None
        self.access.note(grant)
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
        self._say_drift(grant)
        return holding

    def _unless_state_lost(self, conflict: Conflict) -> Conflict:
        """Return `conflict`, or STATE_LOST for an end that the server made up by losing the run stood by for."""
        fence = conflict.fence or 0
        if conflict.why == ENDED and fence < self._shown:
            # Whether the run ended is not known: its lease may be out, and the watermark of it must stay as it is.
            return Conflict(STATE_LOST, remaining=self._claim.quarantine, run=conflict.run, fence=conflict.fence)
        self._shown = max(self._shown, fence)
        return conflict

    def _say_drift(self, grant: Grant) -> None:
        """Warn when the run before was started in another way, as by an image that is older or newer."""
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
            # What may be ours lapses by itself; that nothing is run is said by the caller.
            self._strays.add(self.owner)


def _program(command: list[str]) -> str:
    """Return the name of the command's program, by which runs of other jobs are noticed.

    Many jobs share a shell or the like, so that a checksum of what it was given stands behind its name. Parts with
    digits are left out: they change with a release or a day.
    """
    name = os.path.basename(command[0])
    if name.rstrip("0123456789.") not in _SHARED:
        return name
    words = [part for text in command[1:] for word in text.split() for part in word.split("/")]
    kept = " ".join(word for word in words if _DIGITS.isdisjoint(word))
    # Not a digest: hashlib takes longer to load than all else here. The modulus is a prime.
    return f"{name}({int.from_bytes(kept.encode(errors='surrogateescape'), 'big') % 16777213:06x})"
