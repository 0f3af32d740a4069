"""Follow the README and docs/quickstart.md on two machines, with the real cron.

The machines have this machine's files, or with `CRONLOCK_PACKAGE_ROOTS` those of a clean Debian.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from labs.debian import clean_system
from labs.installation import ROOT
from labs.machines import Fleet
from labs.servers.process import eventually, need
from tests.packaging.support import Build, fetch_wheels

from .markdown import DEB, Block, Step, blocks, steps
from .stage import Bare, Redis, complain, normal

#: A tick comes within a minute; the rest is for a busy machine.
_LIMIT = 180.0
_HOSTS = ("one", "two")


class Site(NamedTuple):
    """Two machines and their Redis."""

    machines: dict[str, Bare]
    redis: Redis


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Debian package of this checkout."""
    fetch_wheels()
    build = Build(tmp_path_factory.mktemp("deb"))
    build.make_sources(ROOT)
    return build.deb


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, deb: Path) -> Iterator[Site]:
    """Give machines without cronlock but with its package in the reader's directory, and with the real cron."""
    need("cron", "cron")
    origin = clean_system() if os.environ.get("CRONLOCK_PACKAGE_ROOTS") else Path("/")
    with Fleet(tmp_path_factory.mktemp("site") / "fleet") as fleet:
        if not fleet.has_users:
            pytest.skip("cron changes users: needs root, or newuidmap and a range of ids in /etc/subuid")
        redis = Redis(fleet)
        machines = {name: Bare(fleet.machine(name), redis.address, origin) for name in _HOSTS}
        for machine in machines.values():
            machine.take(deb)
        yield Site(machines, redis)


def _terminals(name: str) -> list[Block]:
    return [block for block in blocks(ROOT / name) if block.language == "console"]


def _type(machine: Bare, where: str, step: Step) -> None:
    # apt asks if it must install more than the package.
    got = machine.type(step.command, answers="y\n" if "apt" in step.command else "")
    if got.status != 0 or (step.output and _plain(step.output) != _plain(got.output)):
        complain(where, step.command, step.output, got)


def _plain(text: str) -> list[str]:
    # Either machine may be first.
    return [re.sub(r"\b(one|two)\b", "HOST", line) for line in normal(text)]


def test_the_documents_say_the_same() -> None:
    """The README has the steps of docs/quickstart.md."""
    short, long = (
        " ".join(step.command for block in _terminals(name)[begin : begin + 2] for step in steps(block))
        for name, begin in (("README.md", 1), ("docs/quickstart.md", 0))
    )
    for words in (f"sudo apt install ./{DEB}", "| sudo tee /etc/cronlock.conf", "-- echo "):
        assert words in short
        assert words in long


def test_two_machines_share_a_job(site: Site) -> None:
    """The commands of docs/quickstart.md, typed on fresh machines, lead to one run per minute."""
    machines = site.machines
    install, by_hand, history, away = _terminals("docs/quickstart.md")
    for machine in machines.values():
        machine.start_cron()
        for step in steps(install):
            _type(machine, install.name, step)
    for step in steps(by_hand):
        _type(machines[step.host], by_hand.name, step)

    (look,) = steps(history)
    command = look.command
    eventually(lambda: "exited" in machines[look.host].type(command).output, "cron ran the job", _LIMIT, 1.0)
    lines = machines[look.host].type(command).output.splitlines()
    assert _plain("\n".join(lines[:2])) == _plain(look.output)
    assert machines["one"].type(command).output.split()[:6] == machines["two"].type(command).output.split()[:6]
    started = [line.split()[0].rpartition(":")[0] for line in lines[1:]]
    assert len(started) == len(set(started)), "two runs in one minute"
    for machine in machines.values():
        assert machine.mail() == ""
        for step in steps(away):
            _type(machine, away.name, step)


def test_readme(site: Site) -> None:
    """The README's commands work too, and cron accepts the crontab that they install."""
    machines = site.machines
    site.redis.ask("flushall")
    install, by_hand = _terminals("README.md")[1:3]
    for machine in machines.values():
        machine.sh("rm -rf /var/lib/cronlock/watermarks")
        for step in steps(install):
            _type(machine, install.name, step)
        assert machine.type("cronlock wrap --check /etc/cron.d/billing").output == ""
    for step in steps(by_hand):
        _type(machines[step.host], by_hand.name, step)
