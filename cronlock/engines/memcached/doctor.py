"""The checks of ``cronlock doctor`` on memcached servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...doctor import probe
from ...doctor.findings import BAD, NOTE, OK, Finding, at, decide, judge_evictions, judge_share, number
from ...errors import BackendError
from ...lease.leases import Leases
from ...value import digits
from ..wire.doctor import alone, connect_all, look_at_clock
from ..wire.stream import endpoint as show
from .store import PORT, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from ..url import URL
    from .servers import Address
    from .store import MemcachedStore

_OLDEST = (1, 6, 10)
# The server tells its time in whole seconds of a clock that may be one behind.
_COARSE = 2.0


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server: a key is unavailable while its own is down."""
    yield from connect_all(case, PORT, "start what is down: its share of the keys is unavailable")


def examine(case: Case) -> Iterator[Finding]:
    """Look at each server, with a lease of its own where there are several."""
    yield Finding("durability", NOTE, "leases are in memory only: a restart, a flush or an eviction drops them")
    addresses = case.url.need_hosts(PORT)
    for address in addresses:
        several = len(addresses) > 1
        url = alone(case.url, address)
        store = open_store(url, case.timeout)
        try:
            found = [*(_lease_at(case, url, store) if several else ()), *_examine_server(case, address, store)]
        except BackendError as error:
            found = [Finding("server", BAD, str(error))]
        finally:
            store.close()
        yield from at(show(*address) if several else "", found)


def _lease_at(case: Case, url: URL, store: MemcachedStore) -> Iterator[Finding]:
    one = probe.Case(url, Leases(store), timeout=case.timeout, ttl=case.ttl, hold=case.hold)
    yield from probe.lease(one)
    yield from probe.forget(one)


def _examine_server(case: Case, address: Address, store: MemcachedStore) -> Iterator[Finding]:
    def statistics(group: bytes = b"") -> dict[str, str]:
        return store.servers.ask(address, case.deadline(), lambda connection: connection.statistics(group))

    stats, settings = statistics(), statistics(b"settings")
    if "time" not in stats:
        yield Finding("server", BAD, f"{show(*address)}: no statistics", "check that it is memcached")
        return
    yield _version(stats.get("version", ""))
    yield look_at_clock(case, lambda: number(statistics().get("time")), _COARSE)
    yield _eviction_policy(settings)
    yield judge_evictions(number(stats.get("evictions")), "give it more memory (-m)")
    used, limit = number(stats.get("bytes")), number(stats.get("limit_maxbytes"))
    yield judge_share("memory", used, limit, "", "give it more memory (-m), or it evicts leases")
    clients, most = number(stats.get("curr_connections")), number(stats.get("max_connections"))
    yield judge_share("clients", clients, most, " connections", "raise its limit (-c)")
    if settings.get("flush_enabled", "yes") == "yes":
        yield Finding("flush", NOTE, "flush_all is allowed, and drops all leases; -F forbids it")


def _eviction_policy(settings: dict[str, str]) -> Finding:
    policy = settings.get("evictions")
    refuses = "off (-M): a full server refuses new leases, and drops those that it has no room to renew"
    return decide(
        "eviction policy",
        (policy is None, NOTE, "cannot tell: the server does not show its settings", None),
        (policy == "off", OK, refuses, None),
        (True, NOTE, "on: a full server evicts the least recently used items, leases too", None),
    )


def _version(text: str) -> Finding:
    numbers = tuple(number for part in text.split(".")[:3] if (number := digits(part, 5)) is not None)
    return decide(
        "server",
        (len(numbers) < 3, NOTE, "cannot tell its version", None),
        (numbers < _OLDEST, BAD, f"memcached {text}", "cronlock needs memcached 1.6.10 or later"),
        (True, OK, f"memcached {text}", None),
    )
