"""Backend URLs: ``scheme://[user[:password]@]host[:port][,host[:port]...][/path][?name=value&...]``."""

from __future__ import annotations

from ..errors import ConfigError, nearest
from ..keys import unescape
from ..value import digits

#: Parameters that name TLS files, and what libpq's names for them end in.
_TLS_FILES = {"ca": "rootcert", "cert": "cert", "key": "key"}
#: Schemes by the one of the same engine with TLS.
WITH_TLS = {"redis": "rediss", "memcached": "memcacheds", "zookeeper": "zookeepers", "etcd": "etcds"}
#: The default prefix of keys, on every backend.
DEFAULT_PREFIX = "cronlock"
_PREFIX_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def is_port(text: str) -> bool:
    """Whether `text` is a number from 1 to 65535."""
    return 0 < (digits(text, 5) or 0) < 65536


class URL:
    """A parsed backend URL. Its text for people never holds the password."""

    __slots__ = ("hosts", "params", "password", "path", "scheme", "user")

    def __init__(self, text: str) -> None:
        """Parse `text`; raise ConfigError, without showing a password, when it is no URL."""
        if any(character <= " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError("the backend's URL has a space, a control character or invalid UTF-8; write it as %XX")
        scheme, separator, rest = text.partition("://")
        if not separator or not scheme:
            raise ConfigError("the backend is not a URL; write one such as redis://host or file:///var/lib/cronlock")
        self.scheme = scheme.lower()
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if self.scheme != "file" and "@" in path + query:
            # The part before it may be a password, so no message shows it.
            raise ConfigError(
                f"{self.scheme}://: an '@' behind the first '/' or '?'; in user and password write / as %2F, ? as %3F, "
                "@ as %40"
            )
        credentials, at, addresses = authority.rpartition("@")
        user, colon, password = credentials.partition(":")
        self.user: str | None = self._decode(user) if user else None
        self.password: str | None = self._decode(password) if at and colon else None
        #: (host, port) in the order written; port None where not given.
        self.hosts = [self._address(address) for address in addresses.split(",")] if addresses else []
        #: Begins with a slash, or is empty.
        self.path = self._decode(slash + path)
        self.params: dict[str, str] = {}
        for position, item in enumerate(query.split("&") if query else (), 1):
            name, equals, value = item.partition("=")
            if not equals or not name:
                # Its text may be the rest of a password with an '&' in it.
                raise ConfigError(f"{self}: parameter {position} is not of the form name=value; write & as %26")
            if name in self.params:
                raise ConfigError(f"{self}: parameter {name!r} is given twice")
            self.params[name] = self._decode(value)

    def __str__(self) -> str:
        """Return scheme and hosts only: what a message needs and what hides the rest."""
        addresses = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
            for host, port in self.hosts
        )
        # Paths of remote backends (database, chroot) are no secret, and tell servers apart.
        return f"{self.scheme}://{addresses}{self.path}"

    def need_hosts(self, default_port: int) -> list[tuple[str, int]]:
        """Return the hosts with their ports; raise ConfigError when the URL names none."""
        if not self.hosts:
            raise ConfigError(f"{self}: no host; write {self.scheme}://HOST:{default_port}")
        return [(host, default_port if port is None else port) for host, port in self.hosts]

    def need_name(self, how: str) -> str:
        """Return what stands alone in the host's place; raise ConfigError, which ends with `how`, for anything else."""
        if len(self.hosts) != 1 or self.hosts[0][1] is not None:
            raise ConfigError(f"{self}: {how}")
        return self.hosts[0][0]

    def forbid_credentials(self, instead: str) -> None:
        """Raise ConfigError, which ends with what to do `instead`, for a user or a password."""
        if self.user is not None or self.password is not None:
            raise ConfigError(f"{self}: user and password are not supported; {instead}")

    def check_credentials(self) -> None:
        """Raise ConfigError for a user without a password, or the other way round."""
        if (self.user is None) != (self.password is None):
            raise ConfigError(f"{self}: give user and password, or neither: {self.scheme}://USER:PASSWORD@HOST")

    def forbid_path(self, instead: str) -> None:
        """Raise ConfigError, which ends with what to do `instead`, for a path."""
        if self.path not in ("", "/"):
            raise ConfigError(f"{self}: a path is not supported; {instead}")

    def take_params(self, known: tuple[str, ...]) -> dict[str, str]:
        """Return the parameters; raise ConfigError when one is not in `known`."""
        for name in self.params:
            if name not in known:
                knows = f"{self.scheme}:// knows {', '.join(sorted(known)) or 'none'}"
                likely = nearest(name, known)
                hint = self._hint(name, known) or (likely and f"did you mean {likely}?")
                raise ConfigError(f"{self}: unknown parameter {name!r}; {hint or knows}")
        return self.params

    @property
    def secure(self) -> bool:
        """Whether the scheme asks for TLS."""
        return self.scheme in WITH_TLS.values()

    @property
    def path_parts(self) -> list[str]:
        """The parts of the path between slashes; none for an empty path."""
        path = self.path.strip("/")
        return path.split("/") if path else []

    def flag(self, name: str) -> bool:
        """Return whether the parameter `name` is ``yes``; raise ConfigError for anything but yes and no."""
        value = self.params.get(name, "no")
        if value not in ("yes", "no"):
            raise ConfigError(f"{self}: {name}={value!r}: write {name}=yes or {name}=no")
        return value == "yes"

    def _hint(self, name: str, known: tuple[str, ...]) -> str:
        """Return what does here what a parameter does elsewhere; empty for nothing."""
        if name in _TLS_FILES and f"ssl{_TLS_FILES[name]}" in known:
            return f"write ssl{_TLS_FILES[name]}="
        if name in _TLS_FILES and self.scheme in WITH_TLS:
            return f"TLS files go with {WITH_TLS[self.scheme]}://"
        if name == "prefix" and "table" in known:
            return "keys are kept apart by table="
        return ""

    def prefix(self) -> str:
        """Return what names of keys begin with on the server; raise ConfigError for a bad one."""
        prefix = self.params.get("prefix", DEFAULT_PREFIX)
        if not 1 <= len(prefix) <= 64 or not set(prefix) <= _PREFIX_CHARACTERS:
            raise ConfigError(f"{self}: prefix={prefix!r}: use 1 to 64 letters, digits, '-', '_' or '.'")
        return prefix

    def _address(self, address: str) -> tuple[str, int | None]:
        if address.startswith("["):
            host, bracket, rest = address[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ConfigError(f"{self.scheme}://: bad address {address!r}; write [ADDRESS]:PORT")
            port = rest[1:]
            separated = bool(rest)
        else:
            host, colon, port = address.partition(":")
            separated = bool(colon)
        if not host:
            raise ConfigError(f"{self.scheme}://: a host is missing; write {self.scheme}://HOST")
        if not separated:
            return host, None
        if not is_port(port):
            raise ConfigError(f"{self.scheme}://{host}: bad port; use a number from 1 to 65535")
        return host, int(port)

    def _decode(self, text: str) -> str:
        try:
            return unescape(text)
        except ValueError:
            raise ConfigError(f"{self.scheme}://: a bad %XX in the URL; write a percent sign as %25") from None
