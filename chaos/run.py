"""From options to a verdict: one torture run on one backend."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from . import check, faults, history, plan, pulse
from .driver import Driver, Pace
from .systems import SYSTEMS
from .world import ROOT, World

#: The longest job, in seconds.
_LONGEST = {"short": 2.5, "mixed": 5.0, "long": 10.0}
#: With kill-anytime.
_KILLED = 0.4


def shots(backend: str, options: argparse.Namespace) -> list[plan.Shot]:
    """Return the plan of faults for a backend."""
    kinds = [fault.kind for fault in faults.choose(options.faults, SYSTEMS[backend])]
    pairs = None if options.pairs is None else json.loads(options.pairs.read_text())
    pace = Pace(0, 0)
    return plan.make(options.seed, kinds, options.seconds, pace.ttl, options.every, dense=options.dense, pairs=pairs)


def plan_text(backend: str, options: argparse.Namespace) -> str:
    """Return the plan for people."""
    lines = [f"{backend}, seed {options.seed}:"]
    lines += [
        f"{shot.at:8.1f} s  {shot.name}, {shot.length:.1f} s, {shot.pick:.3f}" for shot in shots(backend, options)
    ]
    return "\n".join(lines)


def torture(backend: str, options: argparse.Namespace, out: Path) -> bool:
    """Run on one backend; keep history, verdict and picture in `out`; return True if all is well."""
    pace = Pace(
        options.seconds,
        options.keys,
        fresh=options.fresh,
        period=options.period,
        long_jobs=options.jobs == "long",
        longest_job=_LONGEST[options.jobs],
        killed=_KILLED if faults.KILL_ANYTIME in options.faults.split(",") else 0.0,
        together=options.dense,
    )
    planned = shots(backend, options)
    names = {shot.name for shot in planned}
    out.mkdir(parents=True, exist_ok=True)
    kept = out / f"{backend}-{options.seed}{'-' + options.mutant if options.mutant else ''}.jsonl"
    with tempfile.TemporaryDirectory(prefix="torture-") as room:
        package = options.package or ROOT
        if options.mutant:
            from .mutants import mutate

            package = Path(room) / "mutant"
            mutate(options.mutant, package)
        world = World(
            Path(room) / "fleet",
            SYSTEMS[backend],
            nodes=options.nodes,
            ttl=pace.ttl,
            package=package,
            node_clocks="node-clock" in names,
            server_clocks="server-clock" in names,
            parameters=options.parameters,
        )
        with world:
            world.note.plan(
                backend=backend + options.parameters,
                seed=options.seed,
                ttl=pace.ttl,
                hold=pace.hold,
                nodes=world.nodes,
                faults=options.faults,
                mutant=options.mutant,
            )
            if options.busy:
                pulse.excuse(world.note)
            if not world.limits_processes:
                planned = [shot for shot in planned if shot.name != "few-processes"]
                print("few-processes is left out: other users cannot run this interpreter")
            try:
                with pulse.Pulse(world.note, pace.ttl):
                    Driver(world, pace, options.seed, planned).run()
            except Exception as error:
                world.note.note("harness", text=f"{type(error).__name__}: {error}")
            finally:
                shutil.copy(world.history_path, kept)
    verdict = check.check(history.read(kept))
    print(check.show(verdict), flush=True)
    kept.with_suffix(".summary.json").write_text(json.dumps(check.summary(verdict), indent=1) + "\n")
    _draw(verdict, kept.with_suffix(".svg"))
    return verdict.is_good()


def _draw(verdict: check.Verdict, path: Path) -> None:
    from . import timeline

    path.write_text(timeline.svg(verdict))
