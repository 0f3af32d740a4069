"""What a run hears of its key between its renewals, where the engine notifies.

A notification is a hint: somebody may have written. It may be lost, late, or about nothing; what is so the next
renewal tells, which comes anyhow. So nothing is asked twice for it, and nobody waits.
"""

from __future__ import annotations

import time

from ..errors import CronlockError
from .store import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import Notifier, Store
    from .vocabulary import Grant

#: Seconds for one request.
_LIMIT = 2.0


class Listener:
    """Hears of others' writes to one key."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def listen(self, grant: Grant) -> tuple[int | None, bool]:
        """Return a descriptor that can be read once others may have written, and whether they did already.

        It holds until the next renewal: then this is to be called again. Raises CronlockError where it fails.
        """
        return self._notifier.listen(_cell(grant), time.monotonic() + _LIMIT)

    def heard(self, grant: Grant) -> bool:
        """Take what made that descriptor readable; whether others may have written.

        Raises CronlockError once nothing more is heard until `listen` is called again.
        """
        return self._notifier.heard(_cell(grant), time.monotonic() + _LIMIT)

    def notify(self) -> bool:
        """Make the run that has the key look at once; whether it should hear of that. Raises nothing."""
        try:
            return self._notifier.notify(time.monotonic() + _LIMIT)
        except CronlockError:
            return False

    def close(self) -> None:
        """Let go of connections of its own."""
        self._notifier.close()


def listener(store: Store, key: str) -> Listener | None:
    """Return what hears of others' writes to the key's cell, None where nothing does."""
    return Listener(store.notifier(key)) if store.traits.notifies else None  # type: ignore[attr-defined]


def _cell(grant: Grant) -> Cell:
    """Return the cell of the last swap, as `cronlock.lease.leases` keeps it."""
    cell = getattr(grant.token, "cell", None)
    return cell if isinstance(cell, Cell) else Cell()
