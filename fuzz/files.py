"""Files: keys' files, watermarks, the kernel's tables."""

from __future__ import annotations

import binascii
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from cronlock.engines.file.mounts import refuse_network
from cronlock.engines.file.slots import SLOT, Slot, encode_slot
from cronlock.engines.file.store import FileStore
from cronlock.errors import ConfigError, ForeignValue
from cronlock.lease import state
from cronlock.lease.clock import boot_id
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import Conflict, Pause, Run, Stop
from cronlock.lease.watermarks import Watermarks, encode
from cronlock.process import linux
from cronlock.testing.simulated import SimulatedClock

from .data import Data
from .engine import expecting
from .operations import KEY, a_record, a_run, operate, show_run

_TOKENS = (
    *(b"\n", b"=", b"%", b"%0A", b"%09", b"\t", b"\0", b"\xff", b"cronlock=1\n", b"9" * 30, b"-1", b"nan", b"1e308"),
)
_STATE_TOKENS = (b"\t", b"run\t", b"past\t", b"success\t", b"paused\t", b"stop\t", b"fence\t7")
_FIELDS = ("fence", "boot", "noticed", "seen_at", "boot_time", "ttl", "color")
#: In memory if possible: a disk would dominate the time.
_ROOM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def fields_of(data: Data) -> dict[str, str]:
    """Return the fields of a watermark, with numbers of every kind."""
    fields = {data.pick(_FIELDS): data.digits() for _ in range(data.below(6))}
    if data.chance(3):
        fields["boot"] = boot_id()
    return fields


def a_state(data: Data) -> None:
    """Any bytes decode to a state, or raise ForeignValue."""
    kept = state.State(fence=data.below(1 << 60), run=_sane(a_run(data)) if data.chance(2) else None)
    for _ in range(data.below(4)):
        kept = kept.with_past(_sane(a_run(data)))
    user, host, text = (data.maimed(b"alice", _TOKENS).decode("utf-8", "surrogateescape") for _ in range(3))
    if data.chance(2):
        kept = kept.but(paused=Pause(user, host, text, at=1.0, until=data.below(1 << 40) / 1000))
    if data.chance(2):
        kept = kept.but(stop=Stop("o", user, host, tick=text or "o"))
    encoded = state.encode(kept)
    with expecting(ForeignValue):
        found = state.decode(data.maimed(encoded, (*_TOKENS, *_STATE_TOKENS)))
        for run in (found.latest, found.last_success(), *found.history()):
            show_run(run)
        # Of several successes in the past the newest is read as the last one.
        assert state.decode(state.encode(found)).but(success=found.success) == found


def _sane(run: Run) -> Run:
    """Return a run with numbers as the rules give them."""
    return run.but(pid=abs(run.pid), fence=abs(run.fence or 0), took_over=None)


def a_keys_file(data: Data) -> None:
    """A key's file may contain anything: the key works, or the error names a remedy."""
    with _directory() as folder:
        store = FileStore(folder, 1.0)
        slots = [_slot(data).ljust(SLOT) for _ in range(2)]
        text = data.maimed(b"".join(slots), _TOKENS) if data.chance(2) else b"".join(slots[: data.below(3)])
        _put(store.location(KEY), text)
        operate(data, Leases(store))


def _slot(data: Data) -> bytes:
    """Return a slot, mostly with a right checksum."""
    slot = Slot(number=data.below(5), ttl=300.0, since=data.below(5), boot=boot_id(), hold_until=99.0, key=KEY)
    if data.chance(8):
        return data.blob(200)
    whole = encode_slot(slot.but(data=data.maimed(a_record(data), _TOKENS)))
    if data.chance(2):
        return whole
    words = whole[len(b"cronlock=2\tslot\t") + 9 :].split(b"\t", 7)
    words[data.below(6)] = data.digits()[:300].encode()
    body = b"\t".join(words)
    return b"cronlock=2\tslot\t%08x\t%b" % (binascii.crc32(body), body)


def a_watermark(data: Data) -> None:
    """A watermark file may contain anything: it counts or is ignored, and is rewritten."""
    with _directory() as folder:
        clock = SimulatedClock()
        Watermarks(folder, "redis://h", KEY, clock).remember(Conflict("held", remaining=1.0, fence=7), clock.now())
        (path,) = Path(folder, "watermarks").iterdir()
        path.write_bytes(data.maimed(encode(fields_of(data)) if data.chance(2) else path.read_bytes(), _TOKENS))
        watermarks = Watermarks(folder, "redis://h", KEY, clock)
        watermark = watermarks.recall()
        assert watermark is None or watermark.age >= 0
        # Without a watermark nobody can notice state loss.
        why = "held" if watermark is None else data.pick(("held", "forgotten"))
        watermarks.remember(Conflict(why, remaining=1.0, fence=data.below(100) or None), clock.now())
        again = Watermarks(folder, "redis://h", KEY, clock).recall()
        assert again is not None
        assert watermark is None or again.fence >= watermark.fence
        assert watermarks.problem is None


def some_mounts(data: Data) -> None:
    """The mount table may have any lines."""
    places = ("/", "/var", r"/a\040b")
    lines = data.several(5, lambda: f"1 2 0:3 / {data.pick(places)} rw - {data.pick(('ext4', 'nfs'))} x")
    with _directory() as folder:
        table = os.path.join(folder, "mountinfo")
        _put(table, data.maimed("\n".join(lines).encode(), (b" ", b"\n", b" - ", b"\\", b"\\777", b"\xff")))
        with expecting(ConfigError):
            refuse_network(data.pick(("/var/lib/cronlock", "/a b", "/")), table)


def some_processes(data: Data) -> None:
    """The kernel's files about processes may end anywhere, and processes may end meanwhile."""
    files: dict[str, bytes] = {"/proc/self/environ": data.maimed(b"A=1\0B\0=C\0LC_CTYPE=x\0")}
    for pid in (1, 2, 3):
        name = data.pick((b"sh", b"a) S 7 (b", b"\n", b"\xff"))
        files[f"/proc/{pid}/stat"] = data.maimed(b"%d (%b) S %d 0 0" % (pid, name, data.below(4)), (b")", b" ", b"("))
        files[f"/proc/{pid}/task/{pid}/children"] = b" ".join(b"%d" % child for child in range(pid + 1, 4))

    def opened(path: str, *_mode: object, **_options: object) -> io.BytesIO:
        if path not in files or data.chance(6):
            raise FileNotFoundError(path)
        return io.BytesIO(files[path])

    def listed(path: str) -> list[str]:
        if data.chance(6):
            raise PermissionError(path)
        return ["1", "2", "3", "self", "4"] if path == "/proc" else [path.split("/")[2]]

    with patch.object(linux, "open", opened, create=True), patch("os.listdir", listed):
        assert set(linux.children(1)) <= {2, 3}
        environment = linux.initial_environment()
        assert environment is None or b"" not in environment or environment[b""] is not None
        if not data.chance(6):
            by_parent = _by_parent()
            assert all(child in (1, 2, 3, 4) for children in by_parent.values() for child in children)


def _by_parent() -> dict[int, list[int]]:
    try:
        return linux._children_by_parent()
    except PermissionError:
        return {}  # /proc itself is not to be read: only `listed` above makes this up.


@contextmanager
def _directory() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="cronlock-fuzz-", dir=_ROOM)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _put(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


TARGETS = (a_state, a_keys_file, a_watermark, some_mounts, some_processes)
