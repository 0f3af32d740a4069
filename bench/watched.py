"""What is counted while runs last: memory, CPU by renewals, wake-ups, requests, copied output."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from cronlock.lease import timing

from . import proc
from .cases import DYNAMODB, ETCD, FILE, MEMCACHED, PASSWORD, REDIS, SQS, WATCHED, ZOOKEEPER, Lab, Running
from .counts import MemcachedCount, RedisCount
from .measure import run
from .watch import LOGIN, WatchCount

#: MB of PSS, all processes of a run together; None where a client library of others takes most of it.
MEMORY_LIMITS: dict[str, float | None] = {
    FILE: 13.0,
    REDIS: 6.5,
    MEMCACHED: 18.0,
    ZOOKEEPER: 26.0,
    **dict.fromkeys(WATCHED),
    ETCD: 8.0,
    DYNAMODB: 9.0,
}
#: Renewals of a day-long job with ttl 300: one each 100 s. By default ZooKeeper's servers let no
#: session last longer than 40 s, hence no lease.
DAILY = {**dict.fromkeys(MEMORY_LIMITS, 864), ZOOKEEPER: 6480}
#: Seconds in which nothing is due, with ttl 300.
QUIET = {**dict.fromkeys(MEMORY_LIMITS, 20), ZOOKEEPER: 8}
#: Wake-ups in that time: a run on files looks each 5 s whether it is to end, and the edges may cut one more off.
MOST_WAKEUPS = {FILE: int(QUIET[FILE] / timing.LOCAL_POLL) + 1}
#: CPU seconds of such a job.
DAY_LIMIT = 1.0
#: Round trips, on one connection.
USUAL_REQUESTS = {"run": 3, "skip": 1}
#: Those that take more by their nature.
REQUEST_LIMITS = {ETCD: {"run": 5, "skip": 1}, SQS: {"run": 2, "skip": 2}}
OUTPUT = 100_000_000
#: Commands by name, and the number of connections.
Counted = tuple[dict[str, int], int]
_SHORT = 3.0


def _backends(lab: Lab) -> list[str]:
    return [backend for backend in MEMORY_LIMITS if backend in lab.backends]


def memory(lab: Lab) -> dict[str, float]:
    """Return MB of PSS by backend, after a renewal."""
    found = {}
    for backend in _backends(lab):
        job = lab.start(backend, _SHORT)
        _wait_renewal(job, backend)
        found[backend] = sum(map(proc.pss, job.ours))
        job.end()
    return found


class Soak:
    """Jobs of one lab that renew for long, one on each backend."""

    def __init__(self, lab: Lab) -> None:
        self._jobs = {backend: lab.start(backend, _SHORT) for backend in _backends(lab)}
        self._before = {backend: (_renewals(job), sum(map(proc.cpu, job.ours))) for backend, job in self._jobs.items()}

    def end(self) -> dict[str, tuple[int, float]]:
        """Return, by backend, how often the job renewed and what CPU its processes took for it."""
        found = {}
        for backend, job in self._jobs.items():
            number, used = self._before[backend]
            found[backend] = _renewals(job) - number, sum(map(proc.cpu, job.ours)) - used
            job.end()
        return found


def wakeups(lab: Lab) -> dict[str, int]:
    """Return, by backend, how often the processes of a run ran within QUIET, when nothing was due."""
    jobs = {backend: lab.start(backend) for backend in _backends(lab)}
    # By then each has begun to listen, where its backend notifies.
    time.sleep(3 * timing.LISTEN_AFTER)
    before = {backend: sum(map(proc.switches, job.ours)) for backend, job in jobs.items()}
    began = time.monotonic()
    found = {}
    for backend, seconds in sorted(QUIET.items(), key=lambda item: item[1]):
        if backend not in jobs:
            continue
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        found[backend] = sum(map(proc.switches, jobs[backend].ours)) - before[backend]
        jobs[backend].end()
    return found


def requests(lab: Lab) -> dict[tuple[str, str], Counted]:
    """Return, by backend and ``run`` or ``skip``, what the servers counted."""
    services = lab.services
    counts: dict[str, Callable[[], RedisCount | MemcachedCount | WatchCount]] = {
        REDIS: lambda: RedisCount(services.redis),
        PASSWORD: lambda: RedisCount(services.redis_password),
        MEMCACHED: lambda: MemcachedCount(services.memcached),
        **{
            backend: partial(WatchCount, services.watches[name])
            for backend, name in WATCHED.items()
            if backend in lab.backends
        },
    }
    found = {}
    for backend, begin in counts.items():
        key = f"counted-{os.urandom(8).hex()}"
        url = None
        if backend in WATCHED:
            url = lab.watched_url(backend)
            # The first run of a key may have to make something for it.
            run(lab.line(backend, "true", key=key, hold=0), lab.environ)
        for what in ("run", "skip"):  # The second finds the key in its hold.
            count = begin()
            run(lab.line(backend, "true", key=key, url=url), lab.environ)
            found[backend, what] = count.since()
    return found


def copied(lab: Lab) -> int:
    """Return how many bytes the processes of a run read and wrote while the command put out 100 MB."""
    script = f"read line; head -c {OUTPUT} /dev/zero; read line"
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    job = Running(lab.line(REDIS, "sh", "-c", script), lab.environ, stdin=theirs_in, stdout=theirs_out)
    os.close(theirs_in)
    os.close(theirs_out)
    before = _copied(job)
    os.write(ours_in, b"go\n")
    left = OUTPUT
    while left > 0:
        left -= len(os.read(ours_out, 1 << 20))
    after = _copied(job)
    os.write(ours_in, b"end\n")
    job.wait()
    os.close(ours_in)
    os.close(ours_out)
    return after - before


def _copied(job: Running) -> int:
    return sum(counts["rchar"] + counts["wchar"] for counts in map(proc.io, job.ours))


def _renewals(job: Running) -> int:
    # The guard reads nothing but the wrapper's word of each renewal.
    return proc.io(job.guard)["syscr"]


def _wait_renewal(job: Running, backend: str) -> None:
    before = _renewals(job)
    proc.wait_until(lambda: _renewals(job) > before, f"a renewal: {backend}")
    proc.wait_until(lambda: all(map(proc.is_asleep, job.ours)), f"an end of the renewal: {backend}")


def round_trips(commands: dict[str, int]) -> int:
    """Return how many requests these were, without the login that goes along in the first one's packet."""
    if "cmd_get" in commands:
        return commands["cmd_get"]  # Each is one, or begins one that goes on with a write.
    return sum(number for name, number in commands.items() if name not in ("auth", LOGIN))
