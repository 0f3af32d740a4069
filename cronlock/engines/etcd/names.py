"""The names of cronlock's keys in etcd."""

from __future__ import annotations

from ...errors import ConfigError
from ...keys import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..url import URL


class Names:
    """The names that a cronlock key has in etcd."""

    __slots__ = ("held", "hold", "lease", "record")

    def __init__(self, base: str, key: str) -> None:
        name = escape(key)
        self.record = f"{base}/record/{name}".encode()
        #: The keys below it exist only while the key is not free.
        self.held = f"{base}/held/{name}/".encode()
        self.lease = self.held + b"lease"
        #: The keys below it are holds.
        self.hold = self.held + b"hold/"


def base(url: URL) -> str:
    """Return what all names begin with; raise ConfigError for a bad path or prefix."""
    if any(not part or not part.isprintable() for part in url.path_parts):
        raise ConfigError(f"{url}: the path {url.path!r} has an empty part or a control character")
    return "/".join([*url.path_parts, url.prefix()])
