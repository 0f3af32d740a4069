"""Measures what a whole fleet at second zero costs its lock server (docs/fleet.md)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.report import machine
from labs.installation import ROOT

from . import plot, real, report, soak
from .crowd import Crowd
from .measure import CRONTABS, KEYS, SIZES, Case, Lab, cases
from .servers import PATIENT, TARGETS


def main() -> None:
    """Measure each server, print as it goes, and write the documentation if asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"which ones, of {', '.join(TARGETS)}; all")
    parser.add_argument(
        "--most",
        type=int,
        default=max(SIZES),
        help="the largest number of nodes (10000); whole crontabs have up to twice as many runs",
    )
    parser.add_argument("--real", type=int, default=300, help="real processes for the comparison (300; 0: leave out)")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="only ticks every 10 s for so long")
    parser.add_argument(
        "--nodes", type=int, help=f"nodes of the soak ({soak.USUAL_NODES}; fewer where a server stands less)"
    )
    parser.add_argument("--write", action="store_true", help="write docs/fleet.md and its plots")
    arguments = parser.parse_args()
    wanted = arguments.servers or list(TARGETS)
    unknown = [name for name in wanted if name not in TARGETS]
    if unknown:
        parser.error(f"no such server: {', '.join(unknown)}")
    print(f"{machine()}, load {os.getloadavg()[0]:.2f}", flush=True)
    document = ROOT / "docs/fleet.md"
    if arguments.soak:
        nodes = {name: arguments.nodes or soak.NODES.get(name, soak.USUAL_NODES) for name in wanted}
        soaks = {name: (nodes[name], run_soak(name, nodes[name], arguments.soak)) for name in wanted}
        if arguments.write:
            write(document, report.with_soak(document.read_text(), soaks))
        return
    found = [measure(name, arguments.most, arguments.real) for name in wanted]
    if arguments.write:
        earlier = document.read_text() if document.exists() else ""
        write(document, report.markdown(found, earlier))
        for keys in KEYS:
            write(ROOT / f"docs/fleet-{keys}.svg", plot.svg({one.name: one.rows for one in found}, keys))


def measure(name: str, most: int, losers: int) -> report.Found:
    """Return all that is measured of one server."""
    comparison = compare(name, losers) if losers else None
    target = TARGETS[name]()
    with target.server, Crowd() as crowd:
        found = report.Found(target.name, target.version(), comparison)
        print(f"\n{found.version}", flush=True)
        lab = Lab(target, crowd)
        # The first ticks of a virtual machine are not like the others.
        lab.tick(Case(min(most, 300)))
        sizes = tuple(size for size in SIZES if size <= most)
        for case in (*cases(sizes), *(case for case in CRONTABS if case.runs <= 2 * most)):
            found.rows.append(lab.measure(case))
            print(report.line(found.rows[-1]), flush=True)
    return found


def compare(name: str, losers: int) -> real.Comparison:
    """Return what the server counts of real processes and of simulated ones."""
    target = PATIENT[name]()
    with target.server:
        comparison = real.compare(target, losers)
    print(f"\n{report.compared(target.name, comparison)}", flush=True)
    return comparison


def run_soak(name: str, nodes: int, seconds: float) -> list[soak.Minute]:
    """Return what each minute of ticks without a pause showed."""
    target = TARGETS[name]()
    print(f"\n{name}: {nodes:,} nodes, {soak.LINES} lines, every {soak.EVERY:g} s", flush=True)
    minutes = []
    with target.server, Crowd() as crowd:
        for minute in soak.soak(target, crowd, nodes, seconds):
            minutes.append(minute)
            print(report.minute(minute), flush=True)
    return minutes


def write(path: Path, text: str) -> None:
    """Write a file of the documentation."""
    path.write_text(text)
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
