"""The channel of one key (Pub/Sub): who writes what its run is to look at says so there.

Nothing is in a message: it comes behind what was written. A user of an ACL needs +subscribe, +publish and the
channel (&), without which a run looks when it renews.
"""

from __future__ import annotations

from .resp import ReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...lease.store import Cell
    from .resp import Server
    from .store import Transport


class Channel:
    """The `Notifier` of one key."""

    def __init__(self, transport: Transport, name: bytes, read: Callable[[float], Cell]) -> None:
        self._transport = transport
        self._name = name
        self._read = read
        self._subscriber: Server | None = None
        #: Whether the server refused: this user may not, or a proxy has no channels. It is not asked again.
        self._refused = False

    def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
        """Subscribe, by a connection of its own, and look what was written before that."""
        if self._refused:
            return None, False
        if self._subscriber is not None:
            return self._subscriber.fileno(), False
        subscriber = self._transport.server_of(self._name, deadline).beside()
        self._subscriber = subscriber
        try:
            answer = subscriber.ask([[b"SUBSCRIBE", self._name]], deadline)[0]
            if isinstance(answer, ReplyError):
                self._refused = True
                raise answer.refusal(self._transport.name)
            return subscriber.fileno(), self._read(deadline).data != seen.data
        except BaseException:
            self.close()
            raise

    def heard(self, seen: Cell, deadline: float) -> bool:  # noqa: ARG002 (a run says nothing to itself)
        """Take a message."""
        assert self._subscriber is not None
        try:
            self._subscriber.hear(deadline)
        except BaseException:
            self.close()
            raise
        return True

    def notify(self, deadline: float) -> bool:
        """Send a message; whether somebody received it, of those that the server knows."""
        answer = self._transport.ask([[b"PUBLISH", self._name, b""]], deadline, self._name)[0]
        if isinstance(answer, ReplyError):
            raise answer.refusal(self._transport.name)
        return isinstance(answer, int) and answer > 0

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
