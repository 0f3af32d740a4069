"""Type every command of the documents on a machine: it prints what the document shows below it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections import Counter

import pytest

from labs.installation import ROOT
from labs.servers.process import need

from . import scenes
from .markdown import DEB, DOCUMENTS, Block, Step, blocks, steps
from .stage import PROGRAMS, Node, Stage, complain, same

ALL = [block for document in DOCUMENTS for block in blocks(document)]

#: Terminal blocks that another test covers, by document and first line.
ELSEWHERE = {
    ("README.md", "$ make deb"): "tests/packaging, which makes it; the other machines are the reader's",
    ("README.md", f"$ sudo apt install ./{DEB}"): "test_quickstart.py: needs a root to install into",
    ("README.md", 'one$ sudo cronlock run --key hello -- echo "it was me"'): "test_quickstart.py",
    ("docs/packages.md", f"# apt install ./{DEB}"): "tests/packaging, on clean roots",
    ("docs/packages.md", "$ ./cronlock.pyz run --key hello -- echo hello"): "test_image.py: needs the file",
    ("docs/packages.md", "$ unzip -p cronlock.pyz share/man/man1/cronlock.1 | man -l -"): "test_image.py likewise",
    ("docs/quickstart.md", "*"): "test_quickstart.py",
    ("docs/releasing.md", "*"): "tests/packaging/test_release.py: the steps that change files",
    ("docs/recipes.md", f"$ sudo sh image.sh {DEB} billing"): "test_image.py: needs the package",
    ("docs/recipes.md", "$ cloud-init schema -c user-data.yaml"): "test_recipes.py, which fetches cloud-init",
    ("docs/recipes.md", "$ promtool check rules alerts.yml"): "test_recipes.py, which fetches promtool",
    ("docs/recipes.md", "$ systemd-analyze verify billing.service billing.timer"): "test_recipes.py; no systemd here",
}

#: Commands that exit with another status than 0.
STATUSES = {("README.md", "sudo cronlock doctor"): 1}

#: Commands that build or measure for minutes: only their targets or modules and their syntax are checked.
_OWN_TOOLS = ("make", "python")


def _of(*languages: str) -> list[Block]:
    return [block for block in ALL if block.language in languages]


def _named(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", _of(*languages), ids=lambda block: block.name)


def _where(block: Block) -> tuple[str, str] | None:
    for place in ((block.document, block.first), (block.document, "*")):
        if place in ELSEWHERE:
            return place
    return None


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.name)
def test_each_block_says_what_it_is(block: Block) -> None:
    """Each block has a language that a test checks."""
    assert block.language in ("console", "crontab", "sh", "ini", "text", "python", "toml"), block.name


def test_what_is_listed_is_there() -> None:
    """Each exception and each scene belongs to a block that exists."""
    there = {(block.document, first) for block in ALL for first in (block.first, "*", "")}
    assert set(ELSEWHERE) <= there
    assert scenes.known() <= there


@_named("console")
def test_terminal(block: Block, stage: Stage) -> None:
    """Each command exits with status 0 or prints its status, and its output is the one in the document."""
    typed = steps(block)
    for step in typed:
        _check_syntax(block, step.command)
    own_tools = [_is_own_tool(step) for step in typed]
    if _where(block) is None and not all(own_tools):
        scenes.prepare(stage, block)
        _type_all(stage, block, typed)


def _type_all(stage: Stage, block: Block, typed: list[Step]) -> None:
    status: Counter[str] = Counter()
    for number, step in enumerate(typed):
        host = step.host or scenes.READER
        got = stage.node(host).type(step.command, before=status[host])
        shows_status = number + 1 < len(typed) and typed[number + 1].command.startswith("echo $?")
        wanted = STATUSES.get((block.document, step.command), 0)
        if not (got.status == wanted or shows_status) or (step.output and not same(step.output, got.output)):
            complain(block.name, step.command, step.output, got)
        status[host] = got.status


def _is_own_tool(step: Step) -> bool:
    words = shlex.split(step.command, comments=True)
    if words[0] == "make":
        made = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert made.returncode == 0, f"{words[1:]}: {made.stderr}"
    elif words[0] == "python":
        assert words[1] == "-m"
        assert importlib.util.find_spec(words[2]), words[2]
    return words[0] in _OWN_TOOLS


@_named("crontab")
def test_crontab(block: Block, stage: Stage) -> None:
    """crontab(1) accepts the lines, and a shell runs each command with all programs that it names."""
    node = stage.node(scenes.READER)
    jobs = [line for line in block.text.splitlines() if line[0] not in "#" and "=" not in line.split()[0]]
    settings = [line for line in block.text.splitlines() if line[0] != "#" and line not in jobs]
    assert jobs, block.name
    # crontab(1) checks crontabs of users, which have no user field.
    node.write("crontab", "".join(f"{line}\n" for line in settings + [_without_user(line) for line in jobs]))
    accepted = node.type("crontab -n crontab")
    assert accepted.status == 0, accepted.output
    environment = " ".join(f"'{line}'" for line in settings)
    for job in jobs:
        if re.search(rf"# Before.*\n{re.escape(job)}\n", block.text):
            continue  # A line of another tool.
        stage.fresh()
        node = stage.node(scenes.READER)
        # Jitter would only slow the test down.
        line = re.sub(r"--jitter \S+ ", "", _without_user(job))
        command, _, rest = line.split(None, 5)[5].replace("\\%", "\0").partition("%")
        node.write("stdin-of-job", rest.replace("%", "\n").replace("\0", "%") + "\n" if rest else "")
        node.write("job", command.replace("\0", "%"))
        path = "" if "PATH=" in environment else "PATH=/usr/bin:/bin:/usr/local/bin"
        ended = node.type(f'env {path} {environment} /bin/sh -c "$(cat job)" <stdin-of-job')
        assert ended.status == 0, (job, ended.output)
        # On a single machine the whole line runs, even if parts of it are outside of the lock.
        ran = {line.split()[0] for line in node.ran()}
        assert ran == {word for word in _words(command) if word in PROGRAMS}, job


def _without_user(line: str) -> str:
    fields = line.split(None, 6)
    assert fields[5] == "root", f"a user field is missing: {line}"
    return " ".join([*fields[:5], fields[6]])


def _words(command: str) -> list[str]:
    without_keys = re.sub(r"--key \S+", "", command)
    return [word.rpartition("/")[2] for word in re.split(r"[\s';]+", without_keys)]


@_named("sh")
def test_script(block: Block, stage: Stage) -> None:
    """shellcheck accepts each script, and it succeeds."""
    _shellcheck(block, block.text)
    node = stage.node(scenes.READER)
    scenes.prepare(stage, block)
    node.write("script", block.text, "755")
    ended = node.type("./script")
    assert ended.status == 0, ended.output


@_named("ini")
def test_configuration(block: Block, stage: Stage) -> None:
    """A run with each configuration succeeds."""
    node = stage.node(scenes.READER)
    node.write("/etc/cronlock.conf", block.text)
    ended = node.type("cronlock run --quiet --key tried -- true")
    assert (ended.status, ended.output) == (0, "")


def _check_syntax(block: Block, command: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, f"{block.name}: {command}: {done.stderr}"


def _shellcheck(block: Block, script: str) -> None:
    checked = subprocess.run([need("shellcheck", "shellcheck"), "-"], input=script, capture_output=True, text=True)
    assert checked.returncode == 0, f"{block.name}: {checked.stdout}"


class TestTraps:
    """Wrong lines of docs/crontab.md fail as it says, and the corrected ones do not."""

    @staticmethod
    def _lines(wrong: bool) -> list[str]:
        page = next(path for path in DOCUMENTS if path.name == "crontab.md")
        found = [block for block in blocks(page) if block.language == "crontab"][:2]
        lines = (found[0] if wrong else found[1]).text.splitlines()
        return [_without_user(line).split(None, 5)[5] for line in lines if not line.startswith("#")]

    @staticmethod
    def _second_runs(stage: Stage, command: str) -> tuple[Node, list[str]]:
        """Run `command` on two machines; return the second, which skips, and the programs that ran there."""
        stage.fresh()
        for name in ("one", "two"):
            node = stage.node(name)
            node.write("/srv/report.txt", "old\n")
            node.ran()
            node.sh(command)
        return node, [line.split()[0] for line in node.ran()]

    def test_and_runs_everywhere(self, stage: Stage) -> None:
        """A command after && runs on the machine that skips, unless it is inside of the lock."""
        assert self._second_runs(stage, self._lines(wrong=True)[0])[1] == ["mail-report"]
        assert self._second_runs(stage, self._lines(wrong=False)[0])[1] == []

    def test_redirection_empties_the_file(self, stage: Stage) -> None:
        """A redirection empties the file on the machine that skips, unless it is inside of the lock."""
        node, _ = self._second_runs(stage, self._lines(wrong=True)[1])
        assert node.sh("cat /srv/report.txt") == ""
        node, _ = self._second_runs(stage, self._lines(wrong=False)[1])
        assert node.sh("cat /srv/report.txt") == "old\n"

    def test_pipe_runs_everywhere(self, stage: Stage) -> None:
        """The end of a pipe runs on the machine that skips, unless it is inside of the lock."""
        assert self._second_runs(stage, self._lines(wrong=True)[2])[1] == ["mail-report"]
        assert self._second_runs(stage, self._lines(wrong=False)[2])[1] == []

    def test_wrap_finds_them(self, stage: Stage) -> None:
        """`cronlock wrap --check` reports the wrong lines and no others."""
        page = next(path for path in DOCUMENTS if path.name == "crontab.md")
        node = stage.node(scenes.READER)
        for block in blocks(page):
            if block.language == "crontab":
                node.write("tab", block.text)
                found = node.type("cronlock wrap --check --system tab").output.splitlines()
                wrong = sum(line.startswith("# Wrong") for line in block.text.splitlines())
                assert len(found) == wrong, (block.name, found)
