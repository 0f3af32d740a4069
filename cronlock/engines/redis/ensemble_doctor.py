"""What ``cronlock doctor`` looks at on Redis behind Sentinel, and on Redis Cluster."""

from __future__ import annotations

import redis

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at
from ...doctor.reaching import connect_all, is_up, show
from ...errors import BackendUnavailable
from ..wire.stream import tls_context
from .doctor import PORT, ask, examine_server, fields, lists_keys, log_in, servers
from .doctor import forget as forget
from .resp import ReplyError, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ...doctor.probe import Case

_SENTINEL_PORT = 26379
#: Fewer cannot agree when one of them is gone.
_FEWEST = 3


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server that the URL names, find the masters and log in there."""
    found = []
    for finding in connect_all(case, _SENTINEL_PORT if _is_sentinel(case) else PORT, _tls(case)):
        found.append(finding)
        yield finding
    if is_up(found):
        yield from log_in(case)


def examine(case: Case) -> Iterator[Finding]:
    """Look at sentinels and masters. Raises BackendError when a master does not answer."""
    yield from lists_keys(case)
    masters = servers(case)
    if _is_sentinel(case):
        yield from _sentinels(case)
    else:
        yield from _cluster(case, masters)
    for server in masters:
        yield from at(server.name.rpartition(" ")[2], examine_server(case, server))
    yield Finding("client", OK, f"redis-py {redis.__version__}")


def _tls(case: Case) -> ssl.SSLContext | None:
    params = case.url.params
    return tls_context(str(case.url), params) if params.get("tls") == "1" else None


def _is_sentinel(case: Case) -> bool:
    return case.url.scheme == "redis+sentinel"


def _sentinels(case: Case) -> Iterator[Finding]:
    service = case.url.path[1:].partition("/")[0].encode()
    params = case.url.params
    login = (params.get("sentinel_user"), params["sentinel_password"]) if "sentinel_password" in params else None
    agree, doubts = 0, []
    places = case.url.need_hosts(_SENTINEL_PORT)
    for place in places:
        server = Server(f"sentinel {show(*place)}", place, credentials=login, tls=_tls(case))
        try:
            answer = ask(case, server, [b"SENTINEL", b"CKQUORUM", service])
        except BackendUnavailable as error:
            doubts.append(str(error))
            continue
        finally:
            server.close()
        if isinstance(answer, ReplyError):
            doubts.append(str(answer.refusal(server.name)))
            if "NOQUORUM" not in answer.text:
                agree += 1  # It may not be asked, but is there.
        else:
            agree += 1
    text = f"{agree} of {len(places)} that the URL names see a quorum" + "".join(f"; {doubt}" for doubt in doubts)
    if not agree:
        yield Finding("sentinels", BAD, text, "bring them back: nobody would take over from the master")
    elif doubts:
        yield Finding("sentinels", WARNING, text, "bring them back, or allow +sentinel|ckquorum")
    elif len(places) < _FEWEST:
        yield Finding("sentinels", WARNING, text, "name all of them; three or more are needed to agree on a failover")
    else:
        yield Finding("sentinels", OK, text)


def _cluster(case: Case, masters: list[Server]) -> Iterator[Finding]:
    answer = ask(case, masters[0], [b"CLUSTER", b"INFO"])
    if not isinstance(answer, bytes):
        yield Finding("cluster", NOTE, f"{len(masters)} masters; cannot tell its state: CLUSTER INFO is refused")
        return
    told = fields(answer)
    text = f"state {told.get('cluster_state', 'unknown')}, {len(masters)} masters, {told.get('cluster_slots_ok')} slots"
    if told.get("cluster_state") != "ok":
        yield Finding("cluster", BAD, text, "bring the missing masters back")
    elif told.get("cluster_slots_pfail", "0") != "0" or told.get("cluster_slots_fail", "0") != "0":
        yield Finding("cluster", WARNING, f"{text}; some of them are failing", "see CLUSTER NODES")
    elif len(masters) < _FEWEST:
        yield Finding("cluster", WARNING, text, "three or more masters are needed to agree on a failover")
    else:
        yield Finding("cluster", OK, text)
