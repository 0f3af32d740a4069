"""Reads and swaps of cells, for tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from cronlock.lease.state import MAGIC
from cronlock.lease.store import Cell

from .hooks import LONG

if TYPE_CHECKING:
    from cronlock.lease.store import Hold, Store

_Shown = TypeVar("_Shown", bound=Cell, covariant=True)

#: All that a record is made of.
CHARACTERS = "".join(chr(code) for code in range(0x20, 0x7F)) + "\t\n"


class Showing(Protocol[_Shown]):
    """A store as far as it shows cells of its own kind."""

    def read(self, key: str, deadline: float, *, exact: bool = False) -> _Shown:
        """Return the cell."""

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, _Shown]:
        """Swap it."""


def a_text(body: str = "") -> bytes:
    """Return a record as the rules write it: never twice the same, with `body` in it."""
    return f"{MAGIC}\t{os.urandom(8).hex()}\n{body}\n".encode()


def read(store: Showing[_Shown], key: str, *, exact: bool = False) -> _Shown:
    """Return the cell, which is there in time."""
    return store.read(key, soon(), exact=exact)


def try_swap(
    store: Showing[_Shown],
    key: str,
    seen: Cell,
    data: bytes | None = None,
    *,
    lease: float | None = None,
    hold: Hold = 0.0,
) -> tuple[bool, _Shown]:
    """Swap, with fresh data unless some is given; return whether it took effect, and the cell then."""
    return store.swap(key, seen, a_text() if data is None else data, lease=lease, hold=hold, deadline=soon())


def swap(
    store: Showing[_Shown],
    key: str,
    seen: Cell,
    data: bytes | None = None,
    *,
    lease: float | None = None,
    hold: Hold = 0.0,
) -> _Shown:
    """Return the cell that a swap left, which must be done."""
    data = a_text() if data is None else data
    done, cell = try_swap(store, key, seen, data, lease=lease, hold=hold)
    assert done, f"{key}: a swap of what is there was refused"
    assert cell.data == data
    return cell


def refused(store: Showing[_Shown], key: str, seen: Cell, *, lease: float | None = None, hold: Hold = 0.0) -> _Shown:
    """Return what is there instead of `seen`, on which no swap must be done."""
    data = a_text()
    done, cell = try_swap(store, key, seen, data, lease=lease, hold=hold)
    assert not done, f"{key}: a swap of what is not there any more was done"
    assert cell.data != data
    return cell


def soon() -> float:
    """Return a deadline that is far enough for a loaded machine."""
    return time.monotonic() + 20.0


def swapping(store: Store, key: str, seen: Cell, body: str) -> Callable[[], tuple[bool, Cell]]:
    """Return what asks for a swap of `seen`, and gives its answer."""
    return lambda: store.swap(key, seen, a_text(body), lease=LONG, hold=0.0, deadline=soon())
