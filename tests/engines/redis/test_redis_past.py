"""Redis: standby and history where the contract cannot look: what is read, how large it grows, what is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cronlock.engines.redis.backend import RedisBackend
from cronlock.errors import BackendUnavailable, GivenBack
from cronlock.lease.vocabulary import (
    DIED,
    ENDED,
    EXITED,
    FORGOTTEN,
    HELD,
    HISTORY,
    HOLD,
    LOST,
    TIMED_OUT,
    Conflict,
    Sight,
)
from cronlock.testing import LONG, fresh_key, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.process import HOST, eventually
from labs.servers.redis import RedisServer

from .test_redis import RedisHooks, opened


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One plain server."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    """The server's backend."""
    made = opened(server.url())
    yield made
    made.close()


@pytest.fixture
def hooks(server: RedisServer) -> RedisHooks:
    """What lets time pass on the server."""
    return RedisHooks(server.url(), lambda _: server.client())


def run_once(backend: RedisBackend, key: str, *, status: int = 0, **claim: Any) -> None:
    """Let one run of `key` get the lease and end."""
    grant = granted(backend.acquire(make_claim(key, **claim)))
    assert backend.release(grant, make_ending(status), keep_hold=True)


class TestWhatIsRead:
    """Losers are many: what they are answered is as long as if there had been one run."""

    def test_who_reads_the_history(self, server: RedisServer, backend: RedisBackend, hooks: RedisHooks) -> None:
        """Only who ends a run, replaces one that died, or shows the record reads the history."""
        key = fresh_key()
        ours = make_claim(key, hold=LONG)
        grant = granted(backend.acquire(ours))
        losers = [make_claim(key), make_claim(key, standby_for=ours.owner)]
        over = [make_claim(key), make_claim(key, standby_for=ours.owner)]
        dead, heir = make_claim(key, ignore_hold=True), make_claim(key, ignore_hold=True)

        def reads(step: Callable[[], object]) -> bool:
            return any("history" in line.split() or "success" in line.split() for line in _commands(server, step))

        for claim in losers:
            assert not reads(lambda claim=claim: backend.acquire(claim))  # type: ignore[misc]
        assert not reads(lambda: backend.renew(grant))
        assert reads(lambda: backend.release(grant, make_ending(), keep_hold=True))
        for claim in over:
            assert not reads(lambda claim=claim: backend.acquire(claim))  # type: ignore[misc]
        assert not reads(lambda: backend.acquire(dead))
        hooks.lapse(backend, granted(backend.acquire(dead)))
        assert reads(lambda: backend.acquire(heir))
        assert not reads(lambda: backend.abandon(heir))
        assert reads(lambda: backend.read(key))

    def test_size_of_a_skip(self, server: RedisServer, backend: RedisBackend) -> None:
        """A skip sends and gets as many bytes after a hundred runs as after the first."""
        key = fresh_key()
        run_once(backend, key, hold=LONG)
        with Proxy(server.port) as proxy:
            far = opened(server.url(port=proxy.port))
            few = _size(server, lambda: refused(far.acquire(make_claim(key)), HOLD))
            for _ in range(100):
                run_once(backend, key, hold=LONG, ignore_hold=True)
            many = _size(server, lambda: refused(far.acquire(make_claim(key)), HOLD))
            assert proxy.requests == 2
        assert abs(many - few) < 50

    def test_packets(self, server: RedisServer, backend: RedisBackend, hooks: RedisHooks) -> None:
        """A takeover and a release with a full history are one request each."""
        key = fresh_key()
        for _ in range(HISTORY + 1):
            run_once(backend, key)
        dead = granted(backend.acquire(make_claim(key)))
        hooks.lapse(backend, dead)
        with Proxy(server.port) as proxy:
            far = opened(server.url(port=proxy.port))
            heir = granted(far.acquire(make_claim(key, standby_for=dead.claim.owner)))
            assert proxy.requests == 1
            assert far.release(heir, make_ending(), keep_hold=True)
            assert proxy.requests == 2


def _commands(server: RedisServer, step: Callable[[], object]) -> list[str]:
    """Return what the server did during `step`, command by command, those of scripts too."""
    seen: list[str] = []
    with server.client(socket_timeout=60) as watcher, server.client() as client, watcher.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                if "end of the step" in command["command"]:
                    return
                seen.append(command["command"])

        listener = threading.Thread(target=listen)
        listener.start()
        step()
        client.echo("end of the step")
        listener.join()
    assert any(line.startswith("HMGET") for line in seen)
    # EVAL shows the script, which says what it might read.
    return [line for line in seen if not line.startswith("EVAL")]


def _size(server: RedisServer, step: Callable[[], object]) -> int:
    """Return how many bytes went to and from the server during `step`."""

    def total() -> int:
        with server.client() as client:
            stats = client.info("stats")
        return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])

    look = total()
    look = total() - look
    before = total()
    step()
    return total() - before - look


