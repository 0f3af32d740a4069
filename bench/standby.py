"""What a thousand runs in standby on one key cost a Redis server, and what one of them costs its machine.

    python -m bench.standby [--nodes N] [--seconds S]

All are real processes on this machine. The server's own count says how many requests it answers in
each second, once all of them stand by; then the job ends, and it is counted until when the last left.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import proc
from labs.installation import ROOT
from labs.servers.process import eventually
from labs.servers.redis import RedisServer

_TTL = 60


def main() -> int:
    """Measure, print, and return 0 if all left as skips and the job ran once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    with RedisServer(extra=["--maxclients", "20000"]) as server, tempfile.TemporaryDirectory() as directory:
        return _measure(server, Path(directory), given.nodes, given.seconds)


def _measure(server: RedisServer, folder: Path, nodes: int, seconds: int) -> int:
    holder = _start(server, folder, 0, "echo ran >>ran; while [ ! -e go ]; do sleep 0.1; done")
    eventually((folder / "ran").exists, "the job runs", 60)
    standbys = [_start(server, folder, number + 1, "echo ran >>ran") for number in range(nodes)]
    with server.client() as client:

        def asked() -> int:
            return int(client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])

        eventually(lambda: asked() > nodes, "each has asked once", 600, pause=0.5)
        print(f"{nodes} runs stand by; counting for {seconds} s")
        counts = [asked()]
        cpu = proc.cpu(server.pid)
        for second in range(seconds):
            time.sleep(max(0.0, 1 - time.time() % 1))
            counts.append(asked())
            _check(holder, f"the holder ended in second {second}")
        cpu = proc.cpu(server.pid) - cpu
        rates = [after - before for before, after in zip(counts, counts[1:])]
        print(f"requests a second: mean {sum(rates) / len(rates):.1f}, most {max(rates)}, in {len(rates)} s")
        print(f"the server's processor time: {100 * cpu / seconds:.2f} % of one core")
        print(f"connections at the end: {client.info('clients')['connected_clients'] - 1}")
    held = sum(proc.pss(pid) for pid in proc.family(holder.pid)[:-1])
    print(f"memory (PSS): {proc.pss(standbys[0].pid):.1f} MB each in standby; {held:.1f} MB the holder's processes")
    ended = time.monotonic()
    (folder / "go").touch()
    holder.wait()
    statuses = [standby.wait() for standby in standbys]
    print(f"all left within {time.monotonic() - ended:.1f} s of the job's end")
    once = (folder / "ran").read_text() == "ran\n"
    skips = statuses.count(99)
    print(f"{skips} skips; the job ran {'once' if once else 'MORE THAN ONCE'}")
    return 0 if once and skips == nodes else 1


def _start(server: RedisServer, folder: Path, number: int, job: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "cronlock", "run", "--key", "job", "--ttl", str(_TTL), "--standby", "1h"]
    line += ["--skip-status", "99", "--backend", server.url(), "--backend-timeout", "30", "--config", os.devnull]
    line += ["--state-dir", str(folder / f"state{number}"), "--", "sh", "-c", job]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, cwd=folder, env=environment, stdin=subprocess.DEVNULL)


def _check(holder: subprocess.Popen[bytes], what: str) -> None:
    if holder.poll() is not None:
        raise SystemExit(what)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
