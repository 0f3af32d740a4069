"""Records as text: everything comes back, newer fields do no harm, garbage is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronlock.errors import ForeignValue
from cronlock.lease import record
from cronlock.lease.vocabulary import Run

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
# What os.fsdecode makes of a program's name that is not UTF-8.
UNDECODABLE = st.binary(max_size=20).map(os.fsdecode)
VALUES = st.one_of(TEXTS, UNDECODABLE)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_fields_come_back(fields: dict[str, str]) -> None:
    """Whatever stands in a value, newlines and percent signs included."""
    assert record.decode(record.encode(fields)) == fields


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_foreign(data: bytes) -> None:
    """No other exception, whatever somebody else wrote."""
    try:
        record.run_from_fields(record.decode(data))
    except ForeignValue:
        pass


@given(st.dictionaries(st.sampled_from(["owner", "pid", "started_at", "ttl", "fence", "status", "x"]), VALUES))
def test_fields_of_the_wrong_kind_are_foreign(fields: dict[str, str]) -> None:
    """A record that was damaged gives ForeignValue, not a traceback."""
    try:
        record.run_from_fields(fields)
    except ForeignValue:
        pass


def test_a_run_comes_back_and_unknown_fields_are_passed_over() -> None:
    """What an older or newer program wrote is still read."""
    run = Run(
        owner="h:1:a",
        host="h",
        pid=1,
        program="billing",
        started_at=12.5,
        ttl=300.0,
        fence=7,
        ended_at=13.25,
        outcome="exited",
        status=0,
    )
    fields = {**record.run_to_fields(run, "last_"), "last_colour": "blue", "later": "1"}
    back = record.run_from_fields(record.decode(record.encode(fields)), "last_")
    assert back is not None
    assert {name: getattr(back, name) for name in Run.__slots__} == {n: getattr(run, n) for n in Run.__slots__}
    assert record.run_from_fields({}, "last_") is None


def test_garbage_is_named_in_the_error() -> None:
    """Somebody who put JSON there is told so."""
    with pytest.raises(ForeignValue, match="not a record of cronlock"):
        record.decode(b'{"owner": 1}')
