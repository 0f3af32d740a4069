"""The tests that DynamoDB and S3 share: fixtures for each emulator and for AWS itself, a gate, stores, the doctor.

The conftest.py of an engine's tests imports the fixtures, and gives two of its own: `kind`, by `each_kind`, and
`suite`. Test modules subclass `DatedStoreSuite` and `DatedDoctorSuite`.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, OK, WARNING, Finding
from cronlock.engines.url import URL
from cronlock.engines.wire.dated import DatedStore
from cronlock.errors import BackendUnavailable, ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import Conflict, Grant
from cronlock.testing import LONG, granted, make_claim, make_ending
from cronlock.testing.cells import read
from cronlock.testing.cells import try_swap as swap
from labs.servers.aws import ENVIRON, AwsServer, MinistackServer
from labs.servers.aws_gate import Gate

from .aws_nodes import DatedHooks, Later, a_node, open_dated, use_examples


class Suite:
    """How the tests reach a service; its tables or buckets are named cronlock on emulators."""

    #: The service, in URLs and policies.
    service: ClassVar[str]
    #: "table" or "bucket".
    what: ClassVar[str]
    #: The permissions that write a record, and that list keys; those that runs need.
    writing: ClassVar[str]
    listing: ClassVar[str]
    needed: ClassVar[frozenset[str]]
    #: The environment variable that names a table or bucket of AWS, which exists.
    variable: ClassVar[str]
    hooks: ClassVar[type[DatedHooks]]

    @classmethod
    def url(cls, endpoint: str, name: str = "cronlock") -> str:
        """Return the URL of a table or bucket at an endpoint."""
        return f"{cls.service}://{name}?endpoint={endpoint}"

    @classmethod
    def make(cls, url: str) -> None:
        """Make the table or bucket of a URL on an emulator."""
        with pytest.MonkeyPatch.context() as patch:
            use_examples(patch)
            store = open_dated(url)
            store.make(store.service.deadline())
            store.close()

    @classmethod
    def prefixed(cls, url: str, name: str) -> str:
        """Return the URL with another prefix, or with one more part of it."""
        raise NotImplementedError

    @classmethod
    def delete(cls, store: DatedStore, key: str) -> None:
        """Delete a key's record directly."""
        raise NotImplementedError


def each_kind(suite: type[Suite], emulators: Mapping[str, type[AwsServer]]) -> Any:
    """Return the fixture `kind`: the name of each emulator, and aws if the environment names a table or bucket."""
    names = [*sorted(emulators), *(["aws"] if os.environ.get(suite.variable) else [])]

    @pytest.fixture(scope="module", params=names)
    def kind(request: pytest.FixtureRequest) -> tuple[str, Any]:
        return request.param, emulators.get(request.param)

    return kind


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the emulators' credentials, and unset this machine's own, except in tests on AWS."""
    if "kind" not in request.fixturenames or request.getfixturevalue("kind")[1] is not None:
        use_examples(monkeypatch)


@pytest.fixture(scope="module")
def emulator(kind: tuple[str, Any]) -> Iterator[AwsServer | None]:
    """Give the emulator, None for AWS itself."""
    if kind[1] is None:
        yield None
        return
    with kind[1]() as running:
        yield running


@pytest.fixture(scope="module")
def url(emulator: AwsServer | None, suite: type[Suite]) -> str:
    """Give the URL of a table or bucket that exists."""
    if emulator is None:
        return os.environ[suite.variable]
    suite.make(suite.url(emulator.endpoint))
    return suite.url(emulator.endpoint)


@pytest.fixture
def store(url: str) -> Iterator[DatedStore]:
    """Give a node's store."""
    one = open_dated(url)
    yield one
    one.close()


@pytest.fixture
def gate(emulator: AwsServer | None, url: str, suite: type[Suite]) -> Iterator[Gate]:
    """Give a gate that checks requests as AWS does, in front of the emulator."""
    if emulator is None:
        pytest.skip(f"{url}: only for emulators")
    with Gate(emulator.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], service=suite.service) as standing:
        yield standing


@pytest.fixture
def guarded(gate: Gate, suite: type[Suite]) -> Iterator[DatedStore]:
    """Give a store behind the gate."""
    one = open_dated(suite.url(gate.endpoint))
    yield one
    one.close()


@pytest.fixture
def hooks(emulator: AwsServer | None, url: str, suite: type[Suite]) -> DatedHooks:
    """Give the hooks of a table or bucket."""
    return suite.hooks(emulator, url)


