"""DynamoDB and clocks that are wrong: no two runs at once, none too early, and a run that is corrected or refused.

The wall clock is wrong, never AWS's: emulators tell the true time. `Gate` refuses requests whose time is off
by more than five minutes, as AWS does; without it a clock can be off by anything.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronlock.engines.dynamodb.backend import DynamoDBBackend
from cronlock.engines.dynamodb.item import SLACK, State
from cronlock.engines.wire.aws import ServerTime
from cronlock.errors import BackendUnavailable
from cronlock.lease.clock import SystemClock
from cronlock.lease.timing import deadline as deadline_of
from cronlock.lease.vocabulary import HELD, HOLD, Conflict, Grant
from cronlock.testing import LONG, eventually, fresh_key, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.aws import ENVIRON, MinistackServer
from labs.servers.aws_gate import Gate
from labs.servers.process import need

from .dynamodb_nodes import WrongClock, item, open_node, put

#: Seconds: under what AWS refuses, and over it.
_OFF = (-600.0, -240.0, -30.0, 30.0, 240.0, 600.0)
_EITHER = pytest.mark.parametrize("ahead", _OFF)


@pytest.fixture(scope="module")
def server() -> Iterator[MinistackServer]:
    """One emulator with a table."""
    with MinistackServer() as running:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ENVIRON.items():
                patch.setenv(name, value)
            node = open_node(running.url())
            node.table.create(node.service.deadline())
            node.close()
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client needs in its environment, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def gate(server: MinistackServer) -> Iterator[Gate]:
    """What AWS has in front."""
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"]) as standing:
        yield standing


@pytest.fixture(params=["gate", "no gate"])
def way(request: pytest.FixtureRequest, server: MinistackServer, gate: Gate) -> str:
    """The URL by which the node with the wrong clock asks."""
    return f"dynamodb://cronlock?endpoint={gate.endpoint}" if request.param == "gate" else server.url()


@pytest.fixture
def node(server: MinistackServer) -> Iterator[DynamoDBBackend]:
    """A node whose clock is right."""
    backend = open_node(server.url())
    yield backend
    backend.close()


@pytest.fixture
def key() -> str:
    """A key that nobody used."""
    return fresh_key()


def _age(url: str, key: str, seconds: float) -> None:
    """Let a released key's hold have so many seconds left."""
    put(url, key, hold=time.time() + seconds)


@_EITHER
def test_run_is_corrected(way: str, server: MinistackServer, node: DynamoDBBackend, key: str, ahead: float) -> None:
    """Whatever the clock of a node says, its lease and its hold end by AWS's, and it is told."""
    wrong = open_node(way, ahead=ahead)
    grant = granted(wrong.acquire(make_claim(key, ttl=100.0, hold=50.0)))
    found = item(server.url(), f"cronlock:{key}")
    now = time.time()
    assert now + 100.0 - 20.0 < float(found["lapse"]["N"]) < now + 100.0 + 3.0
    assert now + 50.0 - 20.0 < float(found["hold"]["N"]) < now + 50.0 + 3.0
    assert 70.0 < refused(node.acquire(make_claim(key)), HELD).remaining <= 103.0
    assert wrong.renew(grant)
    assert float(item(server.url(), f"cronlock:{key}")["lapse"]["N"]) > now + 97.0
    assert wrong.release(grant, make_ending(), keep_hold=True)
    assert 20.0 < refused(node.acquire(make_claim(key)), HOLD).remaining <= 53.0
    record = node.read(key)
    assert record is not None
    assert record.last is not None
    assert now - 20.0 < record.last.started_at <= (record.last.ended_at or 0.0) < time.time() + 3.0
    wrong.close()


@pytest.mark.parametrize("ahead", [-240.0, 240.0])
def test_wrong_clock_is_said(server: MinistackServer, key: str, ahead: float) -> None:
    """A run that was corrected says by how much its clock is off, and what to do."""
    wrong = open_node(server.url(), ahead=ahead)
    granted(wrong.acquire(make_claim(key)))
    (notice,) = wrong.notices
    assert f" s {'ahead of' if ahead > 0 else 'behind'} AWS's: set it" in notice
    assert 238 <= int(notice.partition("about ")[2].partition(" s ")[0]) <= 242
    wrong.close()


