"""A fast parser of well-formed ``run`` lines, since importing click costs three interpreter starts.

It agrees with click, and leaves anything else (help, unknown options, missing values) to click.
"""

from __future__ import annotations

from ..errors import UsageError
from .options import FLAG, OPTIONS

_BY_FLAG = {flag: option for option in OPTIONS for flag in (option.long, option.short) if flag is not None}


def read_run(arguments: list[str]) -> tuple[dict[str, str | bool], list[str]] | None:
    """Return (options by Python name, command) of the words after ``run``; None: let click parse them.

    Raises UsageError for a value that was apparently forgotten, and for a second key. If another option is given
    twice, the last one counts, so that a line may override an alias.
    """
    given: dict[str, str | bool] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if word == "--":
            return given, arguments[position:]
        if not word.startswith("-") or word == "-":
            # The first word that is not an option begins the command and its options.
            return given, arguments[position - 1 :]
        flag, equals, value = word.partition("=")
        option = _BY_FLAG.get(flag)
        if option is None or (equals and not flag.startswith("--")):
            return None
        if option.kind == FLAG:
            if equals:
                return None
            given[option.name] = True
            continue
        if not equals:
            if position == len(arguments):
                return None
            value = arguments[position]
            position += 1
            if value == "--" or value.partition("=")[0] in _BY_FLAG:
                # An empty variable in `--key $JOB --`: otherwise all such lines would share the key `--`.
                raise UsageError(
                    f"{flag}: no value, {value!r} follows; if that is the value, write {option.long}={value}"
                )
        if option.name == "key" and "key" in given:
            raise second_key(str(given["key"]), value)
        given[option.name] = value
    return given, []


def second_key(first: str, second: str) -> UsageError:
    """Return the error for two keys, of which only one would guard the line."""
    return UsageError(f"--key: given twice, {first!r} and {second!r}; a run has one key")