@pytest.fixture
def emulated_hooks(emulator: AwsServer | None, hooks: DatedHooks) -> DatedHooks:
    """Give the hooks for tests that put a proxy in front of the server."""
    if emulator is None:
        pytest.skip(f"{hooks.url}: no proxy in front of AWS")
    return hooks


@pytest.fixture
def swift_hooks(emulator: AwsServer | None, hooks: DatedHooks, suite: type[Suite]) -> Iterator[DatedHooks]:
    """Give hooks by which time passes at once, but on AWS."""
    if emulator is None:
        yield hooks
        return
    later = Later(emulator.port)
    with later:
        yield suite.hooks(emulator, hooks.url, later)


class DatedStoreSuite:
    """Stores of one service."""

    def test_deleted_record(self, store: DatedStore, hooks: DatedHooks, url: str, key: str, suite: type[Suite]) -> None:
        """A swap of a deleted record is refused, and makes no new one."""
        _, seen = swap(store, key, read(store, key), b"mine", lease=LONG)
        suite.delete(store, key)
        done, cell = swap(store, key, seen, b"mine", lease=LONG)
        assert (done, cell.data, cell.lease) == (False, None, 0)
        # A fence after a lost record is above all earlier ones.
        assert cell.floor > (time.time() - 60) * 1e6
        assert not hooks.kept(key)

    def test_missing(self, key: str, url: str, suite: type[Suite]) -> None:
        """A missing table or bucket is an error of the configuration, whose message has the command that makes it."""
        name = f"missing-{os.urandom(8).hex()}"
        elsewhere = open_dated(re.sub("//[^/?]+", f"//{name}", url, count=1))
        with pytest.raises(ConfigError, match=rf"no {suite.what} {name} in .*cronlock doctor --create"):
            read(elsewhere, key)
        elsewhere.close()

    def test_made_by_the_first_run(self, key: str, emulator: AwsServer | None, suite: type[Suite]) -> None:
        """With create=yes the first run makes the table or bucket, also if several nodes begin at once."""
        if emulator is None:
            pytest.skip("nothing is made on AWS")
        made = suite.url(emulator.endpoint, f"made-{os.urandom(6).hex()}")
        nodes = [a_node(f"{made}&create=yes") for _ in range(4)]
        answers: list[Grant | Conflict] = []
        threads = [
            threading.Thread(target=lambda one=one: answers.append(one.acquire(make_claim(key)))) for one in nodes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "Conflict", "Grant"]
        for one in nodes:
            one.close()

    def test_policy(self, guarded: DatedStore, gate: Gate, key: str, suite: type[Suite]) -> None:
        """Runs and looks at one key need two permissions, a list of keys one more; what is missing is named."""
        node = Leases(guarded)
        gate.allowed = set(suite.needed)
        grant = granted(node.acquire(make_claim(key, ignore_hold=True)))
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)
        assert not node.force_release(key, "nobody")
        assert node.read(key) is not None
        with pytest.raises(BackendUnavailable, match=rf"no permission for {suite.service}:{suite.listing}; allow it"):
            list(node.keys())
        gate.allowed.add(suite.listing)
        assert key in set(node.keys())
        gate.allowed.remove(suite.writing)
        with pytest.raises(BackendUnavailable, match=rf"no permission for {suite.service}:{suite.writing}; allow it"):
            node.acquire(make_claim(key, ignore_hold=True))

    def test_prefixes_keep_keys_apart(self, store: DatedStore, url: str, key: str, suite: type[Suite]) -> None:
        """Two fleets share a table or bucket by different prefixes."""
        other = open_dated(suite.prefixed(url, f"other-{key}"))
        swap(store, key, read(store, key), b"mine")
        assert read(other, key).data is None
        swap(other, key, read(other, key), b"theirs")
        assert read(store, key).data == b"mine"
        assert list(other.keys()) == [key]
        assert not [one for one in set(store.keys()) if "other-" in one]
        assert re.search(rf"other-{key}[:/]{key}'$", other.location(key))
        other.close()


