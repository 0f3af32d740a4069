"""Changes that no test can notice, or need not: by file, line before and line after, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_REASONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "lease/clock.py": {
        'with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:': {
            "buffering=1": "a buffer costs memory and changes nothing",
        },
        'return file.read(64).decode("ascii", "replace").strip()': {"read(128)": "the id has 36 characters"},
    },
    "lease/leases.py": {
        "if state.run is not None and one.fence == state.run.fence:": {
            "not None or one": "requests that may both take effect were decided on one cell, so either is right",
        },
        "requests.attempts.append(_Attempt(granted.run.fence or 0, before, replaced))": {
            "fence or 1": "a grant has a fence",
        },
    },
    "lease/rules.py": {
        "given_back = awaited is not None and awaited <= state.fence and (run is None or (run.fence or 0) < awaited)": {
            "run.fence or 1": "each run in a record has a fence, and the lowest is 1",
        },
        "fence = max(state.fence + 1, seen.floor, watermark.fence + 1 if watermark is not None else 0)": {
            "else 1": "the first argument is 1 at least",
        },
    },
    "lease/server_clock.py": {
        "self._ahead_at_least = self._ahead_at_most = 0.0": {"= 1.0": "read only once an answer has set it"},
    },
    "lease/state.py": {
        'fence, run, success, paused, stop, made_at = -1, None, "", None, None, None': {"= -2": "either is no fence"},
    },
    "lease/timing.py": {
        "return float(min(0.1 * 2 ** min(failures - 1, 10), max(0.1, ttl / 20), 5.0)) * (0.5 + jitter)": {
            "min(failures - 1, 20)": "5 s are less than either; the bound keeps the power small",
        },
    },
    "run/acquisition.py": {
        "self._end = 0.0": {"= 1.0": "read only once a request has set it"},
    },
    "process/guard.py": {
        "if self._control >= 0:": {">= 1": "descriptor 0 is standard input"},
        "if self._control < 0:": {"< 1": "descriptor 0 is standard input"},
        "self._control = -1": {"-2": "either is no descriptor"},
        "os._exit(70)": {"140": "its parent tells 0 from all others"},
        "process.kill_all(None, adopts=True)": {"adopts=False": "it makes a difference for a group only"},
    },
    "process/watchdog.py": {
        "if descriptor >= 0:": {">= 1": "descriptor 0 is standard input"},
        "self._exec = -1": {
            "= 1": "read only once a command was started",
            "-2": "read only once a command was started",
        },
        "stopping = self._plan.stop is not None and self._wait_status is not None": {
            "None or self": "while the command lives a child is left, and its end without a stop is reported above",
        },
    },
    "process/protocol.py": {
        "stopped_at: float = 0.0": {"= 1.0": "read only once `begin_stop` has set it"},
        "data = os.read(self.descriptor, 4096)": {"8192": "the same messages arrive, in fewer pieces"},
    },
}


def reason(file: str, before: str, after: str) -> str | None:
    """Return why no test notices that line `before` of `file` becomes `after`, None if one should."""
    for part, why in _REASONS.get(file, {}).get(before, {}).items():
        if part in after and part not in before:
            return why
    return None


def entries(file: str) -> Iterator[tuple[str, str]]:
    """Yield (line before, part of the line after) of each entry for `file`."""
    for before, parts in _REASONS.get(file, {}).items():
        for part in parts:
            yield before, part
