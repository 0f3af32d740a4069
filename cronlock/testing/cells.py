"""What tests do with the cells of a store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cronlock.lease.state import MAGIC
from cronlock.lease.store import Cell

from .hooks import LONG

if TYPE_CHECKING:
    from cronlock.lease.store import Hold, Store

#: All that a record is made of.
CHARACTERS = "".join(chr(code) for code in range(0x20, 0x7F)) + "\t\n"


def a_text(body: str = "") -> bytes:
    """Return a record as the rules write it: never twice the same, with `body` in it."""
    return f"{MAGIC}\t{os.urandom(8).hex()}\n{body}\n".encode()


def read(store: Store, key: str, *, exact: bool = False) -> Cell:
    """Return the cell, which is there in time."""
    return store.read(key, soon(), exact=exact)


def swap(
    store: Store, key: str, seen: Cell, data: bytes | None = None, *, lease: float | None = None, hold: Hold = 0.0
) -> Cell:
    """Return the cell that a swap left, which must be done."""
    data = a_text() if data is None else data
    done, cell = store.swap(key, seen, data, lease=lease, hold=hold, deadline=soon())
    assert done, f"{key}: a swap of what is there was refused"
    assert cell.data == data
    return cell


def refused(store: Store, key: str, seen: Cell, *, lease: float | None = None, hold: Hold = 0.0) -> Cell:
    """Return what is there instead of `seen`, on which no swap must be done."""
    done, cell = store.swap(key, seen, a_text(), lease=lease, hold=hold, deadline=soon())
    assert not done, f"{key}: a swap of what is not there any more was done"
    assert cell.data == read(store, key).data
    return cell


def soon() -> float:
    """Return a deadline that is far enough for a loaded machine."""
    return time.monotonic() + 20.0


def swapping(store: Store, key: str, seen: Cell, body: str) -> Callable[[], tuple[bool, Cell]]:
    """Return what asks for a swap of `seen`, and gives its answer."""
    return lambda: store.swap(key, seen, a_text(body), lease=LONG, hold=0.0, deadline=soon())
