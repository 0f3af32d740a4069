"""Input of people: durations, keys, URLs, settings, command lines, crontabs."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import click

from cronlock import cli, durations, keys
from cronlock.config import arguments, settings
from cronlock.config import file as config_file
from cronlock.config.options import FLAG, OPTIONS
from cronlock.crontab import checking, dialects, lines, user_field, wrapping
from cronlock.engines.registry import location, open_backend
from cronlock.engines.url import URL
from cronlock.errors import ConfigError, UsageError

from .data import Data
from .engine import SECRET, expecting, said

_SCHEMES = (
    *("file", "redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster"),
    *("memcached", "memcacheds", "zookeeper", "zookeepers", "etcd", "etcds", "dynamodb", "s3", "sqs"),
    *("postgresql", "mysql", "http", ""),
)
_PARAMETERS = (
    *("prefix", "db", "min_replicas", "tls", "sentinel_user", "sentinel_password", "ca", "cert", "region", "endpoint"),
    *("table", "sslmode", "no"),
)
_URL_TOKENS = ("://", ":", "@", ",", "/", "?", "&", "=", "%", "%41", "%2F", "[::1]", "..", "%00", "%C3%A4", "é")
_VALUES = ("1", "5m", "1h30m", "0", "stop", "continue", "skip", "json", "syslog", "256", "/tmp", "redis://h", "yes", "")
_VARIABLES = tuple(option.variable for option in OPTIONS if option.settable and option.name != "config")
_FLAGS = tuple(flag for option in OPTIONS for flag in (option.long, option.short) if flag is not None)
_CRON_WORDS = (
    *("*/5", "*", "0-59/7", "@daily", "@reboot", "root", "mon", "60", "1,2", "cronlock run --key x --", "PATH="),
)


def a_duration(data: Data) -> None:
    """A duration parses, or is refused with a reason."""
    if data.chance(3):
        text = data.text(12)
    else:
        text = "".join(data.several(4, lambda: data.digits()[:9] + data.pick(("s", "m", "h", "d", "", " ", "S"))))
    try:
        seconds = durations.parse(text)
    except ValueError as error:
        said(error)
    else:
        assert 0 <= seconds <= durations.LONGEST
        assert durations.parse(repr(round(seconds, 3))) == round(seconds, 3)
        assert durations.show(seconds)


def a_key(data: Data) -> None:
    """A key that is allowed becomes a name, and the name the key again; no other key has it."""
    text = data.text(30) * data.pick((1, 1, 1, 9))
    with expecting(UsageError):
        key = keys.check(text)
        name = keys.escape(key)
        assert keys.unescape(name) == key
        assert not name.startswith(".")
        assert "/" not in name
        short = keys.bounded(key, 80)
        assert len(short) <= 80
        other = data.maimed_text(key)
        with expecting(UsageError):
            assert other == key or keys.bounded(keys.check(other), 80) != short


def a_name(data: Data) -> None:
    """A name from elsewhere is a key's, or a ValueError."""
    name = data.maimed_text(keys.escape("näme with %/."), ("%", "%4", "%C3", "%ZZ", "%+1", "%2e"))
    try:
        text = keys.unescape(name)
    except ValueError:
        return
    assert isinstance(text, str)


def a_url(data: Data) -> None:
    """A backend's URL gives a backend, or an error that hides the password."""
    text = _url(data)
    with expecting(ConfigError):
        url = URL(text)
        assert SECRET not in str(url) or SECRET in "".join(host for host, _ in url.hosts) + url.path
        assert location(text)
        backend = open_backend(text, 5.0)
        assert backend.traits.shortest_ttl > 0
        backend.close()


def _url(data: Data) -> str:
    scheme = data.pick(_SCHEMES)
    credentials = data.pick(("", "", f"user:{SECRET}@", f":{SECRET}@", "user@", f"u%40:{SECRET}%2F@"))
    hosts = ",".join(
        data.several(3, lambda: data.pick(("h", "[::1]", "10.0.0.1", "")) + data.pick(("", ":1", ":0", ":x")))
    )
    path = data.pick(("", "/", "/0", "/var/lib/cronlock", "/service/2", "/a//b", "/../x"))
    query = "&".join(data.several(3, lambda: f"{data.pick(_PARAMETERS)}={data.pick(_VALUES)}"))
    text = f"{scheme}://{credentials}{hosts}{path}" + (f"?{query}" if query else "")
    # Characters inserted into the password would show up differently.
    return text if credentials else data.maimed_text(text, _URL_TOKENS)


