"""Tortures every system in turns, for as long as it is told, and sums up what came of it.

    python -m chaos.turns [--seconds N] [--out DIR] [--lanes N] [--backend LIST] [--record]
    python -m chaos.turns --report [--out DIR]

A turn is one run of ``python -m chaos`` with a new seed: ``plain`` is all faults at the usual pace, ``pairs`` short
ones, of which those pairs meet first that met least, ``leaders`` kills and cuts of leaders. What is over has a summary
in DIR; what is interrupted leaves nothing, so that the next call goes on where this one ended. Of a turn with a
violation the history is kept, and a turn in which the harness failed is void: it counts as such and nowhere else.
`--record` adds the summaries to docs/, once.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import findings, pairs, report
from .choice import add_backends, chosen_backends
from .history import now
from .systems import SYSTEMS
from .world import ROOT

_OUT = ROOT / "build" / "torture"
#: The name of a kind of turn -> options of the torture.
KINDS = {
    "plain": ["--faults=all", "--nodes=3"],
    "pairs": ["--faults=all", "--dense", "--every=0.4", "--nodes=3"],
    "leaders": ["--faults=runs,leader-kill,isolate-leader", "--dense", "--nodes=2"],
}
#: A slice shorter than that is not worth its start.
_SHORTEST = 20.0
_SHOWN = 5
#: Seconds that a turn may take beside its slice: servers start, recover and end.
_BESIDE = 420.0
_NAME = re.compile(r"(?P<system>[a-z0-9-]+)\.(?P<kind>[a-z]+)\.(?P<seed>\d+)\.(?P<state>summary|void)\.json")


@dataclass(frozen=True)
class Turn:
    """One system and what is done to it."""

    system: str
    kind: str
    #: How many turns it has for one of another.
    weight: int = 1


def turns(names: Sequence[str]) -> list[Turn]:
    """Return the turns of one round, in order."""
    every = [Turn(name, kind) for kind in ("plain", "pairs") for name in names]
    ours = [Turn(name, "leaders", 3) for name in names if SYSTEMS[name].has_quorum]
    return [*ours, *every]


class State:
    """What is over, as files of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: What stands in docs/ already.
        self.recorded = directory / "recorded"
        self.recorded.mkdir(parents=True, exist_ok=True)

    def files(self, state: str = "summary", *, new: bool = False) -> Iterator[tuple[re.Match[str], Path]]:
        """Yield the parts of the name and the path of each file; `new`: only of what does not stand in docs/ yet."""
        for folder in (self.directory,) if new else (self.directory, self.recorded):
            for path in sorted(folder.iterdir()):
                found = _NAME.fullmatch(path.name)
                if found is not None and found["state"] == state:
                    yield found, path

    def summaries(self, *, new: bool = False) -> list[dict[str, Any]]:
        """Return the summaries of all turns that are no void."""
        return [json.loads(path.read_text()) for _, path in self.files(new=new)]

    def next_seed(self, system: str) -> int:
        """Return the first seed above all that were used."""
        used = {0, *_seeds_on_record(system)} | {
            int(found["seed"])
            for state in ("summary", "void")
            for found, _ in self.files(state)
            if found["system"] == system
        }
        return max(used) + 1

    def done(self) -> Counter[tuple[str, str]]:
        """Return how many turns of each system and kind are over."""
        return Counter(
            (found["system"], found["kind"]) for state in ("summary", "void") for found, _ in self.files(state)
        )

    def record(self) -> None:
        """Add what is new to docs/, and remember that."""
        new = [path for _, path in self.files(new=True)]
        if new:
            report.main(["--add", *map(str, new)])
        for path in new:
            path.rename(self.recorded / path.name)


def _seeds_on_record(system: str) -> list[int]:
    on_record: dict[str, Any] = report.on_record()["backends"].get(system, {})
    return list(on_record.get("seeds", []))


