"""Settings of a run: command line over environment over configuration file."""

from __future__ import annotations

from .. import durations, errors, keys
from ..errors import ConfigError, CronlockError, UsageError
from ..system import os
from ..value import Value, digits
from . import file as config_file
from .options import CHOICE, COMMAND_VARIABLES, DURATION, FLAG, INTEGER, OPTIONS, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_DEFAULT_MIN_HOLD = 45.0
# A record keeps 20 runs.
_MOST_ATTEMPTS = 19
_YES = ("1", "yes", "true", "on")
_NO = ("0", "no", "false", "off", "")
# Variables that are not settings: of --config, and those inherited from an outer run.
_NOT_SETTINGS = frozenset(("CRONLOCK_CONFIG", *(name for name, _ in COMMAND_VARIABLES)))
# The precedence of sources.
_COMMAND_LINE, _ENVIRONMENT, _FILE = 3, 2, 1


class Settings(Value):
    """The settings of a run, immutable. Durations are in seconds."""

    key: str
    command: list[str]
    ttl: float
    min_hold: float
    ignore_hold: bool
    ignore_pause: bool
    wait: float
    standby: float
    standby_on: str
    #: None: no limit.
    attempts: int | None
    success_status: tuple[int, ...]
    jitter: float
    #: None: no limit.
    timeout: float | None
    kill_after: float
    #: None: only renewals look for a stop request.
    poll: float | None
    on_lost: str
    on_error: str
    skip_status: int
    #: None: not configured; the run uses the file backend in the state directory.
    backend: str | None
    backend_timeout: float
    #: None: no default, as without HOME.
    state_dir: str | None
    verbose: bool
    quiet: bool
    log: str
    log_format: str
    #: Where each option was set, by its name; defaults are missing.
    sources: dict[str, str]

    @property
    def backend_url(self) -> str:
        """The backend's URL, configured or default. Raises ConfigError without a state directory for the default."""
        if self.backend is not None:
            return self.backend
        if self.state_dir is None:
            raise ConfigError("no backend is configured, and HOME is not set; give --backend or --state-dir")
        return "file://" + self.state_dir.replace("%", "%25").replace("?", "%3F").replace(" ", "%20")

    def error_for(self, name: str, reason: str) -> CronlockError:
        """Return the error about option `name`: UsageError or ConfigError, depending on its source."""
        return _error_for(self.sources.get(name, "--" + name.replace("_", "-")), reason)