@_EITHER
def test_hold_is_respected(way: str, server: MinistackServer, node: DynamoDBBackend, key: str, ahead: float) -> None:
    """A node whose clock is ahead does not take a key before its hold is over, and leaves the hold as it is."""
    first = granted(node.acquire(make_claim(key, hold=20.0, program="first")))
    assert node.release(first, make_ending(), keep_hold=True)
    wrong = open_node(way, ahead=ahead)
    claim = make_claim(key, hold=LONG)
    conflict = refused(wrong.acquire(claim), HOLD)
    assert 0 < conflict.remaining <= 23.0
    assert conflict.run is not None
    assert conflict.run.owner == first.claim.owner
    record = node.read(key)
    assert record is not None
    assert record.run is None
    assert 0 < record.hold_remaining <= 20.0
    # What is over by AWS's clock is over, whatever the node's own says.
    _age(server.url(), key, -4.0)
    granted(wrong.acquire(make_claim(key)))
    wrong.close()


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
def test_dead_are_not_taken_over_too_early(way: str, node: DynamoDBBackend, ahead: float) -> None:
    """A dead run's key is taken over by AWS's clock, whose ever is wrong: the holder's or the taker's."""
    for holder, taker in ((open_node(way, ahead=ahead), node), (node, open_node(way, ahead=ahead))):
        one = fresh_key()
        sent = time.monotonic()
        grant = granted(holder.acquire(make_claim(one, ttl=2.0)))
        believed_until = deadline_of(sent, grant.ttl, holder.traits.granularity)
        answers: list[Grant | Conflict] = []

        def take(by: DynamoDBBackend = taker, what: str = one, into: list[Grant | Conflict] = answers) -> bool:
            into.append(by.acquire(make_claim(what)))
            return isinstance(into[-1], Grant)

        eventually(take, "the lease lapsed", pause=0.1)
        assert time.monotonic() >= believed_until
        assert not holder.renew(grant)


@pytest.mark.parametrize("ahead", [-240.0, 240.0])
@pytest.mark.parametrize("hold", [0.0, 60.0])
def test_lost_answer_to_a_wrong_clock(
    server: MinistackServer, node: DynamoDBBackend, key: str, ahead: float, hold: float
) -> None:
    """What was written by a wrong clock, and not heard of, is put right when it is asked for again."""
    first = granted(node.acquire(make_claim(key, hold=20.0)))
    assert node.release(first, make_ending(), keep_hold=True)
    with Proxy(server.port) as proxy:
        wrong = open_node(server.url(port=proxy.port), 1.0, ahead=ahead)
        claim = make_claim(key, ttl=100.0, hold=hold)
        proxy.drop_replies()
        with pytest.raises(BackendUnavailable):
            wrong.acquire(claim)
        proxy.pass_all()
        answer = wrong.acquire(claim)
        # Ahead it took a key that is not free yet; behind it took nothing.
        assert refused(answer, HOLD).remaining <= 23.0
        _age(server.url(), key, -1000.0)
        claim = make_claim(key, ttl=100.0, hold=hold)
        wrong = open_node(server.url(port=proxy.port), 1.0, ahead=ahead)
        proxy.drop_replies()
        with pytest.raises(BackendUnavailable):
            wrong.acquire(claim)
        proxy.pass_all()
        grant = granted(wrong.acquire(claim))
        now, found = time.time(), item(server.url(), f"cronlock:{key}")
        assert now + 80.0 < float(found["lapse"]["N"]) < now + 103.0
        assert float(found["hold"]["N"] if "hold" in found else 0.0) < now + hold + 3.0
        if hold:
            assert float(found["hold"]["N"]) > now + hold - 20.0
        assert wrong.renew(grant)
        wrong.close()


def test_lost_answer_to_a_clock_a_little_behind(server: MinistackServer) -> None:
    """A clock that is too far behind by tenths of a second is not taken for a right one since an answer was lost."""
    with Proxy(server.port) as proxy:
        for tenths in range(16, 26):
            wrong = open_node(server.url(port=proxy.port), 0.5, ahead=-tenths / 10)
            claim = make_claim(fresh_key(), ttl=100.0)
            asked = time.time()
            proxy.drop_replies()
            with pytest.raises(BackendUnavailable):
                wrong.acquire(claim)
            proxy.pass_all()
            granted(wrong.acquire(claim))
            # What it believes in begins when it asked first; others count the slack on top.
            assert float(item(server.url(), f"cronlock:{claim.key}")["lapse"]["N"]) + SLACK > asked + 100.0
            wrong.close()


def test_dead_run_of_a_clock_ahead_stands_for_no_tick(server: MinistackServer, node: DynamoDBBackend, key: str) -> None:
    """What a clock that is ahead wrote into a hold never began: the hold is what keeps others out."""
    first = granted(node.acquire(make_claim(key, hold=60.0)))
    assert node.release(first, make_ending(), keep_hold=True)
    with Proxy(server.port) as proxy:
        wrong = open_node(server.url(port=proxy.port), 1.0, ahead=240.0)
        proxy.drop_replies()
        with pytest.raises(BackendUnavailable):
            wrong.acquire(make_claim(key))
        wrong.close()
    conflict = refused(node.acquire(make_claim(key)), HOLD)
    assert conflict.run is not None
    assert conflict.run.owner == first.claim.owner
    assert conflict.remaining <= 63.0
    dead = node.read(key)
    assert dead is not None
    assert dead.run is not None
    refused(node.acquire(make_claim(key, standby_for=dead.run.tick)), HOLD)


