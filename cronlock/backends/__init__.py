"""The registry of backends: which module serves which URL, loaded only when a URL names it."""

from __future__ import annotations

from ..errors import ConfigError
from .url import DEFAULT_PREFIX, URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from ..lease import Backend
    from ..settings import Settings

#: scheme -> (module with ``open_backend(url, timeout)``, client package it needs or None)
SCHEMES: dict[str, tuple[str, str | None]] = {
    "file": ("cronlock.backends.file", None),
    "redis": ("cronlock.backends.redis", None),
    "rediss": ("cronlock.backends.redis", None),
    "redis+unix": ("cronlock.backends.redis", None),
    "redis+sentinel": ("cronlock.backends.redis_ha", "redis"),
    "redis+cluster": ("cronlock.backends.redis_ha", "redis"),
    "memcached": ("cronlock.backends.memcached", None),
    "memcacheds": ("cronlock.backends.memcached", None),
    "zookeeper": ("cronlock.backends.zookeeper", "kazoo"),
    "zookeepers": ("cronlock.backends.zookeeper", "kazoo"),
}


def open_configured(settings: Settings) -> Backend:
    """Return the backend that `settings` name. Raises ConfigError, saying where it is set."""
    try:
        return open_backend(settings.backend_url, settings.backend_timeout)
    except ConfigError as error:
        raise ConfigError(f"{settings.wheres['backend']}: {error}" if settings.backend else str(error)) from error


def open_backend(text: str, timeout: float) -> Backend:
    """Return the backend that the URL `text` names; `timeout` limits each of its requests.

    No connection is made yet. Raises ConfigError for an unknown scheme, a bad URL or a client
    package that is not installed.
    """
    url = URL(text)
    try:
        module_name, package = SCHEMES[url.scheme]
    except KeyError:
        raise ConfigError(f"unknown backend {url.scheme}://; known: {', '.join(SCHEMES)}") from None
    try:
        module = __import__(module_name, fromlist=["open_backend"])
    except ModuleNotFoundError as error:
        if package is None or (error.name or "").partition(".")[0] != package:
            raise
        raise ConfigError(f"{url.scheme}:// needs the Python package {package}: pip install {package}") from error
    backend: Backend = module.open_backend(url, timeout)
    return backend


def open_doctor(text: str) -> ModuleType | None:
    """Return the module that examines servers for ``cronlock doctor``, None if the URL's backend has none.

    It is called as the backend's module and ``_doctor``, and has `reach`, `examine` and `forget`, each of
    which takes a `cronlock.probe.Case`: see ``docs/architecture.md``.
    """
    name = f"{SCHEMES[URL(text).scheme][0]}_doctor"
    try:
        module: ModuleType = __import__(name, fromlist=["examine"])
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    return module


def place(text: str) -> str:
    """Return what tells the backend of URL `text` from others, without its credentials."""
    url = URL(text)
    return f"{url} {url.params.get('prefix', DEFAULT_PREFIX)} {url.params.get('db', '')}".rstrip()
