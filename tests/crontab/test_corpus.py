"""The corpus: lines as people write them, each with its key, options and remarks."""

from __future__ import annotations

import functools
import random
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronlock.crontab import guards, naming
from cronlock.crontab.checking import check
from cronlock.crontab.lines import Crontab, parse
from cronlock.crontab.wrapping import Options, Wrapped, wrap

_FILES = sorted((Path(__file__).parent / "corpus").glob("*.txt"))
# Each example reads and wraps whole files.
_few = settings(max_examples=20)
_OPTIONS = Options(prefix="")
_REPLACING = Options(prefix="", replaces=True)
_OFFER = "replace it (--replace-locks): "


class _Case(NamedTuple):
    """A crontab of a few lines, and the results of its jobs: (`KEY OPTIONS` or `left`, texts of remarks)."""

    name: str
    is_system: bool
    lines: list[str]
    jobs: list[tuple[str, list[str]]]


def _read(path: Path) -> list[_Case]:
    cases: list[_Case] = []
    about, text = path.read_text().split("\n\n", 1)
    for number, line in enumerate(text.splitlines(), about.count("\n") + 3):
        if line.startswith("  = "):
            cases[-1].jobs.append((line[4:], []))
        elif line.startswith("  ! "):
            cases[-1].jobs[-1][1].append(line[4:])
        elif (line and not line.startswith("# ")) or line.startswith(("# key:", "# cronlock:")):
            if not cases or cases[-1].jobs:
                cases.append(_Case(f"{path.stem}:{number}", about.startswith("A system crontab"), [], []))
            cases[-1].lines.append(line)
    return cases


_CASES = [case for path in _FILES for case in _read(path)]


def _parse(lines: list[str], *, system: bool = False) -> Crontab:
    return parse("".join(f"{line}\n" for line in lines), "tab", system=system)


def _given(crontab: Crontab, wrapped: Wrapped) -> list[str]:
    """Return `KEY OPTIONS` or `left` for each job."""
    lines = wrapped.text.splitlines()
    done = {job.number for job in wrapped.jobs}
    heads = [lines[job.number - 1][len(job.head) :].partition(" -- ")[0] for job in crontab.jobs]
    return [head.partition(" --key ")[2] if job.number in done else "left" for job, head in zip(crontab.jobs, heads)]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_case(case: _Case) -> None:
    """Each job gets its key, options and remarks, and no other remarks; --check has them, too."""
    crontab = _parse(case.lines, system=case.is_system)
    wrapped = wrap(crontab, _OPTIONS)
    assert _given(crontab, wrapped) == [given for given, _ in case.jobs]
    found = check(crontab, _OPTIONS)
    for job, (_, texts) in zip(crontab.jobs, case.jobs):
        said = [remark.text for remark in wrapped.remarks if remark.number == job.number]
        assert len(said) == len(texts), said
        for text in texts:
            assert any(text in each and (_OFFER in text) == (_OFFER in each) for each in said), said
            assert any(text in remark.text for remark in found if remark.number == job.number)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_once_wrapped(case: _Case) -> None:
    """Wrapping again changes nothing, and --check reports only known remarks; likewise with locks replaced."""
    crontab = _parse(case.lines, system=case.is_system)
    said = {remark.number for remark in wrap(crontab, _OPTIONS).remarks}
    for options in (_OPTIONS, _REPLACING):
        once = wrap(crontab, options)
        again = _parse(once.text.splitlines(), system=case.is_system)
        assert wrap(again, options).text == once.text
        assert {remark.number for remark in check(again, options)} <= said
    # --replace-locks writes what the remark offers.
    for job, line, (_, texts) in zip(crontab.jobs, once.text.splitlines(), case.jobs if len(crontab.jobs) == 1 else []):
        offered = [text.partition(_OFFER)[2] for text in texts if _OFFER in text]
        assert all(line[len(job.head) :].startswith(text.replace("...", "")) for text in offered), line
        assert not offered or not guards.local_lock(naming.reading_of(again.jobs[0], options.programs)[0])


def test_corpus_is_large_enough() -> None:
    """The corpus has at least the promised size."""
    assert sum(len(case.jobs) for case in _CASES) > 180


