"""Measure what a run costs with each kind of installation: cost.py [--write] [--rounds N].

--write writes the table into docs/packages.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import payload
import pyz
import source
from arguments import Arguments

sys.path.insert(0, str(source.ROOT))

from bench.measure import Case, Cost, ratio, rounds, run
from labs.installation import Installation, clean_environment, installations

_UNIT = "python3 -I -c pass"
_PAGE = source.ROOT / "docs/packages.md"
_BEGIN, _END = "<!-- cost -->\n", "<!-- /cost -->"


def table(directory: Path, number: int) -> str:
    """Install cronlock in each way below `directory`, measure `number` rounds per Python, and return the table."""
    columns = {each.version: _measure(each, directory / each.version, number) for each in installations()}
    lines = ["| | " + " | ".join(f"Python {version}" for version in columns) + " |", "|---|" + "---|" * len(columns)]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | " + " | ".join(f"{column[name]:.2f}" for column in columns.values()) + " |")
    return "\n".join(lines) + "\n"


def _measure(installation: Installation, place: Path, number: int) -> dict[str, float]:
    """Return the median wall time of a run for each installation, in starts of the interpreter."""
    installation.install()
    lines = _launchers(installation, place)
    environ = {"PATH": f"{place}:/usr/bin:/bin", "HOME": str(place), "CRONLOCK_CONFIG": os.devnull}
    environ.update(CRONLOCK_STATE_DIR=f"{place}/state", CRONLOCK_BACKEND=f"file://{place}/leases")
    cases = [Case(_UNIT, lambda: run([installation.python, "-I", "-c", "pass"], environ))]
    cases += [Case(name, _run_of(line, environ)) for name, line in lines.items()]
    costs = rounds(cases, number)
    return {name: ratio(costs[name], costs[_UNIT], "wall").median for name in lines}


def _launchers(installation: Installation, place: Path) -> dict[str, list[str]]:
    """Install the program in each way, and return the command line that starts it."""
    python = os.path.realpath(installation.python)
    place.mkdir(parents=True)
    # cronlock.pyz looks for python3 in PATH.
    (place / "python3").symlink_to(python)
    for name in ("package", "bare"):
        _lay_out(f"{place}/{name}", python)
    library = f"{place}/package/lib/cronlock"
    for words in (["-m", "compileall", "-q", library], [f"{library}/cronlock/bundle_writer.py"]):
        subprocess.run([python, "-IS", "-W", "ignore", *words], check=True, env=clean_environment())
    one_file = pyz.build(Arguments(source.version(), "", place, source.epoch()))
    return {
        "deb, rpm, `make install`": [f"{place}/package/bin/cronlock"],
        "wheel, in a virtual environment": [installation.cronlock],
        "`cronlock.pyz`": [str(one_file)],
        "deb, rpm, without byte code": [python, "-BIS", f"{place}/bare/bin/cronlock"],
    }


def _lay_out(prefix: str, python: str) -> None:
    for file in payload.files(payload.Layout(prefix, python), source.version()):
        path = Path(file.path)
        if path.is_relative_to(prefix):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)


def _run_of(launcher: list[str], environ: dict[str, str]) -> Callable[[], Cost]:
    numbers = itertools.count()
    name = Path(launcher[-1]).parent.parent.name
    return lambda: run([*launcher, "run", "--key", f"{name}-{next(numbers)}", "--", "/bin/true"], environ)


def main() -> None:
    """Measure, print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cronlock-cost-") as scratch:
        found = table(Path(scratch), given.rounds)
    print(found, end="")
    if given.write:
        head, _, rest = _PAGE.read_text().partition(_BEGIN)
        _PAGE.write_text(f"{head}{_BEGIN}{found}{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main()
