"""The parts of Redis's URLs: the server, the login and the database."""

from __future__ import annotations

from ...errors import ConfigError
from ...value import digits
from ..wire.stream import take_tls
from .resp import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..url import URL


def open_server(url: URL) -> Server:
    """Return the server of a URL of one, not yet connected; raise ConfigError for a bad one."""
    unix = url.scheme == "redis+unix"
    tls = take_tls(url, "prefix", "min_replicas", *(["db"] if unix else []))
    if unix:
        if url.hosts or len(url.path) < 2:
            raise ConfigError(f"{url}: no path of a socket; write redis+unix:///PATH")
        address: tuple[str, int] | str = url.path
    else:
        hosts = url.need_hosts(6379)
        if len(hosts) > 1:
            raise ConfigError(f"{url}: several hosts: use redis+sentinel:// or redis+cluster://")
        address = hosts[0]
    return Server(str(url), address, credentials=credentials(url), tls=tls)


def database(url: URL) -> int:
    """Return the number of the database; raise ConfigError for a bad one."""
    if url.scheme == "redis+unix":
        return number(url, "db", url.params.get("db", "0"))
    path = url.path[1:]
    return number(url, "the database", (path.partition("/")[2] if url.scheme == "redis+sentinel" else path) or "0")


def credentials(url: URL) -> tuple[str | None, str] | None:
    """Return user (None: the default one) and password, or None; raise ConfigError for half of them."""
    if url.password is None:
        if url.user is not None:
            raise ConfigError(f"{url}: user without a password; write user:password@")
        return None
    return url.user, url.password


def number(url: URL, what: str, text: str) -> int:
    """Return the small number in `text`; raise ConfigError for any other text."""
    value = digits(text, 5)
    if value is None:
        raise ConfigError(f"{url}: {what} must be a number, not {text!r}")
    return value
