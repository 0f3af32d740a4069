"""What the servers of SQL databases share: who they run as, data, users and table, and their URLs."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from cronlock.engines.wire.sql import GRANTS

from .process import LOOPBACK, Server, Site, need
from .tls import query, tls

#: Who the servers run as where the tests are root.
_USER = "nobody"


def as_user(death: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return the start of a command that is to run as somebody without rights, and gets `death` with this process."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_USER)
    # Behind the change of user, which takes the death signal away.
    leash = ("--pdeathsig", death.name)
    return [need("setpriv", "util-linux"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *leash]


def give(*paths: Path) -> None:
    """Let them belong to whom the servers run as."""
    for path in paths:
        if os.geteuid() == 0:
            shutil.chown(path, _USER)


def run_as_user(*command: str) -> None:
    """Run a command to its end, as servers run."""
    done = subprocess.run([*as_user(), *command], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


class DatabaseServer(Server):
    """One server, with cronlock's table in the database that everybody uses unless it is `bare`.

    `users` maps the names of users to their passwords; the first is the one of `url`. With `tls` they are let in
    over encrypted connections only; `settings` are more of its own, by the names of its options.
    """

    keeps_data = True
    #: Of its URLs, with the administrator and the database that everybody uses.
    scheme: ClassVar[str]
    admin: ClassVar[str]
    database: ClassVar[str]
    #: What a data directory has once it was made, and what the driver raises.
    made: ClassVar[str]
    failures: ClassVar[type[Exception]]
    #: The settings that name the files of its key, its certificate and the authority.
    tls_files: ClassVar[tuple[str, str, str]]

    def __init__(
        self,
        *,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        bare: bool = False,
        site: Site = LOOPBACK,
    ) -> None:
        super().__init__(site)
        self.tls = tls
        self._users = dict(users or {})
        self._bare = bare
        self._settings = {**self.usual_settings(), **(settings or {})}

    def usual_settings(self) -> dict[str, str]:
        """Return the settings that each has unless it is given others."""
        raise NotImplementedError

    @classmethod
    def initialize(cls, data: Path) -> None:
        """Make a new data directory."""
        raise NotImplementedError

    def make_data(self) -> None:
        """Make the server's data directory."""
        # A copy is cheaper than a new one for each server.
        subprocess.run(["cp", "-a", str(_template(type(self).initialize)), str(self.data)], check=True)

    def launch(self) -> None:
        """Start it, on a new data directory if it has none."""
        give(self.directory)
        self.directory.chmod(0o755)
        if not (self.data / self.made).exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self.make_data()
        if self.tls:
            own = map(self._own, (tls().key, tls().cert, tls().ca))
            self._settings.update(zip(self.tls_files, own))
        super().launch()

    def wait_ready(self) -> None:
        """Wait until it answers, and make table and users."""
        super().wait_ready()
        if not self._bare:
            self.make_table()
        for name, password in self._users.items():
            self.add_user(name, password)
            if not self._bare:
                self.grant(name)

    def is_ready(self) -> bool:
        """Return True if it answers a statement."""
        try:
            return bool(self.run("SELECT 1"))
        except self.failures:
            return False

    def run(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of an administrator's statement."""
        raise NotImplementedError

    def make_table(self, table: str = "cronlock") -> None:
        """Make a table as `cronlock doctor --create` does."""
        raise NotImplementedError

    def add_user(self, name: str, password: str) -> None:
        """Add a user, unless there is one of that name."""
        raise NotImplementedError

    def grant(self, user: str, table: str = "cronlock") -> None:
        """Let a user use a table."""
        self.run(f"GRANT {GRANTS}, DELETE ON {table} TO {user}")

    def url(
        self, database: str = "", *, user: str = "", password: str | None = None, port: int = 0, **params: str
    ) -> str:
        """Return the backend's URL, with the first user and password of the server's own unless others are given.

        `port` is another way to it, such as a proxy's.
        """
        if not user:
            user, own = next(iter(self._users.items()), (self.admin, None))
            password = own if password is None else password
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        params = {**(self.tls_params() if self.tls else {}), **params}
        place = f"{login}@{self.site.host}:{port or self.port}"
        return f"{self.scheme}://{place}/{database or self.database}{query(params)}"

    def tls_params(self) -> dict[str, str]:
        """Return the parameters of a URL that trusts the tests' authority."""
        return tls().params()

    def _own(self, path: Path) -> str:
        """Return the path of a copy that is the server's alone."""
        own = self.directory / path.name
        shutil.copy(path, own)
        own.chmod(0o600)
        give(own)
        return str(own)


@functools.cache
def _template(initialize: Any) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="cl-db-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    give(directory)
    initialize(directory / "data")
    return directory / "data"
