"""``cronlock board``: an HTML page with the state of all keys, for any web server."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING

import click

from .. import durations
from ..config.settings import Settings
from ..errors import BackendError, UsageError
from ..lease.vocabulary import DIED, Record
from . import check, common, completion
from .doctor import of_backend
from .views import board, state

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

    Findings = list[tuple[str, str, str, str]]
    #: (pattern, limits of the keys that it matches)
    Ages = list[tuple[str, check.Limits]]

#: Seconds between two pages, and between two runs of the doctor.
_PERIOD, _DOCTORS = 15.0, 600.0


@click.command(short_help="Write an HTML page with the state of all keys.")
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=completion.keys)
@click.option("--output", required=True, metavar="FILE", shell_complete=common.files, help="Write the page to FILE.")
@click.option("--watch", is_flag=True, help="Rewrite the page every 15 seconds, until Ctrl-C.")
@click.option(
    "--max-age",
    "max_ages",
    multiple=True,
    metavar="[KEY=]DURATION",
    help="Mark a key as late if its last success is older. KEY may be a pattern; the first match counts.",
)
@click.option("--since", default="6h", show_default=True, metavar="DURATION", help="Start the time line this long ago.")
@click.option("--doctor/--no-doctor", default=True, help="Include the doctor's findings on the backend. Default: yes.")
@common.backend_options
def command(
    keys: tuple[str, ...],
    output: str,
    watch: bool,
    max_ages: tuple[str, ...],
    since: str,
    doctor: bool,
    **values: str | None,
) -> int:
    """Write an HTML page with the state, runs and time line of each KEY, or of all keys, and the doctor's findings.

    The page is one file without scripts. It shows names of hosts and programs: restrict who may read it.
    """
    reach = common.duration("--since", since)
    if reach <= 0:
        raise UsageError("--since: must be more than 0 seconds")
    ages = [_age(text) for text in max_ages]
    chosen = common.read_settings(values)
    findings: Findings = []
    looked = None
    with common.opened(chosen) as backend:
        common.need_records(backend, "board")
        while True:
            if doctor and (looked is None or time.monotonic() - looked > _DOCTORS):
                findings, looked = _findings(chosen), time.monotonic()
            try:
                records, wrong = _read(backend, keys)
                page = draw(records, ages, [*wrong, *findings], common.name_of(chosen), time.time(), reach)
                common.replace_file(output, page)
            except BackendError as error:
                if not watch:
                    raise
                click.echo(f"cronlock: {error}; {output} not updated", err=True)
            if not watch:
                return 0
            time.sleep(_PERIOD)


def draw(records: list[tuple[str, Record]], ages: Ages, findings: Findings, name: str, now: float, reach: float) -> str:
    """Return the page for `records`, read from the backend `name` at epoch time `now`."""
    shown = [_shown(key, record, now, ages) for key, record in state.by_attention(records)]
    return board.page(shown, state.count(records), findings, backend=name, now=now, reach=reach)


def _read(backend: Backend, names: tuple[str, ...]) -> tuple[list[tuple[str, Record]], Findings]:
    """Return the records of the keys, and a finding if one cannot be read."""

    records, failure = common.read_records(backend, common.keys_to_show(backend, names, "board"))
    return records, [] if failure is None else [("BAD", "record", str(failure), "")]


def _shown(key: str, record: Record, now: float, ages: Ages) -> board.Key:
    limits = next((limits for pattern, limits in ages if fnmatch.fnmatchcase(key, pattern) or key == pattern), None)
    is_late = limits is not None and check.judge(record, now, limits)[0] != check.OK
    numbers = state.attempts([(key, run) for run in record.runs])
    runs = [{**state.run_as_json(run), "attempt": numbers.get((key, run.owner))} for run in record.runs]
    if state.LAPSED in state.conditions_of(record):
        runs[0]["outcome"] = DIED
    return {
        **state.key_as_json(key, record),
        "condition": state.headline(record),
        "limit": limits.max_age if limits is not None and is_late else None,
        "runs": runs,
    }


def _age(text: str) -> tuple[str, check.Limits]:
    pattern, equals, length = text.rpartition("=")
    if equals and not pattern:
        raise UsageError(f"--max-age: {text!r} has no key; write KEY=DURATION, or DURATION for all keys")
    try:
        return (pattern if equals else "*"), check.Limits(durations.parse(length))
    except ValueError as error:
        raise UsageError(f"--max-age: {error}") from None


def _findings(chosen: Settings) -> Findings:
    return [
        (one.level.upper(), f"{one.name} {one.place}".strip(), one.text, one.remedy or "")
        for one in of_backend(chosen, create=False)
    ]
