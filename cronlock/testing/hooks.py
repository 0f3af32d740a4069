"""How the contracts reach an engine, and the claims that they make."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from cronlock.lease.vocabulary import EXITED, Claim, Conflict, Ending, Grant, Watermark

from .waiting import eventually

if TYPE_CHECKING:
    from cronlock.lease.store import Cell, Store
    from cronlock.lease.vocabulary import Backend, Record, Run

_Answer = TypeVar("_Answer")
#: Longer than any test takes, in seconds.
LONG = 600.0
#: Keys that a careless engine confuses, cannot store, or takes for something else.
NASTY_KEYS = [
    *("a/b", "a%2Fb", "a%2fb", "a%252Fb", "a", "A", "a/", "/a", "//", "/", ".", "..", "../../etc/passwd", ".hidden"),
    *("a b", " a ", "a\u00a0b", "%", "%s %d {0}", "{a}b", "{b}a", "{}a", "{}}a", "}a{", "a}b{c", "*", "a*", "a?[b]"),
    *("key~digest", "a:b", "a=b&c", "'; --", '"quoted"', "back\\slash", "-rf", "zookeeper", "lease", "a/lease"),
    *("naïve", "nai\u0308ve", "ß", "ss", "\U0001f512", "x" * 200, "x" * 199 + "y", "ÿ" * 200, "ÿ" * 199 + "y"),
    *("\U0001f512" * 200, "%" * 200, "/" * 200),
]


class StoreHooks:
    """How the contract reaches a store, and its server behind the store's back.

    `lapse` and `end_hold` wait for the time to pass; an engine that can do better overrides them.
    """

    #: The lease and the hold, in seconds, that tests let end; long ones cost nothing if all three of these
    #: methods are overridden: `pass_time`, `lapse` and `end_hold`.
    short_ttl = 2.0
    short_hold = 2.0
    #: How many stores race for one key.
    racers = 8
    #: Why a lease that another node ends is free only once its holder has noticed.
    force_waits = ""

    def open_store(self) -> Store:
        """Return one more node's store on the server."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let time pass on the server and here."""
        time.sleep(seconds)

    def lapse(self, key: str) -> None:
        """Let the key's lease lapse, as if its holder had died; its hold stays."""
        self._wait_for(key, lambda cell: cell.lease == 0, "the lease lapsed")

    def end_hold(self, key: str) -> None:
        """Let the key's hold be over, and leave a lease as it is."""
        self._wait_for(key, lambda cell: cell.hold == 0, "the hold ended")

    def _wait_for(self, key: str, condition: Callable[[Cell], bool], what: str) -> None:
        store = self.open_store()
        try:
            eventually(lambda: condition(store.read(key, time.monotonic() + 20.0)), what, pause=0.1)
        finally:
            store.close()


class Hooks:
    """How the contract reaches a backend that is no store; `lapse` and `end_hold` work at once."""

    short_ttl = 2.0
    short_hold = 2.0
    racers = 8

    def open(self) -> Backend:
        """Return a backend of its own, as another node would have it."""
        raise NotImplementedError

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Let the lease lapse, as if `node` had died after it got the grant."""
        raise NotImplementedError

    def end_hold(self, node: Backend, key: str) -> None:
        """Let the key's hold be over, and leave a lease as it is."""
        raise NotImplementedError


class Nodes:
    """Fixtures of both contracts: nodes that share one server, and a key. The engine adds the fixture `hooks`."""

    @pytest.fixture
    def open_node(self, hooks: Any) -> Iterator[Callable[[], Any]]:
        """Open one more node, which is closed at the end."""
        nodes: list[Any] = []

        def open_one() -> Any:
            nodes.append(hooks.open_store() if isinstance(hooks, StoreHooks) else hooks.open())
            return nodes[-1]

        yield open_one
        for node in nodes:
            node.close()

    @pytest.fixture
    def a(self, open_node: Callable[[], Any]) -> Any:
        """One node."""
        return open_node()

    @pytest.fixture
    def b(self, open_node: Callable[[], Any]) -> Any:
        """Another node."""
        return open_node()

    @pytest.fixture
    def key(self) -> str:
        """An unused key."""
        return fresh_key()


def race(asks: Sequence[Callable[[], _Answer]]) -> list[_Answer]:
    """Return the answers to all, asked at the same moment; raise what one of them raised."""
    barrier = threading.Barrier(len(asks))

    def at_once(ask: Callable[[], _Answer]) -> _Answer:
        barrier.wait()
        return ask()

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(at_once, asks))


def fresh_key(name: str = "job") -> str:
    """Return an unused key."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def make_claim(
    key: str,
    *,
    owner: str | None = None,
    ttl: float = LONG,
    hold: float = 0.0,
    ignore_hold: bool = False,
    watermark: Watermark | None = None,
    host: str = "node-a",
    program: str = "backup.sh",
    standby_for: str | None = None,
    awaited_fence: int | None = None,
) -> Claim:
    """Return a claim of a new run, with a fresh owner unless one is given."""
    return Claim(
        key=key,
        owner=owner or f"{host}-{uuid.uuid4().hex[:12]}",
        host=host,
        pid=4711,
        program=program,
        ttl=ttl,
        hold=hold,
        ignore_hold=ignore_hold,
        watermark=watermark,
        standby_for=standby_for,
        awaited_fence=awaited_fence,
    )


def make_ending(status: int = 0, outcome: str = EXITED) -> Ending:
    """Return the ending of a run that ended now."""
    return Ending(outcome, status, time.time())


def granted(answer: Grant | Conflict) -> Grant:
    """Return the grant that `answer` must be."""
    assert isinstance(answer, Grant), f"not granted: {answer.why}, {answer.remaining:.3f} s remaining"
    return answer


def record_of(node: Backend, key: str) -> Record:
    """Return the record of `key`, which must be there."""
    record = node.read(key)
    assert record is not None
    return record


def run_of(seen: Conflict | Record) -> Run:
    """Return the run that a refusal or a record must name."""
    assert seen.run is not None
    return seen.run


def refused(answer: Grant | Conflict, why: str) -> Conflict:
    """Return the conflict that `answer` must be, for the reason `why`."""
    assert isinstance(answer, Conflict), "granted, and should not have been"
    assert answer.why == why
    return answer
