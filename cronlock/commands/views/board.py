"""The board: an HTML page of all keys, without scripts or external resources.

It shows the keys as in ``status --json``, with their runs. Untrusted text is escaped, and the page's
Content-Security-Policy blocks whatever would get through.
"""

from __future__ import annotations

import html
import time
from typing import Any

from ... import durations
from ...lease.describe import ending
from ...lease.vocabulary import EXITED, HISTORY, RELEASED, STOPPED
from .board_style import STYLE
from .table import printable

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>cronlock: {title}</title><style>{style}</style></head><body>
"""
#: (class of a run's mark, its meaning)
_LEGEND = (("ok", "succeeded"), ("bad", "failed or died"), ("odd", "released or stopped"), ("now", "running"))
#: Width and height of the bar of a duration; a run has a column of 8.
_BAR, _HIGH = 8, 32
#: Width of the time line's rows, and the number of intervals of its load.
_WIDE, _PARTS = 1000.0, 100
#: The least number of times between two ticks for a usual interval.
_GAPS = 4

Key = dict[str, Any]


def page(
    keys: list[Key],
    counts: list[tuple[str, int]],
    findings: list[tuple[str, str, str, str]],
    *,
    backend: str,
    now: float,
    reach: float,
) -> str:
    """Return the page for `keys`: as in JSON, with ``runs``, ``condition``, and the exceeded ``limit``, if any.

    `counts` are numbers of keys by condition, `findings` are the doctor's (level, name, text, remedy), and `reach` is
    the length of the time line in seconds.
    """
    title = _text(backend)
    parts = [_HEAD.format(title=title, style=STYLE)]
    parts.append(f"<header><h1>cronlock</h1><p>{title}</p><p class=soft>read at {_moment(now, date=True)}</p>")
    chips = [f'<li class="{name}">{count} {name}</li>' for name, count in counts]
    parts.append(f'<ul class=counts aria-label="Keys by state">{"".join(chips) or "<li class=free>no keys</li>"}</ul>')
    parts.append("</header><main>")
    parts += ["<h2>Keys</h2>", _legend(), '<ul class="keys card">', *(_key(key, now) for key in keys), "</ul>"]
    parts += _time_line(keys, now, reach)
    parts += _doctor(findings)
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _key(key: Key, now: float) -> str:
    condition, run, newest = key["condition"], key["run"], key["runs"][0] if key["runs"] else None
    badges = f'<span class="badge {condition}">{condition}</span>'
    success = key["last_success"]
    last = "no success recorded" if success is None else f"succeeded {_ago(success['ended_at'], now)}"
    if key["limit"] is not None:
        last += f"<br><strong class=late>late: limit {durations.show(key['limit'])}</strong>"
    host, facts = "", []
    if newest is not None:
        host = _text(newest["host"])
        facts.append(_words(newest, now, named=False))
    if run is not None:
        facts.append(f"pid {run['pid']}")
    if key["hold_remaining"]:
        facts.append(f"held for another {durations.brief(key['hold_remaining'])}")
    notes = []
    if key.get("pause"):
        pause = key["pause"]
        until = "it is resumed" if pause["until"] is None else _moment(pause["until"], date=True)
        reason = f": {_text(pause['reason'])}" if pause["reason"] else ""
        notes.append(f"paused by {_text(pause['user'])} on {_text(pause['host'])} until {until}{reason}")
    if key["drift"]:
        notes.append(_text(key["drift"]))
    return (
        f"<li><h3 class=name>{_text(key['key'])}</h3><span>{badges}</span>"
        f"<span class=facts>{host}<br><span class=soft>{', '.join(facts)}</span></span>"
        f"<span class=facts>{last}</span>{_bars(key['runs'], now)}"
        + "".join(f"<p class=note>{note}</p>" for note in notes)
        + _history(key)
        + "</li>"
    )


def _bars(runs: list[dict[str, Any]], now: float) -> str:
    """Return the last runs as bars, newest at the right: the height is the duration, the color the outcome."""
    took = [_took(run, now) for run in runs[:HISTORY]]
    longest = max(took, default=0.0) or 1.0
    marks = []
    for index, (run, seconds) in enumerate(zip(runs, took)):
        kind, x = _kind(run), (HISTORY - 1 - index) * _BAR
        height = max(3.0, _HIGH * seconds / longest)
        # Not by color alone: a bad run has a background.
        back = {"bad": "back", "odd": "oddback"}.get(kind)
        ground = f"<rect class={back} x={x} y=0 width={_BAR} height={_HIGH} />" if back else ""
        marks.append(
            f"<g><title>{_words(run, now)}</title>{ground}"
            f"<rect class={kind} x={x + 1} y={_HIGH - height:.1f} width={_BAR - 2} height={height:.1f} /></g>"
        )
    kinds = [_kind(run) for run in runs]
    summary = ", ".join(f"{kinds.count(kind)} {meaning}" for kind, meaning in _LEGEND if kind in kinds) or "no run"
    return (
        f'<svg class=bars viewBox="0 0 {HISTORY * _BAR} {_HIGH}" preserveAspectRatio=none role=img '
        f'aria-label="The last runs: {summary}">{"".join(marks)}</svg>'
    )


def _history(key: Key) -> str:
    """Return the runs as a table, for readers who cannot point at a bar."""
    rows = [
        f"<tr><td>{_moment(run['started_at'], date=True)}<td>{_length(run)}<td>{_text(run['host'])}"
        f"<td>{_text(run['program'])}<td>{_how(run)}"
        for run in key["runs"]
    ]
    if not rows:
        return ""
    return (
        f"<details><summary>{len(rows)} run{'s' * (len(rows) != 1)}"
        f"<span class=hidden> of {_text(key['key'])}</span></summary><div class=scroll tabindex=0 role=region "
        f'aria-label="Runs of {_text(key["key"])}"><table><thead><tr><th scope=col>Started<th scope=col>Took'
        f"<th scope=col>Host<th scope=col>Program<th scope=col>Ended</thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></details>"
    )


def _time_line(keys: list[Key], now: float, reach: float) -> list[str]:
    """Return the time line: a row of runs for each key, below the number of concurrent runs."""
    began = now - reach
    rows, spans = [], []
    for key in sorted(keys, key=lambda key: str(key["key"])):
        marks, later, interval = [], now, _usual_interval(key["runs"])
        for run in key["runs"]:
            end, remark = _end(run, later, now), ""
            if end > later + 0.001 and later < now:
                remark = ", overlaps the next run"
            elif interval is not None and end - run["started_at"] > interval:
                remark = f", longer than the usual {durations.show(interval)} between two ticks: one came meanwhile"
            if end >= began:
                spans.append((run["started_at"], end))
                marks.append(_span(run, end, now, began, reach, remark))
            later = run["started_at"]
        if marks:
            name = _text(key["key"])
            rows.append(
                f'<div><span title="{name}">{name}</span><svg viewBox="0 0 {_WIDE:.0f} 14" preserveAspectRatio=none '
                f'role=img aria-label="{len(marks)} runs of {name}">{"".join(reversed(marks))}</svg></div>'
            )
    if not rows:
        return [f"<h2>The last {durations.show(reach)}</h2>", "<p class=soft>No key ran.</p>"]
    hours = "".join(f"<span>{_moment(began + reach * part / 4)}</span>" for part in range(5))
    return [
        f"<h2>The last {durations.show(reach)}</h2>",
        "<p class=soft>Point at a run for its host. A frame marks a takeover, or an overlap with another run or the "
        "next tick of the key.</p>",
        '<div class="lines card" tabindex=0 role=region aria-label="Time line">',
        f"<div class=axis><span>{len(rows)} keys ran</span><p>{hours}</p></div>",
        _load(spans, began, reach),
        *rows,
        "</div>",
    ]


def _usual_interval(runs: list[dict[str, Any]]) -> float | None:
    """Return the median time between the starts of two ticks; None if too few are on record."""
    starts = [float(run["started_at"]) for run in runs if not run["takeover"]]
    gaps = sorted(later - earlier for later, earlier in zip(starts, starts[1:]))
    return gaps[len(gaps) // 2] if len(gaps) >= _GAPS else None


def _span(run: dict[str, Any], end: float, now: float, began: float, reach: float, remark: str) -> str:
    x = max(0.0, (run["started_at"] - began) / reach * _WIDE)
    width = max(2.5, (end - max(run["started_at"], began)) / reach * _WIDE)
    words = _words(run, now) + remark
    frame = f"<rect class=mark x={x:.1f} y=1 width={width:.1f} height=12 />" if run["takeover"] or remark else ""
    kind = _kind(run)
    # Not by color alone: a bad run fills the height of its row.
    y, height = (0, 14) if kind == "bad" else (3, 8)
    return (
        f"<g><title>{words}</title><rect class={kind} x={x:.1f} y={y} width={width:.1f} height={height} />{frame}</g>"
    )


def _load(spans: list[tuple[float, float]], began: float, reach: float) -> str:
    """Return the number of concurrent runs over time."""
    step = reach / _PARTS
    counts = [0] * _PARTS
    for start, end in spans:
        for part in range(max(0, int((start - began) / step)), min(_PARTS - 1, int((end - began) / step)) + 1):
            counts[part] += 1
    most = max(counts, default=0) or 1
    bars = "".join(
        f"<rect class=now x={part * 10} y={30 - 30 * count / most:.1f} width=9 height={30 * count / most:.1f}>"
        f"<title>{_moment(began + part * step)}: {count} at once</title></rect>"
        for part, count in enumerate(counts)
        if count
    )
    return (
        f'<div><span>up to {most} at once</span><svg class=load viewBox="0 0 {_WIDE:.0f} 30" '
        f'preserveAspectRatio=none role=img aria-label="Runs at once, up to {most}">{bars}</svg></div>'
    )


def _doctor(findings: list[tuple[str, str, str, str]]) -> list[str]:
    """Return the doctor's findings, most severe first."""
    if not findings:
        return []
    words = {"BAD": "wrong", "WARNING": "warning", "NOTE": "note", "OK": "ok"}
    ranked = sorted(findings, key=lambda finding: [*words].index(finding[0]))
    shown = [
        f"<dt><span class={level}>{words[level]}</span> {_text(name)}</dt><dd>{_text(text)}"
        + (f"<br><span class=soft>do: {_text(remedy)}</span>" if remedy else "")
        + "</dd>"
        for level, name, text, remedy in ranked
    ]
    return ["<h2>Findings of the doctor</h2>", f"<dl class=card>{''.join(shown)}</dl>"]


