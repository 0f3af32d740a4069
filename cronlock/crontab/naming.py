"""Derive keys from commands: readable, and stable across machines and releases."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from . import calls, invocations, stable
from .invocations import Invocation, Reading
from .lines import Crontab, Job
from .shell import Word, word_set

_LONGEST = 40
_DIGITS = 6
_SCRIPT_ENDINGS = re.compile(r"\.(sh|bash|zsh|ksh|py|pl|rb|php|phar|js|mjs|ts|jar|war|lua|tcl|R|exe|bin|run)$")
_VERSION = re.compile(r"[-_]?[0-9]+(?:\.[0-9]+)*$")
# Directories for programs of all kinds, which say nothing about one.
_GENERAL = word_set(
    """
    ~ .. . bin sbin usr local opt srv var etc lib lib64 libexec share src www html htdocs public public_html web home
    root mnt data cron crons cron.d crontab crontabs job jobs script scripts tool tools shared current util utils
    vendor node_modules .bin .local .venv venv env virtualenv system tasks task
    """
)
_FETCHING = word_set("curl wget fetch http https lynx links w3m GET HEAD POST")
_MYSQLS = re.compile(r"(?:mysql|maria)")
#: Programs and their short option for a password.
_SECRETS = {"redis-cli": "-a", "zip": "-P", "openssl": "-k", "lftp": "-u", "smbclient": "-U", "sqlcmd": "-P"}
_SECRETS.update({"ldapsearch": "-w", "mongodump": "-p", "mongo": "-p", "mongosh": "-p", "ipmitool": "-P"})
_LOUDNESS = re.compile(r"-[qv]+|--(?:quiet|silent|verbose|no-interaction|no-ansi|no-progress)")
_URL = re.compile(r"(?i)[a-z][a-z0-9+]*://(?:[^/@\s]*@)?([^/:?#\s]*)(?::[0-9]+)?([^?#\s]*)(?:\?([^#\s]*))?")
# The suffix of a replica of a pod or container.
_COPY = re.compile(r"(?:-[0-9a-f]{8,10})?-(?=[a-z]*[0-9])[0-9a-z]{5}$|[-_][0-9]+$")
_OPTION = re.compile(r"(-{0,2}[A-Za-z][\w.-]*)=(.*)", re.DOTALL)


@dataclass
class Name:
    """The key of a job."""

    key: str
    #: A remark as long as the key is in use, or None.
    problem: str | None = None
    #: A remark when the key is chosen, or None.
    hint: str | None = None

    @property
    def remarks(self) -> list[str]:
        """Return the remark for a line that gets this key, if any."""
        return [self.problem or self.hint or ""] if self.problem or self.hint else []


@dataclass
class _Described:
    job: Job
    name: str
    #: Whether a word says what the job is.
    is_known: bool
    #: What distinguishes the job from others: only its stable part; and all of it.
    identity: str
    content: str
    is_wrapped: bool
    #: A host in its arguments, which the name omits; or empty.
    host: str


def derive(crontab: Crontab, prefix: str, programs: frozenset[str], taken: set[str]) -> dict[int, Name]:
    """Return the keys of the jobs without one in a comment, by line number.

    `taken` are the keys in the file. A job whose name is unique in the file depends on neither the order of lines nor
    `taken`.
    """
    groups: dict[str, list[_Described]] = defaultdict(list)
    for job in crontab.jobs:
        if job.key is None and not job.off:
            described = _describe(job, prefix, programs)
            groups[described.name].append(described)
    names: dict[int, Name] = {}
    for name, group in groups.items():
        for each in group:
            ending, problem = _ending(each, group)
            key = _join(prefix, name + ending)
            if not each.is_wrapped and key in taken:
                key = _free(_join(prefix, f"{name}-{_digest(f'{each.identity} {each.job.schedule.text}')}"), taken)
            if not each.is_wrapped:
                taken.add(key)
            others = [other.job.number for other in group if other is not each]
            hint = _SHARED.format(_numbers(others)) if others else _HOST.format(each.host) if each.host else None
            names[each.job.number] = Name(key, problem, hint)
    return names


def _ending(each: _Described, group: list[_Described]) -> tuple[str, str | None]:
    """Return the suffix that distinguishes a job from others of its name, and the problem of its key, if any."""
    problem = None if each.is_known else _UNKNOWN
    if len(group) == 1 and each.is_known:
        return "", None
    schedule = each.job.schedule.text
    alike = [other for other in group if other is not each and other.identity == each.identity]
    twins = [other for other in alike if other.job.schedule.text == schedule and other.content != each.content]
    if twins:
        problem = _PASSING.format(_numbers([other.job.number for other in twins]))
        return f"-{_digest(f'{schedule} {each.content}')}", problem
    return f"-{_digest(f'{each.identity} {schedule}' if alike else each.identity)}", problem


def _numbers(numbers: list[int]) -> str:
    return f"line{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


_ASK = 'write a comment "# key: NAME" above'
_UNKNOWN = f"no word of the line says what the job is; {_ASK} it"
_PASSING = (
    f"differs from {{}} only in a number, a date or a host, which may change with a release or machine; {_ASK} each"
)
_HOST = (
    "names a machine, {}, which the key omits: if each machine has its own name there, only one runs the line; "
    f"{_ASK} it"
)
_SHARED = f"has the same name as {{}}, so digests distinguish their keys; to choose names, {_ASK} each"


def _free(key: str, taken: set[str]) -> str:
    count, fresh = 1, key
    while fresh in taken:
        count += 1
        fresh = f"{key}-{count}"
    return fresh


def slug(text: str) -> str:
    """Return `text` in lower case, with each run of other characters as one hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().encode("ascii", "replace").decode()).strip("-")


