"""Notifications about a key between renewals, if the engine has them.

A notification is a hint that somebody may have written. It may be lost, late or spurious, and the next renewal, which
comes anyway, finds out. So nothing retries for it, and nothing waits.
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
    """Notifications of others' writes to one key."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def listen(self, grant: Grant) -> tuple[int | None, bool]:
        """Return a descriptor that becomes readable after others' writes, and whether they wrote already.

        It is valid until the next renewal; call this again then. Raises CronlockError.
        """
        return self._notifier.listen(_cell(grant), time.monotonic() + _LIMIT)

    def heard(self, grant: Grant) -> bool:
        """Consume a notification; return True if others may have written.

        Raises CronlockError if no more can come before the next `listen`.
        """
        return self._notifier.heard(_cell(grant), time.monotonic() + _LIMIT)

    def notify(self) -> bool:
        """Wake the run that holds the key; return True if it should have heard. Raises nothing."""
        try:
            return self._notifier.notify(time.monotonic() + _LIMIT)
        except CronlockError:
            return False

    def close(self) -> None:
        """Close its own connections."""
        self._notifier.close()


def listener(store: Store, key: str) -> Listener | None:
    """Return a listener for others' writes to the key's cell; None if the store does not notify."""
    return Listener(store.notifier(key)) if store.traits.notifies else None  # type: ignore[attr-defined]


def _cell(grant: Grant) -> Cell:
    """Return the cell of the last swap, which `cronlock.lease.leases` stores in the token."""
    cell = getattr(grant.token, "cell", None)
    return cell if isinstance(cell, Cell) else Cell()
