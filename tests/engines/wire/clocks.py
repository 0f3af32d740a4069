"""Wrong clocks, on services that are judged by the Date of their answers: no two runs at once, none too early.

The wall clock is wrong, never the service's: emulators tell the true time. `Gate` refuses requests whose time is off
by more than five minutes, as AWS does; without it a clock can be off by anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from cronlock.engines.wire.dated import DatedCell
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.timing import deadline as deadline_of
from cronlock.lease.vocabulary import HELD, HOLD, Conflict, Grant
from cronlock.testing import eventually, fresh_key, granted, make_claim, make_ending, record_of, refused
from cronlock.testing.cells import read
from cronlock.testing.cells import try_swap as swap
from labs.servers.aws import EMULATORS, ENVIRON, AwsServer
from labs.servers.aws_gate import Gate
from labs.servers.process import need

from .aws_nodes import WrongClock, a_node, open_dated
from .aws_suite import Suite

#: Seconds: under what AWS refuses, and over it.
_OFF = (-600.0, -240.0, -30.0, 30.0, 240.0, 600.0)
_EITHER = pytest.mark.parametrize("ahead", _OFF)


class Clocks:
    """A service's tests; it says how its ends are looked at behind everybody's back."""

    suite: ClassVar[type[Suite]]
    #: The service's action that reads a key, and the code and text of its refusal for a wrong time.
    look: ClassVar[str]
    too_late: ClassVar[tuple[str, str]] = (
        "InvalidSignatureException",
        "Signature not yet current: 1 is still later than 2",
    )

    def ends(self, server: AwsServer, key: str) -> tuple[float, float]:
        """Return when lease and hold of a key end, as it is written."""
        raise NotImplementedError

    def set_hold(self, server: AwsServer, key: str, end: float) -> None:
        """Write the end of a key's hold."""
        raise NotImplementedError

    @pytest.fixture(scope="class", params=sorted(EMULATORS))
    @classmethod
    def server(cls, request: pytest.FixtureRequest) -> Iterator[AwsServer]:
        """Each emulator, with what runs need."""
        with EMULATORS[request.param]() as running:
            cls.suite.make(cls.suite.url(running.endpoint))
            yield running

    @pytest.fixture
    def gate(self, server: AwsServer) -> Iterator[Gate]:
        """AWS's checks of signatures and permissions, before the server."""
        with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], service=self.suite.service) as standing:
            yield standing

    @pytest.fixture(params=["gate", "no gate"])
    def way(self, request: pytest.FixtureRequest, server: AwsServer, gate: Gate) -> str:
        """The URL by which the node with the wrong clock asks."""
        return self.suite.url(gate.endpoint) if request.param == "gate" else self.suite.url(server.endpoint)

    @pytest.fixture
    def node(self, server: AwsServer) -> Iterator[Leases]:
        """A node whose clock is right."""
        one = a_node(self.suite.url(server.endpoint))
        yield one
        one.close()

    @_EITHER
    def test_ends_are_by_the_clock_of_aws(
        self, way: str, server: AwsServer, node: Leases, key: str, ahead: float
    ) -> None:
        """Whatever the clock of a node says, its lease, its hold and its record are by AWS's."""
        wrong = a_node(way, ahead=ahead)
        before = time.time()
        grant = granted(wrong.acquire(make_claim(key, ttl=100.0, hold=50.0)))
        after = time.time()
        # AWS's clock is known to the second that its Date tells, and to the time that the first answer took.
        most = 1.5 + after - before
        assert before + 100.0 <= self.ends(server, key)[0] < after + 100.0 + most
        assert before + 50.0 <= self.ends(server, key)[1] < after + 50.0 + most
        assert 80.0 < refused(node.acquire(make_claim(key)), HELD).remaining <= 100.5 + most
        before = time.time()
        assert wrong.renew(grant)
        assert before + 100.0 <= self.ends(server, key)[0] < time.time() + 100.0 + most
        assert wrong.release(grant, make_ending(), keep_hold=True)
        assert 30.0 < refused(node.acquire(make_claim(key)), HOLD).remaining <= 50.5 + most
        record = record_of(node, key)
        assert record.last is not None
        assert after - 20.0 < record.last.started_at <= (record.last.ended_at or 0.0) < time.time() + 0.5 + most
        wrong.close()

    @pytest.mark.parametrize("ahead", [-240.0, -2.0, 2.0, 240.0])
    def test_wrong_clock_is_said(self, server: AwsServer, key: str, ahead: float) -> None:
        """A run says by how much its clock is off, if that is much, and what to do; a skip says nothing."""
        wrong = a_node(self.suite.url(server.endpoint), ahead=ahead)
        grant = granted(wrong.acquire(make_claim(key)))
        assert wrong.renew(grant)
        said = [f" s {'ahead of' if ahead > 0 else 'behind'} AWS's: set it" in notice for notice in wrong.notices]
        assert said == ([True] if abs(ahead) > 5 else [])
        if said:
            assert 238 <= int(wrong.notices[0].partition("about ")[2].partition(" s ")[0]) <= 242
        other = a_node(self.suite.url(server.endpoint), ahead=ahead)
        refused(other.acquire(make_claim(key)), HELD)
        assert other.notices == []
        wrong.close()
        other.close()

    @_EITHER
    def test_hold_is_respected(self, way: str, server: AwsServer, node: Leases, key: str, ahead: float) -> None:
        """A node whose clock is wrong takes no key before its hold is over by AWS's clock, and takes it then."""
        first = granted(node.acquire(make_claim(key, hold=20.0, program="first")))
        assert node.release(first, make_ending(), keep_hold=True)
        wrong = a_node(way, ahead=ahead)
        assert 0 < refused(wrong.acquire(make_claim(key)), HOLD).remaining <= 22.0
        self.set_hold(server, key, time.time() - 4.2)
        granted(wrong.acquire(make_claim(key)))
        wrong.close()

    @pytest.mark.parametrize("ahead", [-600.0, 600.0])
    def test_dead_are_not_taken_over_too_early(self, way: str, node: Leases, ahead: float) -> None:
        """A dead run's key is taken over by AWS's clock, even if the holder's or the standby's is wrong."""
        for holder, taker in ((a_node(way, ahead=ahead), node), (node, a_node(way, ahead=ahead))):
            one = fresh_key()
            sent = time.monotonic()
            grant = granted(holder.acquire(make_claim(one, ttl=2.0)))
            believed_until = deadline_of(sent, grant.ttl, holder.traits.granularity)
            answers: list[Grant | Conflict] = []

            def take(by: Leases = taker, what: str = one, into: list[Grant | Conflict] = answers) -> bool:
                into.append(by.acquire(make_claim(what)))
                return isinstance(into[-1], Grant)

            eventually(take, "the lease lapsed", pause=0.1)
            assert time.monotonic() >= believed_until
            assert not holder.renew(grant)

    def test_answers_without_a_date(self, gate: Gate, key: str) -> None:
        """Where nothing bounds AWS's clock, nothing runs by it."""
        gate.dated = False
        undated, cell = open_dated(self.suite.url(gate.endpoint)), DatedCell()
        for work in (lambda: read(undated, key), lambda: swap(undated, key, cell, b"mine", lease=100.0)):
            with pytest.raises(BackendUnavailable, match="without a Date header"):
                work()
        assert gate.actions == [self.look] * 2
        undated.close()

    def test_renewal_after_boot_time_stood_still(self, server: AwsServer, key: str) -> None:
        """A swap is repeated if its reply shows that its ends were too early."""
        clock = WrongClock()
        store = open_dated(self.suite.url(server.endpoint), clock=clock)
        _, cell = swap(store, key, read(store, key), b"held", lease=100.0)
        clock.lost += 30.0
        asked = time.time()
        done, cell = swap(store, key, cell, b"held", lease=100.0, hold=50.0)
        assert (done, cell.lease) == (True, 100.0)
        assert self.ends(server, key)[0] >= asked + 100.0
        assert self.ends(server, key)[1] >= asked + 50.0
        assert ["clock jumped by" in notice for notice in store.notices] == [True]
        # Where no end is counted from now, it does not matter.
        clock.lost += 30.0
        done, cell = swap(store, key, cell, b"ended", lease=0.0)
        assert done
        clock.losing = 3.0
        with pytest.raises(BackendUnavailable, match="drift apart"):
            swap(store, key, cell, b"held", lease=100.0)
        store.close()

    def test_both_updates_have_one_time_limit(
        self, server: AwsServer, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A swap that asks twice has no longer for both than for one, and the second one is of what the first wrote."""
        clock = WrongClock()
        store = open_dated(self.suite.url(server.endpoint), clock=clock)
        _, cell = swap(store, key, read(store, key), b"held", lease=100.0)
        put, limits, versions = store.put, [], []

        def note(key: str, seen: DatedCell, cell: DatedCell, deadline: float) -> tuple[bool, DatedCell]:
            limits.append(deadline)
            done, there = put(key, seen, cell, deadline)
            versions.append((seen.version, there.version))
            return done, there

        monkeypatch.setattr(store, "put", note)
        clock.lost += 30.0
        assert swap(store, key, cell, b"held", lease=100.0)[0]
        assert len(limits) == 2
        assert len(set(limits)) == 1
        assert versions[1][0] == versions[0][1]
        store.close()

    def test_wrong_clock_is_refused_with_the_reason(self, gate: Gate, key: str) -> None:
        """Where AWS refuses the corrected time as well, it is the clock that is said to be wrong."""
        wrong = a_node(self.suite.url(gate.endpoint), ahead=600.0)
        gate.refuse(*self.too_late, times=2)
        with pytest.raises(BackendUnavailable, match=r"refuses this machine's clock .* set it"):
            wrong.acquire(make_claim(key))
        assert gate.actions == [self.look] * 2
        wrong.close()

    def test_wall_clock_that_is_set_during_a_run(self, server: AwsServer, key: str) -> None:
        """It moves nothing: what counts is boot time and AWS's."""
        clock = WrongClock()
        store = open_dated(self.suite.url(server.endpoint), clock=clock)
        _, cell = swap(store, key, read(store, key), b"held")
        for ahead in (-5000.0, 5000.0):
            clock.ahead = ahead
            asked = time.time()
            done, cell = swap(store, key, cell, b"held", lease=100.0)
            assert done
            assert asked + 100.0 <= self.ends(server, key)[0] < time.time() + 102.0
        store.close()

    @pytest.fixture(scope="class")
    @classmethod
    def shim(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A library that moves the wall clock of a program, and nothing else."""
        library = tmp_path_factory.mktemp("clock") / "clock.so"
        source = Path(__file__).parents[3] / "chaos/systems/clock.c"
        command = [need("cc", "gcc libc6-dev"), "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        return library

    @pytest.mark.parametrize("ahead", [-600, 600])
    def test_run_on_a_machine_whose_clock_is_wrong(
        self, server: AwsServer, gate: Gate, node: Leases, tmp_path: Path, shim: Path, key: str, ahead: int
    ) -> None:
        """Its runs are corrected: one runs, longer than three ttls, keeps others out, and the next one is skipped."""
        (tmp_path / "clock").write_text(str(ahead))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")},
            "LD_PRELOAD": str(shim),
            "TORTURE_CLOCK": str(tmp_path / "clock"),
            "CRONLOCK_STATE_DIR": str(tmp_path),
            "CRONLOCK_CONFIG": os.devnull,
            "CRONLOCK_BACKEND": self.suite.url(gate.endpoint),
        }
        options = ("--key", key, "--ttl", "4", "--kill-after", "0.3", "--min-hold", "60")
        line = [sys.executable, "-m", "cronlock", "run", "-v", *options, "--"]
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
        self.set_hold(server, key, time.time() - 10.0)
        third = subprocess.run([*line, "false"], env=environment, capture_output=True, text=True, timeout=60)
        assert third.returncode == 1, third.stderr