class TestBounds:
    """What is kept of a key stays small, and what is wrong in it breaks nothing."""

    def test_size(self, server: RedisServer, backend: RedisBackend) -> None:
        """Names of any length are cut, and the history has a length that does not grow."""
        key = fresh_key()
        for number in range(3 * HISTORY):
            run_once(backend, key, owner=f"owner-{number}", host="h\n" * 5000, program="%\t" * 5000)
        record = backend.read(key)
        assert record is not None
        assert len(record.history) == HISTORY
        assert {(run.host, run.program) for run in record.history} == {("h\n" * 50, "%\t" * 50)}
        with server.client() as client:
            assert sum(map(len, client.hgetall(f"cronlock:{key}").values())) < 30_000

    def test_undecodable_words(self, backend: RedisBackend) -> None:
        """Names that are no UTF-8 come back from the history, byte for byte."""
        key = fresh_key()
        run_once(backend, key, program="job-\udcff\t\udc80%")
        record = backend.read(key)
        assert record is not None
        assert record.success is not None
        assert record.history[0].program == record.success.program == "job-\udcff\t\udc80%"

    def test_lines_that_are_no_runs(self, server: RedisServer, backend: RedisBackend) -> None:
        """A history that somebody wrote into is shown without what is no run, and goes on."""
        key = fresh_key()
        run_once(backend, key, status=3)
        with server.client(encoding_errors="surrogateescape") as client:
            line = client.hget(f"cronlock:{key}", "history") or ""
            nonsense = "nonsense\n\n\towner=\nowner=x\tpid=one\n\udcff=\udcff\n" + line
            client.hset(f"cronlock:{key}", mapping={"history": nonsense, "success": "owner=x\tttl=inf"})
        record = backend.read(key)
        assert record is not None
        assert ([run.status for run in record.history], record.success) == ([3], None)
        run_once(backend, key)
        record = backend.read(key)
        assert record is not None
        assert [run.status for run in record.history] == [0, 3]

    def test_wrong_field_of_the_last_run(self, server: RedisServer, backend: RedisBackend) -> None:
        """A grant stands although the run before it has a field of the wrong kind."""
        key = fresh_key()
        run_once(backend, key)
        with server.client() as client:
            client.hset(f"cronlock:{key}", "last_pid", "one")
        grant = granted(backend.acquire(make_claim(key)))
        assert grant.previous is None
        assert backend.release(grant, make_ending(), keep_hold=False)

    @pytest.mark.parametrize(
        "extra",
        [
            "",
            "{0}",
            "{0}\n",
            "{0}\n\n\n",
            "{0}\nx\ny\nz",
            "{0}\n1\n\n2\n3",
            "{0}\n" + "9" * 17 + "\n\n",
            "\n1\n\n2",
            "other\n1\nnobody\n2",
        ],
    )
    def test_wrong_extra(self, server: RedisServer, backend: RedisBackend, hooks: RedisHooks, extra: str) -> None:
        """What is not this run's own extra counts as none: it is a run like any other, and of its own tick."""
        key = fresh_key()
        dead = granted(backend.acquire(make_claim(key)))
        hooks.lapse(backend, dead)
        with server.client() as client:
            client.hset(f"cronlock:{key}", "extra", extra.format(dead.claim.owner))
        assert refused(backend.acquire(make_claim(key, standby_for="nobody")), ENDED).run is not None
        assert granted(backend.acquire(make_claim(key, standby_for=dead.claim.owner))).took_over == dead.fence


