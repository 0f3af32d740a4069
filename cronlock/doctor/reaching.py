"""Whether the servers of a URL take connections, and how long their certificates are good: for the doctor."""

from __future__ import annotations

import socket
import ssl
import time

from ..engines.wire.stream import Stream
from ..errors import BackendUnavailable
from .findings import BAD, NOTE, OK, WARNING, Finding, judge_certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .probe import Case

REACHABLE = "reachable"
ANSWER = "answer"


def connect_all(case: Case, default_port: int, context: ssl.SSLContext | None) -> Iterator[Finding]:
    """Connect to each host of the URL, over TLS with `context`; BAD when none takes a connection.

    All of them together get the time limit of one request, and as much again for TLS.
    """
    places = case.url.need_hosts(default_port)
    share = case.timeout / len(places)
    reached, failures = [], []
    for host, port in places:
        try:
            Stream.connect_tcp(show(host, port), host, port, time.monotonic() + share).close()
            reached.append((host, port))
        except BackendUnavailable as error:
            failures.append(str(error))
    if not reached:
        yield Finding(REACHABLE, BAD, "; ".join(failures))
        return
    text = f"{', '.join(show(*place) for place in reached)}"
    if failures:
        remedy = "start what is down, or take it out of the URL"
        yield Finding(REACHABLE, WARNING, f"{text}; but not {'; '.join(failures)}", remedy)
    else:
        yield Finding(REACHABLE, OK, text)
    if context is not None:
        for host, port in reached:
            yield _certificate(host, port, context, share)


def is_up(found: list[Finding]) -> bool:
    """Whether what `connect_all` found leaves anything to be asked."""
    return any(finding.level != BAD for finding in found if finding.name == REACHABLE)


def show(host: str, port: int) -> str:
    """Return a server's address for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _certificate(host: str, port: int, context: ssl.SSLContext, limit: float) -> Finding:
    place = show(host, port)
    try:
        with (
            socket.create_connection((host, port), timeout=limit) as plain,
            context.wrap_socket(plain, server_hostname=host) as stream,
        ):
            known = stream.getpeercert() or {}
            version = stream.version()
    except ssl.SSLCertVerificationError as error:
        remedy = "check ca= in the URL, the name that it has for the server, and the certificate"
        return Finding("certificate", BAD, f"{place}: {error.verify_message}", remedy)
    except (OSError, ValueError) as error:
        text = "no answer in time" if isinstance(error, socket.timeout) else str(error).partition(" (_ssl.c")[0]
        return Finding("certificate", BAD, f"{place}: no TLS: {text}", "check that this port speaks TLS")
    begins, ends = known.get("notBefore"), known.get("notAfter")
    if not isinstance(begins, str) or not isinstance(ends, str):
        return Finding("certificate", NOTE, f"{place}: cannot tell its end of validity ({version})")
    lasting = ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends)
    return judge_certificate(*lasting, time.time(), place)
