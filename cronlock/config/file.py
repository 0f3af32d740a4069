"""The configuration file: lines of NAME=value, as systemd's EnvironmentFile= reads them."""

from __future__ import annotations

from .. import errors
from ..errors import ConfigError

DEFAULT_PATH = "/etc/cronlock.conf"
#: The size limit, so that a wrong path is not read whole.
_LARGEST = 1 << 16
#: The similarity of a mistyped name; high, since all names share their beginning.
LIKENESS = 0.85


def read(path: str, known: frozenset[str], *, required: bool) -> dict[str, tuple[str, str]]:
    """Return {name: (value, FILE:LINE)} of the file at `path`, which may be missing unless `required`.

    Raises ConfigError, with file and line, for a file that cannot be read, an unknown name or a bad line.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        if not required:
            return {}
        raise ConfigError(f"{path}: no such file; name another with --config or CRONLOCK_CONFIG") from None
    except OSError as error:
        # Without it, every machine could run the job.
        remedy = "name a file" if isinstance(error, IsADirectoryError) else "let this user read it, or use sudo"
        raise ConfigError(f"{path}: cannot read: {error.strerror}; {remedy}") from error
    if len(data) > _LARGEST:
        raise ConfigError(f"{path}: larger than {_LARGEST >> 10} KiB; name a configuration file")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    values: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise ConfigError(f"{where}: not NAME=value")
        if name not in known:
            raise ConfigError(f"{where}: unknown name {name!r}; {advice(name, known)}")
        values[name] = (_unquote(value.strip(), where), where)
    return values


def advice(name: str, known: frozenset[str]) -> str:
    """Return the remedy for the unknown `name`."""
    if name.startswith("export "):
        return "remove 'export'"
    # Also compare an option as written on the command line, with the common beginning of names added.
    option = "CRONLOCK_" + name.lstrip("-").upper().replace("-", "_")
    likely = errors.nearest(name, known, LIKENESS) or errors.nearest(option, known, LIKENESS)
    return f"did you mean {likely}?" if likely is not None else f"known: {', '.join(sorted(known))}"


def _unquote(value: str, where: str) -> str:
    if value[:1] not in ("'", '"'):
        return value
    quote = value[0]
    inner = value[1:-1]
    escaped = quote == '"' and (len(inner) - len(inner.rstrip("\\"))) % 2 == 1
    if len(value) < 2 or value[-1] != quote or escaped:
        raise ConfigError(f"{where}: unterminated quote")
    if quote == '"':
        # Split at pairs first: an escaped backslash escapes nothing.
        inner = "\\".join(_unescape(part) for part in inner.split("\\\\"))
    return inner


def _unescape(text: str) -> str:
    for character in ('"', "$", "`"):
        text = text.replace("\\" + character, character)
    return text
