"""`cronlock doctor` on DynamoDB: credentials, the table and its settings, permissions, the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, OK, WARNING, Finding
from cronlock.engines.dynamodb import doctor
from cronlock.engines.url import URL
from cronlock.testing import fresh_key, granted, make_claim
from labs.servers.aws import ENVIRON, MinistackServer
from labs.servers.aws_gate import Gate

from ..wire.aws_nodes import a_node
from .dynamodb_nodes import item


@pytest.fixture(scope="module")
def server() -> Iterator[MinistackServer]:
    """One emulator."""
    with MinistackServer() as running:
        yield running


@pytest.fixture
def gate(server: MinistackServer) -> Iterator[Gate]:
    """What AWS has in front."""
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"]) as standing:
        yield standing


@pytest.fixture
def case(gate: Gate) -> Iterator[probe.Case]:
    """A table of the test's own, which is not there yet."""
    url = f"dynamodb://table-{fresh_key()}?endpoint={gate.endpoint}"
    backend = a_node(url)
    yield probe.Case(URL(url), backend, timeout=20.0, ttl=300.0, hold=45.0)
    backend.close()


def _one(found: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_table_is_made_once(case: probe.Case) -> None:
    """A missing table is bad, with the line to type; that makes it, and again does nothing."""
    missing = _one(list(doctor.reach(case)), "table")
    assert (missing.level, "cronlock doctor --create" in str(missing.remedy)) == (BAD, True)
    assert [(one.level, one.text.startswith("made table")) for one in doctor.create(case)] == [(OK, True)]
    assert [(one.level, "exists already" in one.text) for one in doctor.create(case)] == [(OK, True)]
    assert {one.level for one in doctor.reach(case)} == {OK}
    found = list(doctor.examine(case))
    # Not even that it can be deleted is to be noted.
    assert {one.level for one in found} == {OK}
    assert _one(found, "capacity").text == "on demand"


def test_probe_leaves_nothing(case: probe.Case) -> None:
    """The probe's record is removed, and other keys are left alone."""
    list(doctor.create(case))
    granted(case.backend.acquire(make_claim("a-key")))
    assert [one.level for one in probe.lease(case)] == [OK]
    url = f"dynamodb://{case.url.hosts[0][0]}?endpoint={case.url.params['endpoint']}"
    assert item(url, case.key)
    assert list(probe.forget(case)) == []
    assert not item(url, case.key)
    assert list(case.backend.keys()) == ["a-key"]


def test_probe_that_may_not_be_removed(case: probe.Case, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the manual's policy for runs one record a host stays, which is said and not counted."""
    list(doctor.create(case))
    granted(case.backend.acquire(make_claim("a-key")))
    gate.allowed = {*doctor.RUN_ACTIONS, *doctor.READ_ACTIONS}
    for pid in (1, 2):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        one = probe.Case(case.url, case.backend, timeout=20.0, ttl=300.0, hold=45.0)
        found = [*doctor.reach(one), *probe.lease(one), *doctor.examine(one)]
        assert _one(found, "keys").text == "1 with a record"
        (stays,) = probe.forget(one)
        assert (stays.level, "no dynamodb:DeleteItem" in stays.text, one.key in stays.text) == (NOTE, True, True)
    assert sorted(case.backend.keys()) == ["a-key", one.key]


def test_probe_of_another_doctor_stays(case: probe.Case) -> None:
    """A probe's record is not removed while another doctor of this host uses it."""
    list(doctor.create(case))
    list(doctor.reach(case))
    grant = granted(case.backend.acquire(make_claim(case.key)))
    assert list(probe.forget(case)) == []
    assert case.backend.renew(grant)


def test_permissions(case: probe.Case, gate: Gate) -> None:
    """A missing permission of runs is bad; one that only the doctor needs is a note."""
    list(doctor.create(case))
    gate.allowed = set()
    denied = _one(list(doctor.reach(case)), "permissions")
    assert denied.level == BAD
    assert "may not dynamodb:GetItem: allow it" in denied.text
    assert [one.level for one in doctor.create(case)] == [BAD]
    gate.allowed = set(doctor.RUN_ACTIONS)
    assert {one.level for one in doctor.reach(case)} == {OK}
    assert [one.level for one in probe.lease(case)] == [OK]
    found = list(doctor.examine(case))
    assert (_one(found, "table").level, _one(found, "keys").level) == (NOTE, NOTE)
    gate.allowed |= {*doctor.READ_ACTIONS, *doctor.DOCTOR_ACTIONS}
    gate.actions.clear()
    found = [*doctor.reach(case), probe.round_trip(case), *probe.lease(case), *doctor.examine(case)]
    assert list(probe.forget(case)) == []
    assert {one.level for one in found} == {OK}
    # All that the manual's policies name is used, and nothing else.
    assert set(gate.actions) == {*doctor.RUN_ACTIONS, *doctor.READ_ACTIONS, *doctor.DOCTOR_ACTIONS}


@pytest.mark.parametrize(
    ("told", "name", "level"),
    [
        ({"KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}]}, "key", BAD),
        ({"GlobalTableVersion": "2019.11.21", "Replicas": [{"RegionName": "us-east-2"}]}, "regions", BAD),
        ({"Replicas": [{"RegionName": "us-east-2"}], "MultiRegionConsistency": "STRONG"}, "regions", NOTE),
        ({"BillingModeSummary": {}, "ProvisionedThroughput": {"WriteCapacityUnits": 5}}, "capacity", NOTE),
        ({"TableStatus": "ARCHIVED"}, "table", WARNING),
        ({"DeletionProtectionEnabled": False}, "deletion", NOTE),
    ],
)
def test_settings_of_a_table(case: probe.Case, gate: Gate, told: dict[str, object], name: str, level: str) -> None:
    """A table that other regions can write to, or of another layout, is found out."""
    list(doctor.create(case))
    usual = {
        "TableStatus": "ACTIVE",
        "KeySchema": [{"AttributeName": "cronlock", "KeyType": "HASH"}],
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
    }
    gate.answers.append((200, json.dumps({"Table": {**usual, **told}}).encode()))
    assert _one(list(doctor.examine(case)), name).level == level


@pytest.mark.parametrize(("ahead", "level"), [(0.0, OK), (20.0, WARNING), (-600.0, BAD)])
def test_clock(case: probe.Case, ahead: float, level: str) -> None:
    """A clock that is wrong is found by AWS's answers, also one that AWS refuses at first."""
    list(doctor.create(case))
    case.backend = a_node(f"dynamodb://{case.url.hosts[0][0]}?endpoint={case.url.params['endpoint']}", ahead=ahead)
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
    assert "no AWS credentials: give the machine a role" in finding.text
