"""Measures what a whole fleet at second zero costs its lock server (docs/fleet.md).

docs/fleet.json keeps the figures of each server, so that servers can be measured one at a time.
"""

from __future__ import annotations

import argparse
import os
import sys

from bench.report import machine
from labs.installation import ROOT

from . import found, plot, real, report, soak
from .crowd import Crowd
from .found import Found
from .measure import CRONTABS, JITTERS, KEYS, SIZES, Case, Lab, cases
from .servers import COUNTED, TARGETS

_DOCS = ROOT / "docs"
_DOCUMENT, _FIGURES = _DOCS / "fleet.md", _DOCS / "fleet.json"


def main() -> None:
    """Measure each server, print as it goes, and write the documentation if asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"which ones, of {', '.join(TARGETS)}; all")
    parser.add_argument(
        "--most",
        type=int,
        default=max(SIZES),
        help="the largest number of nodes (10000, fewer where a server stands less); whole crontabs have up to twice"
        " as many runs",
    )
    parser.add_argument("--real", type=int, default=300, help="real processes for the comparison (300; 0: leave out)")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="only ticks every 10 s for so long")
    parser.add_argument(
        "--nodes", type=int, help=f"nodes of the soak ({soak.USUAL_NODES}; fewer where a server stands less)"
    )
    parser.add_argument("--write", action="store_true", help="write docs/fleet.json, docs/fleet.md and its plots")
    parser.add_argument("--tables", action="store_true", help="measure nothing, and write them from docs/fleet.json")
    parser.add_argument("--check", action="store_true", help="fail if they are not what docs/fleet.json gives")
    arguments = parser.parse_args()
    if arguments.tables or arguments.check:
        sys.exit(document(check=arguments.check))
    wanted = arguments.servers or list(TARGETS)
    unknown = [name for name in wanted if name not in TARGETS]
    if unknown:
        parser.error(f"no such server: {', '.join(unknown)}")
    print(f"{machine()}, load {os.getloadavg()[0]:.2f}", flush=True)
    if arguments.soak:
        nodes = {name: arguments.nodes or soak.NODES.get(name, soak.USUAL_NODES) for name in wanted}
        soaks = {name: (nodes[name], run_soak(name, nodes[name], arguments.soak)) for name in wanted}
        if arguments.write:
            _DOCUMENT.write_text(report.with_soak(_DOCUMENT.read_text(), soaks))
        return
    for name in wanted:
        one = measure(name, arguments.most, arguments.real)
        if arguments.write:
            found.write(_FIGURES, {**found.read(_FIGURES), name: one})
            document(check=False)


def document(*, check: bool) -> int:
    """Write the document and its plots from the figures, or compare them; return the exit status."""
    kept = found.read(_FIGURES)
    servers = [kept[name] for name in TARGETS if name in kept]
    earlier = _DOCUMENT.read_text() if _DOCUMENT.exists() else ""
    rows = {one.name: one.rows for one in servers}
    made = {
        _DOCUMENT: report.markdown(servers, earlier),
        **{_DOCS / f"fleet-{keys}.svg": plot.svg(rows, keys) for keys in KEYS},
    }
    stale = {path: text for path, text in made.items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        if check:
            print(f"{path.name} does not have the figures of {_FIGURES.name}: run python -m bench.fleet --tables")
        else:
            path.write_text(text)
            print(f"written: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


def measure(name: str, most: int, losers: int) -> Found:
    """Return all that is measured of one server."""
    comparison = compare(name, losers) if losers else None
    target = TARGETS[name]()
    most = min(most, target.most)
    with target.running(), Crowd(environ=target.environ) as crowd:
        one = Found(target.name, target.version(), comparison)
        print(f"\n{one.version}", flush=True)
        lab = Lab(target, crowd)
        # The first ticks of a virtual machine are not like the others.
        lab.tick(Case(min(most, 300)))
        sizes = tuple(size for size in SIZES if size <= most)
        jitters = [case for case in JITTERS if case.runs <= most]
        for case in (*cases(sizes), *jitters, *(case for case in CRONTABS if case.runs <= 2 * most)):
            one.rows.append(lab.measure(case))
            print(report.line(one.rows[-1]), flush=True)
    return one


def compare(name: str, losers: int) -> real.Comparison:
    """Return what the server counts of real processes and of simulated ones."""
    target = COUNTED[name]()
    with target.running():
        comparison = real.compare(target, losers)
    print(f"\n{report.compared(target.name, comparison)}", flush=True)
    return comparison


def run_soak(name: str, nodes: int, seconds: float) -> list[soak.Minute]:
    """Return what each minute of ticks without a pause showed."""
    target = TARGETS[name]()
    print(f"\n{name}: {nodes:,} nodes, {soak.LINES} lines, every {soak.EVERY:g} s", flush=True)
    minutes = []
    with target.running(), Crowd(environ=target.environ) as crowd:
        for minute in soak.soak(target, crowd, nodes, seconds):
            minutes.append(minute)
            print(report.minute(minute), flush=True)
    return minutes


if __name__ == "__main__":
    main()
