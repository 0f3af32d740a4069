"""The checks of ``cronlock doctor`` on etcd."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, at, judge_share, number, span
from ..wire.aws_signature import parse_date
from ..wire.doctor import ask_each, connect_all, judge_credentials, judge_ensemble, look_at_clock
from ..wire.stream import endpoint as show
from .api import PORT, Cluster, Refusal, Server
from .messages import Answer, text_of
from .names import Names, base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case

_FEWEST = 3
#: Seconds: what bcrypt takes at its default cost is a multiple.
_SLOW_LOGIN = 0.02
_MANY_REVISIONS = 10_000
# https://github.com/etcd-io/etcd/issues/13766
_CORRUPTING = ("3.5.0", "3.5.1", "3.5.2")


def reach(case: Case) -> Iterator[Finding]:
    """Connect to each server, and log in to one of them."""
    if (yield from connect_all(case, PORT)):
        yield from _credentials(case)


def examine(case: Case) -> Iterator[Finding]:
    """Check each server that the URL names, and the ensemble that they make. Raises BackendError."""
    cluster = Cluster(case.url)

    def look(address: tuple[str, int]) -> tuple[Answer, list[Finding]]:
        with closing(cluster.server(*address)) as server:
            status = server.ask("/v3/maintenance/status", {}, case.deadline())
            return status, [*at(show(*address), _server(case, server, status))]

    looks, silent = ask_each(case.url.need_hosts(PORT), look)
    for _, findings in looks.values():
        yield from findings
    status = {address: one for address, (one, _) in looks.items()}
    with closing(cluster):
        members = cluster.ask("/v3/cluster/member/list", {}, case.deadline()).parts("members")
        yield _judge_ensemble(status, silent, members)
        yield _alarms(cluster, case)
        yield from _compaction(cluster, case)


def _credentials(case: Case) -> Iterator[Finding]:
    """Check user and password. Raises BackendError."""
    with closing(Cluster(case.url)) as cluster:
        try:
            cluster.ask("/v3/kv/range", {"key": "AA=="}, case.deadline())
        except Refusal as error:
            if "permission denied" not in error.message:  # Of that key; the probe's lease tests the rest.
                raise
    user = case.url.user
    if user is not None and not cluster.auth_enabled:
        text = f"{user}, which is not checked: the servers' authentication is off"
        remedy = "`etcdctl auth enable`, or leave user and password out of the URL"
        yield Finding("credentials", WARNING, text, remedy)
        return
    nobody = "none: anyone who reaches the servers can change keys, unless TLS requires client certificates"
    yield judge_credentials(case.url, nobody, str(user))
    if user is not None:
        yield _judge_login(_login_seconds(case))


def _login_seconds(case: Case) -> float:
    """Return how long a server takes to check the password, which each run and each skip sends."""
    cluster = Cluster(case.url)

    def log_in(address: tuple[str, int]) -> float:
        with closing(cluster.server(*address)) as server:
            server.get("/version", case.deadline())  # Connects.
            before = time.monotonic()
            cluster.authorization(server, case.deadline(), anew=True)
            return time.monotonic() - before

    # Why a server did not answer is reported elsewhere.
    times, _ = ask_each(case.url.need_hosts(PORT), log_in)
    return min(times.values(), default=0.0)


def _judge_login(seconds: float) -> Finding:
    text = f"{span(seconds)} for each run and skip"
    if seconds < _SLOW_LOGIN:
        return Finding("login", OK, text, values={"seconds": seconds})
    text += f": {1 / seconds:.0f} a second keep one of a server's processors busy"
    advice = "start the servers with --bcrypt-cost 4 and set the password again, or spread the runs by --jitter"
    return Finding("login", NOTE, f"{text}; {advice}", values={"seconds": seconds})


def _server(case: Case, server: Server, status: Answer) -> Iterator[Finding]:
    version = status.text("version")
    if version in _CORRUPTING:
        text = f"etcd {version}, which may lose or spoil data when it is killed under load"
        yield Finding("server", WARNING, text, "take a later release of 3.5")
    else:
        yield Finding("server", OK, f"etcd {version or 'of unknown version'}")
    try:
        yield look_at_clock(case, lambda: _date(server, case.deadline()), 1.0)
    except ValueError:
        pass  # Some proxies remove the Date header.
    yield from _space(server, status, case)


def _date(server: Server, deadline: float) -> float:
    """Return the epoch time of a reply, in whole seconds; raise ValueError if it has no date."""
    date = parse_date(server.get("/version", deadline).headers.get("date", ""))
    if date is None:
        raise ValueError("no date")
    return date


def _space(server: Server, status: Answer, case: Case) -> Iterator[Finding]:
    """Judge the size of the server's file against its quota, beyond which it takes no writes."""
    quota = status.number("dbSizeQuota")  # Since 3.6.
    if not quota:
        metrics = server.get("/metrics", case.deadline()).body.decode("utf-8", "replace")
        found = re.search(r"^etcd_server_quota_backend_bytes ([0-9.e+]{1,40})$", metrics, re.MULTILINE)
        quota = int(number(found.group(1))) if found else 0
    if quota:
        remedy = "compact by --auto-compaction-retention, and defragment (`etcdctl defrag`)"
        yield judge_share("space", status.number("dbSize"), quota, "", remedy)


