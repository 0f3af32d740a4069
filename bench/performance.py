"""Measures what cronlock costs, and what of it is over its limit (docs/performance.md)."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from labs.installation import ROOT, Installation, Package, installations

from . import crontab, plot, watched
from .cases import Lab
from .measure import rounds
from .report import Report, Table, machine, markdown
from .services import Services


def main() -> None:
    """Measure for each interpreter, print the tables, and write the documentation if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each case is timed (30)")
    parser.add_argument(
        "--soak", type=float, default=240, help="seconds of renewing for a day's CPU (240; 0: leave out)"
    )
    parser.add_argument("--package", action="store_true", help="only what `make deb` installs, for the system's Python")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and docs/performance.svg")
    arguments = parser.parse_args()
    print(machine())
    with Services() as services, tempfile.TemporaryDirectory(prefix="cronlock-bench-") as directory:
        missing = services.missing()
        for line in missing:
            print(f"not available: {line}")
        found: list[Installation | Package] = [Package()]
        found += [] if arguments.package else installations()
        labs = [Lab(installation, services, Path(directory)) for installation in found]
        reports = [measure(lab, arguments.rounds) for lab in labs]
        if arguments.soak > 0:
            soak(labs, reports, arguments.soak)
    over = [f"{report.title}: {one}" for report in reports for one in report.over()]
    print("\nover the limit:", *(over or ["nothing"]), sep="\n  ")
    if arguments.write:
        (ROOT / "docs/performance.md").write_text(markdown(reports, missing))
        (ROOT / "docs/performance.svg").write_text(plot.svg(reports))


def measure(lab: Lab, number: int) -> Report:
    """Return all tables for one interpreter but the last, and print them as they come."""
    print(f"\n{lab.installation.title}, load {os.getloadavg()[0]:.2f}", flush=True)
    lab.installation.install()
    report = Report(lab)
    with lab.holder():
        report.add_times(rounds(lab.cases(), number))
    report.add_crontab(crontab.LINES, crontab.rounds(lab))
    _show(report.tables)
    shown = len(report.tables)
    report.add_memory(watched.memory(lab))
    report.add_requests(watched.requests(lab))
    report.add_copied(watched.copied(lab))
    report.add_wakeups(watched.wakeups(lab))
    _show(report.tables[shown:])
    return report


def soak(labs: list[Lab], reports: list[Report], seconds: float) -> None:
    """Let jobs renew on all backends and interpreters at once, and add what a day of it takes."""
    soaks = [watched.Soak(lab) for lab in labs]
    time.sleep(seconds)
    for report, running in zip(reports, soaks):
        report.add_day(running.end(), seconds)
        print(f"\n{report.title}")
        _show(report.tables[-1:])


def _show(tables: list[Table]) -> None:
    for table in tables:
        print(f"\n{table.text()}", flush=True)


if __name__ == "__main__":
    main()
