"""``cronlock doctor``: checks of backend, configuration and this machine, with remedies."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import click

from ..config import settings
from ..doctor import findings, host, probe
from ..doctor.findings import BAD, NOTE, OK, WARNING, Finding
from ..engines import registry
from ..engines.url import URL
from ..errors import ConfigError
from . import common
from .views.table import fitted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.settings import Settings

#: The version of the JSON, whose schema is docs/doctor.schema.json.
SCHEMA = 1
_STATUSES = {OK: 0, WARNING: 1, BAD: 2}
_WORDS = {OK: "ok", NOTE: "note", WARNING: "WARNING", BAD: "WRONG"}
_COLORS = {OK: "green", NOTE: None, WARNING: "yellow", BAD: "red"}


@click.command(short_help="Check backend, configuration and this machine, and suggest fixes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-t", "--ttl", metavar="DURATION", help="Check for this ttl. Default: the configured one, else 300s.")
@click.option("--create", is_flag=True, help="First create the table, bucket or queue if it is missing.")
@common.backend_options
def command(as_json: bool, create: bool, **values: str | None) -> int:
    """Check the backend, the configuration and this machine. Report what is wrong and how to fix it.

    To test permissions, the doctor acquires, renews and releases a lease on a key of its own, `cronlock doctor HOST
    PID` or `cronlock doctor HOST`, and then removes the key if it has the right to. It touches no other key. What it
    cannot find out, such as the settings of a managed service, becomes a note.

    SQL databases, DynamoDB, S3 and SQS need a table, a bucket or a queue before the first run. --create creates it
    and changes nothing that exists.

    Exits with 0 if all is well, 1 if there are warnings, 2 if something is wrong.
    """
    chosen, found = _load(values)
    found += host.machine()
    if chosen is not None:
        found += host.configuration(values, os.environ, chosen)
        found += of_backend(chosen, create=create)
    if as_json:
        click.echo(json.dumps(_as_json(chosen, found), indent=2))
    else:
        _show(found)
    return _STATUSES[findings.worst(found)]


def _load(values: dict[str, str | None]) -> tuple[Settings | None, list[Finding]]:
    """Return the settings, or a finding about the configuration. Raises UsageError."""
    given: dict[str, str | bool] = {name: value for name, value in values.items() if value is not None}
    try:
        return settings.load_readonly(given, os.environ), []
    except ConfigError as error:
        return None, [Finding("configuration", BAD, str(error))]


def of_backend(chosen: Settings, *, create: bool) -> Iterator[Finding]:
    """Check only the backend; with `create`, first create the table, bucket or queue that it lacks."""
    try:
        url = URL(chosen.backend_url)
        yield from host.key_file(url.params.get("key", ""))
        backend = registry.open_configured(chosen)
        module = registry.open_doctor(chosen.backend_url)
    except ConfigError as error:
        yield Finding("backend", BAD, str(error))
        return
    yield _named(url, configured=chosen.backend is not None)
    case = probe.Case(url, backend, timeout=chosen.backend_timeout, ttl=chosen.ttl, hold=chosen.min_hold)
    try:
        unfit = findings.judge_ttl(chosen.ttl, backend.traits)
        if unfit is not None:
            yield unfit
            case.ttl = min(max(chosen.ttl, backend.traits.shortest_ttl), backend.traits.longest_ttl)
        yield from probe.servers(case, module, create=create)
        if unfit is None and case.kept is not None:
            yield findings.judge_kept(chosen.ttl, case.kept, chosen="ttl" in chosen.sources)
        yield from findings.judge_timing(case.kept or case.ttl, chosen.backend_timeout, chosen.kill_after)
        if not backend.traits.local:
            yield from host.state_directory(chosen)
    finally:
        backend.close()


def _named(url: URL, *, configured: bool) -> Finding:
    """Report which backend is configured, if any."""
    if not configured:
        text = f"none is configured: {url} guards this machine only; every other machine runs the job too"
        return Finding("backend", WARNING, text, "if several machines have the crontab, set CRONLOCK_BACKEND")
    if url.scheme == "file":
        return Finding("backend", NOTE, f"{url} guards this machine only")
    return Finding("backend", OK, str(url))


def _as_json(chosen: Settings | None, found: list[Finding]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "checked_at": round(time.time(), 3),
        "host": os.uname().nodename,
        "backend": _name_of(chosen),
        "ttl": None if chosen is None else chosen.ttl,
        "level": findings.worst(found),
        "findings": [
            {
                "name": finding.name,
                "place": finding.place or None,
                "level": finding.level,
                "text": finding.text,
                "remedy": finding.remedy,
                "values": {name: round(value, 6) for name, value in finding.values.items()},
            }
            for finding in found
        ],
    }


def _name_of(chosen: Settings | None) -> str | None:
    try:
        return None if chosen is None else common.name_of(chosen)
    except ConfigError:
        return None


def _show(found: list[Finding]) -> None:
    rows = [
        [_WORDS[finding.level], f"{finding.name} {printable(finding.place)}".rstrip(), printable(finding.text)]
        for finding in found
    ]
    colored = common.colored()
    lines = fitted(rows, ())
    indent = " " * (max(len(row[0]) for row in rows) + max(len(row[1]) for row in rows) + 4)
    for finding, line in zip(found, lines):
        color = _COLORS[finding.level]
        word = _WORDS[finding.level]
        click.echo((click.style(word, fg=color) if color else word) + line[len(word) :], color=colored)
        if finding.remedy is not None:
            click.echo(f"{indent}do: {printable(finding.remedy)}", color=colored)
    warnings = sum(finding.level == WARNING for finding in found)
    wrongs = sum(finding.level == BAD for finding in found)
    if warnings or wrongs:
        counts = [f"{wrongs} wrong"] * bool(wrongs) + [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings)
        click.echo(", ".join(counts))

    else:
        click.echo("all is well")