def _judge_ensemble(status: dict[str, Answer], silent: list[str], members: list[Answer]) -> Finding:
    leaders = {one.number("leader") for one in status.values()}
    named = {one.part("header").number("member_id"): address for address, one in status.items()}
    learners = {member.number("ID") for member in members if member.truth("isLearner")}
    roles = {
        address: "learner" if own in learners else "leader" if own in leaders else "follower"
        for own, address in named.items()
    }
    strangers = set(named) - {member.number("ID") for member in members}
    voters = len(members) - len(learners)
    few = "run three or five: all leases and records are lost with one machine"
    return judge_ensemble(
        roles,
        silent,
        voters,
        (strangers, BAD, "", "name servers of one ensemble only"),
        (len(leaders) > 1 or 0 in leaders, WARNING, "; they do not agree on the leader", "look again in a moment"),
        (learners & set(named), WARNING, "", "take learners out of the URL: they serve no runs"),
        (voters < _FEWEST, WARNING, "; none may be down", few),
        (len(named) < voters, NOTE, f"; the URL names {len(named)} of {voters}", None),
    )


def _alarms(cluster: Cluster, case: Case) -> Finding:
    try:
        raised = cluster.ask("/v3/maintenance/alarm", {"action": "GET"}, case.deadline()).parts("alarms")
    except Refusal:
        return Finding("alarms", NOTE, "cannot tell: the user may not ask")
    words = sorted({one.text("alarm") for one in raised})
    if words:
        return Finding("alarms", BAD, ", ".join(words), "see `etcdctl alarm list`; it takes no writes until disarmed")
    return Finding("alarms", OK, "none")


def _compaction(cluster: Cluster, case: Case) -> Iterator[Finding]:
    """Check that old revisions are compacted: they are never read, and fill the servers."""
    request = {"key": text_of(Names(base(case.url), case.key).record), "revision": "1"}
    try:
        revision = cluster.ask("/v3/kv/range", request, case.deadline()).revision
    except Refusal as error:
        if "has been compacted" in error.message:
            yield Finding("compaction", OK, "old revisions are compacted")
        return  # Or the user may not ask: nothing is known.
    text = f"none of {revision} revisions was ever compacted: each run makes two and a renewal one, of 4 KB each"
    if revision < _MANY_REVISIONS:
        yield Finding("compaction", NOTE, f"{text}; start the servers with --auto-compaction-retention=1")
    else:
        remedy = "start the servers with --auto-compaction-retention=1 (hour), before they are full and take no writes"
        yield Finding("compaction", WARNING, text, remedy)
