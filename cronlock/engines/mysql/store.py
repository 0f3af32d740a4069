"""Cells in a table of MySQL or MariaDB.

    mysql://[user[:password]@]HOST[:3306][,HOST...]/DATABASE        mariadb:// is the same
    mysql://[user[:password]@]/DATABASE?socket=/PATH

Parameters: ``table`` (its name, ``cronlock`` unless given; made by ``cronlock doctor --create``), ``ssl``
(``disabled``, ``required``, ``verify_ca`` or ``verify_identity``; the last if there is a ``ca``, else the
first), ``ca``, ``cert``, ``key`` (TLS files), ``socket``. Of several hosts the first that takes writes is
asked.
"""

from __future__ import annotations

import time

from ...errors import ConfigError, Forbidden
from ..wire import sql
from ..wire.sql import Refused
from ..wire.stream import TLS_PARAMS, retry_while_busy, tls_context
from . import sql as statements
from .packets import PRODUCT
from .servers import Servers, is_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...lease.store import Cell
    from ..url import URL
    from ..wire.tls import Context
    from .connection import Row
    from .servers import Address

PORT = 3306
#: Codes of the server's errors for statements that a user may not execute.
DENIED = (1044, 1142, 1227)
#: Values of ssl=, from the weakest.
SSL_MODES = ("disabled", "required", "verify_ca", "verify_identity")
_LONGEST_NAME = 64


def open_store(url: URL, timeout: float) -> MysqlStore:
    """Return the store for a URL; raise ConfigError for a bad one."""
    params = url.take_params(("table", "ssl", "socket", *TLS_PARAMS))
    database = url.path[1:]
    if not 0 < len(database) <= _LONGEST_NAME or "\0" in database or "/" in database:
        raise ConfigError(f"{url}: no database; write {url.scheme}://HOST/DATABASE")
    parts = sql.table_name(url)
    path = params.get("socket")
    if path is None:
        addresses: list[Address] = [*url.need_hosts(PORT)]
    elif url.hosts or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{url}: socket= is a path, without a host: {url.scheme}:///DATABASE?socket=/PATH")
    else:
        addresses = [path]
    tls = _tls(url, params)
    if tls is not None and path is not None:
        raise ConfigError(f"{url}: a Unix socket has no TLS; leave out ssl= and ca=")
    servers = Servers(
        str(url),
        addresses,
        user=url.user,
        password=url.password or "",
        database=database,
        table=".".join(parts),
        tls=tls,
    )
    return MysqlStore(servers, timeout)


def _tls(url: URL, params: dict[str, str]) -> Context | None:
    default = "verify_identity" if "ca" in params else "disabled"
    mode = params.get("ssl", default).lower().replace("-", "_")
    if mode not in SSL_MODES:
        raise ConfigError(f"{url}: ssl={params['ssl']!r}: use one of {', '.join(SSL_MODES)}")
    if mode == "disabled":
        if any(name in params for name in TLS_PARAMS):
            raise ConfigError(f"{url}: ca, cert and key are for TLS; write ssl=required, or verify_identity with a ca")
        return None
    context = tls_context(str(url), params)
    if mode != "verify_identity":
        from ..wire.tls import loosen

        loosen(context, any_authority=mode == "required")
    return context


class MysqlStore(sql.TableStore):
    """A row for each key, its name the key's own bytes."""

    servers: Servers
    product = PRODUCT

    def __init__(self, servers: Servers, timeout: float) -> None:
        super().__init__(servers, timeout)
        #: The table as statements name it.
        self.quoted_table = ".".join(f"`{part}`" for part in servers.shown_table.split("."))

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the row, if it is as it was seen."""
        try:
            rows = self.servers.changed(self._filled(statements.REMOVE, name=key, seen=str(seen.version)), deadline)
        except Refused as error:
            if error.code not in DENIED:
                raise
            raise Forbidden(f"{self.name}: no DELETE on {self.table}") from None
        return rows > 0 or seen.version is None

    def _look(self, key: str, deadline: float, *, exact: bool) -> Row:
        return retry_while_busy(deadline, lambda: self._look_once(key, deadline, exact=exact))

    def _look_once(self, key: str, deadline: float, *, exact: bool) -> Row:
        """Return a row of `READ`.

        Another node of a Galera cluster than the one that wrote last may be behind: it is asked again, once it has
        all that was written before.
        """
        texts = [statements.COMMITTED, self._filled(statements.READ, name=key)]
        answers = self.servers.ask_once([statements.GALERA, *texts] if exact else texts, deadline)
        if exact and answers[0][1]:
            answers = self.servers.ask_once([statements.CAUGHT_UP, *texts, statements.AS_BEFORE], deadline)[:-1]
        *row, read_only = self._only_row(answers, 6)
        if is_on(read_only):
            raise self.servers.only_reads()
        return tuple(row)

    def _put(
        self, key: str, seen: Cell, version: str, record: str, ends: tuple[str, str], deadline: float
    ) -> Row | None:
        text = statements.with_ends(statements.INSERT if seen.version is None else statements.UPDATE, *ends)
        swap = self._filled(text, name=key, version=version, record=record, seen=str(seen.version))
        answers = self.servers.ask([swap, self._filled(statements.WRITTEN, name=key, version=version)], deadline)
        row = self._only_row(answers, 3)
        # Some servers and poolers count the rows that a statement changed, others those it found: of an UPDATE the
        # number tells whether it was done, also if another write came between the two; of an INSERT it does not.
        is_done = row[1] is not None or (seen.version is not None and answers[0][0] > 0)
        return row if is_done else None

    def _names(self, last: bytes) -> list[Any]:
        text = self._filled(statements.LIST, last=last, page=sql.PAGE)
        answers = self.servers.ask([text], time.monotonic() + self.timeout)
        return [row[0] for row in answers[0][1]]

    def _key(self, name: bytes) -> str:
        return name.decode("utf-8", "surrogateescape")

    def _filled(self, text: str, **values: str | bytes | int | None) -> str:
        return statements.statement(text, self.quoted_table, **values)

    def _only_row(self, answers: list[tuple[int, list[Row]]], width: int) -> Row:
        """Return the one row of the last answer."""
        rows = answers[-1][1]
        if len(rows) != 1 or len(rows[0]) != width:
            raise self._protocol_error()
        return rows[0]
