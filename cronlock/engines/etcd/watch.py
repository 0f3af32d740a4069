"""A watch on one key of etcd's: one request, whose endless reply has a line of JSON for each change."""

from __future__ import annotations

from ...errors import BackendUnavailable
from ..wire import http, json_text
from .cell import EtcdCell
from .messages import Answer, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.store import Cell
    from .api import Cluster

#: The longest unread part of the reply, in bytes. An event has the record, some 3 KB of base64.
_LONGEST = 1 << 18


class RecordWatch:
    """The `Notifier` of one key, over a connection of its own."""

    def __init__(self, cluster: Cluster, record: bytes) -> None:
        """`record` is the key of the record. Sends no request yet."""
        self._cluster = cluster
        self._record = record
        self._stream: _Stream | None = None

    def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
        """Watch for writes after `seen`."""
        if self._stream is None:
            self._stream = _Stream(self._cluster, self._record, _revision(seen), deadline)
        return self._stream.fileno(), self._stream.changed(_revision(seen))

    def heard(self, seen: Cell, deadline: float) -> bool:
        """Read the server's events; return whether one is of a write other than the run's own last."""
        assert self._stream is not None
        try:
            return self._stream.heard(_revision(seen), deadline)
        except BackendUnavailable:
            self.close()
            raise

    def notify(self, deadline: float) -> bool:  # noqa: ARG002 (the servers do)
        """Return True: the servers notify watches by themselves."""
        return True

    def close(self) -> None:
        """End the watch; raises nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _revision(seen: Cell) -> int:
    return seen.modified if isinstance(seen, EtcdCell) else 0


class _Stream:
    """One server's events of a key."""

    def __init__(self, cluster: Cluster, key: bytes, revision: int, deadline: float) -> None:
        """Watch `key` for writes after `revision`. Raises BackendUnavailable."""
        self._server = cluster.beside()
        self._answer = http.Answer()
        request = {"create_request": {"key": text_of(key), "start_revision": str(revision + 1)}}
        try:
            self._stream = self._server.follow("/v3/watch", request, deadline)
            if not self._next(deadline).truth("created"):
                raise self._failed("the server did not confirm it")
        except BackendUnavailable:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the connection's descriptor."""
        return self._stream.fileno()

    def changed(self, revision: int) -> bool:
        """Return True if an event received so far is of a write other than the one at `revision`."""
        return self._has_change(self._buffered(), revision)

    def heard(self, revision: int, deadline: float) -> bool:
        """Read the next events; return whether one is of a write other than the one at `revision`."""
        return self._has_change([self._next(deadline), *self._buffered()], revision)

    def close(self) -> None:
        """End the watch; raises nothing."""
        self._server.close()

    def _has_change(self, results: list[Answer], revision: int) -> bool:
        events = [event for result in results for event in result.parts("events")]
        return any(event.part("kv").number("mod_revision") != revision for event in events)

    def _next(self, deadline: float) -> Answer:
        """Return the next answer of the server."""
        self._stream.limit(deadline)
        while (line := self._answer.take_line()) is None:
            self._read()
        return self._result(line)

    def _buffered(self) -> list[Answer]:
        """Return the answers that were received already."""
        while self._stream.buffers():
            self._read()
        return [self._result(line) for line in iter(self._answer.take_line, None)]

    def _read(self) -> None:
        try:
            ended = self._answer.feed(self._stream.receive()) is not None
        except ValueError as error:
            raise self._failed(str(error)) from None
        if ended or self._answer.size > _LONGEST:
            raise self._failed("the watch ended")

    def _result(self, line: bytes) -> Answer:
        try:
            result = Answer(self._server.name, json_text.loads(line)).part("result")
        except (ValueError, RecursionError):
            raise self._failed("no JSON") from None
        if result.truth("canceled"):
            raise self._failed(result.text("cancel_reason")[:200])
        return result

    def _failed(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(f"{self._server.name}: the key cannot be watched: {why}")
