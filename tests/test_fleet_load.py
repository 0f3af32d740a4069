"""The load generator of ``make fleet`` at a small scale: it is accurate, and a fleet gets its answers."""

from __future__ import annotations

import math
import re
import resource
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench.fleet import advice, found, plot, real, report
from bench.fleet.__main__ import document
from bench.fleet.crowd import Crowd, Result
from bench.fleet.figures import CPU, FIGURES, growth
from bench.fleet.fit import exponent
from bench.fleet.found import Found
from bench.fleet.measure import KEYS, SPREADS, Case, Lab, Row, cases
from bench.fleet.servers import COUNTED, TARGETS
from bench.fleet.soak import LINES, Minute, soak
from bench.fleet.target import Target, Watch
from bench.fleet.worker import Tick


class Servers(ExitStack):
    """The servers that can be measured, started on first use."""

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[str, Target] = {}

    def target(self, name: str, *, counted: bool = False) -> Target:
        """Return the server `name`, or the one that counts each request."""
        own = f"{name} counted" if counted and name not in ("redis", "memcached", "zookeeper") else name
        if own not in self._started:
            target = (TARGETS if own == name else COUNTED)[name]()
            self.enter_context(target.running())
            self._started[own] = target
        return self._started[own]


#: Long enough for a slow machine.
PATIENCE = {"backend_timeout": "60"}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Give servers with default settings."""
    with Servers() as servers:
        yield servers


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest, servers: Servers) -> Target:
    """Give each server that can be measured."""
    return servers.target(request.param)


def test_a_fleet_at_once(target: Target) -> None:
    """Of hundreds one runs, all others are told so, and only the record remains."""
    with Crowd(environ=target.environ) as crowd:
        row = Lab(target, crowd, **PATIENCE).tick(Case(200))
    assert (row.won, row.skipped, row.wrong, row.failed, row.reasons) == (1, 199, 0, 0, ())
    assert row.connects >= 200
    assert row.requests >= 200
    assert row.cpu > 0
    assert target.forks or row.memory > 1
    # ZooKeeper's nodes include parents, the clock and the history; etcd's keys the winner's lease and holds.
    assert 1 <= row.records <= 4


def test_a_fleet_with_whole_crontabs(target: Target) -> None:
    """Each line runs once even if the jobs take no time."""
    with Crowd(environ=target.environ) as crowd:
        row = Lab(target, crowd, **PATIENCE).tick(Case(20, keys=10, lines=10, brief=True, spread=0.05))
    assert (row.won, row.wrong, row.failed) == (10, 0, 0)


@pytest.mark.parametrize("name", list(TARGETS))
def test_simulated_runs_are_like_real_ones(servers: Servers, name: str) -> None:
    """The server counts the same for both: connections, requests, and writes if it counts them apart."""
    # On a slow machine the holder asks once more meanwhile.
    target = servers.target(name, counted=True)
    tried = (real.compare(target, 6) for _ in range(3))
    comparison = next((one for one in tried if one.equal), None) or real.compare(target, 6)
    assert comparison.real == comparison.simulated
    assert comparison.real["connections"] == 6


@pytest.mark.parametrize(("name", "what"), [("redis", "look"), ("memcached", "cmd_get")])
def test_a_loser_asks_once(servers: Servers, name: str, what: str) -> None:
    """One connection and one request each, and no write."""
    target = servers.target(name)
    with Crowd(1) as winner, Crowd(1) as losers:
        winner.prepare(Tick({"backend": target.url}, ["once"], 1, 0, 1, 0.0, False, 1))
        assert winner.fire().wrong == 0
        losers.prepare(Tick({"backend": target.url}, ["once"], 1, 1, 50, 0.0, False, 2))
        watch = Watch(target)
        watch.begin()
        assert len(losers.fire().lost) == 50
        watch.end()
    assert watch.counts == {what: 50, "connections": 50}


def test_a_loser_costs_zookeeper_its_session_only(servers: Servers) -> None:
    """A skip writes nothing except to open and end its session."""
    target = servers.target("zookeeper")
    with Crowd(1) as winner, Crowd(1) as losers:
        winner.prepare(Tick({"backend": target.url}, ["held"], 1, 0, 1, 0.0, False, 1))
        winner.fire()
        losers.prepare(Tick({"backend": target.url}, ["held"], 1, 1, 20, 0.0, False, 2))
        watch = Watch(target)
        watch.begin()
        assert len(losers.fire().lost) == 20
        watch.end()
    assert watch.counts["quorum writes"] == 40


def test_server_without_free_connections() -> None:
    """A memcached with few connections refuses most; all get their answer nevertheless."""
    target = TARGETS["memcached"]()
    target.server._extra += ["-c", "100"]  # type: ignore[attr-defined]
    with target.server, Crowd() as crowd:
        row = Lab(target, crowd, **PATIENCE).tick(Case(600))
    assert (row.won, row.wrong, row.failed, row.reasons) == (1, 0, 0, ())


def test_each_tick_of_a_soak_runs_once(servers: Servers) -> None:
    """Ticks follow each other, and each line runs once in each."""
    target = servers.target("redis")
    before = target.records()
    with Crowd() as crowd:
        minutes = list(soak(target, crowd, nodes=3, seconds=20, every=10))
    assert [(minute.ticks, minute.wrong, minute.failed) for minute in minutes] == [(2, 0, 0)]
    assert minutes[0].records == before + LINES
    assert minutes[0].memory > 1


def test_a_load_that_this_machine_cannot_make() -> None:
    """It is reported before the attempt, and not as a failure of the server."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with pytest.raises(SystemExit, match="ended with status 1"), Crowd(1) as crowd:
        crowd.prepare(Tick({"backend": "redis://127.0.0.1:1"}, ["job"], 1, 0, most, 0.0, False, 1))


