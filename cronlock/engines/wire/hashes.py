"""Hashes by the interpreter's own modules, HMAC and PBKDF2: for `hashlib` it loads OpenSSL, a third of its start."""

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

__all__ = ["hmac_sha256", "md5_hex", "pbkdf2_sha256", "sha1", "sha256"]

_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


def md5_hex(data: bytes) -> bytes:
    """Return the MD5 of `data`, for protocols that know nothing better."""
    if TYPE_CHECKING:
        from hashlib import md5
    else:
        try:
            from _md5 import md5
        except ImportError:
            from hashlib import md5
    return md5(data).hexdigest().encode()


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """Return what proves that the sender of `text` knows `key` (RFC 2104)."""
    key = (sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + text).digest()).digest()


def pbkdf2_sha256(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the key that PBKDF2 with HMAC-SHA-256 derives, of as many bytes as the hash has (RFC 8018).

    4,096 rounds take 4 ms; to load OpenSSL, which needs 1 ms for them, takes longer than that.
    """
    key = (sha256(password).digest() if len(password) > _BLOCK else password).ljust(_BLOCK, b"\0")
    # Copies of these two are what is the same in each round.
    inner, outer = sha256(key.translate(_INNER)), sha256(key.translate(_OUTER))
    number = int.from_bytes
    text, mixed = salt + b"\0\0\0\1", 0
    for _ in range(rounds):
        once, twice = inner.copy(), outer.copy()
        once.update(text)
        twice.update(once.digest())
        text = twice.digest()
        mixed ^= number(text, "big")
    return mixed.to_bytes(32, "big")
