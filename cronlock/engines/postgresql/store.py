"""Cells in a table of PostgreSQL.

    postgresql://[user[:password]@]HOST[:5432][,HOST...]/DATABASE     postgres:// is the same
    postgresql://[user[:password]@]/DATABASE?host=/run/postgresql     by a Unix socket; &port=5432

Parameters: ``table`` (``NAME`` or ``SCHEMA.NAME``, default ``cronlock``; `cronlock doctor --create` makes
it), and libpq's own for TLS and Kerberos (`LIBPQ`), with its defaults: without ``sslmode`` TLS is used
where the server has it, and nothing is verified. libpq takes what the URL omits from its usual
sources: a password from ``PGPASSFILE`` or ``~/.pgpass``.

Of several hosts the first one that accepts connections and writes is used: a standby is skipped. The
server's clock alone judges leases and holds. The connection stays open for the run.
"""

from __future__ import annotations

import time

from ...errors import ConfigError, Forbidden
from ..url import is_port
from ..wire import sql
from ..wire.sql import Refused
from . import sql as statements
from .messages import PRODUCT
from .servers import Servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.store import Cell
    from ..url import URL
    from .messages import Row

PORT = 5432
#: The SQLSTATE insufficient_privilege.
DENIED = "42501"
#: The parameters that libpq gets unchanged.
LIBPQ = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "ssl_min_protocol_version"),
    *("channel_binding", "require_auth", "gssencmode", "krbsrvname", "passfile"),
)
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


def open_store(url: URL, timeout: float) -> PostgresqlStore:
    """Return the store for a URL; raise ConfigError for a bad one."""
    params = url.take_params(("table", "host", "port", *LIBPQ))
    database = url.path[1:]
    if not database or "\0" in url.path:
        raise ConfigError(f"{url}: no database; write {url.scheme}://HOST/DATABASE")
    if params.get("sslmode", "prefer") not in _SSLMODES:
        raise ConfigError(f"{url}: sslmode={params['sslmode']!r}: use one of {', '.join(_SSLMODES)}")
    for name, value in params.items():
        if "\0" in value or not value:
            raise ConfigError(f"{url}: parameter {name!r} has no usable value")
    for name, given in (("user", url.user), ("password", url.password)):
        if "\0" in (given or ""):
            raise ConfigError(f"{url}: the {name} contains a zero byte (%00)")
    for name in _FILES:
        if name in params and params[name] != "system":
            _need_file(url, name, params[name])
    parts = sql.table_name(url)
    settings = {name: params[name] for name in LIBPQ if name in params}
    settings.update(dbname=database, target_session_attrs="read-write", application_name="cronlock")
    # All requests are ASCII, but the server's messages may not be.
    settings["client_encoding"] = "UTF8"
    if url.user is not None:
        settings["user"] = url.user
    if url.password is not None:
        settings["password"] = url.password
    return PostgresqlStore(Servers(str(url), _addresses(url), settings, parts), timeout)


def _need_file(url: URL, name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{url}: cannot use {name}={path}: {error.strerror}") from error


def _addresses(url: URL) -> list[tuple[str, str]]:
    """Return host and port of each server, as libpq takes them."""
    directory, port = url.params.get("host"), url.params.get("port", str(PORT))
    if directory is None:
        if "port" in url.params:
            raise ConfigError(f"{url}: port= belongs to host=/DIRECTORY; write {url.scheme}://HOST:PORT/DATABASE")
        return [(host, str(number)) for host, number in url.need_hosts(PORT)]
    if url.hosts or not directory.startswith("/"):
        raise ConfigError(f"{url}: host= is the directory of a Unix socket: {url.scheme}:///DATABASE?host=/DIRECTORY")
    if not is_port(port):
        raise ConfigError(f"{url}: bad port; use a number from 1 to 65535")
    return [(directory, port)]


class PostgresqlStore(sql.TableStore):
    """A row for each key, its name `statements.code` of it."""

    servers: Servers
    product = PRODUCT

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the row if it is still as `seen` shows it."""
        try:
            values = (statements.code(key), str(seen.version))
            return bool(self.servers.query(statements.REMOVE, values, 1, deadline)) or seen.version is None
        except Refused as error:
            if error.code != DENIED:
                raise
            raise Forbidden(f"{self.name}: no DELETE on {self.table}") from None

    def _look(self, key: str, deadline: float, *, exact: bool) -> Row:  # noqa: ARG002 (each read is exact)
        rows = self.servers.ask(statements.READ, (statements.code(key),), 6, deadline)
        if len(rows) != 1:
            raise self._protocol_error()
        *row, read_only = rows[0]
        if read_only != "off":
            # A pooler that spreads reads over standbys, or a server that was set to read-only.
            raise self.servers.only_reads()
        return row

    def _put(
        self, key: str, seen: Cell, version: str, record: str, ends: tuple[str, str], deadline: float
    ) -> Row | None:
        values = [statements.code(key), version, record]
        text = statements.INSERT
        if seen.version is not None:
            text = statements.UPDATE
            values.append(str(seen.version))
        rows = self.servers.ask(statements.with_ends(text, *ends), values, 3, deadline)
        return rows[0] if rows else None

    def _names(self, last: bytes) -> list[bytes | None]:
        values = (last.decode("utf-8", "surrogateescape"), str(sql.PAGE))
        rows = self.servers.ask(statements.LIST, values, 1, time.monotonic() + self.timeout)
        return [None if name is None else name.encode("utf-8", "surrogateescape") for (name,) in rows]

    def _key(self, name: bytes) -> str:
        return statements.decode(name.decode("utf-8", "surrogateescape"))
