"""Follow the manual on three clean Debians: each tick runs the job on one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from labs.debian import clean_system
from labs.machines import SHARED, Fleet
from labs.servers.process import eventually

from .support import Build, Root, start_redis

_TICKS = int(os.environ.get("CRONLOCK_CRON_TICKS", "2"))
_LIMIT = 240.0
_JOB = f'sh -c "hostname >>{SHARED}/ran"'
_LINE = f"* * * * * root cronlock run --key hello -- {_JOB}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet without machines."""
    with Fleet(tmp_path / "fleet") as fleet:
        yield fleet


def _prepare(root: Root) -> None:
    """Install cron on a clean Debian, and adapt it to a container."""
    root.sh("apt-get -q -y --no-install-recommends install cron")
    # Containers lack the capability to set the login id.
    root.sh("sed -i /pam_loginuid/d /etc/pam.d/cron")


def _fired(root: Root) -> int:
    """Return how often cron has started the line here."""
    return sum(" CMD (" in message and "cronlock run" in message for _, message in root.machine.syslog())


def _is_idle(root: Root) -> bool:
    return root.machine.programs().count("cron") == 1


def test_three_machines_one_run(fleet: Fleet, build: Build) -> None:
    """After apt install, one line of configuration and one of crontab, exactly one machine runs each tick."""
    redis = fleet.machine("redis")
    start_redis(redis)
    roots = [Root(fleet.machine(name), clean_system()) for name in ("alpha", "beta", "gamma")]
    for root in roots:
        _prepare(root)
        package = root.copy(build.deb)
        # From here on, the steps of the manual.
        root.sh(f"cd /root; apt-get -y install ./{Path(package).name}")
        root.sh(f"echo CRONLOCK_BACKEND=redis://{redis.address} >>/etc/cronlock.conf")
        root.run("sh", "-c", "cat >/etc/cron.d/hello", stdin=f"{_LINE}\n")
    ran = fleet.shared / "ran"
    ran.touch()
    for root in roots:
        root.start("cron", "-f", "-L", "15")
    try:
        for tick in range(1, _TICKS + 1):
            for root in roots:
                eventually(partial(lambda root, tick: _fired(root) >= tick, root, tick), "cron fires", _LIMIT)
                eventually(partial(_is_idle, root), "all that cron started ended", _LIMIT)
            assert len(ran.read_text().splitlines()) == tick
    finally:
        for root in roots:
            print(root.machine.name, root.machine.output(), root.machine.syslog(), sep="\n")
    # No run printed anything, so cron had nothing to mail.
    complaints = ("discarding output", "MAIL", "failed with exit status")
    said = [message for root in roots for _, message in root.machine.syslog()]
    assert not [message for message in said if any(words in message for words in complaints)]
    assert set(ran.read_text().split()) <= {root.machine.name for root in roots}
