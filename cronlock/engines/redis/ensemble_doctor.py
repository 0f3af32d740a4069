"""The checks of ``cronlock doctor`` on Redis behind Sentinel, and on Redis Cluster."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at, decide
from ..wire.doctor import ask_each, connect_all, tls_of
from ..wire.stream import endpoint as show
from .doctor import PORT, ask, examine_server, fields, lists_keys, log_in, notifies, servers
from .resp import ReplyError, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...doctor.probe import Case

_SENTINEL_PORT = 26379
#: What redis-py calls the files of TLS, and what URLs do.
_TLS_FILES = (("ca_certs", "ca"), ("certfile", "cert"), ("keyfile", "key"))
#: Fewer cannot agree when one of them is down.
_FEWEST = 3


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server that the URL names, find the masters and log in there."""
    if (yield from connect_all(case, _SENTINEL_PORT if _is_sentinel(case) else PORT)):
        yield from log_in(case)


def examine(case: Case) -> Iterator[Finding]:
    """Check sentinels and masters. Raises BackendError when a master does not answer."""
    yield from lists_keys(case)
    yield from notifies(case)
    masters = servers(case)
    if _is_sentinel(case):
        yield _sentinels(case)
    else:
        yield _cluster(case, masters)
    yield _by_redis_py(case, {server.address for server in masters if not isinstance(server.address, str)})
    for server in masters:
        yield from at(server.name.rpartition(" ")[2], examine_server(case, server))


def _by_redis_py(case: Case, ours: set[tuple[str, int]]) -> Finding:
    """Ask redis-py, the client that most programs use, for the masters too."""
    import redis
    from redis.cluster import ClusterNode, RedisCluster
    from redis.sentinel import Sentinel

    url, params = case.url, case.url.params
    options: dict[str, Any] = {"socket_timeout": case.timeout, "socket_connect_timeout": case.timeout}
    if params.get("tls") == "1":
        files = {f"ssl_{name}": params[key] for name, key in _TLS_FILES if key in params}
        options.update(files, ssl=True, ssl_check_hostname=True)
    name = f"redis-py {redis.__version__}"
    login: dict[str, Any]
    try:
        if _is_sentinel(case):
            login = {"username": params.get("sentinel_user"), "password": params.get("sentinel_password")}
            addresses = url.need_hosts(_SENTINEL_PORT)
            sentinel = Sentinel(addresses, sentinel_kwargs={**options, **login})  # type: ignore[no-untyped-call]
            theirs = {sentinel.discover_master(_service(case))}  # type: ignore[no-untyped-call]
        else:
            seeds = [ClusterNode(*address) for address in url.need_hosts(PORT)]  # type: ignore[no-untyped-call]
            login = {"username": url.user, "password": url.password}
            with closing(RedisCluster(startup_nodes=seeds, **options, **login)) as cluster:
                theirs = {(node.host, node.port) for node in cluster.get_primaries()}  # type: ignore[no-untyped-call]
    except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
        return Finding("client", NOTE, f"{name} cannot tell the masters: {type(error).__name__}")
    if theirs == ours:
        return Finding("client", OK, f"{name} names the same masters")
    shown = ", ".join(sorted(show(*address) for address in theirs))
    return Finding("client", WARNING, f"{name} names other masters: {shown}", "if no failover is under way, report it")


def _service(case: Case) -> str:
    return case.url.path[1:].partition("/")[0]


def _is_sentinel(case: Case) -> bool:
    return case.url.scheme == "redis+sentinel"


def _sentinels(case: Case) -> Finding:
    service = _service(case).encode()
    params = case.url.params
    login = (params.get("sentinel_user"), params["sentinel_password"]) if "sentinel_password" in params else None
    addresses = case.url.need_hosts(_SENTINEL_PORT)

    def ask_for_quorum(address: tuple[str, int]) -> str:
        """Return why the sentinel reports no quorum; empty if it sees one."""
        with closing(Server(f"sentinel {show(*address)}", address, credentials=login, tls=tls_of(case.url))) as server:
            answer = ask(case, server, [b"SENTINEL", b"CKQUORUM", service])
            return str(answer.refusal(server.name)) if isinstance(answer, ReplyError) else ""

    answers, silent = ask_each(addresses, ask_for_quorum)
    problems = [*filter(None, answers.values()), *silent]
    # A sentinel that refuses the command is up nevertheless.
    agree = sum("NOQUORUM" not in problem for problem in answers.values())
    text = f"{agree} of {len(addresses)} that the URL names see a quorum" + "".join(f"; {one}" for one in problems)
    return decide(
        "sentinels",
        (not agree, BAD, text, "restart them: no replica would take over from the master"),
        (problems, WARNING, text, "bring them back, or allow +sentinel|ckquorum"),
        (len(addresses) < _FEWEST, WARNING, text, "name all of them; three or more are needed to agree on a failover"),
        (True, OK, text, None),
    )


def _cluster(case: Case, masters: list[Server]) -> Finding:
    answer = ask(case, masters[0], [b"CLUSTER", b"INFO"])
    if not isinstance(answer, bytes):
        return Finding("cluster", NOTE, f"{len(masters)} masters; cannot tell its state: CLUSTER INFO is refused")
    info = fields(answer)
    text = f"state {info.get('cluster_state', 'unknown')}, {len(masters)} masters, {info.get('cluster_slots_ok')} slots"
    failing = any(info.get(f"cluster_slots_{kind}", "0") != "0" for kind in ("pfail", "fail"))
    return decide(
        "cluster",
        (info.get("cluster_state") != "ok", BAD, text, "bring the missing masters back"),
        (failing, WARNING, f"{text}; some of them are failing", "see CLUSTER NODES"),
        (len(masters) < _FEWEST, WARNING, text, "three or more masters are needed to agree on a failover"),
        (True, OK, text, None),
    )
