"""Settings of a run: command line over environment over configuration file."""

from __future__ import annotations

import os

from .. import durations, keys
from ..errors import ConfigError, CronlockError, UsageError
from . import file as config_file
from .options import CHOICE, COMMAND_VARIABLES, DURATION, FLAG, INTEGER, OPTIONS, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Value = str | float | int | bool | None

_DEFAULT_MIN_HOLD = 45.0
_YES = ("1", "yes", "true", "on")
_NO = ("0", "no", "false", "off", "")
# Variables that are there for other ends: see the option --config, and what a surrounding run hands down.
_NOT_SETTINGS = frozenset(("CRONLOCK_CONFIG", *(name for name, _ in COMMAND_VARIABLES)))
# By how much a source stands over another.
_COMMAND_LINE, _ENVIRONMENT, _FILE = 3, 2, 1


class Settings:
    """What a run keeps to; does not change once made. Durations are seconds."""

    __slots__ = (
        "backend",
        "backend_timeout",
        "command",
        "ignore_hold",
        "jitter",
        "key",
        "kill_after",
        "log",
        "log_format",
        "min_hold",
        "on_error",
        "on_lost",
        "quiet",
        "skip_status",
        "standby",
        "state_dir",
        "timeout",
        "ttl",
        "verbose",
        "wait",
        "wheres",
    )

    key: str
    command: list[str]
    ttl: float
    min_hold: float
    ignore_hold: bool
    wait: float
    standby: float
    jitter: float
    #: None: no limit.
    timeout: float | None
    kill_after: float
    on_lost: str
    on_error: str
    skip_status: int
    #: None: none was configured; the file backend in the state directory is used.
    backend: str | None
    backend_timeout: float
    #: None: there is no place for it, as without HOME.
    state_dir: str | None
    verbose: bool
    quiet: bool
    log: str
    log_format: str
    #: Where each option was set, by its name; none for defaults.
    wheres: dict[str, str]

    def __init__(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings do not change: {name}")

    @property
    def backend_url(self) -> str:
        """The backend's URL, configured or not. Raises ConfigError where there is no place for the default one."""
        if self.backend is not None:
            return self.backend
        if self.state_dir is None:
            raise ConfigError("no backend is configured, and no HOME to keep files in; see --backend, --state-dir")
        return "file://" + self.state_dir.replace("%", "%25").replace("?", "%3F").replace(" ", "%20")

    def wrong(self, name: str, reason: str) -> CronlockError:
        """Return the error that option `name` cannot be as it is, of the kind that its source asks for."""
        return _wrong(self.wheres.get(name, "--" + name.replace("_", "-")), reason)


def load(given: Mapping[str, str | bool], command: list[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings of a run from the options `given`, by Python name, and `environ`.

    Raises UsageError for what is wrong on the command line, ConfigError for what is wrong in the
    environment or the configuration file.
    """
    if "key" not in given:
        raise UsageError("--key is missing; name the job, as in: cronlock run --key billing -- COMMAND")
    key = keys.check(str(given["key"]))
    if not command:
        raise UsageError("there is nothing to run; put the command after --")
    return _load(given, environ, key, command)


def load_for_looking(given: Mapping[str, str | bool], environ: Mapping[str, str]) -> Settings:
    """Return the settings as `load` does, for a command that runs nothing and has no key of its own."""
    return _load(given, environ, "", [])


def _load(given: Mapping[str, str | bool], environ: Mapping[str, str], key: str, command: list[str]) -> Settings:
    sources = _sources(given, environ)
    values: dict[str, Value | list[str]] = {
        option.name: _parse(option, *sources[option.name][1:]) if option.name in sources else None for option in OPTIONS
    }
    _apply_every(values, sources)
    _apply_standby(values, sources)
    _apply_quiet(values, sources)
    _apply_defaults(values, environ)
    _check(values, sources)
    del values["config"], values["every"]
    wheres = {name: where for name, (_, _, where) in sources.items()}
    return Settings({**values, "key": key, "command": command, "wheres": wheres})


def _sources(given: Mapping[str, str | bool], environ: Mapping[str, str]) -> dict[str, tuple[int, str | bool, str]]:
    """Return {name: (rank, value, where it stands)}, the highest rank of each."""
    settable = {option.variable: option for option in OPTIONS if option.settable and option.name != "config"}
    path = given.get("config") or environ.get("CRONLOCK_CONFIG")
    lines = config_file.read(str(path or config_file.DEFAULT_PATH), frozenset(settable), required=bool(path))
    found: dict[str, tuple[int, str | bool, str]] = {}
    for variable, (value, where) in lines.items():
        found[settable[variable].name] = (_FILE, value, f"{where}: {variable}")
    _refuse_slips(environ, frozenset(settable))
    for variable, option in settable.items():
        if variable in environ:
            found[option.name] = (_ENVIRONMENT, environ[variable], variable)
    for option in OPTIONS:
        if option.name in given:
            found[option.name] = (_COMMAND_LINE, given[option.name], option.long)
    return found


def _refuse_slips(environ: Mapping[str, str], known: frozenset[str]) -> None:
    """Raise ConfigError for a variable that is almost one of `known`.

    Others of the prefix may be anybody's; but CRONLOCK_BAKEND would let every machine run the job.
    """
    for name in environ:
        if name.startswith("CRONLOCK_") and name not in known and name not in _NOT_SETTINGS:
            likely = config_file.likeliest(name, known)
            if likely is not None:
                raise ConfigError(f"{name} in the environment: unknown; did you mean {likely}?")


def _wrong(where: str, reason: str) -> CronlockError:
    return UsageError(f"{where}: {reason}") if where.startswith("--") else ConfigError(f"{where}: {reason}")


def _parse(option: Option, value: str | bool, where: str) -> Value:
    if option.kind == FLAG:
        if isinstance(value, bool):
            return value
        if value.lower() in _YES or value.lower() in _NO:
            return value.lower() in _YES
        raise _wrong(where, f"{value!r} is neither yes nor no")
    text = str(value)
    if option.kind == DURATION:
        try:
            return durations.parse(text)
        except ValueError as error:
            raise _wrong(where, str(error)) from None
    if option.kind == INTEGER:
        if not (text.isascii() and text.isdigit() and int(text[:4]) <= 255 and len(text) <= 3):
            raise _wrong(where, f"{text!r} is not a whole number from 0 to 255")
        return int(text)
    if option.kind == CHOICE and text not in option.choices:
        raise _wrong(where, f"{text!r} is none of {', '.join(option.choices)}")
    if not text:
        raise _wrong(where, "is empty")
    return text


def _apply_every(values: dict[str, Value | list[str]], sources: dict[str, tuple[int, str | bool, str]]) -> None:
    """Let --every set min_hold, unless --min-hold stands higher."""
    if "every" not in sources:
        return
    rank, _, where = sources["every"]
    other = sources.get("min_hold", (0, "", ""))
    if rank == other[0]:
        raise _wrong(where, "cannot go together with --min-hold; give one of them")
    period = values["every"]
    assert isinstance(period, float)
    if period <= 0:
        raise _wrong(where, "a period is more than 0")
    if rank > other[0]:
        values["min_hold"] = period / 2


def _apply_standby(values: dict[str, Value | list[str]], sources: dict[str, tuple[int, str | bool, str]]) -> None:
    """Let the one of --standby and --wait count that stands higher: after the end, one runs and the other does not."""
    if not (values["standby"] and values["wait"]):
        return
    rank, _, where = sources["standby"]
    other = sources["wait"][0]
    if rank == other:
        raise _wrong(where, "cannot go together with --wait; give one of them")
    values["wait" if rank > other else "standby"] = 0.0


def _apply_quiet(values: dict[str, Value | list[str]], sources: dict[str, tuple[int, str | bool, str]]) -> None:
    """Let the one of --quiet and --verbose count that stands higher."""
    if values["quiet"] and values["verbose"]:
        lower = min(("quiet", "verbose"), key=lambda name: sources[name][0])
        if sources["quiet"][0] != sources["verbose"][0]:
            values[lower] = False


def _apply_defaults(values: dict[str, Value | list[str]], environ: Mapping[str, str]) -> None:
    plain: tuple[tuple[str, Value], ...] = (
        ("ttl", 300.0),
        ("wait", 0.0),
        ("standby", 0.0),
        ("jitter", 0.0),
        ("kill_after", 10.0),
        ("on_lost", "stop"),
        ("on_error", "fail"),
        ("skip_status", 0),
        ("backend_timeout", 5.0),
        ("ignore_hold", False),
        ("verbose", False),
        ("quiet", False),
        ("log", "stderr"),
        ("log_format", "text"),
    )
    for name, value in plain:
        if values[name] is None:
            values[name] = value
    if values["min_hold"] is None:
        ttl = values["ttl"]
        assert isinstance(ttl, float)
        jitter = values["jitter"]
        assert isinstance(jitter, float)
        # Who sleeps the longest must still find the key held by who slept the least.
        values["min_hold"] = 0.0 if values["wait"] else min(_DEFAULT_MIN_HOLD, ttl) + jitter
    if values["state_dir"] is None:
        values["state_dir"] = _default_state_dir(environ)
    if not values["timeout"]:
        values["timeout"] = None  # As timeout(1) has it, 0 is no limit.


def _default_state_dir(environ: Mapping[str, str]) -> str | None:
    if os.geteuid() == 0:
        return "/var/lib/cronlock"
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # The XDG specification has relative paths ignored.
        home = environ.get("HOME") or os.path.expanduser("~")
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".local/state")
    return os.path.join(base, "cronlock")


def _check(values: dict[str, Value | list[str]], sources: dict[str, tuple[int, str | bool, str]]) -> None:
    for name, reason in (
        ("ttl", "a lease lasts more than 0 seconds; 300 suits most jobs"),
        ("backend_timeout", "a request needs more than 0 seconds"),
    ):
        if not values[name]:
            raise _wrong(sources[name][2], reason)
    state_dir = values["state_dir"]
    if isinstance(state_dir, str) and not state_dir.startswith("/"):
        raise _wrong(sources["state_dir"][2], f"{state_dir!r} is not an absolute path")
