"""What cronlock's keys, leases and owners are called in etcd."""

from __future__ import annotations

from ...errors import ConfigError
from ...keys import escape, unescape
from .entry import RING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..url import URL


class Names:
    """The names that a cronlock key has in etcd."""

    __slots__ = ("held", "history", "hold", "lease", "record")

    def __init__(self, base: str, key: str) -> None:
        name = escape(key)
        self.record = f"{base}/record/{name}".encode()
        #: All below it is there only while the key is not free.
        self.held = f"{base}/held/{name}/".encode()
        self.lease = self.held + b"lease"
        self.hold = self.held + b"hold/"
        #: All below it is past.
        self.history = f"{base}/history/{name}/".encode()

    def hold_of(self, owner: str) -> bytes:
        """Return the name of the hold that `owner` leaves."""
        return self.hold + escape(owner).encode()

    def past(self, number: int) -> bytes:
        """Return the name of the past run of that number."""
        return self.history + b"%02d" % (number % RING)


def key_of(name: bytes) -> str:
    """Return the cronlock key of a record's name; empty for what is somebody else's."""
    try:
        text = name.decode()
        key = unescape(text)
        return key if escape(key) == text else ""
    except ValueError:
        return ""


def lease_id(owner: str) -> int:
    """Return the id of the first lease of `owner`: 63 bits, by FNV-1a, since owners are random enough."""
    number = 0xCBF29CE484222325
    for byte in owner.encode("utf-8", "surrogateescape"):
        number = (number ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return number & (1 << 63) - 1 or 1


def base(url: URL) -> str:
    """Return what all names begin with; raise ConfigError for a bad path or prefix."""
    prefix = url.prefix()
    parts = url.path.strip("/").split("/") if url.path.strip("/") else []
    if any(not part or not part.isprintable() for part in parts):
        raise ConfigError(f"{url}: the path {url.path!r} has an empty part or a control character")
    return "/".join([*parts, prefix])
