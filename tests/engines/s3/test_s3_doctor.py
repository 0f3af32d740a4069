"""`cronlock doctor` on S3: credentials, the bucket, conditional writes, permissions, the clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, OK, WARNING, Finding
from cronlock.engines.s3 import doctor
from cronlock.engines.url import URL
from cronlock.testing import granted, make_claim
from labs.servers.aws import ENVIRON, MinistackServer
from labs.servers.aws_gate import Gate

from ..wire.aws_nodes import a_node
from .s3_nodes import content


@pytest.fixture(scope="module")
def server() -> Iterator[MinistackServer]:
    """One emulator."""
    with MinistackServer() as running:
        yield running


@pytest.fixture
def gate(server: MinistackServer) -> Iterator[Gate]:
    """What AWS has in front."""
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], service="s3") as standing:
        yield standing


@pytest.fixture
def case(gate: Gate) -> Iterator[probe.Case]:
    """A bucket of the test's own, which is not there yet."""
    url = f"s3://bucket-{os.urandom(6).hex()}?endpoint={gate.endpoint}"
    backend = a_node(url)
    yield probe.Case(URL(url), backend, timeout=20.0, ttl=300.0, hold=45.0)
    backend.close()


def _one(found: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_bucket_is_made_once(case: probe.Case) -> None:
    """A missing bucket is bad, with the line to type; that makes it, and again does nothing."""
    missing = _one(list(doctor.reach(case)), "bucket")
    assert (missing.level, "cronlock doctor --create" in str(missing.remedy)) == (BAD, True)
    assert [(one.level, one.text.startswith("made bucket")) for one in doctor.create(case)] == [(OK, True)]
    assert [(one.level, "exists already" in one.text) for one in doctor.create(case)] == [(OK, True)]
    assert {one.level for one in doctor.reach(case)} == {OK}
    assert {one.level for one in doctor.examine(case)} == {OK}


def test_probe_leaves_nothing(case: probe.Case) -> None:
    """The probe's objects are removed, and other keys are left alone."""
    list(doctor.create(case))
    granted(case.backend.acquire(make_claim("a-key")))
    assert [one.level for one in probe.lease(case)] == [OK]
    url = f"s3://{case.url.hosts[0][0]}?endpoint={case.url.params['endpoint']}"
    assert content(url, case.key)
    assert list(probe.forget(case)) == []
    assert content(url, case.key) is None
    assert list(case.backend.keys()) == ["a-key"]


def test_permissions(case: probe.Case, gate: Gate) -> None:
    """A missing permission of runs is bad; one that only the doctor needs is a note or nothing."""
    list(doctor.create(case))
    gate.allowed = set()
    denied = _one(list(doctor.reach(case)), "permissions")
    assert denied.level == BAD
    assert "may not s3:GetObject: allow it" in denied.text
    assert [one.level for one in doctor.create(case)] == [BAD]
    gate.allowed = set(doctor.RUN_ACTIONS)
    assert {one.level for one in doctor.reach(case)} == {OK}
    assert [one.level for one in probe.lease(case)] == [OK]
    assert {one.level for one in doctor.examine(case)} == {OK}
    (stays,) = probe.forget(case)
    assert (stays.level, "no s3:DeleteObject" in stays.text) == (NOTE, True)
    gate.allowed |= set(doctor.DOCTOR_ACTIONS)
    gate.actions.clear()
    gate.answers_to["GetBucketVersioning"] = [(200, b"<V><Status>Enabled</Status></V>")]
    gate.answers_to["GetLifecycleConfiguration"] = [(200, b"<L><NoncurrentDays>1</NoncurrentDays></L>")]
    found = [*doctor.reach(case), *probe.lease(case), *doctor.examine(case)]
    assert list(probe.forget(case)) == []
    assert _one(found, "versions").level == NOTE
    # All that the manual's policy names is used, and nothing else.
    assert set(gate.actions) == {*doctor.RUN_ACTIONS, *doctor.DOCTOR_ACTIONS}


def test_versions_that_nothing_removes(case: probe.Case, gate: Gate) -> None:
    """A bucket that keeps all versions, without a rule that ends them, is warned of."""
    list(doctor.create(case))
    gate.answers_to["GetBucketVersioning"] = [(200, b"<V><Status>Enabled</Status></V>")]
    gate.answers_to["GetLifecycleConfiguration"] = [(404, b"<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")]
    found = _one(list(doctor.examine(case)), "versions")
    assert (found.level, "lifecycle rule" in str(found.remedy)) == (WARNING, True)


def test_store_that_ignores_conditions(case: probe.Case, gate: Gate) -> None:
    """It is bad, and so is one that keeps them only while requests come one by one."""
    list(doctor.create(case))
    gate.careless = ("PUT", "DELETE")
    assert "ignores If-None-Match" in _one(list(doctor.examine(case)), "conditions").text
    gate.careless = ()
    made = [(200, {"ETag": '"a"'}, b"")] * 2
    refused: list[tuple[int, dict[str, str], bytes]] = [(412, {}, b"")] * 2
    answers = [made[0], *refused, *made, *refused * 3]
    forward = gate.answer
    gate.answer = lambda method, *rest: (  # type: ignore[method-assign]
        answers.pop(0) if method == "PUT" and answers else forward(method, *rest)
    )
    found = _one(list(doctor.examine(case)), "conditions")
    assert (found.level, "2 were done, which may be one" in found.text) == (BAD, True)


@pytest.mark.parametrize(("ahead", "level"), [(0.0, OK), (20.0, WARNING), (-600.0, BAD)])
def test_clock(case: probe.Case, ahead: float, level: str) -> None:
    """A clock that is wrong is found by the service's answers, also one that it refuses at first."""
    list(doctor.create(case))
    case.backend = a_node(f"s3://{case.url.hosts[0][0]}?endpoint={case.url.params['endpoint']}", ahead=ahead)
    list(doctor.reach(case))
    assert _one(list(doctor.examine(case)), "clock").level == level
    case.backend.close()


def test_no_credentials(case: probe.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the doctor says so, and asks nobody."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    (finding,) = doctor.reach(case)
    assert (finding.name, finding.level) == ("credentials", BAD)