def _legend() -> str:
    marks = [
        f'<span><svg viewBox="0 0 12 12" aria-hidden=true><rect class={kind} width=12 height=12 rx=2 /></svg>{meaning}'
        "</span>"
        for kind, meaning in _LEGEND
    ]
    return f"<p class=key>{''.join(marks)}<span>height: duration, newest on the right</span></p>"


def _kind(run: dict[str, Any]) -> str:
    if run["outcome"] is None:
        return "now"
    if run["outcome"] == EXITED and run["status"] == 0:
        return "ok"
    return "odd" if run["outcome"] in (RELEASED, STOPPED) else "bad"


def _end(run: dict[str, Any], later: float, now: float) -> float:
    """Return when a run ended; a run without an end may have lasted until the next one began."""
    if run["ended_at"] is not None:
        return float(run["ended_at"])
    return now if run["outcome"] is None else min(later, float(run["started_at"]) + float(run["ttl"]))


def _took(run: dict[str, Any], now: float) -> float:
    return float(now - run["started_at"] if run["outcome"] is None else run["duration"] or 0.0)


def _length(run: dict[str, Any]) -> str:
    return "-" if run["duration"] is None else durations.show(run["duration"])


def _how(run: dict[str, Any]) -> str:
    words = "running" if run["outcome"] is None else _text(ending(run["outcome"], run["status"]))
    if run["attempt"] is not None:
        number, count = run["attempt"]
        return f"{words} (attempt {number} of {count})"
    return words + (" (takeover)" if run["takeover"] else "")


def _words(run: dict[str, Any], now: float, *, named: bool = True) -> str:
    """Return all about a run in one line, with its host if `named`."""
    took = f", took {_length(run)}" if run["duration"] is not None else ""
    host = f"{_text(run['host'])}, " if named else ""
    return f"{host}{_ago(run['started_at'], now)}: {_how(run)}{took}"


def _ago(at: float, now: float) -> str:
    return f"{durations.brief(now - at)} ago"


def _moment(at: float, *, date: bool = False) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z" if date else "%H:%M", time.localtime(at)).strip()


def _text(words: object) -> str:
    """Return untrusted `text` as HTML, for attributes too, without characters that turn or hide other text."""
    return html.escape(printable(str(words)), quote=True)