def test_unanswered_runs_are_counted() -> None:
    """Without a server every run fails, with the reason."""
    with Crowd(1) as crowd:
        crowd.prepare(Tick({"backend": "redis://127.0.0.1:1"}, ["job"], 1, 0, 3, 0.0, False, 1))
        result = crowd.fire()
    assert (len(result.won), len(result.lost)) == (0, 0)
    assert sum(result.failures.values()) == 3
    assert all("connection refused" in reason for reason in result.failures)
    assert result.network["ECONNREFUSED"] == result.connects == 9, (
        "three times each: nothing was asked for that were to be given up"
    )


def test_time_limits_are_those_of_runs() -> None:
    """A server that takes connections and never answers fails its clients within their time limit."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent, Crowd(1) as crowd:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        crowd.prepare(Tick({"backend": url, "backend_timeout": "0.5"}, ["job"], 1, 0, 5, 0.0, False, 1))
        result = crowd.fire()
    assert sum(result.failures.values()) == 5
    assert result.network["timed out"] >= 5


def test_keys_by_number_of_runs() -> None:
    """Keys that ran twice or not at all are distinguished from those that ran once."""
    result = Result(asked={"a": 1.0, "b": 2.0, "c": 2.0}, won={"a": [1.5], "b": [2.1, 2.2]}, last_left=4.0)
    assert (result.wrong, result.started, result.lasted) == (2, 0.5, 3.0)


def test_keys_that_ran_twice_are_told_from_those_that_did_not_run() -> None:
    """Of five keys two ran on two nodes, and one on none."""
    row = replace(rows()[0], case=Case(5, keys=5), won=6, wrong=3)
    assert row.twice == 2
    text = report.markdown([Found("etcd", "etcd 3", None, [row])], "")
    assert "2 keys ran twice; 1 ran on no node" in text


def test_quantiles() -> None:
    """Quantiles of losers' times; 0 without any."""
    result = Result(lost=[float(number) for number in range(100)])
    assert [result.quantile(share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 99.0]
    assert Result().quantile(0.99) == 0.0


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponents(power: float) -> None:
    """The exponent of a growth is found, whatever its factor."""
    assert exponent([(x, 3 * x**power) for x in (10, 100, 1000)]) == pytest.approx(power)


def test_no_exponent() -> None:
    """There is none from one size, or from zeros."""
    assert exponent([(10, 1.0)]) is None
    assert exponent([(10, 0.0), (100, 0.0)]) is None


def rows() -> list[Row]:
    """The figures of a server that takes 100 microseconds per run and fails beyond a thousand."""
    return [
        Row(
            case=case,
            won=case.winners,
            skipped=case.runs - case.winners - (case.runs - 1_000 if case.runs > 1_000 else 0),
            wrong=0,
            failed=case.runs - 1_000 if case.runs > 1_000 else 0,
            started=0.001,
            last_left=case.runs / 10_000,
            p50=case.runs / 20_000,
            p99=case.runs / 10_000,
            slowest=case.runs / 10_000,
            connects=case.runs,
            connections=case.runs,
            requests=case.runs + 1,
            counts={"eval": case.runs + 1},
            cpu=case.runs * 1e-4,
            memory=10 + case.runs / 1_000,
            records=case.keys,
            late=0.01,
            turned_away=0,
        )
        for case in cases()
    ]


def test_report() -> None:
    """The document has every figure of every curve, the growth, the comparison and the advice; the soak stays."""
    same = real.Comparison(300, {"eval": 300}, {"eval": 300})
    servers = [Found("Redis", "Redis 7.0.15", same, rows())]
    text = report.markdown(servers, "")
    for wanted in (*(figure.title for figure in FIGURES), "Redis 7.0.15", "the same, eval 300 (1.00 a run)"):
        assert wanted in text
    assert "100 µs a node, which grows as N^1.00" in text
    emulator = report.markdown([Found("S3", "S3 by MiniStack", same, rows())], "")
    assert "µs a node" not in emulator, "an emulator's time says nothing of AWS"
    assert "is full at 10,000 nodes on one key: 9,000 runs" in text
    # Names of processors may have one.
    assert not re.search(r"@\w+@", text)
    assert text.count("### ") >= len(KEYS) * len(SPREADS)
    minute = Minute(ticks=6, wrong=0, failed=0, slowest=0.5, cpu=1.0, memory=12.0, descriptors=9, records=20)
    soaked = report.with_soak(text, {"redis": (1_000, [minute])})
    assert "every line ran exactly once at every tick" in soaked
    assert "every line ran exactly once at every tick" in report.markdown(servers, soaked)
    wrong = Minute(ticks=6, wrong=7, failed=0, slowest=0.5, cpu=1.0, memory=12.0, descriptors=9, records=20)
    both = report.with_soak(report.with_soak(soaked, {"memcached": (50, [minute])}), {"redis": (1_000, [wrong])})
    assert "**redis**, 1,000 nodes, 6 ticks: 7 lines did not run just once" in both
    assert "**memcached**, 50 nodes, 6 ticks: every line ran exactly once" in both
    assert both.count("**redis**,") == both.count("**memcached**,") == 1


def test_servers_are_measured_one_at_a_time(tmp_path: Path) -> None:
    """What is kept of one server is read as it was written, and stays when another is measured."""
    file = tmp_path / "fleet.json"
    assert found.read(file) == {}
    redis = Found("Redis", "Redis 7", real.Comparison(3, {"eval": 3}, {"eval": 3}), rows())
    etcd = Found("etcd", "etcd 3", None, rows()[:2])
    found.write(file, {"redis": redis})
    found.write(file, {**found.read(file), "etcd": etcd})
    assert found.read(file) == {"redis": redis, "etcd": etcd}


def test_the_document_has_the_kept_figures() -> None:
    """docs/fleet.md and its plots are what docs/fleet.json gives."""
    assert document(check=True) == 0


def test_a_difference_is_reported() -> None:
    """An inaccurate simulation is reported."""
    assert "**Not the same.**" in report.compared("Redis", real.Comparison(2, {"eval": 2}, {"eval": 3}))


def test_growth_ignores_small_fleets() -> None:
    """The cost of a tick would hide what each node adds."""
    assert growth(CPU, [row for row in rows() if (row.case.keys, row.case.spread) == (1, 0.0)]) == pytest.approx(1.0)


@pytest.mark.parametrize("keys", KEYS)
def test_plots(keys: int) -> None:
    """A panel for each figure, with a line for each server, all within the picture."""
    picture = ElementTree.fromstring(plot.svg({"Redis": rows()}, keys))
    name = "{http://www.w3.org/2000/svg}"
    panels = picture.findall(f"{name}g")
    assert [panel.findtext(f"{name}text") for panel in panels] == [figure.caption for figure in FIGURES]
    for panel in panels:
        assert len(panel.findall(f"{name}polyline")) == (0 if panel.findtext(f"{name}text") == "tried again" else 1)
        for line in panel.findall(f"{name}polyline"):
            for point in line.attrib["points"].split():
                assert all(0 <= float(number) < 300 for number in point.split(","))


@pytest.mark.parametrize(("runs", "seconds"), [(100, 0), (10_000, 0), (20_000, 4), (200_000, 40), (2_000_000, 400)])
def test_advice(runs: int, seconds: float) -> None:
    """Beyond its capacity, a server should be busy for at most half of its time."""
    assert advice.jitter(runs, 1e-4, 10_000) == pytest.approx(seconds)


def test_table_of_advice() -> None:
    """Jitter as far as a line of every minute allows, then more servers."""
    table = "\n".join(advice.table({"Redis": rows()}))
    assert "| 100 | 1 | 100 | as it is |" in table
    assert "| 1,000 | 20 | 20,000 | `--jitter 5s` |" in table
    assert "| 10,000 | 20 | 200,000 | `--jitter 45s --min-hold 50s` |" in table
    assert "| 10,000 | 200 | 2,000,000 | 9 servers, each" in table
    slow = "\n".join(advice.table({"Slow": [replace(row, cpu=100 * row.cpu) for row in rows()]}))
    assert "| 10,000 | 1 | 10,000 | `--jitter 200s`, every 5 minutes at most |" in slow
    assert "| 10,000 | 20 | 200,000 | 20 servers, each `--jitter 200s`, every 5 minutes at most |" in slow
    assert "| 1,000 | 20 | 20,000 | 9 servers, each `--jitter 45s --min-hold 50s` |" in slow
    assert math.isclose(advice.cost(rows()), 1e-4)


def test_advice_by_the_limits_of_a_service() -> None:
    """What an emulator takes says nothing of AWS: the limit of one partition does."""
    table = "\n".join(advice.table({"DynamoDB": rows()}))
    assert "| 1,000 | 1 | 1,000 | as it is |" in table
    assert "| 10,000 | 1 | 10,000 | `--jitter 10s` |" in table
    assert "| 10,000 | 20 | 200,000 | 3 tables, each" in table
