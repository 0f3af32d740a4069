"""The login to MySQL or MariaDB, by every way to show a password that both have in use.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html
"""

from __future__ import annotations

from ...errors import BackendUnavailable
from ...system import os
from ..wire.hashes import sha1, sha256
from .packets import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.tls import Context
    from .packets import Packets

# What the client and the server can do, as far as it matters here (CLIENT_...).
_MYSQL, _LONG_FLAG, _WITH_DB, _PROTOCOL_41, _TLS = 1, 4, 8, 0x200, 0x800
_TRANSACTIONS, _SECURE = 0x2000, 0x8000
_MULTI_STATEMENTS, _MULTI_RESULTS = 0x10000, 0x20000
# Of the server's: plugins, what a session says of itself, and the length of a long proof.
_PLUGINS, _ATTRIBUTES, _SIZED = 0x80000, 0x100000, 0x200000
_ALWAYS = _MYSQL | _LONG_FLAG | _WITH_DB | _PROTOCOL_41 | _TRANSACTIONS | _SECURE | _MULTI_STATEMENTS | _MULTI_RESULTS
#: The end of each statement's answer says in its status whether another follows, and whether each is a transaction.
MORE, AUTOCOMMIT = 8, 2
#: Of packets: all is well; the rows are over, or another plugin is to be used; something else of a plugin's.
OK, END, EXTRA = 0x00, 0xFE, 0x01
# utf8mb4_general_ci, of the server's messages: what is sent is ASCII, and what comes is bytes and numbers.
_CHARACTERS = 45
_LONGEST_PACKET = 1 << 24
_SALT = 20
# More than any plugin needs.
_MOST_STEPS = 10

_NATIVE, _CACHING_SHA2, _SHA256 = "mysql_native_password", "caching_sha2_password", "sha256_password"
_ED25519 = "client_ed25519"
# They show the server the password.
_CLEAR = ("mysql_clear_password", "dialog")
# They nearly do, or are answered by nobody.
_UNSAFE = ("", "mysql_old_password")
# What `_CACHING_SHA2` says: the password is right; it is to be sent. And what the two ask for in return: a public key.
_KNOWN, _UNKNOWN = b"\x03", b"\x04"
_KEY_PLEASE = {_CACHING_SHA2: b"\x02", _SHA256: b"\x01"}
# The order of Ed25519's base point.
_ORDER = (1 << 252) + 27742317777372353535851937790883648493

_NO_TLS = "the server has no TLS, which the URL asks for: set it up there, or leave out ssl= and ca="
_IN_CLEAR = "the server requests the password in clear text, which requires TLS; see ssl= and ca="
# Packages that some users need, and why.
_REMEDIES = {
    "cryptography": "the server requires TLS (ssl=required or ca=) for the password of this user, or ",
    "pynacl": "this user's password is checked by ed25519, which needs ",
}


