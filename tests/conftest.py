"""Set-up before pytest loads the tests, and the order of tests."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Other programs' messages are compared with text.
os.environ["LC_ALL"] = "C.UTF-8"
# On a busy machine anything takes long for once.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell starts what it puts into the background with the first two ignored, nohup(1) with the third, and every child
# would inherit that.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

#: Begun first, since they last: begun last, one of them would run alone at the end.
_FIRST = (
    "fleet/test_cron.py",
    "chaos/test_soak.py",
    "process/test_every_backend.py",
    "process/test_standby.py",
    "process/test_commands.py",
    "engines/dynamodb/test_dynamodb.py",
    "engines/s3/test_s3.py",
    "engines/etcd/test_etcd_ensemble.py",
    "engines/dynamodb/test_dynamodb_clocks.py",
    "engines/s3/test_s3_clocks.py",
    "engines/sqs",
    "fleet/test_takeover.py",
    "chaos/test_torture.py",
    "fuzz/test_fuzz.py",
    "process",
)
#: Those whose tests share nothing: any worker may run any of them.
_APART = {"chaos/test_torture.py", "chaos/test_mutants.py", "fleet/test_takeover.py", "fuzz/test_fuzz.py"}
#: In a test's name what it shares a server with, in process/ with those of other files.
_SERVER = re.compile(r"[-[](file|redis|memcached|zookeeper|etcd|postgresql|mysql|dynamodb|s3|sqs|moto|ministack)[]-]")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; otherwise keep the order."""
    here = Path(__file__).parent
    ranks = {here / name: rank for rank, name in enumerate(_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, ranks.get(item.path.parent, len(_FIRST))))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With --dist loadfile keep those together that share a server, and no others."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _shared(nodeid)

    return Scheduler(config, log)


def _shared(nodeid: str) -> str:
    """Return a name of what a test shares with others that are to run where it does."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    if file in _APART:
        return nodeid
    server = _SERVER.search(nodeid)
    return f"{'process' if server and file.startswith('process/') else file} {server[1] if server else ''}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name in one line what was left out for lack of root or of what a container may lack, and why."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        _, needs, what = str(report.longrepr[2]).partition("needs ")
        if needs:
            reason = needs + what.partition(":")[0]
            reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        why = "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items()))
        terminalreporter.write_line(f"{sum(reasons.values())} tests were left out ({why})")