def _join(prefix: str, name: str) -> str:
    # A file named after its job needs no prefix: keys of other files have another one.
    return name if prefix in ("", name) else f"{prefix}.{name}"


def _describe(job: Job, prefix: str, programs: frozenset[str]) -> _Described:
    """Describe a job by its program and arguments; a long name ends in a digest."""
    reading, is_wrapped = reading_of(job, programs)
    main = reading.main
    directory, words = _name_words(main) if main is not None else ([], [])
    said = slug(" ".join(words))
    # Punctuation such as `:` never had letters; a name may also have lost them.
    is_known = stable.says_something(said) or (
        not said and all(invocation.is_punctuation for invocation in reading.invocations)
    )
    text = slug(" ".join([*directory, *words])) if said else ""
    if not is_known or not text:
        text = "job" if is_known else "unnamed"
    if text.startswith(f"{prefix}-"):
        text = text[len(prefix) + 1 :]
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - _DIGITS - 1].rstrip('-')}-{_digest(' '.join([*directory, *words]))}"
    hosts = [value for value in main.values for value in (value, value.partition("=")[2])] if main is not None else []
    host = next((value for value in hosts if stable.is_host(value)), "")
    identity, content = _content(reading, job, _lasting), _content(reading, job, str)
    return _Described(job, text, is_known, identity, content, is_wrapped, host)


def reading_of(job: Job, programs: frozenset[str]) -> tuple[Reading, bool]:
    """Return the commands of `job`, inside ``cronlock run`` if it is wrapped, and whether it is."""
    text = job.text
    found = calls.find(text, programs)
    if found:
        return invocations.read_words(tuple(found[0].command)), True
    return invocations.read(text), False


def _name_words(invocation: Invocation) -> tuple[list[str], list[str]]:
    """Return where `invocation` runs, and what says what it does, in words that stay."""
    context, words = _context(invocation), invocation.words
    if not words:
        return [], context
    program = _program(invocation.program) if invocation.program else ""
    if invocation.program in _FETCHING:
        urls = [word for each in words[1:] for word in _url_words(each.value)]
        if urls:
            return context, [program, *urls]
    directory = _directory(words[0].value, invocation.directory)
    if directory and not context and directory != program:
        context = [directory]
    return context, [program, *_arguments(words[1:], invocation.program)]


def _program(name: str) -> str:
    kept = stable.word(_SCRIPT_ENDINGS.sub("", name))
    return _VERSION.sub("", kept) if re.match(r"(python|php|perl|ruby|node|lua)[0-9]", kept) else kept