def some_settings(data: Data) -> None:
    """A configuration file, an environment and a command line give settings, or an error that says where."""
    lines_ = data.several(4, lambda: f"{data.pick(_VARIABLES)}={data.pick(_VALUES)}")
    text = data.maimed_text(
        "\n".join(lines_), ("'", '"', "\\", "#", "=", "\n", "export ", "\0", "\r\n", "CRONLOCK_TTLL=1")
    )
    content = text.encode("utf-8", "surrogatepass")
    environ = dict(data.several(2, lambda: (data.pick((*_VARIABLES, "CRONLOCK_BAKEND", "HOME")), data.pick(_VALUES))))
    given: dict[str, str | bool] = {"key": data.pick(("k", "", "\x01", "x" * 300))}
    for option in data.several(3, lambda: data.pick(OPTIONS)):
        if option.name not in ("config", "key"):
            given[option.name] = option.kind == FLAG or data.pick((*_VALUES, data.text(6)))
    with _file(data.maimed(content)) as path, expecting(UsageError, ConfigError):
        given["config"] = path
        result = settings.load(given, data.pick((["true"], [])), environ)
        assert result.ttl > 0
        assert result.min_hold >= 0
        assert 0 <= result.skip_status <= 255
        for option in OPTIONS:
            assert not option.choices or getattr(result, option.name) in option.choices


def a_configuration(data: Data) -> None:
    """Any bytes are a configuration file, or refused with file and line."""
    known = frozenset(_VARIABLES)
    content = b"\n".join(data.several(6, lambda: data.pick(_VARIABLES).encode() + b"=" + data.blob(8)))
    content = data.maimed(content, (b'"', b"'", b"\\", b"\n", b"=", b"#", b"\xff"))
    with _file(content) as path, expecting(ConfigError):
        assert set(config_file.read(path, known, required=True)) <= known


def a_command_line(data: Data) -> None:
    """The fast parser of `run` lines agrees with click."""
    words = data.several(8, lambda: _word(data))
    try:
        quick = arguments.read_run(words)
    except UsageError:
        return  # An option's value seems to have been forgotten: click would take the next option for it.
    if quick is None:
        return
    given, command = quick
    read: list[Any] = []

    def run(options: dict[str, str | bool], rest: list[str]) -> int:
        read.append((options, rest))
        return 0

    with patch.object(cli, "run_command", run):
        try:
            cli.cronlock.main(["run", *words], prog_name="cronlock", standalone_mode=False)
        except click.UsageError as error:
            raise AssertionError(f"click does not read {words!r}: {error}") from error
    assert read == [(given, command)], words


def _word(data: Data) -> str:
    kind = data.below(8)
    if kind < 3:
        return data.pick(_FLAGS)
    if kind == 3:
        return f"{data.pick(_FLAGS)}={data.pick(_VALUES)}"
    if kind == 4:
        return data.pick(("--", "-", "-k5", "-vq", "--ke", "--help", "-h", "--key==", "---", "=", "--no", "-=x"))
    return data.pick((*_VALUES, "true", "echo")) if kind < 7 else data.text(5)


def a_crontab(data: Data) -> None:
    """A crontab is wrapped so that wrapping it again changes nothing; or it is refused, with the line."""
    rows = data.several(4, lambda: " ".join([*(data.pick(_CRON_WORDS) for _ in range(5)), _command(data)]))
    text = data.maimed_text(
        "\n".join(rows), ("# key: a\n", "# cronlock: off\n", "\n", "%", "\\%", "'", '"', "SHELL=x\n")
    )
    # As a file is read.
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    options = wrapping.Options(prefix="p", period=3600.0, replaces=data.chance(2))
    system = data.chance(2)
    with expecting(ConfigError):
        dialect = data.pick(tuple(dialects.DIALECTS.values()))
        user_field.read(text, "tab", dialect)
        crontab = lines.parse(text, "tab", system=system, dialect=dialect)
        for remark in checking.check(crontab, options):
            assert "\n" not in remark.text
        wrapped = wrapping.wrap(crontab, options)
        again = wrapping.wrap(lines.parse(wrapped.text, "tab", system=system, dialect=dialect), options)
        assert again.text == wrapped.text
        assert not again.jobs


_CARRYING = (
    *(
        "flock -n f",
        "flock f -c",
        "sh -c",
        "env A=b",
        "su - x -c",
        "sudo -u",
        "docker exec",
        "kubectl exec p --",
        "ssh h",
    ),
    *(
        "timeout",
        "nice -n",
        "consul lock p",
        "etcdctl lock",
        "cronlock",
        "python3 -c",
        "cd /srv/releases/1",
        "tar /etc",
    ),
    *("--host=web-1", "--password", "https://u:p@h/x?y", "/tmp/x.1a2b3c4d", "sleep $RANDOM", "[ $HOSTNAME ] &&", "||"),
)


def _command(data: Data) -> str:
    words = data.several(
        3, lambda: data.pick(("true", "x; y", "a | b", "$(c)", "`d`", "{ e; }", "<f", "&", "#", "a=b", *_CARRYING))
    )
    return " ".join([*words, shlex.quote("an argument")]) if data.chance(2) else " ".join(words) + data.text(4)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """Give the path of a file with `content`, for as long as the block takes."""
    with tempfile.NamedTemporaryFile(prefix="cronlock-fuzz-") as file:
        file.write(content)
        file.flush()
        yield file.name


TARGETS = (a_duration, a_key, a_name, a_url, some_settings, a_configuration, a_command_line, a_crontab)
