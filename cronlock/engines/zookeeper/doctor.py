"""The checks of ``cronlock doctor`` on a ZooKeeper ensemble."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding
from ...errors import BackendUnavailable
from ..wire.doctor import alone, ask_each, connect_all, judge_credentials, judge_ensemble, look_at_clock, tls_of
from ..wire.stream import Stream
from ..wire.stream import endpoint as show
from .messages import Exists
from .session import Session
from .store import ZooKeeperStore
from .tree import DEFAULT_PORT, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case

_LONGEST_ANSWER = 1 << 16
_FEWEST = 3


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server, open a session with one, and read a key. Raises BackendError."""
    if (yield from connect_all(case, DEFAULT_PORT)):
        case.backend.read(case.key)
        nobody = "none: anyone who reaches the servers can change nodes; write user:password@ in the URL"
        yield judge_credentials(case.url, nobody, f"digest of {case.url.user}")


def examine(case: Case) -> Iterator[Finding]:
    """Check each server that the URL names, and the leader's clock. Raises BackendError."""
    yield from _ensemble(case)
    if case.kept is not None:  # Else it cannot be written to.
        store = case.store(ZooKeeperStore)
        # The leader's time, in whole milliseconds, by a write.
        yield look_at_clock(case, lambda: store.read(case.key, case.deadline(), exact=True).time or 0.0, 0.001)


def _ensemble(case: Case) -> Iterator[Finding]:
    def look(address: tuple[str, int]) -> str:
        _open_session(case, address)
        return _four_letters(case, address)

    answers, silent = ask_each(case.url.need_hosts(DEFAULT_PORT), look)
    modes = {address: _after("Mode", text) or "unknown" for address, text in answers.items()}
    versions = {_after("Zookeeper version", text) for text in answers.values()} - {""}
    yield _judge_ensemble(modes, silent)
    if versions:
        yield Finding("server", OK, f"ZooKeeper {', '.join(sorted(versions))}")
    else:
        yield Finding("server", NOTE, "cannot tell version and role: srvr is not in 4lw.commands.whitelist")


def _after(name: str, text: str) -> str:
    """Return the word after `name` in a reply to ``srvr``; empty if there is none."""
    found = re.search(rf"^{name}: ([\w.]+)", text, re.MULTILINE)
    return found[1] if found else ""


def _judge_ensemble(modes: dict[str, str], silent: list[str]) -> Finding:
    known = [mode for mode in modes.values() if mode != "unknown"]
    number, leaders = len(modes) + len(silent), known.count("leader")
    one = "run three or five: all leases and records are on one machine"
    return judge_ensemble(
        modes,
        silent,
        number,
        ("standalone" in known, WARNING, "", one),
        (leaders > 1, BAD, "", "name servers of one ensemble only"),
        (number < _FEWEST, WARNING, "", "name all servers in the URL, so that one may be down"),
        (known and not leaders, NOTE, "; the URL does not name the leader", None),
    )


def _open_session(case: Case, address: tuple[str, int]) -> None:
    """Open a session with one server, which it gives only while it sees a leader. Raises BackendUnavailable."""
    tree, session = Tree(alone(case.url, address), case.timeout), Session(show(*address))
    with tree.opened(session, case.timeout):
        session.ask(Exists("/"))
        session.end()


def _four_letters(case: Case, address: tuple[str, int]) -> str:
    """Return the reply to ``srvr``, empty if there is none. Raises BackendUnavailable."""
    stream = Stream.connect_tcp(show(*address), *address, case.deadline(), tls_of(case.url))
    data = b""
    try:
        stream.send(b"srvr")
        while len(data) < _LONGEST_ANSWER:
            data += stream.receive()
    except BackendUnavailable:
        pass  # It closes the connection after its reply.
    finally:
        stream.close()
    return data.decode("utf-8", "replace")
