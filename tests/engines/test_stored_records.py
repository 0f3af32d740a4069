"""A record as this version stores it, word by word: later versions must read it, and work on it.

The engines' own tests have what they store beside it, and foreign data.
"""

from __future__ import annotations

from typing import Any

import pytest

from cronlock.errors import ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.state import decode, encode
from cronlock.lease.vocabulary import DIED, ENDED, EXITED, HELD, HOLD, NOT_STARTED, Pause, Run, Stop
from cronlock.testing import granted, make_claim, make_ending, record_of, refused
from cronlock.testing.simulated import SimulatedCell, SimulatedClock, SimulatedServer, SimulatedStore

#: web4 runs in place of web3, which died; before that web2 could not start the command.
RECORD = (
    b"cronlock=2\t0f1e2d3c4b5a6978\n"
    b"fence\t1795451907595759\n"
    b"run\t:0000000000000004\tweb4\t4004\tback%25up.sh\t1795451907.596\t300\t1795451907595759"
    b"\t\t\t\tweb3:4003:0000000000000003\t1795451907595160\t7.5\n"
    b"past\t:0000000000000003\tweb3\t4003\tna%C3%AFve%09%0A\t1795451907.595\t300\t1795451907595160\t\tdied\n"
    b"past\tsomebody\tweb2\t4002\tbackup.sh\t1795451907.592\t60\t1795451907592466\t0.001\tnot-started\t127\n"
    b"success\t:0000000000000001\tweb1\t4001\tbackup.sh\t1795451907.589\t300.5\t1795451907589059\t3600\texited\t0\n"
)
#: The same, and alice paused it for an hour.
PAUSED_RECORD = RECORD + b"paused\t1795455508\t1795451908\talice\tna%C3%AFve\ta migration, tonight\n"
#: Of a key that a run gave back, and nobody used before.
MADE_RECORD = b"cronlock=2\t0f1e2d3c4b5a6978\nfence\t7\nmade\t1795451908.5\n"
#: The same, and she asked web4 to end.
STOP_RECORD = PAUSED_RECORD + b"stop\tweb4:4004:0000000000000004\t1795451909\talice\tdesk\tweb3:4003:0000000000000003\n"
#: The same by a later version: with lines and fields that this one knows nothing of.
LATER = (
    RECORD.replace(b"fence\t", b"colour\tred\nfence\t", 1).replace(b"\t7.5\n", b"\t7.5\tblue\t\t7\n", 1) + b"later\n"
)


def _run(number: int, program: str, started_at: float, fence: int, **more: Any) -> Run:
    """Return the run of the host "webNUMBER"."""
    host, pid = f"web{number}", 4000 + number
    values = {"owner": f"{host}:{pid}:{number:016}", "ttl": 300.0, **more}
    return Run(host=host, pid=pid, program=program, started_at=started_at, fence=fence, **values)


_TIME = 1795451907
WEB3 = _run(3, "naïve\t\n", _TIME + 0.595, _TIME * 10**6 + 595160, outcome=DIED)
WEB4 = _run(
    4,
    "back%up.sh",
    _TIME + 0.596,
    _TIME * 10**6 + 595759,
    stands_for=WEB3.owner,
    took_over=_TIME * 10**6 + 595160,
    poll=7.5,
)
_NOT_STARTED = {"ended_at": _TIME + 0.593, "outcome": NOT_STARTED, "status": 127}
WEB2 = _run(2, "backup.sh", _TIME + 0.592, _TIME * 10**6 + 592466, owner="somebody", ttl=60.0, **_NOT_STARTED)
_SUCCESS = {"ended_at": _TIME + 3600.589, "outcome": EXITED, "status": 0}
WEB1 = _run(1, "backup.sh", _TIME + 0.589, _TIME * 10**6 + 589059, ttl=300.5, **_SUCCESS)


def _stored(data: bytes, lease: float = 300.0, hold: float = 900.0) -> Leases:
    """Return a node of a server that has `data` in the cell of "job"."""
    clock = SimulatedClock()
    server = SimulatedServer(clock)
    assert server.put("job", SimulatedCell(version=0), data, lease, hold)
    return Leases(SimulatedStore(server), clock)


@pytest.mark.parametrize("data", [RECORD, LATER])
def test_it_is_read(data: bytes) -> None:
    """Every field comes back; what is unknown is passed over."""
    state = decode(data)
    assert (state.fence, state.run, state.last_success()) == (WEB4.fence, WEB4, WEB1)
    assert state.history() == [WEB3, WEB2]


@pytest.mark.parametrize("data", [RECORD, PAUSED_RECORD, STOP_RECORD, MADE_RECORD])
def test_it_is_written(data: bytes) -> None:
    """As it was, but for the part that is random."""
    assert encode(decode(data)).split(b"\n")[1:] == data.split(b"\n")[1:]


@pytest.mark.parametrize("data", [PAUSED_RECORD, PAUSED_RECORD[:-1] + b"\tblue\t7\n"])
def test_its_pause_is_read(data: bytes) -> None:
    """All of it; what is unknown behind it is passed over."""
    pause = Pause("alice", "na\u00efve", "a migration, tonight", at=1795451908.0, until=1795455508.0)
    assert decode(data).paused == pause


@pytest.mark.parametrize("data", [STOP_RECORD, STOP_RECORD[:-1] + b"\tblue\t7\n"])
def test_its_stop_is_read(data: bytes) -> None:
    """Likewise."""
    assert decode(data).stop == Stop(WEB4.owner, "alice", "desk", at=1795451909.0, tick=WEB3.owner)


@pytest.mark.parametrize("data", [RECORD, LATER])
def test_it_is_worked_on(data: bytes) -> None:
    """Its lease is respected, its owner may end it, and the next run has a higher fence and its history."""
    node = _stored(data)
    refused(node.acquire(make_claim("job")), HELD)
    held = granted(node.acquire(make_claim("job", owner=WEB4.owner)))
    assert (held.fence, held.took_over) == (WEB4.fence, WEB4.took_over)
    assert node.release(held, make_ending(), keep_hold=True)
    refused(node.acquire(make_claim("job", standby_for=WEB3.owner)), ENDED)
    refused(node.acquire(make_claim("job")), HOLD)
    following = granted(node.acquire(make_claim("job", ignore_hold=True)))
    assert (following.fence or 0) > (WEB4.fence or 0)
    record = record_of(node, "job")
    assert [(run.host, run.outcome) for run in record.history] == [
        ("web4", EXITED),
        ("web3", DIED),
        ("web2", NOT_STARTED),
    ]


def test_it_is_taken_over() -> None:
    """Once its lease lapsed, by a standby of its tick."""
    node = _stored(RECORD, lease=0.0)
    heir = granted(node.acquire(make_claim("job", standby_for=WEB3.owner)))
    assert heir.took_over == WEB4.fence


def test_what_was_stored_before_is_left_alone() -> None:
    """A record of the unreleased layout is reported in one line with a remedy."""
    node = _stored(b"cronlock=1\nfence=7\nowner=web1:4001:1\n")
    with pytest.raises(ForeignValue, match=r"^simulated: job: a record of an older, .*; nothing was changed: remove"):
        node.acquire(make_claim("job"))
