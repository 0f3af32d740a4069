"""`cronlock doctor` on DynamoDB: credentials, the table and its settings, permissions, the clock."""

from __future__ import annotations

import json
from types import ModuleType
from typing import ClassVar

import pytest

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, NOTE, WARNING
from cronlock.engines.dynamodb import doctor
from cronlock.testing import granted, make_claim
from labs.servers.aws_gate import Gate

from ..wire.aws_suite import DatedDoctorSuite


class TestDoctor(DatedDoctorSuite):
    """A table."""

    doctor: ClassVar[ModuleType] = doctor
    removing: ClassVar[str] = "DeleteItem"
    noted: ClassVar[frozenset[str]] = frozenset({"table", "keys"})

    def test_probe_that_may_not_be_removed(self, case: probe.Case, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Under the manual's policy for runs one record a host stays, which is said and not counted."""
        list(doctor.create(case))
        granted(case.backend.acquire(make_claim("a-key")))
        gate.allowed = {*doctor.RUN_ACTIONS, *doctor.READ_ACTIONS}
        for pid in (1, 2):
            monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
            one = probe.Case(case.url, case.backend, timeout=20.0, ttl=300.0, hold=45.0)
            found = [*doctor.reach(one), *probe.lease(one), *doctor.examine(one)]
            assert self.one(found, "keys").text == "1 with a record"
            (stays,) = probe.forget(one)
            assert (stays.level, "no dynamodb:DeleteItem" in stays.text, one.key in stays.text) == (NOTE, True, True)
        assert sorted(case.backend.keys()) == ["a-key", one.key]

    def test_probe_of_another_doctor_stays(self, case: probe.Case) -> None:
        """A probe's record is not removed while another doctor of this host uses it."""
        list(doctor.create(case))
        list(doctor.reach(case))
        grant = granted(case.backend.acquire(make_claim(case.key)))
        assert list(probe.forget(case)) == []
        assert case.backend.renew(grant)

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
    def test_settings_of_a_table(
        self, case: probe.Case, gate: Gate, told: dict[str, object], name: str, level: str
    ) -> None:
        """A table that other regions can write to, or of another layout, is found out."""
        list(doctor.create(case))
        usual = {
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "cronlock", "KeyType": "HASH"}],
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        }
        gate.answers.append((200, json.dumps({"Table": {**usual, **told}}).encode()))
        assert self.one(list(doctor.examine(case)), name).level == level
