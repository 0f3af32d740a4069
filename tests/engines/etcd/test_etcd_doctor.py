"""`cronlock doctor` on etcd: real servers, and its rules on replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any
from unittest.mock import Mock

import pytest

from cronlock.doctor.findings import BAD, NOTE, OK, WARNING, Finding
from cronlock.doctor.probe import Case
from cronlock.engines.etcd import doctor as etcd_doctor
from cronlock.engines.etcd.doctor import _date, _judge_ensemble, examine
from cronlock.engines.etcd.messages import Answer
from cronlock.engines.registry import open_backend, open_doctor
from cronlock.engines.url import URL
from labs.servers.etcd import EtcdEnsemble, EtcdServer, text
from labs.servers.process import HOST, free_port

from ..look import Look

_PASSWORD = "not-to-be-shown"


@contextmanager
def case_of(url: str) -> Iterator[Case]:
    """A case for the doctor."""
    backend = open_backend(url, 10.0)
    try:
        yield Case(URL(url), backend, timeout=10.0, ttl=300.0, hold=45.0)
    finally:
        backend.close()


def examined(url: str) -> dict[str, Finding]:
    """Return all that the doctor says of the servers, by name; of several with one name the worst."""
    found: dict[str, Finding] = {}
    for finding in Look(url).found:
        assert _PASSWORD not in finding.text + (finding.remedy or "")
        if finding.name not in found or finding.level != OK:
            found[finding.name] = finding
    return found


def levels(found: dict[str, Finding]) -> dict[str, str]:
    """Return the levels by name."""
    return {name: finding.level for name, finding in found.items()}


def test_one_server() -> None:
    """All is well but that it is alone and open, and nothing is left behind."""
    with EtcdServer() as server:
        found = examined(server.url())
        assert levels(found) == {
            **dict.fromkeys(("reachable", "round trip", "lease", "server", "clock", "space", "alarms"), OK),
            "credentials": NOTE,
            "compaction": NOTE,
            "ensemble": WARNING,
        }
        assert found["server"].text.startswith("etcd 3.")
        assert found["space"].values["limit"] > 1 << 30
        assert server.keys() == {}
        found = examined(server.url(login=f"ann:{_PASSWORD}"))
        assert found["credentials"].level == WARNING
        assert open_doctor(server.url()) is not None


def test_compaction() -> None:
    """Revisions that pile up are warned of before the servers are full; once they are thrown away all is well."""
    with EtcdServer() as server:
        for _ in range(20):
            operations = [{"request_put": {"key": text(f"x{number}"), "value": ""}} for number in range(100)]
            server.ask("kv/txn", success=operations)
        revision = int(server.ask("kv/range", key="AA==")["header"]["revision"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(etcd_doctor, "_MANY_REVISIONS", revision)
            found = examined(server.url())["compaction"]
            assert (found.level, str(revision // 10) in found.text) == (WARNING, True)
            assert "--auto-compaction-retention" in (found.remedy or "")
        server.ask("kv/compaction", revision=str(revision))
        assert examined(server.url())["compaction"].level == OK


def test_login_that_takes_long() -> None:
    """The finding names what a login costs the servers, and how to make it cheaper."""
    with EtcdServer(password=_PASSWORD) as server:
        found = examined(server.url())["login"]
        assert found.values["seconds"] > 0
    assert etcd_doctor._judge_login(0.002).level == OK
    slow = etcd_doctor._judge_login(0.05)
    assert (slow.level, "20 a second" in slow.text, "--bcrypt-cost" in slow.text) == (NOTE, True, True)


def test_users() -> None:
    """The doctor tries user and password, and names missing permissions."""
    with EtcdServer(tls=True, password=_PASSWORD) as server:
        server.add_user("ann", _PASSWORD, "ours/")
        server.add_user("bob", _PASSWORD)
        for url in (server.url(), server.url(login=f"ann:{_PASSWORD}", prefix="ours")):
            found = examined(url)
            assert (found["credentials"].level, found["certificate"].level, found["lease"].level) == (OK, OK, OK)
        assert levels(examined(server.url(login="")))["answer"] == BAD
        assert "check user" in examined(server.url(login=f"ann:x{_PASSWORD}"))["answer"].text
        found = examined(server.url(login=f"bob:{_PASSWORD}"))
        assert found["answer"].level == BAD
        assert "under the prefix" in found["answer"].text


def test_ensemble() -> None:
    """Three servers are as they should be; with one down it is said; servers of others are found out."""
    with EtcdEnsemble() as ensemble:
        found = examined(ensemble.url())
        assert (found["ensemble"].level, found["ensemble"].text.count("follower")) == (OK, 2)
        assert examined(ensemble.nodes[0].url())["ensemble"].level == NOTE
        with EtcdServer() as stranger:
            mixed = f"{ensemble.url()},{HOST}:{stranger.port}"
            with case_of(mixed) as case:
                assert BAD in [finding.level for finding in examine(case) if finding.name == "ensemble"]
        down = ensemble.follower()
        down.kill()
        found = examined(ensemble.url())
        assert (found["reachable"].level, found["ensemble"].level, found["lease"].level) == (WARNING, WARNING, OK)


def test_full_server() -> None:
    """A server that takes no more writes is wrong, and what to do is said."""
    with EtcdServer(extra=["--quota-backend-bytes", str(1 << 20)]) as server:
        for number in range(40):
            try:
                server.put(f"fill/{number}", "x" * 100_000)
            except OSError:
                break
        found = examined(server.url())
        assert "disarm" in found["lease"].text
        with case_of(server.url()) as case:
            by_name = {finding.name: finding for finding in examine(case)}
        assert (by_name["alarms"].level, by_name["space"].level) == (BAD, WARNING)
        assert by_name["alarms"].text == "NOSPACE"


def test_no_server() -> None:
    """Then nothing more is asked."""
    found = examined(f"etcd://{HOST}:{free_port()}")
    assert levels(found) == {"reachable": BAD}


def _told(own: int, leader: int) -> Answer:
    return Answer("x", {"header": {"member_id": str(own)}, "leader": str(leader)})


def _members(*members: dict[str, Any]) -> list[Answer]:
    return [Answer("x", member) for member in members]


@pytest.mark.parametrize(
    ("told", "members", "level", "said"),
    [
        ({"a": (1, 1), "b": (2, 1), "c": (3, 1)}, (1, 2, 3), OK, "a leader, b follower, c follower"),
        ({"a": (1, 1), "b": (2, 2), "c": (3, 1)}, (1, 2, 3), WARNING, "do not agree"),
        ({"a": (1, 0), "b": (2, 0), "c": (3, 0)}, (1, 2, 3), WARNING, "do not agree"),
        ({"a": (1, 1), "b": (2, 1)}, (1, 2), WARNING, "none may be down"),
        ({"a": (1, 1), "b": (2, 1), "c": (3, 1), "d": (4, 1)}, (1, 2, 3, 4), NOTE, "even number"),
        ({"a": (1, 1), "b": (2, 1), "c": (3, 1), "d": (4, 1)}, (1, 2, 3, -4), WARNING, "d learner"),
        ({"a": (1, 1)}, (2, 3, 4), BAD, "a leader"),
        ({}, (), BAD, ""),
    ],
)
def test_ensembles_of_every_kind(
    told: dict[str, tuple[int, int]], members: tuple[int, ...], level: str, said: str
) -> None:
    """Leaders, learners, numbers; a negative member is a learner."""
    status = {place: _told(*ids) for place, ids in told.items()}
    finding = _judge_ensemble(status, [], _members(*({"ID": abs(one), "isLearner": one < 0} for one in members)))
    assert finding.level == level
    assert said in finding.text


def test_date_of_an_answer() -> None:
    """It tells whole seconds; what is no date tells nothing."""
    server = Mock()
    server.get.return_value.headers = {"date": formatdate(1_800_000_000, usegmt=True)}
    assert _date(server, 0.0) == 1_800_000_000
    for nonsense in ("", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT", "0" * 400):
        server.get.return_value.headers = {"date": nonsense}
        with pytest.raises(ValueError, match="no date"):
            _date(server, 0.0)
