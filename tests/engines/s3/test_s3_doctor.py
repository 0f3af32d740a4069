"""`cronlock doctor` on S3: credentials, the bucket, conditional writes, permissions, the clock."""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

from cronlock.doctor import probe
from cronlock.doctor.findings import BAD, WARNING
from cronlock.engines.s3 import doctor
from labs.servers.aws_gate import Gate

from ..wire.aws_suite import DatedDoctorSuite


class TestDoctor(DatedDoctorSuite):
    """A bucket."""

    doctor: ClassVar[ModuleType] = doctor
    removing: ClassVar[str] = "DeleteObject"

    def settle(self, gate: Gate) -> None:
        """Let the bucket keep versions, for some days."""
        gate.answers_to["GetBucketVersioning"] = [(200, b"<V><Status>Enabled</Status></V>")]
        gate.answers_to["GetLifecycleConfiguration"] = [(200, b"<L><NoncurrentDays>1</NoncurrentDays></L>")]

    def test_versions_that_nothing_removes(self, case: probe.Case, gate: Gate) -> None:
        """A bucket that keeps all versions, without a rule that ends them, is warned of."""
        list(doctor.create(case))
        gate.answers_to["GetBucketVersioning"] = [(200, b"<V><Status>Enabled</Status></V>")]
        gate.answers_to["GetLifecycleConfiguration"] = [
            (404, b"<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")
        ]
        found = self.one(list(doctor.examine(case)), "versions")
        assert (found.level, "lifecycle rule" in str(found.remedy)) == (WARNING, True)

    def test_store_that_ignores_conditions(self, case: probe.Case, gate: Gate) -> None:
        """It is bad, and so is one that keeps them only while requests come one by one."""
        list(doctor.create(case))
        gate.careless = ("PUT", "DELETE")
        assert "ignores If-None-Match" in self.one(list(doctor.examine(case)), "conditions").text
        gate.careless = ()
        made = [(200, {"ETag": '"a"'}, b"")] * 2
        refused: list[tuple[int, dict[str, str], bytes]] = [(412, {}, b"")] * 2
        answers = [made[0], *refused, *made, *refused * 3]
        forward = gate.answer
        gate.answer = lambda method, *rest: (  # type: ignore[method-assign]
            answers.pop(0) if method == "PUT" and answers else forward(method, *rest)
        )
        found = self.one(list(doctor.examine(case)), "conditions")
        assert (found.level, "2 succeeded instead of one" in found.text) == (BAD, True)