class TestTakeover:
    """What only a server with lost replies, replicas and a memory can do to a standby."""

    def test_forced_release_is_remembered(self, backend: RedisBackend) -> None:
        """However many gave up since, a run that was released by force is neither renewed nor taken over."""
        key = fresh_key()
        forced = granted(backend.acquire(make_claim(key)))
        assert backend.force_release(key, forced.claim.owner)
        for _ in range(20):
            backend.abandon(make_claim(key))
        assert not backend.renew(forced)
        assert isinstance(backend.acquire(forced.claim), Conflict)
        refused(backend.acquire(make_claim(key, standby_for=forced.claim.owner)), ENDED)
        assert not backend.force_release(key, forced.claim.owner)

    def test_forced_release_of_the_dead(self, backend: RedisBackend, hooks: RedisHooks) -> None:
        """A run that died without a hold has nothing left to release, and is not taken over after that."""
        key = fresh_key()
        dead = granted(backend.acquire(make_claim(key)))
        hooks.lapse(backend, dead)
        assert not backend.force_release(key, dead.claim.owner)
        refused(backend.acquire(make_claim(key, standby_for=dead.claim.owner)), ENDED)

    def test_lapsed_unheard(self, backend: RedisBackend, hooks: RedisHooks) -> None:
        """A takeover that lapsed before it heard of its grant is granted anew, of the same run, under the same hold."""
        key = fresh_key()
        dead = granted(backend.acquire(make_claim(key, hold=LONG)))
        hooks.lapse(backend, dead)
        claim = make_claim(key, hold=LONG / 3, standby_for=dead.claim.owner)
        hooks.lapse(backend, granted(backend.acquire(claim)))
        again = granted(backend.acquire(claim))
        assert (again.took_over, again.previous) == (dead.fence, None)
        record = backend.read(key)
        assert record is not None
        assert record.run is not None
        assert (record.run.took_over, record.run.tick) == (dead.fence, dead.claim.owner)
        assert LONG / 2 < record.hold_remaining <= LONG
        assert [(run.owner, run.outcome) for run in record.history] == [(dead.claim.owner, DIED)]
        backend.abandon(claim)
        assert granted(backend.acquire(make_claim(key, standby_for=dead.claim.owner))).took_over == dead.fence

    def test_release_asked_for_again(self, server: RedisServer, backend: RedisBackend) -> None:
        """A release whose reply was lost and that is sent again is one run of the history."""
        key = fresh_key()
        with Proxy(server.port) as proxy:
            far = opened(server.url(port=proxy.port), timeout=0.5)
            grant = granted(backend.acquire(make_claim(key)))
            proxy.drop_replies()
            with pytest.raises(BackendUnavailable):
                far.release(grant, make_ending(), keep_hold=False)
        assert not backend.release(grant, make_ending(), keep_hold=False)
        record = backend.read(key)
        assert record is not None
        assert [(run.owner, run.outcome) for run in record.history] == [(grant.claim.owner, EXITED)]

    def test_too_few_replicas(self, server: RedisServer, backend: RedisBackend, hooks: RedisHooks) -> None:
        """A takeover that too few replicas know of is given back, and the dead run is there for the next."""
        key = fresh_key()
        dead = granted(backend.acquire(make_claim(key, hold=LONG)))
        hooks.lapse(backend, dead)
        strict = opened(server.url(min_replicas="1"), timeout=1)
        with pytest.raises(GivenBack):
            strict.acquire(make_claim(key, standby_for=dead.claim.owner))
        refused(backend.acquire(make_claim(key)), HOLD)
        assert granted(backend.acquire(make_claim(key, standby_for=dead.claim.owner))).took_over == dead.fence

    def test_replicas_have_the_history(self, server: RedisServer, backend: RedisBackend) -> None:
        """A replica that takes over knows the runs of before."""
        key = fresh_key()
        run_once(backend, key, status=3)
        run_once(backend, key)
        with RedisServer(extra=["--replicaof", HOST, str(server.port)]) as replica, replica.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up", "replica in step")
            client.replicaof("NO", "ONE")
            record = opened(replica.url()).read(key)
        assert record is not None
        assert [run.status for run in record.history] == [0, 3]

    def test_server_that_may_have_forgotten(self, backend: RedisBackend, hooks: RedisHooks) -> None:
        """A standby too waits where a higher fence was seen than the server shows."""
        key = fresh_key()
        dead = granted(backend.acquire(make_claim(key, hold=LONG)))
        hooks.lapse(backend, dead)
        sight = Sight((dead.fence or 0) + 10**9, 0, None)
        refused(backend.acquire(make_claim(key, standby_for=dead.claim.owner, sight=sight)), FORGOTTEN)
        sight.noticed_age = LONG
        heir = granted(backend.acquire(make_claim(key, standby_for=dead.claim.owner, sight=sight)))
        assert (heir.fence or 0) > sight.floor

    def test_end_after_an_abandoned_takeover(
        self, server: RedisServer, backend: RedisBackend, hooks: RedisHooks
    ) -> None:
        """A run that was not dead after all ends under its own fence, once who took over gave up."""
        key = fresh_key()
        slow = granted(backend.acquire(make_claim(key)))
        hooks.lapse(backend, slow)
        gave_up = make_claim(key, standby_for=slow.claim.owner)
        granted(backend.acquire(gave_up))
        backend.abandon(gave_up)
        assert backend.release(slow, make_ending(), keep_hold=True)
        record = backend.read(key)
        assert record is not None
        assert record.last is not None
        assert [(run.fence, run.outcome) for run in (record.last, *record.history)] == [(slow.fence, EXITED)] * 2
        with server.client() as client:
            # All that an older program reads of it.
            assert client.hget(f"cronlock:{key}", "last_fence") == str(slow.fence)

    @pytest.mark.parametrize("outcome", [LOST, TIMED_OUT])
    def test_fences_of_a_chain(self, backend: RedisBackend, hooks: RedisHooks, outcome: str) -> None:
        """Each takeover names the fence of the run right before it, also of one that gave back its own."""
        key = fresh_key()
        first = granted(backend.acquire(make_claim(key, hold=LONG)))
        hooks.lapse(backend, first)
        tick = first.claim.owner
        gave_up = make_claim(key, standby_for=tick)
        granted(backend.acquire(gave_up))
        backend.abandon(gave_up)
        second = granted(backend.acquire(make_claim(key, standby_for=tick)))
        assert second.took_over == first.fence
        assert backend.release(second, make_ending(75, outcome), keep_hold=True)
        answer = backend.acquire(make_claim(key, standby_for=tick))
        if outcome == TIMED_OUT:
            assert refused(answer, ENDED).fence == second.fence
            return
        third = granted(answer)
        assert third.took_over == second.fence
        assert refused(backend.acquire(make_claim(key, standby_for=tick)), HELD).fence == third.fence
        record = backend.read(key)
        assert record is not None
        assert [run.fence for run in record.history] == [second.fence, first.fence]