def test_run_that_began_when_a_hold_was_over(server: MinistackServer, key: str) -> None:
    """A run that took the key just after a hold has it as any other, also if its clock is ahead by what is borne."""
    first = granted(open_node(server.url()).acquire(make_claim(key, hold=60.0)))
    assert open_node(server.url()).release(first, make_ending(), keep_hold=True)
    _age(server.url(), key, -1.2)
    grant = granted(open_node(server.url(), ahead=0.9).acquire(make_claim(key)))
    for tick in (None, grant.claim.owner):
        conflict = refused(open_node(server.url()).acquire(make_claim(key, standby_for=tick)), HELD)
        assert conflict.run is not None
        assert conflict.run.owner == grant.claim.owner


@pytest.mark.parametrize("ignore_hold", [False, True])
def test_answers_without_a_date(gate: Gate, key: str, ignore_hold: bool) -> None:
    """Where nothing bounds this machine's clock, nothing runs by it, a person's run neither."""
    gate.dated = False
    undated = open_node(f"dynamodb://cronlock?endpoint={gate.endpoint}")
    with pytest.raises(BackendUnavailable, match=r"no Date, so no clock can be trusted"):
        undated.acquire(make_claim(key, ignore_hold=ignore_hold))
    undated.close()


def test_renewal_after_boot_time_stood_still(server: MinistackServer, key: str) -> None:
    """A renewal whose answer shows that its end was counted from too early is made again, with the right one."""
    node, clock = open_node(server.url()), WrongClock(0.0)
    node.service.use_clock(clock)
    grant = granted(node.acquire(make_claim(key, ttl=100.0)))
    clock.lost = 30.0
    asked = time.time()
    assert node.renew(grant)
    assert float(item(server.url(), f"cronlock:{key}")["lapse"]["N"]) + SLACK > asked + 100.0
    clock.losing = 3.0
    with pytest.raises(BackendUnavailable, match="run apart"):
        node.renew(grant)
    node.close()