class DatedDoctorSuite:
    """`cronlock doctor` on one service."""

    doctor: ClassVar[ModuleType]
    #: The permission that removes a record, and the findings that are notes without those of the doctor.
    removing: ClassVar[str]
    noted: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[MinistackServer]:
        """Give one emulator."""
        with MinistackServer() as running:
            yield running

    @pytest.fixture
    def gate(self, server: MinistackServer, suite: type[Suite]) -> Iterator[Gate]:
        """Give a gate in front of it."""
        with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], service=suite.service) as standing:
            yield standing

    @pytest.fixture
    def case(self, gate: Gate, suite: type[Suite]) -> Iterator[probe.Case]:
        """Give a table or bucket of the test's own, which does not exist yet."""
        url = suite.url(gate.endpoint, f"case-{os.urandom(6).hex()}")
        backend = a_node(url)
        yield probe.Case(URL(url), backend, timeout=20.0, ttl=300.0, hold=45.0)
        backend.close()

    @staticmethod
    def one(found: list[Finding], name: str) -> Finding:
        """Return the finding of that name."""
        (finding,) = [finding for finding in found if finding.name == name]
        return finding

    def settle(self, gate: Gate) -> None:
        """Prepare answers, so that the doctor needs all of its permissions."""

    def test_made_once(self, case: probe.Case, suite: type[Suite]) -> None:
        """If the table or bucket is missing, the doctor says how to make it; `--create` makes it, once."""
        missing = self.one(list(self.doctor.reach(case)), suite.what)
        assert (missing.level, "cronlock doctor --create" in str(missing.remedy)) == (BAD, True)
        assert [(one.level, f"made {suite.what}" in one.text) for one in self.doctor.create(case)] == [(OK, True)]
        assert [(one.level, "exists already" in one.text) for one in self.doctor.create(case)] == [(OK, True)]
        assert {one.level for one in self.doctor.reach(case)} == {OK}
        assert {one.level for one in self.doctor.examine(case)} == {OK}

    def test_probe_leaves_nothing(self, case: probe.Case, suite: type[Suite]) -> None:
        """The probe's record is removed, other keys stay."""
        list(self.doctor.create(case))
        granted(case.backend.acquire(make_claim("a-key")))
        assert [one.level for one in probe.lease(case)] == [OK]
        assert case.key in list(case.backend.keys())
        assert list(probe.forget(case)) == []
        assert list(case.backend.keys()) == ["a-key"]

    def test_permissions(self, case: probe.Case, gate: Gate, suite: type[Suite]) -> None:
        """A missing permission of runs is bad; one that only the doctor needs is a note."""
        doctor = self.doctor
        list(doctor.create(case))
        gate.allowed = set()
        denied = self.one(list(doctor.reach(case)), "permissions")
        assert denied.level == BAD
        assert f"no permission for {suite.service}:Get" in denied.text
        assert [one.level for one in doctor.create(case)] == [BAD]
        gate.allowed = set(doctor.RUN_ACTIONS)
        assert {one.level for one in doctor.reach(case)} == {OK}
        assert [one.level for one in probe.lease(case)] == [OK]
        assert {one.name for one in doctor.examine(case) if one.level != OK} == self.noted
        (stays,) = probe.forget(case)
        assert (stays.level, f"no {suite.service}:{self.removing}" in stays.text) == (NOTE, True)
        gate.allowed |= {*getattr(doctor, "READ_ACTIONS", ()), *doctor.DOCTOR_ACTIONS}
        documented = set(gate.allowed)
        gate.actions.clear()
        self.settle(gate)
        found = [*doctor.reach(case), *probe.lease(case), *doctor.examine(case)]
        assert list(probe.forget(case)) == []
        assert {one.level for one in found} <= {OK, NOTE}
        # The manual's policies name the permissions that are used, and no others.
        assert set(gate.actions) == documented

    @pytest.mark.parametrize(("ahead", "level"), [(0.0, OK), (20.0, WARNING), (-600.0, BAD)])
    def test_clock(self, case: probe.Case, gate: Gate, suite: type[Suite], ahead: float, level: str) -> None:
        """A wrong clock is found by the service's answers, also one that AWS refuses at first."""
        list(self.doctor.create(case))
        case.backend = a_node(suite.url(gate.endpoint, case.url.hosts[0][0]), ahead=ahead)
        list(self.doctor.reach(case))
        assert self.one(list(self.doctor.examine(case)), "clock").level == level
        case.backend.close()

    def test_no_credentials(self, case: probe.Case, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without credentials the doctor says so, and sends nothing."""
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", "/nonexistent")
        (finding,) = self.doctor.reach(case)
        assert (finding.name, finding.level) == ("credentials", BAD)
        assert "no AWS credentials: give the machine a role" in finding.text
