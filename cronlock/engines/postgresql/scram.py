"""SCRAM-SHA-256, by which PostgreSQL checks passwords (RFC 5802, RFC 7677)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from ...system import os
from ..wire.hashes import hmac_sha256, pbkdf2_sha256, sha256

# "n,,": what is said is not bound to the connection; and the same in base64.
_UNBOUND, _UNBOUND_BASE64 = b"n,,", b"biws"
# More than any server asks for; it takes a second.
_MOST_ROUNDS = 1_000_000


class Scram:
    """One proof of knowing a password, and of the server's knowing it. Raises ValueError for what no server says."""

    def __init__(self, password: bytes) -> None:
        self._password = password
        self._nonce = os.urandom(18).hex().encode()
        self._salted = self._exchanged = b""
        #: True once the server proved that it knows the password, too.
        self.verified = False

    def first(self) -> bytes:
        """Return the first message; the user was named before."""
        return _UNBOUND + self._bare()

    def proof(self, said: bytes) -> bytes:
        """Return the answer to the server's first message: what only those can make who know the password."""
        if self._salted:
            raise ValueError("twice")
        parts = {b"r": b"", b"s": b"", b"i": b"", **_parts(said)}
        nonce, salt, rounds = parts[b"r"], a2b_base64(parts[b"s"]), int(parts[b"i"][:10])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ValueError("another nonce")
        if not salt or not 0 < rounds <= _MOST_ROUNDS or b"m" in parts:  # An extension that is not known here.
            raise ValueError("no salt")
        self._salted = pbkdf2_sha256(self._password, salt, rounds)
        last = b"c=" + _UNBOUND_BASE64 + b",r=" + nonce
        self._exchanged = b",".join((self._bare(), said, last))
        key = hmac_sha256(self._salted, b"Client Key")
        signature = hmac_sha256(sha256(key).digest(), self._exchanged)
        return last + b",p=" + _base64(bytes(one ^ other for one, other in zip(key, signature)))

    def verify(self, said: bytes) -> None:
        """Check the server's last message."""
        if not self._salted:
            raise ValueError("too early")
        signature = hmac_sha256(hmac_sha256(self._salted, b"Server Key"), self._exchanged)
        if _parts(said).get(b"v") != _base64(signature):
            raise ValueError("no proof")
        self.verified = True

    def _bare(self) -> bytes:
        return b"n=,r=" + self._nonce


def _parts(said: bytes) -> dict[bytes, bytes]:
    """Return the attributes of a message of SCRAM's."""
    return {part[:1]: part[2:] for part in said.split(b",") if part[1:2] == b"="}


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)