class Login:
    """One login. Raises Refused for what the server says against it, and ValueError for nonsense."""

    def __init__(self, name: str, packets: Packets, user: str, password: str, database: str) -> None:
        self._name = name
        self._packets = packets
        self._user = _encoded(user)
        self._password = _encoded(password)
        self._database = _encoded(database)
        #: True if nobody but the server can hear.
        self._private = False
        self._plugin = _NATIVE
        self._salt = b""

    def run(self, host: str | None, tls: Context | None) -> int:
        """Log in, and return the session's status. `host` is None for a Unix socket."""
        known = self._greeting(Fields(self._packets.receive()))
        flags = _ALWAYS | known & (_PLUGINS | _ATTRIBUTES | _SIZED) | (0 if tls is None else _TLS)
        head = flags.to_bytes(4, "little") + _LONGEST_PACKET.to_bytes(4, "little") + bytes([_CHARACTERS]) + bytes(23)
        self._private = host is None
        if tls is not None and host is not None:
            if not known & _TLS:
                raise BackendUnavailable(f"{self._name}: {_NO_TLS}")
            self._packets.send(head)
            self._packets.start_tls(tls, host)
            self._private = True
        # What a server names first is its default, not that of the user, which follows.
        self._plugin = self._plugin if self._plugin in (_CACHING_SHA2, _SHA256) else _NATIVE
        proof = self._proof()
        words = [head, self._user, b"\0", _sized(proof), self._database, b"\0"]
        if flags & _PLUGINS:
            words += [self._plugin.encode(), b"\0"]
        if flags & _ATTRIBUTES:
            # Its processes show who it is.
            pairs = b"".join(map(_sized, (b"program_name", b"cronlock", b"_pid", str(os.getpid()).encode())))
            words.append(_sized(pairs))
        self._packets.send(b"".join(words))
        for _ in range(_MOST_STEPS):
            fields = Fields(self._packets.receive())
            kind = fields.number(1)
            if kind == OK:
                fields.length(), fields.length()
                return fields.number(2)
            if kind == END:
                self._plugin = fields.word().decode("ascii", "replace")
                self._salt = _unended(fields.rest())
                self._packets.send(self._proof())
                continue
            answer = self._next(fields.rest() if kind == EXTRA else b"")
            if answer is not None:
                self._packets.send(answer)
        raise self._packets.nonsense()

    def _greeting(self, fields: Fields) -> int:
        """Read the server's first packet, and return what it can do."""
        if fields.number(1) != 10:
            raise self._packets.nonsense()
        fields.word()  # Its version.
        fields.take(4)  # The connection's number.
        salt = fields.take(8)
        fields.take(1)
        known = fields.number(2)
        fields.take(3)  # Its character set, and its status.
        known |= fields.number(2) << 16
        length = fields.number(1)
        fields.take(10)
        if not (known & _PROTOCOL_41 and known & _SECURE):
            raise self._packets.nonsense("too old")
        self._salt = _unended(salt + fields.take(max(13, length - 8)))
        if known & _PLUGINS:
            self._plugin = fields.word().decode("ascii", "replace")
        return known

    def _proof(self) -> bytes:
        """Return what the plugin shows first of the password."""
        plugin, password = self._plugin, self._password
        if plugin in _CLEAR:
            if not self._private:
                raise BackendUnavailable(f"{self._name}: {_IN_CLEAR}")
            return password + b"\0"
        if plugin == _SHA256:
            if not password or self._private:
                return password + b"\0"
            return _KEY_PLEASE[plugin]
        if plugin in (_NATIVE, _CACHING_SHA2):
            return self._scrambled() if password else b""
        if plugin == _ED25519:
            return self._signed()
        if plugin in _UNSAFE and not self._private:
            raise BackendUnavailable(f"{self._name}: {_IN_CLEAR}")
        raise BackendUnavailable(
            f"{self._name}: this user's password is checked by {plugin or 'a method'!r}, which cronlock does not know;"
            " give the user another"
        )

    def _next(self, said: bytes) -> bytes | None:
        """Return the plugin's answer to what the server `said` of it; None to go on listening."""
        if self._plugin == "dialog":
            # Another question, and it has one answer only.
            return self._password + b"\0"
        if self._plugin not in _KEY_PLEASE or not said:
            raise self._packets.nonsense()
        if self._plugin == _CACHING_SHA2:
            if said == _KNOWN:
                return None
            if said == _UNKNOWN:
                return self._password + b"\0" if self._private else _KEY_PLEASE[self._plugin]
        return self._encrypted(said)

    def _scrambled(self) -> bytes:
        """Return a hash of the password and the salt, from which a server that knows another hash verifies it."""
        password, salt = self._password, self._salt[:_SALT]
        if self._plugin == _NATIVE:
            once = sha1(password).digest()
            mask = sha1(salt + sha1(once).digest()).digest()
        else:
            once = sha256(password).digest()
            mask = sha256(sha256(once).digest() + salt).digest()
        return _mixed(once, mask)

    def _encrypted(self, key: bytes) -> bytes:
        """Return the password encrypted by the server's public key, a PEM text."""
        if not self._salt:
            raise self._packets.nonsense()
        with _Needing(self._name, "cryptography"):
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import padding, rsa
        way = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        try:
            public = serialization.load_pem_public_key(key)
            assert isinstance(public, rsa.RSAPublicKey)
            return public.encrypt(_mixed(self._password + b"\0", self._salt), way)
        except Exception:
            raise self._packets.nonsense("no public key") from None

    def _signed(self) -> bytes:
        """Return the salt signed by Ed25519, whose private key is the password instead of 32 random bytes (RFC 8032).

        https://mariadb.com/kb/en/authentication-plugin-ed25519/
        """
        import hashlib

        with _Needing(self._name, "pynacl"):
            from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp as multiplied

        def number(*parts: bytes) -> int:
            return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % _ORDER

        def text(value: int) -> bytes:
            return (value % _ORDER).to_bytes(32, "little")

        digest = hashlib.sha512(self._password).digest()
        private = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
        nonce = number(digest[32:], self._salt)
        point, public = multiplied(text(nonce)), multiplied(text(private))
        return bytes(point) + text(nonce + number(point, public, self._salt) * private)


class _Needing:
    """Imports the client `package` within; raises BackendUnavailable with what brings it."""

    def __init__(self, name: str, package: str) -> None:
        self._name = name
        self._package = package

    def __enter__(self) -> None:
        from ..clients import see_installed

        see_installed()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, ImportError):
            from ..clients import lacks

            text = f"{self._name}: {_REMEDIES[self._package]}{lacks(self._package)}"
            raise BackendUnavailable(text) from None


def process_user() -> str | None:
    """Return the name of this process's user; None if there is none."""
    named = next(filter(None, map(os.environ.get, ("LOGNAME", "USER"))), None)
    if named is None:
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return None
    return named


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sized(data: bytes) -> bytes:
    """Return `data` with its length before it: see `Fields.text`."""
    length = len(data)
    return (bytes([length]) if length < 0xFB else b"\xfc" + length.to_bytes(2, "little")) + data


def _unended(salt: bytes) -> bytes:
    return salt[:-1] if salt.endswith(b"\0") else salt


def _mixed(data: bytes, mask: bytes) -> bytes:
    """Return `data` XOR `mask`, which is repeated as often as need be."""
    return bytes(byte ^ mask[at % len(mask)] for at, byte in enumerate(data))
