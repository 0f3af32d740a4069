"""The parts of Redis's URLs: the server, the login and the database."""

from __future__ import annotations

from ...errors import ConfigError
from ..wire.stream import TLS_PARAMS, tls_context
from .resp import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..url import URL


def open_server(url: URL) -> Server:
    """Return the server of a URL of one, not yet connected; raise ConfigError for a bad one."""
    unix = url.scheme == "redis+unix"
    params = url.take_params(("prefix", "min_replicas", *(("db",) if unix else TLS_PARAMS)))
    if unix:
        if url.hosts or len(url.path) < 2:
            raise ConfigError(f"{url}: names no socket; write redis+unix:///PATH")
        address: tuple[str, int] | str = url.path
    else:
        hosts = url.need_hosts(6379)
        if len(hosts) > 1:
            raise ConfigError(f"{url}: names several hosts; use redis+sentinel:// or redis+cluster:// for that")
        address = hosts[0]
    tls = tls_context(str(url), params, late=True) if url.scheme == "rediss" else None
    if tls is None and any(name in params for name in TLS_PARAMS):
        raise ConfigError(f"{url}: ca, cert and key are for TLS; use rediss://")
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
            raise ConfigError(f"{url}: has a user without a password; write user:password@")
        return None
    return url.user, url.password


def number(url: URL, what: str, text: str) -> int:
    """Return the small number in `text`; raise ConfigError for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ConfigError(f"{url}: {what} must be a number, not {text!r}")
    return int(text)
