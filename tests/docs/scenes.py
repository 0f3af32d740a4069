"""What happens before a block's commands are typed, if their output depends on it."""

from __future__ import annotations

from collections.abc import Callable

from labs.installation import ROOT
from labs.servers.process import eventually

from .markdown import Block
from .stage import Node, Stage

RECIPES = ROOT / "docs/recipes"

#: Scenes by document and first line of the block.
_SCENES: dict[tuple[str, str], Callable[[Stage], None]] = {}

#: The machine of blocks whose prompt names none. Jobs run on other machines.
READER = "desk"


def prepare(stage: Stage, block: Block) -> None:
    """Play the scene before the block."""
    for document, first in ((block.document, block.first), (block.document, "")):
        if (document, first) in _SCENES:
            _SCENES[document, first](stage)


def known() -> set[tuple[str, str]]:
    """Return the blocks that have a scene."""
    return set(_SCENES)


def _before(document: str, first: str = "") -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    def note(scene: Callable[[Stage], None]) -> Callable[[Stage], None]:
        _SCENES[document, first] = scene
        return scene

    return note


def _run(node: Node, key: str, command: str, options: str = "") -> None:
    node.sh(f"cronlock run --key {key} {options} -- {command}")


@_before("README.md", "$ sudo cronlock status")
def _a_fleet_at_work(stage: Stage) -> None:
    """Jobs succeeded and failed, one is running, and one died."""
    one, two, three = (stage.node(f"web-{number}") for number in (1, 2, 3))
    three.machine.start(*three.words("cronlock run --key mirror --ttl 12 -- sleep 600"))
    _wait_for(one, "mirror", "running")
    three.kill_runs("mirror")
    _run(one, "backup", "true", "--min-hold 30m")
    one.sh("cronlock run --key report --min-hold 5m -- sh -c 'exit 3' || [ $? = 3 ]")
    _run(two, "billing", "billing", "--min-hold 0")
    three.machine.start(*three.words("PACE=600 cronlock run --key billing -- billing"))
    _wait_for(one, "billing", "running")
    _wait_for(one, "mirror", "lapsed")


@_before("README.md", "$ sudo cronlock check billing --max-age 15m --max-run 1h")
@_before("docs/faq.md", "$ sudo cronlock status billing")
@_before("docs/faq.md", "$ cronlock run --verbose --key billing -- billing")
@_before("docs/faq.md", "$ cronlock run --key billing --ignore-hold -- billing")
def _billing_ran(stage: Stage) -> None:
    """Another machine ran the job a moment ago."""
    _run(stage.node("web-1"), "billing", "billing")


@_before("docs/faq.md", "$ sudo cronlock release --force billing")
def _billing_died(stage: Stage) -> None:
    """The machine that held the key died."""
    node = stage.node("web-1")
    node.machine.start(*node.words("PACE=600 cronlock run --key billing -- billing"))
    _wait_for(stage.node(READER), "billing", "running")
    node.kill_runs("billing")


@_before("README.md", "$ sudo cronlock stop billing")
@_before("docs/faq.md", "$ sudo cronlock stop billing")
def _billing_runs(stage: Stage) -> None:
    """A machine runs it."""
    node = stage.node("web-1")
    # A hold that no busy machine outlasts: `stop` shows what is left of it.
    node.machine.start(*node.words("PACE=600 cronlock run --key billing --min-hold 10m -- billing"))
    _wait_until_it_listens(stage, "billing")


@_before("docs/recipes.md", "$ sudo cronlock pause shop.orders --reason 'sends each order twice'")
@_before("docs/recipes.md", "$ sudo cronlock pause 'shop.*' --for 6h --reason 'migration, ask alice'")
def _a_shop(stage: Stage) -> None:
    """One job ended, another is running."""
    _run(stage.node("web-1"), "shop.invoices", "billing")
    node = stage.node("web-2")
    node.machine.start(*node.words("PACE=600 cronlock run --key shop.orders -- billing"))
    _wait_until_it_listens(stage, "shop.orders")


@_before("docs/recipes.md", "$ cronlock wrap --diff /etc/cron.d/shop")
def _a_crontab(stage: Stage) -> None:
    """A crontab that was never wrapped."""
    stage.node(READER).write("/etc/cron.d/shop", "# Every night\n15 3 * * * root backup shop && echo done\n")


@_before("README.md", "$ cronlock wrap --diff /etc/cron.d/reports")
def _an_older_crontab(stage: Stage) -> None:
    """A crontab with several kinds of lines."""
    lines = (
        "MAILTO=ops",
        "*/5 * * * * www-data /usr/local/bin/poll --quick",
        "0 3 * * * root cd /srv/reports && ./daily | gzip > daily.gz",
        "@reboot root /usr/local/bin/warm-up",
    )
    stage.node(READER).write("/etc/cron.d/reports", "".join(f"{line}\n" for line in lines))


@_before("README.md", "$ sudo cronlock doctor")
def _a_careless_setup(stage: Stage) -> None:
    """Everyone can read the password, and Redis may evict leases."""
    stage.redis.ask("acl setuser jobs on '>secret' '~*' '&*' +@all")
    stage.redis.ask("config set maxmemory 64mb")
    stage.redis.ask("config set maxmemory-policy allkeys-lru")
    stage.node(READER).write("/etc/cronlock.conf", "CRONLOCK_BACKEND=redis://jobs:secret@redis.internal\n")


@_before("docs/packages.md", "# chmod 644 /etc/cronlock.conf")
def _a_group(stage: Stage) -> None:
    """A group of users whose jobs use cronlock."""
    stage.node(READER).sh("getent group jobs || groupadd jobs")


@_before("docs/recipes.md")
def _files(stage: Stage) -> None:
    """The recipes are in the reader's directory."""
    for name in (READER, "one", "two"):
        stage.node(name).take(*RECIPES.iterdir())


def _wait_until_it_listens(stage: Stage, key: str) -> None:
    _wait_for(stage.node(READER), key, "running")
    eventually(lambda: "1" in stage.redis.ask(f"pubsub numsub cronlock:{key}").split(), f"{key} listens", pause=0.2)


def _wait_for(node: Node, key: str, state: str) -> None:
    eventually(lambda: state in node.sh(f"cronlock status {key} || :"), f"{key} is {state}", pause=0.2)
