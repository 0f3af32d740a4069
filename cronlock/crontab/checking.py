"""``wrap --check``: find what keeps the lines of a crontab from running once."""

from __future__ import annotations

from .. import durations
from ..config.options import DEFAULT_TTL
from ..config.settings import default_min_hold
from . import calls, exclusions, findings, naming, per_host
from .calls import Call
from .lines import Crontab, Job, Remark
from .wrapping import Names, Options, compact, guarded, keys_given, oddities, why_left

# Seconds by which a tick may be early or late without being mistaken for another one.
_SLACK = 5.0
_DURATIONS = ("ttl", "min_hold", "every", "wait", "jitter")


def check(crontab: Crontab, options: Options) -> list[Remark]:
    """Return the problems in the order of the lines."""
    remarks = findings.of_crontab(crontab)
    first_uses: dict[str, int] = {}
    names = naming.derive(crontab, options.prefix, options.programs, keys_given(crontab, options))
    for job in crontab.jobs:
        found = calls.find(job.text, options.programs)
        if found:
            texts = findings.of_job(job) + exclusions.check_wrapped(job, options.programs)
        else:
            texts = _check_unwrapped(crontab, job, options, names)
        name = names.get(job.number)
        if name is not None and name.problem and found and found[0].options.get("key") == name.key:
            texts.append(name.problem)
        for call in found:
            texts += _check_call(call, job)
            texts += _check_key_once(call, job, first_uses)
        remarks += [Remark(job.number, text) for text in texts]
    return sorted(remarks, key=lambda remark: remark.number)


def _check_unwrapped(crontab: Crontab, job: Job, options: Options, names: Names) -> list[str]:
    if job.off:
        return []
    if job.schedule.reboot:
        return oddities(job, options)
    reason = why_left(crontab, job, names, options)
    others = [text for text in oddities(job, options) if text != reason]
    if reason is None:
        others += guarded(crontab, job, names, options)
    return [f"not wrapped: every machine runs it{f' ({reason})' if reason else ''}", *others]


def _check_call(call: Call, job: Job) -> list[str]:
    if call.problem is not None:
        return [call.problem]
    texts = list(call.outside)
    if not call.command:
        texts.append("cronlock run has no command")
    if call.backgrounds:
        texts.append("a command is left running with &, outside the lock; remove the &")
    if job.schedule.reboot:
        texts.append("with @reboot, one of the machines that boot together runs the line")
    if call.key is None:
        texts.append("cronlock run has no --key")
    elif part := per_host.in_key(call.key):
        texts.append(findings.of_machine(part))
    try:
        texts += _check_times(_read_times(call, job), call, job)
    except ValueError as error:
        texts.append(str(error))
    return texts


def _check_key_once(call: Call, job: Job, first_uses: dict[str, int]) -> list[str]:
    key = call.options.get("key")
    if not isinstance(key, str):
        return []
    texts = []
    if job.key is not None and job.key != key:
        texts.append(f"the key is {key!r}, but {job.key!r} in the comment above")
    first = first_uses.setdefault(key, job.number)
    if first != job.number:
        texts.append(f"shares the key {key!r} with line {first}: each keeps the other from running")
    return texts


def _read_times(call: Call, job: Job) -> dict[str, float]:
    """Return the known durations in seconds, by option, including those from the crontab's variables.

    Raises ValueError for what is no duration.
    """
    times: dict[str, float] = {}
    given = call.options
    holds = given.keys() | call.expands
    for name in _DURATIONS:
        if name in call.expands:
            continue
        value = given.get(name)
        if value is None and name in ("min_hold", "every") and holds & {"min_hold", "every"}:
            continue
        where = f"--{name.replace('_', '-')}" if value is not None else f"CRONLOCK_{name.upper()}"
        value = value if value is not None else job.variables.get(where)
        if value is not None:
            try:
                times[name] = durations.parse(str(value))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
    return times


def _check_times(times: dict[str, float], call: Call, job: Job) -> list[str]:
    gap = job.schedule.gap
    texts = _check_ttl(times, gap)
    if "min_hold" in times and "every" in times:
        return [*texts, "--every and --min-hold are mutually exclusive; give one of them"]
    if call.expands & {"min_hold", "every", "wait", "jitter"}:
        return texts
    hold, source = _hold(times)
    if gap is not None and hold + _SLACK > gap:
        texts.append(
            f"{source}: the key stays held for {compact(hold)}, but the line fires again after {compact(gap)}: "
            f"ticks are lost; write --every {compact(gap)}"
        )
    jitter = times.get("jitter", 0.0)
    spreads = {"--jitter": jitter, "RANDOM_DELAY": job.delay, "a random sleep in front of cronlock": call.sleep}
    name, spread = max(spreads.items(), key=lambda each: each[1])
    # With a hold of less than the slack the machines' clocks alone are enough to run a tick twice.
    if not times.get("wait") and hold < spread + _SLACK:
        reason = f"{name} spreads the machines over" if spread else "the machines' clocks may differ by"
        remedy = f"; write --every {compact(gap)}" if gap is not None and gap / 2 > spread + _SLACK else ""
        if name not in ("--jitter", "RANDOM_DELAY"):
            remedy = "; write --jitter instead of the sleep"
        texts.append(
            f"{source}: the key stays held for {compact(hold)} only, and {reason} more: a tick may run twice{remedy}"
        )
    return texts


def _check_ttl(times: dict[str, float], gap: float | None) -> list[str]:
    ttl = times.get("ttl", DEFAULT_TTL)
    if ttl < 1:
        return [f"a ttl of {durations.show(ttl)} is shorter than any backend supports"]
    if gap is not None and ttl > max(gap, DEFAULT_TTL):
        lost = int(ttl // gap)
        return [
            f"a ttl of {compact(ttl)} on a line that fires every {compact(gap)}: if a machine dies in a run, "
            f"{lost} tick{'s are' if lost > 1 else ' is'} lost; write --ttl {compact(max(gap, DEFAULT_TTL))} or less"
        ]
    return []


def _hold(times: dict[str, float]) -> tuple[float, str]:
    """Return how long the key stays held, in seconds, and the option that says so."""
    if "min_hold" in times:
        return times["min_hold"], "--min-hold"
    if "every" in times:
        return times["every"] / 2, f"--every {compact(times['every'])}"
    wait = times.get("wait", 0.0)
    hold = default_min_hold(times.get("ttl", DEFAULT_TTL), wait=wait, jitter=times.get("jitter", 0.0))
    return hold, "--wait" if wait else "no --every"
