"""Tests of both SQL doctors: the table, and servers that do not answer."""

from __future__ import annotations

from typing import Any

import pytest

from cronlock.doctor.findings import BAD, NOTE, OK
from labs.proxy import Proxy
from labs.servers.process import HOST, free_port

from ..look import Look


class TableDoctor:
    """The tests; a module that has them has the fixtures `server`, with a user guest, and `table`, a name."""

    scheme = ""
    #: The start of the finding "server".
    product = ""
    #: The text after the table's name, and the name of the row of the key "kept".
    shown = ""
    kept: object = "kept"
    #: The guest's password.
    password: str | None = None
    #: The finding of a guest without privileges, and its text; the statement that lets the guest see the table.
    locked_out = "", ""
    lets_see: str | None = None

    def guest(self, server: Any, table: str) -> str:
        """Return the URL of a user who may do nothing."""
        return str(server.url(user="guest", table=table, **({"password": self.password} if self.password else {})))

    def test_making_the_table(self, server: Any, table: str) -> None:
        """The table is made once, and what is in it stays."""
        url = server.url(table=table)
        missing = Look(url).one("table")
        assert (missing.level, missing.remedy) == (BAD, "make it: cronlock doctor --create")
        made = Look(url, create=True)
        assert made.one("create").text == f"made table {table}"
        assert BAD not in made.levels().values()
        server.run(f"INSERT INTO {table} VALUES ('kept', 'v', 'r', 0, 0)")
        assert Look(url, create=True).one("create").text == f"table {table} exists already"
        assert server.run(f"SELECT name FROM {table}") == [(self.kept,)]

    def test_all_is_well(self, server: Any, table: str) -> None:
        """A server that is all right gives no warning, and nothing of the probe is left."""
        look = Look(server.url(table=table), create=True)
        assert set(look.levels().values()) == {OK, NOTE}
        assert look.one("lease").level == OK
        assert look.one("table").text == table + self.shown
        assert look.one("server").text.startswith(self.product)
        assert look.one("clock").values["bound"] > 0
        assert "pooler" not in look.levels()
        assert server.run(f"SELECT * FROM {table}") == []

    def test_missing_privilege_to_create(self, server: Any, table: str) -> None:
        """A user who may not make a table is told who can, and what to grant."""
        if self.lets_see is not None:
            server.run(self.lets_see)
        found = Look(self.guest(server, table), create=True).one("create")
        assert (found.level, "denied" in found.text) == (BAD, True)
        assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table}" in (found.remedy or "")

    def test_missing_rights(self, server: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Missing rights are named, and those that jobs need are enough; one that only the doctor needs is a note."""
        server.make_table(table)
        url = self.guest(server, table)
        name, text = self.locked_out
        assert text in Look(url).one(name).text
        server.run(f"GRANT SELECT ON {table} TO guest")
        assert "lacks INSERT, UPDATE" in Look(url).one("permissions").text
        server.run(f"GRANT INSERT, UPDATE ON {table} TO guest")
        for pid in (1, 2):
            # Each doctor of a host leaves the same one.
            monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
            look = Look(url)
            assert f": no DELETE on {table}: the doctors' own record, " in look.one("permissions").text
            assert set(look.levels().values()) == {OK, NOTE}
            assert len(server.run(f"SELECT * FROM {table}")) == 1
        server.run(f"GRANT DELETE ON {table} TO guest")
        assert set(Look(url).levels().values()) == {OK, NOTE}
        assert server.run(f"SELECT * FROM {table}") == []

    def test_table_of_others(self, server: Any, table: str) -> None:
        """A table that lacks columns is left unchanged, with a remedy."""
        url = server.url(table=table)
        server.run(f"CREATE TABLE {table} (name VARCHAR(10))")
        found = Look(url).one("table")
        assert "is not a cronlock table of this layout: it lacks version, record, lapses_at, held_until" in found.text
        assert "cronlock doctor --create" in (found.remedy or "")
        assert Look(url, create=True).one("create").level == OK
        assert Look(url).one("table").level == BAD

    def test_unix_socket(self, server: Any, table: str) -> None:
        """A Unix socket is named, and needs no encryption."""
        server.make_table(table)
        look = Look(server.unix_url(table=table))
        assert look.one("reachable").text == str(getattr(server, "socket", server.directory))
        assert "encryption" not in look.levels()

    def test_no_server(self, server: Any) -> None:
        """A closed port and a silent server are one finding each, in time."""
        assert Look(f"{self.scheme}://{HOST}:{free_port()}/db").levels() == {"reachable": BAD}
        with Proxy(server.port) as proxy:
            proxy.drop_all()
            url = server.url(port=proxy.port)
            assert "no answer in time" in Look(url, timeout=1.0).one("answer").text
            assert Look(url, timeout=1.0, create=True).levels() == {"create": BAD}
