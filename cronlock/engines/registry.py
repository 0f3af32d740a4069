"""The registry of backends: which module serves which URL, loaded only when a URL names it."""

from __future__ import annotations

from .. import know_packages
from ..errors import ConfigError, nearest
from .url import DEFAULT_PREFIX, URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from ..config.settings import Settings
    from ..lease.vocabulary import Backend

#: scheme -> module with ``open_backend(url, timeout)``, or a store's ``open_store``.
SCHEMES: dict[str, str] = {
    "file": "cronlock.engines.file.store",
    "redis": "cronlock.engines.redis.store",
    "rediss": "cronlock.engines.redis.store",
    "redis+unix": "cronlock.engines.redis.store",
    "redis+sentinel": "cronlock.engines.redis.ensemble",
    "redis+cluster": "cronlock.engines.redis.ensemble",
    "memcached": "cronlock.engines.memcached.store",
    "memcacheds": "cronlock.engines.memcached.store",
    "zookeeper": "cronlock.engines.zookeeper.store",
    "zookeepers": "cronlock.engines.zookeeper.store",
    "etcd": "cronlock.engines.etcd.store",
    "etcds": "cronlock.engines.etcd.store",
    "dynamodb": "cronlock.engines.dynamodb.store",
    "s3": "cronlock.engines.s3.store",
    "sqs": "cronlock.engines.sqs.backend",
    "postgresql": "cronlock.engines.postgresql.store",
    "postgres": "cronlock.engines.postgresql.store",
    "mysql": "cronlock.engines.mysql.store",
    "mariadb": "cronlock.engines.mysql.store",
}
#: Schemes that are another name for one.
_ALIASES = {"mariadb": "mysql", "postgres": "postgresql"}
#: Parameters by which engines tell databases, accounts and tables apart, besides those that all know.
_PLACES = ("account", "endpoint", "host", "port", "region", "socket", "table")
#: The group of entry points of third parties' engines: scheme = module.
ENTRY_POINTS = "cronlock.backends"


def open_configured(settings: Settings) -> Backend:
    """Return the backend that `settings` name. Raises ConfigError, saying where it is set."""
    try:
        return open_backend(settings.backend_url, settings.backend_timeout)
    except ConfigError as error:
        raise ConfigError(f"{settings.sources['backend']}: {error}" if settings.backend else str(error)) from error


def open_backend(text: str, timeout: float) -> Backend:
    """Return the backend that the URL `text` names; `timeout` limits each of its requests.

    No connection is made yet. Raises ConfigError for an unknown scheme, a bad URL or a client
    package that is not installed.
    """
    url = URL(text)
    name = _module_of(url.scheme)
    try:
        module = _load(name)
    except ImportError as error:
        folder = name.rpartition(".")[0]
        if url.scheme in SCHEMES and error.name in (name, folder):
            engine = folder.rpartition(".")[2]
            raise ConfigError(
                f"{url.scheme}:// needs cronlock's engine {engine}, which is not installed: install it again"
            ) from error
        if url.scheme not in SCHEMES:
            raise ConfigError(
                f"{url.scheme}:// is served by the module {name}, which cannot be imported: {error}"
            ) from error
        from .clients import lacks

        lacking = lacks((error.name or "").partition(".")[0])
        if lacking is None:
            raise
        raise ConfigError(f"{url.scheme}:// needs {lacking}") from error
    if hasattr(module, "open_store"):
        from ..lease.leases import Leases

        return Leases(module.open_store(url, timeout))
    backend: Backend = module.open_backend(url, timeout)
    return backend


def _load(name: str) -> ModuleType:
    """Import the module `name`, with the system's packages if it needs one; raise ImportError."""
    try:
        return _import(name)
    except ImportError as error:
        if (error.name or "").startswith("cronlock"):
            raise
        from .clients import see_installed

        if not see_installed():
            raise
    return _import(name)


def _import(name: str) -> ModuleType:
    package, _, _ = name.rpartition(".")
    if package.startswith("cronlock."):
        know_packages(package.partition(".")[2])
    module: ModuleType = __import__(name, fromlist=["open_backend"])
    return module


def _module_of(scheme: str) -> str:
    """Return the module of `scheme`; an entry point serves what is unknown here.

    Raises ConfigError if no engine serves it.
    """
    if scheme in SCHEMES:
        return SCHEMES[scheme]
    # Costs more than a whole run on Redis, so it is imported only if needed.
    from importlib.metadata import entry_points

    found = entry_points()
    # Up to Python 3.9 it is a dict of all groups.
    group = found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, ())
    modules = {point.name: point.value for point in group}
    if scheme not in modules:
        known = [*SCHEMES, *sorted(modules)]
        likely = nearest(scheme, known)
        hint = f"did you mean {likely}://?" if likely is not None else f"known: {', '.join(known)}"
        raise ConfigError(f"unknown backend {scheme}://; {hint}")
    return modules[scheme]


def open_doctor(text: str) -> ModuleType | None:
    """Return the module that examines servers for ``cronlock doctor``, None if the URL's backend has none.

    Cronlock's own stand beside the backend; another package's is called as its backend's module and ``_doctor``.
    Each has `reach` and `examine`, some `create`, of a `cronlock.doctor.probe.Case`: see ``docs/writing-a-backend.md``.
    """
    name = _doctor_of(_module_of(URL(text).scheme))
    try:
        module: ModuleType = __import__(name, fromlist=["examine"])
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    return module


def _doctor_of(backend: str) -> str:
    """Return the name of the module that examines what the module `backend` talks to."""
    own = backend.startswith("cronlock.engines.")
    return f"{backend.rpartition('.')[0]}.doctor" if own and not backend.endswith(".ensemble") else f"{backend}_doctor"


def location(text: str) -> str:
    """Return what tells the backend of URL `text` from others, without its credentials."""
    url = URL(text)
    shown = _ALIASES.get(url.scheme, url.scheme) + str(url)[len(url.scheme) :]
    words = [shown, url.params.get("prefix", DEFAULT_PREFIX), url.params.get("db", "")]
    words += [f"{name}={url.params[name]}" for name in _PLACES if name in url.params]
    return " ".join(words).rstrip()
