"""Watermarks: the highest fence that this host saw of each key, so that it notices state loss.

Redis and memcached can come back from a restart or a failover without a lease that they granted. A host that saw
the key's fence notices, and quarantines the key until the lost lease must have lapsed. Redlock asks its operators
for the same delay at a restart (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
"""

from __future__ import annotations

from .. import keys
from ..system import os
from ..value import digits
from . import clock as clocks
from .vocabulary import RETENTION, STATE_LOST, Conflict, Watermark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .clock import Clock
    from .vocabulary import Grant

_FOLDER = "watermarks"
#: The first line of every watermark.
_MAGIC = "cronlock=1"
#: Names of files have at most 255 bytes.
_LONGEST_NAME = 200
#: Every text fills this, so that writing one over another is a single write without truncation.
_SIZE = 512
#: The server may drop a record after RETENTION, so an older watermark proves nothing.
_TRUSTED = RETENTION - 86400.0


class Watermarks:
    """The watermark of one key on one backend, in a small file of the state directory.

    Call `recall` first: `remember` never writes a lower fence.
    """

    __slots__ = ("_boot", "_clock", "_fence", "_noticed", "_path", "_ttl", "problem")

    def __init__(self, state_dir: str, location: str, key: str, clock: Clock) -> None:
        """`location` names the backend without its credentials."""
        self._path = f"{state_dir}/{_FOLDER}/{keys.bounded(f'{location} {key}', _LONGEST_NAME)}"
        self._clock = clock
        self._boot = clocks.boot_id()
        self._fence = 0
        #: The ttl of the lease seen last.
        self._ttl = 0.0
        #: Boot time at which this host first noticed state loss, or None.
        self._noticed: float | None = None
        #: Why the file could not be written, or None.
        self.problem: str | None = None

    def recall(self) -> Watermark | None:
        """Return the watermark; None without one, or if it is too old to prove anything."""
        fields = self._read()
        try:
            fence = _fence(fields)
            boot_time = float(fields["boot_time"])
            wall_age = self._clock.wall() - float(fields["seen_at"])
            ttl = float(fields["ttl"])
            noticed = float(fields["noticed"]) if "noticed" in fields else None
        except (KeyError, ValueError):
            return None
        if fence is None:
            return None
        now = self._clock.now()
        same_boot = fields.get("boot") == self._boot and boot_time <= now
        # A watermark of an earlier boot is at least as old as this boot. Too low an age is safe: then waiting ends the
        # quarantine, not the server's uptime.
        age = now - boot_time if same_boot else now
        if max(age, wall_age) > _TRUSTED:
            return None
        self._fence, self._ttl = fence, ttl
        self._noticed = noticed if same_boot and noticed is not None and noticed <= now else None
        return Watermark(fence, age, None if self._noticed is None else now - self._noticed, ttl)

    def remember(self, answer: Grant | Conflict, asked_at: float) -> None:
        """Update the file by what `answer` shows. A failure disables only this rule.

        It is as old as its request, sent at boot time `asked_at`: this process may have been stopped since, while the
        server lost its state.
        """
        if isinstance(answer, Conflict) and answer.why == STATE_LOST:
            if self._noticed is None:
                self._noticed = self._clock.now()
        else:
            self._noticed = None
        earlier = self._read()
        # Another run on this machine may have written meanwhile.
        self._fence = max(self._fence, answer.fence or 0, _fence(earlier) or 0)
        if not isinstance(answer, Conflict):
            self._ttl = answer.ttl
        elif answer.run is not None and answer.why != STATE_LOST:
            self._ttl = answer.run.ttl
        fields = {
            "fence": str(self._fence),
            "ttl": f"{self._ttl:.3f}",
            "boot": self._boot,
            "boot_time": repr(asked_at),
            "seen_at": repr(self._clock.wall() - (self._clock.now() - asked_at)),
        }
        if self._noticed is not None:
            fields["noticed"] = repr(self._noticed)
            # The watermark itself stays as old as it was: the server started after *that*.
            fields.update({name: earlier[name] for name in ("boot", "boot_time", "seen_at") if name in earlier})
            if fields["boot"] != self._boot:
                fields.update(boot=self._boot, boot_time="0.0")
        self._write(encode(fields))

    def forget(self) -> None:
        """Remove the file. A failure costs only a delay if the key is used again."""
        try:
            os.unlink(self._path)
        except OSError:
            pass  # No watermark, or not ours to remove.

    def _read(self) -> dict[str, str]:
        try:
            # O_RDWR: a quarantine that cannot be written back would start over each time and never end.
            descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            return {}
        try:
            return decode(os.read(descriptor, _SIZE))
        except OSError:
            return {}
        finally:
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        try:
            try:
                descriptor = os.open(self._path, flags, 0o600)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror}"


def encode(fields: dict[str, str]) -> bytes:
    """Return the text of a watermark: lines of ``name=value``, filled up to its size."""
    lines = [_MAGIC, *(f"{name}={value}" for name, value in fields.items())]
    return "".join(f"{line}\n" for line in lines).encode().ljust(_SIZE, b"\n")


def decode(data: bytes) -> dict[str, str]:
    """Undo `encode`; return no fields for any other text."""
    first, *lines = data.decode("utf-8", "replace").split("\n")
    fields = (line.partition("=") for line in lines if first == _MAGIC)
    return {name: value for name, equals, value in fields if equals}


def _fence(fields: dict[str, str]) -> int | None:
    """Return the fence of a watermark; None for one that no backend gives, since it would not fit."""
    return digits(fields.get("fence", ""))
