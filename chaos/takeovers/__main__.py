"""Ten machines stand by, and the one that has the key dies: how late does another take over?

    python -m chaos.takeovers [--backend NAME,...] [--deaths N] [--scenes N] [--at-once N] [--out DIR]

All is real: the machines are namespaces, the server runs on one of its own, and a death kills everything on a machine
at a random moment of the job, one in four within its last 200 ms. Traced runs say which step took how long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from labs.scene import JOB, NODES, SERVERS, TTL, Scene

from ..choice import add_backends, chosen_backends
from .deaths import TRACED, Death, die, random_moment
from .report import line, outliers


def measure(backend: str, deaths: int, seed: str) -> tuple[list[Death], list[float]]:
    """Return so many deaths on one backend, and the load averages at each."""
    chance = random.Random(f"{backend} {seed}")
    loads, found = list[float](), list[Death]()
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cronlock-takeovers-")))
        scene = stack.enter_context(Scene(backend, room / "fleet", TRACED))
        for number in range(deaths):
            loads.append(os.getloadavg()[0])
            try:
                found.append(die(scene, f"job-{number}", random_moment(chance, number)))
                scene.replace()
            except (Exception, pytest.fail.Exception) as error:
                # What was measured before counts, and the story says what went wrong.
                print(f"{backend}, death {number}: {error!r}\n{scene.story()}", flush=True)
                break
    return found, loads


def summary(backend: str, seed: int, parts: Sequence[tuple[list[Death], list[float]]]) -> dict[str, Any]:
    """Return the summary of what several scenes showed of one backend."""
    loads = [load for _, some in parts for load in some]
    return {
        "kind": "takeovers",
        "backend": backend,
        "seed": seed,
        "nodes": NODES,
        "ttl": TTL,
        "job": JOB,
        "processors": os.cpu_count(),
        "load": round(sum(loads) / len(loads), 2),
        "deaths": [death.to_json() for deaths, _ in parts for death in deaths],
    }


def main(arguments: Sequence[str]) -> int:
    """Measure, say what came of it, and return 0 if all deaths took place and each job was done once."""
    parser = argparse.ArgumentParser(prog="python -m chaos.takeovers", description=__doc__.splitlines()[0])
    add_backends(parser, SERVERS)
    parser.add_argument("--deaths", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="decides when in the job machines die")
    parser.add_argument("--scenes", type=int, default=1, help="servers of each backend that share its deaths")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="scenes at the same time: they mostly wait")
    parser.add_argument("--out", type=Path, help="where to write a summary of each backend")
    options = parser.parse_args(arguments)
    backends = chosen_backends(parser, options.backend, SERVERS)
    wrong = False
    # Processes, since what is started ends with the thread that started it.
    with ProcessPoolExecutor(options.at_once) as pool:
        share = -(-options.deaths // options.scenes)
        scenes = {
            name: [pool.submit(measure, name, share, f"{options.seed} {part}") for part in range(options.scenes)]
            for name in backends
        }
        for name, parts in scenes.items():
            found = summary(name, options.seed, [part.result() for part in parts])
            print("\n".join([line(found), *outliers(found)]), flush=True)
            wrong |= len(found["deaths"]) < share * options.scenes
            wrong |= any(death["done"] != 1 and not death["unrecorded"] for death in found["deaths"])
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                text = json.dumps(found, indent=1) + "\n"
                (options.out / f"takeovers-{name}.summary.json").write_text(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
