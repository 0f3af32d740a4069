"""Checks that the doctors of several engines share: connections, certificates, clocks, ensembles."""

from __future__ import annotations

import copy
import socket
import time
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, decide, judge_certificate, judge_clock
from ...errors import BackendUnavailable
from .stream import Stream, tls_context
from .stream import endpoint as show

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterable, Mapping
    from typing import TypeVar, Union

    from ...doctor.probe import Case
    from ...lease.server_clock import ServerClock
    from ..url import URL

    Address = tuple[str, int]
    _T = TypeVar("_T")
    #: Host and port, or the path of a Unix socket.
    _Place = TypeVar("_Place", Address, Union[Address, str])

REACHABLE = "reachable"
ANSWER = "answer"
_LOOKS = 3


def connect_all(case: Case, default_port: int, down: str | None = None) -> Generator[Finding, None, bool]:
    """Connect to each host of the URL, by TLS if it says so; return whether nothing was BAD.

    That is when none takes a connection; with `down`, what to do about it, when one takes none. All of them
    together get the time limit of one request, and as much again for TLS.
    """
    addresses = case.url.need_hosts(default_port)
    share = case.timeout / len(addresses)

    def connect(address: Address) -> Address:
        Stream.connect_tcp(show(*address), *address, time.monotonic() + share).close()
        return address

    reached, failures = ask_each(addresses, connect)
    if not reached:
        yield Finding(REACHABLE, BAD, "; ".join(failures))
        return False
    text, failed = ", ".join(reached), "; ".join(failures)
    found = decide(
        REACHABLE,
        (not failures, OK, text, None),
        (down, BAD, f"{text}; but not {failed}", down),
        (True, WARNING, f"{text}; but not {failed}", "start what is down, or take it out of the URL"),
    )
    yield found
    context = tls_of(case.url)
    checked = [certificate(address, context, share) for address in reached.values()] if context is not None else []
    yield from checked
    return BAD not in (found.level, *(one.level for one in checked))


def ask_each(addresses: Iterable[_Place], ask: Callable[[_Place], _T]) -> tuple[dict[str, _T], list[str]]:
    """Return what `ask` gets from each server, by its address, and why the others did not answer."""
    answers, failures = {}, []
    for address in addresses:
        try:
            answers[address if isinstance(address, str) else show(*address)] = ask(address)
        except BackendUnavailable as error:
            failures.append(str(error))
    return answers, failures


def judge_made(what: str, *, made: bool) -> Finding:
    """Report that `what` was made, or existed before."""
    return Finding("create", OK, f"made {what}" if made else f"{what} exists already")


def tls_of(url: URL) -> ssl.SSLContext | None:
    """Return the TLS context for the servers of a URL that asks for TLS by its scheme, or by ``tls=1``."""
    wanted = url.secure or url.params.get("tls") == "1"
    if not wanted:
        return None
    context = tls_context(str(url), url.params, public=True)
    import ssl  # Not every Python has it.

    assert isinstance(context, ssl.SSLContext)
    return context


def judge_credentials(url: URL, nobody: str, user: str) -> Finding:
    """Judge the URL's credentials: `nobody` is the text without a user, `user` the user's name in messages."""
    readable = f"{user}, whose password is sent unencrypted; use {url.scheme}s:// (TLS)"
    return decide(
        "credentials",
        (url.user is None, NOTE, nobody, None),
        (not url.secure, NOTE, readable, None),
        (True, OK, user, None),
    )


def alone(url: URL, address: Address) -> URL:
    """Return the URL of one of its servers."""
    one = copy.copy(url)
    one.hosts = [address]
    return one


def certificate(
    address: Address, context: ssl.SSLContext, limit: float, please: tuple[bytes, bytes] = (b"", b"")
) -> Finding:
    """Look at a server's certificate, within `limit` seconds; `please` is what opens TLS, and the answer to it."""
    import ssl  # Not every Python has it.

    shown = show(*address)
    try:
        with socket.create_connection(address, timeout=limit) as plain:
            plain.sendall(please[0])
            if please[1] and plain.recv(len(please[1])) != please[1]:
                return Finding("certificate", NOTE, f"{shown}: shows none")
            with context.wrap_socket(plain, server_hostname=address[0]) as stream:
                return judge_peer(shown, stream.getpeercert() or {}, stream.version())
    except ssl.SSLCertVerificationError as error:
        remedy = "check ca= in the URL, the name that it has for the server, and the certificate"
        return Finding("certificate", BAD, f"{shown}: {error.verify_message}", remedy)
    except (OSError, ValueError) as error:
        text = "no answer in time" if isinstance(error, socket.timeout) else str(error).partition(" (_ssl.c")[0]
        return Finding("certificate", BAD, f"{shown}: no TLS: {text}", "check that this port speaks TLS")


def judge_peer(shown: str, known: Mapping[str, object], version: str | None = None) -> Finding:
    """Judge until when the certificate is good that a server has shown."""
    import ssl

    begins, ends = known.get("notBefore"), known.get("notAfter")
    if not isinstance(begins, str) or not isinstance(ends, str):
        return Finding("certificate", NOTE, f"{shown}: cannot tell its end of validity ({version})")
    lasting = ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends)
    return judge_certificate(*lasting, time.time(), shown)


def look_at_clock(case: Case, ask: Callable[[], float], granularity: float = 0.0) -> Finding:
    """Compare clocks by the closest of some looks: `ask` returns the server's epoch time, cut to `granularity`."""
    looks = []
    for _ in range(_LOOKS):
        before, started = time.time(), time.monotonic()
        server_time = ask()
        took = time.monotonic() - started
        looks.append((took / 2, server_time - (before + took / 2)))
    bound, offset = min(looks)
    return judge_clock(offset + granularity / 2, bound + granularity / 2, case.hold)


def judge_server_clock(times: ServerClock, wall: float, hold: float) -> Finding:
    """Judge the clock that answers have told before."""
    low, high = times.earliest() - wall, times.latest() - wall
    return judge_clock((low + high) / 2, (high - low) / 2, hold)


def judge_ensemble(
    roles: Mapping[str, str], silent: list[str], voters: int, *doubts: tuple[object, str, str, str | None]
) -> Finding:
    """Judge servers that decide by majority: the role of each that answered, and why others are `silent`.

    `doubts` are the engine's own: whether each applies, its level, what it adds to the roles, what to do.
    """
    text = ", ".join(f"{server} {role}" for server, role in roles.items()) + "".join(f"; {reason}" for reason in silent)
    own = [(applies, level, text + more, remedy) for applies, level, more, remedy in doubts]
    return decide(
        "ensemble",
        (not roles, BAD, text, "bring the servers back"),
        *(one for one in own if one[1] == BAD),
        (silent, WARNING, text, "bring back the servers that do not serve"),
        *own,
        (voters % 2 == 0, NOTE, f"{text}; an even number bears no more failures than one less", None),
        (True, OK, text, None),
    )
