"""The login to PostgreSQL, as far as it takes no more than a name and a password.

What else there is, from Kerberos to certificates of clients, libpq knows: see `suits` and `messages.Unsuited`.
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
"""

from __future__ import annotations

from ...system import os
from .messages import ERROR, READY, Fields, Unsuited, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .messages import Messages
    from .scram import Scram

#: Settings of which the login knows all that there is to know.
_KNOWN = {
    *("application_name", "client_encoding", "dbname", "host", "hostaddr", "password", "port", "sslmode"),
    *("sslrootcert", "target_session_attrs", "user"),
}
#: The modes of TLS that go with a file of authorities, and with none.
_VERIFYING, _TRUSTING = ("require", "verify-ca", "verify-full"), ("disable", "prefer", "require")
_VERSION = (196608).to_bytes(4, "big")
#: Types of messages: of the server's, and the answers to them.
_AUTHENTICATION, _PROCESS, _ANSWER = b"R", b"K", b"p"
#: Kinds of `_AUTHENTICATION`.
_DONE, _IN_CLEAR, _MD5, _SASL, _SASL_GOES_ON, _SASL_DONE = 0, 3, 5, 10, 11, 12
# The latter bound to the connection.
_SCRAM, _SCRAM_PLUS = b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS"
# Where Kerberos keeps a user's tickets, before their number.
_TICKETS = "/tmp/krb5cc_"


def suits(settings: Mapping[str, str]) -> bool:
    """Whether libpq would find nothing but `settings`, its own, and these are all known here.

    Where Kerberos has tickets at other places than is usual, libpq would encrypt by them; this login does not.
    """
    verified = settings.get("sslrootcert", "system") != "system"
    if set(settings) - _KNOWN or settings.get("sslmode", "prefer") not in (_VERIFYING if verified else _TRUSTING):
        return False
    if "sslrootcert" in settings and not verified:
        return False
    names = os.environ
    if any(name.startswith(("PG", "KRB5")) for name in names):
        return False
    # Before its version 15, libpq does not look at the variable.
    homes = {home for home in (names.get("HOME"), _process_user("pw_dir")) if home}
    places = [f"{_TICKETS}{os.geteuid()}", *(f"{home}/.postgresql" for home in homes)]
    if not settings.get("password"):
        places += [f"{home}/.pgpass" for home in homes]
    return bool(homes) and not any(os.access(place, os.F_OK) for place in places)


class Login:
    """One login. Raises BackendUnavailable if the server refuses it, and ValueError for nonsense."""

    def __init__(self, name: str, messages: Messages, settings: Mapping[str, str]) -> None:
        self._name = name
        self._messages = messages
        self._settings = settings
        self._user = settings.get("user") or _process_user("pw_name")
        self._asked_for_password = False
        self._scram: Scram | None = None

    def run(self) -> int:
        """Log in, and return the number of the server's process."""
        messages, settings = self._messages, self._settings
        if self._user is None:
            raise Unsuited(f"{self._name}: no user in the URL, and this process's user id has no name")
        words = {"user": self._user, "database": settings["dbname"]}
        words.update({name: settings[name] for name in ("application_name", "client_encoding") if name in settings})
        text = "".join(f"{name}\0{value}\0" for name, value in words.items())
        messages.send(message(b"", _VERSION, _encoded(text), b"\0"))
        process = 0
        while True:
            kind, body = messages.receive()
            if kind == ERROR:
                raise messages.denial(body)
            if kind == _AUTHENTICATION:
                fields = Fields(body)
                self._authenticate(fields.number(4), fields.rest())
            elif kind == _PROCESS:
                process = Fields(body).number(4)
            elif kind == READY:
                break
            else:
                raise messages.nonsense()
        if self._scram is not None and not self._scram.verified:
            raise messages.nonsense("no proof")
        return process

    def _authenticate(self, kind: int, said: bytes) -> None:
        """Answer what the server asks for to let us in."""
        if kind == _DONE:
            return
        if kind == _IN_CLEAR:
            self._answer(_encoded(self._password()), b"\0")
        elif kind == _MD5:
            from ..wire.hashes import md5_hex

            once = md5_hex(_encoded(self._password() + str(self._user)))
            self._answer(b"md5", md5_hex(once + said), b"\0")
        elif kind == _SASL and _SCRAM in (mechanisms := said.split(b"\0")):
            password = self._password()
            if not password.isascii() or not password.isprintable():
                # What others make of it is a matter of Unicode's tables: RFC 4013.
                raise self._unsuited()
            from .scram import Scram

            bound = _SCRAM_PLUS in mechanisms
            self._scram = Scram(self._name, password.encode(), self._messages.peer(), bound=bound)
            first = self._scram.first()
            self._answer(_SCRAM_PLUS if bound else _SCRAM, b"\0", len(first).to_bytes(4, "big"), first)
        elif kind == _SASL_GOES_ON and self._scram is not None:
            self._answer(self._scram.proof(said))
        elif kind == _SASL_DONE and self._scram is not None:
            self._scram.verify(said)
        else:
            raise self._unsuited()

    def _answer(self, *parts: bytes) -> None:
        self._messages.send(message(_ANSWER, *parts))

    def _password(self) -> str:
        """Return the password, which a server asks for once."""
        password = self._settings.get("password")
        if not password or self._asked_for_password:
            raise self._unsuited()
        self._asked_for_password = True
        return password

    def _unsuited(self) -> Unsuited:
        return Unsuited(f"{self._name}: the server asks for another login than that of the URL")


def _process_user(field: str) -> str | None:
    """Return what the system knows of this process's user; None if nothing."""
    import pwd

    try:
        known: str = getattr(pwd.getpwuid(os.geteuid()), field)
    except KeyError:
        return None
    return known


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