def test_renewal_has_one_time_limit(server: MinistackServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that asks twice has no longer for both than for one."""
    node, clock = open_node(server.url()), WrongClock(0.0)
    node.service.use_clock(clock)
    grant = granted(node.acquire(make_claim(key, ttl=100.0)))
    write, limits = node.table.write, []

    def note(key: str, old: State, new: State, deadline: float) -> tuple[bool, State]:
        limits.append(deadline)
        return write(key, old, new, deadline)

    monkeypatch.setattr(node.table, "write", note)
    clock.lost = 30.0
    assert node.renew(grant)
    assert len(limits) == 2
    assert len(set(limits)) == 1
    node.close()


def test_clocks_all_over_the_place(gate: Gate) -> None:
    """Nodes whose clocks are anything take one key from each other, dying now and then: never two at once."""
    random.seed(7)
    key, ttl, ends = fresh_key(), 2.0, time.monotonic() + 12.0
    runs: list[tuple[float, float, int]] = []
    failures: list[BaseException] = []

    def live(number: int) -> None:
        ahead = _OFF[number % len(_OFF)] * random.random() * (number % 3 != 0)
        node = open_node(f"dynamodb://cronlock?endpoint={gate.endpoint}", ahead=ahead)
        while time.monotonic() < ends:
            sent = time.monotonic()
            answer = node.acquire(make_claim(key, ttl=ttl))
            if isinstance(answer, Grant):
                began = time.monotonic()
                over = deadline_of(sent, ttl, node.traits.granularity)
                time.sleep(random.random() * 0.4)
                # A third of them die: what they believe goes on until their deadline.
                dies = random.random() < 0.3
                end = over if dies else min(time.monotonic(), over)
                if not dies and time.monotonic() < over:
                    node.release(answer, make_ending(), keep_hold=False)
                if began < over:
                    runs.append((began, end, answer.fence or 0))
            time.sleep(random.random() * 0.2)
        node.close()

    def keep(number: int) -> None:
        try:
            live(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    runs.sort()
    assert len(runs) > 3
    for before, after in zip(runs, runs[1:]):
        assert before[1] <= after[0], "two runs at once"
        assert before[2] < after[2]


def test_wrong_clock_is_refused_with_the_reason(gate: Gate, key: str) -> None:
    """Where AWS refuses the corrected time as well, it is the clock that is said to be wrong."""
    wrong = open_node(f"dynamodb://cronlock?endpoint={gate.endpoint}", ahead=600.0)
    gate.refuse("InvalidSignatureException", "Signature not yet current: 1 is still later than 2", times=2)
    with pytest.raises(BackendUnavailable, match=r"refuses this machine's clock .* set it"):
        wrong.acquire(make_claim(key))
    assert gate.actions == ["UpdateItem", "UpdateItem"]
    wrong.close()


def test_suspended_between_two_requests(server: MinistackServer, key: str) -> None:
    """A wall clock that is set while a run goes on moves nothing: what counts is boot time and AWS's."""
    node = open_node(server.url())
    clock = WrongClock(0.0)
    node.service.use_clock(clock)
    grant = granted(node.acquire(make_claim(key, ttl=100.0)))
    for ahead in (-5000.0, 5000.0):
        clock.ahead = ahead
        assert node.renew(grant)
        assert abs(float(item(server.url(), f"cronlock:{key}")["lapse"]["N"]) - time.time() - 100.0) < 20.0
    node.close()


def test_bounds_of_the_servers_time() -> None:
    """The bounds hold AWS's time for sure, whatever part of its second an answer came from."""

    class Clock(SystemClock):
        boot = 100.0

        def now(self) -> float:
            return self.boot

        def wall(self) -> float:
            return 1e9

    clock = Clock()
    for number in range(200):
        truth, times = 1e9 + 5000.0 + number * 0.137, ServerTime(clock)
        clock.boot = 100.0
        for took in (0.01, 0.4, 1.7):
            sent = clock.boot
            clock.boot += took
            truth += took
            # Made somewhere on the way, and told in whole seconds.
            times.note(sent, clock.boot, float(int(truth - took * 0.3)))
            assert times.earliest() <= truth <= times.latest()
            assert times.latest() - times.earliest() <= 1.0 + took + 0.01
            clock.boot += 3.0
            truth += 3.0
            assert times.earliest() <= truth <= times.latest()


def test_bounds_follow_a_clock_that_was_set() -> None:
    """Answers that contradict each other make an end of the older one."""
    clock = SystemClock()
    times = ServerTime(clock)
    now = clock.now()
    times.note(now, now, 1e9)
    times.note(now, now, 2e9)
    assert 2e9 - 1 <= times.earliest() <= times.now() <= times.latest() <= 2e9 + 2


# The real program, on a machine whose wall clock is wrong


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What moves the wall clock of a program, and nothing else."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).parents[3] / "chaos/systems/clock.c"
    command = [need("cc", "gcc libc6-dev"), "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("ahead", [-600, 600])
def test_run_on_a_machine_whose_clock_is_wrong(
    server: MinistackServer, gate: Gate, node: DynamoDBBackend, tmp_path: Path, shim: Path, key: str, ahead: int
) -> None:
    """Its runs are corrected: one runs, longer than three ttls, keeps others out, and the next one is skipped."""
    (tmp_path / "clock").write_text(str(ahead))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")},
        "LD_PRELOAD": str(shim),
        "TORTURE_CLOCK": str(tmp_path / "clock"),
        "CRONLOCK_STATE_DIR": str(tmp_path),
        "CRONLOCK_CONFIG": os.devnull,
        "CRONLOCK_BACKEND": f"dynamodb://cronlock?endpoint={gate.endpoint}",
    }
    line = [sys.executable, "-m", "cronlock", "run", "-v", "--key", key, "--ttl", "4", "--min-hold", "60", "--"]
    mark = tmp_path / "began"
    first = subprocess.Popen(
        [*line, "sh", "-c", f"date +%s > {mark}; sleep 13"], env=environment, stderr=subprocess.PIPE, text=True
    )
    eventually(mark.exists, "the command runs", pause=0.05)
    while first.poll() is None:
        answer = node.acquire(make_claim(key))
        assert isinstance(answer, Conflict)
        assert answer.why in (HELD, HOLD)
        time.sleep(0.2)
    assert first.stderr is not None
    said = first.stderr.read()
    assert first.returncode == 0, said
    assert "lost" not in said
    conflict = refused(node.acquire(make_claim(key)), HOLD)
    assert 20.0 < conflict.remaining <= 63.0 - 13.0
    second = subprocess.run([*line, "false"], env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 0
    assert "skipped" in second.stderr
    put(server.url(), key, hold=time.time() - 10.0)
    third = subprocess.run([*line, "false"], env=environment, capture_output=True, text=True, timeout=60)
    assert third.returncode == 1, third.stderr
