"""The checks of ``cronlock doctor`` on a Redis or Valkey server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import durations
from ...doctor.findings import (
    BAD,
    NOTE,
    OK,
    WARNING,
    Finding,
    decide,
    judge_evictions,
    judge_share,
    number,
    plain,
    size,
)
from ...errors import BackendError, BackendUnavailable
from ...lease.store import Cell
from ..wire.doctor import ANSWER, REACHABLE, connect_all, look_at_clock
from . import address
from .cell import whole
from .resp import ReplyError
from .store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from .resp import Command, Reply, Server

#: The least that a user of a server with ACLs needs, for the default prefix and database 0.
#: Another database: also +select. min_replicas: +wait. A cluster: +cluster|slots +asking. The user of
#: sentinels, who have rules of their own: +sentinel|masters.
#: Without +info a server that restarted empty is waited for longer, without +scan keys cannot be listed, and without
#: the channels (&, since 6.2), +subscribe and +publish a run notices `cronlock stop` when it renews.
ACL_RULE = "~cronlock:* &cronlock:* +time +exists +hmget +eval +hset +pexpire +info +scan +subscribe +publish"

PORT = 6379
# More than any INFO of these sections has.
_MOST_LINES = 1000
#: Seconds that a replica may be behind before a failover would lose much.
_LAG = 10
# The major version that has the latest feature needed: ACLs.
_OLDEST = 6
# Tries the commands of reads and swaps in one step, so that its key is never visible.
_PERMISSIONS = b"""
local missing = {}
local function may(name, ...)
  local answer = redis.pcall(name, ...)
  local text = type(answer) == 'table' and answer.err or ''
  for _, sign in ipairs({'NOPERM', 'ACL failure', "can't run this command"}) do
    if string.find(text, sign, 1, true) then
      missing[#missing + 1] = name
      return false
    end
  end
  return true
end
if ARGV[1] ~= '0' then may('select', ARGV[1]) end
may('time')
may('exists', KEYS[1])
may('hmget', KEYS[1], 'probe')
if may('pexpire', KEYS[1], 1) and may('hset', KEYS[1], 'probe', '1') then redis.call('pexpire', KEYS[1], 0) end
return missing
"""


def reach(case: Case) -> Iterator[Finding]:
    """Connect, log in, and find out what this user may do."""
    if case.url.scheme == "redis+unix" or (yield from connect_all(case, PORT)):
        yield from log_in(case)


def examine(case: Case) -> Iterator[Finding]:
    """Check each server that has keys. Raises BackendError when one does not answer."""
    yield from lists_keys(case)
    yield from notifies(case)
    for server in servers(case):
        yield from examine_server(case, server)


def servers(case: Case) -> list[Server]:
    """Return the servers that have keys. Raises BackendUnavailable."""
    return case.store(RedisStore).transport.masters(case.deadline())


def permissions(case: Case) -> Iterator[Finding]:
    """Name the commands that cronlock needs and this user may not use; nothing if it may use all."""
    name, database = f"{case.url.prefix()}:{case.key} permissions".encode(), address.database(case.url)
    command = [b"EVAL", _PERMISSIONS, b"1", name, b"%d" % database]
    answer = case.store(RedisStore).transport.ask([command], case.deadline(), name)[0]
    if isinstance(answer, ReplyError) and answer.text.startswith("NOPERM"):
        lacks = "may not use keys that begin with the prefix" if "key" in answer.text else "lacks +eval"
    elif isinstance(answer, list) and answer:
        lacks = "lacks " + " ".join(f"+{word.decode()}" for word in answer if isinstance(word, bytes))
    else:
        return
    rule = ACL_RULE.replace("cronlock:", f"{case.url.prefix()}:")
    rule += " +select" if database else ""
    yield Finding("permissions", BAD, f"this user {lacks}", f"allow it {rule}")


def lists_keys(case: Case) -> Iterator[Finding]:
    """Find out whether this user may list the keys."""
    try:
        next(iter(case.backend.keys()), None)
    except BackendError as error:
        remedy = "without it `cronlock status` needs the keys as arguments; allow +scan"
        yield Finding("listing", WARNING, f"keys cannot be listed: {error}", remedy)


def notifies(case: Case) -> Iterator[Finding]:
    """Find out whether this user may notify and be notified."""
    channel = case.store(RedisStore).notifier(case.key)
    try:
        channel.listen(Cell(), case.deadline())
        channel.notify(case.deadline())
    except BackendError as error:
        remedy = f"without it a run notices when it renews; allow +subscribe +publish &{case.url.prefix()}:*"
        yield Finding("notifications", NOTE, f"`cronlock stop` is not noticed at once: {error}", remedy)
    finally:
        channel.close()


def examine_server(case: Case, server: Server) -> Iterator[Finding]:
    """Check one server. Raises BackendUnavailable."""
    try:
        yield look_at_clock(case, lambda: _time(ask(case, server, [b"TIME"])))
    except ValueError:
        yield Finding("clock", NOTE, "cannot tell: this user or service refuses TIME")
    answer = ask(case, server, [b"INFO"])
    if not isinstance(answer, bytes):
        text = "cannot tell version, memory, persistence and replicas: this user or service refuses INFO"
        yield Finding("server", NOTE, text)
        return
    info = fields(answer)
    yield _version(info)
    yield from _memory(info)
    yield from _persistence(case, server, info)
    yield _replication(case, info)
    clients, limit = number(info.get("connected_clients")), number(info.get("maxclients"))
    if limit:
        yield judge_share("clients", clients, limit, " connections", "raise maxclients")


def ask(case: Case, server: Server, command: Command) -> Reply:
    """Return the answer of `server` to one request, an error of its own as a value. Raises BackendUnavailable."""
    return server.ask([command], case.deadline())[0]


def fields(answer: bytes) -> dict[str, str]:
    """Return the fields of INFO or CLUSTER INFO by name."""
    lines = answer.decode("utf-8", "replace").split("\n")[:_MOST_LINES]
    pairs = (line.strip().partition(":") for line in lines if line[:1] not in ("", "#"))
    return {name: plain(value) for name, _, value in pairs}


def log_in(case: Case) -> Iterator[Finding]:
    """Find out whether the servers that have keys take the URL's user and password."""
    try:
        for server in servers(case):
            answer = ask(case, server, [b"PING"])
            if isinstance(answer, ReplyError) and not answer.text.startswith(("NOPERM", "ERR unknown command")):
                what = "credentials" if answer.text.startswith("NOAUTH") else ANSWER
                yield Finding(what, BAD, str(answer.refusal(server.name)))
                return
    except BackendUnavailable as error:
        what = "credentials" if "authentication failed" in str(error) else ANSWER
        yield Finding(what, BAD, str(error))
        return
    if case.url.scheme == "redis+unix":
        yield Finding(REACHABLE, OK, str(case.url))
    if case.url.password is None:
        yield Finding("credentials", NOTE, "none required: anyone who reaches the server can take and free keys")
    else:
        yield Finding("credentials", OK, f"accepted for {'the default user' if not case.url.user else case.url.user}")
    yield from permissions(case)


def _time(answer: Reply) -> float:
    """Return the epoch time of a reply to TIME; raise ValueError for a malformed one."""
    if not isinstance(answer, list):
        raise ValueError("no list")
    seconds, microseconds = map(whole, answer)
    return seconds + microseconds / 1e6


def _version(info: dict[str, str]) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    major = number(version.partition(".")[0])
    text = f"{name} {version}, up for {durations.show(number(info.get('uptime_in_seconds')))}"
    old = name == "Redis" and major < _OLDEST
    return decide(
        "server",
        (not major, NOTE, "cannot tell its version", None),
        (old, BAD, text, f"cronlock needs Redis {_OLDEST}.0 or later, or Valkey"),
        (True, OK, text, None),
    )


def _memory(info: dict[str, str]) -> Iterator[Finding]:
    policy, limit = info.get("maxmemory_policy", ""), number(info.get("maxmemory"))
    evicts = f"{policy} with a maxmemory of {size(limit)}: leases can be evicted"
    yield decide(
        "eviction policy",
        (not policy, NOTE, "cannot tell: the server does not say", None),
        (policy == "noeviction", OK, policy, None),
        (not limit, NOTE, f"{policy}, without effect while maxmemory is not set", None),
        (True, WARNING, evicts, "set maxmemory-policy noeviction"),
    )
    if limit:
        remedy = "raise maxmemory: a full server refuses or evicts leases"
        yield judge_share("memory", number(info.get("used_memory")), limit, "", remedy)
    remedy = "set maxmemory-policy noeviction and give the server more memory"
    yield judge_evictions(number(info.get("evicted_keys")), remedy)


def _persistence(case: Case, server: Server, info: dict[str, str]) -> Iterator[Finding]:
    for field, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(field, "ok") != "ok":
            remedy = "see the server's log and the space on its disk; it may refuse writes"
            yield Finding("persistence", BAD, f"the last write of the {what} failed", remedy)
            return
    if "aof_enabled" not in info:
        yield Finding("persistence", NOTE, "cannot tell: the server does not say")
        return
    if info["aof_enabled"] == "1":
        sync = _setting(ask(case, server, [b"CONFIG", b"GET", b"appendfsync"]))
        yield Finding("persistence", OK, "append-only file" + (f", appendfsync {sync}" if sync else ""))
        return
    save = _setting(ask(case, server, [b"CONFIG", b"GET", b"save"]))
    if save is None:
        yield Finding("persistence", NOTE, "no append-only file; cannot tell about snapshots: CONFIG is refused")
        return
    text = f"snapshots only (save {save})" if save else "none"
    text += ": a crash loses leases"
    yield Finding("persistence", WARNING, text, "set appendonly yes")


def _replication(case: Case, info: dict[str, str]) -> Finding:
    wanted = int(case.url.params.get("min_replicas", "0"))
    lags = [_lag(value) for field, value in info.items() if field[:5] == "slave" and field[5:].isdigit()]
    ready = [lag for lag in lags if lag is not None]
    slowest = max(ready, default=0.0)
    text = f"{len(ready)} connected" + (f", the last heard of {slowest:.0f} s ago" if ready else "")
    text += f" (min_replicas={wanted})" if wanted else ""
    is_replica = info.get("role") not in ("master", None)
    out_of_step = f"{text}; {len(lags) - len(ready)} not in step"
    return decide(
        "replicas",
        (is_replica, BAD, "this server is a replica", "name the master, or use redis+sentinel://"),
        (len(ready) < wanted, BAD, text, "bring the replicas back: no lease is granted until then"),
        (len(lags) > len(ready), WARNING, out_of_step, "see their logs"),
        (slowest > _LAG, WARNING, text, "find out why they lag: a failover would lose the leases that they lack"),
        (not ready, NOTE, "none: while this server is down nothing runs", None),
        (not wanted, NOTE, f"{text}; with ?min_replicas=1 a lease counts only once a replica has it", None),
        (True, OK, text, None),
    )


def _lag(value: str) -> float | None:
    """Return the seconds since a replica last acknowledged, None if it is not in step."""
    parts = dict(part.partition("=")[::2] for part in value.split(","))
    lag = parts.get("lag", "")
    return float(lag) if parts.get("state") == "online" and lag.isdigit() else None


def _setting(answer: Reply) -> str | None:
    """Return the value that CONFIG GET replied, None if it was refused."""
    if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], bytes):
        return None
    return plain(answer[1])
