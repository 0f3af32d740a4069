"""What ``cronlock doctor`` looks at on memcached servers."""

from __future__ import annotations

import copy
import time

from ...doctor import probe
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at, judge_clock, judge_evictions, judge_share
from ...doctor.reaching import connect_all, show
from ...errors import BackendError, BackendUnavailable
from ...keys import bounded
from ..wire.stream import Stream, tls_context
from .backend import PORT, open_backend
from .item import RING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case

_OLDEST = (1, 6, 10)
# Bytes of an item's name, as the protocol has it.
LONGEST_NAME = 250
_LONGEST_ANSWER = 1 << 18
# The server tells its time in whole seconds of a clock that may be one behind.
_COARSE = 1.0


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server: a key is unavailable while its own is down."""
    context = tls_context(str(case.url), case.url.params) if case.url.scheme == "memcacheds" else None
    for finding in connect_all(case, PORT, context):
        if finding.name == "reachable" and finding.level == WARNING:
            finding.level = BAD
            finding.remedy = "start what is down: its share of the keys is unavailable"
        yield finding


def examine(case: Case) -> Iterator[Finding]:
    """Look at each server, with a lease of its own where there are several."""
    yield Finding("durability", NOTE, "leases are in memory only: a restart, a flush or an eviction drops them")
    places = case.url.need_hosts(PORT)
    for host, port in places:
        several = len(places) > 1
        try:
            found = [*(_lease_at(case, (host, port)) if several else ()), *_examine_server(case, (host, port))]
        except BackendError as error:
            found = [Finding("server", BAD, str(error))]
        yield from at(show(host, port) if several else "", found)


def forget(case: Case) -> None:
    """Remove the probe's record, wherever it is."""
    prefix = case.url.prefix()
    name = f"{prefix}:{bounded(case.key, LONGEST_NAME - len(prefix) - 1)}".encode()
    # Behind it its past runs.
    names = [name, *(b"%b:%d" % (name, number) for number in range(RING))]
    request = b"".join(b"md %b q\r\n" % one for one in names) + b"mn\r\n"
    for place in case.url.need_hosts(PORT):
        _converse(case, place, request, b"MN\r\n", 1)


def _lease_at(case: Case, place: tuple[str, int]) -> Iterator[Finding]:
    url = copy.copy(case.url)
    url.hosts = [place]
    alone = probe.Case(url, open_backend(url, case.timeout), timeout=case.timeout, ttl=case.ttl, hold=case.hold)
    try:
        yield from probe.lease(alone)
        forget(alone)
    finally:
        alone.backend.close()


def _examine_server(case: Case, place: tuple[str, int]) -> Iterator[Finding]:
    before, started = time.time(), time.monotonic()
    data = _converse(case, place, b"stats\r\nstats settings\r\n", b"END\r\n", 2)
    took = time.monotonic() - started
    told = _statistics(data)
    if "time" not in told:
        yield Finding("server", BAD, f"{show(*place)}: gives no statistics", "check that it is memcached")
        return
    yield _version(told.get("version", ""))
    # By the middle of the second that it tells.
    offset = _number(told, "time") + _COARSE / 2 - (before + took / 2)
    yield judge_clock(offset, took / 2 + _COARSE, case.hold)
    yield _eviction_policy(told)
    yield judge_evictions(_number(told, "evictions"), "give it more memory (-m)")
    used, limit = _number(told, "bytes"), _number(told, "limit_maxbytes")
    yield judge_share("memory", used, limit, "", "give it more memory (-m), or it evicts leases")
    clients, most = _number(told, "curr_connections"), _number(told, "max_connections")
    yield judge_share("clients", clients, most, " connections", "raise its limit (-c)")
    if told.get("flush_enabled", "yes") == "yes":
        yield Finding("flush", NOTE, "flush_all is allowed, and drops all leases; -F forbids it")


def _eviction_policy(told: dict[str, str]) -> Finding:
    policy = told.get("evictions setting")
    if policy is None:
        return Finding("eviction policy", NOTE, "cannot tell: the server does not show its settings")
    if policy == "off":
        return Finding("eviction policy", OK, "off (-M): a full server refuses new leases and keeps those it has")
    text = "on: a full server drops what was unused the longest, leases too"
    return Finding("eviction policy", NOTE, f"{text}; with -M it refuses new ones")


def _version(text: str) -> Finding:
    numbers = tuple(int(part) for part in text.split(".")[:3] if part.isascii() and part.isdigit() and len(part) < 6)
    if len(numbers) < 3:
        return Finding("server", NOTE, "cannot tell its version")
    if numbers < _OLDEST:
        return Finding("server", BAD, f"memcached {text}", "cronlock needs memcached 1.6.10 or later")
    return Finding("server", OK, f"memcached {text}")


def _converse(case: Case, place: tuple[str, int], request: bytes, end: bytes, times: int) -> bytes:
    """Send `request` and return the answer, up to the n-th `end`. Raises BackendUnavailable."""
    host, port = place
    context = tls_context(str(case.url), case.url.params) if case.url.scheme == "memcacheds" else None
    stream = Stream.connect_tcp(f"{case.url.scheme}://{show(host, port)}", host, port, case.deadline(), context)
    try:
        stream.send(request)
        data = b""
        while data.count(end) < times and b"ERROR" not in data[:12]:
            data += stream.receive()
            if len(data) > _LONGEST_ANSWER:
                raise BackendUnavailable(f"{show(host, port)}: the answer does not end: it is not memcached")
        return data
    finally:
        stream.close()


def _statistics(data: bytes) -> dict[str, str]:
    """Return the statistics, and behind them the settings; one name is in both."""
    told: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\r\n"):
        word, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if word == "STAT":
            value = "".join(letter for letter in value[:100] if letter.isprintable())
            told[f"{name} setting" if name in told else name] = value
    return told


def _number(told: dict[str, str], name: str) -> float:
    text = told.get(name, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0.0
