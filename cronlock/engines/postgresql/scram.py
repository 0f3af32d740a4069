"""SCRAM-SHA-256, by which PostgreSQL checks passwords (RFC 5802, RFC 7677)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from ...system import os
from ..wire.hashes import hmac_sha256, pbkdf2_sha256, sha256
from .messages import Unsuited

# What is said of the binding to the connection: that it has no secret, that the server is believed to know of none, and
# which one it is (RFC 5929).
_NONE, _NOT_OFFERED, _BY_CERTIFICATE = b"n,,", b"y,,", b"p=tls-server-end-point,,"
# More than servers ask for unless they are told to; it takes 25 ms.
_MOST_ROUNDS = 20_000
# Signatures by SHA-256, or by less, for which it stands in, as certificates name them: of RSA and of ECDSA.
_SHA256_SIGNS = {
    bytes.fromhex(name)
    for name in ("2a864886f70d01010b", "2a8648ce3d040302", "2a864886f70d010105", "2a864886f70d010104", "2a8648ce3d0401")
}


class Scram:
    """One proof of knowing a password, and of the server's knowing it. Raises ValueError for what no server says."""

    def __init__(self, name: str, password: bytes, certificate: bytes | None, *, bound: bool) -> None:
        """`certificate` is the server's if there is TLS; `bound` if the server can bind the proof to it.

        Raises Unsuited if it cannot be done here; `name` is the server's.
        """
        self._name = name
        self._password = password
        self._binding = _NONE if certificate is None else _NOT_OFFERED
        self._bound_to = b""
        if bound:
            digest = None if certificate is None else end_point(certificate)
            if digest is None:
                raise Unsuited(f"{name}: the server asks for a binding to a certificate of another kind")
            self._binding, self._bound_to = _BY_CERTIFICATE, digest
        self._nonce = os.urandom(18).hex().encode()
        self._salted = self._exchanged = b""
        #: True once the server proved that it knows the password, too.
        self.verified = False

    def first(self) -> bytes:
        """Return the first message; the user was named before."""
        return self._binding + self._bare()

    def proof(self, said: bytes) -> bytes:
        """Return the answer to the server's first message: what only those can make who know the password."""
        if self._salted:
            raise ValueError("twice")
        parts = {b"r": b"", b"s": b"", b"i": b"", **_parts(said)}
        nonce, salt, rounds = parts[b"r"], a2b_base64(parts[b"s"]), int(parts[b"i"][:10])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ValueError("another nonce")
        if not salt or rounds <= 0 or b"m" in parts:  # An extension that is not known here.
            raise ValueError("no salt")
        if rounds > _MOST_ROUNDS:
            raise Unsuited(f"{self._name}: the server asks for a password hashed {rounds} times")
        self._salted = pbkdf2_sha256(self._password, salt, rounds)
        last = b"c=" + _base64(self._binding + self._bound_to) + b",r=" + nonce
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


def end_point(certificate: bytes) -> bytes | None:
    """Return the hash by which a certificate stands for the server (RFC 5929, 4.1); None if that is not SHA-256."""
    try:
        start, _ = _element(certificate, 0)
        _, start = _element(certificate, start)  # What is signed.
        start, _ = _element(certificate, start)  # How, and with which parameters.
        signature = certificate[slice(*_element(certificate, start))]
    except IndexError:
        return None
    return sha256(certificate).digest() if signature in _SHA256_SIGNS else None


def _element(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element of DER at `at` starts and ends. Raises IndexError."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    return start, start + length
