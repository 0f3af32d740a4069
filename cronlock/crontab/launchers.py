"""Programs that run another command, and how to find that command in their arguments."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from .calls import OWN_COMMANDS
from .shell import ASSIGNMENT, POSIX_SHELLS, Word, word_set

# Launcher, with a subcommand if needed; number of operands before the command; `context` if those name the place where
# the job runs and so belong to its name; options that take a value.
_TABLE = """
# locks of one machine
flock          1 -        -w --wait --timeout -E --conflict-exit-code
lockf          1 -        -t
setlock        1 -
chpst          0 -        -u -U -b -e -/ -C -n -l -L -m -d -o -p -f -c -r -t
softlimit      0 -        -m -a -c -d -f -l -o -p -r -s -t
lockrun        0 -        -L -W -S --lockfile --maxtime --sleep
run-one        0 -
run-this-one   0 -
solo           0 -        -port
runlock        0 -        -f -t
with-lock-ex   1 -
# locks of many machines
consul_lock    1 -        -n -name -timeout -try -monitor-retry -http-addr -token -datacenter -namespace
etcdctl_lock   1 -        --ttl --endpoints --cacert --cert --key --user --password --dial-timeout --command-timeout
zk-flock       1 -
# time, priority, output
timeout        1 -        -k -s --kill-after --signal
runalarm       0 -        -t
nice           0 -        -n --adjustment
ionice         0 -        -c -n -p -P -u --class --classdata
chrt           1 -        -T -P -D
taskset        1 -
cpulimit       0 -        -l --limit -e -p -P
cgexec         0 -        -g
prlimit        0 -
nohup          0 -
setsid         0 -
stdbuf         0 -        -i -o -e
unbuffer       0 -
time           0 -        -f -o
script         0 -        -O -I -B -T -m -E
chronic        0 -
cronic         0 -
croncape       0 -
cronwrap       0 -        -c -e -t
runstat        0 -
cronitor_exec  1 -
runitor        0 -        -uuid -slug -ping-key -api-url
systemd-cat    0 -        -t -p --identifier --priority --stderr-priority
systemd-inhibit 0 -       --what --who --why --mode
systemd-run    0 -        -p -u -E -H -M --property --unit --uid --gid --nice --slice --description --setenv
# user, environment, place
exec           0 -        -a
command        0 -
builtin        0 -
eval           0 -
sudo           0 -        -u -g -h -p -C -r -t -T -U -D -R --user --group --host --prompt --chdir
doas           0 -        -u -C
su             1 -        -s -g -G -w --shell --group
runuser        1 -        -s -g -G -w --shell --group
setpriv        0 -        --reuid --regid --groups
gosu           1 -
env            0 -        -u -C -S --unset --chdir
envdir         1 -
direnv_exec    1 -
chroot         1 context
unshare        0 -
nsenter        0 -        -t --target
xargs          0 -        -n -P -I -d -L -s -a -E
sshpass        0 -        -p -f -P
ssh            1 context  -b -c -D -E -e -F -I -i -J -L -l -m -O -o -p -Q -R -S -W -w
docker_exec    1 context  -e -u -w --env --env-file --user --workdir -H --host --context
docker_run     1 context  -v -e -w -u -p -l -m -h --volume --env --env-file --name --network --net --user --workdir
+              --mount --entrypoint --label --memory --cpus --add-host --publish --hostname --volumes-from --restart
+              --log-driver --log-opt --platform --pull --link --ulimit --cap-add --cap-drop --cidfile -H --host
compose_exec   1 context  -e -u -w -f -p --env --user --workdir --index --file --project-name --project-directory
compose_run    1 context  -v -e -u -w -f -p -l --volume --env --user --workdir --name --entrypoint --file
+              --project-name --project-directory --label --publish
kubectl_exec   1 context  -n -c -f --namespace --container --context --kubeconfig --filename
lxc-attach     0 -        -n --name
lxc_exec       1 context  --env --user --group --cwd
# languages and their package managers; options like -c and -e, whose value is the program, end the way
python         0 -        -W -X --check-hash-based-pycs
perl           0 -
ruby           0 -        -r -I -C
php            0 -        -c -d
node           0 -        -r --require
java           0 -        -cp -classpath --class-path -p --module-path
Rscript        0 -
tclsh          0 -
lua            0 -
bundle_exec    0 -
poetry_run     0 -        -C --directory --project
pipenv_run     0 -
uv_run         0 -        --project --directory --with --python -p --env-file --extra --group
hatch_run      0 -
conda_run      0 -        -n -p --name --prefix --cwd
npx            0 -        -p --package
rbenv_exec     0 -
pyenv_exec     0 -
doppler_run    0 -        -p -c --project --config --token
op_run         0 -        --env-file
aws-vault_exec 1 -        -d --duration
"""
#: Their value is a shell script, in any position.
_SCRIPT_OPTIONS = re.compile(r"-[a-zA-Z]*c|--command|--session-command")
_WITH_SCRIPTS = POSIX_SHELLS | word_set("flock su runuser script")
# Their value is a program in that language.
_INLINE = re.compile(r"-[a-zA-Z]*[ceEr]|--eval|--command")
_INLINE_OF = {"python": "c", "perl": "eE", "ruby": "e", "php": "r", "node": "ep", "Rscript": "e", "lua": "e"}
# They join their words and pass them to a shell, here or on another machine.
_JOINING = frozenset(("ssh", "eval", "zk-flock", "consul lock"))
_WITH_ASSIGNMENTS = word_set("env sudo doas")
_ALIASES = {
    "podman": "docker",
    "nerdctl": "docker",
    "docker-compose": "compose",
    "oc": "kubectl",
    "nodejs": "node",
    "doit": "node",
}
_VERSIONED = re.compile(r"(python|php|perl|ruby|node|lua|tclsh)[0-9.]+")
# `$(which php)` and the like are php.
_LOOKED_UP = re.compile(r"^(?:\$\(|`)(?:which|command -v|type -p) ([\w./+-]+)[)`]$")


@dataclass
class _Row:
    before: int
    context: bool
    options: set[str]


@dataclass
class Launcher:
    """A program that runs a command, as written in a line."""

    #: Without directories, aliases resolved, with its subcommand: `flock`, `docker exec`.
    name: str
    #: Its options and their values, as written.
    options: list[Word] = field(default_factory=list)
    #: The words between the options and the command: a lock's file, a container, a host.
    operands: list[Word] = field(default_factory=list)
    #: The command as words or as a shell script; at most one of them.
    command: list[Word] = field(default_factory=list)
    script: str | None = None
    #: All words before the command or the script.
    head: list[Word] = field(default_factory=list)
    #: The words of the script: one, or several that it joins.
    tail: list[Word] = field(default_factory=list)
    #: Variables that it sets.
    assignments: list[Word] = field(default_factory=list)
    #: Whether the operands belong to the job's name.
    names_context: bool = False

    def given(self, *names: str) -> str | None:
        """Return the value of an option, empty for a flag, None if it is not given."""
        for index, word in enumerate(self.options):
            name, equals, value = word.value.partition("=")
            if name in names:
                following = self.options[index + 1].value if index + 1 < len(self.options) else ""
                return value if equals else following if not following.startswith("-") else ""
        return None

    def has_flag(self, letter: str, *names: str) -> bool:
        """Return whether the flag is given, also in a cluster such as ``-xn``."""
        return any(
            word.value in names or (re.fullmatch(r"-[A-Za-z]+", word.value) is not None and letter in word.value)
            for word in self.options
        )


def _read_table() -> dict[str, _Row]:
    table: dict[str, _Row] = {}
    row: _Row | None = None
    for line in _TABLE.splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "+":
            assert row is not None
            row.options.update(words[1:])
        else:
            row = table[words[0]] = _Row(int(words[1]), words[2] == "context", set(words[3:]))
    return table


_LAUNCHERS = _read_table()
_WITH_SUBCOMMAND = frozenset(name.partition("_")[0] for name in _LAUNCHERS if "_" in name)


def program_of(word: Word) -> str:
    """Return the name of the program that `word` calls, without directories."""
    looked_up = _LOOKED_UP.match(word.value)
    return posixpath.basename(looked_up[1] if looked_up else word.value)


def read(words: list[Word]) -> Launcher | None:
    """Return the launcher that `words` call; None for another program, or if it runs no command."""
    name = program_of(words[0])
    name = _ALIASES.get(name, name)
    versioned = _VERSIONED.fullmatch(name)
    name = versioned[1] if versioned else name
    rest = words[1:]
    options: list[Word] = []
    if name in _WITH_SUBCOMMAND:
        name, options, rest = _subcommand(name, rest)
    row = _LAUNCHERS.get(name)
    if words[0].expands and name[:1] in ("$", "`") and rest:
        # As in `"$PHP" script`.
        row = _Row(0, False, set())
    if name == "cronlock" and rest and not rest[0].value.startswith("-") and rest[0].value not in OWN_COMMANDS:
        # The shell script of the same name, which takes a command.
        name, row = "kvz/cronlock", _Row(0, False, set())
    if name in POSIX_SHELLS:
        row = _Row(0, False, {"-o", "-O", "--rcfile", "--init-file"})
    if row is None:
        return None
    launcher = _read_words(Launcher(name.replace("_", " "), options, names_context=row.context), row, rest)
    if launcher is not None:
        launcher.head = words[: len(words) - len(launcher.command or launcher.tail)]
    return launcher


def _subcommand(name: str, rest: list[Word]) -> tuple[str, list[Word], list[Word]]:
    """Return the name with its subcommand, the options before that, and what follows."""
    takes = set().union(*(row.options for key, row in _LAUNCHERS.items() if key.startswith(f"{name}_")))
    options, rest = _split_options(rest, takes)
    if name == "docker" and rest and rest[0].value == "compose":
        return _subcommand("compose", rest[1:])
    if not rest:
        return name, options, rest
    return f"{name}_{rest[0].value}", options, rest[1:]


def _split_options(words: list[Word], takes: set[str]) -> tuple[list[Word], list[Word]]:
    position = 0
    while position < len(words) and words[position].value.startswith("-") and words[position].value != "--":
        position += 2 if words[position].value in takes else 1
    return words[:position], words[position:]


def _read_words(launcher: Launcher, row: _Row, words: list[Word]) -> Launcher | None:
    if launcher.name in _WITH_SCRIPTS:
        position = _script_option(launcher, row, words)
        if position is not None:
            launcher.options += words[:position]
            launcher.operands = [word for word in words[:position] if not word.value.startswith("-")]
            launcher.operands += words[position + 2 :]
            launcher.script, launcher.tail = words[position + 1].value, words[position + 1 :]
            return launcher
    operands = row.before
    while True:
        options, words = _split_options(words, row.options)
        if any(_is_inline(launcher.name, option.value) for option in options):
            return None
        launcher.options += options
        if words and words[0].value == "--":
            words = words[1:]
            break
        if launcher.name in _WITH_ASSIGNMENTS and words and ASSIGNMENT.match(words[0].value):
            launcher.assignments.append(words[0])
            words = words[1:]
        elif operands and words:
            operands -= 1
            launcher.operands.append(words[0])
            words = words[1:]
            # Here the command may begin with a minus, since no options of the launcher follow.
            if not operands and launcher.name not in ("kubectl exec", "ssh", "etcdctl lock"):
                words = words[1:] if words and words[0].value == "--" else words
                break
        else:
            break
    if launcher.name == "script" or (launcher.name == "command" and launcher.has_flag("v")):
        return None
    # `runuser -u USER COMMAND` has no operand before the command.
    if launcher.name in ("su", "runuser") and launcher.given("-u", "--user"):
        words, launcher.operands = [*launcher.operands[1:], *words], launcher.operands[:1]
    launcher.command = words
    if launcher.name in _JOINING and words and launcher.given("-shell") != "false":
        launcher.script, launcher.command, launcher.tail = " ".join(word.value for word in words), [], words
    return launcher if words or launcher.names_context else None


def _script_option(launcher: Launcher, row: _Row, words: list[Word]) -> int | None:
    """Return the position of the option whose value is the script; for a shell, only before its first operand."""
    is_shell, position = launcher.name in POSIX_SHELLS, 0
    while position + 1 < len(words):
        value = words[position].value
        if _SCRIPT_OPTIONS.fullmatch(value):
            # More options may stand between a shell's -c and the script.
            while is_shell and words[position + 1].value.startswith("-") and position + 2 < len(words):
                position += 1
            return position
        if is_shell and not value.startswith(("-", "+")):
            return None
        if not is_shell and not value.startswith("-") and launcher.name == "flock" and position and _is_command(words):
            return None
        position += 2 if value in row.options else 1
    return None


def _is_command(words: list[Word]) -> bool:
    """Return whether the words of flock contain a command, to which a -c then belongs."""
    _, rest = _split_options(words, _LAUNCHERS["flock"].options)
    return len(rest) > 1 and not rest[1].value.startswith("-")


def _is_inline(name: str, option: str) -> bool:
    letters = _INLINE_OF.get(name, "")
    return bool(letters) and (option == "--eval" or (option[:2] != "--" and option[-1:] in tuple(letters)))
