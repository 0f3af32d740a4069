"""SHA-1, SHA-256 and HMAC by the interpreter's own modules: for `hashlib` it loads OpenSSL, a third of its start."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha1, sha256
else:
    try:
        from _sha1 import sha1

        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:  # Built without them, as Fedora's is.
        from hashlib import sha1, sha256

__all__ = ["hmac_sha256", "sha1", "sha256"]

_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """Return what proves that the sender of `text` knows `key` (RFC 2104)."""
    key = (sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + text).digest()).digest()
