"""Operations on a backend whose server or files contain anything, and their output for people."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cronlock.commands.views import prometheus, state, table
from cronlock.errors import BackendError, ConfigError
from cronlock.lease import state as states
from cronlock.lease.describe import describe
from cronlock.lease.vocabulary import DIED, EXITED, LOST, Claim, Conflict, Ending, Grant, Record, Run, Watermark
from cronlock.run.log import as_text

from .data import Data
from .engine import expecting

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend

KEY = "billing"
OWNERS = ("me", "alpha-1-00ff", "")
_MOST_KEYS = 100


def a_claim(data: Data) -> Claim:
    """Return a claim of somebody whom the server may know."""
    watermark = Watermark(data.below(1000), float(data.below(100)), None if data.chance(2) else 1.0, 300.0)
    return Claim(
        key=KEY,
        owner=data.pick(OWNERS[:2]),
        host="alpha",
        pid=1,
        program="true",
        ttl=data.pick((2.0, 30.0, 300.0)),
        hold=data.pick((0.0, 45.0)),
        ignore_hold=data.chance(4),
        watermark=watermark if data.chance(2) else None,
        standby_for=data.pick(OWNERS[:2]) if data.chance(4) else None,
    )


def a_run(data: Data, text: Callable[[], str] | None = None) -> Run:
    """Return a run as a record may have it; `text` makes its names."""
    name = text or (lambda: data.pick(("alpha", "", "name\nof\thost", "%0A", "\udc80", "x" * 300, "\x1b[2J")))
    return Run(
        owner=data.pick(OWNERS[:2]) if data.chance(2) else name() or "x",
        host=name(),
        pid=data.number(),
        program=name(),
        started_at=float(data.pick((0, 1, 1_700_000_000, 999_999_999_999_999, -999_999_999_999_999))),
        ttl=float(data.pick((0, 1, 300, 999_999_999_999_999))),
        fence=None if data.chance(4) else data.number(),
        ended_at=None if data.chance(2) else float(data.pick((0, 1_700_000_100, 999_999_999_999_999))),
        outcome=data.pick((None, EXITED, LOST, DIED, "else")),
        status=None if data.chance(3) else data.number(),
        stands_for=None if data.chance(2) else data.pick(OWNERS[:2]),
        took_over=None if data.chance(2) else data.number(),
    )


def a_record(data: Data) -> bytes:
    """Return what may be recorded of a key."""
    past = tuple(states.run_to_line(run) for run in data.several(3, lambda: a_run(data)))
    fence = data.number() if data.chance(8) else data.below(500)
    return states.encode(states.State(fence=fence, run=a_run(data) if data.chance(2) else None, past=past))


def operate(data: Data, backend: Backend) -> None:
    """Call the backend's methods, and show the results."""
    claim = a_claim(data)
    for _ in range(1 + data.below(3)):
        with expecting(BackendError, ConfigError):
            _operate(data, backend, claim)
    backend.close()
    for notice in backend.notices:
        assert "\n" not in notice


def _operate(data: Data, backend: Backend, claim: Claim) -> None:
    kind = data.below(7)
    if kind <= 2:
        answer = backend.acquire(claim)
        if isinstance(answer, Conflict):
            assert describe(answer)
            assert answer.remaining >= 0
            return
        show_run(answer.previous)
        assert answer.ttl > 0
        with expecting(BackendError):
            assert isinstance(backend.renew(answer), bool)
        _finish(data, backend, answer)
    elif kind == 3:
        show(backend.read(KEY))
    elif kind == 4:
        backend.abandon(claim)
    elif kind == 5:
        for key in itertools.islice(backend.keys(), _MOST_KEYS):
            assert table.printable(key).isprintable()
    else:
        backend.force_release(KEY, data.pick(OWNERS))


def _finish(data: Data, backend: Backend, grant: Grant) -> None:
    if data.chance(3):
        backend.abandon(grant.claim)
    else:
        backend.release(grant, Ending(EXITED, data.below(256), time.time()), keep_hold=data.chance(2))


def show(found: Record | None) -> None:
    """Show a record in every format."""
    now, record = time.time(), found or Record()
    lines = table.status_table([(KEY, record)], now)
    lines += table.history_table([(KEY, run) for run in record.runs], now, states={KEY: state.state_of(record)})
    lines += table.warnings([(KEY, record)], now)
    show_run(record.run)
    show_run(record.last)
    bad = [line for line in lines if "\n" in line or "\x1b[2J" in line]
    assert not bad, bad
    assert prometheus.exposition([(KEY, record)])
    assert json.loads(json.dumps(state.key_as_json(KEY, record)))


def show_run(run: Run | None) -> None:
    """Show a run as logs do."""
    if run is not None:
        assert "\n" not in as_text({"holder": table.printable(run.host), "holder_pid": run.pid})
        assert describe(Conflict("held", remaining=1.0, run=run))
        assert describe(Conflict("ended", remaining=1.0, run=run))
