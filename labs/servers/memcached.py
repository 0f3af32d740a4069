"""memcached, plain and with TLS."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .process import LOOPBACK, Group, Server, Site, ask, need
from .tls import query, tls


class MemcachedServer(Server):
    """One memcached. `extra` is more of the command line."""

    def __init__(self, *, tls: bool = False, extra: Sequence[str] = (), site: Site = LOOPBACK) -> None:
        super().__init__(site)
        self.tls = tls
        self._extra = list(extra)

    def command(self) -> list[str]:
        """Return the command line of memcached."""
        command = [need("memcached", "memcached"), "-l", self.site.host, "-p", str(self.port)]
        command += ["-U", "0", "-m", "16", "-t", "2"]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        if self.tls:
            files = tls()
            options = f"ssl_chain_cert={files.cert},ssl_key={files.key},ssl_ca_cert={files.ca}"
            command += ["-Z", "-o", options]
        return command + self._extra

    def is_ready(self) -> bool:
        """Return True if it tells its version."""
        return self.ask("version").startswith("VERSION")

    def ask(self, command: str, end: str = "\r\n") -> str:
        """Return the answer to a command of the text protocol, up to `end` (``END`` for stats and get)."""
        context = tls().context() if self.tls else None
        return ask(self.port, command.encode() + b"\r\n", end=end.encode(), tls=context, host=self.site.host).decode()

    def url(self, port: int = 0, **params: str) -> str:
        """Return the backend's URL; `port` is another way to the server, such as a proxy's."""
        if self.tls:
            params = {**tls().params(), **params}
        return f"{'memcacheds' if self.tls else 'memcached'}://{self.site.host}:{port or self.port}{query(params)}"


class MemcachedServers(Group[MemcachedServer]):
    """Several servers that share the keys."""

    def __init__(self, number: int = 3, sites: Sequence[Site] = ()) -> None:
        super().__init__([MemcachedServer(site=site) for site in sites or [LOOPBACK] * number])

    def url(self, **params: str) -> str:
        """Return the backend's URL, which names all of them."""
        return f"memcached://{self.endpoints}{query(params)}"