def _context(invocation: Invocation) -> list[str]:
    """Return the container or host where it runs."""
    found = []
    for launcher in invocation.launchers:
        for operand in launcher.operands if launcher.names_context else []:
            if launcher.name == "ssh":
                kept = operand.value.rpartition("@")[2]
            else:
                # An image without its tag.
                name = posixpath.basename(operand.value).partition("@")[0].partition(":")[0]
                kept = stable.word(_COPY.sub("", name))
            if kept and not operand.expands:
                found.append(kept)
    return found


def _directory(program: str, directory: str) -> str:
    """Return the directory that distinguishes programs of the same name, such as those of several applications."""
    path = posixpath.join(directory, posixpath.dirname(program))
    if "$" in path or "`" in path or stable.is_temporary(path):
        return ""
    kept = [part for part in stable.path(f"{path}/-").split("/")[:-1] if part and part not in _GENERAL]
    return kept[-1] if kept else ""


def _arguments(words: list[Word], program: str) -> list[str]:
    found: list[str] = []
    drop = False
    for index, word in enumerate(words):
        value, dropped, drop = word.value, drop, False
        option = _OPTION.fullmatch(value)
        name = option[1] if option else value if value.startswith("-") else ""
        if dropped and not name:
            continue
        if _MYSQLS.match(program) and re.match(r"-p.", value):
            pass  # A password, with its option.
        elif name and (stable.is_passing_option(name) or stable.is_secret(name) or name == _SECRETS.get(program)):
            drop = option is None
        elif word.expands or _LOUDNESS.fullmatch(value) or stable.is_secret_value(value):
            pass
        elif option:
            kept = _argument(option[2])
            found.append(f"{name} {kept}" if kept or not option[2] else name)
        elif not name and index and words[index - 1].value in ("-u", "--user") and ":" in value:
            pass
        else:
            kept = _argument(value)
            if kept:
                found.append(kept)
    return found


def _argument(value: str) -> str:
    """Return the last stable part of a path, or the stable part of another word."""
    if _URL.match(value):
        return " ".join(_url_words(value))
    if stable.is_log(value) and "/" in value:
        return ""
    kept = stable.any_value(value)
    if value.startswith(("/", "~")):
        parts = [part for part in kept.split("/") if part and part != "~"]
        return parts[-1] if parts else ""
    return kept


def _url_words(text: str) -> list[str]:
    """Return the words of the URL `text`: site, path, and parameters without secrets."""
    match = _URL.match(text)
    if match is None:
        return []
    host, path, query = match[1].lower(), match[2], match[3] or ""
    labels = [] if host == "localhost" or not stable.word(host) else host.split(".")
    site = [label for label in (labels[:-1] or labels) if label != "www"]
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    kept = [f"{name} {stable.word(value)}" for name, _, value in pairs if not stable.is_secret(name)]
    return [*site, *(part for part in stable.path(path).split("/") if part), *kept]


def _content(reading: Reading, job: Job, part: Callable[[str], str]) -> str:
    """Return all that distinguishes the commands of `job`, each word mapped by `part`."""
    parts = [job.user or "", part(job.stdin)]
    for invocation in reading.invocations:
        if invocation.program in ("cd", "pushd"):
            parts.append(part(f"{posixpath.join(invocation.directory, *invocation.values[-1:])}/-"))
            continue
        users = [launcher.given("-u", "--user") or "" for launcher in invocation.launchers if launcher.name in _USERS]
        users += [
            operand.value for launcher in invocation.launchers if launcher.name == "su" for operand in launcher.operands
        ]
        targets = [target for _, target in invocation.redirections if part is str or not stable.is_log(target)]
        values = [word.value for word in (*invocation.assignments, *invocation.words)]
        if part is str:
            values += [
                word.value for launcher in invocation.launchers for word in (*launcher.options, *launcher.operands)
            ]
        parts += [*users, *_context(invocation), *(part(value) for value in (*values, *targets))]
    return "\0".join(part for part in parts if part)


_USERS = word_set("sudo doas runuser gosu")


def _lasting(value: str) -> str:
    name, equals, rest = value.partition("=")
    if equals and (stable.is_passing_option(name) or stable.is_secret(name)):
        return name
    if _URL.match(value):
        return " ".join(_url_words(value))
    return f"{name}={stable.any_value(rest)}" if equals else stable.any_value(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