# Parts of a line that change with a release, a day or a machine.
_RELEASE = st.one_of(
    st.integers(1, 99999).map(str),
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda when: f"{when:%Y%m%d%H%M%S}"),
    st.tuples(*[st.integers(0, 99)] * 3).map(lambda parts: ".".join(map(str, parts))),
    st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", fullmatch=True),
    st.from_regex(r"[0-9][a-f][0-9a-f]{5,38}", fullmatch=True),
)
_HOST = st.one_of(
    st.integers(1, 999).map(lambda number: f"web-{number}"),
    st.integers(1, 99).map(lambda number: f"app{number}.fra.example.net"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=4).map(lambda address: f"ip-{str(address).replace('.', '-')}.ec2.internal"),
)
_DAY = st.dates(date(2000, 1, 1), date(2099, 1, 1)).map(lambda day: day.isoformat())
_TEMPORARY = st.from_regex(r"/tmp/[A-Za-z]{1,8}\.[A-Za-z0-9]{6,10}", fullmatch=True)
_LINES = """\
0 20 * * * bash -l -c 'cd /srv/app/releases/(RELEASE) && bundle exec rake billing >> /srv/app/log/(HOST).log 2>&1'
0 20 * * * bash -l -c 'cd /srv/app/releases/(RELEASE) && bundle exec rake reports >> /srv/app/log/(HOST).log 2>&1'
*/5 * * * * cd /opt/(RELEASE)/shop && php artisan schedule:run --host=(HOST) >> /var/log/(HOST)/cron.log
*/5 * * * * cd /opt/(RELEASE)/blog && php artisan schedule:run --host=(HOST) >> /var/log/(HOST)/cron.log
0 1 * * * /srv/portal/builds/(RELEASE)/venv/bin/python3.9 /srv/portal/current/manage.py mails --log-file /x/(HOST).log
0 2 * * * import-orders --release (RELEASE) --since (DAY) --node (HOST) --work (TEMPORARY)
0 3 * * * docker run --rm -h (HOST) registry.example.com/etl:(RELEASE) load --all
0 4 * * * FEED=fr BUILD=(RELEASE) HOSTNAME=(HOST) import-feed
0 4 * * * FEED=de BUILD=(RELEASE) HOSTNAME=(HOST) import-feed
0 5 * * * curl -s http://(HOST):8080/cron/(RELEASE)/digest?node=(HOST)
0 6 * * * /srv/app/releases/(RELEASE)/bin/export-catalogue --format xml --currency eur --language de --market at (HOST)
30 6 * * * recount
30 18 * * * recount
0 7 * * * timeout 5m flock -n (TEMPORARY) /srv/app/releases/(RELEASE)/bin/settle 2>> (TEMPORARY)
""".splitlines()


@_few
@given(st.tuples(_RELEASE, _RELEASE), st.tuples(_HOST, _HOST), st.tuples(_DAY, _DAY), st.tuples(_TEMPORARY, _TEMPORARY))
def test_two_releases_on_two_machines(
    releases: tuple[str, str], hosts: tuple[str, str], days: tuple[str, str], temporary: tuple[str, str]
) -> None:
    """Each job keeps its key when releases, hosts, days and temporary paths change."""
    keys = []
    for values in zip(releases, hosts, days, temporary):
        lines = list(_LINES)
        for name, value in zip(("RELEASE", "HOST", "DAY", "TEMPORARY"), values):
            lines = [line.replace(f"({name})", value) for line in lines]
        crontab = _parse(lines)
        keys.append(_given(crontab, wrap(crontab, _OPTIONS)))
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(_LINES)


def _keys(lines: list[str]) -> dict[str, str]:
    """Return what each line is given in a file of all of them."""
    crontab = _parse(lines)
    return dict(zip(lines, _given(crontab, wrap(crontab, _OPTIONS))))


@functools.lru_cache(maxsize=1)
def _in_order() -> dict[str, str]:
    """Return what each line of users' crontabs is given where they stand in order."""
    lines = {line for case in _CASES if not case.is_system for line in case.lines if line[0] in "0123456789*@"}
    return _keys(sorted(line for line in lines if "=" not in line[:9]))


@_few
@given(st.randoms(use_true_random=False))
def test_two_orders_of_the_lines(chance: random.Random) -> None:
    """The order of lines in a file does not change their keys."""
    lines = list(_in_order())
    chance.shuffle(lines)
    assert _keys(lines) == _in_order()


@_few
@given(st.randoms(use_true_random=False), st.integers(0, 14))
def test_a_file_that_is_half_converted(chance: random.Random, count: int) -> None:
    """Lines that are wrapped already do not change the keys of the others."""
    before = _parse([line.replace("(", "").replace(")", "") for line in _LINES])
    after = wrap(before, _OPTIONS)
    kept = chance.sample(range(len(_LINES)), min(count, len(_LINES)))
    mixed = [after.text.splitlines()[index] if index in kept else line for index, line in enumerate(before.lines)]
    assert wrap(_parse(mixed), _OPTIONS).text == after.text
