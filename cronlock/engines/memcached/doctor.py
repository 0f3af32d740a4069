"""What ``cronlock doctor`` looks at on memcached servers."""

from __future__ import annotations

import copy
import time

from ...doctor import probe
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at, judge_clock, judge_evictions, judge_share
from ...doctor.reaching import connect_all, show
from ...errors import BackendError
from ...lease.leases import Leases
from ..wire.stream import tls_context
from .store import PORT, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from ..url import URL
    from .servers import Address
    from .store import MemcachedStore

_OLDEST = (1, 6, 10)
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
    for place in places:
        several = len(places) > 1
        url = _alone(case.url, place)
        store = open_store(url, case.timeout)
        try:
            found = [*(_lease_at(case, url, store) if several else ()), *_examine_server(case, place, store)]
        except BackendError as error:
            found = [Finding("server", BAD, str(error))]
        finally:
            store.close()
        yield from at(show(*place) if several else "", found)


def forget(case: Case) -> None:
    """Remove the probe's record, wherever it is."""
    for place in case.url.need_hosts(PORT):
        store = open_store(_alone(case.url, place), case.timeout)
        try:
            _delete(case, store)
        finally:
            store.close()


def _alone(url: URL, place: Address) -> URL:
    """Return the URL of one of the servers."""
    alone = copy.copy(url)
    alone.hosts = [place]
    return alone


def _delete(case: Case, store: MemcachedStore) -> None:
    name = store.name(case.key)
    store.servers.ask(store.servers.of(name), case.deadline(), lambda connection: connection.delete(name))


def _lease_at(case: Case, url: URL, store: MemcachedStore) -> Iterator[Finding]:
    alone = probe.Case(url, Leases(store), timeout=case.timeout, ttl=case.ttl, hold=case.hold)
    yield from probe.lease(alone)
    _delete(alone, store)


def _examine_server(case: Case, place: Address, store: MemcachedStore) -> Iterator[Finding]:
    before, started = time.time(), time.monotonic()
    told = store.servers.ask(place, case.deadline(), lambda connection: connection.statistics())
    took = time.monotonic() - started
    if "time" not in told:
        yield Finding("server", BAD, f"{show(*place)}: gives no statistics", "check that it is memcached")
        return
    settings = store.servers.ask(place, case.deadline(), lambda connection: connection.statistics(b"settings"))
    yield _version(told.get("version", ""))
    # By the middle of the second that it tells.
    offset = _number(told, "time") + _COARSE / 2 - (before + took / 2)
    yield judge_clock(offset, took / 2 + _COARSE, case.hold)
    yield _eviction_policy(settings)
    yield judge_evictions(_number(told, "evictions"), "give it more memory (-m)")
    used, limit = _number(told, "bytes"), _number(told, "limit_maxbytes")
    yield judge_share("memory", used, limit, "", "give it more memory (-m), or it evicts leases")
    clients, most = _number(told, "curr_connections"), _number(told, "max_connections")
    yield judge_share("clients", clients, most, " connections", "raise its limit (-c)")
    if settings.get("flush_enabled", "yes") == "yes":
        yield Finding("flush", NOTE, "flush_all is allowed, and drops all leases; -F forbids it")


def _eviction_policy(settings: dict[str, str]) -> Finding:
    policy = settings.get("evictions")
    if policy is None:
        return Finding("eviction policy", NOTE, "cannot tell: the server does not show its settings")
    if policy == "off":
        text = "off (-M): a full server refuses new leases, and drops those that it has no room to renew"
        return Finding("eviction policy", OK, text)
    return Finding("eviction policy", NOTE, "on: a full server drops what was unused the longest, leases too")


def _version(text: str) -> Finding:
    numbers = tuple(int(part) for part in text.split(".")[:3] if part.isascii() and part.isdigit() and len(part) < 6)
    if len(numbers) < 3:
        return Finding("server", NOTE, "cannot tell its version")
    if numbers < _OLDEST:
        return Finding("server", BAD, f"memcached {text}", "cronlock needs memcached 1.6.10 or later")
    return Finding("server", OK, f"memcached {text}")


def _number(told: dict[str, str], name: str) -> float:
    text = told.get(name, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0.0
