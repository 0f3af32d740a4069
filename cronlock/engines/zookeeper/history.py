"""The runs of a key before now: a node beside the key's, so that who finds the key held need not read it.

It changes in the transactions only that also change the key's node, whose version guards both. A
node that an older program left behind, or that cannot be read, costs no run: what is missing is missing.
"""

from __future__ import annotations

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import HISTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.vocabulary import Run


class History:
    """The runs before now, as a node's text has them; read when they are asked for."""

    __slots__ = ("_text", "exists")

    def __init__(self, text: bytes | None) -> None:
        """`text` is the node's, None if there is no node yet."""
        self.exists = text is not None
        self._text = text or b""

    def runs(self, last: Run | None) -> list[Run]:
        """Return the runs, the newest first.

        `last` is the last one that ended by its own word: an older program's is in no history.
        """
        runs = record.runs_from_lines(self._fields().get("runs", ""))
        if last is not None and all(run.owner != last.owner for run in runs):
            runs = sorted([last, *runs], key=_fence, reverse=True)[:HISTORY]
        return runs

    def success(self, last: Run | None) -> Run | None:
        """Return the last run that succeeded; `last` as above."""
        success = record.run_from_line(self._fields().get("success", ""))
        if last is not None and last.succeeded and (success is None or _fence(last) > _fence(success)):
            return last
        return success

    def text_with(self, run: Run, last: Run | None) -> bytes:
        """Return the text to put in place of this one, with `run` as the newest; `last` as above."""
        runs = record.with_run(self.runs(last), run)
        success = run if run.succeeded else self.success(last)
        fields = {"runs": "\n".join(map(record.run_to_line, runs))}
        if success is not None:
            fields["success"] = record.run_to_line(success)
        return record.encode(fields)

    def _fields(self) -> dict[str, str]:
        try:
            return record.decode(self._text)
        except ForeignValue:
            return {}


def cut_off(run: Run, *, by_force: bool) -> Run:
    """Return a copy of a run that never said its end, as the history has it."""
    copy = record.run_from_fields(record.run_to_fields(run))
    assert copy is not None
    return record.cut_off(copy, by_force=by_force)


def _fence(run: Run) -> int:
    return run.fence or 0
