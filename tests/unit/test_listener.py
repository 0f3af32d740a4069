"""A run's notifications: what its listener asks of the store's notifier, and what becomes of errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.listener import Listener, listener
from cronlock.lease.store import Cell
from cronlock.lease.vocabulary import Grant, Traits
from cronlock.testing import make_claim

CELL = Cell(data=b"x", version=3)


@pytest.fixture(autouse=True)
def a_hundred_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of deadlines."""
    monkeypatch.setattr("cronlock.lease.listener.time", SimpleNamespace(monotonic=lambda: 100.0))


class Notifier:
    """A store's notifier, which keeps what it was asked, and answers or fails."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        #: The cell and the deadline of each call.
        self.asked: list[tuple[Cell | None, float]] = []

    def _answer(self, seen: Cell | None, deadline: float) -> object:
        self.asked.append((seen, deadline))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def listen(self, seen: Cell, deadline: float) -> object:
        """Listen."""
        return self._answer(seen, deadline)

    heard = listen

    def notify(self, deadline: float) -> object:
        """Notify."""
        return self._answer(None, deadline)


def grant(token: object) -> Grant:
    """Return a grant with what its backend stored in it."""
    return Grant(make_claim("k"), fence=1, ttl=30.0).but(token=token)


@pytest.mark.parametrize(("token", "cell"), [(SimpleNamespace(cell=CELL), CELL), (None, Cell())])
@pytest.mark.parametrize(("name", "answer"), [("listen", (5, True)), ("heard", True), ("heard", False)])
def test_it_asks_of_the_cell_of_the_last_swap(token: object, cell: Cell, name: str, answer: object) -> None:
    """With two seconds for it: a hint is not worth more."""
    notifier = Notifier(answer)
    assert getattr(Listener(notifier), name)(grant(token)) == answer  # type: ignore[arg-type]
    ((seen, deadline),) = notifier.asked
    assert (seen.data, seen.version) == (cell.data, cell.version)  # type: ignore[union-attr]
    assert deadline == 102.0


@pytest.mark.parametrize(("answer", "woken"), [(True, True), (False, False), (BackendUnavailable("x"), False)])
def test_to_notify_raises_nothing(answer: object, woken: bool) -> None:
    """Whoever asks a run to stop goes on without it: the next renewal finds out."""
    notifier = Notifier(answer)
    assert Listener(notifier).notify() is woken  # type: ignore[arg-type]
    assert notifier.asked == [(None, 102.0)]


@pytest.mark.parametrize("notifies", [True, False])
def test_a_store_that_does_not_notify_has_none(notifies: bool) -> None:
    """Then only renewals and polls find what others wrote."""
    store = SimpleNamespace(traits=Traits(1.0, 60.0, notifies=notifies), notifier=Notifier)
    assert (listener(store, "k") is not None) == notifies
