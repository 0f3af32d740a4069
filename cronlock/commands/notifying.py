"""How soon a run notices a request in the record of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import durations
from ..lease.timing import LATEST_RENEWAL, LOCAL_POLL

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend, Run


def next_look(run: Run, backend: Backend) -> float:
    """Return within how many seconds the run reads the record by itself, if its machine reaches the backend."""
    poll = LOCAL_POLL if run.poll is None and backend.traits.local else run.poll
    renewal = run.ttl * LATEST_RENEWAL
    return renewal if poll is None else min(renewal, poll)


def notify(backend: Backend, key: str, within: float) -> str:
    """Notify the run that has the key, if the engine can; return for messages when it will notice.

    `within` is how many seconds that takes without a notification.
    """
    listener, latest = backend.listener(key), f"within {durations.show(within)}"
    if listener is not None and listener.notify():
        return f"at once, or {latest} if the notification is lost"
    return latest