def load(given: Mapping[str, str | bool], command: list[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings of a run from the options `given`, by Python name, and `environ`.

    Raises UsageError for errors on the command line, ConfigError for errors in the
    environment or the configuration file.
    """
    if "key" not in given:
        raise UsageError("--key: missing; name the job: cronlock run --key billing -- COMMAND")
    key = keys.check(str(given["key"]))
    if not command:
        raise UsageError("no command; put it after --")
    return _load(given, environ, key, command)


def load_readonly(given: Mapping[str, str | bool], environ: Mapping[str, str]) -> Settings:
    """Return the settings as `load` does, for a command without a run."""
    return _load(given, environ, "", [])


def _load(given: Mapping[str, str | bool], environ: Mapping[str, str], key: str, command: list[str]) -> Settings:
    draft = _Draft(given, environ)
    draft.apply_every()
    draft.apply_standby()
    draft.apply_quiet()
    draft.check()
    values = draft.values
    if values["min_hold"] is None:
        values["min_hold"] = default_min_hold(values["ttl"], wait=values["wait"], jitter=values["jitter"])
    values["state_dir"] = values["state_dir"] or _default_state_dir(environ)
    values["timeout"] = values["timeout"] or None  # As in timeout(1), 0 means no limit.
    values["poll"] = values["poll"] or None
    del values["config"], values["every"]
    values.update(key=key, command=command)
    return Settings(**values, sources={name: source.where for name, source in draft.sources.items()})


class _Source(Value):
    precedence: int
    value: str | bool
    where: str


class _Draft:
    """Settings before their checks."""

    __slots__ = ("sources", "values")

    def __init__(self, given: Mapping[str, str | bool], environ: Mapping[str, str]) -> None:
        self.sources = _sources(given, environ)
        self.values: dict[str, Any] = {
            option.name: _parse(option, self.sources[option.name]) if option.name in self.sources else option.default
            for option in OPTIONS
        }

    def apply_every(self) -> None:
        """Let --every set min_hold, unless --min-hold has a higher precedence."""
        if "every" not in self.sources:
            return
        above = self._precedence_over("every", "min_hold")
        if above == 0:
            raise self._error_for("every", "mutually exclusive with --min-hold; give one of them")
        if self.values["every"] <= 0:
            raise self._error_for("every", "must be more than 0 seconds")
        if above > 0:
            self.values["min_hold"] = self.values["every"] / 2

    def apply_standby(self) -> None:
        """Keep the one of --standby and --wait with the higher precedence: they contradict each other."""
        if self.values["standby"] and self.values["wait"]:
            above = self._precedence_over("standby", "wait")
            if above == 0:
                raise self._error_for("standby", "mutually exclusive with --wait; give one of them")
            self.values["wait" if above > 0 else "standby"] = 0.0

    def apply_quiet(self) -> None:
        """Keep the one of --quiet and --verbose with the higher precedence, or both."""
        if self.values["quiet"] and self.values["verbose"]:
            above = self._precedence_over("quiet", "verbose")
            self.values.update(quiet=above >= 0, verbose=above <= 0)

    def check(self) -> None:
        """Raise ConfigError or UsageError for an impossible value."""
        if not self.values["ttl"]:
            raise self._error_for("ttl", "must be more than 0 seconds; 300 suits most jobs")
        if not self.values["backend_timeout"]:
            raise self._error_for("backend_timeout", "must be more than 0 seconds")
        self._check_attempts()
        state_dir = self.values["state_dir"]
        if state_dir is not None and not state_dir.startswith("/"):
            raise self._error_for("state_dir", f"{state_dir!r} is not an absolute path")

    def _check_attempts(self) -> None:
        """Parse the list of statuses and set the number of attempts."""
        values = self.values
        statuses = [digits(word, 3) for word in values["success_status"].split(",")]
        if any(status is None or status > 255 for status in statuses):
            text = f"{values['success_status']!r} is not a list of statuses; write for example 0,3"
            raise self._error_for("success_status", text)
        values["success_status"] = tuple(statuses)
        if values["attempts"] is None:
            values["attempts"] = None if values["standby_on"] == "died" else 2
        elif not 1 <= values["attempts"] <= _MOST_ATTEMPTS:
            raise self._error_for("attempts", f"{values['attempts']} is out of range (1 to {_MOST_ATTEMPTS})")
        for name in ("standby_on", "attempts", "success_status"):
            source = self.sources.get(name)
            if source is not None and source.precedence == _COMMAND_LINE and not values["standby"]:
                raise self._error_for(name, "needs --standby DURATION")

    def _precedence_over(self, name: str, other: str) -> int:
        """Return the precedence of the source of `name` minus that of `other`, if set."""
        return self.sources[name].precedence - (self.sources[other].precedence if other in self.sources else 0)

    def _error_for(self, name: str, reason: str) -> CronlockError:
        return _error_for(self.sources[name].where, reason)


def _sources(given: Mapping[str, str | bool], environ: Mapping[str, str]) -> dict[str, _Source]:
    """Return the source with the highest precedence of each option that is set, by name."""
    settable = {option.variable: option for option in OPTIONS if option.settable and option.name != "config"}
    path = given.get("config") or environ.get("CRONLOCK_CONFIG")
    lines = config_file.read(str(path or config_file.DEFAULT_PATH), frozenset(settable), required=bool(path))
    _refuse_typos(environ, frozenset(settable))
    found: dict[str, _Source] = {}
    for variable, option in settable.items():
        if variable in environ:
            found[option.name] = _Source(_ENVIRONMENT, environ[variable], variable)
        elif variable in lines:
            value, where = lines[variable]
            found[option.name] = _Source(_FILE, value, f"{where}: {variable}")
    for option in OPTIONS:
        if option.name in given:
            found[option.name] = _Source(_COMMAND_LINE, given[option.name], option.long)
    return found


def _refuse_typos(environ: Mapping[str, str], known: frozenset[str]) -> None:
    """Raise ConfigError for a variable whose name is almost one of `known`.

    Other variables with the prefix are allowed, but CRONLOCK_BAKEND would let every machine run the job.
    """
    for name in environ:
        if name.startswith("CRONLOCK_") and name not in known and name not in _NOT_SETTINGS:
            own = next((option for option in OPTIONS if option.variable == name and not option.settable), None)
            if own is not None:
                raise ConfigError(f"{name} in the environment: not a setting; give {own.long} on the command line")
            likely = errors.nearest(name, known, config_file.LIKENESS)
            if likely is not None:
                raise ConfigError(f"{name} in the environment: unknown; did you mean {likely}?")


def _error_for(where: str, reason: str) -> CronlockError:
    return UsageError(f"{where}: {reason}") if where.startswith("--") else ConfigError(f"{where}: {reason}")


def _parse(option: Option, source: _Source) -> str | float | bool:
    value, where = source.value, source.where
    if option.kind == FLAG:
        if isinstance(value, bool):
            return value
        if value.lower() in _YES or value.lower() in _NO:
            return value.lower() in _YES
        raise _error_for(where, f"{value!r} is not yes or no")
    text = str(value)
    if option.kind == DURATION:
        try:
            return durations.parse(text)
        except ValueError as error:
            raise _error_for(where, str(error)) from None
    if option.kind == INTEGER:
        number = digits(text, 3)
        if number is None or number > 255:
            raise _error_for(where, f"{text!r} is not a whole number from 0 to 255")
        return number
    if option.kind == CHOICE and text not in option.choices:
        raise _error_for(where, f"{text!r} is not one of {', '.join(option.choices)}")
    if not text:
        raise _error_for(where, "empty value")
    return text


def default_min_hold(ttl: float, *, wait: float, jitter: float) -> float:
    """Return the hold in seconds of a run without --min-hold and --every."""
    # The run with the longest jitter must still find the key held by the one with the shortest.
    return 0.0 if wait else min(_DEFAULT_MIN_HOLD, ttl) + jitter


def _default_state_dir(environ: Mapping[str, str]) -> str | None:
    if os.geteuid() == 0:
        return "/var/lib/cronlock"
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # The XDG specification says to ignore relative paths.
        home = environ.get("HOME") or os.path.expanduser("~")
        if not home.startswith("/"):
            return None
        base = f"{home}/.local/state"
    return f"{base}/cronlock"