class Rounds:
    """Has turns, several at a time."""

    def __init__(self, state: State, turns: Sequence[Turn], length: float, end: float, keys: int = 16) -> None:
        self._state = state
        self._turns = turns
        self._length = length
        self._end = end
        self._keys = keys
        self._lock = threading.Lock()
        self._going: Counter[tuple[str, str]] = Counter()
        self._seeds: dict[str, int] = {}
        self._processes: set[subprocess.Popen[str]] = set()
        self._over = False

    def run(self, lanes: int) -> None:
        """Have turns until the time is over; raises nothing of what a turn does."""
        threads = [threading.Thread(target=self._lane) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # A join without a limit would keep signals waiting.
                thread.join(0.5)

    def stop(self) -> None:
        """End what goes on, and begin nothing more."""
        self._over = True
        with self._lock:
            for process in self._processes:
                process.send_signal(signal.SIGTERM)

    def _lane(self) -> None:
        while True:
            with self._lock:
                seconds = min(self._length, self._end - now())
                if self._over or seconds < _SHORTEST:
                    return
                turn, seed = self._next()
                counts = json.dumps(self._pairs())
            try:
                self._have(turn, seed, seconds, counts)
            finally:
                with self._lock:
                    self._going[turn.system, turn.kind] -= 1

    def _next(self) -> tuple[Turn, int]:
        """Return the turn that had least, and its seed."""
        done = self._state.done() + self._going
        turn = min(self._turns, key=lambda turn: done[turn.system, turn.kind] // turn.weight)
        self._going[turn.system, turn.kind] += 1
        seed = max(self._seeds.get(turn.system, 0) + 1, self._state.next_seed(turn.system))
        self._seeds[turn.system] = seed
        return turn, seed

    def _pairs(self) -> dict[str, int]:
        return dict(sum_of_pairs(self._state))

    def _have(self, turn: Turn, seed: int, seconds: float, counts: str) -> None:
        with tempfile.TemporaryDirectory(prefix="torture-turn-") as name:
            out = Path(name)
            options = list(KINDS[turn.kind])
            if "--dense" in options:
                (out / "pairs").write_text(counts)
                options.append(f"--pairs={out}/pairs")
            line = [sys.executable, "-m", "chaos", f"--backend={turn.system}", f"--seed={seed}", *options]
            keys = self._keys // 4 if SYSTEMS[turn.system].is_slow else self._keys
            line += [f"--seconds={seconds:.0f}", f"--keys={keys}", f"--out={out}"]
            process = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True
            )
            with self._lock:
                self._processes.add(process)
                if self._over:
                    process.send_signal(signal.SIGTERM)
            try:
                said, _ = process.communicate(timeout=seconds + _BESIDE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate()
            with self._lock:
                self._processes.discard(process)
                if not self._over:
                    self._keep(turn, seed, out, said)

    def _keep(self, turn: Turn, seed: int, out: Path, said: str) -> None:
        name = f"{turn.system}.{turn.kind}.{seed}"
        found = next(out.glob("*.summary.json"), None)
        summary = {"harness": [said[-2000:]]} if found is None else json.loads(found.read_text())
        state = "void" if summary["harness"] or not summary["attempts"] else "summary"
        good = state == "summary" and summary["good"]
        print(f"{time.strftime('%H:%M:%S')} {name}: {one_line(summary)}", flush=True)
        if not good:
            for path in out.iterdir():
                if path.suffix in (".jsonl", ".svg") or path.name == "pairs":
                    shutil.copy(path, self._state.directory / f"{name}{path.suffix or '.' + path.name}")
        target = self._state.directory / f"{name}.{state}.json"
        fresh = target.with_suffix(".new")
        fresh.write_text(json.dumps(summary, indent=1) + "\n")
        fresh.rename(target)


def one_line(summary: dict[str, Any]) -> str:
    """Return a turn for people."""
    if summary["harness"]:
        return f"void: {summary['harness'][0][-300:]}"
    rate = summary["runs"] / summary["seconds"]
    told = f"{summary['runs']} commands ({rate:.1f}/s), {summary['injected']} faults, busy {summary['busy']:g} s"
    told += f", {summary['late']} left out" if summary["late"] else ""
    return told + "".join(f"\n    {text}" for text in summary["violations"][:_SHOWN])


def sum_of_pairs(state: State) -> Counter[str]:
    """Return how often each pair came, on record and since."""
    counts: Counter[str] = Counter()
    for one in [*report.on_record()["backends"].values(), *state.summaries(new=True)]:
        counts.update(one.get("pairs", {}))
    return counts


def show(state: State) -> str:
    """Return what all turns came to, with what stands in docs/."""
    figures = report.added(report.on_record(), report.merge(state.summaries(new=True)))
    void = Counter(found["system"] for found, _ in state.files("void"))
    lines = []
    for name in SYSTEMS:
        total = figures["backends"].get(name)
        if total is not None or void[name]:
            lines.append(f"{name}: {_sums(total)}, {void[name]} void" if total else f"{name}: {void[name]} void")
    for found, path in state.files("void"):
        lines.append(f"void: {found['system']}, seed {found['seed']}: {json.loads(path.read_text())['harness'][0]}")
    for summary in state.summaries(new=True):
        where = f"{summary['backend']}, seed {summary['seed']}"
        lines += [f"VIOLATION: {where}: {text}" for text in summary["violations"][:_SHOWN]]
    return "\n".join([*lines, pairs.show(sum_of_pairs(state))])


def _sums(total: dict[str, Any]) -> str:
    violations = sum(row[kind] for row in total["faults"].values() for kind in findings.KINDS)
    leaders = sum(total["faults"].get(name, {"injected": 0})["injected"] for name in report.LEADERS)
    return (
        f"{total['seconds'] / 3600:.2f} h, {total['attempts']} starts, {total['runs']} commands, "
        f"{total['injected']} faults, {violations} violations, {leaders} leaders hit, busy {total['busy']:.0f} s"
    )


def main(arguments: Sequence[str]) -> int:
    """Have turns, or only report; return 0 if nothing was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos.turns", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0, help="for how long")
    parser.add_argument("--slice", type=float, default=120.0, help="seconds of one turn")
    parser.add_argument("--keys", type=int, default=16, help="how many of a turn; more commands need a faster machine")
    parser.add_argument("--lanes", type=int, default=2, help="how many turns at a time")
    add_backends(parser, SYSTEMS)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"comma-separated: {', '.join(KINDS)}")
    parser.add_argument("--out", type=Path, default=_OUT, help="where the summaries are")
    parser.add_argument("--report", action="store_true", help="only say what came of it so far")
    parser.add_argument("--record", action="store_true", help="add what is new to docs/")
    options = parser.parse_args(arguments)
    names = chosen_backends(parser, options.backend, SYSTEMS)
    state = State(options.out)
    if not options.report:
        chosen = [turn for turn in turns(names) if turn.kind in options.kinds.split(",")]
        rounds = Rounds(state, chosen, options.slice, now() + options.seconds, options.keys)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: rounds.stop())
        rounds.run(options.lanes)
    print(show(state))
    good = all(summary["good"] for summary in state.summaries(new=True))
    if options.record:
        state.record()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
