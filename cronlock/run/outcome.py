"""The outcome log: one line for each run and each skip. `FIELDS` documents its fields; times are seconds."""

from __future__ import annotations

from .. import durations
from ..lease.describe import describe, ending
from ..lease.vocabulary import NOT_STARTED
from ..system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..lease.vocabulary import Conflict, Grant
    from .log import Fields

#: The outcome of a skip; runs have the outcome of their records.
SKIPPED = "skipped"
#: The reason for a skip by --on-error skip, besides those of `Conflict`.
UNAVAILABLE = "unavailable"

#: (name, meaning) in the order of output.
FIELDS = (
    ("outcome", "How the run ended: exited, timeout, lost, stopped, not-started, or skipped."),
    ("status", "The exit status of cronlock."),
    (
        "why",
        "Reason for a skip: held, hold, paused, forgotten (the server lost state), ended (another run did the job), "
        "deferred (the command failed on this host; other hosts retry first), or unavailable.",
    ),
    ("holder", "For a skip: the host of the run that has the key, or had it last."),
    ("holder_pid", "For a skip: the process ID of that run."),
    ("remaining", "For a skip: seconds until the key can be free. Absent for a pause without end."),
    ("fence", "The fencing token of this run; for a skip, of the holder."),
    ("owner", "The id of this run, as in CRONLOCK_OWNER."),
    ("host", "The name of this machine."),
    ("program", "The command's name, without its arguments."),
    ("ttl", "The ttl of the lease, in seconds."),
    ("waited", "Seconds from the start of cronlock to the lease or the skip."),
    ("ran_for", "Seconds from the lease to the end of the command."),
    ("takeover", "True if the run replaced one that died or failed."),
    ("lease", "False if the command ran without a lease (--on-error run)."),
)


def of_skip(settings: Settings, conflict: Conflict, waited: float) -> tuple[str, Fields]:
    """Return text and fields of a skip."""
    fields: Fields = {"outcome": SKIPPED, "status": settings.skip_status, "why": conflict.why}
    run = conflict.run
    if run is not None:
        fields.update(holder=run.host, holder_pid=run.pid)
    if conflict.remaining != float("inf"):
        fields["remaining"] = round(conflict.remaining, 3)
    if conflict.fence is not None:
        fields["fence"] = conflict.fence
    fields.update(_here(settings), waited=round(waited, 3))
    return f"skipped: {describe(conflict)}", fields


def of_error(settings: Settings, error: Exception, waited: float) -> tuple[str, Fields]:
    """Return text and fields of a skip without an answer."""
    fields: Fields = {"outcome": SKIPPED, "status": settings.skip_status, "why": UNAVAILABLE}
    fields.update(_here(settings), waited=round(waited, 3))
    return f"skipped (--on-error skip): {error}", fields


def of_run(
    settings: Settings, grant: Grant | None, outcome: str, status: int, *, waited: float, ran_for: float
) -> tuple[str, Fields]:
    """Return text and fields of a run; `grant` is None if it ran without a lease."""
    fields: Fields = {"outcome": outcome, "status": status}
    if grant is not None:
        if grant.fence is not None:
            fields["fence"] = grant.fence
        fields["owner"] = grant.claim.owner
    fields.update(_here(settings))
    if grant is not None:
        fields["ttl"] = grant.ttl
    fields.update(waited=round(waited, 3), ran_for=round(ran_for, 3))
    if grant is None:
        fields["lease"] = False
    elif grant.claim.standby_for is not None:
        fields["takeover"] = True
    text = ending(outcome, status)
    return text if outcome == NOT_STARTED else f"ran: {text} after {durations.show(ran_for)}", fields


def _here(settings: Settings) -> Fields:
    return {"host": os.uname().nodename, "program": settings.command[0].rpartition("/")[2]}
