"""What pytest must know before it loads the tests, and the order in which it runs them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell starts what it puts into the background with the first two ignored, nohup(1) with the third, and every child
# would inherit that.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

#: Files that take a minute or more, the longest first: begun last, one of them would run alone at the end.
_LONG = (
    "chaos/test_torture.py",
    "process/test_standby.py",
    "process/test_every_backend.py",
    "process/test_commands.py",
    "fleet/test_takeover.py",
    "fuzz/test_fuzz.py",
    "engines/dynamodb/test_dynamodb.py",
    "engines/s3/test_s3.py",
    "engines/etcd/test_etcd_ensemble.py",
    "fleet/test_cron.py",
    "engines/sqs/test_sqs_losses.py",
    "engines/dynamodb/test_dynamodb_clocks.py",
    "engines/s3/test_s3_clocks.py",
    "engines/sqs/test_sqs.py",
    "process/test_leases.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long; otherwise keep the order."""
    here = Path(__file__).parent
    ranks = {here / name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(_LONG)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name in one line what was left out since it needs root."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "root" in str(report.longrepr)]
    if skipped:
        files = sorted({report.nodeid.partition("::")[0] for report in skipped})
        terminalreporter.write_line(f"{len(skipped)} tests need root and were left out, of {', '.join(files)}")
