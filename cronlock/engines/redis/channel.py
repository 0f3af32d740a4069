"""The channel of one key (Pub/Sub), by which a writer notifies the key's run.

A message is empty, and follows the write. An ACL user needs +subscribe, +publish and the channel (&); without them, a
run finds out when it renews.
"""

from __future__ import annotations

from .resp import ReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...lease.store import Cell
    from .resp import Server, Transport


class Channel:
    """The `Notifier` of one key."""

    def __init__(self, transport: Transport, name: bytes, read: Callable[[float], Cell]) -> None:
        self._transport = transport
        self._name = name
        self._read = read
        self._subscriber: Server | None = None
        #: True if the server refused (no permission, or a proxy without channels), which is final.
        self._refused = False

    def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
        """Subscribe on a connection of its own, and check for writes before that."""
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

    def heard(self, seen: Cell, deadline: float) -> bool:  # noqa: ARG002 (a run does not notify itself)
        """Read a message; return True."""
        assert self._subscriber is not None
        try:
            self._subscriber.hear(deadline)
        except BaseException:
            self.close()
            raise
        return True

    def notify(self, deadline: float) -> bool:
        """Publish a message; return True if the server delivered it to a subscriber."""
        answer = self._transport.ask([[b"PUBLISH", self._name, b""]], deadline, self._name)[0]
        if isinstance(answer, ReplyError):
            raise answer.refusal(self._transport.name)
        return isinstance(answer, int) and answer > 0

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
