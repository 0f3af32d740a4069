"""What ``cronlock doctor`` looks at on a ZooKeeper ensemble."""

from __future__ import annotations

import copy
import re
import time

import kazoo.version
from kazoo.protocol.serialization import Delete, Exists, SetData

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, judge_clock
from ...doctor.reaching import ANSWER, connect_all, is_up, show
from ...errors import BackendError, BackendUnavailable
from ..wire.stream import Stream, tls_context
from .session import NO_NODE, Session
from .tree import ANY_VERSION, DEFAULT_PORT, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from ..url import URL

_LONGEST_ANSWER = 1 << 16
_FEWEST = 3


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server, and open a session with one."""
    found = []
    for finding in connect_all(case, DEFAULT_PORT, _tls(case)):
        found.append(finding)
        yield finding
    if not is_up(found):
        return
    try:
        _note_what_is_missing(case)
    except BackendError as error:
        yield Finding(ANSWER, BAD, str(error))
        return
    if case.url.user is None:
        text = "none: nodes are open to whoever reaches the servers; write user:password@ in the URL"
        yield Finding("credentials", NOTE, text)
    elif case.url.scheme == "zookeeper":
        text = f"digest of {case.url.user}, readable on its way: only zookeepers:// (TLS) hides the password"
        yield Finding("credentials", NOTE, text)
    else:
        yield Finding("credentials", OK, f"digest of {case.url.user}")


def examine(case: Case) -> Iterator[Finding]:
    """Look at each server that the URL names, and at the leader's clock. Raises BackendError."""
    yield from _ensemble(case)
    if case.kept is not None:  # Else it cannot be written to.
        yield _clock(case)
    yield Finding("client", OK, f"kazoo {kazoo.version.__version__}")


def forget(case: Case) -> None:
    """Remove the probe's nodes, and those above that it made, unless somebody uses them by now."""
    tree, session = Tree(case.url, case.timeout), Session(str(case.url))
    with tree.opened(session, case.timeout):
        # One with nodes below it stays.
        session.ask(*(Delete(node, ANY_VERSION) for node in [tree.path(case.key), *case.missing]))
        session.end()


def _note_what_is_missing(case: Case) -> None:
    """Find out which of the nodes above the probe's are not there, deepest first. Raises BackendError."""
    tree, session = Tree(case.url, case.timeout), Session(str(case.url))
    parts = tree.path(case.key).split("/")[1:-1]
    nodes = [tree.clock_path] + ["/" + "/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    with tree.opened(session, case.timeout):
        replies = session.ask(*(Exists(node, None) for node in nodes))
        session.end()
    case.missing = [node for node, reply in zip(nodes, replies) if reply.code == NO_NODE]


def _ensemble(case: Case) -> Iterator[Finding]:
    modes: dict[str, str] = {}
    versions: set[str] = set()
    silent = []
    places = case.url.need_hosts(DEFAULT_PORT)
    for place in places:
        name = show(*place)
        try:
            _open_session(case, place)
            told = _four_letters(case, place)
        except BackendUnavailable as error:
            silent.append(str(error))
            continue
        mode = re.search(r"^Mode: (\w+)", told, re.MULTILINE)
        version = re.search(r"^Zookeeper version: ([0-9.]+)", told, re.MULTILINE)
        modes[name] = mode.group(1) if mode else "unknown"
        versions.update([version.group(1)] if version else [])
    yield _judge_ensemble(modes, silent)
    if versions:
        yield Finding("server", OK, f"ZooKeeper {', '.join(sorted(versions))}")
    else:
        yield Finding("server", NOTE, "cannot tell version and role: srvr is not in 4lw.commands.whitelist")


def _judge_ensemble(modes: dict[str, str], silent: list[str]) -> Finding:
    text = ", ".join(f"{name} {mode}" for name, mode in modes.items()) + "".join(f"; {reason}" for reason in silent)
    known = [mode for mode in modes.values() if mode != "unknown"]
    number = len(modes) + len(silent)
    if not modes:
        return Finding("ensemble", BAD, text, "bring the servers back")
    if silent:
        return Finding("ensemble", WARNING, text, "bring back the servers that do not serve")
    if "standalone" in known:
        return Finding("ensemble", WARNING, text, "run three or five: all leases and records are on one machine")
    if known and known.count("leader") > 1:
        return Finding("ensemble", BAD, text, "name servers of one ensemble only")
    if number < _FEWEST:
        return Finding("ensemble", WARNING, text, "name all servers in the URL, so that one may be down")
    if known and not known.count("leader"):
        return Finding("ensemble", NOTE, f"{text}; the URL does not name the leader")
    if number % 2 == 0:
        return Finding("ensemble", NOTE, f"{text}; an even number bears no more failures than one less")
    return Finding("ensemble", OK, text)


def _open_session(case: Case, place: tuple[str, int]) -> None:
    """Open a session with one server, which it gives only while it sees a leader. Raises BackendUnavailable."""
    tree, session = Tree(_only(case.url, place), case.timeout), Session(show(*place))
    with tree.opened(session, case.timeout):
        session.ask(Exists("/", None))
        session.end()


def _four_letters(case: Case, place: tuple[str, int]) -> str:
    """Return the answer to ``srvr``, with empty text where there is none. Raises BackendUnavailable."""
    stream = Stream.connect_tcp(show(*place), *place, case.deadline(), _tls(case))
    data = b""
    try:
        stream.send(b"srvr")
        while len(data) < _LONGEST_ANSWER:
            data += stream.receive()
    except BackendUnavailable:
        pass  # It closes the connection behind its answer.
    finally:
        stream.close()
    return data.decode("utf-8", "replace")


def _clock(case: Case) -> Finding:
    """Compare clocks by a write, whose time is the leader's."""
    tree, session = Tree(case.url, case.timeout), Session(str(case.url))
    with tree.opened(session, case.timeout):
        tree.read(session, case.key, exact=False)
        before, started = time.time(), time.monotonic()
        reply = session.ask(SetData(tree.clock_path, b"", ANY_VERSION))[0]
        took = time.monotonic() - started
        now = tree.value(reply, tree.clock_path).mtime / 1000
        session.end()
    # The leader tells whole milliseconds.
    return judge_clock(now - (before + took / 2), took / 2 + 0.001, case.hold)


def _only(url: URL, place: tuple[str, int]) -> URL:
    alone = copy.copy(url)
    alone.hosts = [place]
    return alone


def _tls(case: Case) -> ssl.SSLContext | None:
    return tls_context(str(case.url), case.url.params) if case.url.scheme == "zookeepers" else None
