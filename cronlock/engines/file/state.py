"""The record in a key's file: two slots that are written by turns, and one for a forced release."""

from __future__ import annotations

import binascii
import os

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import CANCELLED, ENDED, HOLD, Conflict, Run
from .lockfile import pwrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.vocabulary import Claim

SLOT = 4096
REVOKED_AT = 2 * SLOT
#: Not a byte more: to programs before the history a longer file is foreign.
SIZE = 3 * SLOT
# Bytes of a host's or a program's name.
_LONGEST_TEXT = 100


class State:
    """What a key's file says."""

    __slots__ = ("boot", "fence", "hold_until", "key", "last", "new", "number", "revoked", "run")

    def __init__(self, fields: dict[str, str], revoked: str, *, new: bool) -> None:
        #: How often the record was written; 0 if there is none.
        self.number = int(fields.get("number", "0"))
        self.key = fields.get("key", "")
        self.fence = int(fields.get("fence", "0"))
        #: The hold's end on the boot clock of the boot of this id.
        self.boot = fields.get("boot", "")
        self.hold_until = float(fields.get("hold_until", "0"))
        if not abs(self.hold_until) < 1e15:
            raise ValueError("nonsense that could not be counted with")
        self.run = record.run_from_fields(fields, "run.")
        self.last = record.run_from_fields(fields, "last.")
        #: The owner that the lease or the hold was taken from.
        self.revoked = revoked
        #: Nothing of the file was ever written.
        self.new = new

    @property
    def latest(self) -> Run | None:
        """The run that was granted the key last, ended or not."""
        return self.run or self.last

    @property
    def forced_out(self) -> bool:
        """Whether the lease was taken from the run that did not end by its own word."""
        return self.run is not None and self.run.owner == self.revoked

    def is_run_of(self, owner: str) -> bool:
        """Whether the run of `owner` was granted the key last, and did not end by its own word."""
        return self.run is not None and self.run.owner == owner

    def awaits(self, tick: str) -> bool:
        """Whether a standby for `tick` may have the key as soon as nobody has its lock."""
        latest = self.latest
        return latest is not None and latest.tick == tick and latest.undone and not self.forced_out

    def hold_left(self, boot: str, now: float) -> float:
        """Return how many seconds of the hold are left, at boot time `now` of the boot of this id."""
        if self.latest is None or self.boot != boot or self.latest.owner == self.revoked:
            return 0.0
        return max(0.0, self.hold_until - now)

    def refusal(self, claim: Claim, boot: str, now: float) -> Conflict | None:
        """Return why `claim` would not get the key if its lock were free."""
        if self.last is not None and self.last.owner == claim.owner:
            return Conflict(CANCELLED, remaining=0.0)
        fence = self.fence or None
        if claim.standby_for is not None:
            awaited = self.awaits(claim.standby_for)
            return None if awaited else Conflict(ENDED, remaining=0.0, run=self.latest, fence=fence)
        hold = self.hold_left(boot, now)
        # Our own lock may have been lost before we asked again: that leaves a hold of our own.
        if not hold or claim.ignore_hold or self.is_run_of(claim.owner):
            return None
        return Conflict(HOLD, remaining=hold, run=self.latest, fence=fence)

    def past(self) -> list[Run]:
        """Return the runs that are past once another is granted the key."""
        runs = [] if self.last is None else [self.last]
        return runs if self.run is None else [*runs, record.cut_off(self.run, by_force=self.forced_out)]

    def begin(self, claim: Claim, boot: str, wall: float) -> None:
        """Have the run of `claim`, at epoch time `wall`, with a fence above all others."""
        again = self.run if self.is_run_of(claim.owner) else None
        took_over = None
        if claim.standby_for is not None and self.latest is not None:
            took_over = self.latest.fence if again is None else again.took_over
        floor = claim.sight.floor if claim.sight is not None else 0
        self.fence = max(self.fence + 1, floor + 1, int(wall * 1e6))
        self.boot = boot
        self.run = Run(
            owner=claim.owner,
            host=_short(claim.host),
            pid=claim.pid,
            program=_short(claim.program),
            started_at=wall,
            ttl=claim.ttl,
            fence=self.fence,
            stands_for=claim.standby_for,
            took_over=took_over,
        )


def load(descriptor: int, path: str) -> State:
    """Return what the file says; raise ForeignValue when another program wrote it."""
    try:
        return _read(descriptor)
    except (ForeignValue, ValueError):
        pass
    # Who reads without the lock may have seen the first record while it was being written: not twice.
    try:
        return _read(descriptor)
    except (ForeignValue, ValueError):
        raise ForeignValue(f"{path}: not a file of cronlock; remove it, or name another directory in the URL") from None


def _read(descriptor: int) -> State:
    data = os.pread(descriptor, SIZE + 1, 0)
    slots = [data[:SLOT], data[SLOT:REVOKED_AT], data[REVOKED_AT:SIZE]]
    blank = not data.strip(b"\0 ")
    # A file without any slot of ours, whole or torn, is somebody else's.
    if len(data) > SIZE or not (blank or any(slot.startswith(record.MAGIC.encode()) for slot in slots)):
        raise ForeignValue("")
    first, second, taken = (decode_slot(slot) for slot in slots)
    newest = max((first, second), key=lambda fields: int(fields.get("number", "0")))
    return State(newest, taken.get("revoked", ""), new=len(data) < SIZE)


def save(descriptor: int, state: State, key: str, hold_until_at: float) -> None:
    """Write the record over the older one; `hold_until_at` is the hold's end in epoch time, for people."""
    state.number += 1
    fields = {"number": str(state.number), "key": key, "fence": str(state.fence), "boot": state.boot}
    fields["hold_until"] = f"{state.hold_until:.6f}"
    if state.hold_until:
        fields["hold_until_at"] = f"{hold_until_at:.3f}"
    for prefix, run in (("run.", state.run), ("last.", state.last)):
        if run is not None:
            fields.update(record.run_to_fields(run, prefix))
    if state.new:
        # All of the file's space now, so that a disk that fills up later stops no release.
        pwrite(descriptor, b" " * SIZE, 0)
        os.ftruncate(descriptor, SIZE)
        state.new = False
    pwrite(descriptor, encode_slot(fields), state.number % 2 * SLOT)


def revoke(descriptor: int, owner: str) -> None:
    """Write that the lease or the hold was taken from `owner`."""
    pwrite(descriptor, encode_slot({"revoked": owner}), REVOKED_AT)


def _short(text: str) -> str:
    """Cut `text` so that two runs and the longest key fit into a slot, and into UTF-8."""
    return text.encode("utf-8", "replace")[:_LONGEST_TEXT].decode("utf-8", "ignore")


def encode_slot(fields: dict[str, str], size: int = SLOT) -> bytes:
    """Return the text of one slot, whole and with its checksum."""
    body = record.encode(fields)
    slot = body + b"crc=%08x\n" % binascii.crc32(body)
    assert len(slot) <= size, "a record is too long for its slot"
    return slot.ljust(size)


def decode_slot(slot: bytes) -> dict[str, str]:
    """Return a slot's fields; none if it was not written as a whole."""
    body, _, checksum = slot.rpartition(b"crc=")
    if checksum[:8] != b"%08x" % binascii.crc32(body) or not body:
        return {}
    return record.decode(body)
